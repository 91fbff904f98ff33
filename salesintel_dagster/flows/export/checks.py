"""The promises of the export, and how each is judged on what was really stored: staged files and the table.

A check reads the data again rather than trusting the stage that wrote it, so that it also judges what a hand,
another program or a later bug put there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal

import pyarrow.compute as pc

from salesintel_dagster.domain.checks import Promise, Severity, Verdict, share_verdict, verdict
from salesintel_dagster.domain.ports import DayFacts, DayScope, SalesTable
from salesintel_dagster.flows.export.day_index import DayIndex, index_name
from salesintel_dagster.flows.export.promises import (
    DIFFERENT_IMAGES,
    IMAGES_ARE_THERE,
    NO_QUARANTINE,
    NOT_STOPPED,
    NULL_SHARE,
    ONE_MODEL,
    REQUIRED_FIELDS,
    TABLE_MATCHES,
    TABLE_MODEL,
    TABLE_UNIQUE,
    UNIQUE_IDS,
    table_vectors_promise,
    vectors_promise,
)
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, TITAN_EMBEDDINGS
from salesintel_dagster.flows.export.staging import StagedDays
from salesintel_dagster.flows.export.vector_checks import (
    MODELS_OF,
    VECTORS_OF,
    judge_different_images,
    judge_not_stopped,
    judge_one_model,
    judge_vectors,
)


@dataclass(frozen=True, slots=True)
class ExportChecks:
    """The checks of one export, bound to what they read and to their thresholds."""

    staged: StagedDays
    quarantine: Quarantine
    table: SalesTable
    dimension: int
    warn_share: float
    error_share: float
    _facts: dict[DayScope, DayFacts] = field(default_factory=dict, init=False, repr=False)

    def of_stage(self, stage: str) -> dict[Promise, Callable[[DayScope], Verdict]]:
        """Return the judges of one stage, in the order in which they run."""
        return {promise: judge for promise, judge in self._judges().items() if promise.stage == stage}

    def _judges(self) -> dict[Promise, Callable[[DayScope], Verdict]]:
        return {
            UNIQUE_IDS: self._unique_ids,
            REQUIRED_FIELDS: self._required_fields,
            NO_QUARANTINE: self._no_quarantine,
            IMAGES_ARE_THERE: self._images_are_there,
            vectors_promise(self.dimension): self._vectors,
            ONE_MODEL: self._one_model,
            NULL_SHARE: self._null_share,
            NOT_STOPPED: self._not_stopped,
            DIFFERENT_IMAGES: self._different_images,
            TABLE_MATCHES: self._table_matches,
            TABLE_UNIQUE: self._table_unique,
            table_vectors_promise(self.dimension): self._table_vectors,
            TABLE_MODEL: self._table_model,
        }

    def _unique_ids(self, scope: DayScope) -> Verdict:
        offenders: list[str] = []
        with closing(DayIndex()) as seen, self.staged.batches(SALES_RAW, scope.day) as batches:
            for batch in batches:
                for tenant, sale in zip(batch["tenant_id"].to_pylist(), batch["sale_id"].to_pylist(), strict=True):
                    if not seen.add(index_name(tenant, sale)):
                        offenders.append(sale)
        conflicts = [entry.sale_id for entry in self.quarantine.read(scope.day) if entry.code == "CONFLICT"]
        return verdict(
            UNIQUE_IDS,
            expected="one content per sale id",
            found=f"{len(offenders)} repeated, {len(conflicts)} with two contents",
            offenders=offenders + conflicts,
        )

    def _required_fields(self, scope: DayScope) -> Verdict:
        fields = ("tenant_id", "product_id", "category", "currency")
        offenders: list[str] = []
        with self.staged.batches(SALES_RAW, scope.day) as batches:
            for batch in batches:
                bad = pc.or_(pc.is_null(batch["sold_price"]), pc.is_null(batch["sold_at"]))
                for name in fields:
                    bad = pc.or_(bad, pc.equal(pc.fill_null(pc.binary_length(batch[name]), 0), 0))
                offenders += batch["sale_id"].filter(bad).to_pylist()
        return verdict(REQUIRED_FIELDS, expected="no empty field", found=f"{len(offenders)} sales", offenders=offenders)

    def _no_quarantine(self, scope: DayScope) -> Verdict:
        reasons = [f"{entry.code} {entry.field}={entry.value}" for entry in self.quarantine.read(scope.day)]
        return verdict(
            NO_QUARANTINE,
            expected="no row",
            found=f"{len(reasons)} row" + ("" if len(reasons) == 1 else "s"),
            offenders=reasons,
            severity=Severity.WARN,
        )

    def _images_are_there(self, scope: DayScope) -> Verdict:
        missing, whole = self._count(PRODUCT_IMAGES, scope, "image_s3_key")
        return self._share(IMAGES_ARE_THERE, missing, whole)

    def _null_share(self, scope: DayScope) -> Verdict:
        missing, whole = self._count(TITAN_EMBEDDINGS, scope, "embedding_vector")
        return self._share(NULL_SHARE, missing, whole)

    def _share(self, promise: Promise, part: int, whole: int) -> Verdict:
        return share_verdict(promise, part=part, whole=whole, warn_share=self.warn_share, error_share=self.error_share)

    def _count(self, stage: str, scope: DayScope, column: str) -> tuple[int, int]:
        nulls = whole = 0
        with self.staged.batches(stage, scope.day) as batches:
            for batch in batches:
                nulls += batch[column].null_count
                whole += batch.num_rows
        return nulls, whole

    def _vectors(self, scope: DayScope) -> Verdict:
        with self.staged.batches(TITAN_EMBEDDINGS, scope.day) as batches:
            return judge_vectors(vectors_promise(self.dimension), batches, self.dimension)

    def _one_model(self, scope: DayScope) -> Verdict:
        with self.staged.batches(TITAN_EMBEDDINGS, scope.day) as batches:
            return judge_one_model(ONE_MODEL, batches)

    def _not_stopped(self, scope: DayScope) -> Verdict:
        with self.staged.batches(TITAN_EMBEDDINGS, scope.day) as batches:
            return judge_not_stopped(NOT_STOPPED, batches)

    def _different_images(self, scope: DayScope) -> Verdict:
        with self.staged.batches(TITAN_EMBEDDINGS, scope.day) as batches:
            return judge_different_images(DIFFERENT_IMAGES, batches)

    def _table_matches(self, scope: DayScope) -> Verdict:
        rows, total = 0, Decimal(0)
        with self.staged.batches(SALES_RAW, scope.day) as batches:
            for batch in batches:
                rows += batch.num_rows
                total += pc.sum(batch["sold_price"]).as_py() or Decimal(0)
        facts = self._day_facts(scope)
        same = (rows, total) == (facts.rows, facts.price_sum)
        return Verdict(
            TABLE_MATCHES,
            passed=same,
            severity=Severity.ERROR,
            expected=f"{rows} sales, sum {total}",
            found=f"{facts.rows} sales, sum {facts.price_sum}",
            facts={"source_rows": rows, "table_rows": facts.rows},
        )

    def _table_unique(self, scope: DayScope) -> Verdict:
        facts = self._day_facts(scope)
        repeated = list(facts.duplicate_sale_ids)
        elsewhere = [f"{other.sale_id} also on {other.day}" for other in facts.other_days]
        found = f"{len(repeated)} repeated"
        if elsewhere:
            found += f", {len(elsewhere)} also under another day: materialise that day again"
        return verdict(TABLE_UNIQUE, expected="each id once", found=found, offenders=repeated + elsewhere)

    def _day_facts(self, scope: DayScope) -> DayFacts:
        """Both checks of the table judge one reading of it: a second one costs as much as the first."""
        if scope not in self._facts:
            self._facts[scope] = self.table.day_facts(scope)
        return self._facts[scope]

    def _table_vectors(self, scope: DayScope) -> Verdict:
        promise = table_vectors_promise(self.dimension)
        return judge_vectors(promise, self.table.read_day(scope, VECTORS_OF), self.dimension)

    def _table_model(self, scope: DayScope) -> Verdict:
        return judge_one_model(TABLE_MODEL, self.table.read_day(scope, MODELS_OF))
