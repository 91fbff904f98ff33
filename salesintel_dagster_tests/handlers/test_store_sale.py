from __future__ import annotations

import base64
import json
import logging
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.sales.items import key_of
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.domain.calendar import Hemisphere, Season
from salesintel_dagster.domain.errors import SalesUnavailable
from salesintel_dagster.domain.retention import ttl_of
from salesintel_dagster.domain.sale_request import MAX_BODY_BYTES, RequestRules
from salesintel_dagster.domain.sales_keys import guard_key_pair
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.handlers import store_sale
from salesintel_dagster.handlers.store_sale import StoreSale
from salesintel_dagster_tests.fakes.clocks import SetClock
from salesintel_dagster_tests.fakes.sales_repository import InMemorySalesRepository
from salesintel_dagster_tests.sales_table import calls_seen, make_table, resource_properties
from salesintel_dagster_tests.services import Services

ACME = CallerContext("acme")
SALE = {
    "saleId": "S-1",
    "productId": "P-1",
    "soldPrice": "35.50",
    "currency": "EUR",
    "soldAt": "2026-11-20T23:30:00+02:00",
    "category": "dress",
    "condition": "Like New",
}
RULES = RequestRules(ZoneInfo("Europe/Vilnius"), Hemisphere.NORTH)


def event(body: Any = None, tenant: str = "acme", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any body
    text = body if isinstance(body, str) else json.dumps(SALE if body is None else body)
    context = {"authorizer": {"jwt": {"claims": {"tenant": tenant, "sub": "somebody"}}}}
    return {"version": "2.0", "requestContext": context, "body": text, "isBase64Encoded": False, **changes}


@pytest.fixture
def sales() -> InMemorySalesRepository:
    return InMemorySalesRepository(SetClock().clock)


@pytest.fixture
def handler(sales: InMemorySalesRepository) -> StoreSale:
    return StoreSale(sales, RULES, SetClock().clock, new_id=lambda: "error-7")


def answered(response: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    assert response["headers"] == {"content-type": "application/json"}
    return response["statusCode"], json.loads(response["body"])


def test_a_sale_is_stored_and_answered_with_its_id_and_ttl(handler: StoreSale, sales: InMemorySalesRepository):
    assert answered(handler(event())) == (
        201,
        {"saleId": "S-1", "ttl": ttl_of(date(2026, 11, 20)), "outcome": "CREATED"},
    )
    found = sales.by_sale_id(ACME, "S-1")
    assert found is not None
    assert (found.record.sold_date, found.record.season, found.record.condition) == (
        date(2026, 11, 20),
        Season.AUTUMN,
        "like_new",
    )
    assert found.record.sold_at == datetime(2026, 11, 20, 21, 30, tzinfo=UTC)


def test_a_repeated_request_is_answered_as_the_first_was_and_stores_nothing(
    handler: StoreSale, sales: InMemorySalesRepository
):
    handler(event())
    reordered = json.dumps(dict(reversed(SALE.items())), indent=3)
    status, body = answered(handler(event(reordered)))
    assert (status, body["saleId"], body["outcome"]) == (201, "S-1", "DUPLICATE")
    assert len(sales.sales) == 1


def test_another_payload_under_the_same_id_is_a_conflict(handler: StoreSale, sales: InMemorySalesRepository):
    handler(event())
    status, body = answered(handler(event({**SALE, "soldPrice": "36"})))
    assert (status, body["error"], body["saleId"]) == (409, "conflict", "S-1")
    assert str(sales.sales["acme", "S-1"].record.sold_price) == "35.50"


def test_a_sale_without_an_id_gets_one_that_a_retry_gets_again(handler: StoreSale, sales: InMemorySalesRepository):
    body = {name: value for name, value in SALE.items() if name != "saleId"}
    first, second = (answered(handler(event(body)))[1]["saleId"] for _ in range(2))
    assert first == second
    assert first.startswith("gen-")
    assert len(sales.sales) == 1


@pytest.mark.parametrize(
    "authorizer",
    [
        {"jwt": {"claims": {"tenant": "acme"}}},
        {"lambda": {"tenant": "acme"}},
        {"claims": {"custom:tenant": "acme"}},
        {"tenant": "acme"},
    ],
    ids=["HTTP API, JWT", "HTTP API, Lambda", "REST API, Cognito", "REST API, Lambda"],
)
def test_the_tenant_is_what_the_authoriser_vouches_for(
    handler: StoreSale, sales: InMemorySalesRepository, authorizer: dict[str, Any]
):
    given = event(requestContext={"authorizer": authorizer})
    assert (
        handler({**given, "headers": {"tenant": "evil"}, "queryStringParameters": {"tenant": "evil"}})["statusCode"]
        == 201
    )
    assert set(sales.sales) == {("acme", "S-1")}


@pytest.mark.parametrize(
    "context",
    [
        None,
        {},
        {"authorizer": None},
        {"authorizer": {"jwt": {"claims": {"sub": "x"}}}},
        {"authorizer": {"jwt": {"claims": {"tenant": "acme", "custom:tenant": "other"}}}},
        {"authorizer": {"tenant": "Not A Tenant"}},
    ],
    ids=str,
)
def test_g1_without_exactly_one_tenant_nothing_is_stored(
    handler: StoreSale, sales: InMemorySalesRepository, context: object
):
    status, body = answered(handler(event(requestContext=context)))
    assert (status, body["field"]) == (400, "tenant")
    assert sales.sales == {}


@pytest.mark.parametrize(
    "changes,field",
    [
        ({"soldPrice": None}, "soldPrice"),
        ({"soldPrice": "NaN"}, "soldPrice"),
        ({"soldPrice": -1}, "soldPrice"),
        ({"soldPrice": "1" * 39}, "soldPrice"),
        ({"soldPrice": "9.999"}, "soldPrice"),
        ({"soldPrice": True}, "soldPrice"),
        ({"currency": "EURO"}, "currency"),
        ({"currency": 978}, "currency"),
        ({"soldAt": "2026-11-20"}, "soldAt"),
        ({"soldAt": "2026-11-20T10:00:00"}, "soldAt"),
        ({"soldAt": "9999-12-31T23:00:00-12:00"}, "soldAt"),
        ({"soldAt": "2019-06-01T00:00:00Z"}, "soldAt"),
        ({"productId": ""}, "productId"),
        ({"productId": "half \ud83d"}, "productId"),
        ({"productId": "p" * 2_100}, "productId"),
        ({"saleId": ["a"]}, "saleId"),
        ({"daysToSell": -3}, "daysToSell"),
        ({"eventVersion": 0}, "eventVersion"),
        ({"embeddingS3Key": "k"}, "embeddingModel"),
        ({"tenant": "other"}, "'tenant'"),
        ({"soldprice": 3}, "'soldprice'"),
    ],
    ids=str,
)
def test_a_broken_rule_is_400_with_field_and_rule_and_nothing_stored(
    handler: StoreSale, sales: InMemorySalesRepository, changes: dict[str, Any], field: str
):
    status, body = answered(handler(event({**SALE, **changes})))
    assert (status, body["field"]) == (400, field)
    assert set(body) == {"error", "field", "value", "rule"}
    assert body["rule"]
    assert sales.sales == {}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "nonsense",
        "[]",
        "null",
        '"text"',
        '{"soldPrice": NaN}',
        '{"saleId": 1, "saleId": 2}',
        "[" * 100_000,
        '{"soldPrice": ' + "9" * 5_000 + "}",
        '{"a": 1e999999999999999999999}',
        " " * (MAX_BODY_BYTES + 1),
    ],
    ids=lambda body: body[:20],
)
def test_e5_what_is_no_strict_json_object_is_400(handler: StoreSale, body: str):
    status, told = answered(handler(event(body)))
    assert (status, told["field"]) == (400, "body")
    assert len(json.dumps(told)) < 600


