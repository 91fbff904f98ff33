"""The Titan adapter: the real boto3 client against a scripted HTTP server on loopback, and the port's contract."""

from __future__ import annotations

import base64
import json
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import boto3
import numpy as np
import pytest
from botocore.config import Config
from PIL import Image

from salesintel_dagster.adapters import titan as adapter
from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.adapters.http_images import verified_image
from salesintel_dagster.adapters.pixel_room import PixelRoom
from salesintel_dagster.adapters.titan import PREPROCESS_VERSION, TitanEmbedder, fitted_image
from salesintel_dagster.domain.embedding import checked_vector
from salesintel_dagster.domain.errors import EmbedderUnusable, EmbeddingFailure, EmbeddingRefused, EmbeddingTransient
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.ports import Embedder
from salesintel_dagster_tests.fakes.embedder import ScriptedEmbedder

MODEL = "amazon.titan-embed-image-v1"
MAX_BYTES = 5 * 1024 * 1024
VECTOR = [round(0.001 * n - 0.5, 6) for n in range(1024)]
HANG = "hang"


def picture(width: int = 40, height: int = 30, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    out = BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(out, kind, **options)
    return out.getvalue()


def refusal(http: int, code: str, message: str = "no") -> tuple[int, dict[str, str], bytes]:
    return http, {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/"}, json.dumps({"message": message}).encode()


def answer(**fields: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"embedding": VECTOR, "inputTextTokenCount": 0, "message": None} | fields).encode()


@dataclass(slots=True)
class Bedrock:
    """A scripted server: `script` is answered in order, then the good vector for ever; `asked` is what came in."""

    script: deque[tuple[int, dict[str, str], bytes] | str] = field(default_factory=deque)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _handler(bedrock: Bedrock) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bedrock.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            scripted = bedrock.script.popleft() if bedrock.script else answer()
            if isinstance(scripted, str):
                bedrock.released.wait(20)
                self.close_connection = True
                return
            http, headers, data = scripted
            self.send_response(http)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def bedrock() -> Iterator[Bedrock]:
    scripted = Bedrock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(scripted))
    scripted.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield scripted
    finally:
        scripted.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def titan(
    url: str, dimension: int = 1024, max_image_bytes: int = MAX_BYTES, model: str = MODEL, patience: float = 10.0
) -> TitanEmbedder:
    """One try only: what the adapter makes of an answer does not depend on how often botocore asked before."""
    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=patience, read_timeout=patience
        ),
    )
    return TitanEmbedder(client, model, dimension, max_image_bytes)


@pytest.fixture
def embedder(bedrock: Bedrock) -> TitanEmbedder:
    return titan(bedrock.url)


class TestEmbedderContract:
    """What every embedder promises, the fake as well as the real one."""

    @pytest.fixture(params=["fake", "titan"])
    def any_embedder(self, request: pytest.FixtureRequest) -> Embedder:
        return ScriptedEmbedder() if request.param == "fake" else request.getfixturevalue("embedder")

    def test_a_vector_is_checked_bytes_of_the_spec_s_dimension(self, any_embedder: Embedder):
        assert checked_vector(any_embedder.embed(picture()), any_embedder.spec.dimension)

    def test_the_same_picture_has_the_same_vector(self, any_embedder: Embedder):
        assert any_embedder.embed(picture()) == any_embedder.embed(picture())

    def test_the_spec_never_changes(self, any_embedder: Embedder):
        before = any_embedder.spec
        any_embedder.embed(picture())
        assert any_embedder.spec == before

    def test_many_threads_may_ask_at_once(self, any_embedder: Embedder):
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda: found.append(any_embedder.embed(picture()))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1


