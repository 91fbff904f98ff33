"""What the export promises of each day, in stage order; `checks` judges it."""

from __future__ import annotations

from salesintel_dagster.domain.checks import Promise
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, SMARTGO_SALES, TITAN_EMBEDDINGS

UNIQUE_IDS = Promise(
    "sale_ids_are_unique",
    SALES_RAW,
    "Each (tenant, sale id) occurs once, and the source never sent one id with two contents.",
)
REQUIRED_FIELDS = Promise(
    "required_fields_are_there", SALES_RAW, "No sale without tenant, product, category, price, currency and instant."
)
NO_QUARANTINE = Promise(
    "no_row_in_quarantine",
    SALES_RAW,
    "Every row of the source became a sale. `salesintel quarantine list` tells why one did not.",
)
IMAGES_ARE_THERE = Promise("images_are_there", PRODUCT_IMAGES, "Few sales lack their image.")
ONE_MODEL = Promise(
    "one_model_only", TITAN_EMBEDDINGS, "All vectors of the day come from one model, dimension and preprocessing."
)
NULL_SHARE = Promise("null_vector_share", TITAN_EMBEDDINGS, "Few sales lack their vector.")
NOT_STOPPED = Promise(
    "embedding_was_not_stopped",
    TITAN_EMBEDDINGS,
    "No open breaker, missing permission, quota or budget ended the paid calls of the run.",
)
DIFFERENT_IMAGES = Promise(
    "different_images_have_different_vectors", TITAN_EMBEDDINGS, "No two different images share one vector."
)
TABLE_MATCHES = Promise(
    "table_matches_source", SMARTGO_SALES, "The table holds the day's sales: same count, same sum of prices."
)
TABLE_UNIQUE = Promise(
    "table_ids_are_unique",
    SMARTGO_SALES,
    "Each (tenant, sale id) of the day is in the table once, and under no other day of its source.",
)
TABLE_MODEL = Promise(
    "table_has_one_model",
    SMARTGO_SALES,
    "The day's vectors in the table come from one model, dimension and preprocessing.",
)


def vectors_promise(dimension: int) -> Promise:
    """Return the blocking promise that vectors are vectors."""
    return Promise(
        f"vectors_are_{dimension}_dim",
        TITAN_EMBEDDINGS,
        f"Every vector is exactly {dimension} finite float32 values, not all zero. Blocks the day's commit.",
        blocking=True,
    )


def table_vectors_promise(dimension: int) -> Promise:
    """Return the same of what lies in the table, whoever wrote it there."""
    return Promise(
        f"table_vectors_are_{dimension}_dim",
        SMARTGO_SALES,
        f"Every vector of the day in the table is exactly {dimension} finite float32 values, not all zero.",
    )


def promises(dimension: int) -> tuple[Promise, ...]:
    """Return every promise of the export, in stage order."""
    return (
        UNIQUE_IDS,
        REQUIRED_FIELDS,
        NO_QUARANTINE,
        IMAGES_ARE_THERE,
        vectors_promise(dimension),
        ONE_MODEL,
        NULL_SHARE,
        NOT_STOPPED,
        DIFFERENT_IMAGES,
        TABLE_MATCHES,
        TABLE_UNIQUE,
        table_vectors_promise(dimension),
        TABLE_MODEL,
    )
