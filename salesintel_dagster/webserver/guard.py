"""The guard as an ASGI application around another: refuses by `rule`, lets in by `access`, hardens every answer.

Plain ASGI, so that it stands in front of whatever Dagster makes. A refusal is 403 and one sentence; a request that
lacks the token is 401, and for a person the page that asks for it. It keeps nothing between two requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from salesintel_dagster.webserver.access import Access
from salesintel_dagster.webserver.rule import NOTEBOOKS, Asked, refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LOGIN_PATH = "/salesintel/login"
MAX_LOGIN_BYTES = 4096
UNAUTHORIZED = "a token is needed: Authorization: Bearer TOKEN, or open the page in a browser and log in"
HARDENING = {
    b"x-frame-options": b"SAMEORIGIN",  # not DENY: the UI shows notebooks in a frame of its own
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",  # run ids and asset keys stay here
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
FRAME_POLICY = (b"content-security-policy", b"frame-ancestors 'self'")
"""Sent beside Dagster's own policy, not in its place: a browser obeys both."""
SANDBOX = (b"content-security-policy", b"sandbox allow-scripts")
"""A notebook's scripts run as nobody, as in the UI's own frame: a link from a chat, whose `Sec-Fetch-Site` is `none`,
opens one as a page of ours, which could do whatever its reader may."""
NO_SHARED_CACHE = (b"cache-control", b"private")
"""Where Dagster says nothing, as with logs and debug files."""
LOGIN_POLICY = b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"
LOGIN_PAGE = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Log in</title>
<style>body{{font:16px system-ui;max-width:24rem;margin:15vh auto}}input,button{{font:inherit;padding:.4rem}}</style>
<h1>Dagster</h1><form method="post" action="{LOGIN_PATH}">
<p><label>Token<br><input type="password" name="token" autocomplete="current-password" autofocus required></label></p>
<button>Log in</button></form></html>
"""


class Guard:
    """Answers for `app` what `hosts` and `access` allow; `access` None: whoever reaches the port is let in."""

    def __init__(self, app: App, hosts: frozenset[str], access: Access | None = None) -> None:
        self._app = app
        self._hosts = hosts
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        asked, answer = _asked(scope), hardened(send)
        why = refusal(asked, self._hosts)
        if why is not None:
            await _refuse(scope, answer, 403, why)
        elif self._access is not None and asked.path == LOGIN_PATH and asked.method == "POST":
            await _log_in(self._access, asked, receive, answer)  # also from a second page, left open from before
        elif self._access is None or self._access.admits(asked.values("authorization"), asked.values("cookie")):
            await self._app(scope, receive, _sandboxed(answer) if asked.path.startswith(NOTEBOOKS) else answer)
        elif (
            not asked.websocket and asked.method == "GET" and any("text/html" in one for one in asked.values("accept"))
        ):
            await _ask_for_token(answer)
        else:
            await _refuse(scope, answer, 401, UNAUTHORIZED)


def _asked(scope: Scope) -> Asked:
    websocket = scope["type"] == "websocket"
    return Asked(
        method="GET" if websocket else scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]),
        websocket=websocket,
    )


def hardened(send: Send) -> Send:
    """Return `send` with the security headers set on every HTTP answer."""

    async def send_hardened(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in HARDENING]
            cached = () if any(name.lower() == NO_SHARED_CACHE[0] for name, _ in kept) else (NO_SHARED_CACHE,)
            message = {**message, "headers": [*kept, *cached, *HARDENING.items(), FRAME_POLICY]}
        await send(message)

    return send_hardened


def _sandboxed(send: Send) -> Send:
    async def send_sandboxed(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), SANDBOX]}
        await send(message)

    return send_sandboxed


async def _refuse(scope: Scope, send: Send, status: int, why: str) -> None:
    prefix = ""
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": why[:120]})
            return
        prefix = "websocket."
    headers: Headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    if status == 401:  # noqa: PLR2004 - HTTP Unauthorized names the way in
        headers.append((b"www-authenticate", b"Bearer"))
    await _send(send, status, headers, f"refused: {why}\n".encode(), prefix)


async def _ask_for_token(send: Send) -> None:
    headers: Headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", LOGIN_POLICY),
        (b"cache-control", b"no-store"),
        (b"www-authenticate", b"Bearer"),
    ]
    await _send(send, 401, headers, LOGIN_PAGE.encode())


async def _log_in(access: Access, asked: Asked, receive: Receive, send: Send) -> None:
    if not access.is_token(await _form_token(receive)):
        await _ask_for_token(send)
        return
    secure = any(origin.startswith("https://") for origin in asked.values("origin"))  # TLS ends at a proxy
    cookie = access.set_cookie(secure=secure).encode()
    await _send(send, 303, [(b"location", b"/"), (b"set-cookie", cookie), (b"cache-control", b"no-store")], b"")


async def _form_token(receive: Receive) -> str:
    """Return the form's token, or "" where there is none or the body is longer than MAX_LOGIN_BYTES."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_LOGIN_BYTES or message["type"] != "http.request":
            return ""
    return parse_qs(body.decode("latin-1")).get("token", [""])[0].strip()


async def _send(send: Send, status: int, headers: Headers, body: bytes, prefix: str = "") -> None:
    """Answer by ourselves and, over HTTP, end the connection: it would keep one of the few places for ever."""
    ours = [(b"content-length", str(len(body)).encode()), *([] if prefix else [(b"connection", b"close")])]
    await send({"type": f"{prefix}http.response.start", "status": status, "headers": [*headers, *ours]})
    await send({"type": f"{prefix}http.response.body", "body": body})
