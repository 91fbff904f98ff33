"""Invented sales for the demo: a resale shop's days with drawn pictures, weekday rhythm, seasons and some dirt.

Every sale is a pure function of (seed, day, number), so that a second call adds no row and any day can be made alone.
About 2 % of the pictures are bad in different ways and one row a day breaks a rule: quarantine and null vectors are
part of what a demo shows.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path

import psycopg

from salesintel_dagster.domain.calendar import Hemisphere, season
from salesintel_dagster.local.pictures import draw_product
from salesintel_dagster.local.source_table import SourceLine, load

FOLDER = "smartgo"
"""Below the image host's folder."""
WEEKDAY_FACTORS = (0.90, 0.92, 0.95, 1.00, 1.06, 1.14, 1.03)
"""Monday to Sunday; their mean is 1."""
CATEGORY_EUROS = {
    "bag": 62.0,
    "dress": 34.0,
    "shoes": 41.0,
    "hat": 16.0,
    "shirt": 18.0,
    "trousers": 24.0,
    "skirt": 20.0,
    "jacket": 58.0,
    "watch": 95.0,
    "scarf": 14.0,
}
CATEGORY_WEIGHTS = (12, 18, 16, 5, 17, 12, 7, 9, 3, 6)
SEASON_FACTORS = {
    "dress": {"SUMMER": 1.18, "SPRING": 1.10, "WINTER": 0.88},
    "hat": {"SUMMER": 1.12, "WINTER": 1.08},
    "jacket": {"WINTER": 1.25, "AUTUMN": 1.15, "SUMMER": 0.75},
    "scarf": {"WINTER": 1.30, "AUTUMN": 1.10, "SUMMER": 0.70},
    "skirt": {"SUMMER": 1.12, "WINTER": 0.85},
}
BRAND_FACTORS = {
    "Nordlys": 2.40,
    "Maren & Vik": 1.90,
    "Aalto Wear": 1.55,
    "Solvang": 1.30,
    "Kestrel": 1.15,
    "Ilmari": 1.05,
    "Pihla": 0.95,
    "Brisa": 0.85,
    "Tarn": 0.75,
    "Lumo": 0.65,
    "Odda Basics": 0.50,
    "Vester": 0.42,
}
BRAND_WEIGHTS = (3, 5, 7, 8, 9, 10, 10, 11, 11, 12, 13, 9)
CONDITION_FACTORS = {
    "new": 1.45,
    "like_new": 1.25,
    "Very good": 1.05,
    "good": 0.90,
    "fair": 0.65,
    "poor": 0.40,
    "B-grade": 0.60,
}
"""As a source writes them: one in another case and one that is in no vocabulary."""
CONDITION_WEIGHTS = (10, 20, 26, 28, 11, 3, 2)
PRICE_SIGMA = 0.32
"""Of the price's logarithm, among like products: two thirds lie within a third of the middle."""
SHARE_WITHOUT_BRAND = 0.05
SHARE_WITHOUT_CURRENCY = 0.02
SHARE_RESOLD = 0.02
STOCK_PICTURE_BRAND = "Odda Basics"
STOCK_PICTURE_SHARE = 0.15
"""One brand's products often share the one picture that their category has."""
SHARE_OF_BAD_IMAGES = 0.02
BAD_IMAGES = ("404", "truncated", "too-large", "html-as-jpeg", "slow-2", "flaky-500-1", "gif", "410")
"""Kinds of image_faults.py; `slow` and `flaky` end well."""

SPOILT: tuple[dict[str, object], ...] = (
    {"sold_price": None},
    {"sold_price": Decimal("-12.50")},
    {"sold_price": Decimal("NaN")},
    {"product_id": None},
    {"currency": "EURO"},
    {"category": " "},
    {},
)
"""What is wrong with a day's last sale: a week shows each kind once, and has one clean day."""


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What a seeding did. `sales` are all lines of the days, `bad_rows` and `bad_images` among them."""

    days: int
    sales: int
    added: int
    bad_rows: int
    bad_images: int
    pictures_drawn: int

    def __str__(self) -> str:
        """Tell it in one line."""
        return (
            f"{self.added} of {self.sales} sales added for {self.days} days ({self.bad_rows} bad rows and "
            f"{self.bad_images} bad images among them on purpose), {self.pictures_drawn} pictures drawn"
        )


@dataclass(frozen=True, slots=True)
class Product:
    """What is sold; the picture's name says all that is needed to draw it."""

    product_id: str
    category: str
    brand: str | None
    condition: str
    currency: str | None
    price: Decimal
    picture: str
    bad_image: str | None

    def draw(self) -> bytes:
        """Return the product's picture."""
        return draw_product(self.category, self.brand or "unbranded", zlib.crc32(self.picture.encode()))

    def image_url(self, base_url: str) -> str:
        """Return where the image host serves it, or has something wrong with it."""
        fault = f"fault/{self.bad_image}/" if self.bad_image else ""
        return f"{base_url.rstrip('/')}/{fault}{FOLDER}/{self.picture}"


