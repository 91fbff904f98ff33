"""Image rules: what the bytes say, which URLs are fetched, which addresses are visited."""

from __future__ import annotations

import io
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from salesintel_dagster.domain.errors import ImageRefused
from salesintel_dagster.domain.image_urls import (
    AddressKind,
    address_kind,
    check_addresses,
    parse_image_url,
    redirected,
)
from salesintel_dagster.domain.images import (
    JPEG_END,
    MAX_PROFILES,
    ImageKind,
    for_decoding,
    image_key,
    is_whole,
    jpeg_exif,
    read_header,
)
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster_tests.fakes.hostile_urls import FORBIDDEN, PRIVATE, REFUSED_URLS
from salesintel_dagster_tests.fakes.images import picture

LOCAL = frozenset({"127.0.0.1:8123", "images.local:80"})


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    """B1"""
    with pytest.raises(ImageRefused) as refused:
        parse_image_url(url)
    assert refused.value.status is ImageStatus.REFUSED_URL


@pytest.mark.parametrize("character", ["\r", "\n", "\t", "\0", "\x1f", "\x7f", "\r\nHost: evil"])
def test_a_control_character_never_reaches_a_request(character: str) -> None:
    """B1"""
    for url in (
        f"http://example.com/{character}a",
        f"http://exam{character}ple.com/",
        f"http://example.com/{character}",
    ):
        with pytest.raises(ImageRefused):
            parse_image_url(url)


def test_a_refusal_says_nothing_of_the_url() -> None:
    """B19"""
    for url in (
        "http://user:canary@example.com/",
        "ftp://canary",
        "http://example.com:22/canary?canary",
        "http://canary../",
    ):
        with pytest.raises(ImageRefused) as refused:
            parse_image_url(url)
        assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "url,host_header,target",
    [
        ("http://Example.COM", "example.com", "/"),
        ("HTTPS://example.com:443/a.jpg?x=1#frag", "example.com", "/a.jpg?x=1"),
        ("http://example.com:443/a", "example.com:443", "/a"),
        ("http://example.com?x=1", "example.com", "/?x=1"),
        ("http://cdn_1.example.com/a b/\u00e9.jpg", "cdn_1.example.com", "/a%20b/%C3%A9.jpg"),
        ("http://example.com/%7Ea%2Fb?u=http://x/%00", "example.com", "/%7Ea%2Fb?u=http://x/%00"),
        ("http://93.184.216.34/a", "93.184.216.34", "/a"),
        ("https://[2606:4700:0::1]/a", "[2606:4700::1]", "/a"),
        ("http://127.0.0.1:8123/a", "127.0.0.1:8123", "/a"),
    ],
)
def test_an_ordinary_url_is_taken_apart_in_one_way(url: str, host_header: str, target: str) -> None:
    parsed = parse_image_url(url, LOCAL)
    assert (parsed.host_header, parsed.target) == (host_header, target)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "http://example.com/", "https://[", "http://a:"]))
def test_any_text_is_parsed_into_printable_ascii_or_refused(text: str, start: str) -> None:
    try:
        parsed = parse_image_url(start + text)
    except ImageRefused:
        return
    request = f"{parsed.host_header}{parsed.target}"
    assert request.isascii()
    assert request.isprintable()
    assert " " not in request


PUBLIC = """
    8.8.8.8 93.184.216.34 172.32.0.1 100.128.0.1 198.20.0.1 2606:4700::1 2a00:1450:4001::1 2001:4860:4860::8888
""".split()


@pytest.mark.parametrize(
    "address,kind",
    [
        *((address, AddressKind.FORBIDDEN) for address in FORBIDDEN),
        *((address, AddressKind.PRIVATE) for address in PRIVATE),
        *((address, AddressKind.PUBLIC) for address in PUBLIC),
    ],
)
def test_every_address_is_public_private_or_forbidden(address: str, kind: AddressKind) -> None:
    """B1"""
    assert address_kind(address) is kind


