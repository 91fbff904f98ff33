"""`make quick` stays the loop of seconds: what its tests import, they pay for at every start, in every worker."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("domain", "flows")
HEAVY = frozenset(
    {"boto3", "dagster", "duckdb", "ministack", "psycopg", "pyiceberg", "pymysql", "uvicorn"},
)
"""Dagster takes 2 s to import, pyiceberg and boto3 half a second each; the rest belongs to servers."""


def test_no_test_of_domain_and_flows_imports_dagster_a_database_or_aws():
    """Imports within functions and for type checkers do not count."""
    ways = _ways_from([*_tests(), "salesintel_dagster_tests.conftest"])
    found = {name: way for name, way in ways.items() if name.split(".")[0] in HEAVY}
    assert not found, [" -> ".join(way) for way in found.values()]
    assert {"pytest", "hypothesis", "pyarrow"} <= ways.keys(), "the walk sees what is imported"


def _tests() -> list[str]:
    return [_name(path) for folder in FOLDERS for path in (ROOT / "salesintel_dagster_tests" / folder).glob("*.py")]


def _ways_from(starts: list[str]) -> Mapping[str, tuple[str, ...]]:
    """Return every module that is imported, and by way of which of ours."""
    ways = {start: (start,) for start in starts}
    waiting = list(starts)
    while waiting:
        importer = waiting.pop()
        for name in _imported_by(importer):
            if name not in ways:
                ways[name] = (*ways[importer], name)
                waiting.append(name)
    return ways


@cache
def _file(module: str) -> Path | None:
    stem = ROOT.joinpath(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _imported_by(module: str) -> Iterator[str]:
    path = _file(module)
    if path is None:
        return
    for node in _at_import(ast.parse(path.read_text()).body):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(name for alias in names if _file(name := f"{node.module}.{alias}"))]
        for name in names:
            yield from _with_parents(name)


def _at_import(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef) and not _for_type_checkers(node):
            yield from _at_import([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])


def _for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))