def test_a_base64_body_is_read_and_a_broken_one_refused(handler: StoreSale):
    coded = base64.b64encode(json.dumps(SALE).encode()).decode()
    assert handler(event(coded, isBase64Encoded=True))["statusCode"] == 201
    for broken in ("%%%", coded[:-3], "é"):
        assert handler(event(broken, isBase64Encoded=True))["statusCode"] == 400


@pytest.mark.parametrize("nothing", [None, 7, [], {}, {"body": None}, {"body": {"a": 1}}], ids=str)
def test_an_event_that_is_none_is_400(handler: StoreSale, nothing: object):
    assert handler(nothing)["statusCode"] == 400


@pytest.mark.parametrize(
    "error", [SalesUnavailable("table: password=canary-4711"), RuntimeError("canary-4711")], ids=["ours", "foreign"]
)
def test_i4_what_goes_wrong_inside_is_500_with_an_id_that_the_log_has_and_no_internals(
    sales: InMemorySalesRepository, error: Exception, caplog: pytest.LogCaptureFixture
):
    class Broken(InMemorySalesRepository):
        def put(self, *_: object) -> Any:  # noqa: ANN401 - it only raises
            raise error

    handler = StoreSale(Broken(), RULES, SetClock().clock, new_id=lambda: "error-7")
    with caplog.at_level(logging.DEBUG):
        assert answered(handler(event())) == (500, {"error": "internal", "errorId": "error-7"})
    assert f"error id error-7: {type(error).__name__}: " in caplog.text
    assert "canary-4711" not in caplog.text
    assert sales.sales == {}


