"""The commands with MODE=aws: the same code, pointed at the emulator, a folder and a SQLite catalog by settings."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.folder_store import FolderObjectStore
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.adapters.progress import DynamoProgressLedger
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster.flows.export.quarantine import Quarantine, QuarantineEntry
from salesintel_dagster_tests.command_line import Answer, call
from salesintel_dagster_tests.fakes.sales_table import sale_rows
from salesintel_dagster_tests.lakes import DAY, RUN, local_catalog, rows

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
NOWHERE = "http://127.0.0.1:9"


class Aws:
    """A stage of its own in the emulator."""

    def __init__(self, clients: AwsClients) -> None:
        target = clients.target
        self.clients = clients
        self.stage = f"t{secrets.token_hex(4)}"
        self.environment = {
            "SALESINTEL_MODE": "aws",
            "STAGE": self.stage,
            "AWS_ENDPOINT_URL": target.endpoint_url or "",
            "AWS_ACCESS_KEY_ID": target.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": target.secret_access_key or "",
        }

    def call(self, *arguments: str, **environment: str) -> Answer:
        return call(*arguments, environment=self.environment | environment)

    def record(self, *records: Progress) -> None:
        name = f"bg-remover-{self.stage}-smartgo-export-progress"
        for record in records:
            DynamoProgressLedger(self.clients.client("dynamodb"), name).record(record)


@pytest.fixture
def stage(aws: AwsClients) -> Aws:
    return Aws(aws)


def _record(day: date, state: RunState, run_id: str = "run-1") -> Progress:
    began = datetime.now(UTC) - timedelta(seconds=10)
    return Progress(day, run_id, began, began + timedelta(seconds=4), state, "smartgo_sales", sales=7, paid_calls=5)


def test_a_deployment_is_told_first_and_done_when_it_is_meant(stage: Aws):
    told = stage.call("deploy")
    assert told.code == 0
    assert f"stack salesintel-{stage.stage} does not exist yet; " in told.out
    assert "\n  add AnalyticsBucket, AWS::S3::Bucket\n" in told.out
    assert "Nothing was done to http://127.0.0.1:" in told.out
    assert "not exported" not in stage.call("status").out
    done = stage.call("deploy", "--apply", "--json")
    assert (done.code, done.json["report"]["outcome"]) == (0, "created")
    assert done.json["report"]["resources"]["AnalyticsBucket"] == f"carousel-{stage.stage}-analytics"
    again = stage.call("deploy", "--apply")
    assert f"stack salesintel-{stage.stage} unchanged" in again.out
    nothing = stage.call("deploy", "--json").json
    assert (nothing["applied"], nothing["plan"]["changes"], nothing["plan"]["expiry"]) == (False, [], [])
    other = stage.call("deploy", "--json", SALESINTEL_EMBEDDING_MODEL="amazon.titan-embed-image-v2").json
    assert [(one["action"], one["resource"]) for one in other["plan"]["changes"]] == [("modify", "ExportPolicy")]


def test_status_exits_with_1_where_a_day_failed_is_missing_or_has_a_silent_run(stage: Aws):
    """A21: a run that was killed says RUNNING until it is LOST."""
    stage.call("deploy", "--apply")
    nothing = stage.call("status")
    assert (nothing.code, nothing.out.count("not exported")) == (0, 7)
    assert f"salesintel materialise {YESTERDAY}" in nothing.out
    assert stage.call("status", YESTERDAY.isoformat()).code == 1
    today = stage.call("status", (YESTERDAY + timedelta(days=1)).isoformat())
    assert (today.code, "materialise" in today.out) == (1, False), "it would be refused"
    assert "has not ended yet" in today.out

    stage.record(_record(YESTERDAY, RunState.SUCCEEDED))
    good = stage.call("status", YESTERDAY.isoformat(), "--json")
    assert (good.code, good.json[0]["state"], good.json[0]["sales"]) == (0, "SUCCEEDED", 7)

    errors = (*(f"SG-{n}: GONE: answered 404" for n in range(49)), "SG-\x1b]0;owned\x07: GONE: answered 404")
    failed = replace(_record(YESTERDAY, RunState.FAILED, "run-2"), errors=errors, error_count=61)
    stage.record(replace(failed, started_at=failed.started_at + timedelta(seconds=1)))
    bad = stage.call("status", YESTERDAY.isoformat())
    assert bad.code == 1
    assert "  SG-0: GONE: answered 404\n" in bad.out
    assert "  SG-\\x1b]0;owned\\x07: GONE" in bad.out  # a stranger's id may drive no terminal
    assert "... and 11 more" in bad.out
    week = stage.call("status", "--json")
    assert (week.code, [day["state"] for day in week.json]) == (1, [None] * 6 + ["FAILED"])

    now = datetime.now(UTC)
    for silent, code in ((1, 0), (3, 1)):
        at = now - timedelta(minutes=silent)
        running = replace(_record(YESTERDAY, RunState.RUNNING, "run-3"), started_at=now, updated_at=at)
        stage.record(running)
        killed = stage.call("status", YESTERDAY.isoformat(), "--json")
        assert (killed.code, killed.json[0]["silent"]) == (code, bool(code))

    runs = stage.call("history", f"{YESTERDAY - timedelta(days=3)}..{YESTERDAY}", "--json")
    assert (runs.code, [run["run_id"] for run in runs.json]) == (0, ["run-3", "run-2", "run-1"])
    assert stage.call("history", "2026-01-01").out == "No run has worked on these days.\n"


def test_what_is_out_of_reach_is_one_sentence(tmp_path: Path):
    environment = {"SALESINTEL_MODE": "aws", "AWS_ENDPOINT_URL": NOWHERE, "SALESINTEL_OBJECT_FOLDER": str(tmp_path)}
    for command in (["status"], ["sql", "SELECT 1"], ["materialise", YESTERDAY.isoformat()]):
        answer = call(*command, environment=environment)
        assert (answer.code, answer.out) == (1, ""), command
        assert answer.err.startswith("salesintel: ")
        assert answer.err.count("\n") == 1, answer.err


def test_the_demo_is_for_the_embedded_world_alone():
    answer = call("demo", environment={"SALESINTEL_MODE": "aws"})
    assert (answer.code, answer.err) == (1, "salesintel: SALESINTEL_MODE: the demo runs on the embedded world only\n")


def test_quarantined_rows_are_listed_by_day_and_by_row(tmp_path: Path):
    """A16"""
    environment = {"SALESINTEL_MODE": "aws", "SALESINTEL_OBJECT_FOLDER": str(tmp_path)}
    none = call("quarantine", "list", environment=environment)
    assert (none.code, none.out) == (0, "No row is in quarantine.\n")

    entry = QuarantineEntry(
        "PRICE_MISSING", "sold_price", "None", "the price is required", '{"sale_id":"SG\\u001b[2J"}'
    )
    kept = Quarantine(FolderObjectStore(tmp_path), "smartgo")
    kept.write(date(2026, 11, 19), [entry])
    kept.write(date(2026, 11, 20), [entry] * 61)
    days = call("quarantine", "list", environment=environment)
    assert days.out.startswith("2026-11-19  1 row\n2026-11-20  61 rows\n2 days with quarantined rows; details: ")
    assert call("quarantine", "list", "--json", environment=environment).json[1] == {"day": "2026-11-20", "rows": 61}

    listed = call("quarantine", "list", "2026-11-20", environment=environment)
    line = "SG\\x1b[2J  PRICE_MISSING: sold_price = None; rule: the price is required"
    assert listed.out.splitlines() == [line] * 50 + ["50 rows shown, 11 more (--json has all)"]
    whole = call("quarantine", "list", "2026-11-20", "--json", environment=environment).json
    assert (len(whole), whole[0]["sale_id"], whole[0]["code"]) == (61, "SG\x1b[2J", "PRICE_MISSING")

    dry = call("quarantine", "replay", "2026-11-20", environment=environment)
    assert dry.out == "61 rows would be tried again for 2026-11-20; nothing was done (--apply does it)\n"


@pytest.fixture
def lake(tmp_path: Path) -> dict[str, str]:
    """Settings of a catalog in a folder that holds two sales."""
    table = IcebergSalesTable(lambda: local_catalog(tmp_path), SYSTEM_CLOCK)
    table.replace_day(DAY, rows(sale_rows(DAY, 2)), RUN, allow_empty=False)
    return {
        "SALESINTEL_MODE": "aws",
        "SALESINTEL_CATALOG_URI": f"sqlite:///{tmp_path}/catalog.db",
        "SALESINTEL_WAREHOUSE": f"file://{tmp_path}/warehouse",
    }


def test_sql_answers_as_a_table_and_as_json(lake: dict[str, str]):
    question = "SELECT count(*) AS sales, sum(sold_price) AS total FROM s3.pricing_intelligence.smartgo_sales"
    table = call("sql", question, environment=lake)
    assert table.code == 0, table.err
    assert table.out.splitlines()[0].split() == ["sales", "total"]
    answer = call("sql", question, "--json", environment=lake).json
    assert answer[0]["sales"] == 2
    assert answer[0]["total"] > 0


@pytest.mark.parametrize(
    "statement,told",
    [
        ("DROP TABLE smartgo_sales", "expected one SELECT; this reader changes nothing"),
        ("SELECT 1; SELECT 2", "expected one SELECT"),
        ("", "expected one SELECT"),
        ("SELECT * FROM nothing_like_it", "the query does not run: Catalog Error"),
        ("SELECT * FROM '/etc/passwd'", "the query does not run"),
    ],
)
def test_sql_that_is_refused_is_one_sentence_and_exit_code_1(lake: dict[str, str], statement: str, told: str):
    answer = call("sql", statement, environment=lake)
    assert (answer.code, answer.out) == (1, "")
    assert told in answer.err
    assert answer.err.count("\n") == 1
