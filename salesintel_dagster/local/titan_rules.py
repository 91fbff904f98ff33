"""What Titan takes and what Bedrock answers when it does not: statuses, exception names and words, no HTTP."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass

import orjson
from PIL import Image, UnidentifiedImageError

from salesintel_dagster.local.descriptor import Floats, pixel_vector

KNOWN_MODELS = ("amazon.titan-embed-image", "local-")
DIMENSIONS = (256, 384, 1024)
TITAN_SIDE_PIXELS = 2048


@dataclass(frozen=True, slots=True)
class BedrockError:
    """One of the runtime's exceptions, as boto3 names it."""

    status: int
    name: str
    message: str


ERRORS = {
    "validation": BedrockError(400, "ValidationException", "Malformed input request."),
    "access-denied": BedrockError(403, "AccessDeniedException", "You don't have access to the model."),
    "not-found": BedrockError(404, "ResourceNotFoundException", "Could not resolve the foundation model."),
    "model-timeout": BedrockError(408, "ModelTimeoutException", "Model has timed out in processing the request."),
    "model-error": BedrockError(424, "ModelErrorException", "The model returned an error."),
    "throttle": BedrockError(429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "not-ready": BedrockError(429, "ModelNotReadyException", "Model is not ready for inference."),
    "internal": BedrockError(500, "InternalServerException", "The system encountered an unexpected error."),
    "unavailable": BedrockError(503, "ServiceUnavailableException", "The service is unable to process your request."),
}


class Refusal(Exception):
    """An error answer: Bedrock's status, exception name and sentence."""

    def __init__(self, kind: str, message: str = "") -> None:
        error = ERRORS[kind]
        super().__init__(message or error.message)
        self.status = error.status
        self.name = error.name
        self.message = message or error.message


def check_model(model_id: str) -> None:
    """Refuse a model id, or the last part of an ARN, that is none of ours."""
    if not model_id.rsplit("/", 1)[-1].startswith(KNOWN_MODELS):
        raise Refusal("not-found")


def parsed_request(body: bytes | None) -> tuple[bytes, int]:
    """Return the image and the asked length of a request body. Raises Refusal as Titan refuses."""
    try:
        request = orjson.loads(body or b"")
        config = request.get("embeddingConfig") or {}
        dimension = config.get("outputEmbeddingLength", DIMENSIONS[-1])
        unknown = (request.keys() - {"inputImage", "inputText", "embeddingConfig"}) | (
            config.keys() - {"outputEmbeddingLength"}
        )
    except (orjson.JSONDecodeError, AttributeError):
        raise Refusal("validation", "Malformed input request, please reformat your input and try again.") from None
    if unknown:
        raise Refusal("validation", f"Malformed input request: extraneous key [{min(unknown)}] is not permitted")
    if dimension not in DIMENSIONS or isinstance(dimension, bool):
        raise Refusal("validation", f"Malformed input request: outputEmbeddingLength is one of {DIMENSIONS}")
    encoded = request.get("inputImage")
    if not isinstance(encoded, str) or request.get("inputText") is not None:
        raise Refusal("validation", "Malformed input request: expected inputImage alone, a base64 string")
    return _checked_image(encoded), dimension


def _checked_image(encoded: str) -> bytes:
    try:
        image = base64.b64decode(encoded, validate=True)
        with Image.open(io.BytesIO(image), formats=("JPEG", "PNG")) as opened:
            longest = max(opened.size)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        longest = TITAN_SIDE_PIXELS + 1
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise Refusal("validation", "Unable to process provided image. Please provide a valid image.") from None
    if longest > TITAN_SIDE_PIXELS:
        raise Refusal("validation", "Image exceeds max pixels allowed. Please use a smaller image.")
    return image


def vector_of_pixels(image: bytes, dimension: int) -> Floats:
    """Return the picture's vector. Raises Refusal for a picture that cannot be decoded."""
    try:
        with Image.open(io.BytesIO(image), formats=("JPEG", "PNG")) as opened:
            return pixel_vector(opened, dimension)
    except (OSError, ValueError, SyntaxError):
        raise Refusal("validation", "Unable to process provided image. Please provide a valid image.") from None
