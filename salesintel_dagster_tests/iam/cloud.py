"""A deployed stage on an emulator that enforces the template's policies, and users that hold some of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.local.emulator import ACCOUNT, Emulator
from salesintel_dagster.local.pictures import draw_product
from salesintel_dagster.local.ports import free_port
from salesintel_dagster.local.processes import Supervisor
from salesintel_dagster.local.world_environment import overlaid
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests import services as running
from salesintel_dagster_tests.command_line import Answer, call
from salesintel_dagster_tests.doctor.wards import Ward
from salesintel_dagster_tests.iam.access import Call, calls
from salesintel_dagster_tests.iam.recording_emulator import RECORD_VARIABLE
from salesintel_dagster_tests.local.stand_ins import stand_in

RECORDER = ("-m", "salesintel_dagster_tests.iam.recording_emulator")


@dataclass(frozen=True)
class Cloud:
    """The ward is the administrator's; `record` is what the emulator was asked."""

    ward: Ward
    record: Path
    titan_url: str
    images_url: str
    keepa_url: str

    def user(self, *policies: str, denied: str = "") -> User:
        """Make a user with policies of the template, less the action `denied`."""
        iam = self.ward.clients.client("iam")
        name = f"worker-{len(iam.list_users()['Users'])}"
        iam.create_user(UserName=name)
        for policy in policies:
            iam.attach_user_policy(UserName=name, PolicyArn=self.ward.resources[policy])
        if denied:
            statement = {"Effect": "Deny", "Action": denied, "Resource": "*"}
            document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_user_policy(UserName=name, PolicyName="less", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return User(self, key["AccessKeyId"], key["SecretAccessKey"])


@dataclass(frozen=True)
class User:
    """Somebody with keys: what a component's process is to AWS."""

    cloud: Cloud
    key: str
    secret: str = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the component's process."""
        return self.cloud.ward.environment | {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "SALESINTEL_IMAGE_HOSTS_ALLOWED": self.cloud.images_url.removeprefix("http://"),
            "SALESINTEL_KEEPA_URL": self.cloud.keepa_url,
            "SALESINTEL_KEEPA_KEY": "a-key",
        }

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    @property
    def clients(self) -> AwsClients:
        root = self.cloud.ward.clients.target
        return AwsClients(replace(root, access_key_id=self.key, secret_access_key=self.secret))

    @contextmanager
    def acting(self) -> Iterator[Settings]:
        """Be this user's process for a while, for what reads credentials from the environment."""
        with overlaid(self.environment):
            yield self.settings

    def types(self, *arguments: str) -> Answer:
        """Type a command and have it done; its failure is an AssertionError with all that it said."""
        answer = call(*arguments, environment=self.environment)
        assert answer.code == 0, f"{arguments}: {answer.out}{answer.err}"
        return answer

    def made(self) -> tuple[set[Call], set[Call]]:
        """Return what was allowed and what was denied to this user so far."""
        return calls(self.cloud.record, self.key)


@contextmanager
def enforcing(dsn: str, folder: Path) -> Iterator[Cloud]:
    """Start an emulator that enforces and records, the stand-ins, and deploy a stage."""
    emulator = Emulator(folder / "aws", free_port(), running.REGION, persistent=False, enforces=True)
    record = folder / "asked.jsonl"
    child = emulator.child(folder / "emulator.log")
    child = replace(
        child,
        argv=(sys.executable, *RECORDER, "--port", str(emulator.port)),
        environment={**child.environment, RECORD_VARIABLE: str(record)},
    )
    pictures = folder / "images"
    pictures.mkdir()
    (pictures / "hat.jpg").write_bytes(draw_product("hat", "COS", 1))
    supervisor = Supervisor(print)
    target = AwsTarget(running.REGION, running.BEDROCK_REGION, emulator.endpoint_url, None, ACCOUNT, ACCOUNT)
    try:
        with (
            stand_in("titan_server") as titan,
            stand_in("keepa_server") as keepa,
            stand_in("image_server", "--folder", str(pictures)) as images,
        ):
            supervisor.start([child], running.START_SECONDS)
            yield Cloud(Ward(AwsClients(target), dsn, titan, folder), record, titan, images, keepa)
    finally:
        supervisor.stop()
