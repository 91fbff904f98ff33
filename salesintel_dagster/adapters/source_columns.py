"""Whether the columns that a mapping names are there, once each: the same words for every database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from salesintel_dagster.domain.errors import SourceSchemaMismatch

MAX_COLUMNS_NAMED = 100

_Kind = TypeVar("_Kind")


def kinds_of(
    wanted: Mapping[str, str], found: list[tuple[str, _Kind]], problems: Callable[[Mapping[str, _Kind]], list[str]]
) -> dict[str, _Kind]:
    """Return the type of each field's column, `wanted` being the columns by field and `found` all there are.

    Raises SourceSchemaMismatch for a missing or doubled column, and for the `problems` that the types are.
    """
    counts = Counter(name for name, _ in found)
    missing = [column for column in wanted.values() if not counts[column]]
    doubled = [column for column in wanted.values() if counts[column] > 1]
    if missing or doubled:
        problem = f"no column {', '.join(missing)}" if missing else f"more than one column {', '.join(doubled)}"
        raise SourceSchemaMismatch(f"the source has {problem}; {_told(wanted.values(), list(counts))}")
    by_column = dict(found)
    kinds = {name: by_column[column] for name, column in wanted.items()}
    unreadable = problems(kinds)
    if unreadable:
        raise SourceSchemaMismatch(f"{'; '.join(unreadable)}; {_told(wanted.values(), list(counts))}")
    return kinds


def _told(wanted: Iterable[str], found: list[str]) -> str:
    more = f" and {len(found) - MAX_COLUMNS_NAMED} more" if len(found) > MAX_COLUMNS_NAMED else ""
    return f"wanted: {', '.join(wanted)}; found: {', '.join(found[:MAX_COLUMNS_NAMED]) or 'none'}{more}"
