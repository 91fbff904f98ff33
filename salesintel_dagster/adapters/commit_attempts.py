"""How an operation on an Iceberg table is tried again, and how a vendor's error becomes one of ours.

A conflict or an outage is tried again from the table's new state until the deadline; anything else is final, a
missing permission too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from salesintel_dagster.adapters.aws import DENIED, code_of
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import CommitConflict, SalesIntelError, TableRefused, TableUnavailable
from salesintel_dagster.domain.retry import RetryPolicy

Result = TypeVar("Result")

DENIED_BY_SQL = frozenset({"42501", "25006", "SQLITE_READONLY"})
"""Postgres's insufficient_privilege and read_only_sql_transaction (a replica), and a SQLite opened read-only."""


@dataclass(frozen=True, slots=True)
class CommitAttempts:
    """Tries an operation until it is done, by one policy and one clock."""

    clock: Clock
    retry: RetryPolicy

    def until_done(self, operation: Callable[[], Result]) -> tuple[int, Result]:
        """Return the number of tries and the result. Raises what the last try raised, translated."""
        started = self.clock.monotonic()
        tries = 0
        while True:
            tries += 1
            try:
                with translated():
                    return tries, operation()
            except TableRefused:
                raise
            except (CommitConflict, TableUnavailable) as error:
                elapsed = self.clock.monotonic() - started
                wait = self.retry.wait_seconds(tries, elapsed, self.clock.jitter())
                if wait is None:
                    _give_up(error, tries, elapsed)
            self.clock.sleep(wait)


def _give_up(error: CommitConflict | TableUnavailable, tries: int, elapsed_seconds: float) -> NoReturn:
    told = f"{error} (tried {tries} times in {elapsed_seconds:.1f} s)"
    raise type(error)(told) from error


@contextmanager
def translated() -> Iterator[None]:
    """Translate pyiceberg's, the catalog's and the storage's errors into ours, once."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - lazy as pyiceberg is
    from pyiceberg.exceptions import CommitFailedException, RESTError, ValidationException  # noqa: PLC0415 - 1 CPU-s
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - lazy as pyiceberg is

    try:
        yield
    except SalesIntelError:
        raise
    except (CommitFailedException, ValidationException) as error:
        raise CommitConflict(f"another writer changed the same rows: {_first_line(error)}") from error
    except (OSError, BotoCoreError, ClientError, RESTError, SQLAlchemyError) as error:
        if _is_denial(error):
            raise TableRefused(f"catalog or storage does not permit it: {_first_line(error)}") from error
        raise TableUnavailable(f"catalog or storage is out of reach: {_first_line(error)}") from error


def _is_denial(error: Exception) -> bool:
    """Tell a missing permission from an outage, as AWS, a REST or SQL catalog, a file system or Arrow's S3 says it."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - lazy as pyiceberg is
    from pyiceberg.exceptions import ForbiddenError, UnauthorizedError  # noqa: PLC0415 - 1 CPU-s
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - lazy as pyiceberg is

    if isinstance(error, ClientError):
        return code_of(error) in DENIED
    if isinstance(error, OSError):
        return isinstance(error, PermissionError) or "AWS Error ACCESS_DENIED" in str(error)
    if isinstance(error, DBAPIError):
        told = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", None)
        return told in DENIED_BY_SQL
    return isinstance(error, ForbiddenError | UnauthorizedError)


def _first_line(error: BaseException) -> str:
    """Return the vendor's reason without the statement and the parameters that SQLAlchemy appends."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
