"""`salesintel doctor` against a whole deployment: each dependency made to fail for real, and what is then told."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import time_machine

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.doctor.deployment import room, skew
from salesintel_dagster.doctor.tables import LAYOUTS
from salesintel_dagster_tests import services as running
from salesintel_dagster_tests.command_line import call
from salesintel_dagster_tests.doctor.wards import SHIPPED, Ward
from salesintel_dagster_tests.fakes.sales_api import TOKEN, sales_api
from salesintel_dagster_tests.fakes.webhook import status, webhook_server
from salesintel_dagster_tests.local.stand_ins import call_json

CANARY = "hunter2-canary"
EVERY = [
    "settings",
    "aws credentials",
    "clock",
    "disk: temporary files",
    "disk: DAGSTER_HOME",
    "database parameter",
    "source TLS",
    "source database",
    "object store",
    "embedding model",
    *(f"iceberg table {name}" for name in LAYOUTS),
    "progress table",
    "sales table",
    "receipts table",
    "enrichment table",
    "sold events: queues",
    "enrichment: queue",
    "enrichment: dead letters",
    "enrichment: provider",
    "alerts: SNS",
    "dagster instance",
]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_whole_deployment_is_well(ward: Ward, titan_url: str):
    before = call_json("GET", f"{titan_url}/stats")["calls"]
    told = ward.doctor()
    assert (told.answer.code, told.ill, list(told.found)) == (0, [], EVERY)
    assert "warn" in told.says("source database"), "a day without sales is worth a look"
    assert "staging/doctor/probe" in told.says("object store")
    assert "its first writer makes the table" in told.says("iceberg table smartgo_sales")
    assert "items expire by ttl" in told.says("progress table")
    assert "nothing was paid" in told.says("embedding model")
    assert "run monitoring, retries and pools on, telemetry off" in told.says("dagster instance")
    assert call_json("GET", f"{titan_url}/stats")["calls"] == before


def test_a_person_gets_lines_with_what_to_do(ward: Ward):
    answer = call("doctor", environment=ward.environment | {"SALESINTEL_BUCKET": "carousel-nowhere-analytics"})
    assert answer.code == 1
    lines = answer.out.splitlines()
    at = lines.index("fail  object store: no bucket carousel-nowhere-analytics")
    assert lines[at + 1] == "      -> salesintel deploy --apply makes it; or set SALESINTEL_BUCKET"
    assert lines[-1].startswith("ok    dagster instance: "), "the checks after a failed one ran too"


def test_yesterdays_rows_are_counted(ward: Ward):
    with psycopg.connect(ward.dsn) as connection:
        connection.execute(
            "INSERT INTO sales (sale_id, sold_at) VALUES ('S1', %s)", (datetime.now(UTC) - timedelta(days=1),)
        )
    try:
        assert "mapped columns are there, 1 rows on" in ward.doctor("source database").says("source database")
    finally:
        with psycopg.connect(ward.dsn) as connection:
            connection.execute("TRUNCATE sales")


def test_a_missing_parameter(broken: Ward):
    broken.clients.client("ssm").delete_parameter(Name=broken.name)
    told = broken.doctor("database parameter", "source", "sales")
    assert told.found["sales table"]["health"] == "ok"
    assert told.ill == ["database parameter", "source TLS", "source database"]
    assert f"SSM parameter {broken.name}: not there" in told.says("database parameter")
    assert "ssm:GetParameter" in told.says("database parameter")


def test_a_parameter_that_cannot_be_parsed_keeps_its_secret(broken: Ward):
    broken.store_parameter(f"postgresql://reader:{CANARY}@db/smartgo")
    told = broken.doctor("database parameter", "source")
    assert "is not a JSON object" in told.says("database parameter")
    assert CANARY not in told.answer.out + told.answer.err


def test_a_stopped_postgres(broken: Ward):
    with running.services() as own:
        dsn = own.postgres.new_database()
        port = int(psycopg.conninfo.conninfo_to_dict(dsn)["port"])
    broken.store_parameter(port=port, password=CANARY)
    told = broken.doctor("source")
    assert told.ill == ["source database"]
    assert f"127.0.0.1:{port}/" in told.says("source database")
    assert "connection refused -> is the server up" in told.says("source database")
    assert CANARY not in told.answer.out + told.answer.err


def test_a_wrong_password(broken: Ward):
    broken.store_parameter(password=CANARY)
    told = broken.doctor("source")
    assert "the server refused the user or the password" in told.says("source database")
    assert CANARY not in told.answer.out + told.answer.err


def test_a_mapped_column_that_is_not_there(broken: Ward):
    broken.store_parameter(columns={"tenant_id": None, "brand": "marque"})
    told = broken.doctor("source database").says("source database")
    assert "no column marque" in told
    assert "GRANT SELECT" in told


@pytest.mark.parametrize(
    "changes,told",
    [
        ({"sslmode": "verify-full"}, "ok: verify-full"),
        ({"sslmode": "require"}, "fail: SSM parameter {name}: sslmode: expected verify-full"),
        (
            {"sslmode": "require", "allow_unverified_tls": True},
            "warn: require, as allow_unverified_tls lets it",
        ),
        (
            {"sslmode": "prefer", "allow_unverified_tls": True},
            "may cross the network readable -> set sslmode",
        ),
    ],
)
def test_tls_that_does_not_keep_the_password(broken: Ward, changes: dict[str, object], told: str):
    broken.store_parameter(host="db.invalid", **changes)
    assert told.format(name=broken.name) in broken.doctor("source TLS").says("source TLS")


def test_a_source_that_is_an_api(broken: Ward):
    with sales_api() as api:
        config = {"kind": "rest", "url": api.url, "token": TOKEN, "rows_field": "data", "tenant": "carousel-labs"}
        broken.store_parameter(json.dumps(config))
        told = broken.doctor("database parameter", "source")
        assert f"an API at 127.0.0.1:{api.port}" in told.says("database parameter")
        assert "http, to this machine itself" in told.says("source TLS")
        assert "connected, mapped columns are there, 0 rows" in told.says("source database")
    assert TOKEN not in told.answer.out + told.answer.err


def test_a_bucket_of_another_region(ward: Ward):
    far = AwsClients(replace(ward.clients.target, region="ap-southeast-2")).client("s3")
    far.create_bucket(Bucket=f"far-{ward.stage}", CreateBucketConfiguration={"LocationConstraint": "ap-southeast-2"})
    told = ward.doctor("object", SALESINTEL_BUCKET=f"far-{ward.stage}")
    assert told.ill == ["object store"]
    assert "lies in ap-southeast-2 -> set AWS_REGION to ap-southeast-2" in told.says("object store")


def test_a_wrong_region_is_told_by_everything_that_lives_in_one(ward: Ward):
    told = ward.doctor("database", "progress", "sales", "object", AWS_REGION="us-west-2")
    assert {"database parameter", "progress table", "sales table", "object store"} <= set(told.ill)
    assert "salesintel deploy --apply makes it; or check STAGE" in told.says("progress table")


def test_missing_tables_a_foreign_key_and_items_that_never_expire(ward: Ward):
    dynamodb = ward.clients.client("dynamodb")
    told = ward.doctor(
        "progress",
        "sales",
        EXPORT_PROGRESS_TABLE_NAME="nowhere",
        SALES_INTELLIGENCE_TABLE_NAME=ward.resources["IdempotencyTable"],
    )
    assert told.ill == ["progress table", "sales table"]
    assert "no table nowhere -> salesintel deploy --apply" in told.says("progress table")
    assert "its key is not PK, SK" in told.says("sales table")
    table = ward.resources["ExportProgressTable"]
    dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "ttl"})
    try:
        assert "items never expire -> salesintel deploy --apply" in ward.doctor("progress").says("progress table")
    finally:
        assert call("deploy", "--apply", environment=ward.environment).code == 0
    assert ward.doctor("progress", "sales").ill == []


def test_a_table_that_is_laid_out_otherwise(ward: Ward):
    glue_database = {"Name": "pricing_intelligence"}
    import pyarrow as pa  # noqa: PLC0415 - same

    from salesintel_dagster.adapters.catalogs import open_catalog  # noqa: PLC0415 - same
    from salesintel_dagster_tests.lakes import access_to  # noqa: PLC0415 - pyiceberg

    access = access_to(ward.clients.target)
    catalog = open_catalog(
        "glue", uri=None, warehouse=f"s3://{ward.resources['AnalyticsBucket']}/pricing-intelligence", access=access
    )
    catalog.create_namespace(glue_database["Name"])
    catalog.create_table(("pricing_intelligence", "smartgo_sales"), pa.schema([("sale_id", pa.int64())]))
    try:
        told = ward.doctor("iceberg")
        assert told.ill == ["iceberg table smartgo_sales"]
        said = told.says("iceberg table smartgo_sales")
        assert "column sale_id: expected string required, found long optional" in said
        assert said.endswith("(docs/runbook.md, a table was changed)"), "the catalog's settings are not to blame"
    finally:
        catalog.drop_table(("pricing_intelligence", "smartgo_sales"))


def test_a_catalog_that_is_down_and_one_that_has_no_uri(ward: Ward, closed_port: int):
    down = ward.doctor(
        "iceberg",
        SALESINTEL_CATALOG="sql",
        SALESINTEL_CATALOG_URI=f"postgresql://someone:{CANARY}@127.0.0.1:{closed_port}/catalog",
    )
    assert down.ill == [f"iceberg table {name}" for name in LAYOUTS]
    assert "out of reach" in down.says("iceberg table smartgo_sales")
    assert "SALESINTEL_CATALOG_URI" in down.says("iceberg table smartgo_sales")
    assert CANARY not in down.answer.out + down.answer.err
    none = ward.doctor("iceberg", SALESINTEL_CATALOG="sql")
    assert "SALESINTEL_CATALOG_URI: the sql catalog needs it" in none.says("iceberg table smartgo_sales")


def test_a_model_that_the_region_does_not_have_and_one_that_is_not_allowed(
    ward: Ward, titan_url: str, closed_port: int
):
    unknown = ward.doctor("embedding", SALESINTEL_EMBEDDING_MODEL="nobody.knows-it-v1")
    assert unknown.ill == ["embedding model"]
    assert "SALESINTEL_EMBEDDING_MODEL=nobody.knows-it-v1 and BEDROCK_REGION=us-east-1" in unknown.says(
        "embedding model"
    )
    call_json("POST", f"{titan_url}/faults", {"next": ["access-denied"]})
    denied = ward.doctor("embedding")
    assert "AccessDeniedException" in denied.says("embedding model")
    assert "bedrock:InvokeModel" in denied.says("embedding model")
    gone = ward.doctor("embedding", AWS_ENDPOINT_URL_BEDROCK_RUNTIME=f"http://127.0.0.1:{closed_port}")
    assert gone.ill == ["embedding model"]


def test_a_paid_call_is_made_when_it_is_asked_for(ward: Ward, titan_url: str):
    before = call_json("GET", f"{titan_url}/stats")["calls"]
    assert "made a vector of 1024 values (one paid call)" in ward.doctor("embedding", "--paid-call").says(
        "embedding model"
    )
    assert call_json("GET", f"{titan_url}/stats")["calls"] == before + 1


def test_a_key_that_the_bucket_does_not_have(ward: Ward):
    """I8: what Arrow writes is encrypted by the bucket's key, not by ours."""
    key = "arn:aws:kms:eu-west-1:123456789012:key/0b5e3c2a-7c1d-4a37-9a53-2f1f6f4b9d11"
    missing = ward.doctor("object store", SALESINTEL_KMS_KEY_ARN=key)
    assert missing.ill == ["object store"]
    assert "encrypts Iceberg's files by the key of S3, not by" in missing.says("object store")
    assert "salesintel deploy --apply gives the bucket the key of SALESINTEL_KMS_KEY_ARN" in missing.says(
        "object store"
    )
    s3, bucket = ward.clients.client("s3"), ward.resources["AnalyticsBucket"]
    before = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    ours = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=ours)
    try:
        told = ward.doctor("object store", SALESINTEL_KMS_KEY_ARN=key)
        assert (told.ill, "the bucket has our key, too" in told.says("object store")) == ([], True)
    finally:
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=before)


