"""Amazon Titan Multimodal Embeddings behind the Bedrock runtime: one image in, one checked vector out.

The client's own retries (throttling, 5xx, lost connections) come first; what is still wrong after them is translated
here, once. botocore never retries ModelTimeoutException (408) and ModelErrorException (424): the flow does.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from io import BytesIO
from typing import NoReturn

import orjson
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    IncompleteReadError,
)
from PIL import Image

from salesintel_dagster.adapters.aws import AwsClient, code_of, told
from salesintel_dagster.adapters.pixel_room import PixelRoom
from salesintel_dagster.domain.embedding import EmbeddingSpec, VectorBytes, VectorInvalid, vector_from_floats
from salesintel_dagster.domain.errors import EmbedderUnusable, EmbeddingRefused, EmbeddingTransient
from salesintel_dagster.domain.images import for_decoding, jpeg_exif
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.ports import Embedder

TITAN_SIDE_PIXELS = 2048
"""Titan answers `400 ValidationException: Image exceeds max pixels allowed` above this."""
PIXELS_AT_ONCE = 40_000_000
"""Decoded for shrinking, by all threads together: 12 bytes each at worst (a progressive CMYK JPEG), thus 0.5 GB.
Without it five workers take 2.3 GB for five files of 100 KB, 256 workers 117 GB."""
JPEG_QUALITY = 90
PREPROCESS_VERSION = "v1-max2048"
"""Changes whenever the same image would be sent as other bytes: vectors of two versions are never mixed."""

NO_REQUEST = b"{}"
"""Neither image nor text: a ValidationException, which is not billed, and only after access has been granted."""
MAX_TOLD_CHARACTERS = 300

MODEL_SETTING = "SALESINTEL_EMBEDDING_MODEL"
REGION_SETTING = "BEDROCK_REGION"
ENDPOINT_SETTING = "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"

_THROTTLES = frozenset({"ThrottlingException", "TooManyRequestsException", "ServiceQuotaExceededException"})
_TRANSIENT_HTTP = frozenset({408, 424, 429, 500, 502, 503, 504})
_HTTP_TOO_MANY_REQUESTS = 429
_HTTP_NOT_ALLOWED = frozenset({401, 403})
_HTTP_NOT_FOUND = 404
_UNKNOWN_CALLERS = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "IncompleteSignatureException",
        "ExpiredTokenException",
    }
)
"""Some front ends send these with 400."""
_ROOM = PixelRoom(PIXELS_AT_ONCE)
_UNKNOWN_MODEL = "model identifier is invalid"
"""A model that the region does not have is a ValidationException too, and only the sentence tells it apart."""


class TitanEmbedder(Embedder):
    """`client` is a thread-safe bedrock-runtime client; `max_image_bytes` is the model's limit on one image."""

    def __init__(self, client: AwsClient, model_id: str, dimension: int, max_image_bytes: int) -> None:
        self._client = client
        self._spec = EmbeddingSpec(model_id, dimension, PREPROCESS_VERSION)
        self._max_image_bytes = max_image_bytes
        self._body_end = b'","embeddingConfig":{"outputEmbeddingLength":%d}}' % dimension

    @property
    def spec(self) -> EmbeddingSpec:
        """Model, dimension and preprocessing of every vector from here."""
        return self._spec

    def embed(self, image: bytes) -> VectorBytes:
        """Return the image's vector by one InvokeModel; no call for an image that the model would refuse by size."""
        fitted = fitted_image(image)
        if len(fitted) > self._max_image_bytes:
            raise EmbeddingRefused(
                EmbeddingStatus.TOO_LARGE_FOR_MODEL,
                f"{len(fitted)} bytes at most {TITAN_SIDE_PIXELS} pixels a side; "
                f"the model takes {self._max_image_bytes}",
            )
        return self._vector(self._answer(b'{"inputImage":"' + base64.b64encode(fitted) + self._body_end))

    def check(self) -> None:
        """Send a request that the model refuses unread: who gets that far has region, model and permission right."""
        with suppress(EmbeddingRefused):
            self._answer(NO_REQUEST)

    def _answer(self, body: bytes) -> bytes:
        try:
            response = self._client.invoke_model(
                modelId=self._spec.model_id, body=body, contentType="application/json", accept="application/json"
            )
            return bytes(response["body"].read())
        except ClientError as error:
            self._refuse(error)
        except (HTTPClientError, ConnectTimeoutError, IncompleteReadError) as error:
            # Timeouts and connections that broke: a network that works now and then. What follows never works.
            raise EmbeddingTransient(EmbeddingStatus.MODEL_ERROR, told(error)) from error
        except BotoCoreError as error:
            raise self._unusable(
                f"{told(error)}: check {self._where}, {ENDPOINT_SETTING} and the AWS credentials"
            ) from error

    def _refuse(self, error: ClientError) -> NoReturn:
        sentence = f"{told(error)} {error.response.get('Error', {}).get('Message', '')}"[:MAX_TOLD_CHARACTERS]
        code, http = code_of(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _THROTTLES or (http == _HTTP_TOO_MANY_REQUESTS and code != "ModelNotReadyException"):
            raise EmbeddingTransient(EmbeddingStatus.THROTTLED, sentence) from error
        if http in _TRANSIENT_HTTP:
            raise EmbeddingTransient(EmbeddingStatus.MODEL_ERROR, sentence) from error
        if http in _HTTP_NOT_ALLOWED or code in _UNKNOWN_CALLERS:
            raise self._unusable(f"{sentence} (may these AWS credentials invoke {self._where}?)") from error
        if http == _HTTP_NOT_FOUND or _UNKNOWN_MODEL in sentence:
            raise self._unusable(f"{sentence} (is there {self._where}?)") from error
        raise EmbeddingRefused(EmbeddingStatus.REFUSED_BY_MODEL, sentence) from error

    @property
    def _where(self) -> str:
        region = self._client.meta.region_name
        return f"{MODEL_SETTING}={self._spec.model_id} in {REGION_SETTING}={region}"

    @staticmethod
    def _unusable(reason: str) -> EmbedderUnusable:
        return EmbedderUnusable(EmbeddingStatus.MODEL_UNUSABLE, reason)

    def _vector(self, answer: bytes) -> VectorBytes:
        try:
            fields = orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise EmbeddingRefused(EmbeddingStatus.INVALID_VECTOR, "the answer is no JSON") from error
        if not isinstance(fields, dict):
            raise EmbeddingRefused(EmbeddingStatus.INVALID_VECTOR, "the answer is no JSON object")
        if fields.get("message"):
            raise EmbeddingRefused(EmbeddingStatus.REFUSED_BY_MODEL, str(fields["message"])[:MAX_TOLD_CHARACTERS])
        try:
            return vector_from_floats(fields.get("embedding"), self._spec.dimension)
        except VectorInvalid as error:
            raise EmbeddingRefused(EmbeddingStatus.INVALID_VECTOR, str(error)) from error


def fitted_image(image: bytes) -> bytes:
    """Return a JPEG or PNG as the model takes it: the same bytes, or scaled down to 2,048 pixels a side.

    Only the header is read unless it must shrink (0.015 ms against 30 ms and more). Raises EmbeddingRefused
    UNREADABLE_IMAGE.
    """
    try:
        with Image.open(BytesIO(for_decoding(image)), formats=("JPEG", "PNG")) as picture:
            if max(picture.size) <= TITAN_SIDE_PIXELS:
                return image
            with _ROOM.held(picture.width * picture.height):
                return _scaled(picture, jpeg_exif(image) or picture.info.get("exif"))
    except Exception as error:  # Pillow raises whatever its parsers stumble over, and it is this image's own trouble
        raise EmbeddingRefused(
            EmbeddingStatus.UNREADABLE_IMAGE, f"no whole JPEG or PNG: {type(error).__name__}"
        ) from error


def _scaled(picture: Image.Image, turned: bytes | None) -> bytes:
    kind = picture.format
    smaller = picture.convert("RGBA") if picture.mode in {"1", "P"} else picture
    smaller.thumbnail((TITAN_SIDE_PIXELS, TITAN_SIDE_PIXELS))
    out = BytesIO()
    # The orientation tag stays, so that a shrunk photo is turned like one that was small enough.
    smaller.save(out, format=kind, quality=JPEG_QUALITY, **({"exif": turned} if turned else {}))
    return out.getvalue()
