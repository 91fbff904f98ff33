"""`salesintel events send|status`, and the group of the other `events` commands (`events_shelves`, `events_stores`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING

import click

from salesintel_dagster.commands.events_shelves import dlq, quarantine
from salesintel_dagster.commands.events_stores import reconcile
from salesintel_dagster.commands.session import session

if TYPE_CHECKING:
    from salesintel_dagster.domain.event_bus import OutgoingEvent
    from salesintel_dagster.domain.sale import Rejection
    from salesintel_dagster.domain.sale_event import EventRules
    from salesintel_dagster.flows.sync.sending import Sent

MOST_SAMPLES = 100_000
SHOWN_LINES = 20


@click.group(epilog="Example: salesintel events send --sample 20, then salesintel events status")
def events() -> None:
    """Sold events: send, look after, put back to work, compare."""


for command in (quarantine, dlq, reconcile):
    events.add_command(command)


@dataclass(slots=True)
class Lines:
    """A file of events, read as it is sent; `rejected` fills meanwhile."""

    file: IO[bytes]
    rules: EventRules
    check: bool
    rejected: list[tuple[int, Rejection]] = field(default_factory=list)

    def __iter__(self) -> Iterator[OutgoingEvent]:
        """Yield the events of the lines that are good; a line that is blank is none."""
        from salesintel_dagster.domain.event_lines import lines_of, read_event_line  # noqa: PLC0415 - after --help
        from salesintel_dagster.domain.sale import Rejection  # noqa: PLC0415 - same

        for number, line in lines_of(self.file):
            found = line if isinstance(line, Rejection) else read_event_line(line, number, self.rules, check=self.check)
            if isinstance(found, Rejection):
                self.rejected.append((number, found))
            else:
                yield found


@events.command(
    short_help="Put sold events on the bus.",
    epilog="Example: salesintel events send --sample 20; or: salesintel events send events.jsonl",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="[FILE]", required=False)
@click.option("--sample", type=click.IntRange(1, MOST_SAMPLES), metavar="N", help="Send N made-up sales instead.")
@click.option("--seed", type=click.IntRange(0), help="The same samples again that day; without it, new sales.")
@click.option("--vectors", is_flag=True, help="Samples carry 1,024 floats: about 20 KB each.")
@click.option("--unchecked", is_flag=True, help="Also send lines that the sync will quarantine.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def send(  # noqa: PLR0913 - an option each
    file: str | None, sample: int | None, seed: int | None, *, vectors: bool, unchecked: bool, as_json: bool
) -> None:
    """Put the events of FILE (- is standard input), or N samples, on the default event bus.

    FILE is JSON lines: a bare detail, or an EventBridge envelope whose detail is sent. The bus gives each event a new
    id, so a detail without a saleId is a new sale each time. A line that breaks a rule of the sync is told with its
    number and stops no other. Where the bus stops answering, what was sent until then is told, and of which lines
    nobody knows. Exit code 1 when one was not sent.
    """
    if (file is None) == (sample is None):
        raise click.UsageError("give FILE or --sample N")
    if file is not None and (seed is not None or vectors):
        raise click.UsageError("--seed and --vectors are of --sample")
    from salesintel_dagster.flows.sync import sending  # noqa: PLC0415 - after --help

    with session() as opened, click.open_file(file or "-", "rb") as lines:
        from salesintel_dagster.commands import events_output as output  # noqa: PLC0415 - after --help
        from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same
        from salesintel_dagster.wiring.event_shelves import event_bus  # noqa: PLC0415 - boto3
        from salesintel_dagster.wiring.events import sync_rules  # noqa: PLC0415 - same

        read = Lines(lines, sync_rules(opened.settings).events, check=not unchecked)
        tenant = min(opened.settings.tenants_of_events)
        source = read if sample is None else _samples(sample, seed, tenant, vectors=vectors)
        with output.progress("events sent", sample) as tell:
            sent = sending.send(event_bus(opened.clients), source, SYSTEM_CLOCK, tell)
    _tell_sent(sent, read, as_json=as_json)
    if sent.error is not None:
        raise type(sent.error)(f"{sent.error}; {_uncertain(sent)}") from sent.error
    if sent.refused or read.rejected:
        sys.exit(1)


def _samples(number: int, seed: int | None, tenant: str, *, vectors: bool) -> Iterator[OutgoingEvent]:
    import random  # noqa: PLC0415 - after --help

    from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same
    from salesintel_dagster.flows.sync.samples import sample_events  # noqa: PLC0415 - same

    chosen = random.SystemRandom().randrange(10**9, 10**12) if seed is None else seed
    return sample_events(number, chosen, tenant, SYSTEM_CLOCK.now().date(), vectors=vectors)


def _tell_sent(sent: Sent, read: Lines, *, as_json: bool) -> None:
    from salesintel_dagster.commands.output import counted, echo_json, printable  # noqa: PLC0415 - after --help

    if as_json:
        rejected = [{"line": line, **asdict(rejection)} for line, rejection in read.rejected]
        refused = [{"line": one.event.place, "code": one.code} for one in sent.refused]
        counts = {"sent": sent.taken, "not_sent": rejected, "refused_by_the_bus": refused}
        echo_json({**counts, "uncertain": list(sent.uncertain)})
        return
    missing = len(read.rejected) + len(sent.refused)
    click.echo(f"{counted(sent.taken, 'event')} sent, {missing} not")
    told = [
        f"line {line}  {found.code}: {found.field} = {found.value}; rule: {found.rule}" for line, found in read.rejected
    ]
    told += [
        f"line {one.event.place}  {one.code}: the bus did not take it{'; send it again' if one.again else ''}"
        for one in sent.refused
    ]
    for line in told[:SHOWN_LINES]:
        click.echo(f"  {printable(line)}")
    if missing > SHOWN_LINES:
        click.echo(f"  ... {missing - SHOWN_LINES} more; --json names all")


def _uncertain(sent: Sent) -> str:
    """Say what became of the last batch: without a saleId, what is sent twice is two sales."""
    first, last = sent.uncertain[0], sent.uncertain[-1]
    return f"of lines {first} to {last} nobody knows whether they were sent, and none after them was"


@events.command(short_help="What waits, what failed, what nobody took.", epilog="Example: salesintel events status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def status(*, as_json: bool) -> None:
    """Show the queue, its dead letters and its quarantine.

    Numbers are SQS's own, which are approximate. Exit code 1 while a dead letter or a quarantined event waits for
    somebody to look at it; a queue that is merely busy is 0.
    """
    with session() as opened:
        from salesintel_dagster.commands import events_output as output  # noqa: PLC0415 - after --help
        from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same
        from salesintel_dagster.flows.sync.state import state_of_events  # noqa: PLC0415 - same
        from salesintel_dagster.wiring import event_shelves as wired  # noqa: PLC0415 - boto3
        from salesintel_dagster.wiring.event_checks import event_queue_watch  # noqa: PLC0415 - same

        settings, clients = opened.settings, opened.clients
        shelves = (wired.dead_letters(settings, clients), wired.event_quarantine(settings, clients))
        state = state_of_events(event_queue_watch(settings, clients), *shelves, SYSTEM_CLOCK)
    output.show_state(state, as_json=as_json)
    if state.needs_a_person:
        sys.exit(1)
