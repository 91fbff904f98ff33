"""The Keepa client against the stand-in over HTTP, and against answers that no server should give."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from salesintel_dagster.adapters.keepa import KeepaProvider, provider_name
from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.facts import LookUp, NoFacts, ProductFacts
from salesintel_dagster.domain.enrichment.ports import EnrichmentProvider
from salesintel_dagster.domain.enrichment.product import LookUpKind
from salesintel_dagster.domain.errors import (
    ProviderFailure,
    ProviderRefused,
    ProviderThrottled,
    ProviderTransient,
    ProviderUnusable,
)
from salesintel_dagster.local.keepa_products import MADE_UP
from salesintel_dagster_tests.fakes.enrichment_provider import ScriptedProvider
from salesintel_dagster_tests.local.stand_ins import call_json, stand_in

KEY = "canary-key-7f3a+/9"
ASINS = tuple(f"B00000000{n}" for n in range(5))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with stand_in("keepa_server") as url:
        yield url


@pytest.fixture
def local(server: str) -> str:
    call_json("POST", f"{server}/reset")
    return server


def keepa(url: str, **changes: object) -> KeepaProvider:
    return KeepaProvider(**{"url": url, "key": KEY, "domain": 3, "deadline_seconds": 5.0, **changes})  # type: ignore[arg-type]


def asked(*identifiers: str, kind: LookUpKind = LookUpKind.ASIN) -> LookUp:
    return LookUp(kind, identifiers)


@pytest.fixture(params=["scripted", "keepa"])
def provider(request: pytest.FixtureRequest) -> EnrichmentProvider:
    if request.param == "scripted":
        return ScriptedProvider()
    return keepa(request.getfixturevalue("local"))


class TestEveryProvider:
    def test_gives_facts_for_each_identifier(self, provider: EnrichmentProvider):
        answer = provider.look_up(asked(*ASINS))
        assert set(answer.by_identifier) == set(ASINS)
        for asin, found in answer.by_identifier.items():
            assert isinstance(found, ProductFacts)
            assert found.asin == asin

    def test_gives_the_same_facts_again(self, provider: EnrichmentProvider):
        assert provider.look_up(asked(*ASINS)).by_identifier == provider.look_up(asked(*ASINS)).by_identifier

    def test_finds_products_by_their_code(self, provider: EnrichmentProvider):
        answer = provider.look_up(asked("4006381333931", kind=LookUpKind.CODE))
        assert isinstance(answer.by_identifier["4006381333931"], ProductFacts)

    def test_a_stand_in_says_so_in_its_name(self, provider: EnrichmentProvider):
        assert provider.name.startswith("local-")
        assert provider.max_per_request == 100


class TestTheStandIn:
    def test_its_answers_are_matched_by_asin_whatever_their_order(self, local: str):
        right = keepa(local).look_up(asked(*ASINS)).by_identifier
        call_json("POST", f"{local}/faults", {"next": ["shuffled"]})
        assert keepa(local).look_up(asked(*ASINS)).by_identifier == right

    def test_h2_a_product_that_is_missing_is_not_found_and_the_others_are_there(self, local: str):
        names = (*ASINS, "BNONE00001", "BBADP00001", "BBADT00001")
        found = keepa(local).look_up(asked(*names)).by_identifier
        reasons = {name: one.reason for name, one in found.items() if isinstance(one, NoFacts)}
        assert reasons == {
            "BNONE00001": Reason.NOT_FOUND,
            "BBADP00001": Reason.INVALID,
            "BBADT00001": Reason.INVALID,
        }
        assert sum(isinstance(one, ProductFacts) for one in found.values()) == 5

    def test_every_title_says_that_it_is_made_up(self, local: str):
        for found in keepa(local).look_up(asked(*ASINS)).by_identifier.values():
            assert isinstance(found, ProductFacts)
            assert MADE_UP in (found.title or "")

    def test_a_hundred_identifiers_are_one_request_and_cost_a_token_each(self, local: str):
        names = tuple(f"B{n:09d}" for n in range(100))
        answer = keepa(local).look_up(asked(*names))
        assert len(answer.by_identifier) == 100
        told = call_json("GET", f"{local}/stats")
        assert (told["requests"], told["products"], told["asked_twice"]) == (1, 100, [])
        assert answer.tokens is not None
        assert answer.tokens.left == 1200 * 60 - 100
        assert answer.tokens.refill_per_minute == 1200

    def test_of_two_products_of_a_code_one_is_taken_and_told(self, local: str):
        found = keepa(local).look_up(asked("4006381333931", "9990000000001", kind=LookUpKind.CODE)).by_identifier
        best = found["4006381333931"]
        assert isinstance(best, ProductFacts)
        assert best.matches == 2
        assert found["9990000000001"] == NoFacts(Reason.NOT_FOUND, "the provider knows no product of this code")

    def test_h6_without_tokens_it_is_throttled_with_the_level_and_nothing_is_paid(self, local: str):
        call_json("POST", f"{local}/reset", {"tokens": -3})
        with pytest.raises(ProviderThrottled) as refused:
            keepa(local).look_up(asked(*ASINS))
        assert refused.value.reason is Reason.OUT_OF_TOKENS
        assert refused.value.tokens is not None
        assert refused.value.tokens.left <= -2
        assert 0 <= refused.value.tokens.refill_in_seconds <= 1
        assert call_json("GET", f"{local}/stats")["products"] == 0

    @pytest.mark.parametrize(
        "fault,kind,reason",
        [
            ("throttle", ProviderThrottled, Reason.OUT_OF_TOKENS),
            ("down", ProviderTransient, Reason.PROVIDER_DOWN),
            ("unavailable", ProviderTransient, Reason.PROVIDER_DOWN),
            ("rejected", ProviderRefused, Reason.REFUSED),
            ("payment", ProviderUnusable, Reason.UNUSABLE),
            ("forbidden", ProviderUnusable, Reason.UNUSABLE),
            ("not-json", ProviderTransient, Reason.INVALID),
            ("cut-json", ProviderTransient, Reason.INVALID),
            ("no-products", ProviderTransient, Reason.INVALID),
            ("products-not-a-list", ProviderTransient, Reason.INVALID),
            ("deep", ProviderTransient, Reason.INVALID),
            ("huge", ProviderTransient, Reason.INVALID),
            ("not-gzip", ProviderTransient, Reason.INVALID),
            ("echo-key", ProviderTransient, Reason.INVALID),
            ("reset", ProviderTransient, Reason.PROVIDER_DOWN),
            ("half", ProviderTransient, Reason.PROVIDER_DOWN),
            ("slow", ProviderTransient, Reason.TIMEOUT),
        ],
    )
    def test_h9_h11_every_wrong_answer_is_one_error_without_the_key(
        self, local: str, fault: str, kind: type[ProviderFailure], reason: Reason, caplog: pytest.LogCaptureFixture
    ):
        call_json("POST", f"{local}/faults", {"next": [fault]})
        with caplog.at_level(logging.DEBUG), pytest.raises(kind) as refused:
            keepa(local, deadline_seconds=0.6 if fault == "slow" else 5.0).look_up(asked(*ASINS))
        assert type(refused.value) is kind
        assert refused.value.reason is reason
        chain = [refused.value, refused.value.__cause__, refused.value.__context__]
        texts = [caplog.text, *(repr(error) + str(error) for error in chain if isinstance(error, ProviderFailure))]
        assert not [text for text in texts if "canary-key" in text]

    def test_h3_an_answer_that_ends_halfway_on_a_kept_connection_is_a_try_of_its_own(self, local: str):
        """It was paid for: to ask again at once would pay a second time, and nobody would count it."""
        provider = keepa(local)
        provider.look_up(asked(ASINS[0]))
        call_json("POST", f"{local}/faults", {"next": ["half"]})
        with pytest.raises(ProviderTransient) as refused:
            provider.look_up(asked(*ASINS[1:]))
        assert refused.value.reason is Reason.PROVIDER_DOWN
        told = call_json("GET", f"{local}/stats")
        assert (told["requests"], told["asked_twice"]) == (2, [])
        assert len(provider.look_up(asked(*ASINS)).by_identifier) == 5

    def test_the_next_request_works_after_each_fault(self, local: str):
        call_json("POST", f"{local}/faults", {"next": ["down", "huge", "reset"]})
        provider = keepa(local)
        for _ in range(3):
            with pytest.raises(ProviderTransient):
                provider.look_up(asked(*ASINS))
        assert len(provider.look_up(asked(*ASINS)).by_identifier) == 5


def raw_server(serve: Callable[[socket.socket], None]) -> tuple[str, socket.socket]:
    """Serve one connection by hand, on loopback."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                serve(connection)
        except OSError:
            pass

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", listener


