"""`salesintel deploy`: the infrastructure template, on AWS or on the embedded world."""

from __future__ import annotations

import click

from salesintel_dagster.commands.session import session


@click.command()
@click.option("--apply", "really", is_flag=True, help="Do it. Without it, only tell what would be deployed where.")
def deploy(*, really: bool) -> None:
    """Create or update the stack salesintel-STAGE: bucket, tables, topic, policies. Data is retained on deletion."""
    from salesintel_dagster.adapters import infrastructure  # noqa: PLC0415 - after --help

    with session() as opened:
        settings = opened.settings
        where = settings.aws_endpoint_url or f"AWS {settings.aws_region}"
        if not really:
            click.echo(f"would deploy the stack of stage {settings.stage} to {where}; --apply does it")
            return
        report = infrastructure.deploy(opened.clients, settings.stage, on_event=click.echo)
        click.echo(str(report))
