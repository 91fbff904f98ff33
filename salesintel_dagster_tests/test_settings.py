from __future__ import annotations

import pytest

from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.settings import Mode, Settings, variable_of


def test_with_no_variable_everything_is_embedded():
    """I2: the embedded default needs no secret."""
    settings = Settings.from_environment({"PATH": "/bin"})
    assert settings.mode is Mode.EMBEDDED
    assert settings.bucket_name == "carousel-dev-analytics"
    assert settings.progress_table_name == "bg-remover-dev-smartgo-export-progress"
    assert settings.smartgo_parameter == "/tf/dev/smartgo/database/config"


def test_the_names_that_deployments_already_use_are_read():
    settings = Settings.from_environment(
        {"STAGE": "prod", "TENANT": "other-labs", "BEDROCK_REGION": "us-west-2", "EXPORT_PROGRESS_TABLE_NAME": "mine"}
    )
    assert (settings.stage, settings.tenant, settings.bedrock_region) == ("prod", "other-labs", "us-west-2")
    assert settings.progress_table_name == "mine"
    assert settings.sales_table_name == "bg-remover-prod-sales-intelligence"


@pytest.mark.parametrize(
    "variable,value,rule",
    [
        ("SALESINTEL_IMAGE_CONCURRENCY", "0", "greater than or equal to 1"),
        ("SALESINTEL_IMAGE_CONCURRENCY", "10000", "less than or equal to 256"),
        ("SALESINTEL_IMAGE_CONCURRENCY", "five", "valid integer"),
        ("SALESINTEL_EMBEDDING_DIMENSION", "1000", "1024"),
        ("SALESINTEL_PARTITION_ZONE", "Mars/Olympus", "IANA time zone"),
        ("SALESINTEL_DEFAULT_CURRENCY", "EURO", "ISO 4217"),
        ("SALESINTEL_CATALOG", "hive", "'sql', 'glue' or 'rest'"),
        ("SALESINTEL_IMAGE_DEADLINE_SECONDS", "-1", "greater than 0"),
        ("TENANT", "No Such Tenant", "pattern"),
        ("STAGE", "UPPER", "pattern"),
        ("SALESINTEL_ALERT_TOPIC_ARN", "salesintel-alerts-dev", "pattern"),
        ("SALESINTEL_ALERT_WEBHOOK_URL", "http://hooks.example.com/x", "expected https"),
        ("SALESINTEL_KEEPA_URL", "https://keepa.example.com", "pattern"),
        ("SALESINTEL_KEEPA_DOMAIN", "7", "Input should be 1, 2"),
        ("SALESINTEL_ENRICHMENT_BATCH_SIZE", "4", "greater than or equal to 5"),
        ("SALESINTEL_ENRICHMENT_BATCH_SIZE", "51", "less than or equal to 50"),
        ("SALESINTEL_ALERT_LINK_BASE", "https://u:p@dagster.example.com", "pattern"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_variable_and_rule(variable: str, value: str, rule: str):
    """I1"""
    with pytest.raises(SettingInvalid, match=variable) as refused:
        Settings.from_environment({variable: value})
    assert rule in str(refused.value)


def test_an_unknown_setting_is_refused_and_the_nearest_one_is_named():
    """I1"""
    with pytest.raises(
        SettingInvalid, match=r"SALESINTEL_IMAGE_CONCURENCY: no such setting.*SALESINTEL_IMAGE_CONCURRENCY"
    ):
        Settings.from_environment({"SALESINTEL_IMAGE_CONCURENCY": "5"})


def test_all_problems_are_told_at_once():
    with pytest.raises(SettingInvalid, match=r"SALESINTEL_A:.*SALESINTEL_IMAGE_RETRIES"):
        Settings.from_environment({"SALESINTEL_A": "1", "SALESINTEL_IMAGE_RETRIES": "many"})


def test_a_secret_is_in_no_text_of_the_settings():
    """I1, I5"""
    settings = Settings.from_environment({"SALESINTEL_CATALOG_URI": "postgresql+psycopg://u:canary-9f3@h/db"})
    assert "canary-9f3" not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(SettingInvalid) as refused:
        Settings.from_environment({"SALESINTEL_CATALOG_URI": "canary-9f3", "SALESINTEL_CATALOG": "canary-9f3"})
    assert "canary-9f3" not in str(refused.value)


def test_every_setting_has_a_description_and_its_own_variable():
    variables = [variable_of(name) for name in Settings.model_fields]
    assert len(set(variables)) == len(variables)
    assert all(field.description for field in Settings.model_fields.values())
