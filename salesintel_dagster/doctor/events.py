"""Checks of what the sync stands on: its three queues, and whether their attributes are those of the design."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.doctor.queues import looked_at
from salesintel_dagster.domain.diagnosis import Check, Finding, ok, warn
from salesintel_dagster.domain.event_queues import EventQueueStates, EventQueueWatch, misfits
from salesintel_dagster.flows.sync.parts import VISIBILITY_PER_GATHERING
from salesintel_dagster.wiring.event_checks import event_queue_watch

DEPLOY = "salesintel deploy --apply"
MADE_BY_DEPLOY = f"{DEPLOY} makes it; the policy SyncPolicy lets this role use it"
NAME = "sold events: queues"


def checks(patient: Patient) -> Iterator[Check]:
    """Yield the check."""
    watch = event_queue_watch(patient.settings, patient.clients)
    gathering = patient.settings.event_gather_seconds
    yield Check(NAME, partial(queues, watch, gathering), MADE_BY_DEPLOY)


def queues(watch: EventQueueWatch, gather_seconds: float) -> Finding:
    """Ask for the attributes."""
    return looked_at(watch.look, "the sync", partial(judged, gather_seconds=gather_seconds))


def judged(states: EventQueueStates, gather_seconds: float) -> Finding:
    """Judge attributes first: under wrong ones the numbers mean little."""
    wrong = list(misfits(states, timedelta(seconds=VISIBILITY_PER_GATHERING * gather_seconds)))
    if wrong:
        return warn("; ".join(wrong), f"{DEPLOY} puts the attributes of the template back")
    depth = states.queue.depth
    found = f"{states.queue.name}: {depth.waiting} events wait, {depth.in_flight} are at work"
    dead, kept = states.dead_letters.depth.total, states.quarantine.depth.total
    if dead or kept:
        return warn(f"{found}; {dead} dead letters, {kept} in quarantine", "salesintel events status")
    return ok(f"{found}; no dead letter, none in quarantine")
