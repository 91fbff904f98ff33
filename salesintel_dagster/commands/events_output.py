"""How the `events` commands tell what they found and did: tables and lines for people, JSON for scripts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC

import click

from salesintel_dagster.commands.output import counted, echo_json, echo_table, printable, say
from salesintel_dagster.domain.message_shelf import ShelvedMessage, by_origin
from salesintel_dagster.flows.sync.redrive import Dropped, Look, Redriven
from salesintel_dagster.flows.sync.state import EventsState, QueueState

STATE_HEADER = ("queue", "waiting", "in flight", "delayed", "oldest")
LIST_HEADER = ("message", "sent (UTC)", "received", "code", "field", "value", "rule", "tenant", "sale")
SHOWN_MESSAGES = 50
SHOWN_VALUE = 40
LINE_EVERY = 1_000
"""Without a terminal, long work speaks once in so many."""
NOT_DONE = "nothing was done (--apply does it)"
BACK = ("would_move", "go back onto the queue")
DROP = ("would_drop", "be deleted for good")


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a growing number while the block runs: a bar or a count on a terminal, elsewhere a line now and then."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield _Lines(what)
        return
    from rich.console import Console  # noqa: PLC0415 - only where it is seen
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False, markup=False), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


class _Lines:
    """A line each LINE_EVERY."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = 0

    def __call__(self, done: int) -> None:
        if done // LINE_EVERY > self._told:
            self._told = done // LINE_EVERY
            say(f"{done} {self._what}")


def show_state(state: EventsState, *, as_json: bool) -> None:
    """Tell how the three queues stand."""
    queues = {"queue": state.queue, "dlq": state.dead_letters, "quarantine": state.quarantine}
    if as_json:
        told = {name: {**_depth(one), "oldest_seconds": one.oldest_seconds} for name, one in queues.items()}
        told["quarantine"] |= {"codes": state.quarantine.codes, "not_looked_at": state.quarantine.not_looked_at}
        echo_json({**told, "needs_a_person": state.needs_a_person})
        return
    rows = [(one.name, *(str(n) for n in _numbers(one)), _age(one)) for one in queues.values()]
    echo_table(STATE_HEADER, rows, STATE_HEADER[1:])
    for code, count in state.quarantine.codes.items():
        click.echo(f"  in quarantine: {count} {printable(code)}")
    if state.quarantine.not_looked_at:
        click.echo(f"  in quarantine: {state.quarantine.not_looked_at} not looked at")
    if state.dead_letters.depth.total:
        click.echo("Dead letters: salesintel events dlq replay")
    if state.quarantine.depth.total:
        click.echo("Quarantine: salesintel events quarantine list")


def show_list(found: Look, *, as_json: bool) -> None:
    """Tell what lies on a shelf, a line an event."""
    if as_json:
        copies = [len(those) for those in by_origin(found.messages)]
        messages = [
            {**as_dict(one), "copies": count, "body": one.message.body}
            for one, count in zip(found.events, copies, strict=True)
        ]
        echo_json({"messages": messages, "not_looked_at": found.more, "held_by_others": found.held})
        return
    events = found.events
    if events:
        rows = [_row(one) for one in events[:SHOWN_MESSAGES]]
        echo_table(LIST_HEADER, rows, ("received",))
    hidden = len(events) - SHOWN_MESSAGES
    if hidden > 0:
        click.echo(f"{hidden} more (--json has all)")
    twice = len(found.messages) - len(events)
    told = f", and {counted(twice, 'copy', 'copies')} that a crash has left" if twice else ""
    click.echo(f"{counted(len(events), 'event')} in quarantine{told}")
    tell_rest(found.more, found.held)


def tell_rest(more: int, held: int) -> None:
    """Tell what was not looked at."""
    if more:
        click.echo(f"About {more} more were not looked at: --limit")
    if held:
        click.echo(f"About {held} are in somebody else's hand now and come back within two minutes")


