"""The AWS emulator as a child: which services, where its state lies, and when it is ready.

ministack 1.5.33, pinned and young: only the services we use, nothing that runs code as us (Lambda, Docker), on
loopback only. Its environment is built here from nothing; `emulator_app` is the program.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from salesintel_dagster.local.ports import LOOPBACK, answers
from salesintel_dagster.local.postgres import child_environment
from salesintel_dagster.local.processes import Child

SERVICES = tuple(
    "cloudformation dynamodb events glue iam kms logs monitoring s3 s3tables secretsmanager sns sqs ssm sts".split()
)
ACCOUNT = "000000000000"
"""The emulator's own default account: what its background threads use. A 12-digit access key chooses another."""
SOURCES = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Emulator:
    """One emulator: port, state folder, whether state outlives the process, and whether it enforces IAM policies."""

    state: Path
    port: int
    region: str
    persistent: bool = True
    enforces: bool = False

    @property
    def endpoint_url(self) -> str:
        """The one URL of all services."""
        return f"http://{LOOPBACK}:{self.port}"

    def child(self, log: Path) -> Child:
        """Return the emulator as a child. SIGTERM makes it keep its state and end, also when we die."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._follow_port()
        return Child(
            name="emulator",
            argv=(sys.executable, "-m", "salesintel_dagster.local.emulator_app", "--port", str(self.port)),
            environment=self._environment(),
            log=log,
            ready=self.is_ready,
        )

    def is_ready(self) -> bool:
        """Answer whether the emulator serves S3."""
        return answers(self.port, "/")

    def _follow_port(self) -> None:
        """Let the kept state follow to a new port: queue URLs in it hold the port they were made on."""
        services, note = self.state / "services", self.state / "port"
        before = note.read_text() if note.exists() else str(self.port)
        if before != str(self.port):
            for path in services.glob("*.json"):
                text = path.read_text().replace(f"//{LOOPBACK}:{before}/", f"//{LOOPBACK}:{self.port}/")
                unfinished = path.with_suffix(".moved")
                unfinished.write_text(text)
                unfinished.replace(path)
        note.write_text(str(self.port))

    def _environment(self) -> Mapping[str, str]:
        keep = "1" if self.persistent else "0"
        return python_environment(self.state) | {
            "SERVICES": ",".join(SERVICES),
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_HOST": LOOPBACK,
            "MINISTACK_REGION": self.region,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": f"unix://{self.state}/no-docker-here.sock",
            "AUTH": "true" if self.enforces else "false",
            "PERSIST_STATE": keep,
            "S3_PERSIST": keep,
            "STATE_DIR": str(self.state / "services"),
            "S3_DATA_DIR": str(self.state / "objects"),
            "LOG_LEVEL": "WARNING",
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": ACCOUNT,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def python_environment(home: Path) -> dict[str, str]:
    """Return the environment of a child that is one of our own Python programs."""
    ours = {"PYTHONPATH": str(SOURCES), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "HOME": str(home)}
    return child_environment() | ours
