"""The stage on which measurements run: an embedded world in a temporary home, and servers with a set latency."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg

from salesintel_dagster.local.ports import LOOPBACK, accepts_connections, free_port
from salesintel_dagster.local.world import World, open_world

ROOT = Path(__file__).resolve().parents[1]
MB = 1024 * 1024


@dataclass(frozen=True)
class Measured:
    """One whole process: wall and CPU seconds, peak resident megabytes, what it printed last."""

    wall: float
    cpu: float
    peak_mb: float
    printed: str

    @property
    def paid(self) -> int:
        """Paid embedding calls, as the process printed them."""
        return int(self.printed.split("paid=")[1].split()[0])


def measured(command: list[str], environment: dict[str, str]) -> Measured:
    """Run a command to its end and measure it by the operating system's own accounting."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(command)} failed: {printed}")
    last = printed.strip().splitlines()[-1] if printed.strip() else ""
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, last)


@contextlib.contextmanager
def server(module: str, *options: str) -> Iterator[int]:
    """Run a server module in its own process until the block ends; gives its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", module, "--port", str(port), *options], cwd=ROOT)
    try:
        while not accepts_connections(port):
            if process.poll() is not None:
                raise SystemExit(f"{module} ended with {process.returncode}")
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


@dataclass
class Stage:
    """A world and the environment that measured processes get."""

    world: World
    environment: dict[str, str]
    folder: Path

    def seed(self, day: date, sales: int, image_port: int, distinct_images: int | None = None) -> None:
        """Put `sales` sales of `day` into the source, each with its own picture unless told otherwise."""
        images = distinct_images or sales
        with self.world.connect_smartgo() as connection:
            _create(connection)
            connection.execute("DELETE FROM sales WHERE sold_at >= %s AND sold_at < %s::date + 1", [day, day])
            noon = datetime.combine(day, datetime.min.time(), UTC)
            with connection.cursor().copy(
                "COPY sales (sale_id, product_id, category, brand, condition, sold_price, currency, sold_at, image_url)"
                " FROM STDIN"
            ) as copy:
                for n in range(sales):
                    at = noon + timedelta(seconds=n * 86_000 / sales)
                    url = f"http://{LOOPBACK}:{image_port}/{day}/{n % images}.jpg"
                    copy.write_row(
                        (f"{day}-{n}", f"p{n}", f"category-{n % 10}", "brand", "good", 9 + n % 90, "EUR", at, url)
                    )

    def run(self, first: date, last: date, **extra: str) -> Measured:
        """Measure one run of the job over the days."""
        command = [sys.executable, "-m", "bench.day", first.isoformat(), last.isoformat()]
        return measured(command, {**self.environment, **extra})

    def forget(self) -> None:
        """Drop stored objects (images, vectors, staged days), so that the next run starts from nothing."""
        shutil.rmtree(self.folder / "objects", ignore_errors=True)


@contextlib.contextmanager
def stage(titan_port: int, image_port: int, **settings: str) -> Iterator[Stage]:
    """Open a world in a temporary home whose runs use the given servers and a folder as object store."""
    with tempfile.TemporaryDirectory(prefix="salesintel-bench-") as name:
        folder = Path(name)
        with open_world(folder / "home", on_event=lambda _: None) as world:
            environment = {**os.environ, **world.environment}
            environment |= {
                "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": f"http://{LOOPBACK}:{titan_port}",
                "SALESINTEL_IMAGE_HOSTS_ALLOWED": f"{LOOPBACK}:{image_port}",
                "SALESINTEL_OBJECT_FOLDER": str(folder / "objects"),
                "SALESINTEL_EMBEDDING_BUDGET_RUN_USD": "1000",
                "SALESINTEL_EMBEDDING_BUDGET_DAY_USD": "1000",
                "DAGSTER_HOME": str(folder / "dagster"),
                **settings,
            }
            (folder / "dagster").mkdir()
            shutil.copyfile(ROOT / "salesintel_dagster" / "dagster.yaml", folder / "dagster" / "dagster.yaml")
            yield Stage(world, environment, folder)


def _create(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS sales (sale_id text, product_id text, category text, brand text, condition text,"
        " sold_price numeric, currency text, sold_at timestamptz, image_url text, recorded_at timestamptz)"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS sales_sold_at ON sales (sold_at)")
