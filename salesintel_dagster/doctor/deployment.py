"""Checks of the deployment itself: settings, AWS credentials, this machine's clock and its disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from salesintel_dagster.adapters.aws_probes import caller
from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.domain.diagnosis import Check, Finding, fail, ok, warn
from salesintel_dagster.domain.errors import AwsRefused
from salesintel_dagster.settings import Settings

SKEW_WARNS = timedelta(seconds=60)
SKEW_FAILS = timedelta(seconds=240)
"""AWS refuses signatures that are 5 minutes off."""
GIB = 1024**3
ROOM_FAILS_BYTES = 1 * GIB
ROOM_WARNS_BYTES = 5 * GIB
"""A day of 100,000 sales stages about 0.5 GB at once; the run history of SQLite grows by some 50 MB a month."""
SIGN_IN = (
    "give this process a role or AWS_PROFILE, and check AWS_REGION and AWS_ENDPOINT_URL; "
    "`aws sts get-caller-identity` must answer"
)
SYNCHRONISE = "synchronise this machine's clock (chrony, systemd-timesyncd): AWS refuses signatures 5 minutes off"


def checks(patient: Patient) -> Iterator[Check]:
    """Yield the checks."""
    home = patient.environment.get("DAGSTER_HOME")
    yield Check("settings", partial(settings_told, patient.settings), "docs/settings.md")
    yield Check("aws credentials", partial(credentials, patient), SIGN_IN)
    yield Check("clock", partial(clock_skew, patient), SYNCHRONISE)
    yield Check("disk: temporary files", partial(room, Path(tempfile.gettempdir()), "TMPDIR"), "set TMPDIR")
    if home:
        yield Check("disk: DAGSTER_HOME", partial(room, Path(home), "DAGSTER_HOME"), "set DAGSTER_HOME")


def settings_told(settings: Settings) -> Finding:
    """Name the deployment; settings that break a rule never get here."""
    return ok(
        f"mode {settings.mode.value}, stage {settings.stage}, tenant {settings.tenant}, region {settings.aws_region}, "
        f"catalog {settings.catalog.value}, days of {settings.partition_zone}"
    )


def credentials(patient: Patient) -> Finding:
    """Ask AWS who we are; no permission is needed for that."""
    return ok(f"signed in as {caller(patient.clients.client('sts')).arn}")


def clock_skew(patient: Patient) -> Finding:
    """Compare this machine's clock with the Date of an answer, or of a refusal: a wrong clock is refused too."""
    try:
        told_at = caller(patient.clients.client("sts")).told_at
    except AwsRefused as refused:
        if refused.told_at is None:
            raise
        told_at = refused.told_at
    return skew(told_at, patient.clock.now())


def skew(told_at: datetime | None, now: datetime) -> Finding:
    """Judge the difference between AWS's clock and ours."""
    if told_at is None:
        return warn("AWS's answer held no Date to compare with", "a proxy in between takes headers away")
    off = now - told_at
    found = f"{abs(off.total_seconds()):.0f} s {'ahead of' if off > timedelta(0) else 'behind'} AWS"
    if abs(off) >= SKEW_FAILS:
        return fail(found, SYNCHRONISE)
    return warn(found, SYNCHRONISE) if abs(off) >= SKEW_WARNS else ok(found)


def room(
    folder: Path, variable: str, fails_bytes: int = ROOM_FAILS_BYTES, warns_bytes: int = ROOM_WARNS_BYTES
) -> Finding:
    """Look whether a folder can be written to and has room."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    remedy = f"free some space, or set {variable} to a folder with {warns_bytes / GIB:.0f} GiB"
    if not os.access(there, os.W_OK | os.X_OK):
        return fail(f"{folder} cannot be written to", f"let this user write to it, or set {variable}")
    free = shutil.disk_usage(there).free
    found = f"{free / GIB:.1f} GiB free in {folder}"
    if free < fails_bytes:
        return fail(found, remedy)
    return warn(found, remedy) if free < warns_bytes else ok(found)