def test_one_private_answer_among_public_ones_spoils_the_host() -> None:
    """B2"""
    url = parse_image_url("http://images.example.com/a.jpg")
    check_addresses(url, ["8.8.8.8", "2606:4700::1"], LOCAL)
    with pytest.raises(ImageRefused, match=r"images\.example\.com has an address that is not public"):
        check_addresses(url, ["8.8.8.8", "10.0.0.1"], LOCAL)


def test_an_allowed_host_may_be_private_but_never_a_metadata_address() -> None:
    url = parse_image_url("http://images.local/a.jpg", LOCAL)
    check_addresses(url, ["10.0.0.1"], LOCAL)
    for address in ("169.254.169.254", "fd00:ec2::254", "::ffff:127.0.0.1"):
        with pytest.raises(ImageRefused):
            check_addresses(url, [address], LOCAL)


@pytest.mark.parametrize(
    "location",
    [
        "http://example.com/b",
        "//user@example.com/",
        "ftp://example.com/",
        "\\\\evil",
        "https://example.com:22/",
        "http://[",
    ],
)
def test_a_redirect_is_held_to_the_rules_and_never_leaves_https(location: str) -> None:
    """B3"""
    with pytest.raises(ImageRefused):
        redirected(parse_image_url("https://example.com/a"), location, LOCAL)


def test_a_relative_redirect_stays_on_its_host_and_port() -> None:
    source = parse_image_url("http://127.0.0.1:8123/shop/a?x=1", LOCAL)
    assert redirected(source, "../b?y=2", LOCAL).target == "/b?y=2"
    assert redirected(source, "/c", LOCAL).pair == "127.0.0.1:8123"


def test_the_key_of_an_image_is_made_of_tenant_and_content_only() -> None:
    """B18"""
    digest = "ab" * 32
    assert image_key("carousel-labs", digest, ImageKind.PNG) == f"images/smartgo/carousel-labs/ab/{digest}.png"
    assert ImageKind.of_key(image_key("t", digest, ImageKind.PNG)) is ImageKind.PNG
    assert ImageKind.of_key(image_key("t", digest, ImageKind.JPEG)) is ImageKind.JPEG


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"<html><body>not found</body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"GIF89a/*" + b"\0" * 40 + b"*/=1;alert(1)",
        b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 40,
        b"%PDF-1.7",
        b"\xff\xd8\xff\xd9",
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIEND" + b"\0" * 20,
    ],
)
def test_what_is_neither_jpeg_nor_png_is_not_an_image(data: bytes) -> None:
    """B9"""
    with pytest.raises(ImageRefused) as refused:
        read_header(data)
    assert refused.value.status is ImageStatus.NOT_AN_IMAGE


@pytest.mark.parametrize("mode", ["baseline", "progressive", "exif", "png", "palette"])
def test_the_header_tells_kind_and_size_as_pillow_does(mode: str) -> None:
    data = _encoded(mode)
    header = read_header(data)
    with Image.open(io.BytesIO(data)) as image:
        assert (header.kind.value, header.width, header.height) == (Image.MIME[image.format or ""], *image.size)


@pytest.mark.parametrize("mode", ["baseline", "progressive", "exif", "png", "palette"])
def test_every_truncation_is_told_without_decoding(mode: str) -> None:
    """B9"""
    data = _encoded(mode)
    assert is_whole(data, read_header(data)) is True
    assert data.count(JPEG_END) > 1 or mode != "exif"
    for end in range(len(data)):
        try:
            header = read_header(data[:end])
        except ImageRefused:
            continue
        assert is_whole(data[:end], header) is False, end


@pytest.mark.parametrize("mode", ["baseline", "progressive", "exif", "png", "palette"])
@pytest.mark.parametrize("tail", [b"", b"\0\0", b"SEFT and more"])
def test_a_look_at_the_end_tells_as_much_of_truncation_as_a_full_decode(mode: str, tail: bytes) -> None:
    """B9"""
    data = _encoded(mode)
    header = read_header(data)
    for end in [*range(header.body_at + 20, len(data), 41), len(data) - 2, len(data) - 1, len(data)]:
        cut = data[:end] + tail
        if not _decodes(cut):
            assert is_whole(cut, header) is False, end
        if end == len(data):
            assert is_whole(cut, header) is True


