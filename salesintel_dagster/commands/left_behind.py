"""Runs of command lines that were killed: found by the next one, ended, and their places in the pool freed.

A killed run holds its place in the export's pool and looks started for ever; two of them, and the next export waits
without end. Where a daemon runs, its run monitoring cures that for runs that it launched. Here each command line
holds a lock on a file of its own while it exports; a file whose lock is free was left by one that is dead.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from salesintel_dagster.defs.lost_runs import end_dead_run

TAG = "salesintel/command-line"
FOLDER = "command-lines"
KILLED = "the command line that did this run was killed; the days that it committed stay"


@contextmanager
def command_line(instance: dg.DagsterInstance, instance_folder: Path) -> Iterator[str]:
    """End what dead command lines left, then give the tag value of this one, which lives as long as the block."""
    folder = instance_folder / FOLDER
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.lock"):
        _bury(instance, file)
    name = secrets.token_hex(4)  # a tag that fits into the UI's list of runs
    unlocked, own = folder / name, folder / f"{name}.lock"
    descriptor = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unlocked.rename(own)  # locked before anyone can see it
        yield name
        own.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _bury(instance: dg.DagsterInstance, file: Path) -> None:
    with file.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return  # it lives
        for run in instance.get_runs(dg.RunsFilter(tags={TAG: file.stem})):
            end_dead_run(instance, run, KILLED)
        file.unlink(missing_ok=True)
