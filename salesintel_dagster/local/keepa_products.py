"""The products that the provider's stand-in makes up: from the ASIN alone, so that every answer is the same one."""

from __future__ import annotations

import hashlib

MADE_UP = "[made up]"
"""In every title: nobody may take one for a product."""
KINDS = (
    ("dress", ("Clothing", "Women", "Dresses")),
    ("shoes", ("Shoes", "Women", "Trainers")),
    ("bag", ("Luggage", "Handbags")),
    ("watch", ("Jewellery", "Watches")),
    ("jacket", ("Clothing", "Men", "Jackets")),
)
BRANDS = ("Brisa", "Tarn", "Pihla", "Nordlys", "Kestrel", "Vester")
COLOURS = ("red", "blue", "green", "black", "white", "grey")
DIGEST_BYTES = 16
NO_PRICE_EVERY = 9
STATS_POSITIONS = 36
LAST_UPDATE_MINUTES = 8_300_000


def product(asin: str, code: str | None = None) -> dict[str, object] | None:
    """Return the product of an ASIN in Keepa's format, with its code; None for one that says that it is unknown."""
    fault = asin[1:5]
    if fault == "NONE":
        return None
    digest = hashlib.sha256(asin.encode()).digest()[:DIGEST_BYTES]
    kind, path = KINDS[digest[0] % len(KINDS)]
    brand, colour = BRANDS[digest[1] % len(BRANDS)], COLOURS[digest[2] % len(COLOURS)]
    price = 999 + int.from_bytes(digest[3:5]) % 15_000
    current = [-1] * STATS_POSITIONS
    if digest[5] % NO_PRICE_EVERY:
        current[0], current[1], current[4] = price, price - 100, price + 500
    current[2] = price // 2 if digest[6] % 2 else -2
    current[3] = 1 + int.from_bytes(digest[7:9]) % 50_000
    if fault == "BADP":
        current[0] = -500
    return {
        "asin": asin,
        "domainId": 3,
        "productType": 0,
        "title": 7 if fault == "BADT" else f"{brand} {colour} {kind} {MADE_UP}",
        "brand": brand,
        "rootCategory": 1,
        "categoryTree": [{"catId": number, "name": name} for number, name in enumerate(path, start=1)],
        "imagesCSV": f"{digest.hex()}.jpg,{digest[::-1].hex()}.jpg",
        "eanList": [code] if code else None,
        "upcList": None,
        "lastUpdate": LAST_UPDATE_MINUTES + int.from_bytes(digest[9:11]),
        "stats": {"current": current},
        "csv": None,
    }


def asins_of_code(code: str) -> list[str]:
    """Return the ASINs of a code: one, or two where its last digit is a 1. Codes beginning with 999 are unknown."""
    if code.startswith("999"):
        return []
    return [f"C{suffix}{code[-8:]:0>8}" for suffix in ("AB" if code.endswith("1") else "A")]
