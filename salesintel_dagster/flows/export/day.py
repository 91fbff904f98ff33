"""One day of the export from source to table: the stages in their order, each followed by its checks.

What drives it (Dagster, a test, the crash harness) takes the `StageDone` values as they come. A day that fails
touches no other day: the error leaves this generator, and the caller goes on with the next day.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from salesintel_dagster.domain.calendar import Hemisphere
from salesintel_dagster.domain.checks import Promise, Severity, Verdict
from salesintel_dagster.domain.errors import CheckBlocked
from salesintel_dagster.domain.ports import Embedder, ImageFetcher, ObjectStore, SaleSource, SalesTable
from salesintel_dagster.domain.retry import SOURCE_RETRY, RetryPolicy
from salesintel_dagster.flows.export.checks import ExportChecks
from salesintel_dagster.flows.export.embedding_work import EmbeddingWork
from salesintel_dagster.flows.export.embeddings import EmbeddingLimits, ImagesEmbedded, embed_images
from salesintel_dagster.flows.export.images import ImageLimits, ImagesFetched, fetch_images
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, SMARTGO_SALES, TITAN_EMBEDDINGS, DayRun
from salesintel_dagster.flows.export.sales import SalesWritten, write_sales
from salesintel_dagster.flows.export.sales_raw import SalesRead, read_sales
from salesintel_dagster.flows.export.staging import HeldDays
from salesintel_dagster.flows.export.turns import await_turn

STAGES = (SALES_RAW, PRODUCT_IMAGES, TITAN_EMBEDDINGS, SMARTGO_SALES)

UNRECORDED_SPEND = "the day's spend was not recorded"

StageResult = SalesRead | ImagesFetched | ImagesEmbedded | SalesWritten


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage of a day has ended well. Its verdicts follow as values of their own."""

    stage: str
    result: StageResult
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportParts:
    """The outside world of the export."""

    source: SaleSource
    fetcher: ImageFetcher
    embedder: Embedder
    store: ObjectStore
    table: SalesTable


@dataclass(frozen=True, slots=True)
class ExportRules:
    """How the export behaves: limits, thresholds, and what this run may do."""

    images: ImageLimits
    embeddings: EmbeddingLimits
    hemisphere: Hemisphere
    null_vector_warn_share: float
    null_vector_error_share: float
    allow_empty: bool = False
    refetch_images: bool = False
    source: RetryPolicy = SOURCE_RETRY


@dataclass(frozen=True, slots=True)
class DayExport:
    """The export of one day. `stages` and `checks` may be any subset: the UI can ask for one asset alone."""

    run: DayRun
    parts: ExportParts
    rules: ExportRules

    def steps(self, stages: frozenset[str], checks: frozenset[str]) -> Iterator[StageDone | Verdict]:
        """Run the stages and checks asked for, yielding each as it ends.

        Raises what a stage raises, and CheckBlocked when a blocking check fails: the stages after it do not run.
        """
        with (
            tempfile.TemporaryDirectory(prefix="salesintel-") as folder,
            self._embedding(stages) as embedding,
        ):
            staged = HeldDays(self.parts.store, self.run.scope.source_system, Path(folder))
            judges = self._checks(staged)
            for stage in STAGES:
                if stage in stages:
                    self.run.progress.update(force=True, stage=stage)
                    self._await_turn(stage, stages)
                    result = self._runners(embedding)[stage](staged)
                    yield StageDone(stage, result, self._warnings())
                for promise, judge in judges.of_stage(stage).items():
                    if promise.name in checks:
                        found = judge(self.run.scope)
                        self._tell(found)
                        yield found
                        self._stop_if_blocked(promise, found)

    def _await_turn(self, stage: str, stages: frozenset[str]) -> None:
        """Before the first stage in which this run may pay, let an earlier run of the day pay."""
        paying = [one for one in (PRODUCT_IMAGES, TITAN_EMBEDDINGS) if one in stages]
        if TITAN_EMBEDDINGS in stages and stage == paying[0]:
            await_turn(self.run)

    @contextmanager
    def _embedding(self, stages: frozenset[str]) -> Iterator[EmbeddingWork | None]:
        """Have the day's embedding work from before its images, so that they go to it as they land; tell its cost."""
        if TITAN_EMBEDDINGS not in stages:
            yield None
            return
        work = EmbeddingWork(self.parts.embedder, self.parts.store, self.rules.embeddings, self.run.clock)
        try:
            with work:
                yield work
        finally:
            self.run.progress.update(paid_calls=work.maker.calls.paid)

    def _runners(self, embedding: EmbeddingWork | None) -> dict[str, Callable[[HeldDays], StageResult]]:
        return {
            SALES_RAW: self._read,
            PRODUCT_IMAGES: lambda staged: self._fetch(staged, embedding),
            TITAN_EMBEDDINGS: lambda staged: self._embed(staged, embedding),
            SMARTGO_SALES: self._write,
        }

    def _warnings(self) -> tuple[str, ...]:
        missed = {
            "progress not recorded": self.run.progress.unavailable,
            UNRECORDED_SPEND: self.rules.embeddings.budget.unavailable,
        }
        return tuple(f"{what}: {why}" for what, why in missed.items() if why is not None)

    @property
    def _quarantine(self) -> Quarantine:
        return Quarantine(self.parts.store, self.run.scope.source_system)

    def _checks(self, staged: HeldDays) -> ExportChecks:
        return ExportChecks(
            staged,
            self._quarantine,
            self.parts.table,
            self.parts.embedder.spec.dimension,
            self.rules.null_vector_warn_share,
            self.rules.null_vector_error_share,
        )

    def _read(self, staged: HeldDays) -> SalesRead:
        return read_sales(
            self.run,
            self.parts.source,
            staged,
            self._quarantine,
            self.parts.table,
            allow_empty=self.rules.allow_empty,
            retry=self.rules.source,
        )

    def _fetch(self, staged: HeldDays, embedding: EmbeddingWork | None) -> ImagesFetched:
        return fetch_images(
            self.run,
            self.parts.fetcher,
            self.parts.store,
            staged,
            self.rules.images,
            refetch=self.rules.refetch_images,
            embedding=embedding,
        )

    def _embed(self, staged: HeldDays, begun: EmbeddingWork | None) -> ImagesEmbedded:
        parts = self.parts
        return embed_images(self.run, parts.embedder, parts.store, staged, self.rules.embeddings, begun=begun)

    def _write(self, staged: HeldDays) -> SalesWritten:
        return write_sales(
            self.run,
            staged,
            self.parts.table,
            hemisphere=self.rules.hemisphere,
            allow_empty=self.rules.allow_empty,
        )

    def _tell(self, found: Verdict) -> None:
        if not found.passed:
            self.run.say("Check failed", severity=found.severity, verdict=f'"{found.sentence()}"')

    @staticmethod
    def _stop_if_blocked(promise: Promise, found: Verdict) -> None:
        if promise.blocking and not found.passed and found.severity is Severity.ERROR:
            raise CheckBlocked(found.sentence())
