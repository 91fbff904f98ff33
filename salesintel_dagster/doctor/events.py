"""Checks of what the sync stands on: its three queues, and whether their attributes are those of the design."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from botocore.exceptions import ClientError

from salesintel_dagster.adapters.aws import code_of
from salesintel_dagster.adapters.aws_probes import DENIED
from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.domain.diagnosis import Check, Finding, ok, warn
from salesintel_dagster.domain.errors import QueueUnavailable
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
    """Ask for the attributes; a role that may not is told so, since the export works without them."""
    try:
        states = watch.look()
    except QueueUnavailable as error:
        if isinstance(error.__cause__, ClientError) and code_of(error.__cause__) in DENIED:
            return warn(
                str(error), "let the role of the sync do sqs:GetQueueUrl and sqs:GetQueueAttributes (SyncPolicy)"
            )
        raise
    return judged(states, gather_seconds)


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