def test_the_request_is_the_one_that_titan_documents(bedrock: Bedrock, embedder: TitanEmbedder):
    image = picture()
    assert np.frombuffer(embedder.embed(image), "<f4").tolist() == np.array(VECTOR, "<f4").tolist()
    [(path, headers, body)] = bedrock.asked
    assert path == f"/model/{MODEL}/invoke"
    assert json.loads(body) == {
        "inputImage": base64.b64encode(image).decode(),
        "embeddingConfig": {"outputEmbeddingLength": 1024},
    }
    assert (headers["content-type"], headers["accept"]) == ("application/json", "application/json")


def test_the_dimension_is_asked_for_and_recorded(bedrock: Bedrock):
    bedrock.script.append(answer(embedding=VECTOR[:384]))
    smaller = titan(bedrock.url, dimension=384)
    assert len(smaller.embed(picture())) == 4 * 384
    assert json.loads(bedrock.asked[0][2])["embeddingConfig"] == {"outputEmbeddingLength": 384}
    assert (smaller.spec.model_id, smaller.spec.dimension, smaller.spec.preprocess_version) == (
        MODEL,
        384,
        PREPROCESS_VERSION,
    )


@pytest.mark.parametrize(
    "body",
    [
        answer(embedding=VECTOR[1:])[2],
        answer(embedding=[*VECTOR, 1.0])[2],
        answer(embedding=[])[2],
        answer(embedding=[float("nan"), *VECTOR[1:]])[2],
        answer(embedding=[float("inf"), *VECTOR[1:]])[2],
        answer(embedding=[1e39, *VECTOR[1:]])[2],
        answer(embedding=["0.1"] * 1024)[2],
        answer(embedding=[0.0] * 1024)[2],
        answer(embedding=None)[2],
        b'{"inputTextTokenCount": 0}',
        b"[]",
        b"<html>busy</html>",
        b"",
    ],
)
def test_an_answer_without_a_good_vector_is_invalid_and_not_asked_again(
    bedrock: Bedrock, embedder: TitanEmbedder, body: bytes
):
    """C1, C2"""
    bedrock.script.append((200, {}, body))
    with pytest.raises(EmbeddingRefused) as refused:
        embedder.embed(picture())
    assert refused.value.status is EmbeddingStatus.INVALID_VECTOR
    assert len(bedrock.asked) == 1


def test_a_message_in_a_good_answer_is_a_refusal(bedrock: Bedrock, embedder: TitanEmbedder):
    """Titan reports errors of the generation in `message` with HTTP 200; the vector beside it means nothing."""
    bedrock.script.append(answer(message="The image could not be embedded. " + "x" * 1000))
    with pytest.raises(EmbeddingRefused, match="could not be embedded") as refused:
        embedder.embed(picture())
    assert refused.value.status is EmbeddingStatus.REFUSED_BY_MODEL
    assert len(refused.value.reason) <= 300


@pytest.mark.parametrize(
    "http, code, status",
    [
        (429, "ThrottlingException", EmbeddingStatus.THROTTLED),
        (429, "TooManyRequestsException", EmbeddingStatus.THROTTLED),
        (400, "ServiceQuotaExceededException", EmbeddingStatus.THROTTLED),
        (429, "ModelNotReadyException", EmbeddingStatus.MODEL_ERROR),
        (408, "ModelTimeoutException", EmbeddingStatus.MODEL_ERROR),
        (424, "ModelErrorException", EmbeddingStatus.MODEL_ERROR),
        (500, "InternalServerException", EmbeddingStatus.MODEL_ERROR),
        (503, "ServiceUnavailableException", EmbeddingStatus.MODEL_ERROR),
        (502, "", EmbeddingStatus.MODEL_ERROR),
    ],
)
def test_what_may_pass_is_transient(
    bedrock: Bedrock, embedder: TitanEmbedder, http: int, code: str, status: EmbeddingStatus
):
    """C3"""
    bedrock.script.append(refusal(http, code))
    with pytest.raises(EmbeddingTransient) as failed:
        embedder.embed(picture())
    assert failed.value.status is status
    assert str(http) in failed.value.reason


