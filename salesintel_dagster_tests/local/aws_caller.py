"""A process that calls AWS as the product does and reports every request's address and headers, as JSON lines."""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3


def main() -> None:
    session = boto3.session.Session()
    calls = (
        ("s3", "list_buckets", {}),
        ("ssm", "describe_parameters", {}),
        ("dynamodb", "list_tables", {}),
        ("bedrock-runtime", "invoke_model", {"modelId": sys.argv[1], "body": b"{}"}),
    )
    for service, operation, words in calls:
        client = session.client(service)
        client.meta.events.register("before-send", _report)
        try:
            getattr(client, operation)(**words)
        except client.exceptions.ClientError as error:
            sys.stderr.write(f"{error}\n")


def _report(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's untyped request
    headers = {str(name): str(value) for name, value in request.headers.items()}
    sys.stdout.write(json.dumps({"url": request.url, "headers": headers}) + "\n")


if __name__ == "__main__":
    main()
