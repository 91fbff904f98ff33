"""The enrichment status table in DynamoDB behind four ports: jobs, open jobs, batches, token levels.

Every write that could be late is conditional. A condition that fails may be our own write that landed unheard, since
the client asks again after a lost answer: so the item is read, and what we wanted to write counts as written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters import enrichment_items as items
from salesintel_dagster.adapters.aws import AwsClient, code_of, told
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.enrichment.batch import Batch, BatchKey
from salesintel_dagster.domain.enrichment.job import Job
from salesintel_dagster.domain.enrichment.ports import (
    EnrichmentBatches,
    EnrichmentJobs,
    OpenJob,
    TokenLevels,
    UnfinishedJobs,
)
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import LedgerUnavailable

_NEW = "attribute_not_exists(batch_id) OR #ttl < :now"
"""An expired item that DynamoDB has not deleted yet is none."""


class StatusTable:
    """The calls that the ports below share, with every failure translated."""

    def __init__(self, client: AwsClient, name: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._client = client
        self._name = name
        self._clock = clock

    def now(self) -> datetime:
        """Return what counts as now for items that expire."""
        return self._clock.now()

    def get(self, key: Mapping[str, Any]) -> items.Item | None:
        """Return an item as it is now; None for one that has expired."""
        with self.translated("read"):
            answer = self._client.get_item(TableName=self._name, Key=key, ConsistentRead=True)
            item: items.Item | None = answer.get("Item")
            return item if item is not None and items.is_alive(item, self.now()) else None

    def add(self, item: Mapping[str, Any]) -> bool:
        """Put an item where none of its key is alive; tell whether that was so."""
        now = {":now": {"N": str(int(self.now().timestamp()))}}
        asked = {"ConditionExpression": _NEW, "ExpressionAttributeNames": {"#ttl": "ttl"}}
        asked |= {"ExpressionAttributeValues": now, "TableName": self._name, "Item": item}
        return self._conditional("write", lambda: self._client.put_item(**asked))

    def put(self, item: Mapping[str, Any], condition: str | None = None, **values: object) -> bool:
        """Put an item; tell whether the condition let it in."""
        asked: dict[str, Any] = {"TableName": self._name, "Item": item}
        if condition is not None:
            asked |= {"ConditionExpression": condition}
        if values:
            asked |= {"ExpressionAttributeValues": {f":{name}": value for name, value in values.items()}}
        return self._conditional("write", lambda: self._client.put_item(**asked))

    def update(self, **asked: object) -> bool:
        """Update an item; tell whether the condition let it."""
        return self._conditional("write", lambda: self._client.update_item(TableName=self._name, **asked))

    def delete(self, **asked: object) -> bool:
        """Delete an item; tell whether the condition let it."""
        return self._conditional("delete", lambda: self._client.delete_item(TableName=self._name, **asked))

    def query(self, **asked: object) -> Iterator[items.Item]:
        """Yield the items of a query over all its pages, without those that have expired."""
        with self.translated("read"):
            for page in self._client.get_paginator("query").paginate(TableName=self._name, **asked):
                yield from (item for item in page["Items"] if items.is_alive(item, self.now()))

    def _conditional(self, operation: str, call: Any) -> bool:  # noqa: ANN401 - boto3 has no types
        with self.translated(operation):
            try:
                call()
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise
                return False
        return True

    @contextmanager
    def translated(self, operation: str) -> Iterator[None]:
        """Translate AWS's errors, and items that are not ours, into LedgerUnavailable."""
        where = f"{operation} table {self._name}"
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise LedgerUnavailable(f"{where}: {told(error)}") from None
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise LedgerUnavailable(f"{where}: not an item of ours ({type(error).__name__})") from None


class DynamoEnrichmentJobs(EnrichmentJobs):
    """Jobs by catalog and by user."""

    def __init__(self, table: StatusTable) -> None:
        self._table = table

    def add(self, job: Job, batches: Sequence[Batch]) -> Job:
        """Write the open item, the batches and last the job, which makes them count. Raises LedgerUnavailable."""
        standing = self._table.get(items.job_at(job))
        if standing is None:
            self._table.add(items.open_at(job) | items.open_item(job, job.created_at))
            for batch in batches:
                self._table.add(items.batch_at(batch.key) | items.batch_item(batch))
            if self._table.add(items.job_at(job) | items.job_item(job)):
                return job
            standing = self._table.get(items.job_at(job))
        with self._table.translated("read"):
            return items.read_job(standing or {})

    def of_catalog(self, tenant: str, catalog_id: str) -> list[Job]:
        """Return the catalog's jobs, newest first. Raises LedgerUnavailable."""
        found = self._table.query(
            KeyConditionExpression="catalog_id = :catalog",
            FilterExpression="attribute_exists(user_id)",
            ExpressionAttributeValues={":catalog": {"S": items.catalog_key(tenant, catalog_id)}},
            ConsistentRead=True,
        )
        return self._newest_first(found)

    def of_user(self, tenant: str, user_id: str) -> list[Job]:
        """Return a user's jobs, newest first. Raises LedgerUnavailable."""
        found = self._table.query(
            IndexName=items.USER_INDEX,
            KeyConditionExpression="user_id = :user",
            ExpressionAttributeValues={":user": {"S": items.user_key(tenant, user_id)}},
        )
        return self._newest_first(found)

    def _newest_first(self, found: Iterator[items.Item]) -> list[Job]:
        with self._table.translated("read"):
            jobs = [items.read_job(item) for item in found]
        return sorted(jobs, key=lambda job: (job.created_at, job.job_id), reverse=True)


