"""`salesintel events quarantine list|show|replay|drop` and `salesintel events dlq replay`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.session import Session, session

if TYPE_CHECKING:
    from salesintel_dagster.domain.message_shelf import MessageShelf, ShelvedMessage
    from salesintel_dagster.flows.sync.redrive import Look, Wanted

LIMIT = click.option(
    "--limit",
    "most",
    type=click.IntRange(1, 10_000),
    default=1_000,
    show_default=True,
    help="Look at about so many messages; all of them are in memory meanwhile.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
APPLY = click.option("--apply", "really", is_flag=True, help="Do it. Without it, only tell what would be put back.")


@click.group(epilog="Example: salesintel events quarantine list")
def quarantine() -> None:
    """Events that no store takes, why, and trying them again."""


@quarantine.command("list", short_help="The events in quarantine.", epilog="Example: salesintel events quarantine list")
@LIMIT
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, whole events.")
def list_(most: int, *, as_json: bool) -> None:
    """List the events in quarantine with their reasons, oldest first. Nothing is taken away.

    Each by the id of the message that was set aside; one that a crash put there twice is listed once.
    """
    with session() as opened:
        from salesintel_dagster.commands import events_output as output  # noqa: PLC0415 - after --help

        found = _looked(_quarantine(opened), most)
        output.show_list(found, as_json=as_json)


@quarantine.command(
    short_help="One event in quarantine, whole.",
    epilog="Example: salesintel events quarantine show MESSAGE_ID",
)
@click.argument("message_id", metavar="MESSAGE_ID")
@LIMIT
@JSON
def show(message_id: str, most: int, *, as_json: bool) -> None:
    """Show one event's reason and its body as it came. Exit code 1 where there is none of that id."""
    with session() as opened:
        from salesintel_dagster.commands import events_output as output  # noqa: PLC0415 - after --help

        found = _looked(_quarantine(opened), most)
        (one,) = _named(found, (message_id,))
        output.show_message(one, as_json=as_json)


@quarantine.command(
    short_help="Put events back onto the queue (a dry run without --apply).",
    epilog="Example: salesintel events quarantine replay --code TENANT_UNKNOWN --apply",
)
@click.argument("message_ids", metavar="[MESSAGE_ID...]", nargs=-1)
@click.option("--code", help="Only those that are there for this reason.")
@APPLY
@LIMIT
@JSON
def replay(message_ids: tuple[str, ...], code: str | None, most: int, *, really: bool, as_json: bool) -> None:
    """Put quarantined events back onto the queue, after the rules or a store were mended: all, some, or by reason.

    The body goes back as it came. It is sent first and deleted here then, so that a kill in between loses nothing; a
    sale that comes twice is stored once. What is still wrong comes back into quarantine with a new message id. Exit
    code 1 when one was not put back.
    """
    if message_ids and code:
        raise click.UsageError("give message ids or --code")
    with session() as opened:
        shelf = _quarantine(opened)

        def wanted(one: ShelvedMessage) -> bool:
            return (not message_ids or one.origin in message_ids) and (code is None or one.code == code)

        if message_ids:
            _named(_looked(shelf, most), message_ids)
        _replay(opened, shelf, wanted, most, really=really, as_json=as_json)


@quarantine.command(
    short_help="Delete judged events (a dry run without --apply).",
    epilog="Example: salesintel events quarantine drop MESSAGE_ID --apply",
)
@click.argument("message_ids", metavar="MESSAGE_ID...", nargs=-1, required=True)
@APPLY
@LIMIT
@JSON
def drop(message_ids: tuple[str, ...], most: int, *, really: bool, as_json: bool) -> None:
    """Delete quarantined events for good, e.g. conflicts in which the stores are right. Their bodies are not kept.

    Exit code 1 when one is still there, or there is none of an id.
    """
    with session() as opened:
        from salesintel_dagster.commands import events_output as output  # noqa: PLC0415 - after --help
        from salesintel_dagster.flows.sync import redrive  # noqa: PLC0415 - same

        shelf = _quarantine(opened)
        found = _looked(shelf, most)
        named = _named(found, message_ids)
        if not really:
            output.show_would(found, named, as_json=as_json, what=output.DROP)
            return
        done = redrive.drop(shelf, lambda one: one.origin in message_ids, most)
    output.show_dropped(done, as_json=as_json)
    if done.stay:
        sys.exit(1)


@click.group(epilog="Example: salesintel events dlq replay")
def dlq() -> None:
    """Events that were received too often in vain."""


@dlq.command(
    "replay",
    short_help="Put dead letters back onto the queue (a dry run without --apply).",
    epilog="Example: salesintel events dlq replay --apply",
)
@APPLY
@LIMIT
@JSON
def replay_dead_letters(most: int, *, really: bool, as_json: bool) -> None:
    """Put dead letters back onto the queue, after what made them fail was mended.

    Each is sent first and deleted here then, so that a kill in between loses nothing; a sale that comes twice is
    stored once. Exit code 1 when one was not put back.
    """
    with session() as opened:
        from salesintel_dagster.wiring.event_shelves import dead_letters  # noqa: PLC0415 - boto3

        shelf = dead_letters(opened.settings, opened.clients)
        _replay(opened, shelf, lambda _: True, most, really=really, as_json=as_json)


def _replay(  # noqa: PLR0913 - what the two commands were given
    opened: Session, shelf: MessageShelf, wanted: Wanted, most: int, *, really: bool, as_json: bool
) -> None:
    from salesintel_dagster.commands import events_output as output  # noqa: PLC0415 - after --help
    from salesintel_dagster.flows.sync.redrive import redrive  # noqa: PLC0415 - same
    from salesintel_dagster.wiring.event_shelves import event_inlet  # noqa: PLC0415 - boto3

    if not really:
        found = _looked(shelf, most)
        output.show_would(found, [one for one in found.events if wanted(one)], as_json=as_json)
        return
    with output.progress("events put back") as tell:
        done = redrive(shelf, event_inlet(opened.settings, opened.clients), wanted, most, tell)
    output.show_redriven(done, as_json=as_json)
    if done.error is not None:
        raise done.error
    if done.refused or done.sent_but_stay:
        sys.exit(1)


def _quarantine(opened: Session) -> MessageShelf:
    from salesintel_dagster.wiring.event_shelves import event_quarantine  # noqa: PLC0415 - boto3

    return event_quarantine(opened.settings, opened.clients)


def _looked(shelf: MessageShelf, most: int) -> Look:
    from salesintel_dagster.commands.events_output import progress  # noqa: PLC0415 - after --help
    from salesintel_dagster.flows.sync.redrive import look  # noqa: PLC0415 - same

    with progress(f"events of {shelf.name} looked at") as tell:
        return look(shelf, most, tell)


def _named(found: Look, ids: tuple[str, ...]) -> list[ShelvedMessage]:
    """Return the messages of these ids. Raises MessageNotFound, before anything is put back."""
    from salesintel_dagster.domain.errors import MessageNotFound  # noqa: PLC0415 - after --help

    by_id = {one.origin: one for one in found.events}
    missing = [one for one in ids if one not in by_id]
    if missing:
        rest = "" if found.is_whole else f"; {found.more + found.held} were not looked at"
        raise MessageNotFound(f"no message {', '.join(map(repr, missing))} among {len(by_id)}{rest}")
    return [by_id[one] for one in ids]