def test_an_answer_that_never_comes_is_transient(bedrock: Bedrock):
    """C3"""
    bedrock.script.append(HANG)
    with pytest.raises(EmbeddingTransient, match="ReadTimeoutError") as failed:
        titan(bedrock.url, patience=0.3).embed(picture())
    assert failed.value.status is EmbeddingStatus.MODEL_ERROR


def test_an_answer_that_breaks_off_is_transient(bedrock: Bedrock, embedder: TitanEmbedder):
    """C3"""
    http, headers, body = answer()
    bedrock.script.append((http, {**headers, "Content-Length": str(len(body) + 100), "Connection": "close"}, body))
    with pytest.raises(EmbeddingTransient):
        embedder.embed(picture())


def test_the_platform_s_own_client_asks_again_when_throttled(bedrock: Bedrock):
    """C3: botocore's adaptive mode hides a throttled try."""
    bedrock.script.append(refusal(429, "ThrottlingException", "Too many requests"))
    clients = AwsClients(AwsTarget("eu-west-1", "us-east-1", bedrock_endpoint_url=bedrock.url))
    real = TitanEmbedder(clients.client("bedrock-runtime"), MODEL, 1024, MAX_BYTES)
    assert real.embed(picture())
    assert len(bedrock.asked) == 2


def test_a_model_named_by_its_arn_is_asked_for_under_that_name(bedrock: Bedrock):
    arn = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc"
    titan(bedrock.url, model=arn).embed(picture())
    assert (
        bedrock.asked[0][0] == "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aprovisioned-model%2Fabc/invoke"
    )


def test_a_validation_error_is_final_for_the_image_only(bedrock: Bedrock, embedder: TitanEmbedder):
    """C4"""
    bedrock.script.append(refusal(400, "ValidationException", "Image exceeds max pixels allowed"))
    with pytest.raises(EmbeddingRefused, match="Image exceeds max pixels") as refused:
        embedder.embed(picture())
    assert refused.value.status is EmbeddingStatus.REFUSED_BY_MODEL
    assert len(bedrock.asked) == 1