@pytest.fixture(scope="module")
def dynamodb(services: Services) -> AwsClient:
    return AwsClients(services.aws.new_target()).client("dynamodb")


@pytest.fixture
def deployed(aws: AwsClients, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[AwsClients, str]]:
    stage = f"t{secrets.token_hex(5)}"
    deploy(aws, stage, lambda _: None)
    monkeypatch.setenv("STAGE", stage)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.target.endpoint_url or "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", aws.target.access_key_id or "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", aws.target.secret_access_key or "")
    store_sale._handler.cache_clear()
    yield aws, stage
    store_sale._handler.cache_clear()


def test_lambdas_entry_stores_in_the_deployed_table(deployed: tuple[AwsClients, str]):
    """With the table that `salesintel deploy` makes, and the settings of a function's environment."""
    aws, stage = deployed
    with time_machine.travel(datetime(2026, 11, 27, tzinfo=UTC)):
        assert [
            store_sale.handle(event(body), None)["statusCode"] for body in (SALE, SALE, {**SALE, "soldPrice": 1})
        ] == [
            201,
            201,
            409,
        ]
    table = f"bg-remover-{stage}-sales-intelligence"
    assert aws.client("dynamodb").scan(TableName=table, Select="COUNT")["Count"] == 3  # sale, guard, shard counts


def test_i1_a_wrong_setting_is_500_and_named_in_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("SALESINTEL_SALES_CATEGORY_SHARDS", "0")
    store_sale._handler.cache_clear()
    status, body = answered(store_sale.handle(event()))
    assert (status, set(body)) == (500, {"error", "errorId"})
    assert "SALESINTEL_SALES_CATEGORY_SHARDS: Input should be greater than or equal to 1" in caplog.text
    assert body["errorId"] in caplog.text


def test_a_cold_start_imports_nothing_but_what_it_needs():
    """pyarrow, psycopg, Dagster and pyiceberg would cost seconds and most of Lambda's 250 MB."""
    script = (
        "import sys; from salesintel_dagster.handlers.store_sale import handle, _handler; _handler()\n"
        "print(sorted({'pyarrow', 'dagster', 'psycopg', 'pyiceberg', 'duckdb', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_i9_the_policy_allows_what_the_handler_calls_and_nothing_else(dynamodb: AwsClient):
    """A transaction needs the permission of each of its actions."""
    table = make_table(dynamodb)
    sales = DynamoSalesRepository(dynamodb, table, ShardCounts(), SetClock().clock)
    handler = StoreSale(sales, RULES, SetClock().clock)
    with calls_seen(dynamodb) as seen:
        handler(event())
        handler(event({**SALE, "soldPrice": 1}))
        dynamodb.delete_item(TableName=table, Key=key_of(guard_key_pair("acme", "S-1")))
        handler(event())  # gives the sale its guard
    actions = {f"dynamodb:{name}" for name, _ in seen} - {"dynamodb:TransactWriteItems", "dynamodb:DeleteItem"}
    verbs = {
        verb for name, body in seen if name == "TransactWriteItems" for one in body["TransactItems"] for verb in one
    }
    actions |= {{"Put": "dynamodb:PutItem", "ConditionCheck": "dynamodb:ConditionCheckItem"}[verb] for verb in verbs}
    (statement,) = resource_properties("StoreSalePolicy")["PolicyDocument"]["Statement"]
    assert set(statement["Action"]) == actions
    assert statement["Resource"] == "SalesIntelligenceTable.Arn"
