"""The enrichment status table's items: keys, and how jobs, batches and token levels are written in them.

| item | `catalog_id` (hash) | `batch_id` (range) |
|---|---|---|
| a job | `{tenant}#{catalog}` | `{job}`; `user_id` and `created_at` put it into the index `UserJobs` |
| a batch | `{tenant}#{catalog}` | `{job}-{size}-{number}`; without `user_id`, so not in the index |
| a job that has something left to do | `OPEN` | `{tenant}#{catalog}#{job}` |
| a token level | `PROVIDER#{provider}` | `TOKENS` |
| rows paid for and not stored | `PAID#{tenant}#{catalog}` | `{job}-{size}-{number}#{part}` |

No tenant is written in capitals and no id holds a `#`, so no two of these can be one. Items expire by `ttl`,
which DynamoDB carries out within days: one whose time has come counts as gone for everybody who reads or writes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from salesintel_dagster.domain.enrichment.batch import Batch, BatchKey, Lease, ProductStatus, Reason, State
from salesintel_dagster.domain.enrichment.job import Job, parse_message
from salesintel_dagster.domain.enrichment.ports import OpenJob
from salesintel_dagster.domain.enrichment.tokens import TokenLevel

HASH, RANGE = "catalog_id", "batch_id"
USER_INDEX = "UserJobs"
OPEN = "OPEN"
KEPT = timedelta(days=90)

Item = Mapping[str, Any]

_MOMENTS = ("not_before", "sent_at", "started_at", "finished_at")


def catalog_key(tenant: str, catalog_id: str) -> str:
    """Return the hash key of a tenant's catalog."""
    return f"{tenant}#{catalog_id}"


def user_key(tenant: str, user_id: str) -> str:
    """Return the index's hash key of a tenant's user."""
    return f"{tenant}#{user_id}"


def at(hash_key: str, range_key: str) -> dict[str, Any]:
    """Return a primary key."""
    return {HASH: {"S": hash_key}, RANGE: {"S": range_key}}


def job_at(job: Job) -> dict[str, Any]:
    """Return the key of a job's item."""
    return at(catalog_key(job.tenant, job.catalog_id), job.job_id)


def open_at(job: Job) -> dict[str, Any]:
    """Return the key of the item that says that a job has something left to do."""
    return at(OPEN, f"{job.tenant}#{job.catalog_id}#{job.job_id}")


def batch_at(key: BatchKey) -> dict[str, Any]:
    """Return the key of a batch's item."""
    return at(catalog_key(key.tenant, key.catalog_id), key.batch_id)


def tokens_at(provider: str) -> dict[str, Any]:
    """Return the key of a provider's token level."""
    return at(f"PROVIDER#{provider}", "TOKENS")


def paid_at(key: BatchKey, part: int) -> dict[str, Any]:
    """Return the key of one part of a batch's paid rows."""
    return at(f"PAID#{catalog_key(key.tenant, key.catalog_id)}", f"{key.batch_id}#{part:03d}")


def paid_item(key: BatchKey, rows: bytes, now: datetime) -> dict[str, Any]:
    """Return the attributes of one part of a batch's paid rows, without its key."""
    return {"tenant": {"S": key.tenant}, "rows": {"B": rows}, "ttl": _expiry(now)}


def is_alive(item: Item, now: datetime) -> bool:
    """Tell whether an item's time has not come yet."""
    return "ttl" not in item or int(item["ttl"]["N"]) >= int(now.timestamp())


def stamp(moment: datetime) -> str:
    """Return UTC to the microsecond, always of one length, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _moment(item: Item, name: str) -> datetime | None:
    return datetime.fromisoformat(item[name]["S"]) if name in item else None


def _expiry(moment: datetime) -> dict[str, str]:
    return {"N": str(int((moment + KEPT).timestamp()))}


def job_item(job: Job) -> dict[str, Any]:
    """Return a job's attributes, without its key."""
    return {
        "tenant": {"S": job.tenant},
        "catalog": {"S": job.catalog_id},
        "job_id": {"S": job.job_id},
        "user_id": {"S": user_key(job.tenant, job.user_id)},
        "created_at": {"S": stamp(job.created_at)},
        "products": {"N": str(job.products)},
        "batches": {"N": str(job.batches)},
        "batch_size": {"N": str(job.batch_size)},
        "refused": {"N": str(job.refused)},
        "ttl": _expiry(job.created_at),
    }


