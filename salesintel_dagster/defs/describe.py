"""How stage results and verdicts look in the Dagster UI: metadata that plots, tables that explain, thumbnails."""

import base64
from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa

from salesintel_dagster.domain.checks import Severity, Verdict
from salesintel_dagster.domain.column_meanings import MEANINGS
from salesintel_dagster.flows.export.day import StageDone
from salesintel_dagster.flows.export.embeddings import ImagesEmbedded
from salesintel_dagster.flows.export.images import ImagesFetched
from salesintel_dagster.flows.export.sales import SalesWritten
from salesintel_dagster.flows.export.sales_raw import SalesRead

Metadata = Mapping[str, Any]


def column_schema(schema: pa.Schema, meanings: Mapping[str, str] = MEANINGS) -> dg.TableSchema:
    """Return an Arrow schema as Dagster's, for the Columns tab, each column with its meaning."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                str(field.type),
                description=meanings[field.name],
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def materialization(done: StageDone, day: date, thumbnails: tuple[bytes, ...]) -> dg.AssetMaterialization:
    """Return the event that makes the day green for this asset, with the day's numbers."""
    return dg.AssetMaterialization(
        asset_key=done.stage,
        partition=day.isoformat(),
        metadata={**_metadata(done, thumbnails), **({"warnings": "; ".join(done.warnings)} if done.warnings else {})},
    )


def evaluation(verdict: Verdict, day: date) -> dg.AssetCheckEvaluation:
    """Return the check's outcome for the day: what was expected, what was found, first offenders."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(verdict.promise.stage),
        check_name=verdict.promise.name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if verdict.severity is Severity.ERROR else dg.AssetCheckSeverity.WARN,
        blocking=verdict.promise.blocking,
        partition=day.isoformat(),
        description=verdict.sentence(),
        metadata={
            "partition": day.isoformat(),
            "expected": verdict.expected,
            "found": verdict.found,
            **({"offenders_named": ", ".join(verdict.offenders)} if verdict.offenders else {}),
            **verdict.facts,
        },
    )


def _metadata(done: StageDone, thumbnails: tuple[bytes, ...]) -> Metadata:
    result = done.result
    match result:
        case SalesRead():
            return _of_read(result)
        case ImagesFetched():
            return _of_images(result, thumbnails)
        case ImagesEmbedded():
            return _of_embeddings(result)
        case SalesWritten():
            return _of_written(result)


def _of_read(result: SalesRead) -> Metadata:
    return {
        "dagster/partition_row_count": result.rows,
        "sales": result.rows,
        "rows_read": result.read,
        "duplicates": result.duplicates,
        "quarantined": result.quarantined.total,
        "quarantined_by_reason": dict(result.quarantined.by_status),
        "price_sum": float(result.price_sum),
        "evidence": dict(result.evidence),
        "staged_bytes": result.bytes,
        "seconds": round(result.seconds, 3),
    }


def _of_images(result: ImagesFetched, thumbnails: tuple[bytes, ...]) -> Metadata:
    shown = {"images": dg.MetadataValue.md(_gallery(thumbnails))} if thumbnails else {}
    return {
        "dagster/partition_row_count": result.tally.total,
        "images_ok": result.tally.ok,
        "images_failed": result.tally.failed,
        "failed_by_reason": result.tally.failures,
        "distinct_urls": result.distinct_urls,
        "downloaded": result.downloaded,
        "reused": result.reused,
        "image_bytes": result.bytes,
        "retries": result.retries,
        "seconds": round(result.seconds, 3),
        **shown,
    }


def _gallery(thumbnails: tuple[bytes, ...]) -> str:
    images = (base64.b64encode(thumbnail).decode() for thumbnail in thumbnails)
    return " ".join(f"![product](data:image/jpeg;base64,{image})" for image in images)


def _of_embeddings(result: ImagesEmbedded) -> Metadata:
    return {
        "dagster/partition_row_count": result.tally.total,
        "embedded": result.tally.ok,
        "without_vector": result.tally.failed,
        "failed_by_reason": result.tally.failures,
        "distinct_images": result.distinct_images,
        "paid_calls": result.paid_calls,
        "cache_hits": result.cache_hits,
        "reused": result.reused,
        "throttles": result.throttles,
        "model": result.model_id,
        "dimension": result.dimension,
        "seconds": round(result.seconds, 3),
    }


def _of_written(result: SalesWritten) -> Metadata:
    commit = result.commit
    return {
        "dagster/partition_row_count": result.rows,
        "sales": result.rows,
        "rows_replaced": commit.rows_replaced,
        "price_sum": float(result.price_sum),
        "null_vectors": result.null_vectors,
        "data_files": commit.data_files,
        "commit_attempts": commit.attempts,
        "commit_seconds": round(commit.seconds, 3),
        "snapshot_id": str(commit.snapshot_id),
        "seconds": round(result.seconds, 3),
    }
