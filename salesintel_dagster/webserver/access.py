"""Who is let in where a token is required: `Authorization: Bearer TOKEN`, or a session cookie got by the login page.

Pure but for reading the token's file. The cookie holds no token: its end in seconds since 1970, and a MAC over that
by the token. A new token ends every session. Every comparison takes the same time whatever differs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import SettingInvalid

SESSION_SECONDS = 12 * 3600
"""One login lasts a shift."""
MIN_TOKEN_CHARACTERS = 32
TOKEN = re.compile(rf"[A-Za-z0-9._~+/=-]{{{MIN_TOKEN_CHARACTERS},512}}")
MAX_TOKEN_FILE_BYTES = 4096
HOW_TO_MAKE_ONE = "(umask 077; openssl rand -hex 32 > FILE)"
"""Not chmod afterwards: who opened the file while it was empty reads on."""
SESSION = re.compile(r"(?P<end>[0-9]{1,12})\.(?P<mac>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Access:
    """The token, and the name of the cookie: one jar serves all ports of a host, so the name carries ours."""

    token: str = field(repr=False)
    port: int
    clock: Clock = SYSTEM_CLOCK

    @property
    def cookie_name(self) -> str:
        """Name of the session cookie."""
        return f"salesintel_session_{self.port}"

    def admits(self, authorization: tuple[str, ...], cookies: tuple[str, ...]) -> bool:
        """Whether the `Authorization` or the `Cookie` headers of a request let it in."""
        bearer = (value[len("bearer ") :] for value in authorization if value[:7].lower() == "bearer ")
        pairs = (pair.strip().partition("=") for header in cookies for pair in header.split(";"))
        sessions = (value for name, _, value in pairs if name == self.cookie_name)
        return any(self.is_token(value.strip()) for value in bearer) or any(map(self._is_session, sessions))

    def is_token(self, value: str) -> bool:
        """Whether `value` is the token; takes the same time for every value of a length."""
        return hmac.compare_digest(value.encode(), self.token.encode())

    def set_cookie(self, *, secure: bool) -> str:
        """Return the `Set-Cookie` value of a new session. `secure`: over TLS only."""
        end = int(self.clock.now().timestamp()) + SESSION_SECONDS
        value = f"{end}.{self._mac(end)}"
        # Lax, not Strict: a link in an alert must open the page. What changes state is never a plain link (`rule`).
        fixed = f"Path=/; HttpOnly; SameSite=Lax; Max-Age={SESSION_SECONDS}"
        return f"{self.cookie_name}={value}; {fixed}" + ("; Secure" if secure else "")

    def _is_session(self, value: str) -> bool:
        found = SESSION.fullmatch(value)
        if found is None:
            return False
        end = int(found["end"])
        return hmac.compare_digest(found["mac"], self._mac(end)) and self.clock.now().timestamp() < end

    def _mac(self, end: int) -> str:
        return hmac.new(self.token.encode(), f"salesintel session {end}".encode(), hashlib.sha256).hexdigest()


def read_token(path: Path) -> str:
    """Read a token of at least 32 characters from a file. Raises SettingInvalid, never with a piece of the token."""
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()[: MAX_TOKEN_FILE_BYTES + 1]
    except OSError as error:
        raise SettingInvalid(f"--token-file {path} cannot be read: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        raise SettingInvalid(
            f"--token-file {path} is open to every user of this machine, who may have read it; remove it and make a new"
            f" one with: {HOW_TO_MAKE_ONE}"
        )
    token = content.decode("ascii", "replace").strip()
    if len(content) > MAX_TOKEN_FILE_BYTES or not TOKEN.fullmatch(token):
        raise SettingInvalid(
            f"--token-file {path} must hold one token of {MIN_TOKEN_CHARACTERS} to 512 letters, digits or ._~+/=-; "
            f"make one with: {HOW_TO_MAKE_ONE}"
        )
    return token
