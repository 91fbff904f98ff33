from __future__ import annotations

import pytest

from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.webserver import rule
from salesintel_dagster.webserver.rule import Asked, allowed_hosts, refusal

PORT = 3000
HOSTS = allowed_hosts(PORT, "127.0.0.1", ["dagster.example.com"])
HOST = ("host", "127.0.0.1:3000")
OWN = ("origin", "http://127.0.0.1:3000")
JSON = ("content-type", "application/json")
LINK = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))
SAME = ("sec-fetch-site", "same-origin")


def _asked(method: str, target: str, *headers: tuple[str, str]) -> Asked:
    path, _, query = target.partition("?")
    if not any(name == "host" for name, _ in headers):
        headers = (HOST, *headers)
    return Asked("GET" if method == "WS" else method, path, query, headers, websocket=method == "WS")


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(_asked("GET", "/"), id="a script that opens a page"),
        pytest.param(_asked("GET", "/server_info"), id="a readiness probe"),
        pytest.param(_asked("GET", "/", ("sec-fetch-site", "none"), *LINK), id="an address that was typed"),
        pytest.param(_asked("GET", "/runs/1?x=2", ("sec-fetch-site", "cross-site"), *LINK), id="a link in an alert"),
        pytest.param(_asked("GET", "/_next/a.js", SAME, ("sec-fetch-mode", "no-cors")), id="a part of our page"),
        pytest.param(_asked("GET", "/manifest.json", SAME, OWN), id="a part asked for with its origin"),
        pytest.param(_asked("POST", "/graphql", JSON, OWN, SAME), id="the UI asks"),
        pytest.param(_asked("POST", "/graphql", ("content-type", "Application/JSON; charset=utf-8")), id="a script"),
        pytest.param(_asked("POST", "/graphql", ("content-type", "application/graphql"), OWN), id="the playground"),
        pytest.param(_asked("GET", "/graphql", ("accept", "text/html"), SAME), id="the playground's page"),
        pytest.param(_asked("WS", "/graphql", OWN, SAME), id="the UI's websocket"),
        pytest.param(_asked("POST", "/report_asset_materialization/a?partition=b"), id="a script that reports"),
        pytest.param(_asked("GET", "/", *[("cookie", "a=b")] * 127), id="many headers"),
        pytest.param(_asked("GET", "/", ("host", "localhost:3000")), id="by name"),
        pytest.param(_asked("GET", "/", ("host", "LOCALHOST:3000")), id="names have no case"),
        pytest.param(_asked("GET", "/", ("host", "[::1]:3000")), id="by IPv6"),
        pytest.param(
            _asked(
                "POST", "/graphql", JSON, ("host", "dagster.example.com"), ("origin", "https://dagster.example.com")
            ),
            id="through a proxy with TLS",
        ),
    ],
)
def test_what_the_ui_and_scripts_ask_passes(asked: Asked):
    """J5"""
    assert refusal(asked, HOSTS) is None