def open_item(job: Job, opened_at: datetime) -> dict[str, Any]:
    """Return the attributes of the item that says that a job has something left to do; not in the user's index."""
    item = job_item(job)
    return item | {"user": item.pop("user_id"), "opened_at": {"S": stamp(opened_at)}}


def read_job(item: Item) -> Job:
    """Return the job of an item, or of the one that says that it is open."""
    return Job(
        tenant=item["tenant"]["S"],
        catalog_id=item["catalog"]["S"],
        job_id=item["job_id"]["S"],
        user_id=item.get("user_id", item.get("user"))["S"].partition("#")[2],
        created_at=datetime.fromisoformat(item["created_at"]["S"]),
        products=int(item["products"]["N"]),
        batches=int(item["batches"]["N"]),
        batch_size=int(item["batch_size"]["N"]),
        refused=int(item["refused"]["N"]),
    )


def read_open(item: Item) -> OpenJob:
    """Return an open job."""
    return OpenJob(read_job(item), datetime.fromisoformat(item["opened_at"]["S"]))


def batch_item(batch: Batch) -> dict[str, Any]:
    """Return a batch's attributes, without its key."""
    item: dict[str, Any] = {
        "tenant": {"S": batch.key.tenant},
        "body": {"S": batch.body},
        "created_at": {"S": stamp(batch.created_at)},
        "ttl": _expiry(batch.created_at),
    }
    return item | changing(batch)


def changing(batch: Batch) -> dict[str, Any]:
    """Return the attributes of a batch that change; an absent one is to be removed."""
    found = {name: moment for name in _MOMENTS if (moment := getattr(batch, name)) is not None}
    item: dict[str, Any] = {name: {"S": stamp(moment)} for name, moment in found.items()}
    if batch.lease is not None:
        item |= {"lease_owner": {"S": batch.lease.owner}, "lease_until": {"S": stamp(batch.lease.until)}}
    return item | {
        "state": {"S": batch.state.value},
        "statuses": {"L": [_status_item(status) for status in batch.statuses]},
        "updated_at": {"S": stamp(batch.updated_at)},
        "version": {"N": str(batch.version)},
    }


CHANGING = ("lease_owner", "lease_until", "state", "statuses", "updated_at", "version", *_MOMENTS)


def _status_item(status: ProductStatus) -> dict[str, Any]:
    told: dict[str, Any] = {"state": {"S": status.state.value}, "attempts": {"N": str(status.attempts)}}
    if status.reason is not None:
        told |= {"reason": {"S": status.reason.value}}
    if status.detail:
        told |= {"detail": {"S": status.detail}}
    return {"M": told}


def read_batch(item: Item) -> Batch:
    """Return the batch of an item. Raises KeyError, ValueError for what is none of ours."""
    key, products = parse_message(item["body"]["S"])
    statuses = tuple(_read_status(one["M"]) for one in item["statuses"]["L"])
    if len(statuses) != len(products):
        raise ValueError("as many states as products are expected")
    lease = Lease(item["lease_owner"]["S"], datetime.fromisoformat(item["lease_until"]["S"])) if _held(item) else None
    return Batch(
        key=key,
        body=item["body"]["S"],
        products=products,
        statuses=statuses,
        created_at=datetime.fromisoformat(item["created_at"]["S"]),
        updated_at=datetime.fromisoformat(item["updated_at"]["S"]),
        version=int(item["version"]["N"]),
        lease=lease,
        **{name: _moment(item, name) for name in _MOMENTS},
    )


def _held(item: Item) -> bool:
    return "lease_owner" in item


def _read_status(told: Item) -> ProductStatus:
    reason = Reason(told["reason"]["S"]) if "reason" in told else None
    return ProductStatus(
        State(told["state"]["S"]), reason, told.get("detail", {"S": ""})["S"], int(told["attempts"]["N"])
    )


def tokens_item(level: TokenLevel) -> dict[str, Any]:
    """Return a token level's attributes, without its key."""
    return {
        "left": {"N": str(level.left)},
        "refill_in_seconds": {"N": str(level.refill_in_seconds)},
        "refill_per_minute": {"N": str(level.refill_per_minute)},
        "observed_at": {"S": stamp(level.observed_at)},
        "ttl": _expiry(level.observed_at),
    }


def read_tokens(item: Item) -> TokenLevel:
    """Return the token level of an item."""
    return TokenLevel(
        left=int(item["left"]["N"]),
        refill_in_seconds=float(item["refill_in_seconds"]["N"]),
        refill_per_minute=float(item["refill_per_minute"]["N"]),
        observed_at=datetime.fromisoformat(item["observed_at"]["S"]),
    )