def test_a_topic_that_is_gone(ward: Ward):
    arn = ward.resources["AlertsTopic"].replace("salesintel-alerts", "deleted")
    told = ward.doctor("alerts", SALESINTEL_ALERT_TOPIC_ARN=arn)
    assert told.ill == ["alerts: SNS"]
    assert "set SALESINTEL_ALERT_TOPIC_ARN to the template's output AlertsTopic" in told.says("alerts: SNS")


def test_a_webhook_is_connected_to_and_told_nothing_unless_a_test_alert_is_asked_for(ward: Ward):
    with webhook_server() as server:
        quiet = ward.doctor("alerts", SALESINTEL_ALERT_WEBHOOK_URL=server.url)
        assert (quiet.ill, server.posted) == ([], [])
        assert "accepts connections" in quiet.says("alerts: webhook")
        told = ward.doctor("alerts", "--send-test-alert", SALESINTEL_ALERT_WEBHOOK_URL=server.url)
        assert told.ill == []
        assert server.posted[0].startswith(f"WARN test alert of stage {ward.stage}")
        server.script = [status("404 Not Found")]
        gone = ward.doctor("alerts", "--send-test-alert", SALESINTEL_ALERT_WEBHOOK_URL=server.url)
        assert "answered 404 -> check SALESINTEL_ALERT_WEBHOOK_URL" in gone.says("alerts: webhook")
        url = server.url
    down = ward.doctor("alerts", SALESINTEL_ALERT_WEBHOOK_URL=url)
    assert "ConnectionRefusedError" in down.says("alerts: webhook")
    assert "canary" not in quiet.answer.out + told.answer.out + gone.answer.out + down.answer.out