@pytest.mark.parametrize("mode", ["baseline", "progressive", "exif", "cmyk", "comment", "png", "palette"])
def test_what_is_kept_for_a_decoder_has_the_same_pixels_and_no_metadata(mode: str) -> None:
    data = _encoded(mode)
    with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(for_decoding(data))) as kept:
        assert (kept.format, kept.mode) == (whole.format, whole.mode)
        assert kept.info.get("comment") == whole.info.get("comment")
        assert kept.tobytes() == whole.tobytes()
        assert "exif" not in kept.info
        assert jpeg_exif(data) == whole.info.get("exif")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_megabyte_of_filling_between_the_pixels_reaches_no_decoder_and_changes_none(*, progressive: bool) -> None:
    """B8: Pillow reads it anew with each 64 KB that come: 10 MB took 0.7 s, 100 MB by reckoning more than a minute."""
    out = io.BytesIO()
    noise = random.Random(1).randbytes(256 * 256)  # a seed of which every scan holds a stuffed 0xFF
    Image.frombytes("L", (256, 256), noise).save(out, "JPEG", quality=95, progressive=progressive)
    plain = out.getvalue()
    pixels, last_scan = Image.open(io.BytesIO(plain)).tobytes(), plain.rindex(b"\xff\xda")
    stuffed = plain.index(b"\xff\x00", last_scan)
    for at in {stuffed, len(plain) - 2, len(plain), *([last_scan] if progressive else [])}:
        filled = for_decoding(plain[:at] + b"\xff" * 1_000_000 + plain[at:])
        assert len(filled) <= len(plain) + 1, at
        assert Image.open(io.BytesIO(filled)).tobytes() == pixels, at
    short = plain[:-2] + b"\xff" * 60_000 + plain[-2:]
    assert len(for_decoding(short)) >= len(short) - 1_000


def test_what_is_cut_within_its_header_is_not_made_ready_for_a_decoder() -> None:
    data = _encoded("baseline")
    for end in range(3, data.index(b"\xff\xda")):
        with pytest.raises(ImageRefused) as refused:
            for_decoding(data[:end])
        assert refused.value.status is ImageStatus.TRUNCATED


def _decodes(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError):
        return False
    return True


def test_two_frames_or_endless_scans_or_filling_are_refused_before_any_decode() -> None:
    """B8"""
    whole = _encoded("baseline")
    at = whole.index(b"\xff\xc0")
    frame = whole[at : at + 2 + struct.unpack_from(">H", whole, at + 2)[0]]
    doubled = whole[:at] + frame + whole[at:]
    progressive = _encoded("progressive")
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    scans = progressive[:-2] + last_scan * 100 + progressive[-2:]
    hidden = progressive[:-2] + b"\xff\xfe\0\x04\xff\xd9" + last_scan * 100 + progressive[-2:]
    between = progressive[:-2] + b"\xff\xfe\0\2" * 20_000 + progressive[-2:]
    colour_by_colour = whole[: whole.index(b"\xff\xda")] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 100 + whole[-2:]
    filled = b"\xff\xd8" + b"\xff" * 20_000 + whole[2:]
    for data in (doubled, scans, hidden, between, colour_by_colour, filled):
        with pytest.raises(ImageRefused) as refused:
            read_header(data)
        assert refused.value.status is ImageStatus.NOT_AN_IMAGE


@pytest.mark.parametrize("side, taken", [(3_000, 64), (6_000, 17), (6_400, 16), (60_000, 16)])
def test_the_larger_a_jpeg_the_fewer_scans_may_it_have_but_the_usual_ones(side: int, taken: int) -> None:
    """B8: each is a pass over all its pixels."""
    small = _encoded("progressive")
    at = small.index(b"\xff\xc2") + 5
    first, last = small.index(b"\xff\xda"), small.rindex(b"\xff\xda")
    head = small[:at] + struct.pack(">HH", side, side) + small[at + 4 : first]
    scan = small[last:-2]
    assert read_header(head + scan * taken + JPEG_END).width == side
    with pytest.raises(ImageRefused, match=f"more than {taken} scans"):
        read_header(head + scan * (taken + 1) + JPEG_END)