@pytest.mark.parametrize(
    "why,asked",
    [
        (rule.TOO_MANY_HEADERS, _asked("GET", "/", *[("cookie", "a=b")] * 128)),
        (rule.WRONG_HOST, _asked("GET", "/", ("host", "evil.example"))),
        (rule.WRONG_HOST, _asked("GET", "/", ("host", "evil.example:3000"))),
        (rule.WRONG_HOST, _asked("GET", "/", ("host", "127.0.0.1"))),
        (rule.WRONG_HOST, _asked("GET", "/", ("host", "127.0.0.1:8000"))),
        (rule.WRONG_HOST, _asked("GET", "/", ("host", "localhost.:3000"))),
        (rule.WRONG_HOST, _asked("GET", "/", ("host", "127.0.0.1:3000.evil.example"))),
        (rule.WRONG_HOST, _asked("GET", "/", ("host", "a@127.0.0.1:3000"))),
        (rule.WRONG_HOST, _asked("GET", "/", ("host", ""))),
        (rule.WRONG_HOST, _asked("GET", "/", HOST, HOST)),
        (rule.WRONG_HOST, _asked("GET", "/", HOST, ("host", "evil.example"))),
        (rule.WRONG_HOST, Asked("GET", "/", "", ())),
        (rule.WRONG_HOST, _asked("WS", "/graphql", ("host", "evil.example"), ("origin", "http://evil.example"))),
        (rule.WRONG_ORIGIN, _asked("POST", "/graphql", JSON, ("origin", "https://evil.example"))),
        (rule.WRONG_ORIGIN, _asked("POST", "/graphql", JSON, ("origin", "null"))),
        (rule.WRONG_ORIGIN, _asked("POST", "/graphql", JSON, ("origin", ""))),
        (rule.WRONG_ORIGIN, _asked("POST", "/graphql", JSON, ("origin", "http://127.0.0.1:8000"))),
        (rule.WRONG_ORIGIN, _asked("POST", "/graphql", JSON, ("origin", "http://localhost:3000"))),
        (rule.WRONG_ORIGIN, _asked("POST", "/graphql", JSON, ("origin", "http://127.0.0.1:3000.evil.example"))),
        (rule.WRONG_ORIGIN, _asked("POST", "/graphql", JSON, ("origin", "chrome-extension://127.0.0.1:3000"))),
        (rule.WRONG_ORIGIN, _asked("POST", "/graphql", JSON, OWN, ("origin", "https://evil.example"))),
        (rule.WRONG_ORIGIN, _asked("POST", "/report_asset_check/a", ("origin", "https://evil.example"))),
        (rule.WRONG_ORIGIN, _asked("GET", "/logs/a.out", ("origin", "https://evil.example"))),
        (rule.WRONG_ORIGIN, _asked("OPTIONS", "/graphql", ("origin", "https://evil.example"))),
        (rule.WRONG_ORIGIN, _asked("WS", "/graphql", ("origin", "https://evil.example"))),
        (rule.WRONG_ORIGIN, _asked("WS", "/anything", ("origin", "http://localhost:3000"))),
        (rule.NO_ORIGIN, _asked("WS", "/graphql")),
        (rule.NO_ORIGIN, _asked("WS", "/anything")),
        (rule.WRONG_SITE, _asked("POST", "/graphql", JSON, ("sec-fetch-site", "cross-site"))),
        (rule.WRONG_SITE, _asked("POST", "/graphql", JSON, ("sec-fetch-site", "same-site"))),
        (rule.WRONG_SITE, _asked("POST", "/graphql", JSON, OWN, ("sec-fetch-site", "cross-site"))),
        (rule.WRONG_SITE, _asked("POST", "/graphql", JSON, SAME, ("sec-fetch-site", "cross-site"))),
        (rule.WRONG_SITE, _asked("POST", "/graphql", JSON, ("sec-fetch-site", "unheard-of"))),
        (rule.WRONG_SITE, _asked("POST", "/report_asset_check/a", ("sec-fetch-site", "cross-site"), *LINK)),
        (rule.WRONG_SITE, _asked("GET", "/graphql", ("sec-fetch-site", "cross-site"), *LINK)),
        (rule.WRONG_SITE, _asked("GET", "/logs/a.out", ("sec-fetch-site", "cross-site"))),
        (
            rule.WRONG_SITE,
            _asked(
                "GET",
                "/",
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "iframe"),
            ),
        ),
        (rule.WRONG_SITE, _asked("WS", "/anything", OWN, ("sec-fetch-site", "cross-site"), *LINK)),
        *(
            (rule.WRONG_SITE, _asked("GET", target, ("sec-fetch-site", "cross-site"), *LINK))
            for target in (
                "/notebook?repoLocName=a&path=/b/Downloads/evil.ipynb",
                "/dagit/notebook?repoLocName=a&path=b.ipynb",
                "/logs/a/compute_logs/b/out",
                "/download_debug/a",
            )
        ),
        (rule.GRAPHQL_BY_GET, _asked("GET", "/graphql?query=mutation{x}")),
        (rule.GRAPHQL_BY_GET, _asked("GET", "/graphql?query={version}", OWN, SAME)),
        (rule.GRAPHQL_BY_GET, _asked("GET", "/graphql?query={version}", ("accept", "text/html"), *LINK)),
        (rule.GRAPHQL_BY_GET, _asked("HEAD", "/graphql?query={version}")),
        (rule.GRAPHQL_BY_GET, _asked("GET", "/graphql/?query={version}")),
        (rule.WRONG_PATH, _asked("GET", "/graphql\n?query={version}")),
        (rule.WRONG_PATH, _asked("POST", "/report_asset_check/a\x00")),
        *(
            (
                rule.GRAPHQL_TYPE,
                _asked("POST", "/graphql?query={version}", *(("content-type", value) for value in types)),
            )
            for types in (
                (),
                ("",),
                ("text/plain",),
                ("text/plain; x=application/json",),
                ("text/plain;charset=utf-8",),
                ("application/x-www-form-urlencoded",),
                ("multipart/form-data; boundary=application/json",),
                ("application/json-not",),
                ("application/json", "text/plain"),
                ("text/plain, application/json",),
            )
        ),
    ],
)
def test_what_a_page_of_another_site_could_ask_is_refused(why: str, asked: Asked):
    """J4"""
    assert refusal(asked, HOSTS) == why


def test_no_sentence_repeats_what_was_asked():
    sentence = refusal(_asked("GET", "/", ("host", "<script>evil")), HOSTS)
    assert sentence is not None
    assert "evil" not in sentence


def test_the_hosts_are_loopback_the_address_and_what_was_named():
    loopback = {"127.0.0.1:3000", "localhost:3000", "[::1]:3000"}
    assert allowed_hosts(3000, "127.0.0.1") == loopback
    assert allowed_hosts(3000, "0.0.0.0") == loopback  # noqa: S104 - nothing is bound
    assert allowed_hosts(3000, "::") == loopback
    assert allowed_hosts(3000, "10.1.2.3") == loopback | {"10.1.2.3:3000"}
    assert allowed_hosts(3000, "fd00::5") == loopback | {"[fd00::5]:3000"}
    assert "127.0.0.1" in allowed_hosts(80, "127.0.0.1")
    assert allowed_hosts(3000, "127.0.0.1", ["Dagster.example", "b:99", "a_b"]) - loopback == {
        "dagster.example",
        "dagster.example:3000",
        "b:99",
        "a_b",  # a service of Docker Compose
        "a_b:3000",
    }


def test_localhost_is_not_ours_where_other_users_are_strangers():
    """One who listened on [::1] got the cookie of a session that was begun by that name; `--allow-host` insists."""
    assert allowed_hosts(3000, "127.0.0.1", shared=True) == {"127.0.0.1:3000", "[::1]:3000"}
    assert "localhost:3000" in allowed_hosts(3000, "127.0.0.1", ["localhost"], shared=True)


@pytest.mark.parametrize("text", ["", "*", "*.example.com", "https://a", "a/b", "a b", "a:b", "a,b", "a\n", ".a", "a:"])
def test_a_name_that_is_none_is_refused_at_the_start(text: str):
    with pytest.raises(SettingInvalid, match="--allow-host"):
        allowed_hosts(3000, "127.0.0.1", [text])
