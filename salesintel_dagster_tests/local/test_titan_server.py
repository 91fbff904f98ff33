"""The Titan stand-in seen through the real boto3 client: right answers, right exceptions, right counts."""

from __future__ import annotations

import base64
import csv
import io
import json
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import boto3
import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from PIL import Image

from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.local.descriptor import hash_vector, pixel_vector
from salesintel_dagster.local.image_faults import png_bomb
from salesintel_dagster.local.pictures import draw_product
from salesintel_dagster.local.titan_rules import ERRORS
from salesintel_dagster.local.titan_server import DEFAULT_MODEL_ID, Quota
from salesintel_dagster_tests.local.stand_ins import call_json, stand_in

ARN = "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-embed-image-v1"
PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "fashion_cc0"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with stand_in("titan_server") as url:
        yield url


@pytest.fixture
def titan(server: str) -> str:
    call_json("POST", f"{server}/reset")
    return server


def client(url: str):
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=32, read_timeout=10),
    )


def request(image: bytes, dimension: object = 1024, **more: object) -> dict[str, object]:
    encoded = base64.b64encode(image).decode()
    return {"inputImage": encoded, "embeddingConfig": {"outputEmbeddingLength": dimension}, **more}


def invoke(url: str, content: object, model: str = DEFAULT_MODEL_ID) -> dict:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return json.loads(client(url).invoke_model(modelId=model, body=body)["body"].read())


def refused(url: str, content: object, model: str = DEFAULT_MODEL_ID) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        invoke(url, content, model)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def picture(seed: int = 0, category: str = "bag") -> bytes:
    return draw_product(category, "Arket", seed)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, kind, **options)
        return buffer.getvalue()


@pytest.mark.parametrize("model", [DEFAULT_MODEL_ID, "amazon.titan-embed-image-v1", ARN])
def test_an_image_gets_a_unit_vector_of_1024_floats_whatever_form_the_model_id_has(titan: str, model: str) -> None:
    answer = invoke(titan, request(picture()), model)
    assert answer.keys() == {"embedding", "inputTextTokenCount", "message"}
    assert (answer["inputTextTokenCount"], answer["message"], len(answer["embedding"])) == (0, None, 1024)
    assert np.linalg.norm(answer["embedding"]) == pytest.approx(1, abs=1e-5)
    assert call_json("GET", f"{titan}/stats")["calls"] == 1


def test_the_same_picture_gets_the_same_vector_and_counts_as_one_image(titan: str) -> None:
    first, second, other = (invoke(titan, request(picture(seed)))["embedding"] for seed in (1, 1, 2))
    stats = call_json("GET", f"{titan}/stats")
    assert first == second != other
    assert (stats["requests"], stats["calls"], stats["images"]) == (3, 3, 2)


@pytest.mark.parametrize("dimension", [256, 384])
def test_the_shorter_lengths_are_unit_vectors_too(titan: str, dimension: int) -> None:
    vector = invoke(titan, request(picture(), dimension))["embedding"]
    assert len(vector) == dimension
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


REFUSED = {
    "a picture wider than 2048": (request(encoded(Image.new("RGB", (2049, 10)))), "exceeds max pixels"),
    "a header of 50,000 x 50,000": (request(png_bomb()), "exceeds max pixels"),
    "no picture": (request(b"<html>"), "valid image"),
    "a GIF": (request(encoded(Image.new("P", (9, 9)), "GIF")), "valid image"),
    "half a JPEG": (request(picture()[:4000]), "valid image"),
    "a length of 512": (request(picture(), 512), "outputEmbeddingLength"),
    "a length in words": (request(picture(), "1024"), "outputEmbeddingLength"),
    "a field of another model": (request(picture(), taskType="X"), "taskType"),
    "no image at all": ({"embeddingConfig": {"outputEmbeddingLength": 1024}}, "inputImage"),
    "text that is not base64": ({"inputImage": "%%%"}, "valid image"),
    "no JSON": (b"{", "Malformed"),
    "a list": ([1], "Malformed"),
}


@pytest.mark.parametrize("content, words", REFUSED.values(), ids=REFUSED)
def test_what_titan_refuses_is_a_validation_exception_and_costs_nothing(
    titan: str, content: object, words: str
) -> None:
    code, status, message = refused(titan, content)
    assert (code, status) == ("ValidationException", 400)
    assert words in message
    assert call_json("GET", f"{titan}/stats")["calls"] == 0


def test_2048_pixels_a_side_are_taken(titan: str) -> None:
    assert len(invoke(titan, request(encoded(Image.new("RGB", (2048, 2048)), quality=20)))["embedding"]) == 1024


