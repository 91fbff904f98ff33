"""A product of an uploaded catalog, and the one place where a line becomes one or is rejected with a reason.

A product is looked up by its ASIN, or by its EAN or UPC where it has none. What else the catalog says about it travels
along and is kept beside the facts; it never becomes one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from salesintel_dagster.domain.sale import MAX_TEXT_BYTES, Rejection, shown

CATALOG_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
"""Both stand in keys beside the tenant after a `#`, which neither may hold."""
MAX_ATTRIBUTE_BYTES = 32 * 1024
"""What a catalog says about one product, as JSON: a message (job.MAX_MESSAGE_BYTES, eight times this) takes seven such
products, or three where all of it is quotes, which are escaped once more there."""

_ASIN = re.compile(r"[A-Z0-9]{10}")
_DIGITS = re.compile(r"[0-9]{8}|[0-9]{12,13}")
_CODE_COLUMNS = ("ean", "upc", "code")
_OWN_COLUMNS = ("product_id", "asin", *_CODE_COLUMNS)


class LookUpKind(StrEnum):
    """How the provider is asked for a product; one request asks in one way."""

    ASIN = "asin"
    CODE = "code"


@dataclass(frozen=True, slots=True, order=True)
class LookUpKey:
    """What the provider is asked for: products with the same key are asked for once."""

    kind: LookUpKind
    identifier: str


@dataclass(frozen=True, slots=True)
class CatalogProduct:
    """One product; (tenant, product_id) is its identity. `attributes` is the rest of its line as canonical JSON."""

    product_id: str
    key: LookUpKey
    attributes: str = "{}"

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """All that makes two products the same."""
        return self.product_id, self.key.kind.value, self.key.identifier, self.attributes


@dataclass(frozen=True, slots=True)
class CatalogRead:
    """A catalog's products, each id once, and why the other lines were not taken (line number, reason)."""

    products: tuple[CatalogProduct, ...]
    rejections: tuple[tuple[int, Rejection], ...]


def read_catalog(lines: Iterable[tuple[int, Mapping[str, str]]]) -> CatalogRead:
    """Take (line number, values by column) pairs; equal lines are one product, a second content of an id is refused."""
    taken: dict[str, CatalogProduct] = {}
    rejections: list[tuple[int, Rejection]] = []
    for number, values in lines:
        found = parse_product(values)
        if isinstance(found, CatalogProduct) and taken.setdefault(found.product_id, found) != found:
            rule = "an earlier line says otherwise about the same product"
            found = Rejection("CONFLICT", "product_id", shown(found.product_id), rule)
        if isinstance(found, Rejection):
            rejections.append((number, found))
    return CatalogRead(tuple(taken.values()), tuple(rejections))


def parse_product(values: Mapping[str, str]) -> CatalogProduct | Rejection:
    """Return one line's product, or why there is none. Columns beside the known ones are its attributes."""
    given = {name.strip().lower(): value.strip() for name, value in values.items() if value and value.strip()}
    product_id = given.get("product_id", "")
    if not product_id:
        return Rejection("PRODUCT_ID_MISSING", "product_id", shown(values.get("product_id", "")), "may not be empty")
    if len(product_id.encode(errors="replace")) > MAX_TEXT_BYTES or not product_id.isprintable():
        rule = f"at most {MAX_TEXT_BYTES} bytes, all printable"
        return Rejection("PRODUCT_ID_INVALID", "product_id", shown(product_id), rule)
    key = _key(given)
    if isinstance(key, Rejection):
        return key
    rest = {name: value for name, value in given.items() if name not in _OWN_COLUMNS}
    attributes = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    if len(attributes) > MAX_ATTRIBUTE_BYTES:
        rule = f"at most {MAX_ATTRIBUTE_BYTES} bytes of JSON in the other columns"
        return Rejection("ATTRIBUTES_TOO_LARGE", "attributes", f"{len(attributes)} bytes", rule)
    return CatalogProduct(product_id, key, attributes)


def _key(given: Mapping[str, str]) -> LookUpKey | Rejection:
    asin = given.get("asin", "").upper()
    if asin:
        if _ASIN.fullmatch(asin):
            return LookUpKey(LookUpKind.ASIN, asin)
        return Rejection("ASIN_INVALID", "asin", shown(asin), "an ASIN is ten letters and digits")
    for column in _CODE_COLUMNS:
        if code := given.get(column):
            if is_product_code(code):
                return LookUpKey(LookUpKind.CODE, code)
            rule = "an EAN or UPC is 8, 12 or 13 digits with a right check digit"
            return Rejection("CODE_INVALID", column, shown(code), rule)
    return Rejection("NO_IDENTIFIER", "asin", "''", "a product needs an asin, an ean or a upc to be looked up by")


def is_product_code(text: str) -> bool:
    """Tell whether the text is a GTIN: 8, 12 or 13 digits, not all zero, the last one the check digit (GS1)."""
    if not _DIGITS.fullmatch(text) or not text.strip("0"):
        return False
    weighted = sum(int(digit) * (3, 1)[at % 2] for at, digit in enumerate(reversed(text[:-1])))
    return (10 - weighted % 10) % 10 == int(text[-1])


def same_code(one: str, other: str) -> bool:
    """Tell whether two codes are one: a UPC is the EAN without its leading zeros, which some lists cut off."""
    return one.lstrip("0") == other.lstrip("0")
