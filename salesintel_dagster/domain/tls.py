"""When a connection to a source's server must prove whom it speaks to: always, but on this machine.

The words are libpq's, whatever the server: `disable`, `allow`, `prefer`, `require`, `verify-ca`, `verify-full`.
"""

from __future__ import annotations

from ipaddress import ip_address

TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
UNVERIFIED_TLS = "allow_unverified_tls"
"""The key that lets a server elsewhere be reached by less than `verify-full`."""

_VERIFIED = "verify-full"
_LOCAL = "prefer"


def is_local(host: str) -> bool:
    """Answer whether `host` is this machine: a socket's folder, `localhost`, or a loopback address as it is written.

    Any other name counts as elsewhere, wherever it resolves to: who answers for it is not ours to say.
    """
    if host.startswith("/") or host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def default_mode(host: str) -> str:
    """Return the mode of a connection that names none."""
    return _LOCAL if is_local(host) else _VERIFIED


def is_proof(mode: str, host: str, *, unverified_allowed: bool) -> bool:
    """Answer whether `mode` is enough for `host`."""
    return mode == _VERIFIED or unverified_allowed or is_local(host)
