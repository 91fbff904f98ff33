"""The sales table as the TTL backfill sees it, in memory."""

from __future__ import annotations

from dataclasses import replace

from salesintel_dagster.domain.errors import SalesUnavailable
from salesintel_dagster.domain.sales_keys import KeyPair
from salesintel_dagster.domain.ttl_backfill import Checkpoint, SetOutcome, TtlItem, TtlPage, TtlStore


class InMemoryTtlStore(TtlStore):
    """`items` in their order; `set_to` is what got a ttl; `fails_after` writes every further call fails."""

    def __init__(self, *items: TtlItem, fails_after: int | None = None) -> None:
        self.items = {item.key: item for item in items}
        self.set_to: dict[KeyPair, int] = {}
        self.kept: Checkpoint | None = None
        self.fails_after = fails_after

    def page(self, after: KeyPair | None, most: int) -> TtlPage:
        keys = list(self.items)
        begin = keys.index(after) + 1 if after is not None else 0
        chosen = keys[begin : begin + most]
        more = begin + most < len(keys)
        return TtlPage(tuple(self.items[key] for key in chosen), chosen[-1] if more else None)

    def set_ttl(self, item: TtlItem, ttl: int) -> SetOutcome:
        if self.fails_after is not None and len(self.set_to) >= self.fails_after:
            raise SalesUnavailable("the sales table is down")
        held = self.items.get(item.key)
        if held is None:
            return SetOutcome.GONE
        if held.ttl_type is not None:
            return SetOutcome.THERE
        self.items[item.key] = replace(held, ttl_type="N")
        self.set_to[item.key] = ttl
        return SetOutcome.SET

    def checkpoint(self) -> Checkpoint | None:
        return self.kept

    def keep(self, checkpoint: Checkpoint | None) -> None:
        self.kept = checkpoint