def test_no_sink_is_a_warning(ward: Ward):
    told = ward.doctor("alerts", SALESINTEL_ALERT_TOPIC_ARN="")
    assert "warn: no sink: alerts are only logged" in told.says("alerts")


def test_an_instance_without_its_safety(ward: Ward, tmp_path: Path):
    told = ward.doctor("dagster", DAGSTER_HOME="")
    assert "DAGSTER_HOME is not set" in told.says("dagster instance")
    assert f"warn: no {tmp_path}/dagster.yaml yet" in ward.doctor("dagster", DAGSTER_HOME=str(tmp_path)).says(
        "dagster instance"
    )
    (tmp_path / "dagster.yaml").write_text("run_retries: {enabled: true, retry_on_asset_or_op_failure: true}\n")
    bare = ward.doctor("dagster", DAGSTER_HOME=str(tmp_path))
    assert bare.ill == ["dagster instance"]
    for word in (
        "a killed run stays STARTED for ever",
        "failed assets are run again",
        "pools have no limit",
        "telemetry: {enabled: false}",
    ):
        assert word in bare.says("dagster instance")
    (tmp_path / "dagster.yaml").write_text("nonsense: 1\n")
    assert "mend it" in ward.doctor("dagster", DAGSTER_HOME=str(tmp_path)).says("dagster instance")


