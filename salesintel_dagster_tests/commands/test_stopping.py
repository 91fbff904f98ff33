from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from salesintel_dagster.commands.stopping import Stopped, noticing


@pytest.fixture(autouse=True)
def signals_without_effect() -> Iterator[None]:
    """As where Dagster's handler raised in a place from which nothing can be raised."""
    before = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_whose_handler_was_lost_is_noticed_all_the_same(number: signal.Signals):
    with noticing() as notice:
        assert notice.number() is None
        os.kill(os.getpid(), number)
        assert notice.number() == number
        assert notice.number() == number


def test_the_first_signal_counts_and_others_are_none_of_ours():
    with noticing() as notice:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert notice.number() == signal.SIGTERM


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
