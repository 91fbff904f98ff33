"""Every remote call that a flow makes, as one numbered line on which a test can stand and interfere.

Calls of boto3 clients pass by botocore's own events `before-call` and `after-call`; methods of anything else (a
catalog's `commit_table`, a fake embedder's `embed`) are wrapped. A handler that raises is what a dying process or a
broken network looks like: nothing of ours is patched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError

THROTTLED_STATUS = 400


class Died(BaseException):
    """The process is dead from here on: every further call it tries is this, too."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its number from 1 on, its name (`dynamodb.PutItem`, `commit_table`), and whether it is AWS's."""

    number: int
    name: str
    aws: bool


class Interference:
    """What happens to a run. Does nothing; the enumerators' own kinds override one method."""

    def before(self, call: Call) -> object | None:
        """Act before the call reaches the other side; return an answer to give in its place, or None."""

    def after(self, call: Call) -> None:
        """Act after the other side has done what was asked, before the caller knows."""


@dataclass
class Line:
    """All calls of the watched clients and objects while `run` is under way; calls at other times pass unseen.

    `received` sees every AWS answer first, also one that is then lost: a queue's receipt handles are in it.
    """

    received: Callable[[str, dict[str, Any]], None] = lambda _name, _parsed: None
    trace: list[str] = field(default_factory=list)
    _interference: Interference | None = None
    _dead: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _numbers: threading.local = field(default_factory=threading.local)

    def watch_client(self, client: Any) -> None:  # noqa: ANN401 - boto3 builds its clients at run time
        """See every call of a boto3 client, for as long as the client lives."""
        client.meta.events.register("before-call", self._before_aws)
        client.meta.events.register("after-call", self._after_aws)

    def watch(self, owner: object, *methods: str) -> None:
        """See every call of these methods of `owner`."""
        for method in methods:
            setattr(owner, method, self.watched(getattr(owner, method), method))

    @contextmanager
    def run(self, interference: Interference) -> Iterator[None]:
        """Number the calls from 1 on and let `interference` act on them, until the block ends or raises."""
        self.trace.clear()
        self._interference, self._dead = interference, False
        try:
            yield
        finally:
            self._interference, self._dead = None, False

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Let somebody else call, e.g. a second worker in the middle of the first one's run."""
        interference, self._interference = self._interference, None
        try:
            yield
        finally:
            self._interference = interference

    def _before_aws(self, model: Any, **_: object) -> object | None:  # noqa: ANN401 - botocore's own types
        call = self._begun(f"{model.service_model.service_name}.{model.name}", aws=True)
        self._numbers.aws = call
        return self._act("before", call)

    def _after_aws(self, model: Any, parsed: dict[str, Any], **_: object) -> None:  # noqa: ANN401 - same
        self.received(model.name, parsed)
        call, self._numbers.aws = getattr(self._numbers, "aws", None), None
        self._act("after", call)

    def watched(self, method: Callable[..., object], name: str) -> Callable[..., object]:
        """Return the method as one whose calls are seen under this name."""

        def watched(*words: object, **named: object) -> object:
            call = self._begun(name, aws=False)
            self._act("before", call)
            answer = method(*words, **named)
            self._act("after", call)
            return answer

        return watched

    def _begun(self, name: str, *, aws: bool) -> Call | None:
        with self._lock:
            if self._interference is None:
                return None
            if self._dead:
                raise Died(name)
            self.trace.append(name)
            return Call(len(self.trace), name, aws)

    def _act(self, moment: str, call: Call | None) -> object | None:
        interference = self._interference
        if call is None or interference is None:
            return None
        try:
            answer: object | None = getattr(interference, moment)(call)
        except Died:
            self._dead = True
            raise
        return answer


@dataclass
class CrashAt(Interference):
    """Die before or after call `number`."""

    number: int
    moment: str

    def before(self, call: Call) -> None:
        if self.moment == "before" and call.number == self.number:
            raise Died(call.name)

    def after(self, call: Call) -> None:
        if self.moment == "after" and call.number == self.number:
            raise Died(call.name)


@dataclass
class ActAt(Interference):
    """Do something else before call `number`."""

    number: int
    action: Callable[[], object]

    def before(self, call: Call) -> None:
        if call.number == self.number:
            self.action()


@dataclass
class FailAt(Interference):
    """Fail call `number`.

    `throttled`: refused once, before the other side did anything. `down`: this and every later call of that name in
    the run does not reach the other side. `lost`: done by the other side, whose answer does not arrive.
    """

    number: int
    kind: str
    _down: str = ""

    def before(self, call: Call) -> object | None:
        if call.number == self.number and self.kind == "down":
            self._down = call.name
        if self._down == call.name:
            raise EndpointConnectionError(endpoint_url="http://gone") if call.aws else OSError(f"{call.name}: down")
        if call.number == self.number and self.kind == "throttled":
            if call.aws:
                return throttled()
            raise OSError(f"{call.name}: busy")
        return None

    def after(self, call: Call) -> None:
        if call.number == self.number and self.kind == "lost":
            raise ConnectionClosedError(endpoint_url="http://gone") if call.aws else OSError(f"{call.name}: reset")


def throttled() -> tuple[AWSResponse, dict[str, Any]]:
    """Return AWS's refusal of a call that came too fast, as botocore hands it on when its own retries are used up."""
    refusal = {
        "Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"},
        "ResponseMetadata": {"HTTPStatusCode": THROTTLED_STATUS, "RequestId": "injected"},
    }
    return AWSResponse("http://injected", THROTTLED_STATUS, {}, None), refusal
