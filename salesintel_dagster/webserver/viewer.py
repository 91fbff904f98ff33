"""Viewer mode as one rule: no GraphQL mutation is executed at all. Imports Dagster's webserver; `dagster_app` uses it.

In Dagster's own read-only mode 39 of its 41 mutations ask for a permission; `setNuxSeen`, which writes a file, and
`logTelemetry` do not. A subscription cannot hold a mutation: Dagster validates it against its own root.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dagster_webserver.webserver import DagsterWebserver
from graphql import ASTValidationRule, GraphQLError, OperationDefinitionNode, OperationType

REFUSED = "Unauthorized: this is viewer mode, which changes nothing"


class NoMutation(ASTValidationRule):
    """Makes every document that defines a mutation invalid."""

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: object) -> None:
        """Report a mutation."""
        if node.operation is OperationType.MUTATION:
            self.report_error(GraphQLError(REFUSED, node))


class ViewerWebserver(DagsterWebserver[Any, Any]):
    """Dagster's webserver under that rule."""

    def build_graphql_validation_rules(self) -> Collection[type[ASTValidationRule]]:
        """Return GraphQL's rules and ours."""
        return (*super().build_graphql_validation_rules(), NoMutation)
