from __future__ import annotations

import asyncio
import dataclasses
import re
import shutil
import subprocess
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.webserver.__main__ import door, serve
from salesintel_dagster.webserver.access import HOW_TO_MAKE_ONE, SESSION_SECONDS, Access, read_token
from salesintel_dagster.webserver.guard import LOGIN_PATH, Guard, Receive, Send
from salesintel_dagster.webserver.rule import allowed_hosts

TOKEN = "0123456789abcdef0123456789abcdef"
PORT = 3000
HOSTS = allowed_hosts(PORT, "127.0.0.1", ["dagster.example.com"])
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
Pairs = list[tuple[bytes, bytes]]


class Inner:
    """Stands for Dagster: counts what reaches it, answers 200 with headers of its own."""

    def __init__(self) -> None:
        self.reached = 0

    async def __call__(self, _scope: MutableMapping[str, Any], _receive: Receive, send: Send) -> None:
        self.reached += 1
        headers = [(b"Referrer-Policy", b"unsafe-url"), (b"content-security-policy", b"object-src 'none'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"dagster"})


def _access(at: datetime = NOON) -> Access:
    return Access(TOKEN, PORT, dataclasses.replace(SYSTEM_CLOCK, now=lambda: at))


def _ask(
    access: Access | None, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, Pairs, bytes, int]:
    """Status, headers and body of the answer, and how many requests reached what is guarded."""
    inner, sent = Inner(), list[MutableMapping[str, Any]]()
    pairs = [(key.encode(), value.encode()) for key, value in {"host": "127.0.0.1:3000", **(headers or {})}.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": pairs}
    chunks = [body[start : start + 1000] for start in range(0, len(body), 1000)] or [b""]
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Guard(inner, HOSTS, access)(scope, receive, send))
    return sent[0]["status"], sent[0]["headers"], b"".join(part.get("body", b"") for part in sent[1:]), inner.reached


def _log_in(token: str, access: Access, origin: str = "http://127.0.0.1:3000", padding: int = 0) -> tuple[int, str]:
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": origin}
    headers["host"] = origin.partition("://")[2]
    status, answered, _, reached = _ask(
        access, "POST", LOGIN_PATH, headers, f"token={token}&x={'x' * padding}".encode()
    )
    assert reached == 0
    return status, dict(answered).get(b"set-cookie", b"").decode()


def test_without_a_token_whoever_reaches_the_port_is_let_in():
    assert _ask(None, "GET", "/")[0] == 200


def test_every_answer_carries_the_security_headers_once_and_keeps_dagsters_policy():
    _, headers, _, _ = _ask(None, "GET", "/")
    assert (b"x-frame-options", b"SAMEORIGIN") in headers
    assert (b"x-content-type-options", b"nosniff") in headers
    assert [value for name, value in headers if name.lower() == b"referrer-policy"] == [b"same-origin"]
    policies = [value for name, value in headers if name == b"content-security-policy"]
    assert policies == [b"object-src 'none'", b"frame-ancestors 'self'"]


def test_no_cache_in_between_gives_a_run_log_to_the_next_reader():
    """Dagster says nothing about its logs and debug files, so that a proxy may keep them for all."""
    assert (b"cache-control", b"private") in _ask(None, "GET", "/logs/a/out")[1]
    refused = _ask(None, "GET", "/", {"origin": "null"})[1]
    assert [value for name, value in refused if name == b"cache-control"] == [b"no-store"]


@pytest.mark.parametrize("path", ["/notebook", "/dagit/notebook"])
def test_the_scripts_of_a_notebook_run_as_nobody(path: str):
    """J4: a link from a chat opens one as a page of ours, and with nbconvert it is any `.ipynb` of the machine."""
    sandbox = (b"content-security-policy", b"sandbox allow-scripts")
    assert sandbox in _ask(None, "GET", path)[1]
    assert sandbox not in _ask(None, "GET", "/")[1]
    assert sandbox not in _ask(_access(), "GET", path, {"accept": "text/html"})[1]  # there one can still log in


def test_a_refusal_is_one_plain_sentence_that_nobody_stores():
    status, headers, body, reached = _ask(None, "GET", "/", {"origin": "https://evil.example"})
    assert (status, reached) == (403, 0)
    assert re.fullmatch(rb"refused: [^\n]+\n", body)
    assert dict(headers)[b"content-type"] == b"text/plain; charset=utf-8"
    assert dict(headers)[b"cache-control"] == b"no-store"
    assert dict(headers)[b"content-length"] == str(len(body)).encode()
    assert dict(headers)[b"connection"] == b"close"


@pytest.mark.parametrize(
    "header", [f"Bearer {TOKEN}", f"bearer {TOKEN}"], ids=["as it is written", "the scheme has no case"]
)
def test_the_token_lets_in(header: str):
    """J6"""
    assert _ask(_access(), "GET", "/", {"authorization": header})[0] == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}0",
        f"Basic {TOKEN}",
        f"Digest {TOKEN}",
        TOKEN,
        "Bearer é",
    ],
)
def test_any_other_authorization_does_not(header: str):
    """J6"""
    status, headers, _, reached = _ask(_access(), "POST", "/report_asset_check/a", {"authorization": header})
    assert (status, reached) == (401, 0)
    assert dict(headers)[b"www-authenticate"] == b"Bearer"


def test_the_rule_holds_for_those_with_a_token_too():
    """J4"""
    headers = {"authorization": f"Bearer {TOKEN}", "origin": "https://evil.example"}
    assert _ask(_access(), "POST", "/graphql", headers)[0] == 403


