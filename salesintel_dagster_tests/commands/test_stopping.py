from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date

import dagster as dg
import pytest

from salesintel_dagster.commands.runs import _run
from salesintel_dagster.commands.stopping import Stopped, noticing
from salesintel_dagster.defs.smartgo_export import STEP

SWALLOWED = """
import os, signal, sys, time, types, weakref
import click
from salesintel_dagster.commands import app
from salesintel_dagster.local.world import _ended_by_signals

class Thing:
    def __del__(self):
        if {dying}:
            os.kill(os.getpid(), signal.{name})

@click.command()
def status():
    with _ended_by_signals():
        thing = Thing()
        watch = weakref.ref(thing, lambda _: {dying} or os.kill(os.getpid(), signal.{name}))
        del thing
        time.sleep(60)

module = types.ModuleType("salesintel_dagster.commands.status")
module.status = status
sys.modules[module.__name__] = module
app.main(["status"])
"""


@pytest.fixture
def signals_without_effect() -> Iterator[None]:
    """As while Dagster holds them back."""
    before = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("dying", [True, False], ids=["in a __del__", "in a weak reference's callback"])
@pytest.mark.parametrize(
    "name,code,told", [("SIGINT", 130, "\nsalesintel: stopped; what was done stays done\n"), ("SIGTERM", 143, "")]
)
def test_a_signal_whose_exception_python_swallows_stops_the_command_all_the_same(
    name: str, code: int, told: str, *, dying: bool
):
    script = SWALLOWED.format(name=name, dying=dying)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", told)


def test_what_dagsters_handler_raised_and_python_swallowed_stops_the_run_all_the_same(
    capsys: pytest.CaptureFixture[str],
):
    class Thing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    @dg.op(name=STEP, config_schema=dict)
    def export() -> None:
        Thing()
        time.sleep(60)

    @dg.job(name="exporting")
    def exporting() -> None:
        export()

    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(Stopped) as stopped:
        _run(exporting, instance, [date(2026, 11, 20)], {}, {})
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("signals_without_effect")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_whose_handler_was_lost_is_noticed_all_the_same(number: signal.Signals):
    with noticing() as notice:
        assert notice.number() is None
        os.kill(os.getpid(), number)
        assert notice.number() == number
        assert notice.number() == number


@pytest.mark.usefixtures("signals_without_effect")
def test_the_first_signal_counts_and_others_are_none_of_ours():
    with noticing() as notice:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert notice.number() == signal.SIGTERM


@pytest.mark.usefixtures("signals_without_effect")
def test_many_signals_do_no_harm():
    with noticing() as notice:
        for _ in range(1000):
            os.kill(os.getpid(), signal.SIGUSR1)
        assert notice.number() is None


def test_afterwards_signals_go_where_they_went_before():
    with noticing():
        pass
    assert signal.set_wakeup_fd(-1) == -1


def test_off_the_main_thread_nothing_is_noticed():
    found: list[int | None] = []

    def ask() -> None:
        with noticing() as notice:
            found.append(notice.number())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [None]


def test_the_exit_code_is_the_shells_own():
    assert (Stopped("x", signal.SIGINT).exit_code, Stopped("x", signal.SIGTERM).exit_code) == (130, 143)
