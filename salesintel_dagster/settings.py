"""Every setting, in one frozen object. Read from an environment mapping at the edge and nowhere else.

Embedded by default: with no variable set, everything is on this machine. Unknown variables under our prefix, wrong
types and values out of range are refused with a sentence that names the variable, never a secret's value.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from salesintel_dagster.domain.alerts import WEBHOOK_URL
from salesintel_dagster.domain.calendar import Hemisphere
from salesintel_dagster.domain.currencies import ISO_4217
from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.sale import TENANT_PATTERN

PREFIX = "SALESINTEL_"
DESIGN_NAMES = {
    "stage": "STAGE",
    "tenant": "TENANT",
    "aws_region": "AWS_REGION",
    "bedrock_region": "BEDROCK_REGION",
    "export_progress_table": "EXPORT_PROGRESS_TABLE_NAME",
    "sales_table": "SALES_INTELLIGENCE_TABLE_NAME",
}
"""Settings whose variable carries the name that the deployments already use."""


class Mode(StrEnum):
    """`embedded`: everything on this machine; `aws`: what the settings name."""

    EMBEDDED = "embedded"
    AWS = "aws"


class Catalog(StrEnum):
    """Which Iceberg catalog keeps the tables; `rest` is S3 Tables or another REST catalog."""

    SQL = "sql"
    GLUE = "glue"
    REST = "rest"


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("expected an IANA time zone such as UTC or Europe/Vilnius") from None
    return name


def _number(given: object) -> object:
    """Let a variable's text be compared with the numbers of a Literal, which pydantic takes as they are."""
    return int(given) if isinstance(given, str) and given.isascii() and given.isdigit() else given


def _day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError("expected a day of the calendar such as 2024-01-01") from None
    return text


def _currency(code: str) -> str:
    if code not in ISO_4217:
        raise ValueError("expected an ISO 4217 code such as EUR")
    return code


def _webhook(url: SecretStr) -> SecretStr:
    if not WEBHOOK_URL.fullmatch(url.get_secret_value()):
        raise ValueError("expected https://host[:port]/..., or http on this machine; no user name")
    return url


