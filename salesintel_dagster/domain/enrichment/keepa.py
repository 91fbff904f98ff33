"""How Keepa writes things, and what of its answers is believed.

Prices are integers in the currency's smallest unit, where -1 and -2 mean that there is none; time is minutes since
2011-01-01 UTC (21,564,000 minutes after the Unix epoch). Sources: Keepa's Java client (keepacom/api_backend: Product,
Stats, Response) and its documentation of the product request. An answer comes from a stranger: a product whose values
break these rules gives no facts, with the rule as reason, and never a repaired value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.facts import LookUp, NoFacts, ProductFacts
from salesintel_dagster.domain.enrichment.product import LookUpKind, same_code
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.sale import shown

EPOCH = datetime(2011, 1, 1, tzinfo=UTC)
MAX_PER_REQUEST = 100
"""ASINs or codes in one product request."""
NO_VALUES = frozenset({-1, -2})
PRICE_POSITIONS = {"amazon": 0, "new": 1, "used": 2, "list": 4}
RANK_POSITION = 3
"""Positions in `stats.current` (CsvType of the Java client). The buy box's, 18, is filled in only for requests with
`buybox` (two more tokens a product) or `offers` (more still): docs/decisions/0012-enrichment.md."""
UNKNOWN_TYPES = frozenset({3, 4})
"""productType INACCESSIBLE and INVALID: the ASIN is known and nothing about it."""
DOMAINS = {
    1: ("USD", 2),
    2: ("GBP", 2),
    3: ("EUR", 2),
    4: ("EUR", 2),
    5: ("JPY", 0),
    6: ("CAD", 2),
    8: ("EUR", 2),
    9: ("EUR", 2),
    10: ("INR", 2),
    11: ("MXN", 2),
    12: ("BRL", 2),
}
"""Amazon's locales: currency and its decimal places (com, co.uk, de, fr, co.jp, ca, it, es, in, com.mx, com.br)."""
IMAGE_BASE = "https://m.media-amazon.com/images/I/"

MAX_TITLE_CHARACTERS = 2_000
MAX_NAME_CHARACTERS = 500
MAX_CATEGORIES = 20
MAX_IMAGES = 50
MAX_AMOUNT = 10**15
"""In the smallest unit; decimal(18, 2) holds it."""
MAX_RANK = 10**10
MAX_MINUTES = 60 * 24 * 366 * 100
MAX_TOKENS = 10**9

_IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9%+._-]{0,150}")


class _Invalid(Exception):
    """A value breaks a rule; the text names both."""


def moment(minutes: int) -> datetime:
    """Return Keepa's time as an instant."""
    return EPOCH + timedelta(minutes=minutes)


def token_level(answer: object, now: datetime) -> TokenLevel | None:
    """Return the token level that an answer tells, None where it tells none that can be believed."""
    if not isinstance(answer, Mapping):
        return None
    left, refill_in, rate = (answer.get(name) for name in ("tokensLeft", "refillIn", "refillRate"))
    if not isinstance(left, int) or not isinstance(refill_in, int) or not isinstance(rate, int | float):
        return None
    if abs(left) > MAX_TOKENS or not 0 <= refill_in <= MAX_TOKENS or not 0 <= rate <= MAX_TOKENS:
        return None
    return TokenLevel(left, refill_in / 1000, float(rate), now)


def products_of(answer: object) -> list[object] | None:
    """Return the answer's products, None where it has no list of them."""
    found = answer.get("products") if isinstance(answer, Mapping) else None
    return found if isinstance(found, list) else None


def facts_of(products: list[object], request: LookUp, domain: int) -> dict[str, ProductFacts | NoFacts]:
    """Match products with identifiers by what they say of themselves, never by position; each identifier gets one."""
    by_asin: dict[str, list[Mapping[str, object]]] = {}
    for product in products:
        if isinstance(product, Mapping) and isinstance(asin := product.get("asin"), str):
            by_asin.setdefault(asin, []).append(product)
    if request.kind is LookUpKind.ASIN:
        return {asin: _of_asin(by_asin.get(asin, []), domain) for asin in request.identifiers}
    singles = [found[0] for found in by_asin.values() if len(found) == 1]
    return {code: _of_code(code, singles, domain) for code in request.identifiers}


def _of_asin(found: list[Mapping[str, object]], domain: int) -> ProductFacts | NoFacts:
    if not found:
        return NoFacts(Reason.NOT_FOUND, "the provider did not answer for it")
    if len(found) > 1:
        return NoFacts(Reason.INVALID, f"the provider answered {len(found)} times for one ASIN")
    return _facts(found[0], domain)


