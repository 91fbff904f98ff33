"""One upkeep of one table: survey, compact, expire, remove, survey again. A step that fails stops no other step.

A dry run is a survey that tells what the steps would do; nothing here decides what is old or small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import TableError
from salesintel_dagster.domain.table_keeper import TableKeeper
from salesintel_dagster.domain.upkeep import Step, StepDone, Survey, UpkeepRules

DONE = {
    Step.COMPACT: "small files and manifests written as fewer",
    Step.EXPIRE: "snapshots expired",
    Step.REMOVE: "unreferenced files removed",
}
TO_DO = {
    Step.COMPACT: "small files and manifests to write as fewer",
    Step.EXPIRE: "snapshots to expire",
    Step.REMOVE: "unreferenced files to remove",
}


@dataclass(frozen=True, slots=True)
class Upkept:
    """What was done to a table, or in a dry run would be.

    `survey` is how the table stands now, None where it was never made or, with an `error`, could not be asked.
    """

    table: str
    applied: bool
    survey: Survey | None
    steps: tuple[StepDone, ...] = ()
    error: str = ""

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each thing that failed."""
        told = [f"{self.table}: {step.step.value}: {step.failed}" for step in self.steps if step.failed]
        return (*told, *([f"{self.table}: {self.error}"] if self.error else []))

    @property
    def lines(self) -> tuple[str, ...]:
        """What happened, a line a step, for a log or a terminal."""
        if self.survey is None and not self.steps:
            return (f"{self.table}: {self.error or 'not made yet; its first rows make it'}",)
        return tuple(f"{self.table}: {self._line(step)}" for step in self.steps)

    def _line(self, step: StepDone) -> str:
        if step.failed or step.skipped:
            return f"{step.step.value} {f'FAILED: {step.failed}' if step.failed else f'skipped: {step.skipped}'}"
        what = (DONE if self.applied else TO_DO)[step.step]
        return f"{what}: {step.items}" + (f" ({size(step.bytes)})" if step.bytes else "")


def look_after(keeper: TableKeeper, rules: UpkeepRules, clock: Clock, *, dry_run: bool) -> Upkept:
    """Do one upkeep beside the table's writers; failures are in the answer."""
    try:
        survey = keeper.survey(rules, clock.now())
    except TableError as error:
        return Upkept(keeper.name, applied=False, survey=None, error=str(error))
    if survey is None or dry_run:
        return Upkept(keeper.name, applied=False, survey=survey, steps=survey.rehearsal() if survey else ())
    acts: dict[Step, Callable[[UpkeepRules, datetime], StepDone]] = {
        Step.COMPACT: keeper.compact,
        Step.EXPIRE: keeper.expire,
        Step.REMOVE: keeper.remove,
    }
    steps = tuple(_done(step, acts[step], rules, clock.now()) for step in Step)
    try:
        return Upkept(keeper.name, applied=True, survey=keeper.survey(rules, clock.now()), steps=steps)
    except TableError as error:
        return Upkept(keeper.name, applied=True, survey=None, steps=steps, error=str(error))


def _done(step: Step, act: Callable[[UpkeepRules, datetime], StepDone], rules: UpkeepRules, now: datetime) -> StepDone:
    try:
        return act(rules, now)
    except TableError as error:
        return StepDone(step, failed=str(error))


def size(count: int) -> str:
    """Return bytes for a person: `12.3 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004 - SI
            return f"{amount:.1f} {unit}" if unit != "B" else f"{count} B"
        amount /= 1000
    return f"{amount:.1f} TB"
