"""`salesintel enrich dlq list|drop`: batches that no worker survived, and messages that are no batch of ours."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.events_shelves import JSON, LIMIT
from salesintel_dagster.commands.session import session

if TYPE_CHECKING:
    from salesintel_dagster.flows.enrichment.letters import Letter, Letters
    from salesintel_dagster.flows.sync.redrive import Dropped

HEADER = ("message", "sent (UTC)", "received", "tenant", "batch", "what it is")
SHOWN_LETTERS = 50
SHOWN_CHARACTERS = 200


@click.group(epilog="Example: salesintel enrich dlq list")
def dlq() -> None:
    """Messages of the enrichment that were received too often in vain."""


@dlq.command("list", short_help="The dead letters.", epilog="Example: salesintel enrich dlq list")
@LIMIT
@JSON
def list_(most: int, *, as_json: bool) -> None:
    """List the dead letters of all tenants, oldest first: whose batch each is, or why it is none's.

    Nothing is taken away.
    """
    from salesintel_dagster.flows.enrichment.letters import letters  # noqa: PLC0415 - after --help

    with session() as opened:
        from salesintel_dagster.wiring import enrichment  # noqa: PLC0415 - boto3, after --help

        ledger = enrichment.enrichment_ledger(opened.settings, opened.clients)
        found = letters(enrichment.enrichment_shelf(opened.settings, opened.clients), ledger.batches, most)
    _show(found, opened.settings.tenant, as_json=as_json)


@dlq.command(
    short_help="Delete what is no batch of ours (a dry run without --apply).",
    epilog="Example: salesintel enrich dlq drop --apply",
)
@click.argument("message_ids", metavar="[MESSAGE_ID...]", nargs=-1)
@click.option("--apply", "really", is_flag=True, help="Do it. Without it, only tell what would be deleted.")
@LIMIT
@JSON
def drop(message_ids: tuple[str, ...], most: int, *, really: bool, as_json: bool) -> None:
    """Delete dead letters that are no batch of ours, all or those named; --json prints them whole.

    A batch's own dead letter is never deleted: `salesintel enrich retry CATALOG` takes it back. Exit code 1 when one
    was not deleted, perhaps because somebody else looks at it, or one that was named is a batch's or is not there.
    """
    from salesintel_dagster.flows.enrichment import letters as flow  # noqa: PLC0415 - after --help

    with session() as opened:
        from salesintel_dagster.wiring import enrichment  # noqa: PLC0415 - boto3, after --help

        batches = enrichment.enrichment_ledger(opened.settings, opened.clients).batches
        shelf = enrichment.enrichment_shelf(opened.settings, opened.clients)
        found = flow.letters(shelf, batches, most)
        strays = [one for one in found.strays if not message_ids or one.shelved.message_id in message_ids]
        missing = sorted({*message_ids} - {one.shelved.message_id for one in strays})
        done = flow.drop(shelf, strays, most) if really and not missing else None
    _show_dropped(found, strays, missing, done, as_json=as_json)
    if missing or (done is not None and done.stay):
        sys.exit(1)


def _show(found: Letters, tenant: str, *, as_json: bool) -> None:
    """Tell the letters; a retry takes back those of the `tenant` of its settings alone."""
    from salesintel_dagster.commands.events_output import tell_rest  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.output import counted, echo_json, echo_table  # noqa: PLC0415 - same
    from salesintel_dagster.settings import variable_of  # noqa: PLC0415 - pydantic, after --help

    if as_json:
        told = [_as_dict(one) for one in found.letters]
        echo_json({"letters": told, "not_looked_at": found.more, "held_by_others": found.held})
        return
    if found.letters:
        rows = [_row(one) for one in found.letters[:SHOWN_LETTERS]]
        echo_table(HEADER, rows, ("received",))
    if len(found.letters) > SHOWN_LETTERS:
        click.echo(f"{len(found.letters) - SHOWN_LETTERS} more (--json has all)")
    strays = len(found.strays)
    click.echo(f"{counted(len(found.letters), 'dead letter')}, {strays} of them no batch of ours")
    keys = {(one.batch.key.tenant, one.batch.key.catalog_id) for one in found.letters if one.batch is not None}
    for whose, catalog in sorted(keys):
        setting = "" if whose == tenant else f"{variable_of('tenant')}={whose} "
        click.echo(f"Back to work: {setting}salesintel enrich retry {catalog}")
    if strays:
        click.echo("Away with the others: salesintel enrich dlq drop")
    tell_rest(found.more, found.held)


def _show_dropped(
    found: Letters, strays: list[Letter], missing: list[str], done: Dropped | None, *, as_json: bool
) -> None:
    from salesintel_dagster.commands.events_output import NOT_DONE, tell_rest  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.output import counted, echo_json, printable  # noqa: PLC0415 - same

    if as_json:
        told = {"letters": [_as_dict(one) for one in strays], "no_stray_of_this_id": missing}
        told |= {"not_looked_at": found.more, "held_by_others": found.held}
        echo_json({"applied": done is not None, **told, "still_there": None if done is None else list(done.stay)})
        return
    for name in missing:
        click.echo(
            f"{printable(name)}: no dead letter that may be dropped has this id; salesintel enrich dlq list", err=True
        )
    for one in strays:
        body = one.shelved.message.body
        cut = f"{body[:SHOWN_CHARACTERS]}..." if len(body) > SHOWN_CHARACTERS else body
        click.echo(f"  {one.shelved.message_id}  {printable(one.problem)}: {printable(cut)}")
    if done is None:
        click.echo(f"{counted(len(strays), 'dead letter')} would be deleted; {NOT_DONE}")
    else:
        click.echo(f"{counted(done.gone, 'dead letter')} deleted")
        for name in done.stay:
            click.echo(f"  {printable(name)}: still here, or in somebody else's hand; try again")
    tell_rest(found.more, found.held)


def _as_dict(one: Letter) -> dict[str, object]:
    message, batch = one.shelved.message, one.batch
    return {
        "message": message.message_id,
        "sent_at": message.sent_at,
        "received": message.receive_count,
        "tenant": None if batch is None else batch.key.tenant,
        "catalog": None if batch is None else batch.key.catalog_id,
        "batch": None if batch is None else batch.key.batch_id,
        "state": None if batch is None else batch.state.value,
        "problem": one.problem or None,
        "body": message.body,
    }


def _row(one: Letter) -> tuple[str, ...]:
    message, batch = one.shelved.message, one.batch
    what = one.problem if batch is None else f"a batch that is {batch.state}"
    whose, named = ("-", "-") if batch is None else (batch.key.tenant, str(batch.key))
    return (message.message_id, f"{message.sent_at:%Y-%m-%d %H:%M}", str(message.receive_count), whose, named, what)