@pytest.mark.parametrize(
    "http, code, message",
    [
        (403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
        (403, "UnrecognizedClientException", "The security token included in the request is invalid."),
        (400, "UnrecognizedClientException", "The security token included in the request is invalid."),
        (403, "ExpiredTokenException", "The security token included in the request is expired"),
        (404, "ResourceNotFoundException", "Could not resolve the foundation model"),
        (400, "ValidationException", "The provided model identifier is invalid."),
    ],
)
def test_what_no_image_could_pass_names_the_settings(
    bedrock: Bedrock, embedder: TitanEmbedder, http: int, code: str, message: str
):
    """C4"""
    bedrock.script.append(refusal(http, code, message))
    with pytest.raises(EmbedderUnusable) as unusable:
        embedder.embed(picture())
    assert unusable.value.status is EmbeddingStatus.MODEL_UNUSABLE
    assert f"SALESINTEL_EMBEDDING_MODEL={MODEL}" in unusable.value.reason
    assert "BEDROCK_REGION=us-east-1" in unusable.value.reason
    assert len(bedrock.asked) == 1


def test_an_endpoint_that_is_not_there_names_the_settings():
    """C4: a region without Bedrock has no such host; here nobody listens."""
    with pytest.raises(EmbedderUnusable, match=r"EndpointConnectionError.*BEDROCK_REGION=us-east-1"):
        titan("http://127.0.0.1:1").embed(picture())


def test_no_credentials_at_all_name_the_settings(bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch):
    """C4"""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    session = boto3.session.Session()
    client = session.client("bedrock-runtime", region_name="us-east-1", endpoint_url=bedrock.url)
    with pytest.raises(EmbedderUnusable, match="NoCredentialsError"):
        TitanEmbedder(client, MODEL, 1024, MAX_BYTES).embed(picture())
    assert bedrock.asked == []


@pytest.mark.parametrize(
    "http, code, message",
    [
        (403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
        (404, "ResourceNotFoundException", "Could not resolve the foundation model"),
        (400, "ValidationException", "The provided model identifier is invalid."),
    ],
)
def test_the_question_before_the_first_image_names_the_settings(
    bedrock: Bedrock, embedder: TitanEmbedder, http: int, code: str, message: str
):
    """C4, C9"""
    bedrock.script.append(refusal(http, code, message))
    with pytest.raises(EmbedderUnusable, match=f"SALESINTEL_EMBEDDING_MODEL={MODEL} in BEDROCK_REGION=us-east-1"):
        embedder.check()
    [(path, _, body)] = bedrock.asked
    assert (path, body) == (f"/model/{MODEL}/invoke", b"{}"), "no image is sent"


def test_a_region_without_the_service_is_named_by_the_question():
    """C9"""
    with pytest.raises(EmbedderUnusable, match=r"EndpointConnectionError.*BEDROCK_REGION=us-east-1"):
        titan("http://127.0.0.1:1").check()


def test_a_model_that_refuses_an_empty_request_may_be_called(bedrock: Bedrock, embedder: TitanEmbedder):
    """C9: Bedrock's answer to `{}` once access is granted."""
    bedrock.script.append(refusal(400, "ValidationException", "Malformed input request"))
    embedder.check()
    assert len(bedrock.asked) == 1


def test_a_question_that_meets_a_busy_model_says_so(bedrock: Bedrock, embedder: TitanEmbedder):
    bedrock.script.append(refusal(503, "ServiceUnavailableException"))
    with pytest.raises(EmbeddingTransient):
        embedder.check()


def test_no_reason_tells_the_request_or_the_key(bedrock: Bedrock, embedder: TitanEmbedder):
    bedrock.script.append(refusal(403, "AccessDeniedException", "no" * 1000))
    with pytest.raises(EmbeddingFailure) as failed:
        embedder.embed(picture())
    assert "not-a-secret" not in str(failed.value)
    assert base64.b64encode(picture()).decode()[:40] not in str(failed.value)
    assert len(failed.value.reason) < 600


def test_an_image_above_the_model_s_limit_costs_no_call(bedrock: Bedrock):
    """C5"""
    six_megabytes = picture() + b"\0" * (6 * 1024 * 1024)
    with pytest.raises(EmbeddingRefused, match="bytes") as refused:
        titan(bedrock.url).embed(six_megabytes)
    assert refused.value.status is EmbeddingStatus.TOO_LARGE_FOR_MODEL
    assert bedrock.asked == []


def test_an_image_of_exactly_the_limit_is_sent(bedrock: Bedrock):
    """C5"""
    image = picture()
    assert titan(bedrock.url, max_image_bytes=len(image)).embed(image)
    with pytest.raises(EmbeddingRefused):
        titan(bedrock.url, max_image_bytes=len(image) - 1).embed(image)
    assert len(bedrock.asked) == 1


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"<html>", b"GIF89a" + b"\0" * 50])
def test_what_is_no_jpeg_or_png_costs_no_call(bedrock: Bedrock, embedder: TitanEmbedder, data: bytes):
    with pytest.raises(EmbeddingRefused) as refused:
        embedder.embed(data)
    assert refused.value.status is EmbeddingStatus.UNREADABLE_IMAGE
    assert bedrock.asked == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_small_image_is_sent_as_it_is(kind: str):
    image = picture(2048, 100, kind)
    assert fitted_image(image) is image


