"""Export progress in DynamoDB: one item per run, and one per day that always is the newest run's.

`EXPORT#{date}` / `METADATA` is the day's newest record by start; `EXPORT#{date}` / `RUN#{run_id}` is each run's own.
Items expire by `ttl` 90 days after the run began. Give it a brief client: nothing waits for progress.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import AwsClient, code_of, told
from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.ports import ProgressLedger
from salesintel_dagster.domain.progress import Progress, RunState, bounded_errors

METADATA = "METADATA"
RUN_PREFIX = "RUN#"

_COUNTS = {
    "sales": "sales",
    "quarantined": "quarantined",
    "images_ok": "imagesOk",
    "embedded": "embedded",
    "paid_calls": "paidCalls",
    "error_count": "errorCount",
}
"""Our fields and the item's attributes, all of them whole numbers."""

_NEWER_OR_OWN = "attribute_not_exists(PK) OR startedAt < :started OR runId = :run"


class DynamoProgressLedger(ProgressLedger):
    """The export progress table."""

    def __init__(self, client: AwsClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def record(self, progress: Progress) -> None:
        """Write the run's item, then the day's if no newer run has it. Raises ProgressUnavailable."""
        item = _item(progress)
        with self._translated("record", progress.day):
            self._client.put_item(TableName=self._table, Item=_at(progress.day, RUN_PREFIX + progress.run_id) | item)
            try:
                self._client.put_item(
                    TableName=self._table,
                    Item=_at(progress.day, METADATA) | item,
                    ConditionExpression=_NEWER_OR_OWN,
                    ExpressionAttributeValues={":started": item["startedAt"], ":run": item["runId"]},
                )
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise

    def lose(self, seen: Progress, at: datetime) -> bool:
        """Make LOST of the record as it was `seen`: the day's first, so that a crash between leaves the run's to find.

        Raises ProgressUnavailable.
        """
        with self._translated("lose", seen.day):
            self._lose(METADATA, seen, at)
            return self._lose(RUN_PREFIX + seen.run_id, seen, at)

    def _lose(self, sort_key: str, seen: Progress, at: datetime) -> bool:
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_at(seen.day, sort_key),
                UpdateExpression="SET #state = :lost, updatedAt = :at, finishedAt = :at",
                ConditionExpression="runId = :run AND #state = :running AND updatedAt = :seen",
                ExpressionAttributeNames={"#state": "state"},  # a reserved word
                ExpressionAttributeValues={
                    ":run": {"S": seen.run_id},
                    ":running": {"S": RunState.RUNNING.value},
                    ":seen": {"S": _stamp(seen.updated_at)},
                    ":lost": {"S": RunState.LOST.value},
                    ":at": {"S": _stamp(at)},
                },
            )
        except ClientError as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def newest(self, day: date) -> Progress | None:
        """Return the newest run's record of a day. Raises ProgressUnavailable."""
        with self._translated("read", day):
            answer = self._client.get_item(TableName=self._table, Key=_at(day, METADATA), ConsistentRead=True)
            return _progress(answer["Item"]) if "Item" in answer else None

    def history(self, day: date) -> list[Progress]:
        """Return every run's record of a day, newest first. Raises ProgressUnavailable."""
        with self._translated("read", day):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                KeyConditionExpression="PK = :day AND begins_with(SK, :runs)",
                ExpressionAttributeValues={":day": {"S": _partition(day)}, ":runs": {"S": RUN_PREFIX}},
                ConsistentRead=True,
            )
            runs = [_progress(item) for page in pages for item in page["Items"]]
        return sorted(runs, key=lambda run: (run.started_at, run.run_id), reverse=True)

    @contextmanager
    def _translated(self, operation: str, day: date) -> Iterator[None]:
        where = f"{operation} progress of {day} in table {self._table}"
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise ProgressUnavailable(f"{where}: {told(error)}") from None
        except (KeyError, ValueError, OverflowError) as error:
            raise ProgressUnavailable(f"{where}: not an item of ours ({type(error).__name__})") from None


def _partition(day: date) -> str:
    return f"EXPORT#{day.isoformat()}"


def _at(day: date, sort_key: str) -> dict[str, Any]:
    return {"PK": {"S": _partition(day)}, "SK": {"S": sort_key}}


def _item(progress: Progress) -> dict[str, Any]:
    """Return the record as typed attributes: at most about 60 KB of the 400 KB that DynamoDB takes."""
    item: dict[str, Any] = {
        "day": {"S": progress.day.isoformat()},
        "runId": {"S": progress.run_id},
        "startedAt": {"S": _stamp(progress.started_at)},
        "updatedAt": {"S": _stamp(progress.updated_at)},
        "state": {"S": progress.state.value},
        "stage": {"S": progress.stage},
        "failed": {"M": {reason: {"N": str(count)} for reason, count in progress.failed.items()}},
        "errors": {"L": [{"S": _encodable(error)} for error in bounded_errors(list(progress.errors))]},
        "ttl": {"N": str(int(progress.expires_at.timestamp()))},
    }
    item |= {attribute: {"N": str(getattr(progress, name))} for name, attribute in _COUNTS.items()}
    if progress.finished_at is not None:
        item["finishedAt"] = {"S": _stamp(progress.finished_at)}
    return item


def _progress(item: Mapping[str, Any]) -> Progress:
    return Progress(
        day=date.fromisoformat(item["day"]["S"]),
        run_id=item["runId"]["S"],
        started_at=datetime.fromisoformat(item["startedAt"]["S"]),
        updated_at=datetime.fromisoformat(item["updatedAt"]["S"]),
        state=RunState(item["state"]["S"]),
        stage=item["stage"]["S"],
        failed={reason: int(count["N"]) for reason, count in item["failed"]["M"].items()},
        errors=tuple(error["S"] for error in item["errors"]["L"]),
        finished_at=datetime.fromisoformat(item["finishedAt"]["S"]) if "finishedAt" in item else None,
        **{name: int(item[attribute]["N"]) for name, attribute in _COUNTS.items()},
    )


def _stamp(moment: datetime) -> str:
    """Return UTC to the microsecond, always of one length, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _encodable(text: str) -> str:
    """Replace lone surrogates, which DynamoDB refuses: one odd error text must not cost the whole record."""
    return text.encode("utf-8", "replace").decode("utf-8")
