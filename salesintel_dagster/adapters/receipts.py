"""Receipts in the DynamoDB idempotency table: `PK` alone, expired by `ttl`, which every read compares itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import AwsClient, told
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import ReceiptsUnavailable
from salesintel_dagster.domain.receipts import RECEIPT_RETENTION, Receipt, Receipts, receipt_key
from salesintel_dagster.domain.retention import is_expired
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.sale_event import SaleIdentity

Given = TypeVar("Given")
READ_KEYS = 100
"""Keys in one BatchGetItem."""
WRITTEN_ITEMS = 25
"""Items in one BatchWriteItem."""
UNPROCESSED_RETRY = RetryPolicy(retries=8, base_seconds=0.05, deadline_seconds=30.0)
"""DynamoDB answers 200 and hands back what it had no capacity for; botocore does not ask again."""


class DynamoReceipts(Receipts):
    """The idempotency table."""

    def __init__(self, client: AwsClient, table_name: str, clock: Clock) -> None:
        self._client = client
        self._table = table_name
        self._clock = clock

    def get(self, identities: Collection[SaleIdentity]) -> Mapping[SaleIdentity, Receipt]:
        """Return the receipts that are there and have not expired. Raises ReceiptsUnavailable."""
        by_key = {receipt_key(identity): identity for identity in identities}
        found: dict[SaleIdentity, Receipt] = {}
        for keys in _chunks(by_key, READ_KEYS):
            wanted = {"Keys": [{"PK": {"S": key}} for key in keys], "ConsistentRead": True}
            for answer in self._until_done("read", {self._table: wanted}, self._read):
                for item in answer["Responses"].get(self._table, ()):
                    identity = by_key[item["PK"]["S"]]
                    receipt = self._receipt(identity, item)
                    if receipt is not None:
                        found[identity] = receipt
        return found

    def _receipt(self, identity: SaleIdentity, item: dict[str, Any]) -> Receipt | None:
        """Return what stands; an item of another form (the key is older than we are) answers nothing, like none."""
        try:
            expires, payload, version = item["ttl"]["N"], item["payloadHash"]["S"], item["eventVersion"]["N"]
        except KeyError:
            return None
        return None if is_expired(int(expires), self._clock.now()) else Receipt(identity, payload, int(version))

    def put(self, receipts: Collection[Receipt]) -> None:
        """Write the receipts. Raises ReceiptsUnavailable."""
        ttl = str(int((self._clock.now() + RECEIPT_RETENTION).timestamp()))
        items = {receipt_key(one.identity): one for one in receipts}
        self._write_all([{"PutRequest": {"Item": _item(key, one, ttl)}} for key, one in items.items()])

    def forget(self, identities: Collection[SaleIdentity]) -> None:
        """Delete the receipts. Raises ReceiptsUnavailable."""
        keys = {receipt_key(identity) for identity in identities}
        self._write_all([{"DeleteRequest": {"Key": {"PK": {"S": key}}}} for key in sorted(keys)])

    def _write_all(self, requests: list[dict[str, Any]]) -> None:
        for chunk in _chunks(requests, WRITTEN_ITEMS):
            for _ in self._until_done("write", {self._table: chunk}, self._write):
                pass

    def _read(self, rest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        answer = self._client.batch_get_item(RequestItems=rest)
        return answer, answer.get("UnprocessedKeys", {})

    def _write(self, rest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        answer = self._client.batch_write_item(RequestItems=rest)
        return answer, answer.get("UnprocessedItems", {})

    def _until_done(
        self,
        operation: str,
        rest: dict[str, Any],
        call: Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]],
    ) -> Iterator[dict[str, Any]]:
        """Yield the answers until nothing is left unprocessed. Raises ReceiptsUnavailable."""
        started, tries = self._clock.monotonic(), 0
        while rest:
            tries += 1
            with self._translated(operation):
                answer, rest = call(rest)
            yield answer
            if not rest:
                return
            wait = UNPROCESSED_RETRY.wait_seconds(tries, self._clock.monotonic() - started, self._clock.jitter())
            if wait is None:
                raise ReceiptsUnavailable(f"{operation} receipts in {self._table}: no capacity after {tries} tries")
            self._clock.sleep(wait)

    @contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise ReceiptsUnavailable(f"{operation} receipts in {self._table}: {told(error)}") from error


def _item(key: str, receipt: Receipt, ttl: str) -> dict[str, Any]:
    return {
        "PK": {"S": key},
        "payloadHash": {"S": receipt.payload_hash},
        "eventVersion": {"N": str(receipt.event_version)},
        "ttl": {"N": ttl},
    }


def _chunks(given: Iterable[Given], size: int) -> Iterator[list[Given]]:
    rest = iter(given)
    while chunk := list(islice(rest, size)):
        yield chunk
