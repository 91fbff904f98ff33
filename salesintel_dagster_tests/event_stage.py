"""A stage of the event sync for tests: deployed on the emulator by the template, driven by commands and by drains."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE, NAMESPACE
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncParts, SyncTally
from salesintel_dagster.local.world_environment import overlaid
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import open_tables_catalog
from salesintel_dagster.wiring.events import sync_parts, sync_rules
from salesintel_dagster_tests.command_line import Answer, call

BATCH = 10


class EventStage:
    """One deployment in an account of its own; its Iceberg catalog is a file in `folder`."""

    def __init__(self, clients: AwsClients, folder: Path) -> None:
        target = clients.target
        self.clients = clients
        self.stage = f"t{secrets.token_hex(4)}"
        deploy(clients, self.stage, lambda _: None)
        self.environment = {
            "SALESINTEL_MODE": "aws",
            "STAGE": self.stage,
            "SALESINTEL_CATALOG": "sql",
            "SALESINTEL_CATALOG_URI": f"sqlite:///{folder}/catalog.db",
            "AWS_ENDPOINT_URL": target.endpoint_url or "",
            "AWS_ACCESS_KEY_ID": target.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": target.secret_access_key or "",
        }
        self.settings = Settings.from_environment(self.environment)
        self.sqs = clients.client("sqs")
        self._handles: list[str] = []
        self.sqs.meta.events.register("after-call.sqs.ReceiveMessage", self._received)

    def call(self, *arguments: str) -> Answer:
        return call("events", *arguments, environment=self.environment)

    def parts(self) -> SyncParts:
        with overlaid(self.environment):
            return sync_parts(self.settings, self.clients)

    def drain(self, parts: SyncParts | None = None) -> SyncTally:
        rules = replace(sync_rules(self.settings), gather_seconds=0.0, idle_seconds=0.0)
        sync = EventSync(parts or self.parts(), rules, SYSTEM_CLOCK, "run-1", lambda _: None)
        with overlaid(self.environment):
            return sum(sync.drain(), SyncTally())

    def url(self, name: str) -> str:
        return str(self.sqs.get_queue_url(QueueName=name)["QueueUrl"])

    def put(self, name: str, *bodies: str) -> None:
        url = self.url(name)
        for start in range(0, len(bodies), BATCH):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + BATCH])]
            assert not self.sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")

    def depth(self, name: str) -> tuple[int, int]:
        """Return how many messages of a queue are visible and in somebody's hand."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url(name), AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def show_again(self) -> None:
        """End the visibility timeouts of the event queue, as time would."""
        url, handles, self._handles = self.url(self.settings.event_queue_name), self._handles, []
        for handle in handles:
            entry = {"Id": "1", "ReceiptHandle": handle, "VisibilityTimeout": 0}
            self.sqs.change_message_visibility_batch(QueueUrl=url, Entries=[entry])

    def history(self) -> Any:  # noqa: ANN401 - pyiceberg's
        with overlaid(self.environment):
            return open_tables_catalog(self.settings).load_table((NAMESPACE, HISTORY_TABLE))

    def in_history(self) -> list[str]:
        return sorted(self.history().scan(selected_fields=("sale_id",)).to_arrow()["sale_id"].to_pylist())

    def in_sales_table(self) -> list[str]:
        client = self.clients.client("dynamodb")
        items = client.scan(TableName=self.settings.sales_table_name, ConsistentRead=True)["Items"]
        return sorted(one["saleId"]["S"] for one in items if one.get("entity", {}).get("S") == "SALE")

    def _received(self, parsed: Mapping[str, Any], **_: object) -> None:
        self._handles += [one["ReceiptHandle"] for one in parsed.get("Messages", ())]
