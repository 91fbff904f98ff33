"""`salesintel deploy`: the infrastructure template, on AWS or on the embedded world."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.session import session

if TYPE_CHECKING:
    from salesintel_dagster.adapters.infrastructure_request import Choices
    from salesintel_dagster.settings import Settings


@click.command(epilog="Example: SALESINTEL_MODE=aws STAGE=prod salesintel deploy --apply")
@click.option("--apply", "really", is_flag=True, help="Do it. Without it, only tell what would change where.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def deploy(*, really: bool, as_json: bool) -> None:
    """Create or update the stack salesintel-STAGE: bucket, tables, topic, policies. Data is retained on deletion.

    Without --apply CloudFormation is asked for a change set, which is shown and deleted.
    """
    from salesintel_dagster.adapters import infrastructure, infrastructure_changes  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.output import echo_json, say  # noqa: PLC0415 - same

    with session() as opened:
        settings, clients = opened.settings, opened.clients
        where = settings.aws_endpoint_url or f"AWS {settings.aws_region}"
        choices = choices_of(settings)
        if really:
            report = infrastructure.deploy(clients, settings.stage, say, choices=choices)
            told: dict[str, object] = {"report": report}
            answer = str(report)
        else:
            planned = infrastructure_changes.plan(clients, settings.stage, choices)
            told = {"plan": planned}
            answer = f"{planned}\nNothing was done to {where}; --apply does it."
    if as_json:
        echo_json({"applied": really, "where": where, "stage": settings.stage, **told})
    else:
        click.echo(answer)


def choices_of(settings: Settings) -> Choices:
    """Return what the settings choose, and of the model only an id of Bedrock's own.

    An ARN (an inference profile, a provisioned model) needs a statement of its own: docs/aws.md.
    """
    from salesintel_dagster.adapters.infrastructure_request import Choices  # noqa: PLC0415 - after --help

    model = settings.embedding_model
    allowed = model if settings.mode.value == "aws" and not model.startswith("arn:") else None
    return Choices(allowed, settings.kms_key_arn, settings.slow_export_seconds)
