"""How verdicts that belong to no partition reach Dagster: as a run's check results, or recorded by a sensor."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from salesintel_dagster.domain.checks import Promise, Severity, Verdict

LOOKED_AT = 10
"""Newest records of a check among which a verdict is looked for: a run that died before its own left a planned one."""


def specs(promises: Iterable[Promise]) -> list[dg.AssetCheckSpec]:
    """Return the checks as the UI lists them."""
    return [dg.AssetCheckSpec(one.name, asset=one.stage, description=one.description) for one in promises]


def result(found: Verdict, told: Mapping[str, str] | None = None) -> dg.AssetCheckResult:
    """Return a verdict as the check's outcome: expected, found, first offenders, and what else is told."""
    outcome = _outcome(found)
    return dg.AssetCheckResult(
        asset_key=found.promise.stage, **{**outcome, "metadata": {**outcome["metadata"], **(told or {})}}
    )


def evaluation(found: Verdict) -> dg.AssetCheckEvaluation:
    """Return the same for a sensor to record."""
    return dg.AssetCheckEvaluation(asset_key=dg.AssetKey(found.promise.stage), **_outcome(found))


def changed(
    instance: dg.DagsterInstance, verdicts: Iterable[Verdict], *, unrecorded: bool | None = True
) -> list[Verdict]:
    """Return the verdicts that differ from the one recorded last.

    `unrecorded` is what one that was never recorded counts as; None records the first one, whatever it is.
    """
    return [found for found in verdicts if found.passed is not _last_passed(instance, found, unrecorded)]


def named(verdicts: Sequence[Verdict]) -> str:
    """Name verdicts for a sensor's page."""
    return ", ".join(f"{found.promise.name} {'passed' if found.passed else 'failed'}" for found in verdicts)


def _last_passed(instance: dg.DagsterInstance, found: Verdict, unrecorded: bool | None) -> bool | None:  # noqa: FBT001 - a verdict
    """Return the newest verdict; a run that is under way, or died, has only planned one."""
    key = dg.AssetCheckKey(dg.AssetKey(found.promise.stage), found.promise.name)
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=LOOKED_AT):
        event = record.event.dagster_event if record.event is not None else None
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            return bool(event.asset_check_evaluation_data.passed)
    return unrecorded


def _outcome(found: Verdict) -> dict[str, Any]:
    return {
        "check_name": found.promise.name,
        "passed": found.passed,
        "severity": dg.AssetCheckSeverity.ERROR if found.severity is Severity.ERROR else dg.AssetCheckSeverity.WARN,
        "description": found.sentence(),
        "metadata": {
            "expected": found.expected,
            "found": found.found,
            **({"offenders_named": ", ".join(found.offenders)} if found.offenders else {}),
            **found.facts,
        },
    }
