"""Viewer mode: what changes something or runs code refuses whoever asks for it, by request or by websocket.

Dagster's own read-only mode leaves it to each field to ask for a permission. Two of its 41 mutations ask for none:
`setNuxSeen`, which writes a file, and `logTelemetry`. Nor do the queries that run a function of the definitions: a
schedule's or a sensor's for a tick that is to come, a job's for a partition's configuration or for a plan. A plan took
the asker's own configuration, and its answer could hold a variable of the server's environment. Who watches a step's
logs makes the folder of whatever he names. Imports Dagster's webserver; only `dagster_app` imports this.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster_webserver.webserver import DagsterWebserver
from graphql import GraphQLError
from starlette.requests import HTTPConnection

REFUSED = "Unauthorized: this is viewer mode, which changes and runs nothing"
RUNS_CODE = {
    "DryRunInstigationTick": ("evaluationResult",),
    "Partition": ("runConfigOrError", "tagsOrError"),
    "PartitionTagsAndConfig": ("runConfigOrError", "tagsOrError"),
    "Query": ("executionPlanOrError",),
}
"""The fields of each type that run a function of the definitions."""
NAMED_BY_CODE = "Unauthorized: a function names the partitions of this job, and viewer mode runs none"
NOT_CAPTURED = "Unauthorized: no logs are kept by that key, and viewer mode makes no folder to wait for them"


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
        watched = schema.graphql_schema.subscription_type.fields["capturedLogs"]
        watched.subscribe = _of_what_is_there(watched.subscribe)
        return schema

    def _make_request_context(self, conn: HTTPConnection) -> Any:  # noqa: ANN401 - Dagster's own
        context = super()._make_request_context(conn)
        context.get_partition_names = _of_names_that_are_known(context)
        return context


def _of_names_that_are_known(context: Any) -> Callable[..., Any]:  # noqa: ANN401 - Dagster's own
    ask = context.get_partition_names

    def known_partition_names(*, repository_selector: Any, job_name: str, **others: Any) -> Any:  # noqa: ANN401 - same
        for found in context.get_partition_sets(repository_selector):
            if found.job_name == job_name and not found.has_partition_name_data():
                raise GraphQLError(NAMED_BY_CODE)
        return ask(repository_selector=repository_selector, job_name=job_name, **others)

    return known_partition_names


def _refuse(*_: object, **__: object) -> NoReturn:
    raise GraphQLError(REFUSED)


def _of_what_is_there(subscribe: Callable[..., Any]) -> Callable[..., Any]:
    def subscribe_if_captured(root: object, info: Any, **asked: Any) -> Any:  # noqa: ANN401 - graphene has no types
        logs = info.context.instance.compute_log_manager
        local = isinstance(logs, LocalComputeLogManager)
        if local and not Path(logs.get_captured_local_path(asked["logKey"], "out")).parent.is_dir():
            raise GraphQLError(NOT_CAPTURED)
        return subscribe(root, info, **asked)

    return subscribe_if_captured
