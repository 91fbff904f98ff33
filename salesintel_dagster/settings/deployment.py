"""Which deployment this is: mode, stage, tenant, regions, endpoints, and the names that follow from them."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr

from salesintel_dagster.domain.sale import TENANT_PATTERN
from salesintel_dagster.settings.kinds import Catalog, Mode


class DeploymentSettings(BaseModel):
    """Where everything lies."""

    mode: Mode = Field(Mode.EMBEDDED, description="`embedded` (all on this machine) or `aws`")
    stage: str = Field("dev", pattern=r"^[a-z][a-z0-9-]{0,15}$", description="Deployment stage; part of every AWS name")
    tenant: str = Field(
        "carousel-labs",
        pattern=rf"^{TENANT_PATTERN.pattern}$",
        description="Tenant of the embedded world's sales; on AWS the source's configuration in SSM names the tenants",
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
