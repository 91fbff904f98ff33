"""The commands over the sales table, with MODE=aws on the emulator: the table that `salesintel deploy` makes."""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from salesintel_dagster.adapters.aws import AwsClient, AwsClients, AwsTarget
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.sales.table import DynamoTable
from salesintel_dagster.adapters.sales.ttl_items import DynamoTtlStore
from salesintel_dagster.domain.retention import ttl_of
from salesintel_dagster.flows.ttl_backfill import Pace, backfill_ttl
from salesintel_dagster_tests.command_line import Answer, call
from salesintel_dagster_tests.fakes.clocks import SetClock
from salesintel_dagster_tests.sales_table import all_items
from salesintel_dagster_tests.services import Services

TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
"""The commands go by the real clock."""
LISTINGS = {
    "query": ["sales", "query", "--category", "dress", "--season", "summer"],
    "brand": ["sales", "brand", "Ilmari"],
    "embeddings": ["sales", "embeddings", "P-1"],
}
SUMMER = datetime(TODAY.year if TODAY.month > 7 else TODAY.year - 1, 7, 1, 12, tzinfo=UTC)


class Deployed:
    def __init__(self, clients: AwsClients) -> None:
        target = clients.target
        self.client: AwsClient = clients.client("dynamodb")
        self.stage = f"t{secrets.token_hex(4)}"
        self.table = deploy(clients, self.stage, lambda _: None).resources["SalesIntelligenceTable"]
        self.environment = {
            "SALESINTEL_MODE": "aws",
            "STAGE": self.stage,
            "AWS_ENDPOINT_URL": target.endpoint_url or "",
            "AWS_ACCESS_KEY_ID": target.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": target.secret_access_key or "",
        }

    def call(self, *arguments: str, tenant: str | None = "acme") -> Answer:
        whose = ["--tenant", tenant] if tenant else []
        return call(*arguments, *whose, environment=self.environment)


@pytest.fixture(scope="module")
def deployed(services: Services) -> Deployed:
    made = Deployed(AwsClients(services.aws.new_target()))
    # Expiry would come for the old sales of these tests within a minute.
    made.client.update_time_to_live(
        TableName=made.table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "ttl"}
    )
    return made


@pytest.fixture
def empty(deployed: Deployed) -> Deployed:
    for item in all_items(deployed.client, deployed.table):
        deployed.client.delete_item(TableName=deployed.table, Key={"PK": item["PK"], "SK": item["SK"]})
    return deployed


