from __future__ import annotations

import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from salesintel_dagster.domain.errors import StoreUnavailable
from salesintel_dagster.flows.export.thumbnails import THUMBNAIL_PIXELS, thumbnails
from salesintel_dagster_tests.fakes.images import picture
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore

GOOD = picture(1, size=(400, 200))


def png(mode: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (400, 200)).save(out, "PNG", **options)
    return out.getvalue()


def shown(data: bytes) -> list[Image.Image]:
    made = thumbnails(InMemoryObjectStore({"k": data}), ["k"])
    return [Image.open(io.BytesIO(one), formats=("JPEG",)) for one in made]


@pytest.mark.parametrize("data", [GOOD, *(png(mode) for mode in ("RGB", "RGBA", "P", "L", "1", "LA"))])
def test_a_picture_becomes_a_small_jpeg_of_the_same_shape(data: bytes):
    [image] = shown(data)
    assert (image.size, image.mode) == ((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS // 2), "RGB")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_nothing_but_pixels_of_a_strangers_picture_is_shown(kind: str):
    """B8: a comment of 64 KB in each thumbnail made half a megabyte of a day's metadata."""
    words, out = "canary" * 10_000, io.BytesIO()
    notes = PngInfo()
    notes.add_text("comment", words)
    Image.new("RGB", (400, 200)).save(out, kind, comment=words, pnginfo=notes)
    [made] = thumbnails(InMemoryObjectStore({"k": out.getvalue()}), ["k"])
    assert b"canary" not in made


def test_a_palette_with_transparency_is_shown_without_a_warning_over_the_progress_of_a_run():
    [image] = shown(png("P", transparency=b"\x80\xff"))
    assert image.size == (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS // 2)


def test_a_small_picture_is_not_blown_up():
    [image] = shown(picture(1, size=(16, 12)))
    assert image.size == (16, 12)


@pytest.mark.parametrize(
    "data",
    [b"", b"not a picture", GOOD[: len(GOOD) // 2], png("RGB")[:100], png("RGB").replace(b"IDAT", b"\0\0\0\0")],
    ids=["empty", "text", "half a JPEG", "half a PNG", "a PNG with a broken chunk"],
)
def test_a_damaged_picture_is_left_out(data: bytes):
    assert shown(data) == []


def test_a_picture_that_the_store_has_not_or_cannot_give_is_left_out_and_the_others_are_shown():
    store = InMemoryObjectStore({"a": GOOD, "b": GOOD})
    store.fail("get", StoreUnavailable("down"), only="a")
    assert len(thumbnails(store, ["a", "b", "gone"])) == 1
