"""docs/settings.md lists every setting; `python -m salesintel_dagster_tests.test_settings_docs` writes its table."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, SecretStr
from pydantic.fields import FieldInfo

from salesintel_dagster.settings import Settings, variable_of

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
BEGIN, END = "<!-- the table is made by test_settings_docs.py -->\n", "<!-- end of the table -->\n"
AGAIN = "docs/settings.md is stale: run `.venv/bin/python -m salesintel_dagster_tests.test_settings_docs`"
NAMED_RULES = {
    "zone": "IANA time zone",
    "currency": "ISO 4217 code",
    "day": "a day",
    "webhook": "https, or http on this machine",
    "tenants": "tenant names",
}
"""Validators of settings/kinds.py in words; one that is missing here fails the test by its name."""
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
DERIVED = {
    "export_progress_table": "bg-remover-{stage}-smartgo-export-progress",
    "sales_table": "bg-remover-{stage}-sales-intelligence",
    "bucket": "carousel-{stage}-analytics",
    "enrichment_table": "{stage}-enrichment-status",
    "enrichment_queue": "product-enrichment-{stage}",
    "enrichment_dlq": "product-enrichment-dlq-{stage}",
    "event_queue": "carousel-sync-{stage}",
    "event_dlq": "carousel-sync-dlq-{stage}",
    "event_quarantine": "carousel-sync-quarantine-{stage}",
    "receipts_table": "bg-remover-{stage}-idempotency",
    "warehouse": "s3://{bucket}/pricing-intelligence",
}
"""Settings that follow from others where they are not set; the test below holds them against the code."""


def table() -> str:
    lines = ["| variable | default | rule | meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        cells = (f"`{variable_of(name)}`", _default(name, field), _rule(field), field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(name: str, field: FieldInfo) -> str:
    if name in DERIVED:
        return f"`{DERIVED[name]}`"
    value = field.default.value if isinstance(field.default, Enum) else field.default
    return "none" if value in (None, ()) else f"`{value}`"


def _rule(field: FieldInfo) -> str:
    annotation, rules = _unwrapped(field.annotation, list(field.metadata))
    words = [f"`{rule.pattern}`" for rule in rules if getattr(rule, "pattern", None)]
    words += [NAMED_RULES[rule.func.__name__] for rule in rules if isinstance(rule, AfterValidator)]
    words += [f"{sign} {getattr(rule, key):,}" for rule in rules for key, sign in SIGNS.items() if hasattr(rule, key)]
    return ", ".join([*words, *_choices(annotation)]) or _kind(annotation)


def _unwrapped(annotation: Any, rules: list[Any]) -> tuple[Any, list[Any]]:  # noqa: ANN401 - any annotation
    """Return the plain type below `Annotated` and `| None`, and all the rules on the way."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _unwrapped(inner, [*rules, *more])
    given = [choice for choice in get_args(annotation) if choice is not NoneType]
    if get_origin(annotation) in {Union, UnionType} and len(given) == 1:
        return _unwrapped(given[0], rules)
    return annotation, rules


def _choices(annotation: Any) -> list[str]:  # noqa: ANN401 - any annotation
    if get_origin(annotation) is Literal:
        return [" or ".join(f"`{choice}`" for choice in get_args(annotation))]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [" or ".join(f"`{choice.value}`" for choice in annotation)]
    return []


def _kind(annotation: object) -> str:
    if annotation is SecretStr:
        return "text, kept secret"
    return "separated by commas" if get_origin(annotation) is tuple else "text"


def written(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def test_the_settings_document_lists_every_setting_as_it_is():
    text = DOCUMENT.read_text()
    assert BEGIN in text, "the marks of the table are gone"
    assert text == written(text), AGAIN


def test_what_is_derived_is_told_as_the_code_derives_it():
    plain, other = Settings(), Settings(stage="prod", bucket="mine")
    for settings, bucket in ((plain, "carousel-dev-analytics"), (other, "mine")):
        assert DERIVED["export_progress_table"].format(stage=settings.stage) == settings.progress_table_name
        assert DERIVED["sales_table"].format(stage=settings.stage) == settings.sales_table_name
        assert DERIVED["enrichment_table"].format(stage=settings.stage) == settings.enrichment_table_name
        assert DERIVED["enrichment_queue"].format(stage=settings.stage) == settings.enrichment_queue_name
        assert DERIVED["enrichment_dlq"].format(stage=settings.stage) == settings.enrichment_dlq_name
        assert DERIVED["warehouse"].format(bucket=bucket) == settings.warehouse_uri
    assert DERIVED["bucket"].format(stage="dev") == plain.bucket_name


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
