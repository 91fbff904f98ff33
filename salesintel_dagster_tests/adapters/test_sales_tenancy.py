"""G1: no public method of the repository reads or changes another tenant's sale. The cases are made from the ports."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.sales.census import DynamoShardCensus
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.adapters.sales.shard_counts import StoredShardCounts
from salesintel_dagster.adapters.sales.table import DynamoTable
from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.errors import SalesStoreError, TenantMismatch
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_repository import (
    ALL,
    ALWAYS,
    PageRequest,
    SaleEditor,
    SaleQueries,
    SaleReader,
    SalesRepository,
    SaleWriter,
    ShardCensus,
)
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster_tests.fakes.clocks import SetClock
from salesintel_dagster_tests.fakes.sale_records import DAY, record
from salesintel_dagster_tests.fakes.sales_repository import InMemorySalesRepository
from salesintel_dagster_tests.sales_table import all_items, make_table
from salesintel_dagster_tests.services import Services

PORTS = (SaleWriter, SaleEditor, SaleReader, SaleQueries)
METHODS = [name for port in PORTS for name in sorted(port.__abstractmethods__)]
CANARY = "canary-of-tenant-a"
A, B = CallerContext("tenant-a"), CallerContext("tenant-b")

THEIRS = [
    record(f"S-{n}", tenant="tenant-a", vendor_id=CANARY, description=CANARY, product_id=f"P-{n % 2}") for n in range(3)
]
"""Tenant A's sales: whatever is asked below names exactly these."""

ARGUMENTS: dict[str, list[Any]] = {
    "record": [replace(THEIRS[0], tenant="tenant-b", vendor_id=None, description=None), THEIRS[0]],
    "records": [[replace(one, tenant="tenant-b", vendor_id=None, description=None) for one in THEIRS], THEIRS],
    "sale_id": [THEIRS[0].sale_id],
    "changes": [{"brand": "changed by b"}],
    "revision": [1],
    "key": [THEIRS[0].key],
    "keys": [[one.key for one in THEIRS]],
    "category": [THEIRS[0].category],
    "season": [Season.AUTUMN],
    "product_id": [THEIRS[0].product_id, None],
    "brand": [THEIRS[0].brand],
    "period": [ALWAYS],
    "page": [ALL, PageRequest(2, replace(THEIRS[0].key, sale_id="A"))],
    "day": [DAY],
}
"""What may be given for a parameter of that name; a parameter that is missing here fails the test by its name."""


class Behind:
    """A repository, the census of its shards, and everything that is held for tenant A."""

    def __init__(self, sales: SalesRepository, census: ShardCensus | None, held: Callable[[], Any]) -> None:
        self.sales = sales
        self.census = census
        self._held = held

    def held(self) -> Any:  # noqa: ANN401 - compared alone
        """What lies there, and what tenant A finds by its ids: a guard that both tenants shared would be in no item."""
        return self._held(), [self.sales.by_sale_id(A, one.sale_id) for one in THEIRS]


@pytest.fixture(scope="module")
def dynamodb(services: Services) -> AwsClient:
    return AwsClients(services.aws.new_target()).client("dynamodb")


@pytest.fixture(params=["memory", "dynamodb"])
def behind(request: pytest.FixtureRequest) -> Behind:
    clock = SetClock().clock
    if request.param == "memory":
        fake = InMemorySalesRepository(clock)
        made = Behind(fake, None, lambda: {at: one for at, one in fake.sales.items() if at[0] == "tenant-a"})
    else:
        client: AwsClient = request.getfixturevalue("dynamodb")
        table = make_table(client)

        def held() -> list[Any]:
            return sorted(str(item) for item in all_items(client, table) if "#tenant-a#" in item["PK"]["S"])

        dynamo = DynamoTable(client, table, clock)
        census = DynamoShardCensus(dynamo, StoredShardCounts(dynamo, ShardCounts()))
        made = Behind(DynamoSalesRepository(client, table, ShardCounts(), clock), census, held)
    made.sales.put_many(A, THEIRS)
    return made


def cases(method: Callable[..., Any]) -> list[dict[str, Any]]:
    """Return every combination of arguments for the method but its context."""
    made: list[dict[str, Any]] = [{}]
    for name in list(inspect.signature(method).parameters)[1:]:
        made = [{**case, name: value} for case in made for value in ARGUMENTS[name]]
    return made


def seen(value: object) -> str:
    """Return all texts in an answer, however deep."""
    if is_dataclass(value) and not isinstance(value, type):
        return " ".join(seen(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, dict):
        return " ".join(seen(one) for one in value.values())
    return " ".join(seen(one) for one in value) if isinstance(value, tuple | list | set) else str(value)


def test_g1_the_cases_cover_every_public_method_of_fake_and_adapter():
    for kind in (DynamoSalesRepository, InMemorySalesRepository, SalesRepository):
        public = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        assert public == set(METHODS), kind
    assert {name for name in dir(DynamoShardCensus) if not name.startswith("_")} == {"sizes"}
    for name in METHODS:
        parameters = list(inspect.signature(getattr(SalesRepository, name)).parameters.values())
        assert parameters[1].name == "context", name
        assert parameters[1].default is inspect.Parameter.empty, f"{name}: a caller without a tenant"


@pytest.mark.parametrize("name", METHODS)
def test_g1_a_tenant_without_sales_gets_none_of_anothers_and_changes_none(behind: Behind, name: str):
    before = behind.held()
    method = getattr(behind.sales, name)
    for case in cases(method):
        foreign = [one for one in _records(case) if one.tenant != B.tenant]
        try:
            answer, refused = method(B, **case), None
        except SalesStoreError as error:
            answer, refused = str(error), error
        assert isinstance(refused, TenantMismatch) or not foreign, "another tenant's record was taken"
        assert CANARY not in seen(answer)
        assert "tenant-a" not in seen(answer)
        assert behind.held() == before


@pytest.mark.parametrize("name", METHODS)
def test_g1_a_tenant_with_sales_of_the_same_ids_gets_and_changes_its_own_alone(behind: Behind, name: str):
    ours = [
        replace(one, tenant="tenant-b", vendor_id="b", description="b", sold_price=Decimal(1), payload_hash="b" * 64)
        for one in THEIRS
    ]
    assert behind.sales.put_many(B, ours).created == len(ours), "the ids of another tenant are free"
    before = behind.held()
    method = getattr(behind.sales, name)
    for case in cases(method):
        try:
            answer = method(B, **case)
        except SalesStoreError as refused:
            answer = str(refused)
        assert CANARY not in seen(answer)
        assert THEIRS[0].payload_hash not in seen(answer)
        assert behind.held() == before


@pytest.mark.parametrize("category", [None, "dress"])
def test_g1_the_census_counts_the_callers_sales_alone(behind: Behind, category: str | None):
    if behind.census is None:
        return
    assert sum(behind.census.sizes(A, category)) == 3
    assert sum(behind.census.sizes(B, category)) == 0


def _records(case: dict[str, Any]) -> list[SaleRecord]:
    given = [case["record"]] if "record" in case else case.get("records", [])
    return [one for one in given if isinstance(one, SaleRecord)]