class DynamoUnfinishedJobs(UnfinishedJobs):
    """One item a job that has something left to do, in one partition."""

    def __init__(self, table: StatusTable) -> None:
        self._table = table

    def all(self) -> list[OpenJob]:
        """Return the open jobs; one whose submission died before its end is none. Raises LedgerUnavailable."""
        found = self._table.query(
            KeyConditionExpression="catalog_id = :open",
            ExpressionAttributeValues={":open": {"S": items.OPEN}},
            ConsistentRead=True,
        )
        with self._table.translated("read"):
            opened = [items.read_open(item) for item in found]
        standing = {one: self._table.get(items.job_at(one.job)) for one in opened}
        with self._table.translated("read"):
            # The job's own item has the size that stands, where two submissions differed in it.
            return [OpenJob(items.read_job(item), one.opened_at) for one, item in standing.items() if item is not None]

    def close(self, opened: OpenJob) -> None:
        """Take it off the list, unless it was opened again since. Raises LedgerUnavailable."""
        self._table.delete(
            Key=items.open_at(opened.job),
            ConditionExpression="opened_at = :opened",
            ExpressionAttributeValues={":opened": {"S": items.stamp(opened.opened_at)}},
        )

    def reopen(self, job: Job, now: datetime) -> None:
        """Put it on the list. Raises LedgerUnavailable."""
        self._table.put(items.open_at(job) | items.open_item(job, now))


class DynamoEnrichmentBatches(EnrichmentBatches):
    """Batches, each changed from the version that was seen."""

    def __init__(self, table: StatusTable) -> None:
        self._table = table

    def of_job(self, job: Job) -> list[Batch]:
        """Return the job's batches by number. Raises LedgerUnavailable."""
        found = self._table.query(
            KeyConditionExpression="catalog_id = :catalog AND begins_with(batch_id, :plan)",
            ExpressionAttributeValues={
                ":catalog": {"S": items.catalog_key(job.tenant, job.catalog_id)},
                ":plan": {"S": f"{job.plan}-"},
            },
            ConsistentRead=True,
        )
        with self._table.translated("read"):
            return sorted((items.read_batch(item) for item in found), key=lambda batch: batch.key.number)

    def load(self, key: BatchKey) -> Batch | None:
        """Return one batch as it is now. Raises LedgerUnavailable."""
        item = self._table.get(items.batch_at(key))
        with self._table.translated("read"):
            return items.read_batch(item) if item is not None else None

    def replace(self, seen: Batch, after: Batch) -> bool:
        """Write `after` over `seen`; tell whether it was still that. Raises LedgerUnavailable."""
        written = items.changing(after)
        removed = [name for name in items.CHANGING if name not in written]
        words = {f"#{name}": name for name in (*written, *removed)}
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in written)
        if removed:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in removed)
        done = self._table.update(
            Key=items.batch_at(seen.key),
            UpdateExpression=expression,
            ConditionExpression="#version = :seen",
            ExpressionAttributeNames=words,
            ExpressionAttributeValues={f":{name}": value for name, value in written.items()}
            | {":seen": {"N": str(seen.version)}},
        )
        return done or self.load(seen.key) == after


class DynamoTokenLevels(TokenLevels):
    """One item a provider."""

    def __init__(self, table: StatusTable) -> None:
        self._table = table

    def last(self, provider: str) -> TokenLevel | None:
        """Return the newest level. Raises LedgerUnavailable."""
        item = self._table.get(items.tokens_at(provider))
        with self._table.translated("read"):
            return items.read_tokens(item) if item is not None else None

    def note(self, provider: str, level: TokenLevel) -> None:
        """Keep a level, unless a newer one is kept. Raises LedgerUnavailable."""
        self._table.put(
            items.tokens_at(provider) | items.tokens_item(level),
            "attribute_not_exists(batch_id) OR observed_at <= :at",
            at={"S": items.stamp(level.observed_at)},
        )
