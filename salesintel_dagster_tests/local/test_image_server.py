"""The image host: files of one folder and nothing else, and each fault as its name says."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from salesintel_dagster.local.image_faults import KINDS, fault_named, jpeg_bomb, png_bomb
from salesintel_dagster.local.pictures import draw_product
from salesintel_dagster_tests.local.stand_ins import call_json, stand_in

PICTURE = draw_product("hat", "COS", 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("host")
    folder = root / "images"
    (folder / "products").mkdir(parents=True)
    (folder / "products" / "a b.jpg").write_bytes(PICTURE)
    (root / "secret.txt").write_text("canary")
    (folder / "link.txt").symlink_to(root / "secret.txt")
    with stand_in("image_server", "--folder", str(folder)) as url:
        yield url


@pytest.fixture
def host(server: str) -> str:
    call_json("POST", f"{server}/reset")
    return server


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def get(url: str, path: str, *, seconds: float = 5) -> tuple[int, dict[str, str], bytes]:
    """GET without following redirects: status, headers in lower case, body."""
    try:
        answered = urllib.request.build_opener(_Stay).open(url + path, timeout=seconds)
    except urllib.error.HTTPError as error:
        answered = error
    with answered:
        headers = {name.lower(): value for name, value in answered.headers.items()}
        return answered.status, headers, answered.read()


def test_a_file_is_served_with_its_type_and_counted(host: str) -> None:
    status, headers, body = get(host, "/products/a%20b.jpg")
    assert (status, headers["content-type"], body) == (200, "image/jpeg", PICTURE)
    stats = call_json("GET", f"{host}/stats")
    assert stats["paths"] == {"/products/a b.jpg": 1}
    assert (stats["requests"], stats["bytes_sent"], stats["max_concurrency"]) == (1, len(PICTURE), 1)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/products/..%2f..%2fsecret.txt",
        "/link.txt",
        "/%00",
        "/",
        "/products",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/missing.jpg",
        "/" + "x" * 5000,
    ],
)
def test_nothing_outside_the_folder_is_served(host: str, path: str) -> None:
    port = int(host.rsplit(":", 1)[1])
    with_path_as_is = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with_path_as_is.request("GET", path)
    answered = with_path_as_is.getresponse()
    assert (answered.status, answered.read()) == (404, b"")
    with_path_as_is.close()


@pytest.mark.parametrize("status", [403, 404, 410, 500, 503])
def test_a_status_by_number(host: str, status: int) -> None:
    assert get(host, f"/fault/{status}/products/x.jpg")[0] == status


def test_429_names_its_wait(host: str) -> None:
    found = [get(host, f"/fault/{kind}/x.jpg") for kind in ("429", "429-3600")]
    assert [(status, headers["retry-after"]) for status, headers, _ in found] == [(429, "2"), (429, "3600")]


def test_a_flaky_url_recovers_after_its_errors(host: str) -> None:
    statuses = [get(host, "/fault/flaky-500-2/products/a%20b.jpg")[0] for _ in range(4)]
    assert statuses == [500, 500, 200, 200]
    assert get(host, "/fault/flaky-500-2/another.jpg")[0] == 500, "each URL has a count of its own"


def test_slow_is_late_and_right(host: str) -> None:
    began = time.monotonic()
    assert get(host, "/fault/slow-1/products/a%20b.jpg")[2] == PICTURE
    assert time.monotonic() - began >= 1


def test_a_drip_comes_byte_by_byte_and_stops_when_nobody_reads(host: str) -> None:
    with pytest.raises(TimeoutError):
        _read_for(host, "/fault/drip-400/x.jpg", seconds=0.2)
    deadline = time.monotonic() + 5
    with ThreadPoolExecutor(1) as pool:
        pool.submit(get, host, "/products/a%20b.jpg").result()
    sent = call_json("GET", f"{host}/stats")["bytes_sent"] - len(PICTURE)
    assert sent <= 3
    assert time.monotonic() < deadline


def _read_for(url: str, path: str, seconds: float) -> None:
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=seconds) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while len(received) < len(PICTURE):
            received += connection.recv(65536)


def test_a_hung_answer_gives_nothing(host: str) -> None:
    with pytest.raises(TimeoutError):
        get(host, "/fault/hang/x.jpg", seconds=0.2)


def test_half_a_picture_has_full_headers(host: str) -> None:
    status, headers, body = get(host, "/fault/truncated/products/a%20b.jpg")
    assert (status, headers["content-type"], body) == (200, "image/jpeg", PICTURE[: len(PICTURE) // 2])
    with Image.open(io.BytesIO(body)) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_a_reset_breaks_the_promised_length(host: str) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        get(host, "/fault/reset/products/a%20b.jpg")


def test_too_large_has_no_length_and_passes_10_mb(host: str) -> None:
    _, headers, body = get(host, "/fault/too-large/x.jpg")
    assert "content-length" not in headers
    assert len(body) > 10 * 1024 * 1024
    assert body[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("kind", ["too-large", "endless"])
def test_a_reader_that_stops_early_is_not_sent_the_rest(host: str, kind: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(host.rsplit(":", 1)[1]), timeout=5)
    connection.request("GET", f"/fault/{kind}/x.jpg")
    connection.getresponse().read(1000)
    connection.close()
    deadline = time.monotonic() + 5
    sent = [-1, 0]
    while sent[-1] != sent[-2] and time.monotonic() < deadline:
        sent.append(call_json("GET", f"{host}/stats")["bytes_sent"])
    assert sent[-1] < 10 * 1024 * 1024


@pytest.mark.parametrize(
    "kind, content_type, start",
    [
        ("html-as-jpeg", "image/jpeg", b"<!doctype html>"),
        ("gif", "image/gif", b"GIF89a"),
        ("text", "text/plain", b"sold out"),
        ("svg", "image/svg+xml", b"<svg"),
        ("empty", "image/jpeg", b""),
        ("one-byte", "image/jpeg", b"\xff"),
        ("bomb", "image/png", b"\x89PNG"),
        ("jpeg-bomb", "image/jpeg", b"\xff\xd8\xff"),
    ],
)
def test_what_is_no_picture_is_served_with_status_200(host: str, kind: str, content_type: str, start: bytes) -> None:
    status, headers, body = get(host, f"/fault/{kind}/products/a%20b.jpg")
    assert (status, headers["content-type"]) == (200, content_type)
    assert body.startswith(start)
    assert bool(body) == bool(start)


@pytest.mark.parametrize("bomb", [png_bomb(40_000), jpeg_bomb(40_000)], ids=["png", "jpeg"])
def test_a_bomb_is_small_and_says_it_is_huge(bomb: bytes) -> None:
    assert len(bomb) < 50_000
    with pytest.raises(Image.DecompressionBombError, match="1600000000 pixels"):
        Image.open(io.BytesIO(bomb))


def test_a_gzip_bomb_unpacks_to_a_thousand_times_itself(host: str) -> None:
    _, headers, body = get(host, "/fault/gzip-bomb/x.jpg")
    assert headers["content-encoding"] == "gzip"
    assert len(body) < 100_000


def test_redirects_lead_to_the_file_to_a_loop_or_to_a_private_address(host: str) -> None:
    hops = {kind: get(host, f"/fault/{kind}/products/x.jpg")[1]["location"] for kind in KINDS if "redirect" in kind}
    assert hops == {
        "redirect": "/products/x.jpg",
        "redirect-loop": "/fault/redirect-loop/products/x.jpg",
        "redirect-private": "http://169.254.169.254/latest/meta-data/",
    }
    assert get(host, "/fault/redirect-4/products/x.jpg")[1]["location"] == "/fault/redirect-3/products/x.jpg"


@pytest.mark.parametrize("kind", ["", "gremlins", "200", "99999", "flaky-", "\u0665\u0660\u0660"])
def test_an_unknown_fault_is_none(kind: str) -> None:
    assert fault_named(kind) is None


def test_concurrency_is_told_in_all_and_by_host(host: str) -> None:
    together = threading.Barrier(6)

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(host.rsplit(":", 1)[1]), timeout=5)
        together.wait()
        connection.request("GET", f"/fault/slow-1/{number}.jpg", headers={"Host": f"shop-{number % 2}.example"})
        connection.getresponse().read()
        connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    stats = call_json("GET", f"{host}/stats")
    assert stats["max_concurrency"] == 6
    assert stats["max_concurrency_by_host"] == {"shop-0.example": 3, "shop-1.example": 3}


def test_a_web_page_cannot_reset_it(host: str) -> None:
    with pytest.raises(urllib.error.HTTPError):
        call_json("POST", f"{host}/reset", headers={"Origin": "https://evil.example"})