class TestAHostileServer:
    def test_a_kept_connection_that_closes_without_a_byte_is_the_same_try_on_a_new_one(self):
        """An idle connection may be closed as we write to it; the first answer is another's, so this is no luck."""
        body = json.dumps({"products": [], "tokensLeft": 1, "refillIn": 1, "refillRate": 1}).encode()
        whole = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        requests: list[int] = []

        def serve(listener: socket.socket) -> None:
            for answers in ([whole, b""], [whole]):
                connection, _ = listener.accept()
                with connection:
                    for answer in answers:
                        requests.append(len(connection.recv(65_536)))
                        connection.sendall(answer)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
            provider = keepa(f"http://127.0.0.1:{listener.getsockname()[1]}")
            for _ in range(2):
                assert set(provider.look_up(asked(*ASINS)).by_identifier) == set(ASINS)
        assert len(requests) == 3

    def test_h9_a_gzip_bomb_is_recognised_by_its_first_byte_too_many(self):
        bomb = gzip.compress(b" " * 50_000_000)

        def serve(connection: socket.socket) -> None:
            head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
            connection.sendall(head.encode() + bomb)

        url, listener = raw_server(serve)
        with listener, pytest.raises(ProviderTransient, match="more than 1000000 bytes"):
            keepa(url, max_answer_bytes=1_000_000).look_up(asked(*ASINS))

    def test_h9_a_body_that_drips_ends_at_the_deadline(self):
        def serve(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(100):
                connection.sendall(b" ")
                time.sleep(0.05)

        url, listener = raw_server(serve)
        began = time.monotonic()
        with listener, pytest.raises(ProviderTransient) as refused:
            keepa(url, deadline_seconds=0.4).look_up(asked(*ASINS))
        assert refused.value.reason is Reason.TIMEOUT
        assert time.monotonic() - began < 1.5

    def test_a_503_without_tokens_is_throttling_as_keepa_once_told_it(self):
        body = json.dumps({"tokensLeft": 0, "refillIn": 1000, "refillRate": 5}).encode()

        def serve(connection: socket.socket) -> None:
            head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)

        url, listener = raw_server(serve)
        with listener, pytest.raises(ProviderThrottled):
            keepa(url).look_up(asked(*ASINS))

    def test_a_redirect_is_not_followed(self):
        def serve(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n")

        url, listener = raw_server(serve)
        with listener, pytest.raises(ProviderTransient, match="answered 302"):
            keepa(url).look_up(asked(*ASINS))

    def test_a_server_that_is_not_there_is_down(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ProviderTransient) as refused:
            keepa(f"http://127.0.0.1:{port}").look_up(asked(*ASINS))
        assert refused.value.reason is Reason.PROVIDER_DOWN
        assert "canary" not in str(refused.value)


def test_nobody_but_keepa_is_called_keepa():
    assert provider_name("https://api.keepa.com") == "keepa"
    assert provider_name("http://127.0.0.1:8080") == "local-keepa"
