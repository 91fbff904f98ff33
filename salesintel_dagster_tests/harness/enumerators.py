"""The three exhaustive enumerators over one flow: crash, second worker, and error at every remote call.

Each runs the flow once undisturbed and counts its calls; then once for every call and way to disturb it, in a world
of its own. A case passes if, once things have gone on, `check` finds what must be true.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from salesintel_dagster_tests.harness.calls import ActAt, CrashAt, Died, FailAt, Interference, Line

World = TypeVar("World")
Kinds = Mapping[str, Callable[[int, World], Interference]]
"""What is done to one call, by its name: made for the call's number and the case's world."""


class Flow(Protocol[World]):
    """One flow as the enumerators need it. `line` sees its remote calls."""

    line: Line

    def world(self) -> World:
        """Return a new world with the flow's inputs in place and nothing done."""

    def start(self, world: World) -> None:
        """Run one worker once. May raise whatever a run may raise."""

    def recover(self, world: World) -> None:
        """Let time pass and workers run until nothing is left to do. Raises where that never comes."""

    def check(self, world: World) -> None:
        """Raise AssertionError where the world is not as it must be after its inputs were worked off."""


@dataclass
class Report:
    """What an enumerator found: the calls of an undisturbed run, how many cases it tried, and which failed how."""

    calls: list[str]
    cases: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def every_crash(
    flow: Flow[World], *, only: Collection[str] = (), reads: Collection[str] = (), first_failure: bool = False
) -> Report:
    """Die before and after each call, then recover.

    Calls named in `reads` change nothing on the other side: to die after one is to die before it, and is left out.
    """
    kinds: Kinds[World] = {
        "died before": lambda number, _world: CrashAt(number, "before"),
        "died after": lambda number, _world: CrashAt(number, "after"),
    }
    return _enumerate(flow, kinds, only, first_failure=first_failure, once=reads)


def every_error(flow: Flow[World], *, only: Collection[str] = (), first_failure: bool = False) -> Report:
    """Fail each call in each way, then recover."""
    kinds: Kinds[World] = {
        "throttled": lambda number, _world: FailAt(number, "throttled"),
        "down": lambda number, _world: FailAt(number, "down"),
        "lost": lambda number, _world: FailAt(number, "lost"),
    }
    return _enumerate(flow, kinds, only, first_failure=first_failure)


def every_interleaving(
    flow: Flow[World],
    second: Callable[[World], object],
    *,
    only: Collection[str] = (),
    first_failure: bool = False,
) -> Report:
    """Let a second worker run to completion before each call of the first, which then goes on; then recover."""

    def run_second(world: World) -> None:
        with flow.line.unseen():
            second(world)

    kinds: Kinds[World] = {"second worker before": lambda number, world: ActAt(number, partial(run_second, world))}
    return _enumerate(flow, kinds, only, first_failure=first_failure)


def _enumerate(
    flow: Flow[World],
    kinds: Kinds[World],
    only: Collection[str],
    *,
    first_failure: bool,
    once: Collection[str] = (),
) -> Report:
    """Try every case, or those of the calls named `only`; `first_failure` ends with the call that has the first.

    Calls named in `once` are disturbed in the first way alone.
    """
    report = undisturbed(flow)
    for number, name in enumerate(report.calls, start=1):
        if report.failures and first_failure:
            break
        if only and name not in only:
            continue
        for kind, interference in islice(kinds.items(), 1 if name in once else None):
            world = flow.world()
            report.cases += 1
            problem = _case(flow, world, interference(number, world))
            if problem is not None:
                report.failures[f"{kind} {number} {name}"] = problem
    return report


def undisturbed(flow: Flow[World]) -> Report:
    """Run the flow once and tell its calls; that alone fails where the world is not as it must be then."""
    world = flow.world()
    with flow.line.run(Interference()):
        flow.start(world)
    report = Report(list(flow.line.trace))
    problem = _settled(flow, world)
    if problem is not None:
        report.failures["undisturbed"] = problem
    return report


def _case(flow: Flow[World], world: World, interference: Interference) -> str | None:
    """Return what went wrong, or None."""
    with flow.line.run(interference), suppress(Exception, Died):
        flow.start(world)
    return _settled(flow, world)


def _settled(flow: Flow[World], world: World) -> str | None:
    try:
        flow.recover(world)
        flow.check(world)
    except Exception as error:  # noqa: BLE001 - a failed case is what is reported
        return "".join(traceback.format_exception_only(error)).strip()
    return None
