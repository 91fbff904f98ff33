"""Viewer mode: what changes something or runs code refuses whoever asks for it, by request or by websocket.

Dagster's own read-only mode leaves it to each field to ask for a permission. Two of its 41 mutations ask for none:
`setNuxSeen`, which writes a file, and `logTelemetry`. Nor does a query for a tick that is to come, which runs the
schedule's or the sensor's function. Imports Dagster's webserver; only `dagster_app` imports this.
"""

from __future__ import annotations

from typing import Any, NoReturn

from dagster_webserver.webserver import DagsterWebserver
from graphql import GraphQLError, GraphQLObjectType

REFUSED = "Unauthorized: this is viewer mode, which changes and runs nothing"
DRY_RUN = ("DryRunInstigationTick", "evaluationResult")
"""The type and the field that run a schedule or a sensor."""


class ViewerWebserver(DagsterWebserver[Any, Any]):
    """Dagster's webserver, in which they do."""

    def build_graphql_schema(self) -> Any:  # noqa: ANN401 - graphene has no types
        """Return Dagster's schema, in which these fields refuse."""
        schema = super().build_graphql_schema()
        mutations, tick = schema.graphql_schema.mutation_type, schema.graphql_schema.type_map[DRY_RUN[0]]
        assert isinstance(mutations, GraphQLObjectType)  # noqa: S101 - for mypy
        assert isinstance(tick, GraphQLObjectType)  # noqa: S101 - same
        for field in (*mutations.fields.values(), tick.fields[DRY_RUN[1]]):
            field.resolve = _refuse
        return schema


def _refuse(*_: object, **__: object) -> NoReturn:
    raise GraphQLError(REFUSED)