@dataclass(frozen=True, slots=True)
class Sale:
    """A product and the row of its sale, whose image URL is still open."""

    product: Product
    line: SourceLine
    spoilt: bool


def seed_demo(  # noqa: PLR0913 - two places and three sizes, the sizes by name only
    connection: psycopg.Connection,
    images_folder: Path,
    image_base_url: str,
    *,
    days: Sequence[date],
    zone: tzinfo = UTC,
    sales_per_day: int = 150,
    seed: int = 7,
) -> SeedReport:
    """Fill the table `sales` and the image folder for `days` of `zone`, about `sales_per_day` each.

    Rows that are there keep what was done to them; only their image URL follows the image host to its new port.
    Raises psycopg.Error, OSError; no sale is added before all its pictures lie there.
    """
    sales = [sale for day in sorted(set(days)) for sale in sales_of_day(day, sales_per_day, seed, zone)]
    drawn = _draw_missing(images_folder / FOLDER, (sale.product for sale in sales))
    lines = (replace(sale.line, image_url=sale.product.image_url(image_base_url)) for sale in sales)
    loaded = load(connection, lines, refresh=("image_url",))
    return SeedReport(
        days=len(set(days)),
        sales=loaded.lines,
        added=loaded.added,
        bad_rows=sum(sale.spoilt for sale in sales),
        bad_images=sum(sale.product.bad_image is not None for sale in sales),
        pictures_drawn=drawn,
    )


def sales_of_day(day: date, sales_per_day: int, seed: int, zone: tzinfo = UTC) -> Iterator[Sale]:
    """Yield the day's sales, the last one spoilt on six days of seven."""
    dice = random.Random(f"{seed}/{day}")  # noqa: S311 - demo data, no secret
    count = max(1, round(sales_per_day * WEEKDAY_FACTORS[day.weekday()] * dice.uniform(0.93, 1.07)))
    for number in range(count):
        product = product_of(day, number, seed)
        if dice.random() < SHARE_RESOLD:
            product = product_of(day - timedelta(days=dice.randrange(2)), dice.randrange(number + 1), seed)
        hour = dice.triangular(6, 24, 19.5)
        sold_at = (datetime.combine(day, time(), zone) + timedelta(hours=min(hour, 23.99))).astimezone(UTC)
        recorded_at = sold_at + timedelta(minutes=dice.uniform(1, 90))
        sale_id = f"SG-{day:%Y%m%d}-{number:05d}"
        line = SourceLine(
            load_key=f"demo/{sale_id}",
            sale_id=sale_id,
            product_id=product.product_id,
            category=product.category,
            brand=product.brand,
            condition=product.condition,
            sold_price=product.price,
            currency=product.currency,
            sold_at=sold_at,
            image_url=None,
            recorded_at=recorded_at,
        )
        wrong = SPOILT[day.toordinal() % len(SPOILT)] if number == count - 1 else {}
        yield Sale(product, replace(line, **wrong), bool(wrong))  # type: ignore[arg-type]


def product_of(day: date, number: int, seed: int) -> Product:
    """Return the product that was listed as number `number` of `day`."""
    dice = random.Random(f"{seed}/{day}/{number}")  # noqa: S311 - demo data, no secret
    category = dice.choices(tuple(CATEGORY_EUROS), CATEGORY_WEIGHTS)[0]
    brand = dice.choices(tuple(BRAND_FACTORS), BRAND_WEIGHTS)[0]
    condition = dice.choices(tuple(CONDITION_FACTORS), CONDITION_WEIGHTS)[0]
    in_season = SEASON_FACTORS.get(category, {}).get(season(day, Hemisphere.NORTH), 1.0)
    middle = CATEGORY_EUROS[category] * BRAND_FACTORS[brand] * CONDITION_FACTORS[condition] * in_season
    price = Decimal(max(1.0, middle * dice.lognormvariate(0, PRICE_SIGMA))).quantize(Decimal("0.01"))
    branded = dice.random() >= SHARE_WITHOUT_BRAND
    product_id = f"P{day:%y%m%d}{number:05d}"
    stocked = branded and brand == STOCK_PICTURE_BRAND and dice.random() < STOCK_PICTURE_SHARE
    return Product(
        product_id=product_id,
        category=category,
        brand=brand if branded else None,
        condition=condition,
        currency=None if dice.random() < SHARE_WITHOUT_CURRENCY else "EUR",
        price=price,
        picture=f"stock-{category}.jpg" if stocked else f"{product_id}.jpg",
        bad_image=dice.choice(BAD_IMAGES) if dice.random() < SHARE_OF_BAD_IMAGES else None,
    )


def _draw_missing(folder: Path, products: Iterator[Product]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in folder.iterdir()}
    drawn = 0
    for product in products:
        if product.picture not in there:
            unfinished = folder / f"{product.picture}.unfinished"
            unfinished.write_bytes(product.draw())
            unfinished.rename(folder / product.picture)
            there.add(product.picture)
            drawn += 1
    return drawn
