"""The AWS emulator that enforces policies, and writes down each permission that it asked for: a child of the tests.

All clients are seen here alike: boto3, Arrow's S3 in C++, the boto3 inside pyiceberg and dagster-aws. Hooks on our own
clients would see the first alone. A line of the file is one question: {"key", "action", "resource", "denied"}.
Three of AWS's rules are put right, which ministack 1.5.33 does not have:
* SQS knows no batch actions: SendMessageBatch needs sqs:SendMessage (SQS developer guide, "API permissions").
* Glue asks for a table, its database and the catalog (Glue developer guide, "Specifying resource ARNs"); ministack
  asks for the database alone, and takes GetDatabase's name for a table's.
* CloudWatch tells its conditions the namespace that metrics are put into.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from ministack.core import iam_actions, iam_evaluator

from salesintel_dagster.local import emulator_app

RECORD_VARIABLE = "IAM_RECORD"


def questions(action: str, resource: str) -> Iterator[tuple[str, str]]:
    """Yield what AWS asks where the emulator asks for `action` on `resource`."""
    service, _, verb = action.partition(":")
    if service == "sqs":
        yield f"sqs:{verb.removesuffix('Batch')}", resource
        return
    yield action, resource
    if service == "glue":
        head, _, path = resource.rpartition(":")
        kind, *names = path.split("/")
        if kind == "table":
            yield action, f"{head}:database/{names[0]}"
        if kind != "catalog":
            yield action, f"{head}:catalog"


def recording(enforce: Callable[..., Any], path: str) -> Callable[..., Any]:
    """Return `enforce` that asks AWS's questions and writes them down."""

    def asked(key: str, action: str, service: str, region: str, resource_arn: str = "*", **context: Any) -> Any:  # noqa: ANN401 - ministack's
        with open(path, "a", encoding="utf-8") as record:  # noqa: PTH123 - opened for a line or three
            for verb, resource in questions(action, resource_arn):
                denied = enforce(key, verb, service, region, resource_arn=resource, **context)
                line = {"key": key, "action": verb, "resource": resource, "denied": denied is not None}
                record.write(json.dumps(line) + "\n")
                if denied is not None:
                    return denied
        return None

    return asked


def knowing_glue(resource_of: Callable[..., str]) -> Callable[..., str]:
    """Return `extract_resource_arn` that tells databases and tables of Glue by both their names."""

    def known(service: str, method: str, path: str, headers: Any, body: bytes, *words: Any) -> str:  # noqa: ANN401 - same
        if service != "glue":
            return resource_of(service, method, path, headers, body, *words)
        _, region, account = words
        asked = json.loads(body or b"{}")
        head = f"arn:aws:glue:{region}:{account}"
        if database := asked.get("DatabaseName"):
            every = "*" if headers.get("x-amz-target", "").endswith(".GetTables") else None
            table = asked.get("Name") or asked.get("TableInput", {}).get("Name") or every
            return f"{head}:table/{database}/{table}" if table else f"{head}:database/{database}"
        database = asked.get("Name") or asked.get("DatabaseInput", {}).get("Name")
        return f"{head}:database/{database}" if database else f"{head}:catalog"

    return known


def knowing_metrics(context_of: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return `request_tag_context` that knows the namespace of PutMetricData as well."""

    def known(service: str, action: str, body: bytes, params: Any) -> dict[str, Any]:  # noqa: ANN401 - same
        found = context_of(service, action, body, params)
        if action == "cloudwatch:PutMetricData":
            found["cloudwatch:namespace"] = json.loads(body)["Namespace"]
        return found

    return known


if __name__ == "__main__":
    iam_actions.request_tag_context = knowing_metrics(iam_actions.request_tag_context)
    iam_evaluator.enforce = recording(iam_evaluator.enforce, os.environ[RECORD_VARIABLE])
    iam_actions.extract_resource_arn = knowing_glue(iam_actions.extract_resource_arn)
    emulator_app.main()
