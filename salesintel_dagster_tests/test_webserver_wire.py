"""The guard behind the real HTTP parser, asked byte by byte: what the parser bends must not get round the rule."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Literal

import h11._abnf as h11_abnf
import h11._readers as h11_readers
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.client import connect
from websockets.typing import Origin

from salesintel_dagster.webserver.guard import Guard, Receive, Scope, Send
from salesintel_dagster.webserver.rule import allowed_hosts
from salesintel_dagster.webserver.wire import MAX_HEAD_BYTES, ImpatientProtocol, ImpatientWebSocket, config

QUERY = "query=mutation{a}"
JSON = "Content-Type: application/json"


LARGE = 1024 * 1024
KERNEL_BYTES = 16 * 1024
"""What the kernel takes of an answer that nobody reads; left to itself, some 4 MB."""
LOGGERS = tuple(map(logging.getLogger, ("uvicorn.error", "asyncio")))
SAID = {
    "/a": ["late"],
    "/graphql": ["late"],
    "/large": ["l" * LARGE],
    "/many": ["l" * LARGE, "m" * 256 * 1024, "l" * LARGE, "late"],
}
"""What the websocket of a path is sent once it says something, all at once."""
SPEAK = b"\x81\x80\x00\x00\x00\x00"
"""An empty message of a client."""
HANDSHAKE = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")


def _never_ends() -> None:
    _again()


def _again() -> None:
    _never_ends()


@dataclass
class Wire:
    """A guarded application on loopback that notes what reaches it."""

    port: int
    connections: Collection[object] = ()
    reached: list[str] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        self.reached.append(f"{scope['type']} {scope.get('method')} {scope['path']}?{scope['query_string'].decode()}")
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            await asyncio.gather(*(send({"type": "websocket.send", "text": text}) for text in SAID[scope["path"]]))
            await receive()
            return
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/deep":
            _never_ends()
        if scope["path"] == "/slow":
            await asyncio.sleep(2.5 * ImpatientProtocol.request_seconds)
        body = b"l" * LARGE if scope["path"] == "/large" else b""
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})

    def raw(self, text: str) -> bytes:
        """Return the bytes as they are, with HOST for our own Host."""
        return text.replace("HOST", f"127.0.0.1:{self.port}").replace("\n", "\r\n").encode("latin-1")

    @contextmanager
    def unread(self, text: str) -> Iterator[socket.socket]:
        """Send the text, and leave what is answered where it is."""
        with socket.socket() as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
            opened.settimeout(5)
            opened.connect(("127.0.0.1", self.port))
            opened.sendall(self.raw(text))
            yield opened

    def comes_to(self, connections: int) -> bool:
        """Whether there are so many within 5 s."""
        ends_at = time.monotonic() + 5
        while len(self.connections) != connections and time.monotonic() < ends_at:
            time.sleep(0.01)
        return len(self.connections) == connections

    def ask(self, text: str) -> bytes:
        """Send the text; return all that is answered."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as opened:
            opened.sendall(self.raw(text))
            opened.shutdown(socket.SHUT_WR)
            return _read_to_the_end(opened)


def _read_to_the_end(opened: socket.socket) -> bytes:
    return b"".join(iter(lambda: opened.recv(KERNEL_BYTES), b""))


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    yield from _served("auto")


@pytest.fixture
def wire_of_asyncio() -> Iterator[Wire]:
    """Where uvloop is not installed. It tells of what is unread once all writers have written, not after the first."""
    yield from _served("asyncio")


def _served(loop: Literal["auto", "asyncio"]) -> Iterator[Wire]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Wire(listener.getsockname()[1])
        guard = Guard(made.app, allowed_hosts(made.port, "127.0.0.1"))
        server = uvicorn.Server(config(guard, loop=loop, lifespan="off", log_level="warning"))
        made.connections = server.server_state.connections
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
        thread.start()
        yield made
        server.should_exit = True
        thread.join(10)


def get(target: str, *headers: str) -> str:
    return "\n".join((f"GET {target} HTTP/1.1", "Host: HOST", "Connection: close", *headers, "", ""))


def websocket(target: str, *headers: str) -> str:
    return get(target, *HANDSHAKE, *headers).replace("Connection: close", "Connection: Upgrade")


def post(target: str, *headers: str, body: str = "{}") -> str:
    lines = (f"POST {target} HTTP/1.1", "Host: HOST", "Connection: close", f"Content-Length: {len(body)}")
    return "\n".join((*lines, *headers, "", body))


