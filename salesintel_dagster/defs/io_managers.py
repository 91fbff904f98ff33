"""No value travels between assets through Dagster: days are staged as Parquet by the flows.

Dagster's default IO manager pickles, and a pickle executes what it holds when it is loaded. This one refuses both
ways, so that an asset that returns a value by mistake is told so at its first run.
"""

from typing import Any, NoReturn

import dagster as dg


class NoValuesIOManager(dg.IOManager):
    """Refuses every value."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401 - Dagster's signature
        """Refuse to store `obj`, unless it is nothing."""
        if obj is not None:
            raise dg.DagsterInvariantViolationError(
                f"{context.name}: assets of this platform stage Parquet and return no value"
            )

    def load_input(self, context: dg.InputContext) -> NoReturn:
        """Refuse to load anything."""
        raise dg.DagsterInvariantViolationError(
            f"{context.name}: read the staged Parquet of the upstream asset instead"
        )
