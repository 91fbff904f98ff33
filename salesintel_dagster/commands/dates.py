"""Days as arguments of a command: one, or a range with both ends included."""

from __future__ import annotations

from datetime import date

import click

from salesintel_dagster.domain.calendar import days_between

MOST_DAYS = 4000
"""Days in one command: eleven years. A longer range is more likely a mistyped year."""


class DayRange(click.ParamType[list[date]]):
    """`2026-11-20` or `2026-11-01..2026-11-20`, both ends included."""

    name = "DATE[..DATE]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[date]:
        """Return the days, in order."""
        if isinstance(value, list):
            return value
        first, dots, last = str(value).partition("..")
        try:
            begin, end = date.fromisoformat(first), date.fromisoformat(last if dots else first)
        except ValueError:
            self.fail(f"{value!r}: expected a day such as 2026-11-20 or a range 2026-11-01..2026-11-20", param, ctx)
        if begin > end:
            self.fail(f"{value!r}: the first day lies after the last", param, ctx)
        if (end - begin).days >= MOST_DAYS:
            self.fail(f"{value!r}: {(end - begin).days + 1} days; at most {MOST_DAYS} at once", param, ctx)
        return days_between(begin, end)


class Day(click.ParamType[date]):
    """`2026-11-20`."""

    name = "DATE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the day."""
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r}: expected a day such as 2026-11-20", param, ctx)