REFUSED = {
    "an absolute target": get(f"http://evil.example/graphql?{QUERY}"),
    "an absolute target and another Host": f"GET http://HOST/graphql?{QUERY} HTTP/1.1\nHost: evil.example\n\n",
    "a path in percent": get(f"/%67raphql?{QUERY}"),
    "a slash in percent": get(f"/graphql%2F?{QUERY}"),
    "a slash after": get(f"/graphql/?{QUERY}"),
    "a line end in the path": get(f"/graphql%0a?{QUERY}"),
    "a zero in the path": get(f"/graphql%00?{QUERY}"),
    "HEAD": get(f"/graphql?{QUERY}").replace("GET", "HEAD", 1),
    "an override": get(f"/graphql?{QUERY}", "X-HTTP-Method-Override: POST", JSON),
    "no Host": "GET /a HTTP/1.0\n\n",
    "an empty Host": "GET /a HTTP/1.1\nHost:\n\n",
    "two Hosts": get("/a", "Host: HOST"),
    "a Host with a user": get("/a").replace("Host: HOST", "Host: HOST@evil.example"),
    "a Host with a dot": get("/a").replace("Host: HOST", "Host: localhost.:80"),
    "a forwarded Host": get("/a", "X-Forwarded-Host: HOST").replace("Host: HOST\nC", "Host: evil.example\nC"),
    "a folded Origin": get("/a", "Origin:", " http://evil.example"),
    "a null Origin": get("/a", "Origin: null"),
    "an empty Origin": get("/a", "Origin:"),
    "two Origins": get("/a", "Origin: http://HOST", "Origin: http://evil.example"),
    "an Origin that begins like ours": get("/a", "Origin: http://HOST.evil.example"),
    "two sites": get("/a", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"),
    "sites in one": get("/a", "Sec-Fetch-Site: same-origin, cross-site"),
    "a site in capitals": get("/a", "SEC-FETCH-SITE: CROSS-SITE"),
    "text for JSON": post("/graphql", "Content-Type: text/plain; x=application/json"),
    "two types": post("/graphql", JSON, "Content-Type: text/plain"),
    "a type list": post("/graphql", "Content-Type: text/plain, application/json"),
    "a form": post("/graphql", "Content-Type: application/x-www-form-urlencoded", body="query=a"),
    "a form of parts": post("/graphql", "Content-Type: multipart/form-data; boundary=a"),
    "no type, a query": post(f"/graphql?{QUERY}", body=""),
    "a report of another site": post("/report_asset_materialization/a", "Origin: http://evil.example", JSON),
    "a websocket without Origin": websocket("/graphql"),
    "a websocket of another site": websocket("/graphql", "Origin: http://evil.example"),
}
BROKEN = {
    "a space before the colon": get("/a", "Origin : http://evil.example"),
    "no HTTP": "hello\n\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_form_of_a_foreign_request_gets_past_the_guard(wire: Wire, name: str):
    """J4"""
    wire.reached.clear()
    answer = wire.ask(REFUSED[name])
    assert wire.reached == []
    assert answer.split(b" ")[1:2] in ([b"403"], [b"400"]), answer[:200]


@pytest.mark.parametrize("name", BROKEN)
def test_what_the_parser_refuses_reaches_nobody(wire: Wire, name: str):
    """J4"""
    wire.reached.clear()
    wire.ask(BROKEN[name])
    assert wire.reached == []


@pytest.mark.parametrize("encoding", ["Transfer-Encoding: chunked", "Transfer-Encoding: xchunked", "Content-Length: 3"])
def test_a_request_hidden_in_another_ones_body_is_judged_like_any_other(wire: Wire, encoding: str):
    """J4: two lengths, an unknown encoding. Whatever the parser makes of the rest, no GraphQL by GET gets through."""
    wire.reached.clear()
    hidden = f"GET /graphql?{QUERY} HTTP/1.1\nHost: HOST\n\n"
    wire.ask(f"POST /a HTTP/1.1\nHost: HOST\n{encoding}\nContent-Length: 5\n\n0\n\n{hidden}")
    assert [asked for asked in wire.reached if "graphql" in asked] == []


def test_what_our_own_page_asks_gets_through(wire: Wire):
    wire.reached.clear()
    wire.ask(post("/graphql", JSON, "Origin: http://HOST", "Sec-Fetch-Site: same-origin"))
    wire.ask(get("/runs/1", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"))
    assert wire.reached == ["http POST /graphql?", "http GET /runs/1?"]


STRANGE = {
    **BROKEN,
    "another protocol": "PRI * HTTP/2.0\n\nSM\n\n",
    "an upgrade to HTTP/2": get("/a", "Upgrade: h2c", "Origin: null").replace(
        "Connection: close", "Connection: Upgrade"
    ),
    "a refused websocket": REFUSED["a websocket of another site"],
    "a websocket with a letter that is not ASCII": websocket("/a", "Origin: null", "Sec-WebSocket-Protocol: \xff"),
    "no chunk": get("/a", "Origin: null", "Transfer-Encoding: chunked") + "z\n",
}


@contextmanager
def _logged() -> Iterator[list[logging.LogRecord]]:
    logged = list[logging.LogRecord]()
    listening = logging.Handler()
    listening.emit = logged.append  # type: ignore[method-assign]
    for logger in LOGGERS:
        logger.addHandler(listening)
    try:
        yield logged
    finally:
        for logger in LOGGERS:
            logger.removeHandler(listening)


@pytest.mark.parametrize("name", STRANGE)
def test_whoever_reaches_the_port_cannot_fill_the_log(wire: Wire, name: str):
    """J4: one wrong byte after a refusal cost 3 KB of traceback."""
    with _logged() as logged:
        answer = wire.ask(STRANGE[name])
    assert answer.startswith(b"HTTP/1.1 4") or not answer
    assert logged == []


def test_an_error_deep_down_is_told_in_short(wire: Wire):
    """A question of 1 KB that nests too deep for Dagster's parser was 200 KB of the log."""
    with _logged() as logged:
        assert wire.ask(get("/deep")).startswith(b"HTTP/1.1 500")
    (text,) = map(logging.Formatter().format, logged)
    assert "RecursionError" in text
    assert len(text) < 10_000


def test_what_a_stop_cuts_off_is_counted_and_no_more():
    """Bodies that did not come, as of a login, which asks for no token: each was 1 KB of traceback, for 400 clients."""
    served = _served("auto")
    wire = next(served)
    with _logged() as logged, wire.unread(get("/a", "Content-Length: 1")):
        while not wire.reached:
            time.sleep(0.01)
        next(served, None)
    assert [record.getMessage() for record in logged] == [
        "Cancel 1 running task(s), timeout graceful shutdown exceeded"
    ]


def test_a_head_without_end_is_cut_off(wire: Wire):
    """J4: httptools took 100 MB of it, before any token was asked for."""
    wire.reached.clear()
    sent = 0
    with socket.create_connection(("127.0.0.1", wire.port), timeout=5) as opened:
        opened.sendall(b"GET /a HTTP/1.1\r\n")
        with suppress(ConnectionError):
            while sent < 500 * MAX_HEAD_BYTES:
                sent += opened.send(b"A: " + b"b" * 60_000 + b"\r\n")
    assert sent < 200 * MAX_HEAD_BYTES  # what the buffers of both sides hold
    assert wire.reached == []


def test_blanks_in_a_header_cost_no_time(wire: Wire):
    """J4: a head of 60 KB, before any token, took 4 s or more of the only thread, in which nobody else is answered."""
    began = time.process_time()
    assert wire.ask(get("/a", f"A:{60_000 * ' '}\0")).startswith(b"HTTP/1.1 400")
    assert wire.ask(get("/a", f"A: \t a \t {30_000 * ' '}")).startswith(b"HTTP/1.1 200")
    assert time.process_time() - began < 1


def test_blanks_in_a_chunks_extension_cost_no_time(wire: Wire):
    """J4: a body is read with its head, before any token: 60 KB took 4 s or more of the only thread."""
    began = time.process_time()
    with wire.unread(get("/a", "Transfer-Encoding: chunked")) as opened:
        opened.sendall(b"0;" + 60_000 * b" " + b"\n\r\n")
        assert opened.recv(1) == b""
    assert time.process_time() - began < 1


@given(st.lists(st.sampled_from((b"a", b"0", b":", b";", b" ", b"\t", b"\r", b"\n", b"\0"))).map(b"".join))
def test_the_mended_patterns_take_what_those_of_h11_take(text: bytes):
    header, chunk = (re.compile(pattern.encode()) for pattern in (h11_abnf.header_field, h11_abnf.chunk_header))
    expected, found = header.fullmatch(b"a:" + text), h11_readers.header_field_re.fullmatch(b"a:" + text)
    assert (found and found["field_value"]) == (expected and expected["field_value"])
    assert bool(h11_readers.chunk_header_re.fullmatch(b"0" + text + b"\r\n")) == bool(
        chunk.fullmatch(b"0" + text + b"\r\n")
    )


def test_many_headers_are_not_kept_for_a_body_that_does_not_come(wire: Wire):
    """J4: 400 clients without a token, 15,000 headers each: 1.4 GB, as often as they liked."""
    with wire.unread(get("/a", *["A: b"] * 200, "Content-Length: 1")) as opened:
        answer = _read_to_the_end(opened)
    assert answer.startswith(b"HTTP/1.1 403")


def test_a_connection_that_asks_nothing_whole_is_closed_and_others_are_served(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
):
    """J4: 300 that dripped a head stayed for ever; some 1,000 are all that a process may have open."""
    monkeypatch.setattr(ImpatientProtocol, "request_seconds", 0.2)
    start = b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % wire.port
    with socket.create_connection(("127.0.0.1", wire.port), timeout=5) as opened:
        opened.sendall(start)
        assert opened.recv(1) == b""
    with socket.create_connection(("127.0.0.1", wire.port), timeout=5) as opened:
        opened.sendall(start + b"\r\n" + start)  # one whole, and then a drip
        assert opened.recv(4096).startswith(b"HTTP/1.1 200")
        assert opened.recv(1) == b""
    assert wire.ask(get("/a")).startswith(b"HTTP/1.1 200")


def test_there_are_only_so_many_connections(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    """J4: who has no token opened some 1,000, all the files of a process, and gRPC aborted the webserver for it."""
    assert wire.comes_to(0)
    monkeypatch.setattr(ImpatientProtocol, "max_connections", 2)
    with wire.unread("GET /a"), wire.unread("GET /a"):
        assert wire.comes_to(2)
        with suppress(OSError):
            assert wire.ask(get("/a")) == b""
    assert wire.comes_to(0)
    assert wire.ask(get("/a")).startswith(b"HTTP/1.1 200")


def test_a_body_that_never_ends_is_given_up(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    """J4: the login takes a body of whoever reaches the port."""
    monkeypatch.setattr(ImpatientProtocol, "request_seconds", 0.2)
    head = b"POST /a HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 100\r\n\r\n" % wire.port
    with socket.create_connection(("127.0.0.1", wire.port), timeout=5) as opened:
        opened.sendall(head + b"a")
        assert opened.recv(1) == b""


UNREAD = {
    "a large answer": get("/large").replace("Connection: close\n", ""),
    "a large answer, and no more after it": get("/large"),
    "a large message": websocket("/large", "Origin: http://HOST"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_who_reads_nothing_is_cut_off(wire: Wire, monkeypatch: pytest.MonkeyPatch, name: str):
    """J4: uvicorn held the answer and the connection for ever."""
    monkeypatch.setattr(ImpatientProtocol, "read_seconds", 0.2)
    monkeypatch.setattr(ImpatientWebSocket, "read_seconds", 0.2)
    assert wire.comes_to(0)
    with wire.unread(UNREAD[name]) as opened:
        assert wire.comes_to(1)
        if name == "a large message":
            assert opened.recv(12) == b"HTTP/1.1 101"
            opened.sendall(SPEAK)
        assert wire.comes_to(0)


def test_who_is_refused_keeps_no_connection(wire: Wire):
    """J4: 400 clients without a token, who asked every 2 s and were refused, kept every place for ever."""
    with wire.unread("GET /a HTTP/1.1\nHost: HOST\nOrigin: null\n\n") as opened:
        answer = _read_to_the_end(opened)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"connection: close" in answer


def test_who_reads_slowly_gets_all(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    """A wait begins anew with what is read, also of an answer that was given in one piece."""
    monkeypatch.setattr(ImpatientProtocol, "read_seconds", 0.3)
    with wire.unread(get("/large")) as opened:
        answer = b""
        while part := opened.recv(KERNEL_BYTES):
            answer += part
            time.sleep(0.01)
    assert answer.endswith(b"l" * LARGE)


def test_a_websocket_that_several_write_to_is_read_slowly_to_the_end(
    wire_of_asyncio: Wire, monkeypatch: pytest.MonkeyPatch
):
    """What is unread grows when the next one writes: all that the reader took in a minute was not seen for it."""
    monkeypatch.setattr(ImpatientWebSocket, "read_seconds", 0.3)
    with wire_of_asyncio.unread(websocket("/many", "Origin: http://HOST")) as opened:
        answer = opened.recv(KERNEL_BYTES)
        opened.sendall(SPEAK)
        while not answer.endswith(b"late"):
            part = opened.recv(KERNEL_BYTES)
            assert part, "cut off"
            answer += part
            time.sleep(0.01)
    assert len(answer) > 2 * LARGE


def test_a_websocket_is_not_cut_off_for_what_was_asked_before_it(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    """Its connection may come with an answer that is still unread; then the wait is the websocket's."""
    for protocol in (ImpatientProtocol, ImpatientWebSocket):
        monkeypatch.setattr(protocol, "read_seconds", 0.2)
    asked = get("/large").replace("Connection: close\n", "") + websocket("/a", "Origin: http://HOST")
    with wire.unread(asked) as opened:
        answer = b""
        while b"HTTP/1.1 101" not in answer:
            answer += opened.recv(65536)
        time.sleep(0.3)
        opened.sendall(SPEAK)
        while not answer.endswith(b"late"):
            part = opened.recv(65536)
            assert part, "cut off"
            answer += part
    with wire.unread(asked):
        assert wire.comes_to(1)
        assert wire.comes_to(0)


LEFT = {
    "in a head": f"GET /a HTTP/1.1\nA: {60_000 * 'a'}",
    "in the next head": get("/a").replace("Connection: close\n", "") + f"GET /a HTTP/1.1\nA: {60_000 * 'a'}",
    "with an answer unread": get("/large"),
    "as a websocket": websocket("/a", "Origin: http://HOST"),
}


@pytest.mark.parametrize("name", LEFT)
def test_nothing_is_kept_of_a_connection_that_ended(wire: Wire, name: str):
    """J4: for 20 seconds all was kept, which came to 1 GB in 8 seconds, from who has no token."""
    assert wire.comes_to(0)
    with wire.unread(LEFT[name]) as opened:
        assert wire.comes_to(1)
        if name != "in a head":
            assert opened.recv(12).startswith(b"HTTP/1.1 ")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
    ends_at = time.monotonic() + 5
    while _kept() and time.monotonic() < ends_at:
        gc.collect()
    assert _kept() == []


def _kept() -> list[object]:
    return [one for one in gc.get_objects() if type(one) in {ImpatientProtocol, ImpatientWebSocket}]


BROKEN_HANDSHAKES = {
    "a long address": websocket("/" + 9000 * "a"),
    "a long header": websocket("/a", f"Cookie: {9000 * 'a'}"),
    "chunks": websocket("/a", "Transfer-Encoding: chunked"),
    "no key": websocket("/a").replace("Sec-WebSocket-Key", "Key"),
    "POST": websocket("/a").replace("GET", "POST", 1),
}


@pytest.mark.parametrize("name", BROKEN_HANDSHAKES)
def test_a_handshake_that_comes_to_nothing_is_given_up(wire: Wire, name: str):
    """J4: any web page can ask for an address of 9 KB; uvicorn said nothing, and waited for ever."""
    wire.reached.clear()
    with wire.unread(BROKEN_HANDSHAKES[name]) as opened:
        answer = opened.recv(65536)
        while opened.recv(65536):
            pass
    assert answer.startswith(b"HTTP/1.1 4") or not answer
    assert wire.comes_to(0)
    assert wire.reached == []


def test_who_waits_for_us_is_not_cut_off(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    """An answer that takes long, and the UI's websocket, which is open for hours."""
    monkeypatch.setattr(ImpatientProtocol, "request_seconds", 0.1)
    host = f"127.0.0.1:{wire.port}"
    slow = HTTPConnection(host, timeout=5)
    with closing(slow), connect(f"ws://{host}/graphql", origin=Origin(f"http://{host}"), proxy=None) as opened:
        slow.request("POST", "/slow", b"{}")
        assert slow.getresponse().status == 200
        opened.send("now")
        assert opened.recv(timeout=5) == "late"


def test_what_is_asked_after_a_long_answer_has_its_time(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    """Scripts send head and body apart: the connection was closed between the two, the long answer being old."""
    monkeypatch.setattr(ImpatientProtocol, "request_seconds", 0.3)
    with socket.create_connection(("127.0.0.1", wire.port), timeout=5) as opened:
        opened.sendall(wire.raw(get("/slow").replace("Connection: close\n", "")))
        assert opened.recv(4096).startswith(b"HTTP/1.1 200")
        opened.sendall(wire.raw(get("/a"))[:20])
        time.sleep(0.3)
        opened.sendall(wire.raw(get("/a"))[20:])
        assert opened.recv(4096).startswith(b"HTTP/1.1 200")
