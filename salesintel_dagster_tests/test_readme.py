"""The documentation is held against the code: commands, paths, links, checks; and no file names a machine."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from salesintel_dagster.commands.app import ALSO_CALLED, cli
from salesintel_dagster.flows.export.promises import promises
from salesintel_dagster.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
OUR_PATH = re.compile(r"(?:salesintel_dagster|salesintel_dagster_tests|docs|bench)/[\w./-]*")
OURS = re.compile(r"(?:\.venv/bin/)?salesintel ")
OPTIONAL = re.compile(r"\[[A-Z.]+\]")
STANDS_FOR = {
    "DATE[..DATE]": "2026-11-01..2026-11-20",
    "DATE": "2026-11-20",
    "FILE": "README.md",
    "FOLDER": ".",
    "COMMAND": "status",
    "my_sales.csv": "README.md",
    "sales.jsonl": "README.md",
    "events.jsonl": "README.md",
    "my_photos": ".",
    "CATALOG.csv": "README.md",
}
MACHINE_PATH = re.compile(r"(?<![\w.…~])/(?:work|home|root|Users)/[\w.-]+")
REGISTRY = re.compile(
    r"--(?:extra-)?index-url|https?://[\w.-]*(?:pypi|pythonhosted|artifactory|nexus)[\w.-]*", re.IGNORECASE
)


def _shell_lines(page: Path) -> list[str]:
    """Return what a reader would type: the lines of blocks (with `$ ` or without), and code within sentences."""
    text = page.read_text()
    blocks = "\n".join(block.group(1) for block in FENCE.finditer(text))
    joined = re.sub(r'"\n(?=[A-Z])[^"]*"', '"SELECT 1"', blocks)  # a statement over several lines
    typed = [line.removeprefix("$ ").strip() for line in joined.splitlines()]
    return typed + [code.strip() for code in INLINE.findall(FENCE.sub("", text))]


def _typed(start: re.Pattern[str]) -> list[tuple[str, str]]:
    return sorted({(page.name, line) for page in PAGES for line in _shell_lines(page) if start.match(line)})


def _words(line: str) -> list[str]:
    line = OPTIONAL.sub("", line) if "DATE[" not in line else line
    words = shlex.split(line.partition("  ")[0], comments=True)[1:]
    return [STANDS_FOR.get(word, word) for word in words]


@pytest.mark.parametrize("page,line", _typed(OURS), ids=lambda value: str(value)[:60])
def test_a_command_that_a_page_names_exists_with_its_options(page: str, line: str):
    command: click.Command = cli
    words = _words(line)
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{page}: no command {words[0]!r}"
        command, words = found, words[1:]
    if words and words != ["--help"] and not isinstance(command, click.Group):
        command.make_context("salesintel", words)


def test_the_commands_that_must_be_on_the_first_page_are_there():
    named = {_words(line)[0] for page, line in _typed(OURS) if page == "README.md" and _words(line)}
    assert named >= set(cli.list_commands(click.Context(cli)))
    assert not named & set(ALSO_CALLED)


def _targets() -> dict[str, str]:
    makefile = (ROOT / "Makefile").read_text()
    return dict(re.findall(r"^([a-z]+):.*?## (.+)$", makefile, re.MULTILINE))


@pytest.mark.parametrize("page,line", _typed(re.compile(r"make [a-z]+$")), ids=lambda value: str(value)[:60])
def test_a_make_target_that_a_page_names_exists_and_explains_itself(page: str, line: str):
    assert line.split()[1] in _targets(), f"{page}: {line}"


def test_ci_runs_what_the_readme_says_and_nothing_else():
    ran = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    assert ran == ["make test"]
    assert "`make test` is what CI runs" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_paths_that_exist(page: Path):
    named = {path for code in INLINE.findall(page.read_text()) for path in OUR_PATH.findall(code)}
    missing = sorted(path for path in named if not (ROOT / path).exists())
    assert not missing


def test_the_map_has_every_part_of_the_package():
    readme = (ROOT / "README.md").read_text()
    parts = [part for part in (ROOT / "salesintel_dagster").iterdir() if part.name != "__pycache__"]
    folders = [f"`salesintel_dagster/{part.name}/`" for part in parts if part.is_dir()]
    assert [folder for folder in folders if folder not in readme] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path):
    links = [link for link, _ in LINK.findall(page.read_text()) if not link.startswith(("http:", "https:"))]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_table_of_checks_is_the_checks_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([^|]+) \|", (ROOT / "docs" / "export.md").read_text(), re.MULTILINE)
    assert [(name, stage, "blocks" in fails) for name, stage, fails in rows] == [
        (promise.name, promise.stage, promise.blocking) for promise in promises(1024)
    ]


def test_every_sensor_and_schedule_is_told_to_the_operator():
    from salesintel_dagster.definitions import build  # noqa: PLC0415 - Dagster, for this test alone

    told = "".join(page.read_text() for page in PAGES)
    served = build(Settings())
    names = [one.name for one in (*(served.sensors or ()), *(served.schedules or ()))]
    assert names
    assert [name for name in names if f"`{name}`" not in told] == []


def _committed() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git from the PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git working tree")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_file_names_a_folder_of_somebodys_machine_or_a_package_registry():
    """I11"""
    found = []
    for path in _committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path != Path(__file__).resolve():
            found += [f"{path.relative_to(ROOT)}: {hit}" for hit in MACHINE_PATH.findall(text) + REGISTRY.findall(text)]
    assert found == []
