"""Which image URLs may be fetched, and which addresses may be connected to: one parser, one table, no network.

An image URL comes from a stranger. It is parsed here once, strictly: what this parser and another could read in two
ways is refused. `ipaddress.is_global` is not enough for the addresses: it passes NAT64 and 6to4 forms, which carry
any IPv4 address inside, so IPv6 is refused unless it lies in the global block and in none of its tunnels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote, urljoin

from salesintel_dagster.domain.errors import ImageRefused
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.domain.sale import MAX_URL_BYTES

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_HOST_CHARACTERS = 253
MAX_ADDRESSES_TRIED = 3
HIGHEST_CONTROL_CHARACTER = " "
DELETE_CHARACTER = "\x7f"

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][^#]*)?(?:#.*)?",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER_LIKE = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.ASCII)
_UNQUOTED = "/?%:@!$&'()*+,;=~-._[]|"

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class AddressKind(StrEnum):
    """PRIVATE may be allowed by name (the embedded world's image host); FORBIDDEN may not."""

    PUBLIC = "public"
    PRIVATE = "private"
    FORBIDDEN = "forbidden"


_GLOBAL_V6 = IPv6Network("2000::/3")
_PRIVATE: tuple[Network, ...] = tuple(
    ip_network(block) for block in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7")
)
_FORBIDDEN: tuple[Network, ...] = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",  # this host
        "100.64.0.0/10",  # carrier NAT; Alibaba's metadata
        "168.63.129.16/32",  # Azure's host agent, on a public-looking address
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved and broadcast
        "2001::/23",  # Teredo, ORCHID and other protocol assignments
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the 6bone, gone
        "3fff::/20",  # documentation
        "fd00:ec2::/32",  # AWS metadata over IPv6
    )
)


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """A URL that names one host and one port in one way. `host` has no brackets; `target` is what a GET asks for."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def pair(self) -> str:
        """`host:port`, as the allow-list writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_on_usual_port(self) -> bool:
        """Whether the port is one that web hosts have."""
        return self.port in DEFAULT_PORTS.values()

    @property
    def host_header(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        return self.pair if self.port != DEFAULT_PORTS[self.scheme] else self.pair.removesuffix(f":{self.port}")

    @property
    def literal_address(self) -> str | None:
        """The host where it is an address: such a host is never given to a resolver."""
        try:
            return str(ip_address(self.host))
        except ValueError:
            return None


def parse_image_url(url: str, allowed_pairs: frozenset[str] = frozenset()) -> ImageUrl:
    """Return the URL's parts. Raises ImageRefused (REFUSED_URL) with a rule in words and nothing of the URL."""
    parsed = on_any_port(url)
    if not parsed.is_on_usual_port and parsed.pair not in allowed_pairs:
        raise _refused(f"port {parsed.port} is not one of {', '.join(map(str, DEFAULT_PORTS.values()))}")
    return parsed


def on_any_port(url: str) -> ImageUrl:
    """Return the URL's parts, whatever its port. Raises ImageRefused as `parse_image_url` does."""
    if len(url.encode(errors="replace")) > MAX_URL_BYTES:
        raise _refused(f"a URL has at most {MAX_URL_BYTES} bytes")
    if "\\" in url or any(char < HIGHEST_CONTROL_CHARACTER or char == DELETE_CHARACTER for char in url):
        raise _refused("a URL has no backslash and no control character")
    match = _URL.fullmatch(url)
    if match is None:
        raise _refused("expected http(s)://host[:port]/... with an ASCII host and without a user name")
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    return ImageUrl(scheme, _checked_host(match["host"].lower()), port, _target(match["target"] or "/"))


def redirected(source: ImageUrl, location: str, allowed_pairs: frozenset[str]) -> ImageUrl:
    """Return where a redirect leads, by the rules of a first URL; https never leads to http."""
    base = f"{source.scheme}://{source.pair}{source.target}"
    try:
        target = parse_image_url(urljoin(base, location), allowed_pairs)
    except ValueError:
        raise _refused("a redirect leads to no URL") from None
    if (source.scheme, target.scheme) == ("https", "http"):
        raise _refused("a redirect leads from https to http")
    return target


def address_kind(address: str) -> AddressKind:
    """Say what an address, as a resolver gives it, may be used for; what cannot be read is FORBIDDEN."""
    try:
        parsed: Address = ip_address(address)
    except ValueError:
        return AddressKind.FORBIDDEN
    if any(parsed in block for block in _FORBIDDEN):
        return AddressKind.FORBIDDEN
    if any(parsed in block for block in _PRIVATE):
        return AddressKind.PRIVATE
    if isinstance(parsed, IPv6Address) and parsed not in _GLOBAL_V6:
        return AddressKind.FORBIDDEN
    return AddressKind.PUBLIC


def check_addresses(url: ImageUrl, addresses: list[str], allowed_pairs: frozenset[str]) -> None:
    """Refuse the URL when any address of its host may not be connected to: one bad answer spoils all."""
    kinds = {address_kind(address) for address in addresses}
    permitted = {AddressKind.PUBLIC, AddressKind.PRIVATE} if url.pair in allowed_pairs else {AddressKind.PUBLIC}
    if not kinds <= permitted:
        raise _refused(f"{url.host} has an address that is not public")


def addresses_to_try(addresses: list[str]) -> list[str]:
    """Return the first few addresses, one of each family at least: where IPv6 leads nowhere a CDN's first eight do."""
    first = addresses[0]
    other = next((address for address in addresses if (":" in address) != (":" in first)), first)
    return list(dict.fromkeys((first, other, *addresses)))[:MAX_ADDRESSES_TRIED]


def _refused(rule: str) -> ImageRefused:
    return ImageRefused(ImageStatus.REFUSED_URL, rule)


def _checked_host(host: str) -> str:
    try:
        if host.startswith("["):
            return str(IPv6Address(host[1:-1]))
        labels = host.split(".")
        if _NUMBER_LIKE.fullmatch(labels[-1]):
            return str(IPv4Address(host))
    except ValueError:
        raise _refused("an address is written as four decimal numbers or as [IPv6]") from None
    if len(host) > MAX_HOST_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("a host name has labels of letters, digits, - and _")
    return host


def _target(text: str) -> str:
    target = quote(text, safe=_UNQUOTED, errors="replace")
    return target if target.startswith("/") else f"/{target}"
