"""What is asked of CloudFormation, how its answer is waited for, and its errors as ours. Nothing is deployed here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import told
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import DeployFailed

FIRST_POLL_SECONDS = 0.05
LONGEST_POLL_SECONDS = 3.0
NEVER_CREATED = "ROLLBACK_COMPLETE"
NO_UPDATES = "No updates are to be performed"


def template() -> str:
    """Return the template's text."""
    return resources.files("salesintel_dagster").joinpath("infrastructure.yaml").read_text("utf-8")


def stack_name(stage: str) -> str:
    """Return the stack's name."""
    return f"salesintel-{stage}"


@dataclass(frozen=True, slots=True)
class Choices:
    """What a deployment may choose; None leaves what the template says.

    The export may invoke `embedding_model`; the bucket encrypts by the KMS key `object_key_arn`; a day whose export
    takes longer than `slow_export_seconds` raises an alarm.
    """

    embedding_model: str | None = None
    object_key_arn: str | None = None
    slow_export_seconds: int | None = None


TEMPLATE_S_OWN = Choices()


def request(stack: str, stage: str, bedrock_region: str, choices: Choices) -> dict[str, Any]:
    """Return what is asked of CloudFormation."""
    values = {
        "Stage": stage,
        "BedrockRegion": bedrock_region,
        "EmbeddingModel": choices.embedding_model,
        "ObjectKeyArn": choices.object_key_arn,
        "SlowExportSeconds": choices.slow_export_seconds,
    }
    return {
        "StackName": stack,
        "TemplateBody": template(),
        "Parameters": [{"ParameterKey": key, "ParameterValue": str(value)} for key, value in values.items() if value],
        "Capabilities": ["CAPABILITY_IAM"],
    }


@dataclass(slots=True)
class Wait:
    """Ever longer pauses until a deadline, both of the injected clock."""

    clock: Clock
    deadline: float
    _pause: float = FIRST_POLL_SECONDS

    def once_more(self) -> bool:
        """Pause; False where the pause would end after the deadline."""
        if self.clock.monotonic() + self._pause > self.deadline:
            return False
        self.clock.sleep(self._pause)
        self._pause = min(self._pause * 1.5, LONGEST_POLL_SECONDS)
        return True


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what boto3 raises into DeployFailed, with AWS's own reason."""
    try:
        yield
    except ClientError as error:
        message = error.response.get("Error", {}).get("Message", "")
        raise DeployFailed(f"{what}: {error.operation_name}: {told(error)}: {message}") from error
    except BotoCoreError as error:
        raise DeployFailed(f"{what}: {told(error)}") from error