def test_an_ecs_instance_without_image_region_or_the_driver_that_works(
    ward: Ward, services: running.Services, tmp_path: Path
):
    launcher = "run_launcher: {module: dagster_aws.ecs, class: EcsRunLauncher}\n"
    storage = "storage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}\n"
    (tmp_path / "dagster.yaml").write_text(SHIPPED.read_text() + launcher + storage)
    home = {"DAGSTER_HOME": str(tmp_path), "AWS_DEFAULT_REGION": "eu-west-1"}
    url = services.postgres.new_database()
    told = ward.doctor("dagster", DAGSTER_POSTGRES_URL=url, **home).says("dagster instance")
    assert "set DAGSTER_CURRENT_IMAGE to the image" in told
    assert "let it begin with postgresql+psycopg2://" in told
    (tmp_path / "dagster.yaml").write_text(launcher)
    nowhere = ward.doctor("dagster", DAGSTER_HOME=str(tmp_path))
    assert "set AWS_DEFAULT_REGION; it knows no AWS_REGION" in nowhere.says("dagster instance")


def test_a_clock_that_is_off(ward: Ward):
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=10)):
        told = ward.doctor("clock")
    assert "ahead of AWS -> synchronise this machine's clock" in told.says("clock")
    assert told.found["clock"]["health"] == "fail"
    now = datetime.now(UTC)
    assert skew(now + timedelta(seconds=90), now).health.value == "warn"
    assert skew(None, now).health.value == "warn"


def test_a_disk_without_room(tmp_path: Path):
    assert room(tmp_path / "not" / "yet", "DAGSTER_HOME", 0, 0).health.value == "ok"
    assert room(tmp_path, "DAGSTER_HOME", 0, 2**60).health.value == "warn"
    full = room(tmp_path, "DAGSTER_HOME", 2**60, 2**60)
    assert (full.health.value, "set DAGSTER_HOME to a folder with" in full.remedy) == ("fail", True)


def test_nothing_answers_and_every_check_still_tells(ward: Ward, closed_port: int):
    told = ward.doctor(AWS_ENDPOINT_URL=f"http://127.0.0.1:{closed_port}")
    assert list(told.found) == EVERY
    assert {"aws credentials", "clock", "database parameter", "object store", "progress table", "alerts: SNS"} <= set(
        told.ill
    )
    assert all(told.found[name]["remedy"] for name in told.ill)


def test_a_check_that_there_is_not_is_told_with_the_names_that_there_are(ward: Ward):
    told = ward.doctor("buckets")
    assert "no check is named 'buckets'; there are: settings, aws credentials, clock" in told.says("settings")


def test_settings_that_break_a_rule_are_a_finding_too(ward: Ward):
    told = ward.doctor(SALESINTEL_IMAGE_RETRIES="many")
    assert (told.answer.code, told.ill) == (1, ["settings"])
    assert "SALESINTEL_IMAGE_RETRIES: Input should be a valid integer" in told.says("settings")
