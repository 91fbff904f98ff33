"""`salesintel enrich submit|status|list|retry`: catalogs of products and how far their enrichment is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.enrich_letters import dlq
from salesintel_dagster.commands.session import Session, session

if TYPE_CHECKING:
    from salesintel_dagster.domain.enrichment.job import Job
    from salesintel_dagster.flows.enrichment.parts import EnrichmentLedger
    from salesintel_dagster.flows.enrichment.status import JobStatus

WATCH_SECONDS = 2.0


@click.group(epilog="Example: salesintel enrich submit catalog.csv --catalog summer-2026 --user ann")
def enrich() -> None:
    """Catalogs of products: hand one in, see how far it is, try again what failed.

    The work itself is done where the Dagster daemon runs (`salesintel up`); results are in the table
    product_enrichment, for example: salesintel sql "SELECT * FROM product_enrichment LIMIT 5"
    """


enrich.add_command(dlq)


@enrich.command(
    short_help="Hand in a catalog.",
    epilog="Example: salesintel enrich submit catalog.csv --catalog summer-2026 --user ann",
)
@click.argument("file", metavar="CATALOG.csv", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--catalog", "catalog_id", required=True, metavar="ID", help="What the catalog is called from now on.")
@click.option("--user", "user_id", required=True, metavar="ID", help="Whose catalog it is.")
@click.option("--batch-size", type=click.IntRange(5, 50), help="Products in a batch; follows the catalog if not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def submit(file: Path, catalog_id: str, user_id: str, batch_size: int | None, *, as_json: bool) -> None:
    """Hand in CATALOG.csv for enrichment and answer at once, with a tracking id.

    The file needs the column product_id and, for each product, an asin, an ean or a upc; other columns are kept
    beside the facts. Lines that cannot be taken are told with their rule and stop no other. The same products again
    are the same job.
    """
    from salesintel_dagster.commands.enrich_files import catalog_of  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.enrich_show import show_submitted  # noqa: PLC0415 - same
    from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same
    from salesintel_dagster.flows.enrichment.submit import Submission  # noqa: PLC0415 - same
    from salesintel_dagster.flows.enrichment.submit import submit as hand_in  # noqa: PLC0415 - same

    catalog = catalog_of(file)
    with session() as opened:
        from salesintel_dagster.wiring import enrichment  # noqa: PLC0415 - boto3, after --help

        settings = opened.settings
        size = batch_size or settings.enrichment_batch_size
        asked = Submission(settings.tenant, catalog_id, user_id, catalog, size)
        queue = enrichment.enrichment_queue(settings, opened.clients)
        submitted = hand_in(asked, _ledger(opened), queue, SYSTEM_CLOCK)
    show_submitted(submitted, catalog.rejections, as_json=as_json)


@enrich.command(short_help="How far a catalog is.", epilog="Example: salesintel enrich status summer-2026 --watch")
@click.argument("catalog_id", metavar="CATALOG")
@click.option("--watch", is_flag=True, help="Go on until all its products are done or failed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output; with --watch the last one.")
def status(catalog_id: str, *, watch: bool, as_json: bool) -> None:
    """How far CATALOG is: its products by state, why some wait or failed, the provider's tokens, when it may be done.

    Exit code 1 when there is no such catalog, and when all of its products failed.
    """
    from salesintel_dagster.commands.enrich_show import show_status, watching  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same

    with session() as opened:
        ledger = _ledger(opened)
        jobs = _jobs(opened, ledger, catalog_id)
        if watch:
            with watching(jobs[0].products) as tell:
                while not (found := _status(opened, ledger, jobs[0])).is_final:
                    tell(found)
                    SYSTEM_CLOCK.sleep(WATCH_SECONDS)
        found = _status(opened, ledger, jobs[0])
    show_status(found, len(jobs) - 1, as_json=as_json)
    if found.state == "FAILED":
        sys.exit(1)


@enrich.command("list", short_help="A user's catalogs.", epilog="Example: salesintel enrich list --user ann")
@click.option("--user", "user_id", required=True, metavar="ID", help="Whose catalogs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
def list_(user_id: str, *, as_json: bool) -> None:
    """The catalogs that a user has handed in, newest first."""
    from salesintel_dagster.commands.enrich_show import show_list  # noqa: PLC0415 - after --help

    with session() as opened:
        ledger = _ledger(opened)
        found = [_status(opened, ledger, job) for job in ledger.jobs.of_user(opened.settings.tenant, user_id)]
    show_list(found, user_id, as_json=as_json)


@enrich.command(
    short_help="Try a catalog's failed products again.", epilog="Example: salesintel enrich retry summer-2026"
)
@click.argument("catalog_id", metavar="CATALOG")
@click.option("--job", "tracking_id", metavar="TRACKING_ID", help="Only this hand-in; all of the catalog without it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def retry(catalog_id: str, tracking_id: str | None, *, as_json: bool) -> None:
    """Try again what failed in CATALOG, after the provider or a setting was mended; each try costs its tokens.

    That is everything that was handed in under this name and failed. Products that are done are left alone. Batches
    among the dead letters come back.
    """
    from salesintel_dagster.commands.enrich_show import show_retried  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same
    from salesintel_dagster.flows.enrichment.retry import retry as try_again  # noqa: PLC0415 - same

    with session() as opened:
        from salesintel_dagster.wiring import enrichment  # noqa: PLC0415 - boto3, after --help

        ledger = _ledger(opened)
        jobs = _jobs(opened, ledger, catalog_id, tracking_id)
        queue = enrichment.enrichment_queue(opened.settings, opened.clients)
        dead_letters = enrichment.enrichment_dead_letters(opened.settings, opened.clients)
        done = try_again(jobs, ledger, queue, dead_letters, SYSTEM_CLOCK)
    show_retried(catalog_id, done, as_json=as_json)


def _ledger(opened: Session) -> EnrichmentLedger:
    from salesintel_dagster.wiring import enrichment  # noqa: PLC0415 - boto3, after --help

    return enrichment.enrichment_ledger(opened.settings, opened.clients)


def _jobs(opened: Session, ledger: EnrichmentLedger, catalog_id: str, tracking_id: str | None = None) -> list[Job]:
    """Return the catalog's jobs, newest first, or the one of this id. Raises CatalogInvalid where there is none."""
    from salesintel_dagster.domain.enrichment.job import check_ids  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.errors import CatalogInvalid  # noqa: PLC0415 - same

    check_ids(opened.settings.tenant, catalog_id)
    jobs = ledger.jobs.of_catalog(opened.settings.tenant, catalog_id)
    found = [job for job in jobs if tracking_id in {None, job.job_id}]
    if not found:
        what = f"no catalog {catalog_id}" if not jobs else f"nothing of tracking id {tracking_id} in {catalog_id}"
        raise CatalogInvalid(
            f"{what} was handed in for tenant {opened.settings.tenant}; "
            "salesintel enrich list --user ID shows a user's catalogs"
        )
    return found


def _status(opened: Session, ledger: EnrichmentLedger, job: Job) -> JobStatus:
    from salesintel_dagster.adapters.keepa import provider_name  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same
    from salesintel_dagster.flows.enrichment.status import status_of  # noqa: PLC0415 - same

    tokens = ledger.tokens.last(provider_name(opened.settings.keepa_url))
    return status_of(job, ledger.batches.of_job(job), tokens, SYSTEM_CLOCK.now())