@pytest.mark.parametrize(
    "kind, mode", [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P")]
)
def test_a_large_image_is_shrunk_to_2048_pixels_a_side_and_keeps_its_shape(kind: str, mode: str):
    with Image.open(BytesIO(fitted_image(picture(3000, 1500, kind, mode)))) as shrunk:
        shrunk.load()
        assert (shrunk.size, shrunk.format) == ((2048, 1024), kind)


@pytest.mark.parametrize("mode", ["1", "I;16"])
def test_odd_pixel_formats_are_shrunk_too(mode: str):
    with Image.open(BytesIO(fitted_image(picture(2100, 10, "PNG", mode)))) as shrunk:
        assert shrunk.width == 2048


def test_a_picture_that_pillow_stumbles_over_is_unreadable_and_no_crash():
    """B9: an empty colour profile behind the pixels is an IndexError, which ended the day, and again at each run."""
    image = picture(2500, 10, "PNG")
    end = len(image) - 12
    profile = b"\0\0\0\0iCCP" + zlib.crc32(b"iCCP").to_bytes(4)
    assert verified_image(image[:end] + profile + image[end:], 1_000_000).width == 2500
    with pytest.raises(EmbeddingRefused) as refused:
        fitted_image(image[:end] + profile + image[end:])
    assert refused.value.status is EmbeddingStatus.UNREADABLE_IMAGE


def test_the_metadata_of_a_picture_that_is_shrunk_is_not_unpacked():
    """B8: 10 MB of Exif segments kept Pillow busy for 20 s at each opening."""
    image = picture(2500, 100)
    exif = b"Exif\0\0" + bytes(2_000)
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif
    began = time.thread_time()
    with Image.open(BytesIO(fitted_image(image[:2] + segment * 2_000 + image[2:]))) as shrunk:
        assert shrunk.info["exif"] == exif
    assert time.thread_time() - began < 0.3


def test_shrinking_is_deterministic_and_keeps_the_orientation_tag():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture(2500, 100, exif=exif)
    assert fitted_image(image) == fitted_image(image)
    with Image.open(BytesIO(fitted_image(image))) as shrunk:
        assert shrunk.getexif()[0x0112] == 6


@pytest.mark.parametrize(
    "sizes, together",
    [([(2100, 10)] * 2, True), ([(3000, 20)] * 2, False), ([(4000, 40), (2100, 10)], False)],
    ids=["both fit", "one fits", "one is larger than the room"],
)
def test_no_more_pixels_are_decoded_at_once_than_there_is_room_for(
    sizes: list[tuple[int, int]], *, together: bool, monkeypatch: pytest.MonkeyPatch
):
    """B8: five pictures of 40 megapixels, 100 KB each, took 2.3 GB."""
    meeting = threading.Barrier(len(sizes))

    def met(_picture: Image.Image, _turned: bytes | None) -> bool:
        try:
            meeting.wait(5 if together else 0.05)
        except threading.BrokenBarrierError:
            return False
        return True

    monkeypatch.setattr(adapter, "_scaled", met)
    monkeypatch.setattr(adapter, "_ROOM", PixelRoom(100_000))
    with ThreadPoolExecutor(len(sizes)) as pool:
        assert list(pool.map(fitted_image, [picture(*size) for size in sizes])) == [together] * len(sizes)


def test_a_picture_that_cannot_be_decoded_gives_its_room_back(monkeypatch: pytest.MonkeyPatch):
    """A worker would wait for it for ever."""
    monkeypatch.setattr(adapter, "_ROOM", PixelRoom(10_000_000))
    with pytest.raises(EmbeddingRefused):
        fitted_image(picture(3000, 3000)[:2000])
    whole: list[bytes] = []
    after = threading.Thread(target=lambda: whole.append(fitted_image(picture(3000, 3000))), daemon=True)
    after.start()
    after.join(10)
    assert len(whole) == 1


def test_a_large_image_that_is_cut_off_is_unreadable():
    with pytest.raises(EmbeddingRefused) as refused:
        fitted_image(picture(3000, 3000)[:2000])
    assert refused.value.status is EmbeddingStatus.UNREADABLE_IMAGE