class Settings(BaseModel):
    """The settings. The field's description is its documentation; `docs/settings.md` is made from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    mode: Mode = Field(Mode.EMBEDDED, description="`embedded` (all on this machine) or `aws`")
    stage: str = Field("dev", pattern=r"^[a-z][a-z0-9-]{0,15}$", description="Deployment stage; part of every AWS name")
    tenant: str = Field(
        "carousel-labs", pattern=rf"^{TENANT_PATTERN.pattern}$", description="Tenant of a source that names none itself"
    )
    aws_region: str = Field("eu-west-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="Region of all but Bedrock")
    bedrock_region: str = Field("us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="Region of Bedrock")
    aws_endpoint_url: str | None = Field(None, description="Other endpoint for all AWS calls but Bedrock's")
    bedrock_endpoint_url: str | None = Field(None, description="Other endpoint for Bedrock's runtime")

    export_progress_table: str | None = Field(None, description="Progress table; derived from the stage if not set")
    sales_table: str | None = Field(None, description="Sales table in DynamoDB; derived from the stage if not set")
    bucket: str | None = Field(None, description="Analytics bucket; derived from the stage if not set")
    object_folder: str | None = Field(None, description="Keep objects in this folder instead of the bucket")
    warehouse: str | None = Field(None, description="Iceberg warehouse URI or, for `rest`, its name or ARN")

    catalog: Catalog = Field(Catalog.SQL, description="Iceberg catalog: `sql`, `glue` or `rest`")
    catalog_uri: SecretStr | None = Field(None, description="SQL catalog's URI (a secret) or the REST catalog's URL")
    catalog_signing_name: str | None = Field(None, description="SigV4 service name of a REST catalog, e.g. `s3tables`")

    partition_zone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="Zone whose days are partitions")
    first_day: Annotated[str, AfterValidator(_day)] = Field(
        "2024-01-01", pattern=r"^\d{4}-\d{2}-\d{2}$", description="First partition"
    )
    hemisphere: Hemisphere = Field(Hemisphere.NORTH, description="`north` or `south`: which months are winter")
    default_currency: Annotated[str, AfterValidator(_currency)] = Field(
        "EUR", description="Currency of a sale whose source has none"
    )

    image_concurrency: int = Field(5, ge=1, le=256, description="Image downloads at once")
    image_concurrency_per_host: int = Field(5, ge=1, le=256, description="Image downloads at once from one host")
    image_retries: int = Field(3, ge=0, le=10, description="Tries after the first")
    image_retry_base_seconds: float = Field(1.0, gt=0, le=60, description="First wait; doubles with each try")
    image_deadline_seconds: float = Field(30.0, gt=0, le=600, description="All tries at one image together")
    max_image_bytes: int = Field(10 * 1024 * 1024, ge=1024, le=100 * 1024 * 1024, description="Largest image taken")
    max_image_pixels: int = Field(40_000_000, ge=1, le=89_000_000, description="Most pixels, read from the header")
    image_hosts_allowed: tuple[str, ...] = Field(
        (), description="host:port pairs that may be reached on non-public addresses (the embedded world's own)"
    )

    embedding_provider: Literal["bedrock"] = Field("bedrock", description="Who makes the vectors")
    embedding_model: str = Field("amazon.titan-embed-image-v1", min_length=1, description="Bedrock model id or ARN")
    embedding_dimension: Annotated[Literal[256, 384, 1024], BeforeValidator(_number)] = Field(
        1024, description="Length of a vector, in float32 values"
    )
    embedding_concurrency: int = Field(5, ge=1, le=256, description="Embedding calls at once")
    embedding_budget_calls: int = Field(20_000, ge=0, le=10_000_000, description="Paid calls a run may make")
    max_model_image_bytes: int = Field(5 * 1024 * 1024, ge=1024, description="Largest image the model takes")
    null_vector_warn_share: float = Field(0.05, ge=0, le=1, description="Share of sales without a vector that warns")
    null_vector_error_share: float = Field(0.5, ge=0, le=1, description="Share of sales without a vector that fails")

    commit_retries: int = Field(5, ge=0, le=50, description="Tries at a commit that another writer won")
    backfill_days_per_run: int = Field(30, ge=1, le=400, description="Partitions in one backfill run")
    run_max_seconds: int = Field(4 * 3600, ge=60, description="A run older than this is ended by run monitoring")

    alert_topic_arn: str | None = Field(
        None,
        pattern=r"^arn:[a-z-]+:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$",
        description="SNS topic of alerts",
    )
    alert_webhook_url: Annotated[SecretStr, AfterValidator(_webhook)] | None = Field(
        None, description="Webhook of alerts (a secret); takes Slack's JSON"
    )
    alert_link_base: str | None = Field(
        None, pattern=r"^https?://[A-Za-z0-9.:\[\]_/-]+$", description="The UI's address, for the links in alerts"
    )

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose days are partitions."""
        return ZoneInfo(self.partition_zone)

    @property
    def bucket_name(self) -> str:
        """The analytics bucket."""
        return self.bucket or f"carousel-{self.stage}-analytics"

    @property
    def warehouse_uri(self) -> str:
        """Where the Iceberg tables' files lie."""
        return self.warehouse or f"s3://{self.bucket_name}/pricing-intelligence"

    @property
    def progress_table_name(self) -> str:
        """The export progress table."""
        return self.export_progress_table or f"bg-remover-{self.stage}-smartgo-export-progress"

    @property
    def sales_table_name(self) -> str:
        """The sales-intelligence table."""
        return self.sales_table or f"bg-remover-{self.stage}-sales-intelligence"

    @property
    def smartgo_parameter(self) -> str:
        """The SSM SecureString with the SmartGo database's configuration."""
        return f"/tf/{self.stage}/smartgo/database/config"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings. Raises SettingInvalid naming every variable that is wrong and its rule."""
        by_variable = {variable_of(name): name for name in cls.model_fields}
        unknown = [key for key in environment if key.startswith(PREFIX) and key not in by_variable | _OUR_OTHERS]
        problems = [_unknown(key, by_variable) for key in sorted(unknown)]
        given = {name: environment[key] for key, name in by_variable.items() if environment.get(key)}
        hosts = given.pop("image_hosts_allowed", None)
        values: dict[str, object] = dict(given)
        if hosts is not None:
            values["image_hosts_allowed"] = tuple(host.strip() for host in hosts.split(",") if host.strip())
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [
                f"{variable_of(str(problem['loc'][0]))}: {problem['msg']}"
                for problem in error.errors(include_url=False)
            ]
        if problems:
            raise SettingInvalid("; ".join(problems))
        return settings


_OUR_OTHERS: dict[str, str] = {"SALESINTEL_HOME": "", "SALESINTEL_WORLD": ""}
"""Variables under our prefix that are the embedded world's, not settings."""


def variable_of(name: str) -> str:
    """Return the environment variable of the setting `name`."""
    if name == "aws_endpoint_url":
        return "AWS_ENDPOINT_URL"
    if name == "bedrock_endpoint_url":
        return "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"
    return DESIGN_NAMES.get(name, PREFIX + name.upper())


def _unknown(key: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"{key}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