def test_a_person_without_a_session_is_asked_for_the_token_and_keeps_it_for_a_shift():
    status, _, body, reached = _ask(_access(), "GET", "/runs", {"accept": "text/html,*/*"})
    assert (status, reached) == (401, 0)
    assert f'action="{LOGIN_PATH}"'.encode() in body
    status, cookie = _log_in(TOKEN, _access())
    assert status == 303
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    session = {"cookie": f"other=1; {cookie.split(';')[0]}"}
    late = NOON + timedelta(seconds=SESSION_SECONDS)
    assert _ask(_access(late - timedelta(seconds=1)), "GET", "/", session)[0] == 200
    assert _ask(_access(late), "GET", "/", session)[0] == 401


def test_a_login_page_that_was_left_open_in_a_second_tab_logs_in_too():
    """Dagster, which was asked once there was a session, answered it with 405."""
    headers = {"origin": "http://127.0.0.1:3000", "cookie": _log_in(TOKEN, _access())[1].split(";")[0]}
    assert _ask(_access(), "POST", LOGIN_PATH, headers, f"token={TOKEN}".encode())[::3] == (303, 0)


def test_behind_tls_the_cookie_stays_behind_tls():
    assert "Secure" in _log_in(TOKEN, _access(), "https://dagster.example.com")[1]
    assert "Secure" not in _log_in(TOKEN, _access())[1]


@pytest.mark.parametrize("token,padding", [("", 0), (TOKEN[:-1], 0), (TOKEN.upper(), 0), (TOKEN, 5000)])
def test_a_wrong_token_or_a_form_without_end_gets_no_session(token: str, padding: int):
    assert _log_in(token, _access(), padding=padding) == (401, "")


def test_only_the_login_page_takes_a_token_in_a_form():
    status, headers, _, reached = _ask(_access(), "POST", "/other", {}, f"token={TOKEN}".encode())
    assert (status, reached) == (401, 0)
    assert b"set-cookie" not in dict(headers)


def test_another_site_cannot_log_in():
    headers = {"origin": "https://evil.example"}
    assert _ask(_access(), "POST", LOGIN_PATH, headers, f"token={TOKEN}".encode())[0] == 403


def test_a_session_that_we_did_not_make_is_none():
    name, _, value = _log_in(TOKEN, _access())[1].split(";")[0].partition("=")
    end, _, mac = value.partition(".")
    foreign = Access("f" * 32, PORT, _access().clock).set_cookie(secure=False).split(";")[0].partition("=")[2]
    for forged in (f"{int(end) + 1}.{mac}", f"{end}.", f".{mac}", f"{end}.{'0' * 64}", foreign, "", "²." + mac, TOKEN):
        assert not _access().admits((), (f"{name}={forged}",)), forged
    assert not _access().admits((), (f"other={value}",))
    assert _access().admits((), ("a=b", f"{name}={value}"))


def test_a_token_is_never_shown():
    assert TOKEN not in repr(_access())


def test_this_machine_needs_no_token():
    """J6"""
    assert [door(bind, None) for bind in ("127.0.0.1", "127.0.0.2", "::1")] == [None, None, None]


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "10.1.2.3", "192.168.0.7", "::ffff:127.0.0.1"])  # noqa: S104 - refused
def test_another_address_without_a_token_is_refused(bind: str):
    """J6"""
    with pytest.raises(SettingInvalid, match="--token-file"):
        door(bind, None)


@pytest.mark.parametrize("bind", ["", "localhost", "example.com", "127.0.0.1:3000", "127.1"])
def test_an_address_is_an_address(bind: str):
    with pytest.raises(SettingInvalid, match="not an IP address"):
        door(bind, None)


def _token_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_another_address_with_a_token_is_allowed(tmp_path: Path):
    """J6"""
    assert door("10.1.2.3", _token_file(tmp_path, f"{TOKEN}\n".encode())) == TOKEN


@pytest.mark.parametrize(
    "content,mode,rule",
    [
        (b"", 0o600, "one token"),
        (b"short", 0o600, "one token"),
        (TOKEN.encode() + b"\n" + TOKEN.encode(), 0o600, "one token"),
        (TOKEN.encode() + b"\xff", 0o600, "one token"),
        (TOKEN.encode() + b" " * 5000, 0o600, "one token"),
        (TOKEN.encode(), 0o644, "every user"),
    ],
)
def test_a_poor_token_is_refused_without_being_shown(tmp_path: Path, content: bytes, mode: int, rule: str):
    with pytest.raises(SettingInvalid, match=rule) as raised:
        read_token(_token_file(tmp_path, content, mode))
    assert TOKEN not in str(raised.value)


def test_a_missing_token_file_is_a_sentence(tmp_path: Path):
    with pytest.raises(SettingInvalid, match="cannot be read"):
        read_token(tmp_path / "none")


def test_the_document_names_every_option_and_no_other():
    text = (Path(__file__).parents[1] / "docs" / "webserver.md").read_text()
    ours = {name for option in serve.params for name in option.opts if name.startswith("--")}
    assert set(re.findall(r"`(--[a-z-]+)", text)) == ours


def test_the_token_that_we_say_how_to_make_is_never_open_to_others(tmp_path: Path):
    """A chmod afterwards is late: another user who opened the file while it was empty read 20 tokens of 20."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH")
    command = HOW_TO_MAKE_ONE.replace("FILE", "token")
    assert command in (Path(__file__).parents[1] / "docs" / "webserver.md").read_text()
    assert "chmod" not in command
    subprocess.run(["/bin/sh", "-c", f"umask 022; {command}"], cwd=tmp_path, check=True)
    assert read_token(tmp_path / "token")


def test_two_kinds_of_definitions_at_once_are_wrong_usage():
    found = CliRunner().invoke(serve, ["-w", __file__, "-m", "some_module"])
    assert found.exit_code == 2
    assert "exclude each other" in found.output