def test_an_unknown_model_is_not_found(titan: str) -> None:
    assert refused(titan, request(picture()), "acme.embed-v1")[:2] == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_a_scripted_error_raises_the_exception_of_its_name_once(titan: str, kind: str) -> None:
    call_json("POST", f"{titan}/faults", {"next": [kind]})
    assert refused(titan, request(picture()))[:2] == (ERRORS[kind].name, ERRORS[kind].status)
    assert invoke(titan, request(picture()))["message"] is None
    assert call_json("GET", f"{titan}/stats")["by_status"] == {"200": 1, str(ERRORS[kind].status): 1}


def test_boto3_raises_the_modelled_class(titan: str) -> None:
    call_json("POST", f"{titan}/faults", {"always": "model-error"})
    bedrock = client(titan)
    for _ in range(2):
        with pytest.raises(bedrock.exceptions.ModelErrorException):
            bedrock.invoke_model(modelId=DEFAULT_MODEL_ID, body=json.dumps(request(picture())))


def test_wrong_answers_are_given_as_scripted(titan: str) -> None:
    kinds = ["wrong-length", "nan", "zero", "missing-field", "message", "overflow", "strings", "empty", "infinite"]
    call_json("POST", f"{titan}/faults", {"next": kinds})
    found = {kind: invoke(titan, request(picture())) for kind in kinds}
    assert len(found["wrong-length"]["embedding"]) == 1023
    assert np.isnan(found["nan"]["embedding"][0])
    assert not any(found["zero"]["embedding"])
    assert "embedding" not in found["missing-field"]
    assert found["message"]["message"]
    assert found["overflow"]["embedding"][0] == 1e39
    assert isinstance(found["strings"]["embedding"][0], str)
    assert found["empty"]["embedding"] == []
    assert found["infinite"]["embedding"][0] == float("inf")
    assert call_json("GET", f"{titan}/stats")["calls"] == len(kinds), "Bedrock charges for an answer of status 200"


def test_an_unknown_fault_is_refused_by_name(titan: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        call_json("POST", f"{titan}/faults", {"next": ["gremlins"]})


def test_a_web_page_cannot_drive_it(titan: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        call_json("POST", f"{titan}/faults", {"next": ["nan"]}, {"Origin": "https://evil.example"})


def test_latency_and_concurrency_are_seen() -> None:
    with stand_in("titan_server", "--descriptor", "hash", "--latency-ms", "150") as url:
        bedrock = client(url)
        body = json.dumps(request(picture()))
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(bedrock.invoke_model, modelId=DEFAULT_MODEL_ID, body=body) for _ in range(8)]
            vectors = [json.loads(call.result()["body"].read())["embedding"] for call in calls]
        stats = call_json("GET", f"{url}/stats")
    assert vectors[0] == pytest.approx(hash_vector(picture()).tolist())
    assert (stats["calls"], stats["images"]) == (8, 1)
    assert 2 <= stats["max_concurrency"] <= 8


def test_a_quota_answers_429_beyond_it() -> None:
    with stand_in("titan_server", "--rpm", "20") as url:
        assert len(invoke(url, request(picture()))["embedding"]) == 1024
        invoke(url, request(picture()))
        assert refused(url, request(picture()))[:2] == ("ThrottlingException", 429)


def test_a_quota_refills_evenly_with_time() -> None:
    seconds = [0.0]
    quota = Quota(60, replace(SYSTEM_CLOCK, monotonic=lambda: seconds[0]))
    taken = [quota.take() for _ in range(8)]
    seconds[0] += 2.0
    assert (taken.count(True), [quota.take() for _ in range(3)]) == (6, [True, True, False])


def test_a_picture_of_one_colour_still_has_a_direction() -> None:
    vector = pixel_vector(Image.new("RGB", (40, 40), "red"))
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(
    not PHOTOS.is_dir(), reason="the CC0 photos (shared/data/fashion_cc0) are not beside the repository"
)
def test_similar_real_photos_are_near_and_a_re_encoded_copy_is_nearest() -> None:
    with (PHOTOS / "images.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    photos = [(PHOTOS / "images" / row["image"]).read_bytes() for row in rows]
    category = np.array([row["category"] for row in rows])
    vectors = np.stack([pixel_vector(Image.open(io.BytesIO(photo))) for photo in photos])

    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    nearest = np.argsort(-likeness, axis=1)[:, :10]
    same_category_share = (category[nearest] == category[:, None]).mean()
    assert same_category_share > 0.28, "measured 0.32; chance is 0.096"

    for index, photo in enumerate(photos):
        copy = encoded(Image.open(io.BytesIO(photo)), quality=50)
        assert np.argmax(vectors @ pixel_vector(Image.open(io.BytesIO(copy)))) == index
