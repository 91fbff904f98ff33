"""K5: where the emulator is kinder than AWS, our code keeps AWS's own rule; seen and injected by botocore's hooks.

Elsewhere: chunks and unprocessed items (G9, E2: test_sales_repository_faults, test_receipts), expiry after a deploy
(test_infrastructure_changes), what a queue does otherwise (test_queues).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster_tests.fakes.sale_records import DAY, record
from salesintel_dagster_tests.sales_table import calls_seen, make_table, table_properties

WORD = re.compile(r"[#A-Za-z_][A-Za-z0-9_]*")
GRAMMAR = {"AND", "OR", "NOT", "BETWEEN", "IN", "attribute_exists", "attribute_not_exists", "begins_with", "size"}


def test_k5_a_question_to_an_index_names_only_what_the_template_projects_into_it(aws: AwsClients):
    """K5: AWS refuses the others; the emulator answers as if they were there."""
    client = aws.client("dynamodb")
    acme = CallerContext("acme")
    sales = DynamoSalesRepository(client, make_table(client), ShardCounts(), SYSTEM_CLOCK)
    sales.put(acme, record())
    with calls_seen(client) as seen:
        sales.category_season(acme, "dress", Season.AUTUMN)
        sales.embeddings(acme, None)
        sales.brand_prices(acme, "Ilmari")
        sales.of_day(acme, DAY)
    asked = [(body["IndexName"], body) for name, body in seen if name == "Query" and "IndexName" in body]
    assert {index for index, _ in asked} == {"GSI1", "GSI2", "GSI3"}
    for index, body in asked:
        assert body.get("Select") != "ALL_ATTRIBUTES", index
        assert _named(body) <= _projected(index), index


def _named(body: dict[str, Any]) -> set[str]:
    """Return the attributes that a Query names in any of its expressions."""
    aliases = body.get("ExpressionAttributeNames", {})
    text = " ".join(value for name, value in body.items() if name.endswith("Expression"))
    words = {word for word in WORD.findall(re.sub(r":\w+", "", text)) if word not in GRAMMAR}
    return {aliases.get(word, word) for word in words}


def _projected(index: str) -> set[str]:
    (found,) = (one for one in table_properties()["GlobalSecondaryIndexes"] if one["IndexName"] == index)
    keys = [*table_properties()["KeySchema"], *found["KeySchema"]]
    return {key["AttributeName"] for key in keys} | set(found["Projection"].get("NonKeyAttributes", ()))


def _table(client: AwsClient) -> str:
    client.create_table(
        TableName="throttled",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
    )
    return "throttled"


THROTTLES: dict[str, tuple[int, str, Callable[[AwsClient], object]]] = {
    "dynamodb": (
        400,
        "ProvisionedThroughputExceededException",
        lambda client: client.put_item(TableName=_table(client), Item={"PK": {"S": "x"}}),
    ),
    "ssm": (
        400,
        "ThrottlingException",
        lambda client: client.put_parameter(Name="/throttled", Value="x", Type="SecureString"),
    ),
    "s3": (503, "SlowDown", lambda client: client.list_buckets()),
    "sns": (400, "Throttling", lambda client: client.list_topics()),
    "cloudformation": (400, "Throttling", lambda client: client.list_stacks()),
}


@pytest.mark.parametrize("brief", [False, True], ids=["patient", "brief"])
@pytest.mark.parametrize("service", THROTTLES)
def test_k5_a_call_that_aws_throttles_is_made_again(aws: AwsClients, service: str, brief: bool):  # noqa: FBT001 - pytest's
    """K5: the emulator never throttles by itself."""
    status, code, ask = THROTTLES[service]
    client = aws.client(service, brief=brief)
    refused: list[str] = []

    def throttle(request: Any, **_: object) -> AWSResponse | None:  # noqa: ANN401 - botocore's
        if refused or "CreateTable" in str(request.headers.get("X-Amz-Target", "")):
            return None
        refused.append(code)
        return _refusal(request.url, status, code, json_body=service in {"dynamodb", "ssm"})

    client.meta.events.register_first(f"before-send.{service}", throttle)
    ask(client)
    assert refused == [code]


def _refusal(url: str, status: int, code: str, *, json_body: bool) -> AWSResponse:
    xml = f"<ErrorResponse><Error><Code>{code}</Code><Message>slower</Message></Error></ErrorResponse>"
    if code == "SlowDown":
        xml = f"<Error><Code>{code}</Code><Message>slower</Message></Error>"
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": "slower"}) if json_body else xml

    class Raw(io.BytesIO):
        def stream(self, **_: object) -> Any:  # noqa: ANN401 - urllib3's
            yield self.read()

    kind = "application/x-amz-json-1.1" if json_body else "text/xml"
    return AWSResponse(url, status, {"content-type": kind}, Raw(body.encode()))
