"""`salesintel doctor`: is every dependency reachable, permitted and configured, and what to do where it is not."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.session import Session, session
from salesintel_dagster.domain.errors import SettingInvalid, WorldError

if TYPE_CHECKING:
    from salesintel_dagster.domain.diagnosis import Diagnosis

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(epilog="Example: SALESINTEL_MODE=aws STAGE=prod salesintel doctor --json")
@click.argument("names", nargs=-1, metavar="[CHECKS]")
@click.option("--paid-call", is_flag=True, help="Have the model make one vector, which costs 0.00006 USD.")
@click.option("--send-test-alert", is_flag=True, help="Send one alert, marked as a test, to each sink.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
def doctor(names: tuple[str, ...], *, paid_call: bool, send_test_alert: bool, as_json: bool) -> None:
    """Ask every dependency whether it is reachable, permitted and configured; say what to do where it is not.

    With CHECKS only those whose names begin so, for example "source".

    All checks run, each within 30 seconds. Nothing is changed: one small object under staging/ stays, one beside each
    table's files is deleted again. Exit code 1 when a check failed; a warning is none.
    """
    from salesintel_dagster.commands.output import echo_json  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.diagnosis import ill  # noqa: PLC0415 - same

    try:
        with session() as opened:
            found = _examined(opened, names, paid_call=paid_call, send_test_alert=send_test_alert, as_json=as_json)
    except (SettingInvalid, WorldError) as error:
        found = [_nothing_works(error)]
        if not as_json:
            _tell(found[0])
    if as_json:
        echo_json(found)
    if ill(found):
        sys.exit(1)


def _examined(
    opened: Session, names: tuple[str, ...], *, paid_call: bool, send_test_alert: bool, as_json: bool
) -> list[Diagnosis]:
    from salesintel_dagster import wiring  # noqa: PLC0415 - after --help
    from salesintel_dagster.adapters.aws import BriefAwsClients  # noqa: PLC0415 - same
    from salesintel_dagster.commands.live import working  # noqa: PLC0415 - same
    from salesintel_dagster.doctor import checks  # noqa: PLC0415 - Dagster and pyiceberg
    from salesintel_dagster.doctor.patient import Patient  # noqa: PLC0415 - same
    from salesintel_dagster.flows.diagnosis import examine  # noqa: PLC0415 - same

    patient = Patient(
        opened.settings,
        BriefAwsClients(opened.clients.target),
        os.environ,
        paid_call=paid_call,
        send_test_alert=send_test_alert,
    )
    with working("asking every dependency", verbose=as_json):
        found = list(examine(checks(patient, names), wiring.redaction(opened.settings)))
    for one in () if as_json else found:
        _tell(one)
    return found


def _nothing_works(error: SettingInvalid | WorldError) -> Diagnosis:
    from salesintel_dagster.domain.diagnosis import Diagnosis, Health  # noqa: PLC0415 - after --help

    wrong = isinstance(error, SettingInvalid)
    name, remedy = ("settings", "docs/settings.md has every rule") if wrong else ("embedded world", "see the sentence")
    return Diagnosis(name, Health.FAIL, str(error), f"{remedy}; the other checks need it first", 0.0)


def _tell(one: Diagnosis) -> None:
    from salesintel_dagster.commands.output import printable  # noqa: PLC0415 - after --help

    health = click.style(f"{one.health.value:<4}", fg=COLOURS[one.health.value])
    click.echo(f"{health}  {one.name}: {printable(one.found)}")
    if one.remedy:
        click.echo(f"      -> {printable(one.remedy)}")