@pytest.mark.parametrize("frame", sorted({*range(0xC0, 0xD0)} - {0xC0, 0xC1, 0xC2, 0xC4, 0xC8, 0xCC}))
def test_a_jpeg_whose_coding_no_browser_shows_is_refused_before_any_decode(frame: int) -> None:
    """A decoder of arithmetic codes makes up what is missing: 62 KB in 54 scans took it 299 s."""
    changed = _encoded("baseline").replace(b"\xff\xc0", bytes((0xFF, frame)), 1)
    for reader in (read_header, for_decoding):
        with pytest.raises(ImageRefused, match="arithmetic or lossless"):
            reader(changed)


def test_a_film_behind_a_progressive_jpeg_does_not_make_scans() -> None:
    """B8: in 5 MB of anything are 80 that look like one."""
    assert read_header(_encoded("progressive") + b"\xff\xda" * 100).width == 48


def test_a_jpeg_with_all_colours_in_one_scan_is_decoded_no_further() -> None:
    """B8: so that its scans need not be counted."""
    whole = _encoded("baseline")
    once_more = whole[:-2] + whole[whole.index(b"\xff\xda") : -2] * 100 + whole[-2:]
    assert read_header(once_more).width == 48
    with Image.open(io.BytesIO(once_more)) as image, pytest.raises(OSError, match="broken data stream"):
        image.load()


@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
def test_a_png_with_more_packed_profiles_than_any_picture_has_is_refused(place: bytes) -> None:
    """B8: 60 KB of them became 63 MB in each of the threads."""
    few = _with_packed(b"iCCP", MAX_PROFILES, place)
    assert is_whole(few, read_header(few))
    many = _with_packed(b"iCCP", MAX_PROFILES + 1, place)
    if place == b"IDAT":  # before anybody else reads the header
        with pytest.raises(ImageRefused, match="profiles before its pixels"):
            read_header(many)
        return
    header = read_header(many)
    with pytest.raises(ImageRefused, match="profiles"):
        is_whole(many, header)


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt"])
@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
def test_a_png_may_have_texts_in_many_languages(name: bytes, place: bytes) -> None:
    """No decoder gets them; more than 16 were refused."""
    data = _with_packed(name, 40, place)
    assert is_whole(data, read_header(data))
    assert len(for_decoding(data)) == len(_encoded("png"))


def _with_packed(name: bytes, times: int, place: bytes) -> bytes:
    data = _encoded("png")
    at = data.index(place) - 4
    packed = b"k\0\0" + zlib.compress(bytes(1_000_000))
    chunk = struct.pack(">I", len(packed)) + name + packed + struct.pack(">I", zlib.crc32(name + packed))
    return data[:at] + chunk * times + data[at:]


def _encoded(mode: str) -> bytes:
    noise = Image.effect_noise((48, 32), 60)
    packed = io.BytesIO()
    match mode:
        case "baseline":
            noise.convert("RGB").save(packed, "JPEG")
        case "progressive":
            noise.convert("RGB").save(packed, "JPEG", progressive=True)
        case "exif":
            exif = Image.Exif()
            exif[0x9286] = picture(3)  # a whole JPEG, end marker and all, inside the header
            noise.convert("RGB").save(packed, "JPEG", exif=exif.tobytes())
        case "cmyk":
            noise.convert("CMYK").save(packed, "JPEG")
        case "comment":
            noise.convert("RGB").save(packed, "JPEG", comment="a dress", icc_profile=bytes(3_000), xmp=b"<x/>")
        case "palette":
            noise.convert("P").save(packed, "PNG")
        case _:
            noise.save(packed, "PNG")
    return packed.getvalue()


def test_a_png_cut_at_a_chunk_border_is_not_whole() -> None:
    data = _encoded("png")
    end_chunk = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    cut = data.removesuffix(end_chunk)
    assert cut != data
    assert is_whole(cut, read_header(cut)) is False
