from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0].lower()


def _locked() -> dict[str, list[str]]:
    """Return each locked requirement's own lines by name."""
    blocks = re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^ *#.*\n?", "", LOCK).strip(), flags=re.IGNORECASE)
    return {_name(block): block.splitlines() for block in blocks}


def test_every_requirement_is_pinned_with_hashes():
    """I11"""
    locked = _locked()
    assert len(locked) > 50
    for name, lines in locked.items():
        assert "==" in lines[0], name
        assert any("--hash=sha256:" in line for line in lines), name


def test_every_direct_dependency_is_bounded_and_locked():
    """I11"""
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    direct = project["dependencies"] + [each for extra in extras for each in extra]
    for requirement in direct:
        assert re.search(r"<|==", requirement), f"{requirement} has no upper bound"
    locked = _locked()
    wanted = {_name(each) for each in direct + PROJECT["dependency-groups"]["dev"]}
    assert wanted <= set(locked)


def test_the_lock_file_names_no_registry():
    assert not re.search(r"https?://|file:|--index|--find-links|/tmp|/home|/work", LOCK)


def test_what_is_installed_is_what_is_locked():
    """I11: `make install` runs pip with --require-hashes; what it left is asked of pip itself."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=True,
    )
    installed = {line.split("==")[0].lower().replace("_", "-"): line.split("==")[-1] for line in done.stdout.split()}
    for name in map(_name, PROJECT["project"]["dependencies"]):
        [version] = {
            line.split("==")[1].split()[0] for line in LOCK.splitlines() if re.match(rf"{name}(\[.*\])?==", line)
        } & {installed[name]}
        assert version == installed[name]