def sale(number: int = 1, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    return {
        "saleId": f"S-{number}",
        "productId": f"P-{number % 2}",
        "soldPrice": f"{10 + number}.50",
        "currency": "EUR",
        "soldAt": (SUMMER + timedelta(days=number)).isoformat(),
        "category": "dress",
        "brand": "Ilmari",
        "embeddingS3Key": f"embeddings/{number}",
        "embeddingModel": "amazon.titan-embed-image-v1",
        "embeddingDimension": 1024,
        **changes,
    }


@pytest.fixture
def five(empty: Deployed, tmp_path: Path) -> Deployed:
    file = tmp_path / "sales.json"
    file.write_text(json.dumps([sale(n) for n in range(1, 6)]))
    assert empty.call("sales", "put", str(file)).code == 0
    return empty


def test_sales_are_stored_from_an_array_and_told_by_what_became_of_them(empty: Deployed, tmp_path: Path):
    file = tmp_path / "sales.json"
    file.write_text(json.dumps([sale(1), sale(2)], indent=2))
    stored = empty.call("sales", "put", str(file))
    assert (stored.code, stored.out) == (
        0,
        "2 stored, 0 there already, 0 repeated, 0 in conflict, 0 refused\n",
    )
    again = empty.call("sales", "put", str(file), "--json")
    assert (again.code, again.json["created"], again.json["duplicates"]) == (0, 0, 2)


def test_one_bad_line_stops_no_other_and_is_told_with_its_place_and_rule(empty: Deployed, tmp_path: Path):
    """E5, E6"""
    lines = [
        "",
        json.dumps(sale(1)),
        json.dumps(sale(2, soldPrice=-1)),
        "nonsense \x1b[2J",
        json.dumps(sale(1)),
        json.dumps(sale(3, productId="#" * 900)),
        json.dumps(sale(1, soldPrice=99)),
        json.dumps(sale(4)),
        json.dumps(sale(5, soldAt="2020-01-31T10:00:00Z")),
    ]
    file = tmp_path / "sales.jsonl"
    file.write_text("\n".join(lines))
    stored = empty.call("sales", "put", str(file))
    assert stored.code == 1
    told = stored.out.splitlines()
    assert told[0] == "2 stored, 0 there already, 1 repeated, 1 in conflict, 4 refused"
    assert told[1].startswith("  conflict: S-1: another payload is there: ")
    assert told[2] == "  refused: line 3: soldPrice: -1: a price is above zero"
    assert told[3].startswith("  refused: line 4: body: 'nonsense ")
    assert "\x1b" not in stored.out
    assert told[4].endswith("line 9: soldAt: 2020-01-31: a sale is kept for two years; this one's ended on 2022-01-31")
    assert told[5].startswith("  refused: S-3: product_id: ")


def test_a_single_object_of_many_lines_and_standard_input_are_read(empty: Deployed, tmp_path: Path):
    file = tmp_path / "sale.json"
    file.write_text("\n" + json.dumps(sale(7), indent=2))
    assert empty.call("sales", "put", str(file)).out.startswith("1 stored")
    file.write_text(json.dumps([sale(8)]), encoding="utf-8-sig")
    assert empty.call("sales", "put", str(file)).out.startswith("1 stored")
    file.write_text("")
    assert empty.call("sales", "put", str(file)).out.startswith("0 stored")


def test_a_sale_is_shown_by_its_id(five: Deployed):
    shown = five.call("sales", "get", "S-3")
    assert shown.code == 0
    fields = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert (fields["sale_id"], fields["sold_price"], fields["season"], fields["tenant"]) == (
        "S-3",
        "13.50",
        "SUMMER",
        "acme",
    )
    as_json = five.call("sales", "get", "S-3", "--json").json
    assert (as_json["sold_price"], as_json["ttl"]) == (13.5, ttl_of((SUMMER + timedelta(days=3)).date()))
    missing = five.call("sales", "get", "none")
    assert (missing.code, missing.err) == (1, "salesintel: tenant acme has no sale 'none'\n")


def test_a_ttl_in_milliseconds_by_other_software_is_shown_as_it_is(five: Deployed):
    (item,) = [one for one in all_items(five.client, five.table) if one["SK"]["S"].endswith("#S-3")]
    five.client.put_item(TableName=five.table, Item=item | {"ttl": {"N": "1830038400000"}})
    shown = five.call("sales", "get", "S-3", "--json").json
    assert (shown["ttl"], shown["expires_at"]) == (1830038400000, None)


def test_g1_another_tenant_sees_nothing(five: Deployed):
    assert five.call("sales", "get", "S-3", tenant="other").code == 1
    for words in LISTINGS.values():
        assert five.call(*words, tenant="other").out == "No sale.\n"
    assert five.call("sales", "delete", "S-3", "--apply", tenant="other").code == 1
    assert five.call("sales", "get", "S-3").code == 0


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_is_a_table_and_goes_on_page_by_page(five: Deployed, name: str):
    wanted = ["S-1", "S-3", "S-5"] if name == "embeddings" else [f"S-{n}" for n in range(1, 6)]
    whole = five.call(*LISTINGS[name])
    assert whole.code == 0
    rows = [line.split()[0] for line in whole.out.splitlines()[1:] if line.startswith("S-")]
    assert rows == wanted
    first_two = five.call(*LISTINGS[name], "--limit", "2").out.splitlines()
    assert [line.split()[0] for line in first_two[1:3]] == wanted[:2]
    (after,) = re.findall(r"^There is more; the next page: --after '(.+)'$", first_two[-1])
    rest = five.call(*LISTINGS[name], "--json", "--after", after).json
    assert ([one["sale_id"] for one in rest["sales"]], rest["after"]) == (wanted[2:], None)
    first = (SUMMER + timedelta(days=2)).date().isoformat()
    last = (SUMMER + timedelta(days=3)).date().isoformat()
    days = five.call(*LISTINGS[name], "--from", first, "--to", last, "--json").json
    assert [one["sale_id"] for one in days["sales"]] == [one for one in wanted if one in ("S-2", "S-3")]


def test_a_brands_prices_are_summed_up_by_currency(five: Deployed, tmp_path: Path):
    file = tmp_path / "more.json"
    file.write_text(json.dumps([sale(8, currency="SEK", soldPrice=900)]))
    five.call("sales", "put", str(file))
    told = five.call("sales", "brand", "Ilmari").out.splitlines()
    assert told[-2:] == [
        "5 sales in EUR: 11.50 to 15.50, middle 13.50",
        "1 sale in SEK: 900.00 to 900.00, middle 900.00",
    ]


def test_embeddings_name_key_model_and_dimension(five: Deployed):
    header, first, *_ = five.call("sales", "embeddings").out.splitlines()
    assert header.split() == ["sale", "product", "sold", "vector", "model", "dimension"]
    assert first.split()[3:] == ["embeddings/1", "amazon.titan-embed-image-v1", "1024"]


def test_deleting_is_told_first_and_done_when_it_is_meant(five: Deployed):
    told = five.call("sales", "delete", "S-2")
    assert told.code == 0
    assert told.out.endswith(": would be deleted; nothing was done (--apply does it)\n")
    assert five.call("sales", "get", "S-2").code == 0
    for words in (["--revision", "7"], ["--revision", "7", "--apply"]):
        refused = five.call("sales", "delete", "S-2", *words)
        assert (refused.code, "revision 1, not 7" in refused.err) == (1, True)
    done = five.call("sales", "delete", "S-2", "--revision", "1", "--apply", "--json").json
    assert (done["applied"], done["sale"]["sale_id"]) == (True, "S-2")
    assert five.call("sales", "get", "S-2").code == 1
    assert five.call("sales", "delete", "S-2", "--apply").code == 1


def test_g3_shards_are_verified_of_ids_and_of_what_is_there(five: Deployed, tmp_path: Path):
    ids = tmp_path / "ids"
    ids.write_text("".join(f"S-{n}\n" for n in range(20_000)))
    even = call("shards", "verify", str(ids), "--shards", "16", "--json")
    assert (even.code, even.json["ids"], even.json["even"], len(even.json["sizes"])) == (0, 20_000, True, 16)
    ids.write_text("the same\n" * 1_000)
    uneven = call("shards", "verify", str(ids))
    assert (uneven.code, "UNEVEN: 1000 in all; fullest / mean 10.000" in uneven.out) == (1, True)
    assert sum(five.call("shards", "verify", "--json").json["sizes"]) == 5
    of_category = five.call("shards", "verify", "--category", "dress", "--json").json
    assert (of_category["ids"], len(of_category["sizes"])) == (5, 10)
    assert five.call("shards", "verify", "--category", "none", "--json").json["ids"] == 0
    assert call("shards", "verify").code == 2
    assert call("shards", "verify", str(ids), "--category", "x").code == 2


def test_g10_a_ttl_backfill_is_told_first_and_done_when_it_is_meant(five: Deployed):
    for item in all_items(five.client, five.table):
        five.client.put_item(TableName=five.table, Item={name: one for name, one in item.items() if name != "ttl"})
    told = five.call("ttl", "backfill", tenant=None)
    assert told.code == 0
    assert told.out.splitlines() == [
        "11 items: 0 have a ttl, 10 would get a ttl, 0 went meanwhile, 0 unreadable, 1 of other kinds",
        "Nothing was done; --apply does it.",
    ]
    assert not [item for item in all_items(five.client, five.table) if "ttl" in item]
    done = five.call("ttl", "backfill", "--apply", "--rate", "5000", "--json", tenant=None).json
    assert (done["applied"], done["tally"]["set_"], done["tally"]["scanned"]) == (True, 10, 11)
    for item in all_items(five.client, five.table):
        five.client.put_item(TableName=five.table, Item={name: one for name, one in item.items() if name != "ttl"})
    unfinished = DynamoTtlStore(DynamoTable(five.client, five.table))
    next(backfill_ttl(unfinished, SetClock().clock, Pace(page_items=4)))
    gone_on = five.call("ttl", "backfill", "--apply", tenant=None)
    assert "Going on behind the 4 items of a backfill that did not end; --restart begins anew" in gone_on.err
    assert gone_on.out.startswith("11 items: 0 have a ttl, 10 got a ttl")
    again = five.call("ttl", "backfill", "--apply", tenant=None)
    assert "Going on" not in again.err
    assert again.out.startswith("11 items: 10 have a ttl, 0 got a ttl")


@pytest.mark.parametrize(
    "words,named",
    [
        (["sales", "get", "S-1"], "--tenant"),
        (["sales", "query", "--tenant", "acme", "--season", "WINTER"], "--category"),
        (["sales", "query", "--tenant", "acme", "--category", "c", "--season", "MONSOON"], "MONSOON"),
        (["sales", "brand", "b", "--tenant", "acme", "--limit", "0"], "--limit"),
        (["sales", "brand", "b", "--tenant", "acme", "--from", "yesterday"], "yesterday"),
        (["sales", "put", "/no/such/file", "--tenant", "acme"], "/no/such/file"),
        (["sales", "delete", "S-1", "--tenant", "acme", "--revision", "0"], "--revision"),
        (["shards", "verify", "--shards", "0"], "--shards"),
        (["shards", "verify", "--tenant", "acme", "--shards", "16"], "--shards"),
        (["ttl", "backfill", "--rate", "0"], "--rate"),
        (["ttl", "backfill", "--rate", "-5"], "--rate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_i1_wrong_usage_is_2_and_names_what_is_wrong(words: list[str], named: str):
    answer = call(*words)
    assert (answer.code, answer.out) == (2, "")
    assert named in answer.err


@pytest.mark.parametrize(
    "words,named",
    [
        (["sales", "get", "S-1", "--tenant", "Not A Tenant"], "tenant: 'Not A Tenant': a tenant matches"),
        (["sales", "brand", "b", "--tenant", "acme", "--after", "x"], "after: 'x'"),
        (["sales", "brand", "b", "--tenant", "a", "--from", "2026-11-20", "--to", "2026-11-19"], "period: 2026-11-20"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_i1_a_value_that_breaks_a_rule_is_one_sentence(words: list[str], named: str):
    answer = call(*words, environment={"SALESINTEL_MODE": "aws", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert (answer.code, answer.out) == (1, "")
    assert named in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    "variable,value",
    [
        ("SALESINTEL_SALES_CATEGORY_SHARDS", "0"),
        ("SALESINTEL_SALES_CATEGORY_SHARDS", "257"),
        ("SALESINTEL_SALES_EMBEDDING_SHARDS", "many"),
        ("SALESINTEL_SALES_SHARDS", "10"),
    ],
)
def test_i1_a_wrong_setting_is_named(variable: str, value: str):
    answer = call("sales", "get", "S-1", "--tenant", "acme", environment={"SALESINTEL_MODE": "aws", variable: value})
    assert (answer.code, answer.out) == (1, "")
    assert variable in answer.err


@pytest.mark.parametrize("words", [[*LISTINGS["brand"]], ["sales", "get", "S-1"], ["ttl", "backfill"]], ids=" ".join)
def test_i4_i5_what_fails_tells_no_secret(words: list[str], deployed: Deployed, caplog: pytest.LogCaptureFixture):
    """The table is gone: the error names it and AWS's word, not one of the keys in the environment."""
    canary = "canary-secret-4711-of-nobody"
    hidden = {"AWS_SECRET_ACCESS_KEY": canary, "SALESINTEL_CATALOG_URI": f"postgresql://u:{canary}@h/d"}
    environment = {**deployed.environment, **hidden, "STAGE": "nowhere"}
    tenant = ["--tenant", "acme"] if words[0] == "sales" else []
    for more in ([], ["--json"]):
        answer = call(*words, *tenant, *more, environment=environment)
        assert (answer.code, answer.out) == (1, "")
        assert "bg-remover-nowhere-sales-intelligence" in answer.err
        assert "ResourceNotFoundException" in answer.err
        assert canary not in answer.err + caplog.text


def test_i5_the_repository_shows_no_secret(deployed: Deployed):
    from salesintel_dagster.settings import Settings  # noqa: PLC0415 - as a caller would
    from salesintel_dagster.wiring import aws_clients, sales  # noqa: PLC0415 - same

    settings = Settings.from_environment({**deployed.environment, "SALESINTEL_CATALOG_URI": "sqlite:///canary-5"})
    target = AwsTarget("eu-west-1", "us-east-1", access_key_id="AKIA", secret_access_key="canary-6")
    made = [target, aws_clients(settings), sales.sales_repository(settings, AwsClients(target)), settings]
    assert not [one for one in made if "canary" in repr(one) + str(one)]


@pytest.mark.parametrize(
    "words",
    [["sales", name] for name in ("get", "put", "query", "brand", "embeddings", "delete")]
    + [["shards", "verify"], ["ttl", "backfill"]],
    ids=" ".join,
)
def test_every_command_explains_itself_with_an_example(words: list[str]):
    answer = call(*words, "--help")
    assert answer.code == 0
    assert f"Example: salesintel {' '.join(words)}" in answer.out
    assert "--json" in answer.out