def _of_code(code: str, products: list[Mapping[str, object]], domain: int) -> ProductFacts | NoFacts:
    matching = [product for product in products if any(same_code(code, other) for other in _codes(product))]
    if not matching:
        return NoFacts(Reason.NOT_FOUND, "the provider knows no product of this code")
    read = [_facts(product, domain) for product in matching]
    good = [facts for facts in read if isinstance(facts, ProductFacts)]
    if not good:
        return read[0]
    best = min(good, key=lambda facts: (facts.sales_rank is None, facts.sales_rank or 0, facts.asin))
    return replace(best, matches=len(matching))


def _codes(product: Mapping[str, object]) -> Iterator[str]:
    for name in ("eanList", "upcList"):
        codes = product.get(name)
        yield from (code for code in codes if isinstance(code, str)) if isinstance(codes, list) else ()


def _facts(product: Mapping[str, object], domain: int) -> ProductFacts | NoFacts:
    """Return a product's facts, or the first rule that it breaks."""
    try:
        if _number(product, "productType", 0, MAX_RANK) in UNKNOWN_TYPES or product.get("title") is None:
            return NoFacts(Reason.NOT_FOUND, "the provider knows the ASIN and nothing about it")
        current = _current(product)
        currency, places = DOMAINS[domain]
        names = list(_category_names(product))
        minutes = _number(product, "lastUpdate", 0, MAX_MINUTES)
        return ProductFacts(
            asin=str(product["asin"]),
            title=_text(product, "title", MAX_TITLE_CHARACTERS),
            brand=_text(product, "brand", MAX_NAME_CHARACTERS),
            category=names[-1] if names else None,
            category_path=" > ".join(names) or None,
            prices=dict(_prices(current, places)),
            currency=currency,
            sales_rank=_rank(current),
            image_urls=tuple(_images(product)),
            updated_at=moment(minutes) if minutes else None,
        )
    except _Invalid as error:
        return NoFacts(Reason.INVALID, str(error))


def _text(product: Mapping[str, object], name: str, most: int) -> str | None:
    value = product.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _Invalid(f"{name} is {shown(value)}, expected text")
    if len(value) > most:
        raise _Invalid(f"{name} has {len(value)} characters, at most {most}")
    return " ".join("".join(char if char.isprintable() else " " for char in value).split()) or None


def _number(product: Mapping[str, object], name: str, least: int, most: int) -> int | None:
    value = product.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise _Invalid(f"{name} is {shown(value)}, expected a whole number from {least} to {most}")
    return value


def _current(product: Mapping[str, object]) -> list[object]:
    stats = product.get("stats")
    current = stats.get("current") if isinstance(stats, Mapping) else stats
    if current is None:
        return []
    if not isinstance(current, list):
        raise _Invalid(f"stats.current is {shown(current)}, expected a list")
    return current


def _value(current: list[object], position: int, name: str, most: int) -> int | None:
    value = current[position] if position < len(current) else None
    if value is None:
        return None
    if type(value) is int and value in NO_VALUES:
        return None
    if type(value) is not int or not 0 <= value <= most:
        raise _Invalid(f"{name} is {shown(value)}, expected a whole number from 0 to {most}, or -1 or -2 for none")
    return value


def _prices(current: list[object], places: int) -> Iterator[tuple[str, Decimal]]:
    for kind, position in PRICE_POSITIONS.items():
        amount = _value(current, position, f"price {kind}", MAX_AMOUNT)
        if amount is not None:
            yield kind, Decimal(amount).scaleb(-places)


def _rank(current: list[object]) -> int | None:
    return _value(current, RANK_POSITION, "sales rank", MAX_RANK)


def _category_names(product: Mapping[str, object]) -> Iterator[str]:
    tree = product.get("categoryTree") or []
    if not isinstance(tree, list) or len(tree) > MAX_CATEGORIES:
        raise _Invalid(f"categoryTree is {shown(tree)}, expected at most {MAX_CATEGORIES} categories")
    for entry in tree:
        name = _text(entry, "name", MAX_NAME_CHARACTERS) if isinstance(entry, Mapping) else None
        if name is None:
            raise _Invalid("categoryTree has a category without a name")
        yield name


def _images(product: Mapping[str, object]) -> Iterator[str]:
    given = product.get("images")
    if isinstance(given, list):
        names = [entry.get("l") or entry.get("m") if isinstance(entry, Mapping) else entry for entry in given]
    else:
        listed = product.get("imagesCSV") or ""
        names = list(listed.split(",")) if isinstance(listed, str) and listed else []
    if len(names) > MAX_IMAGES:
        raise _Invalid(f"{len(names)} images, at most {MAX_IMAGES}")
    for name in names:
        if not isinstance(name, str) or not _IMAGE_NAME.fullmatch(name):
            raise _Invalid(f"image {shown(name)}: expected a file name")
        yield IMAGE_BASE + name
