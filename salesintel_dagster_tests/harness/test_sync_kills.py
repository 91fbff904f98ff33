"""F3: real worker processes, killed by SIGKILL while they work."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster_tests.fakes.events import OTHER_TENANT, envelope, sold
from salesintel_dagster_tests.harness.sync_flow import SyncFlow, SyncWorld
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.services import Services

ROOT = Path(__file__).resolve().parents[2]
KILLS = 8
MESSAGES_A_KILL = 10


class Workers:
    """Two workers, one of which is killed and started anew at each `kill`."""

    def __init__(self, launcher: subprocess.Popen[str], chance: random.Random) -> None:
        self._launcher = launcher
        self._chance = chance
        self._pids = [self._start(), self._start()]

    def kill(self) -> None:
        victim = self._pids.pop(self._chance.randrange(2))
        os.kill(victim, signal.SIGKILL)
        self._pids.append(self._start())

    def _start(self) -> int:
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write("start\n")
        self._launcher.stdin.flush()
        return int(self._launcher.stdout.readline())


@contextmanager
def workers(flow: SyncFlow, world: SyncWorld, lake: Path, chance: random.Random) -> Iterator[Workers]:
    target = flow.aws.target
    names = [world.name("events"), world.name("quarantine"), world.name("receipts"), world.sales, world.name("history")]
    command = [sys.executable, "-m", "salesintel_dagster_tests.harness.sync_worker"]
    command += [str(target.endpoint_url), str(target.access_key_id), str(lake), *names]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as launcher:
        try:
            yield Workers(launcher, chance)
        finally:
            assert launcher.stdin is not None
            launcher.stdin.close()
            launcher.wait(20)


def messages(number: int) -> list[str]:
    """Ten messages: sales of two tenants and months, one twice, one of an earlier hand again, poison, a conflict."""
    tenants = [{}, {"tenantId": OTHER_TENANT, "soldAt": "2026-10-03T00:00:00Z"}]
    sales = [sold(f"S-{number}-{n}", **tenants[n % 2]) for n in range(6)]
    again = sold(f"S-{max(0, number - 2)}-0")
    conflict = sold(f"S-{number}-2", salePrice=1)
    return [*(envelope(one, f"e-{number}") for one in [*sales, sales[0], again, conflict]), f"poison {number}"]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_workers_that_are_killed_lose_and_double_nothing(services: Services, tmp_path: Path) -> None:
    """F3"""
    chance = random.Random(7)
    hands = [messages(number) for number in range(KILLS)]
    everything = tuple(body for hand in hands for body in hand)
    with closing(local_catalog(tmp_path)) as catalog:
        flow = SyncFlow(AwsClients(services.aws.new_target()), catalog, messages=())
        world = flow.world()
        with workers(flow, world, tmp_path, chance) as running:
            for hand in hands:
                flow.send(world, hand)
                left = flow.depth(world)
                until(lambda left=left: flow.depth(world) < left)
                time.sleep(chance.uniform(0.0, 0.4))
                running.kill()
            until(lambda: flow.depth(world) == 0)
        flow.messages, world.sent = everything, everything
        flow.check(world)


def until(reached: Callable[[], bool], seconds: float = 100.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "not reached in time"
        time.sleep(0.05)
