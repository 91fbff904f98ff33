"""The day's spend: the same promises of the ledger in memory and of the one in DynamoDB."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from botocore.exceptions import ConnectTimeoutError

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.spend import DynamoSpendLedger
from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.progress import PROGRESS_RETENTION
from salesintel_dagster.domain.spend import SpendLedger
from salesintel_dagster_tests.fakes.spend import InMemorySpendLedger

TABLE = "export-progress"
DAY = datetime.now(UTC).date()
PRICE = Decimal("0.00006")


def dynamodb_of(aws: AwsClients) -> AwsClient:
    client = aws.client("dynamodb", brief=True)
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
    )
    return client


@pytest.fixture(params=["memory", "dynamodb"])
def opened(request: pytest.FixtureRequest) -> Callable[[], SpendLedger]:
    """Open the ledger once more: as another process would."""
    if request.param == "memory":
        memory = InMemorySpendLedger()
        return lambda: memory
    client = dynamodb_of(request.getfixturevalue("aws"))
    return lambda: DynamoSpendLedger(client, TABLE)


class TestEverySpendLedger:
    def test_a_day_without_spend_is_nothing(self, opened: Callable[[], SpendLedger]):
        assert opened().spent(DAY) == 0

    def test_c7_what_fits_is_added_and_what_does_not_is_refused_and_changes_nothing(
        self, opened: Callable[[], SpendLedger]
    ):
        limit = 150 * PRICE
        assert opened().reserve(DAY, 100 * PRICE, limit)
        assert not opened().reserve(DAY, 100 * PRICE, limit)
        assert opened().reserve(DAY, 50 * PRICE, limit), "to the last cent"
        assert not opened().reserve(DAY, PRICE, limit)
        assert opened().spent(DAY) == limit == Decimal("0.009")

    def test_more_than_the_limit_is_refused_on_a_new_day_too(self, opened: Callable[[], SpendLedger]):
        assert not opened().reserve(DAY, Decimal("0.5"), Decimal("0.4"))
        assert opened().spent(DAY) == 0

    def test_what_is_given_back_may_be_reserved_again(self, opened: Callable[[], SpendLedger]):
        opened().reserve(DAY, Decimal(1), Decimal(1))
        opened().add(DAY, Decimal("-0.4"))
        assert opened().spent(DAY) == Decimal("0.6")
        assert opened().reserve(DAY, Decimal("0.4"), Decimal(1))

    def test_what_was_spent_unasked_is_added_over_any_limit(self, opened: Callable[[], SpendLedger]):
        opened().add(DAY, Decimal(7))
        assert opened().spent(DAY) == 7
        assert not opened().reserve(DAY, PRICE, Decimal(1))

    def test_days_are_apart(self, opened: Callable[[], SpendLedger]):
        opened().add(DAY, Decimal(1))
        assert opened().spent(date(2026, 1, 1)) == 0

    def test_c7_many_at_once_never_overdraw(self, opened: Callable[[], SpendLedger]):
        granted: list[bool] = []
        runs = [
            threading.Thread(target=lambda: granted.extend(opened().reserve(DAY, PRICE, 25 * PRICE) for _ in range(10)))
            for _ in range(6)
        ]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert sum(granted) == 25
        assert opened().spent(DAY) == 25 * PRICE


def test_the_counter_lies_beside_the_progress_and_expires_like_it(aws: AwsClients):
    client = dynamodb_of(aws)
    DynamoSpendLedger(client, TABLE).reserve(DAY, PRICE, Decimal(1))
    [item] = client.scan(TableName=TABLE)["Items"]
    began = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    assert item == {
        "PK": {"S": f"SPEND#{DAY}"},
        "SK": {"S": "EMBEDDINGS"},
        "usd": {"N": "0.00006"},
        "ttl": {"N": str(int((began + PROGRESS_RETENTION).timestamp()))},
    }


@pytest.mark.parametrize(
    "act",
    [
        lambda ledger: ledger.reserve(DAY, PRICE, Decimal(1)),
        lambda ledger: ledger.add(DAY, PRICE),
        lambda ledger: ledger.spent(DAY),
    ],
)
def test_a_table_that_is_not_there_or_silent_is_unavailable(aws: AwsClients, act: Callable[[SpendLedger], object]):
    client = aws.client("dynamodb", brief=True)
    with pytest.raises(ProgressUnavailable, match=rf"spend of {DAY} in table absent: ResourceNotFoundException"):
        act(DynamoSpendLedger(client, "absent"))

    def cut(**_: object) -> None:
        raise ConnectTimeoutError(endpoint_url="http://user:hunter2@dynamodb")

    client.meta.events.register("before-call.dynamodb.*", cut)
    with pytest.raises(ProgressUnavailable, match=r"ConnectTimeoutError$"):
        act(DynamoSpendLedger(client, "absent"))
