"""The one place where a text loses its secrets before it leaves: text in, text out, no I/O.

Two nets: the secrets of this deployment, which the caller passes in or `learn` is told of and which are removed
wherever they stand, and the shapes of secrets in general (URLs with a user name or a query, passwords in DSNs, AWS
keys, tokens). E-mail addresses and international telephone numbers go too: they are personal data. When in doubt a text
loses a word too much. Removing twice is removing once.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

MARK = "[redacted]"
MIN_BASE64_CHARACTERS = 8
MIN_KNOWN_CHARACTERS = 4
"""A shorter known secret is left to the shapes: removing every `a` would leave no text."""

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{1,20})://(?P<rest>[^\s\"<>]+)", re.IGNORECASE)
_SECRET_PATH_HOST = re.compile(r"hooks\.slack\.com/|[a-z0-9.-]{1,200}\.webhook\.office\.com/", re.IGNORECASE)
_NAMED = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|(?:api|access|private|account)[_-]?key(?:[_-]?id)?"
    r"|(?:auth|session|access|refresh|id|security)?[_-]?token|authorization|credentials?|signature|cookie)"
)
_KEY_VALUE = re.compile(
    rf"(?P<name>{_NAMED}(?:\\?[\"'])?\s{{0,3}}[=:]\s{{0,3}})"
    r"(?P<value>\\+[\"'][^\"']*[\"']?|\"(?:\\.|[^\"\\])*\"?|'(?:\\.|''|[^'\\])*'?|(?:bearer|basic)\s+\S+|\[redacted\]|[^\s,;&\"']+)",
    re.IGNORECASE,
)
_SHAPES = (
    re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?<=\bbearer )[a-z0-9._~+/-]{4,}=*|(?<=\bbasic )[a-z0-9+/]{8,}=*", re.IGNORECASE),
    re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{12,}\b"),
    # An AWS secret key or session token: 40 or more base64 characters with all three kinds, so no hex digest.
    re.compile(
        r"(?<![A-Za-z0-9/+])(?=[a-z0-9/+]{0,200}[A-Z])(?=[A-Z0-9/+]{0,200}[a-z])(?=[A-Za-z/+]{0,200}[0-9])"
        r"(?:[A-Za-z0-9/+]{40}|[A-Za-z0-9/+]{100,})={0,2}(?![A-Za-z0-9/+=])"
    ),
    re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"),
    re.compile(r"\b(?:xox[a-z]-|gh[a-z]_|github_pat_|glpat-|sk-)[A-Za-z0-9_-]{8,}"),
    re.compile(r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-z]{2,24}\b", re.IGNORECASE),
    re.compile(r"(?<![\w+])\+[1-9](?:[ ().-]{0,2}[0-9]){7,14}(?![0-9])"),
)


class _Known:
    """Secrets in every form in which they may stand in a text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = frozenset(secrets)
        forms = {form for secret in self.secrets for form in _forms(secret)}
        longest_first = sorted((form for form in forms if len(form) >= MIN_KNOWN_CHARACTERS), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def with_more(self, secrets: Iterable[str]) -> _Known:
        more = self.secrets.union(secrets)
        return self if more == self.secrets else _Known(more)

    def removed(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MARK, text)


class _Learnt:
    """What this process was told after its redactions were made: a source's password is read when a run asks for it."""

    secrets: frozenset[str] = frozenset()
    lock = threading.Lock()


def learn(*secrets: str) -> None:
    """Have every Redaction of this process remove these, too."""
    with _Learnt.lock:
        _Learnt.secrets = _Learnt.secrets.union(secrets)


class Redaction:
    """Removes `known` secrets, learnt ones and whatever looks like one. Safe to share between threads."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = _Known(known)

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        # In one pass, the longest first: after a secret that begins like another one the rest of that would stay.
        self._known = self._known.with_more(_Learnt.secrets)
        text = self._known.removed(text)
        text = _URL.sub(_bare, text)
        text = _KEY_VALUE.sub(rf"\g<name>{MARK}", text)
        for shape in _SHAPES:
            text = shape.sub(MARK, text)
        return text


def without_secrets(error: Exception, redact: Callable[[str], str]) -> Exception:
    """Return the error itself where nothing in it or its causes is secret, else one that tells the same without.

    The substitute has the name, the traceback and the causes of the first, each in its redacted words; it is of no
    class of ours, since whatever an error carries beside its words may hold the secret, too.
    """
    told = list(_chain(error))
    if all(redact(text) == text for each in told for text in _texts(each)):
        return error
    substitutes = {id(each): _substitute(each, redact) for each in told}
    for each in told:
        substitute = substitutes[id(each)]
        substitute.__context__ = substitutes.get(id(each.__context__))
        substitute.__cause__ = substitutes.get(id(each.__cause__))
        substitute.__suppress_context__ = each.__suppress_context__
    return substitutes[id(error)]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and whatever Python would print with it, each once."""
    seen: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen[id(each)] = each
            waiting += [each.__cause__, each.__context__]
    yield from seen.values()


def _texts(error: BaseException) -> Iterator[str]:
    yield str(error)
    yield from getattr(error, "__notes__", ())


def _substitute(error: BaseException, redact: Callable[[str], str]) -> Exception:
    kind = type(error)
    named = type(kind.__name__, (Exception,), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
    words, *notes = map(redact, _texts(error))
    substitute: Exception = named(words)
    for note in notes:
        substitute.add_note(note)
    return substitute.with_traceback(error.__traceback__)


def _forms(secret: str) -> Iterator[str]:
    """Yield a known secret as it may stand in a text: itself, quoted, and the secret parts of a URL."""
    for form in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield from (form, re.sub(r"%..", lambda found: found[0].lower(), form))
    yield from (secret, unquote(secret), repr(secret)[1:-1], repr(secret.encode(errors="replace"))[2:-1])
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], *_in_base64(secret))
    try:
        parts = urlsplit(secret)
        password, path = parts.password, parts.path
    except ValueError:
        return
    if not parts.scheme or not parts.netloc:
        return
    yield from (password or "", unquote(password or ""))
    if parts.scheme in {"http", "https"}:
        yield from (path, path.rpartition("/")[2], parts.query, *(value for _, value in parse_qsl(parts.query)))


def _in_base64(secret: str) -> Iterator[str]:
    """Yield what stays the same of the secret within any text in base64, as in `user:secret` for an HTTP header."""
    held = secret.encode(errors="replace")
    for before in range(3):
        text = base64.b64encode(bytes(before) + held).decode().rstrip("=")
        kept = text[(0, 2, 3)[before] : len(text) - ((before + len(held)) % 3 > 0)]
        if len(kept) >= MIN_BASE64_CHARACTERS:
            yield from (kept, kept.replace("+", "-").replace("/", "_"))


def _bare(url: re.Match[str]) -> str:
    """Keep scheme, host and path: what stands before the last `@` and after the first `?` or `#` goes.

    The last `@` of the whole word, because a password may hold any character unquoted, `?` and `/` too.
    """
    before, at, rest = url["rest"].rpartition("@")
    user = f"{MARK}@" if at and before else at
    if secret_path := _SECRET_PATH_HOST.match(rest):
        return f"{url['scheme']}://{user}{secret_path[0]}{MARK}"
    kept, mark, _ = _split_at_query(rest)
    return f"{url['scheme']}://{user}{kept}{mark and mark + MARK}"


def _split_at_query(rest: str) -> tuple[str, str, str]:
    found = re.search(r"[?#]", rest)
    if found is None:
        return rest, "", ""
    return rest[: found.start()], found[0], rest[found.end() :]
