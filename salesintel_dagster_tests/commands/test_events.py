"""The `events` commands with MODE=aws on the emulator: bus, queues and stores that `salesintel deploy` makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.expressions import EqualTo

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.domain.errors import SalesUnavailable
from salesintel_dagster.domain.event_queue import Quarantined
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_repository import PutResult
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.flows.sync.parts import SyncParts
from salesintel_dagster.wiring import event_shelves as wired
from salesintel_dagster_tests.command_line import call
from salesintel_dagster_tests.event_stage import EventStage
from salesintel_dagster_tests.fakes.events import envelope, sold
from salesintel_dagster_tests.fakes.message_shelf import InMemoryBus
from salesintel_dagster_tests.services import Services

pytestmark = pytest.mark.usefixtures("quick_looks")

RULE = "rule: a message is one JSON text"


@pytest.fixture(scope="module")
def stage(services: Services, tmp_path_factory: pytest.TempPathFactory) -> EventStage:
    return EventStage(AwsClients(services.aws.new_target()), tmp_path_factory.mktemp("lake"))


@pytest.fixture(autouse=True)
def empty(stage: EventStage) -> None:
    settings = stage.settings
    for name in (settings.event_queue_name, settings.event_dlq_name, settings.event_quarantine_name):
        stage.sqs.purge_queue(QueueUrl=stage.url(name))


def lines(tmp_path: Path, *texts: str) -> str:
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(texts) + "\n")
    return str(file)


class TestSend:
    def test_what_is_sent_arrives_and_nothing_else_on_the_bus_does(self, stage: EventStage, tmp_path: Path):
        """F27"""
        bus = stage.clients.client("events")
        wanted = {"Source": "carousel.products", "DetailType": "carousel.product.sold", "Detail": json.dumps(sold())}
        others = [{**wanted, "Source": "carousel.orders"}, {**wanted, "DetailType": "carousel.product.listed"}]
        assert bus.put_events(Entries=others)["FailedEntryCount"] == 0
        assert stage.depth(stage.settings.event_queue_name) == (0, 0)
        answer = stage.call("send", lines(tmp_path, json.dumps(sold("F27-1")), envelope(sold("F27-2"))))
        assert (answer.code, answer.out) == (0, "2 events sent, 0 not\n"), answer.err
        assert stage.depth(stage.settings.event_queue_name) == (2, 0)
        tally = stage.drain()
        assert (tally.received, tally.written) == (2, 2)
        assert {"F27-1", "F27-2"} <= set(stage.in_history())
        assert {"F27-1", "F27-2"} <= set(stage.in_sales_table())

    def test_a_bad_line_is_told_with_its_number_and_stops_no_other(self, stage: EventStage, tmp_path: Path):
        bad = json.dumps(sold("B-2", salePrice="NaN"))
        file = lines(tmp_path, json.dumps(sold("B-1")), "", bad, "{", "[]", json.dumps(sold("B-3")))
        answer = stage.call("send", file)
        assert answer.code == 1
        assert answer.out.splitlines() == [
            "2 events sent, 3 not",
            "  line 3  PRICE_INVALID: salePrice = 'NaN'; rule: a price is a decimal number",
            "  line 4  NOT_JSON: line = '{'; rule: a message is one JSON text",
            "  line 5  NOT_AN_OBJECT: line = a value of type list; rule: a line is a JSON object",
        ]
        assert stage.depth(stage.settings.event_queue_name) == (2, 0)

    def test_what_is_no_text_or_no_end_of_a_line_is_never_sent_changed(self, stage: EventStage, tmp_path: Path):
        latin = json.dumps(sold("L-2", brand="Caf\u00e9"), ensure_ascii=False).encode("latin-1")
        accent = latin.index(0xE9) + 1
        padded = json.dumps(sold("L-3")).encode() + b" " * (1024 * 1024) + json.dumps(sold("L-4")).encode()
        file = tmp_path / "events.jsonl"
        file.write_bytes(
            b"\n".join([json.dumps(sold("L-1")).encode(), latin, padded, json.dumps(sold("L-5")).encode()])
        )
        answer = stage.call("send", str(file), "--unchecked")
        assert answer.code == 1
        assert answer.out.splitlines() == [
            "2 events sent, 2 not",
            f"  line 2  NOT_UNICODE: line = byte {accent}: invalid continuation byte; rule: a line is UTF-8",
            f"  line 3  TOO_LARGE: line = {len(padded) + 1} bytes; rule: a line has at most 1048576 bytes",
        ]
        assert stage.depth(stage.settings.event_queue_name) == (2, 0)

    def test_a_bus_that_goes_away_hides_neither_what_was_sent_nor_what_was_refused(
        self, stage: EventStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        bus = InMemoryBus(fails_after=1)
        monkeypatch.setattr(wired, "event_bus", lambda _clients: bus)
        file = lines(tmp_path, "{", *(json.dumps(sold(f"W-{n}")) for n in range(2, 26)))
        answer = stage.call("send", file)
        assert answer.code == 1
        assert answer.out.splitlines()[:2] == ["10 events sent, 1 not", "  line 1  NOT_JSON: line = '{'; " + RULE]
        told = "of lines 12 to 21 nobody knows whether they were sent, and none after them was"
        assert answer.err.splitlines()[-1] == f"salesintel: the bus is down; {told}"
        bus.fails_after = bus.calls + 1
        assert stage.call("send", file, "--json").json["uncertain"] == list(range(12, 22))

    def test_unchecked_it_is_sent_and_quarantined_by_the_sync(self, stage: EventStage, tmp_path: Path):
        file = lines(tmp_path, json.dumps(sold("U-1", tenantId="somebody")))
        assert stage.call("send", file, "--unchecked").code == 0
        assert stage.drain().quarantined == 1

    def test_samples_are_new_each_time_and_the_same_by_seed(self, stage: EventStage):
        for _ in range(2):
            assert stage.call("send", "--sample", "12", "--json").json["sent"] == 12
        assert stage.drain().written == 24
        for _ in range(2):
            assert stage.call("send", "--sample", "3", "--seed", "5", "--vectors").code == 0
        tally = stage.drain()
        assert (tally.received, tally.written, tally.duplicates) == (6, 3, 3)

    def test_usage(self, stage: EventStage):
        assert stage.call("send").code == 2
        assert stage.call("send", "--sample", "1", __file__).code == 2


class Down:
    """A sales table that is out of reach."""

    def __init__(self, true: Any) -> None:  # noqa: ANN401 - any repository
        self._true = true

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - same
        return getattr(self._true, name)

    def put(self, context: CallerContext, record: SaleRecord) -> PutResult:
        raise SalesUnavailable(f"{context.tenant} {record.sale_id}: the sales table is down")


def down(parts: SyncParts) -> SyncParts:
    return replace(parts, ledger=Down(parts.ledger))  # type: ignore[arg-type]


class TestDeadLetters:
    def test_what_failed_five_times_is_put_back_and_then_succeeds(self, stage: EventStage, tmp_path: Path):
        """F17, F4: after a redrive of dead letters"""
        settings = stage.settings
        once, twice = json.dumps(sold("D-1")), json.dumps(sold("D-2"))
        assert stage.call("send", lines(tmp_path, twice)).code == 0
        assert stage.drain().written == 1
        assert stage.call("send", lines(tmp_path, once)).code == 0
        stage.put(settings.event_queue_name, twice)
        # The receipt answers the second event, so only the store's failure counts against the first.
        broken = down(stage.parts())
        for _ in range(5):
            with pytest.raises(SalesUnavailable):
                stage.drain(broken)
            stage.show_again()
        assert stage.drain(broken).received == 0
        dry = stage.call("dlq", "replay")
        assert (dry.code, dry.out.splitlines()[-1]) == (
            0,
            "1 event would go back onto the queue; nothing was done (--apply does it)",
        )
        assert "received 6 times" in dry.out  # five by the sync, one by this look
        state = stage.call("status", "--json")
        assert (state.code, state.json["dlq"]["waiting"]) == (1, 1)
        assert stage.depth(settings.event_dlq_name) == (1, 0)
        done = stage.call("dlq", "replay", "--apply")
        assert (done.code, done.out) == (0, "1 event back on the queue\n")
        assert stage.depth(settings.event_dlq_name) == (0, 0)
        assert stage.drain().written == 1
        stage.put(settings.event_dlq_name, once, twice)
        assert stage.call("dlq", "replay", "--apply", "--json").json["moved"] == 2
        assert stage.drain().duplicates == 2
        for stored in (stage.in_history(), stage.in_sales_table()):
            assert [stored.count(sale) for sale in ("D-1", "D-2")] == [1, 1]
        assert stage.call("status").code == 0


def test_quarantine_is_listed_shown_and_put_back_by_id_and_by_code(stage: EventStage):
    foreign = [json.dumps(sold(f"Q-{n}", tenantId="somebody")) for n in range(2)]
    stage.put(stage.settings.event_queue_name, *foreign, json.dumps(sold("Q-2", salePrice=-1)))
    assert stage.drain().quarantined == 3
    listed = stage.call("quarantine", "list", "--json").json["messages"]
    ids = {json.loads(one["body"])["saleId"]: one["message"] for one in listed}
    answer = stage.call("quarantine", "list")
    header, *rows, last = answer.out.splitlines()
    assert header.split()[0] == "message"
    assert last == "3 events in quarantine"
    assert sum("TENANT_UNKNOWN" in row for row in rows) == 2
    state = stage.call("status")
    assert state.code == 1
    assert "in quarantine: 2 TENANT_UNKNOWN" in state.out
    whole = stage.call("quarantine", "show", ids["Q-2"])
    assert "PRICE_NOT_POSITIVE" in whole.out
    assert '"saleId": "Q-2"' in whole.out
    wrong = stage.call("quarantine", "replay", ids["Q-0"], "nobody", "--apply")
    assert (wrong.code, wrong.err) == (1, "salesintel: no message 'nobody' among 3\n")
    assert stage.depth(stage.settings.event_quarantine_name) == (3, 0)
    assert stage.call("quarantine", "replay", ids["Q-0"], "--apply").code == 0
    assert stage.depth(stage.settings.event_quarantine_name) == (2, 0)
    dry = stage.call("quarantine", "replay", "--code", "TENANT_UNKNOWN", "--json").json
    assert (dry["applied"], dry["would_move"]) == (False, [ids["Q-1"]])
    assert stage.depth(stage.settings.event_queue_name) == (1, 0)
    done = stage.call("quarantine", "replay", "--code", "TENANT_UNKNOWN", "--apply")
    assert (done.code, done.out) == (0, "1 event back on the queue\n")
    assert stage.depth(stage.settings.event_quarantine_name) == (1, 0)
    assert stage.drain().quarantined == 2
    assert stage.call("quarantine", "replay", ids["Q-2"], "--code", "X").code == 2


def test_one_that_a_crash_has_put_into_quarantine_twice_is_one_event(stage: EventStage):
    stage.put(stage.settings.event_queue_name, json.dumps(sold("T-1", salePrice=-1)), "poison")
    (message, _) = messages = stage.parts().queue.receive(10, 0)
    wrong = Rejection("PRICE_NOT_POSITIVE", "salePrice", "-1", "a price is above zero")
    for one in (message, *messages):
        stage.parts().quarantine.put([Quarantined(one, wrong)])
    stage.parts().queue.delete(messages)
    answer = stage.call("quarantine", "list")
    assert answer.out.splitlines()[-1] == "2 events in quarantine, and 1 copy that a crash has left"
    told = stage.call("quarantine", "list", "--json").json["messages"]
    assert {one["message"]: one["copies"] for one in told} == {message.message_id: 2, messages[1].message_id: 1}
    assert "in quarantine: 2 PRICE_NOT_POSITIVE" in stage.call("status").out
    assert stage.call("quarantine", "show", message.message_id).out.splitlines()[-1] == message.body
    done = stage.call("quarantine", "replay", message.message_id, "--apply")
    assert (done.code, done.out) == (0, "1 event back on the queue\n")
    assert stage.depth(stage.settings.event_queue_name) == (1, 0)
    assert stage.depth(stage.settings.event_quarantine_name) == (1, 0)


def test_a_judged_event_is_dropped_from_quarantine_and_no_other(stage: EventStage):
    stage.put(stage.settings.event_queue_name, "poison", "also poison")
    assert stage.drain().quarantined == 2
    first, second = (one["message"] for one in stage.call("quarantine", "list", "--json").json["messages"])
    would = stage.call("quarantine", "drop", first)
    assert would.out.splitlines()[-1] == "1 event would be deleted for good; nothing was done (--apply does it)"
    assert stage.depth(stage.settings.event_quarantine_name) == (2, 0)
    assert stage.call("quarantine", "drop", "none", "--apply").code == 1
    done = stage.call("quarantine", "drop", first, "--apply")
    assert (done.code, done.out) == (0, "1 event deleted for good\n")
    (left,) = stage.call("quarantine", "list", "--json").json["messages"]
    assert left["message"] == second
    assert stage.depth(stage.settings.event_queue_name) == (0, 0)
    assert stage.call("quarantine", "drop").code == 2


def test_a_replay_that_breaks_off_tells_what_it_has_moved(services: Services, tmp_path: Path):
    stage = EventStage(AwsClients(services.aws.new_target()), tmp_path)
    stage.put(stage.settings.event_dlq_name, "a letter")
    stage.sqs.delete_queue(QueueUrl=stage.url(stage.settings.event_queue_name))
    broken = stage.call("dlq", "replay", "--apply")
    first, second = broken.out.splitlines()
    assert (broken.code, first) == (1, "0 events back on the queue")
    assert second.endswith(": perhaps sent, and still here; sending it again does no harm")
    assert stage.settings.event_queue_name in broken.err
    told = stage.call("dlq", "replay", "--apply", "--json").json
    assert (told["moved"], len(told["uncertain"])) == (0, 1)


class TestReconcile:
    def test_days_that_cannot_be_compared_are_told_and_not_called_the_same(self, stage: EventStage):
        answer = stage.call("reconcile", "2020-02-28..2020-02-29", "--settle", "0")
        told = "2 days not compared: the sales table forgets a sale after two years"
        assert (answer.code, answer.out.splitlines()[1:]) == (0, [told])
        answer = stage.call("reconcile", "2020-02-29", "--settle", "0", "--json")
        assert answer.json == {"days": [], "not_compared": ["2020-02-29"], "repaired": None}

    @pytest.mark.parametrize("side", ["sales_history", "sales_table"])
    def test_a_row_deleted_by_hand_is_named_restored_and_then_all_is_the_same(self, stage: EventStage, side: str):
        """F28"""
        day = "2026-11-03" if side == "sales_history" else "2026-11-04"
        sales = [sold(f"R-{side}-{n}", soldAt=f"{day}T12:00:00Z", brand=None) for n in range(3)]
        stage.put(stage.settings.event_queue_name, *map(json.dumps, sales))
        assert stage.drain().written == 3
        gone = f"R-{side}-1"
        if side == "sales_history":
            stage.history().delete(EqualTo("sale_id", gone))
        else:
            stage.parts().ledger.delete(CallerContext("carousel-labs"), gone)
        asked = ("reconcile", day, "--settle", "0")
        found = stage.call(*asked)
        where = "sales_history" if side == "sales_history" else "the sales table"
        assert found.code == 1
        assert f"  carousel-labs {day} {gone}: missing in {where}\n" in found.out
        repaired = stage.call(*asked, "--repair")
        assert repaired.code == 0, repaired.out
        assert "Repaired: " in repaired.out
        again = stage.call(*asked, "--json")
        assert again.code == 0
        assert [one["differences"] for one in again.json["days"]] == [0]
        assert gone in stage.in_history()
        assert gone in stage.in_sales_table()


def test_a_queue_that_is_not_there_is_told_with_the_way_out(stage: EventStage):
    for words in (["status"], ["dlq", "replay"], ["quarantine", "list"]):
        answer = call("events", *words, environment={**stage.environment, "STAGE": "nobody"})
        assert answer.code == 1
        assert "salesintel deploy --apply" in answer.err
