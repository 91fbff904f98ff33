"""How vectors are judged, wherever they lie: in a staged file or in the table. One batch in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing

import pyarrow as pa
import pyarrow.compute as pc

from salesintel_dagster.domain.checks import Promise, Severity, Verdict, verdict
from salesintel_dagster.domain.embedding import EmbeddingSpec
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.vectors import bad_vectors, specs_of_vectors, vector_digests
from salesintel_dagster.flows.export.day_index import DayIndex

Batches = Iterable[pa.RecordBatch]

VECTORS_OF = ("tenant_id", "sale_id", "embedding_vector")
MODELS_OF = ("embedding_model", "embedding_dimension", "preprocess_version", "embedding_vector")

STOPPED = {
    EmbeddingStatus.BREAKER_OPEN: Severity.ERROR,
    EmbeddingStatus.MODEL_UNUSABLE: Severity.ERROR,
    EmbeddingStatus.THROTTLED: Severity.WARN,
    EmbeddingStatus.BUDGET_EXHAUSTED: Severity.WARN,
}
"""Reasons that ended the calls of a run, and not one image's. Those that pass by themselves are for the morning."""


def judge_vectors(promise: Promise, batches: Batches, dimension: int) -> Verdict:
    """Judge that every vector is `dimension` finite values, not all zero; offenders are `tenant/sale: reason`."""
    offenders: list[str] = []
    checked = 0
    for batch in batches:
        who = pc.binary_join_element_wise(batch["tenant_id"], batch["sale_id"], "/")
        offenders += [f"{sale}: {reason}" for sale, reason in bad_vectors(batch["embedding_vector"], who, dimension)]
        checked += batch.num_rows - batch["embedding_vector"].null_count
    return verdict(
        promise,
        expected=f"{checked} vectors of {dimension} finite float32 values, none of them zero",
        found=f"{len(offenders)} bad",
        offenders=offenders,
    )


def judge_one_model(promise: Promise, batches: Batches) -> Verdict:
    """Judge that the vectors may be compared with each other."""
    specs: set[EmbeddingSpec] = set()
    for batch in batches:
        specs |= specs_of_vectors(batch)
    spaces = sorted(f"{spec.model_id}/{spec.dimension}/{spec.preprocess_version}" for spec in specs)
    return verdict(
        promise,
        expected="one model",
        found=", ".join(spaces) or "no vector",
        offenders=spaces if len(spaces) > 1 else [],
    )


def judge_different_images(promise: Promise, batches: Batches) -> Verdict:
    """Judge that no vector stands for two pictures."""
    offenders: set[str] = set()
    with closing(DayIndex()) as image_of:
        for batch in batches:
            images = pc.fill_null(batch["image_sha256"], "no image").to_pylist()
            for index, digest in vector_digests(batch["embedding_vector"]):
                image = images[index]
                if not image_of.add(digest, image.encode()):
                    first = (image_of.get(digest) or b"").decode()
                    offenders |= {first, image} if first != image else set()
    return verdict(
        promise,
        expected="one vector per image",
        found=f"{len(offenders)} images that share a vector",
        offenders=sorted(offenders),
        severity=Severity.WARN,
    )


def judge_not_stopped(promise: Promise, batches: Batches) -> Verdict:
    """Judge that no breaker, permission, quota or budget ended the calls; offenders are the reasons."""
    sales: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for batch in batches:
        stopped = batch.filter(pc.is_in(batch["embedding_status"], value_set=pa.array([str(one) for one in STOPPED])))
        for count in pc.value_counts(stopped["embedding_status"]).to_pylist():
            status = count["values"]
            sales[status] += count["counts"]
            reasons.setdefault(status, _first_reason(stopped, status))
    severities = {STOPPED[EmbeddingStatus(status)] for status in sales}
    return verdict(
        promise,
        expected="the model called for every image that needed it",
        found=", ".join(f"{status} {count}" for status, count in sales.most_common()) or "it was",
        offenders=[f"{status}: {reasons[status]}" for status, _ in sales.most_common()],
        severity=Severity.ERROR if Severity.ERROR in severities else Severity.WARN,
    )


def _first_reason(rows: pa.RecordBatch, status: str) -> str:
    first = rows.filter(pc.equal(rows["embedding_status"], status)).slice(0, 1)
    return str(first["embedding_error"][0].as_py())
