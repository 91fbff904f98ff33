"""docs/sales-repository.md is executed: its commands and its Python print what the page says they print.

`python -m salesintel_dagster_tests.test_sales_docs` runs the page and writes the output into it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shlex
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.domain.calendar import Hemisphere, Season
from salesintel_dagster.domain.errors import RevisionConflict
from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sale_request import RequestRules
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.handlers.store_sale import StoreSale
from salesintel_dagster_tests import services as running
from salesintel_dagster_tests.command_line import call

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sales-repository.md"
NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
BLOCK = re.compile(r"^```(json|console|python)\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)
AGAIN = "docs/sales-repository.md is stale: run `.venv/bin/python -m salesintel_dagster_tests.test_sales_docs`"


class Reader:
    """Somebody who does what the page says, in its order, in a fresh deployment of an account of its own."""

    def __init__(self, clients: AwsClients) -> None:
        target = clients.target
        stage = f"t{secrets.token_hex(4)}"
        table = deploy(clients, stage, lambda _: None).resources["SalesIntelligenceTable"]
        self.environment = {
            "SALESINTEL_MODE": "aws",
            "STAGE": stage,
            "AWS_ENDPOINT_URL": target.endpoint_url or "",
            "AWS_ACCESS_KEY_ID": target.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": target.secret_access_key or "",
        }
        sales = DynamoSalesRepository(clients.client("dynamodb"), table, ShardCounts())
        handler = StoreSale(sales, RequestRules(ZoneInfo("UTC"), Hemisphere.NORTH))
        self.names: dict[str, Any] = {
            "sales": sales,
            "store_sale": handler,
            "replace": replace,
            "payload_hash": payload_hash,
            **{kind.__name__: kind for kind in (CallerContext, Decimal, RevisionConflict, SaleRecord, Season)},
            **{kind.__name__: kind for kind in (date, datetime)},
            "UTC": UTC,
        }

    def block(self, kind: str, text: str) -> str:
        """Return the block as it should stand on the page, with what it printed."""
        if kind == "json":
            Path("sales.jsonl").write_text(text)
            return f"```json\n{text}```\n"
        if kind == "console":
            commands = [line for line in text.splitlines() if line.startswith("$ ")]
            return "```console\n" + "".join(f"{line}\n{self._run(line)}" for line in commands) + "```\n"
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, str(PAGE), "exec"), self.names)  # noqa: S102 - our own page
        return f"```python\n{text}```\n\n```text\n{out.getvalue()}```\n"

    def _run(self, line: str) -> str:
        answer = call(*shlex.split(line.removeprefix("$ salesintel ")), environment=self.environment)
        return answer.out + answer.err


def executed(clients: AwsClients) -> str:
    """Return the page with the output that its commands give now."""
    with time_machine.travel(NOW):
        reader = Reader(clients)
        return BLOCK.sub(lambda block: reader.block(block[1], block[2]), PAGE.read_text())


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.slow
def test_the_page_prints_what_it_says(aws: AwsClients, tmp_path: Path):
    with _in(tmp_path):
        found = executed(aws)
    assert found == PAGE.read_text(), AGAIN


def _write() -> None:
    import tempfile  # noqa: PLC0415 - only when the page is written

    with running.services() as opened, tempfile.TemporaryDirectory() as folder, _in(Path(folder)):
        PAGE.write_text(executed(AwsClients(opened.aws.new_target())))


if __name__ == "__main__":
    _write()
