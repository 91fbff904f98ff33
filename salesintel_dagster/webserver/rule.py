"""What no person and no script of ours asks for, as a pure rule: the webserver refuses it before Dagster sees it.

Why: dagster-webserver 1.13 executes GraphQL mutations over GET, with any Host and any Origin, and takes
`text/plain; x=application/json` for JSON. Any web page open in the user's browser can so drive a webserver on this
machine. Here is no I/O and no Dagster; who may come in at all is `access`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from salesintel_dagster.domain.errors import SettingInvalid

SHARED_NAME = "localhost"
"""Browsers look on [::1] first. Whoever listened there on our port was sent a session's cookie, and was our origin."""
LOOPBACK_NAMES = ("127.0.0.1", SHARED_NAME, "[::1]")
HTTP_PORT = 80
READS = frozenset({"GET", "HEAD"})
GRAPHQL_TYPES = frozenset({"application/json", "application/graphql"})
"""The two that Dagster reads and that a page of another site cannot send without asking first (CORS preflight)."""
OWN_SITES = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of our own pages, and of what the user typed or chose from the bookmarks."""
NOTEBOOKS = ("/notebook", "/dagit/notebook")
"""Where nbconvert is installed, these show whatever `.ipynb` the URL names, say one of the Downloads folder."""
NO_PAGES = ("/logs/", "/download_debug/", *NOTEBOOKS)
"""Served with no page of the UI around it."""
MAX_HEADERS = 128
"""Of 64 KB: 400 clients without a token who sent 15,000 each, and then no body, held 1.4 GB."""
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
NAMED_HOST = re.compile(r"(?P<name>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")

TOO_MANY_HEADERS = f"the request has more than {MAX_HEADERS} headers"
WRONG_HOST = "this webserver does not answer to that Host; start it with --allow-host NAME if the name is yours"
WRONG_ORIGIN = "the Origin is not this webserver's own: a page of another site asked (a proxy must pass Host unchanged)"
NO_ORIGIN = "a websocket needs an Origin header, and it must be this webserver's own"
WRONG_SITE = "a page of another site asked (Sec-Fetch-Site); only a link to a page may come from elsewhere"
WRONG_PATH = "the path does not begin with / or holds a control character"
GRAPHQL_BY_GET = "GraphQL is answered by POST with application/json only"
GRAPHQL_TYPE = "GraphQL by POST needs the content type application/json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request before it is served. `path` is decoded; `query` is raw, without `?`; header names in lower case."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    websocket: bool = False

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a header, in the order sent; `name` in lower case."""
        return tuple(value for key, value in self.headers if key == name)

    @property
    def graphql(self) -> bool:
        """Whether Dagster's GraphQL endpoint would be asked."""
        return self.path == "/graphql" or self.path.startswith("/graphql/")


def allowed_hosts(port: int, bind: str, named: Iterable[str] = (), *, shared: bool = False) -> frozenset[str]:
    """Return every Host header that is ours: loopback, the address we listen on, and what was allowed by name.

    A name without a port is good with none (behind a proxy) and with ours. `shared`: other users of this machine are
    strangers, so that `localhost` is not ours. Raises SettingInvalid for what is no name.
    """
    names = {*LOOPBACK_NAMES, *_listening(bind)} - ({SHARED_NAME} if shared else set())
    hosts = {f"{name}:{port}" for name in names}
    if port == HTTP_PORT:
        hosts |= names
    for text in named:
        found = NAMED_HOST.fullmatch(text.lower())
        if found is None:
            raise SettingInvalid(f"--allow-host {text!r} is not HOST or HOST:PORT (no scheme, no path, no wildcard)")
        hosts |= {found[0]} if found["port"] else {found[0], f"{found[0]}:{port}"}
    return frozenset(hosts)


def _listening(bind: str) -> set[str]:
    address = ipaddress.ip_address(bind)
    if address.is_unspecified:
        return set()
    return {f"[{address}]" if address.version == 6 else str(address)}  # noqa: PLR2004 - IPv6 stands in brackets


def refusal(asked: Asked, hosts: frozenset[str]) -> str | None:
    """Say why a request is refused, in one sentence that repeats nothing of it; None where it passes."""
    host = asked.values("host")
    if len(host) != 1 or host[0].lower() not in hosts:
        return WRONG_HOST  # also a name that a stranger's DNS points at us (rebinding)
    if (why := _form_refusal(asked)) is not None:
        return why
    origins = asked.values("origin")
    if asked.websocket and not origins:
        return NO_ORIGIN
    own = {f"{scheme}://{host[0].lower()}" for scheme in ("http", "https")}
    if any(origin.lower() not in own for origin in origins):
        return WRONG_ORIGIN
    if not OWN_SITES.issuperset(asked.values("sec-fetch-site")) and not _is_link(asked):
        return WRONG_SITE
    return _graphql_refusal(asked) if asked.graphql and not asked.websocket else None


def _form_refusal(asked: Asked) -> str | None:
    if len(asked.headers) > MAX_HEADERS:
        return TOO_MANY_HEADERS
    if not asked.path.startswith("/") or CONTROL.search(asked.path):
        return WRONG_PATH  # Starlette's `$` lets /graphql%0A through to /graphql; h11 a whole URL as a path
    return None


def _is_link(asked: Asked) -> bool:
    """Whether the user followed a link to one of our pages, as from an alert: a whole page, in no frame."""
    navigates = asked.values("sec-fetch-mode") == ("navigate",) and asked.values("sec-fetch-dest") == ("document",)
    is_page = not (asked.websocket or asked.graphql or asked.path.startswith(NO_PAGES))
    return navigates and asked.method in READS and is_page


def _graphql_refusal(asked: Asked) -> str | None:
    if asked.method != "POST":
        return GRAPHQL_BY_GET if asked.query else None  # without a query it is the playground's page
    types = asked.values("content-type")
    if len(types) != 1 or types[0].split(";")[0].strip().lower() not in GRAPHQL_TYPES:
        return GRAPHQL_TYPE  # none at all too: Dagster then runs what stands in the URL
    return None
