"""Drawn pictures: the same every time, light, and told apart by category."""

from __future__ import annotations

import io
import statistics
import time

import numpy as np
import pytest
from PIL import Image

from salesintel_dagster.local.descriptor import pixel_vector
from salesintel_dagster.local.pictures import SHAPES, draw_product
from salesintel_dagster.local.seed import CATEGORY_EUROS


def test_the_same_product_is_drawn_to_the_same_bytes_and_another_to_others() -> None:
    first = draw_product("bag", "Solvang", 5)
    assert first == draw_product("bag", "Solvang", 5)
    others = (draw_product("hat", "Solvang", 5), draw_product("bag", "Tarn", 5), draw_product("bag", "Solvang", 6))
    assert first not in others


@pytest.mark.parametrize("category", [*SHAPES, "umbrella", "", "Ärmel/../x"])
def test_a_picture_is_a_whole_jpeg_of_400_pixels_and_an_ordinary_weight(category: str) -> None:
    picture = draw_product(category, "Solvang", 1)
    with Image.open(io.BytesIO(picture)) as image:
        image.load()
        assert (image.format, image.size, image.mode) == ("JPEG", (400, 400), "RGB")
    assert 15_000 <= len(picture) <= 40_000


def test_every_category_of_the_demo_has_a_shape_of_its_own() -> None:
    assert set(CATEGORY_EUROS) == set(SHAPES)


def test_a_picture_is_drawn_in_a_few_milliseconds() -> None:
    draw_product("bag", "Solvang", 0)
    seconds = []
    for seed in range(30):
        began = time.process_time()
        draw_product("jacket", "Solvang", seed)
        seconds.append(time.process_time() - began)
    assert statistics.median(seconds) < 0.010, "measured 0.0022"


def test_the_nearest_pictures_are_of_the_same_category() -> None:
    drawn = [
        (category, draw_product(category, brand, seed))
        for category in SHAPES
        for brand in ("Solvang", "Tarn", "Lumo")
        for seed in range(5)
    ]
    category = np.array([name for name, _ in drawn])
    vectors = np.stack([pixel_vector(Image.open(io.BytesIO(picture))) for _, picture in drawn])
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    nearest = np.argsort(-likeness, axis=1)[:, :10]
    assert (category[nearest] == category[:, None]).mean() > 0.85, "measured 0.94; chance is 0.09"
