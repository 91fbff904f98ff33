"""The root of the errors, and those that belong to no capability alone. The tree is drawn in the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class SalesIntelError(Exception):
    """Root of the tree: a sentence for a person, naming the value and the rule."""


class SettingInvalid(SalesIntelError):
    """A setting is unknown, of the wrong type or out of range."""


class ProgressUnavailable(SalesIntelError):
    """The progress ledger cannot be written. An export goes on without it."""


class MetricsNotSent(SalesIntelError):
    """Metrics did not arrive at their sink. An export goes on without them."""


class AlertNotSent(SalesIntelError):
    """An alert did not arrive at its sink, or the sink did not say so in time. It is sent again later."""


class AwsRefused(SalesIntelError):
    """AWS said no; `code` is its own word, `told_at` its clock where the answer held one."""

    def __init__(self, sentence: str, code: str, told_at: datetime | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.told_at = told_at


class DeployFailed(SalesIntelError):
    """The infrastructure template could not be deployed; the message names the resource and its reason."""


class CheckBlocked(SalesIntelError):
    """A blocking asset check failed: what follows it was not run."""


class WorldError(SalesIntelError):
    """The embedded world cannot start, or is not running where it must."""
