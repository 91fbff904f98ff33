"""A job: one set of products of one catalog, cut into batches that fit a message.

The job's id follows from what is to be enriched, so that submitting the same set again, or twice at once, is the same
job with the same batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from salesintel_dagster.domain.enrichment.batch import Batch, BatchKey, ProductStatus
from salesintel_dagster.domain.enrichment.product import CATALOG_ID, USER_ID, CatalogProduct, LookUpKey, LookUpKind
from salesintel_dagster.domain.errors import CatalogInvalid
from salesintel_dagster.domain.sale import TENANT_PATTERN, shown

MAX_MESSAGE_BYTES = 256 * 1024
"""Of one batch. SQS takes 1 MiB a message and a request (botocore 1.43, model of SendMessage);
the ledger keeps the same text in an item, which ends at 400 KB (DynamoDB), states and keys included."""
MAX_REQUEST_BYTES = 1024 * 1024
"""Of all messages in one SendMessageBatch (botocore's model of SQS)."""
SMALLEST_BATCH, USUAL_BATCH, LARGEST_BATCH = 5, 20, 50
MESSAGE_VERSION = 1
JOB_ID_DIGITS = 20

_SUGGESTED = ((99, (10, 15)), (500, (15, 25)), (1000, (20, 30)))
_SUGGESTED_ABOVE = (25, 40)


class MessageInvalid(ValueError):
    """A message that is none of ours; the text says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, as its user is told: the job's id is the tracking id."""

    tenant: str
    catalog_id: str
    job_id: str
    user_id: str
    created_at: datetime
    products: int
    batches: int
    batch_size: int
    refused: int = 0

    @property
    def plan(self) -> str:
        """The job cut in its size: two submissions in different sizes at once never share a batch, and one stands."""
        return plan_of(self.job_id, self.batch_size)


def suggested_sizes(products: int) -> tuple[int, int]:
    """Return the smallest and the largest batch that suit a catalog of so many products."""
    return next((sizes for most, sizes in _SUGGESTED if products <= most), _SUGGESTED_ABOVE)


def batch_size(products: int, chosen: int | None) -> int:
    """Return the chosen size, or the usual one moved into what is suggested for the catalog."""
    if chosen is not None:
        if not SMALLEST_BATCH <= chosen <= LARGEST_BATCH:
            raise CatalogInvalid(f"batch size {chosen}: expected {SMALLEST_BATCH} to {LARGEST_BATCH}")
        return chosen
    smallest, largest = suggested_sizes(products)
    return min(max(USUAL_BATCH, smallest), largest)


def job_id(tenant: str, catalog_id: str, products: Iterable[CatalogProduct]) -> str:
    """Return the id of the set: the order of the lines does not matter."""
    content = [tenant, catalog_id, sorted(product.identity for product in products)]
    digest = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    return f"E{digest[:JOB_ID_DIGITS]}"


def plan_of(job: str, size: int) -> str:
    """Return what the batches of a job in one size are named by."""
    return f"{job}-{size:02d}"


def job_of(plan: str) -> str:
    """Return the job that a plan cuts."""
    return plan.rpartition("-")[0]


def planned(  # noqa: PLR0913 - what a submission is made of, all by name
    *,
    tenant: str,
    catalog_id: str,
    user_id: str,
    products: Sequence[CatalogProduct],
    size: int,
    refused: int,
    now: datetime,
) -> tuple[Job, tuple[Batch, ...]]:
    """Return the job and its batches, all PENDING. Raises CatalogInvalid for ids that break the rules, and for none."""
    check_ids(tenant, catalog_id, user_id)
    if not products:
        raise CatalogInvalid("the catalog has no product that can be looked up")
    named = job_id(tenant, catalog_id, products)
    batches = tuple(
        _batch(BatchKey(tenant, catalog_id, plan_of(named, size), number), group, now)
        for number, group in enumerate(split(products, size), start=1)
    )
    return Job(tenant, catalog_id, named, user_id, now, len(products), len(batches), size, refused), batches


def check_ids(tenant: str, catalog_id: str, user_id: str | None = None) -> None:
    """Require ids that may stand in keys. Raises CatalogInvalid naming the value and the rule."""
    for name, value, rule in (("tenant", tenant, TENANT_PATTERN), ("catalog", catalog_id, CATALOG_ID)):
        if not rule.fullmatch(value):
            raise CatalogInvalid(f"{name} {shown(value)}: expected {rule.pattern}")
    if user_id is not None and not USER_ID.fullmatch(user_id):
        raise CatalogInvalid(f"user {shown(user_id)}: expected {USER_ID.pattern}")


def split(products: Iterable[CatalogProduct], size: int) -> Iterator[tuple[CatalogProduct, ...]]:
    """Cut into batches of at most `size` products and MAX_MESSAGE_BYTES.

    Products that are looked up by the same key lie side by side, and in one batch where that has room: each key is
    paid for once a batch.
    """
    ordered = sorted(products, key=lambda product: (product.key, product.product_id))
    held: list[CatalogProduct] = []
    held_bytes = 0
    for _, same in groupby(ordered, key=lambda product: product.key):
        group = list(same)
        if len(held) + len(group) > size and len(group) <= size and held:
            yield tuple(held)
            held, held_bytes = [], 0
        for product in group:
            added = len(_product_json(product)) + 1
            if held and (len(held) == size or held_bytes + added > MAX_MESSAGE_BYTES - _ENVELOPE_BYTES):
                yield tuple(held)
                held, held_bytes = [], 0
            held.append(product)
            held_bytes += added
    if held:
        yield tuple(held)


_ENVELOPE_BYTES = 1024
"""Tenant, catalog, job and number take at most some 400 bytes."""


def _batch(key: BatchKey, products: tuple[CatalogProduct, ...], now: datetime) -> Batch:
    return Batch(key, message(key, products), products, (ProductStatus(),) * len(products), now, now)


def message(key: BatchKey, products: Iterable[CatalogProduct]) -> str:
    """Return the batch as its message, ASCII only: a character is a byte."""
    head = json.dumps([MESSAGE_VERSION, key.tenant, key.catalog_id, key.plan, key.number])
    return f'{{"batch":{head},"products":[{",".join(_product_json(product) for product in products)}]}}'


def _product_json(product: CatalogProduct) -> str:
    return json.dumps([product.product_id, product.key.kind.value, product.key.identifier, product.attributes])


def parse_message(body: str) -> tuple[BatchKey, tuple[CatalogProduct, ...]]:
    """Read a message back. Raises MessageInvalid for whatever is not exactly what `message` makes."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageInvalid(f"{len(body)} characters, at most {MAX_MESSAGE_BYTES}")
    try:
        version, tenant, catalog_id, plan, number = json.loads(body)["batch"]
        products = tuple(_product(*fields) for fields in json.loads(body)["products"])
        key = BatchKey(str(tenant), str(catalog_id), str(plan), int(number))
        made_again = message(key, products)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise MessageInvalid(f"no batch of ours ({type(error).__name__})") from None
    if version != MESSAGE_VERSION or made_again != body:
        raise MessageInvalid("not word for word what this version writes")
    return key, products


def _product(product_id: str, kind: str, identifier: str, attributes: str) -> CatalogProduct:
    return CatalogProduct(product_id, LookUpKey(LookUpKind(kind), identifier), attributes)
