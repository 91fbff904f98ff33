"""The guard behind the real HTTP parser, asked byte by byte: what the parser bends must not get round the rule."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection

import pytest
import uvicorn
from websockets.sync.client import connect
from websockets.typing import Origin

from salesintel_dagster.webserver.guard import Guard, Receive, Scope, Send
from salesintel_dagster.webserver.rule import allowed_hosts
from salesintel_dagster.webserver.wire import MAX_HEAD_BYTES, ImpatientProtocol, config

QUERY = "query=mutation{a}"
JSON = "Content-Type: application/json"


@dataclass
class Wire:
    """A guarded application on loopback that notes what reaches it."""

    port: int
    reached: list[str] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        self.reached.append(f"{scope['type']} {scope.get('method')} {scope['path']}?{scope['query_string'].decode()}")
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            await send({"type": "websocket.send", "text": "late"})
            return
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/slow":
            await asyncio.sleep(3 * ImpatientProtocol.request_seconds)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def ask(self, text: str) -> bytes:
        """Send the bytes as they are, with HOST for our own Host; return all that is answered."""
        raw = text.replace("HOST", f"127.0.0.1:{self.port}").replace("\n", "\r\n").encode("latin-1")
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as opened:
            opened.sendall(raw)
            opened.shutdown(socket.SHUT_WR)
            answer = b""
            while part := opened.recv(65536):
                answer += part
            return answer


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Wire(listener.getsockname()[1])
        guard = Guard(made.app, allowed_hosts(made.port, "127.0.0.1"))
        server = uvicorn.Server(config(guard, lifespan="off", log_level="error"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        yield made
        server.should_exit = True
        thread.join(10)


def get(target: str, *headers: str) -> str:
    return "\n".join((f"GET {target} HTTP/1.1", "Host: HOST", "Connection: close", *headers, "", ""))


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
    "a websocket without Origin": get(
        "/graphql", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    ).replace("Connection: close", "Connection: Upgrade"),
    "a websocket of another site": get(
        "/graphql",
        "Upgrade: websocket",
        "Origin: http://evil.example",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ).replace("Connection: close", "Connection: Upgrade"),
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


def test_a_body_that_never_ends_is_given_up(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    """J4: the login takes a body of whoever reaches the port."""
    monkeypatch.setattr(ImpatientProtocol, "request_seconds", 0.2)
    head = b"POST /a HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 100\r\n\r\n" % wire.port
    with socket.create_connection(("127.0.0.1", wire.port), timeout=5) as opened:
        opened.sendall(head + b"a")
        assert opened.recv(1) == b""


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
