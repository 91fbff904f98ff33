"""How verdicts that belong to no partition reach Dagster: as a run's check results, or recorded by a sensor."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from salesintel_dagster.domain.checks import Promise, Severity, Verdict

KEPT = "kept"
RECORDS_LOOKED_AT = 20
REPEATED = "repeats"
"""Metadata of an evaluation that says what the one before said: people were told of that one."""


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


def after_materialisation(
    instance: dg.DagsterInstance, verdicts: Iterable[Verdict]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield every verdict for a run to record, those that have not changed marked as such: nobody is told again.

    The UI shows "Not evaluated" for whatever was judged before the newest materialisation.
    """
    judged = list(verdicts)
    new = {found.promise.name for found in changed(instance, judged, first=True)}
    for found in judged:
        outcome = _outcome(found)
        if found.promise.name not in new:
            outcome["metadata"][REPEATED] = "the verdict recorded before"
        yield dg.AssetCheckEvaluation(asset_key=dg.AssetKey(found.promise.stage), **outcome)


def changed(instance: dg.DagsterInstance, verdicts: Iterable[Verdict], *, first: bool = False) -> list[Verdict]:
    """Return the verdicts that differ from the one recorded last: passed or not, a warning or an error.

    One that was never recorded counts as kept, unless the `first` one is to be recorded whatever it is.
    """
    return [found for found in verdicts if _state(found) != (_recorded(instance, found) or (None if first else KEPT))]


def named(verdicts: Sequence[Verdict]) -> str:
    """Name verdicts for a sensor's page."""
    return ", ".join(f"{found.promise.name} {'passed' if found.passed else 'failed'}" for found in verdicts)


def _state(found: Verdict) -> str:
    return KEPT if found.passed else found.severity.value


def _recorded(instance: dg.DagsterInstance, found: Verdict) -> str | None:
    """Return the state recorded last; an evaluation that is only planned, by a run under way, says nothing."""
    key = dg.AssetCheckKey(dg.AssetKey(found.promise.stage), found.promise.name)
    for record in instance.event_log_storage.get_asset_check_execution_history(key, RECORDS_LOOKED_AT):
        event = record.event.dagster_event if record.event else None
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            told = event.asset_check_evaluation_data
            return KEPT if told.passed else told.severity.value
    return None


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
