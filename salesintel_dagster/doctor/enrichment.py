"""Checks of what the enrichment stands on: its queues and the provider's key. Nothing is paid for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from salesintel_dagster.adapters.keepa import KEEPA_URL, provider_name
from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.doctor.queues import looked_at
from salesintel_dagster.domain.diagnosis import Check, Finding, fail, ok, warn
from salesintel_dagster.domain.enrichment.ports import BatchQueue
from salesintel_dagster.domain.event_queue import QueueDepth
from salesintel_dagster.settings import Mode, variable_of
from salesintel_dagster.wiring import enrichment

MADE_BY_DEPLOY = "salesintel deploy --apply makes it; the policy EnrichmentPolicy lets this role use it"
USER = "the enrichment"
KEY, URL = variable_of("keepa_key"), variable_of("keepa_url")


def checks(patient: Patient) -> Iterator[Check]:
    """Yield the checks."""
    settings = patient.settings
    queue = enrichment.enrichment_queue(settings, patient.clients)
    dead_letters = enrichment.enrichment_dead_letters(settings, patient.clients)
    yield Check("enrichment: queue", partial(waiting, queue, settings.enrichment_queue_name), MADE_BY_DEPLOY)
    yield Check("enrichment: dead letters", partial(dead, dead_letters, settings.enrichment_dlq_name), MADE_BY_DEPLOY)
    yield Check("enrichment: provider", partial(provider, patient), f"set {KEY}")


def waiting(queue: BatchQueue, name: str) -> Finding:
    """Count the batches that wait."""

    def told(depth: QueueDepth) -> Finding:
        return ok(f"{name}: {depth.waiting} batches wait, {depth.in_flight} are at work or postponed")

    return looked_at(queue.depth, USER, told)


def dead(queue: BatchQueue, name: str) -> Finding:
    """Count the dead letters."""

    def told(depth: QueueDepth) -> Finding:
        if depth.total:
            remedy = "docs/runbook.md, no_dead_letters; salesintel enrich retry CATALOG"
            return warn(f"{name}: {depth.total} messages", remedy)
        return ok(f"{name}: no message")

    return looked_at(queue.depth, USER, told)


def provider(patient: Patient) -> Finding:
    """Tell who the provider is; it is not asked, since whatever it answers may cost tokens."""
    settings = patient.settings
    if settings.keepa_key is None:
        return warn("no key: catalogs are taken and not worked on", f"set {KEY}")
    if settings.mode is Mode.AWS and settings.keepa_url != KEEPA_URL:
        return fail(f"{settings.keepa_url} is a stand-in, whose products are made up", f"unset {URL}")
    return ok(
        f"{provider_name(settings.keepa_url)} at {settings.keepa_url}, locale {settings.keepa_domain}; key is set"
    )