def show_message(one: ShelvedMessage, *, as_json: bool) -> None:
    """Tell a message whole: its reason and its body as it came."""
    if as_json:
        echo_json({**as_dict(one), "body": one.message.body})
        return
    for name, value in as_dict(one).items():
        click.echo(f"{name:<14} {'-' if value is None else printable(str(value))}")
    click.echo(printable(one.message.body))


def as_dict(one: ShelvedMessage) -> dict[str, object]:
    """Return a message without its body."""
    names = {
        "code": "code",
        "field": "field",
        "value": "value",
        "rule": "rule",
        "tenant": "tenantId",
        "sale_id": "saleId",
        "payload_hash": "payloadHash",
        "held_hash": "heldHash",
        "first_sent_at": "sentAt",
    }
    return {
        "message": one.origin,
        "sent_at": one.message.sent_at,
        "received": one.message.receive_count,
        **{ours: one.attributes.get(theirs) for ours, theirs in names.items()},
    }


def show_would(found: Look, wanted: Sequence[ShelvedMessage], *, as_json: bool, what: tuple[str, str] = BACK) -> None:
    """Tell what a replay would put back, or `what` else would be done."""
    if as_json:
        ids = [one.origin for one in wanted]
        echo_json({"applied": False, what[0]: ids, "not_looked_at": found.more, "held_by_others": found.held})
        return
    for one in wanted[:SHOWN_MESSAGES]:
        reason = f"  {one.code}" if one.code else ""
        click.echo(
            f"  {printable(one.origin)}  received {counted(one.message.receive_count, 'time')}{printable(reason)}"
        )
    if len(wanted) > SHOWN_MESSAGES:
        click.echo(f"  ... {len(wanted) - SHOWN_MESSAGES} more")
    click.echo(f"{counted(len(wanted), 'event')} would {what[1]}; {NOT_DONE}")
    tell_rest(found.more, found.held)


def show_dropped(done: Dropped, *, as_json: bool) -> None:
    """Tell what was deleted for good."""
    if as_json:
        echo_json({"applied": True, "dropped": done.gone, "stay": list(done.stay)})
        return
    click.echo(f"{counted(done.gone, 'event')} deleted for good")
    for message in done.stay:
        click.echo(f"  {message}: still here; try again")


def show_redriven(done: Redriven, *, as_json: bool) -> None:
    """Tell what a replay put back."""
    if as_json:
        refused = [{"message": message, "reason": reason} for message, reason in done.refused]
        left = {"not_looked_at": done.more, "held_by_others": done.held}
        echo_json(
            {
                "applied": True,
                "moved": done.moved,
                "sent_but_stay": done.sent_but_stay,
                "refused": refused,
                "uncertain": done.uncertain,
                **left,
            }
        )
        return
    click.echo(f"{counted(done.moved, 'event')} back on the queue")
    for message in done.sent_but_stay:
        click.echo(f"  {message}: sent, and still here; sending it again does no harm")
    for message in done.uncertain:
        click.echo(f"  {printable(message)}: perhaps sent, and still here; sending it again does no harm")
    for message, reason in done.refused:
        click.echo(f"  {message}: the queue did not take it: {printable(reason)}")
    tell_rest(done.more, done.held)


def _numbers(one: QueueState) -> tuple[int, int, int]:
    return one.depth.waiting, one.depth.in_flight, one.depth.delayed


def _depth(one: QueueState) -> dict[str, object]:
    return {
        "name": one.name,
        "waiting": one.depth.waiting,
        "in_flight": one.depth.in_flight,
        "delayed": one.depth.delayed,
    }


def _age(one: QueueState) -> str:
    if one.oldest_seconds is None:
        return "unknown" if one.depth.total else "-"
    seconds = int(one.oldest_seconds)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _row(one: ShelvedMessage) -> tuple[str, ...]:
    told = as_dict(one)
    value = str(told["value"] or "-")
    shown = value if len(value) <= SHOWN_VALUE else f"{value[: SHOWN_VALUE - 3]}..."
    texts = (told["code"], told["field"], shown, told["rule"], told["tenant"], told["sale_id"])
    sent = f"{one.message.sent_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return (
        printable(one.origin),
        sent,
        str(one.message.receive_count),
        *(printable(str(text or "-")) for text in texts),
    )
