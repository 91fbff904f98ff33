"""How enrichment jobs are shown: a table and a bar for people, plain values for scripts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import click

from salesintel_dagster.commands.output import counted, echo_json, echo_table, printable, say
from salesintel_dagster.domain.enrichment.batch import State
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.flows.enrichment.retry import Retried
from salesintel_dagster.flows.enrichment.status import JobStatus
from salesintel_dagster.flows.enrichment.submit import Submitted

SHOWN_REJECTIONS = 20
BAR_CELLS = 30
LIST_HEADER = ("catalog", "tracking id", "handed in", "state", "products", "done", "failed", "left")
LIST_NUMBERS = ("products", "done", "failed", "left")
RETRIED = ("products", "batches", "dead_letters", "outlived", "unsent")
STATES = (State.PENDING, State.RUNNING, State.RETRY, State.DONE)


def show_submitted(submitted: Submitted, rejections: Sequence[tuple[int, Rejection]], *, as_json: bool) -> None:
    """Tell what was handed in, and each line that was not taken."""
    job = submitted.job
    if as_json:
        echo_json(
            {
                "tracking_id": job.job_id,
                "catalog": job.catalog_id,
                "is_new": submitted.is_new,
                "products": job.products,
                "batches": job.batches,
                "not_yet_sent": submitted.unsent,
                "rejected": [{"line": line, "rejection": rejection} for line, rejection in rejections],
            }
        )
        return
    words = "" if submitted.is_new else ", handed in before"
    batches = counted(job.batches, "batch", "batches")
    click.echo(f"{job.catalog_id}: {counted(job.products, 'product')} in {batches}{words}; tracking id {job.job_id}")
    if submitted.unsent:
        click.echo(f"{submitted.unsent} of them could not be sent now and will be within minutes")
    for line, rejection in rejections[:SHOWN_REJECTIONS]:
        told = f"  line {line}  {rejection.code}: {rejection.field} = {rejection.value}; rule: {rejection.rule}"
        click.echo(printable(told))
    if rejections:
        more = len(rejections) - SHOWN_REJECTIONS
        rest = f", {more} more in --json" if more > 0 else ""
        click.echo(f"{counted(len(rejections), 'line')} not taken{rest}")
    click.echo(f"Follow it: salesintel enrich status {job.catalog_id} --watch")


def as_dict(found: JobStatus) -> dict[str, object]:
    """Return a job's status as plain values."""
    job = found.job
    return {
        "catalog": job.catalog_id,
        "tracking_id": job.job_id,
        "user": job.user_id,
        "created_at": job.created_at,
        "state": found.state,
        "products": job.products,
        "finished": found.finished,
        "states": dict(sorted(found.states.items())),
        "reasons": [
            {
                "state": why.state.value,
                "reason": why.reason.value,
                "products": why.products,
                "example": {"product_id": why.product_id, "detail": why.detail},
            }
            for why in found.whys
        ],
        "batches": dict(sorted(found.batch_states.items())),
        "batch_size": job.batch_size,
        "rejected_lines": job.refused,
        "not_yet_sent": found.unsent,
        "tokens_left": found.tokens_left,
        "estimated_finish": None if found.is_final else found.estimated_finish,
        "finished_at": found.estimated_finish if found.is_final else None,
    }


def show_status(found: JobStatus, earlier: int, *, as_json: bool) -> None:
    """Tell how a job stands; `earlier` jobs of the catalog are only counted."""
    if as_json:
        echo_json({**as_dict(found), "earlier_jobs": earlier})
        return
    job = found.job
    click.echo(f"{job.catalog_id}  {bar(found)}  {found.finished} of {job.products}  {found.state}")
    rows = [(name, str(count)) for name, count in _ordered(found)]
    echo_table(("state", "products"), rows, ("products",))
    for why in found.whys:
        told = (
            f"{why.state} {why.reason}: {counted(why.products, 'product')}, for example {why.product_id}: {why.detail}"
        )
        click.echo(printable(told))
    batches = ", ".join(f"{count} {name}" for name, count in sorted(found.batch_states.items()))
    click.echo(f"batches: {batches} (of {job.batch_size} products at most)")
    click.echo(f"provider: {'tokens unknown' if found.tokens_left is None else f'{found.tokens_left} tokens left'}")
    click.echo(_finish(found))
    if job.refused:
        click.echo(f"{counted(job.refused, 'line')} of the file not taken")
    if any(name.startswith(State.FAILED) for name in found.states) and found.is_final:
        click.echo(f"Try the failed ones again: salesintel enrich retry {job.catalog_id}")
    if earlier:
        click.echo(f"{counted(earlier, 'earlier job')} of this catalog, of other products, not shown")


