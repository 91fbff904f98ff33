from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "salesintel_dagster"
MAX_MODULE_LINES = 250


def _layers_hold(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, folder / "salesintel_dagster", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "setup.cfg", folder / "setup.cfg")
    return folder


def test_the_layers_hold(copy: Path):
    found = _layers_hold(copy)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    "module,line",
    [
        ("domain/sale.py", "import dagster"),
        ("domain/sale.py", "import salesintel_dagster.flows.export.run"),
        ("flows/export/day.py", "import boto3"),
        ("adapters/titan.py", "import dagster"),
        ("adapters/titan.py", "import salesintel_dagster.settings"),
        ("adapters/titan.py", "import salesintel_dagster.adapters.smartgo"),
        ("defs/resources.py", "import ministack"),
        ("wiring/__init__.py", "import salesintel_dagster.local.world"),
        ("handlers/store_sale.py", "import salesintel_dagster.wiring"),
    ],
)
def test_an_import_against_the_flow_is_refused(copy: Path, module: str, line: str):
    path = copy / "salesintel_dagster" / module
    original = path.read_text()
    path.write_text(original.replace("from __future__ import annotations\n", "", 1) + f"\n{line}\n")
    found = _layers_hold(copy)
    path.write_text(original)
    assert found.returncode != 0
    assert "BROKEN" in found.stdout


def test_a_module_that_no_layer_holds_is_refused(copy: Path):
    path = copy / "salesintel_dagster" / "elsewhere.py"
    path.write_text("import salesintel_dagster.commands.app\n")
    found = _layers_hold(copy)
    path.unlink()
    assert found.returncode != 0
    assert "elsewhere" in found.stdout


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", _modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_says_what_lives_in_it_and_stays_small(path: Path):
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source)), "no contract"
    assert len(source.splitlines()) <= MAX_MODULE_LINES


def test_nothing_is_pickled_and_no_table_is_appended_to():
    """I10, D7"""
    for path in _modules():
        tree = ast.parse(path.read_text())
        imported = {
            alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not imported & {"pickle", "cloudpickle", "shelve", "marshal", "dill"}, path
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not called & {"upsert", "dynamic_partition_overwrite"}, path


def test_no_file_is_named_for_nothing():
    """STYLE 16"""
    assert not [path for path in _modules() if path.stem in {"utils", "common", "helpers", "lib", "misc", "manager"}]
