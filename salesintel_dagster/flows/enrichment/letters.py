"""The enrichment's dead letters as a person sees them: a batch's, which a retry takes back, and strays.

A stray is a message that is no batch of ours, or no longer one: no retry takes it, and it keeps a check red until it is
dropped. Nothing is dropped that a batch in the ledger may need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from salesintel_dagster.domain.enrichment.batch import Batch
from salesintel_dagster.domain.enrichment.job import MessageInvalid, parse_message
from salesintel_dagster.domain.enrichment.ports import EnrichmentBatches
from salesintel_dagster.domain.message_shelf import MessageShelf, ShelvedMessage
from salesintel_dagster.flows.sync import redrive


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: the batch whose message it is, or why it is none's."""

    shelved: ShelvedMessage
    batch: Batch | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Letters:
    """What lies there, oldest first; `more` and `held` as in `Look`."""

    letters: tuple[Letter, ...]
    more: int
    held: int

    @property
    def strays(self) -> list[Letter]:
        """Those that no retry takes."""
        return [one for one in self.letters if one.batch is None]


def batch_of(body: str, batches: EnrichmentBatches) -> tuple[Batch | None, str]:
    """Return the batch whose message this is, word for word, or why it is none's. Raises LedgerUnavailable."""
    try:
        key, _ = parse_message(body)
    except MessageInvalid as error:
        return None, str(error)
    batch = batches.load(key)
    if batch is None or batch.body != body:
        return None, f"the ledger has no such batch {key}"
    return batch, ""


def letters(shelf: MessageShelf, batches: EnrichmentBatches, most: int) -> Letters:
    """Look at the dead letters, leaving all of them there. Raises LedgerUnavailable, QueueUnavailable."""
    found = redrive.look(shelf, most)
    told = (Letter(one, *batch_of(one.message.body, batches)) for one in found.messages)
    return Letters(tuple(told), found.more, found.held)


def drop(shelf: MessageShelf, strays: Sequence[Letter], most: int) -> redrive.Dropped:
    """Delete these and nothing else, a batch's letter never; one that is in another's hand stays, too.

    Raises QueueUnavailable.
    """
    ids = {one.shelved.message_id for one in strays if one.batch is None}
    in_hand: set[str] = set()

    def wanted(one: ShelvedMessage) -> bool:
        in_hand.update({one.message_id} & ids)
        return one.message_id in ids

    done = redrive.drop(shelf, wanted, most)
    return replace(done, stay=(*done.stay, *sorted(ids - in_hand)))
