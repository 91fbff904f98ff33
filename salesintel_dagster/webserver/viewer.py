"""Viewer mode: what changes something or runs code refuses whoever asks for it, by request or by websocket.

Dagster's own read-only mode leaves it to each field to ask for a permission. Two of its 41 mutations ask for none:
`setNuxSeen`, which writes a file, and `logTelemetry`. Nor do the queries that run a function of the definitions: a
schedule's or a sensor's for a tick that is to come, a job's for a partition's configuration or for a plan. A plan took
the asker's own configuration, and its answer could hold a variable of the server's environment. Imports Dagster's
webserver; only `dagster_app` imports this.
"""

from __future__ import annotations

from typing import Any, NoReturn

from dagster_webserver.webserver import DagsterWebserver
from graphql import GraphQLError

REFUSED = "Unauthorized: this is viewer mode, which changes and runs nothing"
RUNS_CODE = {
    "DryRunInstigationTick": ("evaluationResult",),
    "Partition": ("runConfigOrError", "tagsOrError"),
    "PartitionTagsAndConfig": ("runConfigOrError", "tagsOrError"),
    "Query": ("executionPlanOrError",),
}
"""The fields of each type that run a function of the definitions."""


class ViewerWebserver(DagsterWebserver[Any, Any]):
    """Dagster's webserver, in which they do."""

    def build_graphql_schema(self) -> Any:  # noqa: ANN401 - graphene has no types
        """Return Dagster's schema, in which these fields refuse."""
        schema = super().build_graphql_schema()
        for field in schema.graphql_schema.mutation_type.fields.values():
            field.resolve = _refuse
        for name, fields in RUNS_CODE.items():
            for field in fields:
                schema.graphql_schema.type_map[name].fields[field].resolve = _refuse
        return schema


def _refuse(*_: object, **__: object) -> NoReturn:
    raise GraphQLError(REFUSED)
