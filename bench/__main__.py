"""`make bench`: the tables of docs/benchmarks.md. Servers run in their own processes; nothing leaves this machine.

`python -m bench NAME ...` runs some, `python -m bench --help` lists them. Without a name: all, about an hour on two
cores. Absolute seconds depend on the machine; quote the ratios.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date, timedelta

from bench import enrichment, event_latency, reliability
from bench.events import events
from bench.guard import guard
from bench.sales import sales
from bench.stage import Measured, Stage, measured, server, stage
from bench.upkeep import upkeep

LATENCY_SECONDS = 0.150
DAY = date(2025, 6, 1)
SMARTGO = "smartgo"
HEADER = "| run | wall s | / ideal | CPU ms a sale | peak MB | paid calls |\n|---|---|---|---|---|---|"


def _row(name: str, run: Measured, sales: int, ideal: float | None) -> None:
    ratio = f"{run.wall / ideal:.2f}" if ideal else "-"
    print(
        f"| {name} | {run.wall:.1f} | {ratio} | {run.cpu * 1000 / sales:.1f} | {run.peak_mb:.0f} | {run.paid} |",
        flush=True,
    )


def _concurrency(workers: int) -> dict[str, str]:
    return {
        "SALESINTEL_IMAGE_CONCURRENCY": str(workers),
        "SALESINTEL_IMAGE_CONCURRENCY_PER_HOST": str(workers),
        "SALESINTEL_EMBEDDING_CONCURRENCY": str(workers),
    }


def one_day(sales: int, workers: int) -> None:
    """One partition: ours, ours again, ours on S3, and the plain threaded script, in one session."""
    ideal = sales * LATENCY_SECONDS / workers
    print(f"\n### {sales} sales, {workers} at once; ideal = {sales} x 0.150 / {workers} = {ideal:.2f} s\n\n{HEADER}")
    titan_options = ("--descriptor", "hash", "--latency-ms", "150")
    with (
        server("salesintel_dagster.local.titan_server", *titan_options) as titan,
        server("bench.images", "--latency-ms", "20") as images,
        stage(titan, images, **_concurrency(workers)) as on,
    ):
        on.seed(DAY, sales, images)
        on.seed(DAY - timedelta(days=1), 0, images)
        start = on.run(DAY - timedelta(days=1), DAY - timedelta(days=1))
        print(f"| process start and an empty day | {start.wall:.1f} | - | - | {start.peak_mb:.0f} | {start.paid} |")
        _row("ours, objects in a folder", first := on.run(DAY, DAY), sales, ideal)
        _row("ours, the same day again", again := on.run(DAY, DAY), sales, None)
        _row("ours, objects in the emulated S3", on.run(DAY, DAY, SALESINTEL_OBJECT_FOLDER=""), sales, ideal)
        _row("plain threaded script", _plain(on, workers), sales, ideal)
        print(f"\nWithout process start: first {(first.wall - start.wall) / ideal:.2f} x ideal,", end=" ")
        print(f"again {(again.wall - start.wall) / (first.wall - start.wall):.1%} of the first.", flush=True)


def _plain(on: Stage, workers: int) -> Measured:
    folder = on.folder / "plain"
    folder.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "bench.plain",
        on.world.postgres.dsn(SMARTGO),
        DAY.isoformat(),
        str(workers),
        str(folder),
    ]
    return measured(command, on.environment)


def memory() -> None:
    """Peak memory at 10,000 and 100,000 sales in a day, embedding latency 0, small pictures."""
    print(f"\n### Memory: one day, embedding latency 0, 32 at once, 4 KB pictures\n\n{HEADER}", flush=True)
    with (
        server("salesintel_dagster.local.titan_server", "--descriptor", "hash") as titan,
        server("bench.images", "--bytes", "4000") as images,
        stage(titan, images, **_concurrency(32)) as on,
    ):
        for offset, sales in enumerate((10_000, 100_000)):
            day = DAY + timedelta(days=offset)
            on.seed(day, sales, images)
            _row(f"{sales} sales", on.run(day, day), sales, None)


def backfill(days: int, single_runs: int) -> None:
    """Seconds per day of a backfill: the chosen policy, and one run per day for the first `single_runs` days."""
    print(f"\n### Backfill of {days} days x 150 sales, embedding latency 0\n", flush=True)
    print("| policy | days | s a day | CPU s a day | peak MB |\n|---|---|---|---|---|")
    with (
        server("salesintel_dagster.local.titan_server", "--descriptor", "hash") as titan,
        server("bench.images", "--bytes", "20000") as images,
        stage(titan, images) as on,
    ):
        for n in range(days + single_runs):
            on.seed(DAY + timedelta(days=n), 150, images)
        for name, step, first, count in (("30 days a run", 30, 0, days), ("one run a day", 1, days, single_runs)):
            runs = [_span(on, first + n, min(step, count - n)) for n in range(0, count, step)]
            wall, cpu = sum(run.wall for run in runs), sum(run.cpu for run in runs)
            peak = max(run.peak_mb for run in runs)
            print(f"| {name} | {count} | {wall / count:.2f} | {cpu / count:.2f} | {peak:.0f} |", flush=True)


def _span(on: Stage, first: int, count: int) -> Measured:
    return on.run(DAY + timedelta(days=first), DAY + timedelta(days=first + count - 1))


BENCHES: dict[str, tuple[Callable[[], None], str]] = {
    "day150": (lambda: one_day(150, 5), "one day of 150 sales beside a plain threaded script"),
    "day2000": (lambda: one_day(2_000, 32), "one day of 2,000 sales, the same way"),
    "memory": (memory, "peak memory of a day of 10,000 and of 100,000 sales"),
    "backfill30": (lambda: backfill(30, 10), "30 days in one run, and a run a day"),
    "backfill365": (lambda: backfill(365, 30), "365 days, the same way"),
    "sales": (sales, "the sales repository beside bare boto3 calls"),
    "enrichment": (enrichment.bench, "1,000 products enriched, and a kill at half"),
    "events": (events, "a backlog of events beside one event at a time and bare boto3 calls"),
    "event_latency": (lambda: event_latency.event_latency([]), "from put_events to both stores at one event a second"),
    "upkeep": (upkeep, "commits on day 30, 365 and 3,650 of a table that is kept"),
    "guard": (guard, "guarded image downloads beside plain ones"),
}
"""By name: what runs, and what it measures."""


def listed() -> str:
    """Return a line a bench."""
    return "\n".join(f"  {name:<12} {what}" for name, (_, what) in BENCHES.items())


def main(names: list[str]) -> None:
    """Run the benches named, or all; `reliability` and `event_latency` have options, and the first is not among all."""
    if names[:1] == ["reliability"]:
        reliability.reliability(names[1:])
        return
    if names[:1] == ["event_latency"]:
        event_latency.event_latency(names[1:])
        return
    if {"--help", "-h"} & set(names):
        print(f"{__doc__}\n{listed()}\n  reliability   everything killed in turn while events arrive; on its own only")
        return
    unknown = set(names) - set(BENCHES)
    if unknown:
        raise SystemExit(f"no such bench: {', '.join(sorted(unknown))}; there are\n{listed()}")
    for name in names or BENCHES:
        BENCHES[name][0]()


if __name__ == "__main__":
    main(sys.argv[1:])
