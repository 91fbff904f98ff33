"""The day's spend in the progress table: one atomic counter, `SPEND#{date}` / `EMBEDDINGS`, attribute `usd`.

Give it a brief client: no export waits for it. A reply that is lost may make botocore count one block twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import AwsClient, code_of, told
from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.progress import PROGRESS_RETENTION
from salesintel_dagster.domain.spend import SpendLedger

EMBEDDINGS = "EMBEDDINGS"


class DynamoSpendLedger(SpendLedger):
    """The export progress table."""

    def __init__(self, client: AwsClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def reserve(self, day: date, usd: Decimal, limit_usd: Decimal) -> bool:
        """Add to the day's counter on condition that it stays within the limit. Raises ProgressUnavailable."""
        if usd > limit_usd:
            return False
        room = {"ConditionExpression": "attribute_not_exists(usd) OR usd <= :most"}
        with self._translated("reserve", day):
            try:
                self._client.update_item(**self._added(day, usd, {":most": _number(limit_usd - usd)}), **room)
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise
                return False
        return True

    def add(self, day: date, usd: Decimal) -> None:
        """Add to the day's counter whatever it says. Raises ProgressUnavailable."""
        with self._translated("add", day):
            self._client.update_item(**self._added(day, usd, {}))

    def spent(self, day: date) -> Decimal:
        """Return the day's counter. Raises ProgressUnavailable."""
        with self._translated("read", day):
            answer = self._client.get_item(TableName=self._table, Key=_key(day), ConsistentRead=True)
            return Decimal(answer["Item"]["usd"]["N"]) if "Item" in answer else Decimal(0)

    def _added(self, day: date, usd: Decimal, values: dict[str, Any]) -> dict[str, Any]:
        expires = datetime.combine(day, time(), UTC) + PROGRESS_RETENTION
        return {
            "TableName": self._table,
            "Key": _key(day),
            "UpdateExpression": "ADD usd :usd SET #ttl = :ttl",
            "ExpressionAttributeNames": {"#ttl": "ttl"},  # a reserved word
            "ExpressionAttributeValues": {
                ":usd": _number(usd),
                ":ttl": _number(Decimal(int(expires.timestamp()))),
                **values,
            },
        }

    @contextmanager
    def _translated(self, operation: str, day: date) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            where = f"{operation} spend of {day} in table {self._table}"
            raise ProgressUnavailable(f"{where}: {told(error)}") from None


def _key(day: date) -> dict[str, Any]:
    return {"PK": {"S": f"SPEND#{day.isoformat()}"}, "SK": {"S": EMBEDDINGS}}


def _number(value: Decimal) -> dict[str, str]:
    return {"N": format(value, "f")}
