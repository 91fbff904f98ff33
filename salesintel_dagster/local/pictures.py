"""Drawn product pictures: the category is the shape, the brand the colours, the seed where and on what it lies.

Deterministic: the same arguments give the same bytes with the same Pillow. About 20 to 26 KB and 2.2 ms a picture of
400 x 400, so that a demo's images weigh what a shop's small ones do.
"""

from __future__ import annotations

import colorsys
import functools
import hashlib
import io
import math
import random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIDE_PIXELS = 400
JPEG_QUALITY = 85
NOISE_LEVELS = 13
"""Grain of the backdrop, in 8-bit steps: with none a drawing is 6 KB, with this about 25."""

Point = tuple[float, float]
Part = tuple[str, tuple[Point, ...]]
"""A polygon in [-1, 1] x [-1, 1] (y downwards) and the colour it takes: body, trim, dark or hole (the backdrop)."""


def _ellipse(x: float, y: float, across: float, down: float) -> tuple[Point, ...]:
    steps = 28
    angles = (2 * math.pi * step / steps for step in range(steps))
    return tuple((x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles)


def _box(left: float, top: float, right: float, bottom: float) -> tuple[Point, ...]:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


_TORSO = ((-0.45, -0.65), (-0.15, -0.7), (0, -0.55), (0.15, -0.7), (0.45, -0.65))

SHAPES: dict[str, tuple[Part, ...]] = {
    "bag": (
        ("dark", _ellipse(0, -0.3, 0.42, 0.5)),
        ("hole", _ellipse(0, -0.3, 0.32, 0.4)),
        ("body", ((-0.6, -0.25), (0.6, -0.25), (0.75, 0.7), (-0.75, 0.7))),
        ("trim", _box(-0.66, 0.05, 0.66, 0.17)),
        ("dark", _box(-0.1, 0.0, 0.1, 0.25)),
    ),
    "dress": (
        ("body", (*_TORSO, (0.28, -0.05), (0.75, 0.9), (-0.75, 0.9), (-0.28, -0.05))),
        ("trim", _box(-0.29, -0.1, 0.29, 0.0)),
    ),
    "shoes": (
        ("body", ((-0.8, -0.3), (-0.35, -0.35), (0.05, 0.05), (0.7, 0.2), (0.85, 0.45), (-0.8, 0.45))),
        ("dark", _box(-0.82, 0.43, 0.87, 0.57)),
        ("trim", ((-0.2, -0.18), (0.1, 0.1), (0.2, 0.0), (-0.1, -0.28))),
    ),
    "hat": (
        ("body", ((-0.45, 0.2), (-0.35, -0.55), (0, -0.65), (0.35, -0.55), (0.45, 0.2))),
        ("trim", _box(-0.47, 0.02, 0.47, 0.2)),
        ("body", _ellipse(0, 0.28, 0.95, 0.2)),
    ),
    "shirt": (
        ("body", (*_TORSO, (0.95, -0.2), (0.72, 0.05), (0.45, -0.2), (0.45, 0.8), (-0.45, 0.8), (-0.45, -0.2))),
        ("body", ((-0.45, -0.65), (-0.95, -0.2), (-0.72, 0.05), (-0.4, -0.2))),
        ("trim", _box(-0.04, -0.5, 0.04, 0.8)),
    ),
    "trousers": (
        ("body", ((-0.4, -0.9), (0.4, -0.9), (0.55, 0.9), (0.15, 0.9), (0, -0.25), (-0.15, 0.9), (-0.55, 0.9))),
        ("trim", _box(-0.41, -0.9, 0.41, -0.78)),
    ),
    "skirt": (
        ("body", ((-0.35, -0.5), (0.35, -0.5), (0.9, 0.6), (0.45, 0.7), (0, 0.62), (-0.45, 0.7), (-0.9, 0.6))),
        ("dark", _box(-0.36, -0.58, 0.36, -0.46)),
        ("trim", ((-0.8, 0.4), (0.8, 0.4), (0.84, 0.5), (-0.84, 0.5))),
    ),
    "jacket": (
        ("body", ((-0.5, -0.7), (0.5, -0.7), (0.98, 0.55), (0.75, 0.65), (0.55, 0.1), (0.55, 0.75), (-0.55, 0.75))),
        ("body", ((-0.5, -0.7), (-0.98, 0.55), (-0.75, 0.65), (-0.5, 0.1))),
        ("trim", ((-0.3, -0.7), (0, 0.0), (0.3, -0.7))),
        ("dark", _box(-0.03, 0.0, 0.03, 0.75)),
    ),
    "watch": (
        ("dark", _box(-0.2, -0.95, 0.2, 0.95)),
        ("body", _ellipse(0, 0, 0.5, 0.5)),
        ("trim", _ellipse(0, 0, 0.38, 0.38)),
        ("dark", ((-0.03, 0.03), (-0.03, -0.3), (0.03, -0.3), (0.03, -0.03), (0.22, -0.03), (0.22, 0.03))),
    ),
    "scarf": (
        ("body", ((-0.9, -0.85), (-0.65, -0.95), (0.9, 0.7), (0.65, 0.9))),
        ("body", ((0.9, -0.85), (0.65, -0.95), (-0.9, 0.7), (-0.65, 0.9))),
        ("trim", _box(-0.22, -0.2, 0.22, 0.2)),
    ),
}
"""The categories that have a shape of their own; any other becomes a star with as many points as its name says."""


def draw_product(category: str, brand: str, seed: int) -> bytes:
    """Return the JPEG of one product, 400 x 400."""
    placed = random.Random(f"place/{category}/{brand}/{seed}")  # noqa: S311 - a picture, no secret
    image = _backdrop(placed)
    draw = ImageDraw.Draw(image)
    colours = {**_brand_colours(brand), "hole": image.getpixel((5, 5))}
    turn = math.radians(placed.uniform(-14, 14))
    size = SIDE_PIXELS * placed.uniform(0.34, 0.42)
    middle = [SIDE_PIXELS / 2 + placed.uniform(-22, 22) for _ in range(2)]
    cosine, sine = size * math.cos(turn), size * math.sin(turn)
    for colour, outline in SHAPES.get(category) or _star(category):
        points = [(middle[0] + x * cosine - y * sine, middle[1] + x * sine + y * cosine) for x, y in outline]
        draw.polygon(points, fill=colours[colour])
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _backdrop(placed: random.Random) -> Image.Image:
    """Return a pale wall with a lighter middle and grain."""
    shade = np.array([placed.uniform(196, 226) for _ in range(3)], dtype=np.float32)
    shift = placed.randrange(SIDE_PIXELS)
    plane = np.roll(_grain(), shift, axis=(0, 1))[..., None] + shade
    return Image.fromarray(plane.astype(np.uint8))


@functools.cache
def _grain() -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(400).integers(0, NOISE_LEVELS, (SIDE_PIXELS, SIDE_PIXELS)).astype(np.float32)
    line = np.sin(np.linspace(0, math.pi, SIDE_PIXELS, dtype=np.float32)) * 14
    return np.asarray(noise + line[:, None] * line[None, :] / 14, dtype=np.float32)


def _brand_colours(brand: str) -> dict[str, tuple[int, int, int]]:
    digest = hashlib.sha256(brand.encode()).digest()
    hue = digest[0] / 256
    body = _rgb(hue, 0.55 + digest[1] / 640, 0.35 + digest[2] / 512)
    trim = _rgb((hue + 0.35 + digest[3] / 1024) % 1, 0.6, 0.9)
    return {"body": body, "trim": trim, "dark": _rgb(hue, 0.5, 0.2)}


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def _star(category: str) -> tuple[Part, ...]:
    points = 4 + hashlib.sha256(category.encode()).digest()[0] % 7
    turns = ((step * math.pi / points, 0.9 if step % 2 else 0.45) for step in range(2 * points))
    return (("body", tuple((reach * math.sin(turn), reach * math.cos(turn)) for turn, reach in turns)),)