def show_list(found: Sequence[JobStatus], user_id: str, *, as_json: bool) -> None:
    """Tell a user's jobs, one a line."""
    if as_json:
        echo_json([as_dict(one) for one in found])
        return
    if not found:
        click.echo(f"User {user_id} has handed in no catalog.")
        return
    echo_table(LIST_HEADER, [_row(one) for one in found], LIST_NUMBERS)


def show_retried(catalog_id: str, done: Sequence[Retried], *, as_json: bool) -> None:
    """Tell what a retry set going again, a line a job that had something to be tried again."""
    if as_json:
        told = [{"tracking_id": one.job.job_id, **{name: getattr(one, name) for name in RETRIED}} for one in done]
        echo_json({"catalog": catalog_id, "jobs": told})
        return
    for one in done:
        if one.batches:
            click.echo(
                f"{one.job.job_id}: {counted(one.products, 'product')} in {counted(one.batches, 'batch', 'batches')} "
                f"will be tried again; {counted(one.dead_letters, 'dead letter')} taken back"
            )
        if one.outlived:
            click.echo(f"{one.job.job_id}: {counted(one.outlived, 'dead letter')} of batches that are done deleted")
    if not any(one.is_something for one in done):
        click.echo(f"Nothing in {catalog_id} has failed or got stuck.")
    elif any(one.batches for one in done):
        click.echo(f"Follow it: salesintel enrich status {catalog_id} --watch")


def bar(found: JobStatus) -> str:
    """Return the finished share as a bar of ASCII characters."""
    filled = BAR_CELLS * found.finished // found.job.products
    return f"[{'#' * filled}{'.' * (BAR_CELLS - filled)}]"


@contextmanager
def watching(products: int) -> Iterator[Callable[[JobStatus], None]]:
    """Show a job's progress while the block runs: a moving bar on a terminal, elsewhere a line when it has changed."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield _Lines()
        return
    from rich.console import Console  # noqa: PLC0415 - only where it is seen
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (BarColumn(BAR_CELLS), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True, highlight=False, markup=False)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=products)
        yield lambda found: progress.update(task, completed=found.finished, description=_line(found))


class _Lines:
    """One line each time that the products' states have changed; tokens alone refill all the time."""

    def __init__(self) -> None:
        self._last: list[tuple[str, int]] = []

    def __call__(self, found: JobStatus) -> None:
        if _ordered(found) != self._last:
            say(f"{found.finished} of {found.job.products}  {_line(found)}")
            self._last = _ordered(found)


def _line(found: JobStatus) -> str:
    states = "  ".join(f"{name} {count}" for name, count in _ordered(found) if count)
    waits = ", ".join(why.reason for why in found.whys if why.state is State.RETRY)
    tokens = "" if found.tokens_left is None else f"  tokens {found.tokens_left}"
    return f"{states}{f' ({waits} to be tried again)' if waits else ''}{tokens}"


def _ordered(found: JobStatus) -> list[tuple[str, int]]:
    """Return the states in the order of work, then the failures by reason."""
    failed = [(name, count) for name, count in sorted(found.states.items()) if name.startswith(State.FAILED)]
    return [(state.value, found.states.get(state.value, 0)) for state in STATES] + failed


def _finish(found: JobStatus) -> str:
    if found.waits_for_table:
        return "estimated finish: not known while the table does not take rows; the failed runs in the UI say why"
    if found.estimated_finish is None:
        return "estimated finish: not known before the first batch is done; `salesintel up` does the work"
    return f"{'finished' if found.is_final else 'estimated finish'}: {_told(found.estimated_finish)}"


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _row(found: JobStatus) -> tuple[str, ...]:
    job = found.job
    done = found.states.get(State.DONE, 0)
    numbers = (job.products, done, found.finished - done, job.products - found.finished)
    return (job.catalog_id, job.job_id, f"{job.created_at:%Y-%m-%d %H:%M}", found.state, *(str(n) for n in numbers))
