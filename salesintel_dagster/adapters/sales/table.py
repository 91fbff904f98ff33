"""Calls to one DynamoDB table: what is tried again, for how long, and which error is left at the end.

botocore retries throttling by itself; what it gives up on, and what it never retries (a transaction cancelled by
another transaction, unprocessed parts of a batch), is retried here with jitter until the deadline.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from salesintel_dagster.adapters.aws import AwsClient, code_of, told
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import BatchUnfinished, SaleRefused, SalesUnavailable
from salesintel_dagster.domain.retry import RetryPolicy

RETRY = RetryPolicy(retries=8, base_seconds=0.05, deadline_seconds=30.0)
BATCH_WRITE_ITEMS = 25
BATCH_GET_KEYS = 100
"""DynamoDB's limits; an emulator may accept more."""

_CONDITION_FAILED = "ConditionalCheckFailed"
_CANCELLED = "TransactionCanceledException"
_TRANSIENT = frozenset(
    {
        "InternalServerError",
        "ItemCollectionSizeLimitExceededException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_TRANSIENT_REASONS = frozenset({"None", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
_REFUSED = "ValidationException"

Item = dict[str, Any]
"""An item as boto3's client gives it: attribute name to typed value."""


class ConditionFailed(Exception):
    """A condition did not hold. `items` are what was there instead, one per action, None where nothing was."""

    def __init__(self, items: Sequence[Item | None]) -> None:
        super().__init__("a condition did not hold")
        self.items = tuple(items)


class DynamoTable:
    """One table. Raises SalesUnavailable where a call does not succeed within the retries."""

    def __init__(self, client: AwsClient, name: str, clock: Clock = SYSTEM_CLOCK, retry: RetryPolicy = RETRY) -> None:
        self.name = name
        self.clock = clock
        self._client = client
        self._retry = retry

    def ask(self, operation: str, **parameters: object) -> dict[str, Any]:
        """Make one call, e.g. `get_item`, on this table. Raises ConditionFailed, SaleRefused, SalesUnavailable."""
        return self._insist(operation, {"TableName": self.name, **parameters})

    def transact(self, actions: Sequence[tuple[str, Item]]) -> None:
        """Do all the actions (`Put`, `Delete`, `ConditionCheck`) or none.

        One token for all tries: where an answer was lost, the next try finds the transaction done and does not judge
        its own work. Raises ConditionFailed with what was there instead.
        """
        told_old = {"TableName": self.name, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        items = [{verb: {**told_old, **action}} for verb, action in actions]
        self._insist("transact_write_items", {"TransactItems": items, "ClientRequestToken": str(uuid.uuid4())})

    def pages(self, operation: str, **parameters: object) -> Iterator[dict[str, Any]]:
        """Yield every page of a `query` or `scan`."""
        start: dict[str, Any] = {}
        while True:
            page = self.ask(operation, **parameters, **start)
            yield page
            if not page.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def get_batch(self, keys: Sequence[Item]) -> list[Item]:
        """Return those of at most 100 distinct keys that are there, strongly consistent, in no order."""
        found: list[Item] = []
        pending = list(keys)
        patience = _Patience(self.clock, self._retry)
        while pending:
            request = {self.name: {"Keys": pending, "ConsistentRead": True}}
            answer = self._insist("batch_get_item", {"RequestItems": request})
            found += answer["Responses"].get(self.name, [])
            left = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if not patience.after(progress=len(left) < len(pending), done=not left):
                rest = ", ".join(f"{key['PK']['S']} {key['SK']['S']}" for key in left[:10])
                raise SalesUnavailable(f"{self._where}: {len(left)} of {len(keys)} keys stay unread, first {rest}")
            pending = left
        return found

    def put_batch(self, items: Sequence[Item]) -> None:
        """Write at most 25 items, without conditions. Raises BatchUnfinished with the sale ids of the rest."""
        pending = [{"PutRequest": {"Item": item}} for item in items]
        patience = _Patience(self.clock, self._retry)
        while pending:
            answer = self._insist("batch_write_item", {"RequestItems": {self.name: pending}})
            left = answer.get("UnprocessedItems", {}).get(self.name, [])
            if not patience.after(progress=len(left) < len(pending), done=not left):
                rest = tuple(request["PutRequest"]["Item"]["saleId"]["S"] for request in left)
                raise BatchUnfinished(f"{self._where} leaves them unprocessed", rest)
            pending = left

    @property
    def _where(self) -> str:
        return f"sales table {self.name}"

    def _insist(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        call = getattr(self._client, operation)
        patience = _Patience(self.clock, self._retry)
        while True:
            try:
                answer: dict[str, Any] = call(**parameters)
            except ClientError as error:
                if not _is_transient(error):
                    raise self._judged(operation, error) from None
                words = told(error)
            except HTTPClientError as error:  # cut, timed out, refused
                words = told(error)
            except BotoCoreError as error:  # no credentials, a parameter that botocore refuses
                raise SalesUnavailable(f"{self._where}: {operation}: {told(error)}") from error
            else:
                return answer
            if not patience.after(progress=False, done=False):
                raise SalesUnavailable(f"{self._where}: {operation}: {words}, tried {patience.tries} times")

    def _judged(self, operation: str, error: ClientError) -> Exception:
        if code_of(error) == "ConditionalCheckFailedException":
            return ConditionFailed([error.response.get("Item")])
        if code_of(error) == _CANCELLED:
            reasons = error.response.get("CancellationReasons", [])
            if any(reason.get("Code") == _CONDITION_FAILED for reason in reasons):
                return ConditionFailed([reason.get("Item") for reason in reasons])
            codes = ", ".join(sorted({str(reason.get("Code")) for reason in reasons}))
            return SalesUnavailable(f"{self._where}: {operation}: {told(error)}: {codes}")
        if code_of(error) == _REFUSED:
            return SaleRefused("item", f"{operation} on {self._where}", f"DynamoDB takes it ({told(error)})")
        return SalesUnavailable(f"{self._where}: {operation}: {told(error)}")


def _is_transient(error: ClientError) -> bool:
    code = code_of(error)
    if code == _CANCELLED:
        reasons = {str(reason.get("Code")) for reason in error.response.get("CancellationReasons", [])}
        return bool(reasons - {"None"}) and reasons <= _TRANSIENT_REASONS
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code in _TRANSIENT or status >= 500  # noqa: PLR2004 - HTTP's own border


class _Patience:
    """Waits between tries; a try that got something done makes the count of tries start anew, never the deadline."""

    def __init__(self, clock: Clock, retry: RetryPolicy) -> None:
        self.tries = 0
        self._clock = clock
        self._retry = retry
        self._began = clock.monotonic()

    def after(self, *, progress: bool, done: bool) -> bool:
        """Wait after a try and return True; False where no further try is due."""
        if done:
            return True
        self.tries = 1 if progress else self.tries + 1
        elapsed = self._clock.monotonic() - self._began
        wait = self._retry.wait_seconds(self.tries, elapsed, self._clock.jitter())
        if wait is None:
            return False
        self._clock.sleep(wait)
        return True
