"""`salesintel enrich` by settings: the real command line on the emulator, with nobody at work but the test."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.facts import NoFacts
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import ProviderTransient, TableUnavailable
from salesintel_dagster.flows.enrichment.parts import EnrichmentParts, WorkLimits
from salesintel_dagster.flows.enrichment.work import Worker
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import enrichment
from salesintel_dagster_tests.command_line import Answer, call
from salesintel_dagster_tests.fakes.enrichment import InMemoryEnrichmentTable
from salesintel_dagster_tests.fakes.enrichment_provider import ScriptedProvider
from salesintel_dagster_tests.services import Services

pytestmark = pytest.mark.usefixtures("quick_looks")

HEADER = "product_id,asin,ean,title\n"


class Stage:
    """A deployed stage in the emulator, and a worker over its real queue and ledger with a scripted provider."""

    def __init__(self, clients: AwsClients) -> None:
        self.clients = clients
        stage = f"t{secrets.token_hex(4)}"
        deploy(clients, stage, lambda _line: None)
        self.environment = {
            "SALESINTEL_MODE": "aws",
            "STAGE": stage,
            "AWS_ENDPOINT_URL": clients.target.endpoint_url or "",
            "AWS_ACCESS_KEY_ID": clients.target.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": clients.target.secret_access_key or "",
            "SALESINTEL_KEEPA_KEY": "canary-key-5b1",
        }
        self.settings = Settings(stage=stage)
        self.provider = ScriptedProvider()
        self.table = InMemoryEnrichmentTable()

    def call(self, *arguments: str) -> Answer:
        return call("enrich", *arguments, environment=self.environment)

    def work(self) -> None:
        parts = EnrichmentParts(
            enrichment.enrichment_ledger(self.settings, self.clients),
            enrichment.enrichment_queue(self.settings, self.clients),
            self.provider,
            self.table,
        )
        worker = Worker(
            parts,
            WorkLimits(attempts=1),
            run_id="run",
            new_token=lambda: secrets.token_hex(8),
            clock=SYSTEM_CLOCK,
            tell=lambda _line: None,
        )
        for _ in worker.drain(60, 0):
            pass


@pytest.fixture(scope="module")
def stage(services: Services) -> Stage:
    return Stage(AwsClients(services.aws.new_target()))


@pytest.fixture(autouse=True)
def well(stage: Stage) -> None:
    stage.provider = ScriptedProvider()
    stage.table = InMemoryEnrichmentTable()


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    file = tmp_path / "catalog.csv"
    lines = [f"p-{n},B{n:09d},,Thing {n}" for n in range(12)]
    file.write_text(HEADER + "\n".join([*lines, "p-x,,,no identifier", "p-y,B000000001,,a,b"]) + "\n")
    return file


def test_a_catalog_is_handed_in_followed_and_tried_again(stage: Stage, catalog: Path):
    handed = stage.call("submit", str(catalog), "--catalog", "summer", "--user", "ann", "--json")
    assert handed.code == 0, handed.err
    told = handed.json
    assert (told["products"], told["batches"], told["is_new"], told["not_yet_sent"]) == (12, 1, True, 0)
    assert [(one["line"], one["rejection"]["code"]) for one in told["rejected"]] == [
        (14, "NO_IDENTIFIER"),
        (15, "TOO_MANY_CELLS"),
    ]
    again = stage.call("submit", str(catalog), "--catalog", "summer", "--user", "ann")
    assert f"12 products in 1 batch, handed in before; tracking id {told['tracking_id']}" in again.out
    assert "  line 14  NO_IDENTIFIER: asin = ''; rule: a product needs an asin" in again.out
    waiting = stage.call("status", "summer")
    assert waiting.code == 0
    assert "summer  [..............................]  0 of 12  PENDING" in waiting.out
    assert "tokens unknown" in waiting.out

    stage.provider.none["B000000003"] = NoFacts(Reason.NOT_FOUND, "unknown")
    stage.work()
    enrichment.enrichment_ledger(stage.settings, stage.clients).tokens.note(
        "keepa", TokenLevel(123, 60.0, 0.0, SYSTEM_CLOCK.now())
    )
    done = stage.call("status", "summer", "--watch")
    assert done.code == 0
    assert "12 of 12  DONE" in done.out
    assert "FAILED_NOT_FOUND         1" in done.out
    assert "123 tokens left" in done.out
    assert "salesintel enrich retry summer" in done.out
    listed = stage.call("list", "--user", "ann", "--json").json
    assert [(one["catalog"], one["states"], one["rejected_lines"]) for one in listed] == [
        ("summer", {"DONE": 11, "FAILED_NOT_FOUND": 1}, 2)
    ]
    assert "summer" in stage.call("list", "--user", "ann").out
    assert stage.call("list", "--user", "bob").out == "User bob has handed in no catalog.\n"

    tried = stage.call("retry", "summer")
    assert f"{told['tracking_id']}: 1 product in 1 batch will be tried again; 0 dead letters taken back" in tried.out
    stage.provider.none.clear()
    stage.work()
    assert stage.call("status", "summer", "--json").json["states"] == {"DONE": 12}
    assert stage.call("retry", "summer").out == "Nothing in summer has failed or got stuck.\n"


def test_a_retry_reaches_every_hand_in_of_the_catalog_or_the_one_that_is_named(
    stage: Stage, catalog: Path, tmp_path: Path
):
    stage.provider.always = ProviderTransient(Reason.PROVIDER_DOWN, "answered 500")
    other = tmp_path / "other.csv"
    other.write_text(HEADER + "q-1,B000000099,,x\n")
    older, newer = (
        stage.call("submit", str(file), "--catalog", "spring", "--user", "ann", "--json").json["tracking_id"]
        for file in (catalog, other)
    )
    stage.work()
    assert stage.call("retry", "spring", "--job", "E0").code == 1
    named = stage.call("retry", "spring", "--job", older, "--json").json
    assert [(one["tracking_id"], one["products"]) for one in named["jobs"]] == [(older, 12)]
    stage.work()
    both = stage.call("retry", "spring", "--json").json
    assert [(one["tracking_id"], one["products"]) for one in both["jobs"]] == [(newer, 1), (older, 12)]
    stage.provider.always = None
    stage.work()
    assert stage.call("retry", "spring").out == "Nothing in spring has failed or got stuck.\n"
    queue = enrichment.enrichment_dead_letters(stage.settings, stage.clients)
    ledger = enrichment.enrichment_ledger(stage.settings, stage.clients)
    [job, _] = ledger.jobs.of_catalog(stage.settings.tenant, "spring")
    queue.send([batch.body for batch in ledger.batches.of_job(job)])
    answer = stage.call("retry", "spring")
    assert answer.out == f"{newer}: 1 dead letter of batches that are done deleted\n"


def test_dead_letters_are_shown_and_those_that_are_no_batch_of_ours_are_dropped(stage: Stage, catalog: Path):
    stage.call("submit", str(catalog), "--catalog", "autumn", "--user", "ann")
    ledger = enrichment.enrichment_ledger(stage.settings, stage.clients)
    [job] = ledger.jobs.of_catalog(stage.settings.tenant, "autumn")
    [batch] = ledger.batches.of_job(job)
    queue = enrichment.enrichment_dead_letters(stage.settings, stage.clients)
    queue.send([batch.body, "{", batch.body.replace("autumn", "gone")])
    listed = stage.call("dlq", "list")
    assert listed.code == 0, listed.err
    assert "3 dead letters, 2 of them no batch of ours" in listed.out
    assert "a batch that is PENDING" in listed.out
    assert f" {stage.settings.tenant}  autumn/" in listed.out
    assert "Back to work: salesintel enrich retry autumn" in listed.out
    elsewhere = call("enrich", "dlq", "list", environment=stage.environment | {"TENANT": "acme"})
    assert f"Back to work: TENANT={stage.settings.tenant} salesintel enrich retry autumn" in elsewhere.out
    found = stage.call("dlq", "list", "--json").json["letters"]
    assert sorted((one["catalog"] or "-", one["tenant"] or "-", one["body"][:1]) for one in found) == [
        ("-", "-", "{"),
        ("-", "-", "{"),
        ("autumn", stage.settings.tenant, "{"),
    ]
    [ours] = [one["message"] for one in found if one["catalog"]]
    dry = stage.call("dlq", "drop")
    assert "2 dead letters would be deleted; nothing was done (--apply does it)" in dry.out
    refused = stage.call("dlq", "drop", ours, "--apply")
    assert (refused.code, "no dead letter that may be dropped" in refused.err) == (1, True)
    assert len(stage.call("dlq", "list", "--json").json["letters"]) == 3
    [stray] = [one["message"] for one in found if one["body"] == "{"]
    assert "1 dead letter deleted" in stage.call("dlq", "drop", stray, "--apply").out
    held = enrichment.enrichment_shelf(stage.settings, stage.clients)
    hand = held.take(60)
    assert "About 2 are in somebody else's hand" in stage.call("dlq", "drop", "--apply").out
    held.give_back(hand)
    done = stage.call("dlq", "drop", "--apply", "--json").json
    assert (done["applied"], len(done["letters"]), done["still_there"]) == (True, 1, [])
    assert "1 dead letter taken back" in stage.call("retry", "autumn").out
    assert stage.call("dlq", "list").out == "0 dead letters, 0 of them no batch of ours\n"
    stage.work()


def test_a_catalog_of_which_all_has_failed_ends_with_code_1(stage: Stage, catalog: Path):
    stage.call("submit", str(catalog), "--catalog", "winter", "--user", "eve")
    stage.provider.always = ProviderTransient(Reason.PROVIDER_DOWN, "answered 500")
    stage.work()
    answer = stage.call("status", "winter")
    assert answer.code == 1
    assert "FAILED_PROVIDER_DOWN        12" in answer.out


def test_a_catalog_that_waits_for_the_table_says_so(stage: Stage, catalog: Path):
    stage.call("submit", str(catalog), "--catalog", "dry", "--user", "eve")
    stage.table.fail.append(TableUnavailable("gone"))
    with pytest.raises(TableUnavailable):
        stage.work()
    told = "paid for and kept; the table product_enrichment has not taken it yet"
    answer = stage.call("status", "dry")
    assert answer.code == 0
    assert f"RETRY STORE_FAILED: 12 products, for example p-0: {told}\n" in answer.out
    assert "estimated finish: not known while the table does not take rows" in answer.out
    found = stage.call("status", "dry", "--json").json
    assert found["estimated_finish"] is None
    [why] = found["reasons"]
    assert (why["state"], why["reason"], why["products"]) == ("RETRY", "STORE_FAILED", 12)
    assert why["example"] == {"product_id": "p-0", "detail": told}
    stage.call("retry", "dry")
    stage.work()
    assert "RETRY STORE_FAILED" not in stage.call("status", "dry", "--watch").out


@pytest.mark.parametrize(
    "content,problem",
    [
        (b"", "expected a first line with the column product_id, found nothing"),
        (b"sku,asin\n1,B000000001\n", "expected a first line with the column product_id, found sku, asin"),
        (b"product_id,asin\n\xff\xfe,B000000001\n", "not UTF-8"),
        (b'product_id,asin\n"p1,B000000001\n', "not CSV"),
        (b"product_id,asin\np1,\n", "the catalog has no product that can be looked up"),
    ],
)
def test_a_file_that_is_no_catalog_is_one_sentence(stage: Stage, tmp_path: Path, content: bytes, problem: str):
    file = tmp_path / "catalog.csv"
    file.write_bytes(content)
    answer = stage.call("submit", str(file), "--catalog", "summer", "--user", "ann")
    assert answer.code == 1
    assert problem in answer.err


@pytest.mark.parametrize(
    "arguments,code,problem",
    [
        (("status", "unknown"), 1, "no catalog unknown was handed in"),
        (("status", "a#b"), 1, "catalog 'a#b': expected"),
        (("retry", "unknown"), 1, "no catalog unknown was handed in"),
        (("submit", "nowhere.csv", "--catalog", "c", "--user", "u"), 2, "does not exist"),
        (("list",), 2, "Missing option '--user'"),
    ],
)
def test_what_cannot_be_done_says_why(stage: Stage, arguments: tuple[str, ...], code: int, problem: str):
    answer = stage.call(*arguments)
    assert answer.code == code
    assert problem in answer.err
    assert "canary" not in answer.out + answer.err
