"""F23: an event's price, description and vendor, marked, are searched for in all that Dagster keeps of runs."""

from __future__ import annotations

import logging
from pathlib import Path

import dagster as dg
import pytest

from salesintel_dagster.defs.sales_history_checks import JOB
from salesintel_dagster.domain.errors import TableUnavailable
from salesintel_dagster_tests.defs.carousel_worlds import DagsterSync
from salesintel_dagster_tests.fakes.events import envelope, sold

PRICE, OTHER_PRICE = 48151.62, 48151.63
MARKS = (b"48151", b"canary-words", b"canary-vendor", b"canary-poison")


def test_f23_no_price_and_no_text_of_an_event_is_in_anything_that_dagster_keeps(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    event = sold("S-1", salePrice=PRICE, description="canary-words", vendorId="canary-vendor")
    with caplog.at_level(logging.DEBUG), dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        sync = DagsterSync(instance)
        sync.world.queue.send(envelope(event), "canary-poison", envelope(sold("S-2", salePrice="canary-words")))
        sync.world.table.fail(TableUnavailable("out of reach"))
        sync.tick("carousel_sync_queue")
        cursors = [cursor := sync.watch().cursor]
        assert not sync.run().success
        sync.world.later(minutes=5)
        assert sync.run().success
        sync.world.send(event | {"salePrice": OTHER_PRICE})
        assert sync.run().success
        sync.world.queue.send("canary-poison")
        cursors.append(sync.watch(cursor).cursor)
        assert sync.run(JOB).success
        runs = instance.get_runs()
        assert [run.run_config for run in runs if "ops" in run.run_config] == []
        texts = [str(run.tags).encode() for run in runs] + [str(cursors).encode()]
    assert sync.world.sales() == ["S-1"]
    assert sorted(sync.world.quarantine.codes) == ["CONFLICT", "NOT_JSON", "PRICE_INVALID"]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    captured = capfd.readouterr()
    texts += [*files, captured.out.encode(), captured.err.encode(), caplog.text.encode()]
    assert [mark for mark in MARKS for text in texts if mark in text] == []
