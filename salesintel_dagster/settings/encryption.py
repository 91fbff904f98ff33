"""With which key objects are encrypted."""

from __future__ import annotations

from pydantic import BaseModel, Field


class EncryptionSettings(BaseModel):
    """S3's own encryption by a key of the customer's."""

    kms_key_arn: str | None = Field(
        None,
        pattern=r"^arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+$",
        description="KMS key by which objects are encrypted (SSE-KMS); S3's own key (AES256) if not set",
    )

    @property
    def object_encryption(self) -> dict[str, str]:
        """What every PutObject and CreateMultipartUpload carries."""
        if self.kms_key_arn is None:
            return {}
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_arn}
