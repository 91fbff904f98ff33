"""Where a text leaves for Dagster's event log and for the log files: the one place where it loses its secrets.

Dagster stores what a step, a sensor or a resource raises word by word, with every cause: of an error that nobody
foresaw nobody knows what stands in it. So each of their functions is `leaving`, and each line goes through `teller`.
"""

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import dagster as dg

from salesintel_dagster.domain.redaction import without_secrets

Redact = Callable[[str], str]
Function = TypeVar("Function", bound=Callable[..., Any])


def leaving(redact: Redact) -> Callable[[Function], Function]:
    """Return a decorator for the function of an asset, op, sensor or resource: what it raises holds no secret."""

    def decorate(function: Function) -> Function:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:  # noqa: ANN401 - the function's own
                try:
                    yield from function(*args, **kwargs)
                except Exception as error:  # noqa: BLE001 - raised again
                    told = _redacted(error, redact)
                else:
                    return
                raise told

            return generate  # type: ignore[return-value]  # a generator function like the first

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - same
            try:
                given = function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - same
                told = _redacted(error, redact)
            else:
                return dg.SkipReason(redact(given.skip_message or "")) if isinstance(given, dg.SkipReason) else given
            raise told  # out here: inside, Python would hang the first error on it as its context

        return call  # type: ignore[return-value]  # same

    return decorate


def teller(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, log: logging.Logger, redact: Redact
) -> Callable[[str], None]:
    """Return what tells a line to the run's page and to our own log."""

    def tell(line: str) -> None:
        said = redact(line)
        context.log.info("%s", said)
        log.info("%s", said)

    return tell


def _redacted(error: Exception, redact: Redact) -> Exception:
    if not isinstance(error, dg.Failure):
        return without_secrets(error, redact)
    cause = error.__cause__
    failure = dg.Failure(
        redact(error.description or ""), metadata=error.metadata, allow_retries=error.allow_retries
    ).with_traceback(error.__traceback__)
    failure.__cause__ = without_secrets(cause, redact) if isinstance(cause, Exception) else cause
    return failure
