"""`salesintel deploy`: the infrastructure template, on AWS or on the embedded world."""

from __future__ import annotations

import click

from salesintel_dagster.commands.session import session


@click.command(epilog="Example: SALESINTEL_MODE=aws STAGE=prod salesintel deploy --apply")
@click.option("--apply", "really", is_flag=True, help="Do it. Without it, only tell what would be deployed where.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def deploy(*, really: bool, as_json: bool) -> None:
    """Create or update the stack salesintel-STAGE: bucket, tables, topic, policies. Data is retained on deletion."""
    from salesintel_dagster.adapters import infrastructure  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.output import echo_json, say  # noqa: PLC0415 - same

    with session() as opened:
        settings = opened.settings
        where = settings.aws_endpoint_url or f"AWS {settings.aws_region}"
        if really:
            report = infrastructure.deploy(
                opened.clients, settings.stage, on_event=say, object_key_arn=settings.kms_key_arn
            )
            if as_json:
                echo_json({"applied": True, "where": where, "report": report})
            else:
                click.echo(str(report))
        elif as_json:
            echo_json({"applied": False, "where": where, "stage": settings.stage})
        else:
            click.echo(f"would deploy the stack of stage {settings.stage} to {where}; --apply does it")
