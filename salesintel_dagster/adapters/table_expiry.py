"""Whether a DynamoDB table's items expire, and switching that on: a step of its own, idempotent, after every deploy."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClient
from salesintel_dagster.adapters.infrastructure_request import translated
from salesintel_dagster.domain.errors import DeployFailed

TTL_ATTRIBUTE = "ttl"


def is_expiring(dynamodb: AwsClient, table: str) -> bool:
    """Tell whether items of `table` expire by `ttl`. Raises DeployFailed, also where they expire by something else."""
    with translated(f"table {table}: time to live"):
        current = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        if current.get("TimeToLiveStatus") not in {"ENABLED", "ENABLING"}:
            return False
        if current.get("AttributeName") != TTL_ATTRIBUTE:
            raise DeployFailed(
                f"table {table}: items expire by {current.get('AttributeName')!r}, ours by {TTL_ATTRIBUTE!r}; "
                "switch it off, wait an hour, deploy again"
            )
        return True


def enable_ttl(dynamodb: AwsClient, table: str) -> bool:
    """Let items of `table` expire by their `ttl`; return whether that was new. Raises DeployFailed."""
    if is_expiring(dynamodb, table):
        return False
    with translated(f"table {table}: time to live"):
        specification = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
        dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)
    if not is_expiring(dynamodb, table):
        raise DeployFailed(f"table {table}: items do not expire after that was switched on")
    return True
