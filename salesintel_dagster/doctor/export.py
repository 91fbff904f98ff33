"""Checks of what the daily export stands on: source database, bucket, Bedrock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from io import BytesIO

from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import DENIED
from salesintel_dagster.adapters.aws_probes import (
    MISSING,
    bucket_key,
    bucket_region,
)
from salesintel_dagster.adapters.parameters import read_source_config
from salesintel_dagster.adapters.source_config import ApiConfig
from salesintel_dagster.doctor.patient import Patient, setting
from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.diagnosis import Check, Finding, fail, ok, warn
from salesintel_dagster.domain.errors import (
    AwsRefused,
    EmbeddingFailure,
    SourceSchemaMismatch,
    StoreUnavailable,
)
from salesintel_dagster.domain.source import ConnectionParameters
from salesintel_dagster.domain.tls import UNVERIFIED_TLS, is_local
from salesintel_dagster.settings import variable_of
from salesintel_dagster.wiring.sources import sale_source

PROBE_OBJECT = "staging/doctor/probe"
"""Under the prefix that the bucket empties by itself: the export may delete nothing there, and neither may we."""
DEPLOY = "salesintel deploy --apply"
ENCRYPTED = frozenset({"require", "verify-ca"})


def checks(patient: Patient) -> Iterator[Check]:
    """Yield the checks."""
    settings = patient.settings
    parameter = settings.smartgo_parameter
    store = f"store a JSON object in the SecureString {parameter} (docs/aws.md); kms:Decrypt and ssm:GetParameter on it"
    server = f"is the server up, and reachable from here (security group)? its place stands in {parameter}"
    yield Check("database parameter", partial(database_parameter, patient), store)
    yield Check("source TLS", partial(source_tls, patient), f"see database parameter: {parameter}")
    yield Check("source database", partial(source_database, patient), server)
    yield Check("object store", partial(object_store, patient), f"s3:PutObject and s3:GetObject on {PROBE_OBJECT}")
    yield Check("embedding model", partial(embedding_model, patient), _model_remedy(patient))


def database_parameter(patient: Patient) -> Finding:
    """Read and parse the SSM parameter."""
    parameter = patient.settings.smartgo_parameter
    config = read_source_config(patient.clients.client("ssm"), parameter)
    if isinstance(config, ApiConfig):
        return ok(f"{parameter}: an API at {config.parameters.place}")
    mapped = config.mapping.table or "a query"
    return ok(f"{parameter}: {mapped} at {config.connection.place} ({config.kind})")


def source_tls(patient: Patient) -> Finding:
    """Judge whether the configured TLS keeps the password and the sales to the right server."""
    parameter = patient.settings.smartgo_parameter
    config = read_source_config(patient.clients.client("ssm"), parameter)
    if isinstance(config, ApiConfig):
        scheme = config.parameters.parts.scheme
        return ok("https" if scheme == "https" else "http, to this machine itself")
    return tls(config.connection, parameter)


def tls(connection: ConnectionParameters, parameter: str) -> Finding:
    """Judge a connection's mode; less than the policy asks for was refused when the parameter was read."""
    mode = connection.tls_mode
    if mode == "verify-full":
        return ok("verify-full: encrypted, and the server's certificate and name are checked")
    if is_local(connection.host):
        return ok(f"{mode}, to this machine itself")
    told = (
        "encrypted, but any server with any name may answer" if mode in ENCRYPTED else "may cross the network readable"
    )
    remedy = f"set sslmode to verify-full and sslrootcert to the server's CA, and take {UNVERIFIED_TLS} out"
    return warn(f"{mode}, as {UNVERIFIED_TLS} lets it: {told}", f"{remedy}, in {parameter}")


def source_database(patient: Patient) -> Finding:
    """Connect as the export does, look for the mapped columns and count the newest day that has ended."""
    settings = patient.settings
    source = sale_source(settings, patient.clients)
    yesterday = patient.clock.now().astimezone(settings.zone).date() - timedelta(days=1)
    try:
        rows = source.fingerprint(day_window(yesterday, settings.zone)).rows
    except SourceSchemaMismatch as error:
        remedy = f"mend table and columns in {settings.smartgo_parameter}, or GRANT SELECT on them to its user"
        return fail(str(error), remedy)
    found = f"connected, mapped columns are there, {rows} rows on {yesterday}"
    return ok(found) if rows else warn(found, "was there truly no sale? then all is well")


def object_store(patient: Patient) -> Finding:
    """Put, get and list one small object as the export does; a bucket must lie in our region."""
    settings = patient.settings
    if settings.object_folder is None:
        refused = _bucket(patient)
        if refused is not None:
            return refused
    store = wiring.object_store(settings, patient.clients)
    told = f"asked at {patient.clock.now().isoformat()}".encode()
    try:
        store.put(PROBE_OBJECT, told, "text/plain")
        if store.get(PROBE_OBJECT) != told or PROBE_OBJECT not in set(store.keys(PROBE_OBJECT)):
            return fail(f"{PROBE_OBJECT} did not come back as it was put", "is something else writing to it?")
    except StoreUnavailable as error:
        action = "s3:PutObject and s3:GetObject" if settings.object_folder is None else "writing"
        return fail(str(error), f"let this role do {action} under staging/ (docs/aws.md, IAM)")
    found = f"put, got and listed {settings.object_folder or settings.bucket_name}/{PROBE_OBJECT}"
    return ok(found) if settings.kms_key_arn is None else _encryption(patient, found)


def _encryption(patient: Patient, found: str) -> Finding:
    """Compare the bucket's key with ours: Iceberg's files are encrypted by the bucket's."""
    ours, bucket = patient.settings.kms_key_arn, patient.settings.bucket_name
    if patient.settings.object_folder is not None:
        return warn(f"{found}, which encrypts nothing", f"{variable_of('kms_key_arn')} is for a bucket")
    key = bucket_key(patient.clients.client("s3"), bucket)
    if key is None:
        return ok(f"{found} by our key; not asked for the bucket's (needs s3:GetEncryptionConfiguration)")
    if key != ours:
        told = f"{found}; but the bucket encrypts Iceberg's files by {key or 'the key of S3'}, not by {ours}"
        return fail(told, f"{DEPLOY} gives the bucket the key of {variable_of('kms_key_arn')}")
    return ok(f"{found}; the bucket has our key, too")


def _bucket(patient: Patient) -> Finding | None:
    settings = patient.settings
    bucket, variable = settings.bucket_name, variable_of("bucket")
    try:
        region = bucket_region(patient.clients.client("s3"), bucket)
    except AwsRefused as refused:
        if refused.code in MISSING:
            return fail(f"no bucket {bucket}", f"{DEPLOY} makes it; or set {variable}")
        if refused.code in DENIED:
            return fail(str(refused), f"let this role do s3:ListBucket on {bucket}; is {variable} your bucket?")
        raise
    if region not in {None, settings.aws_region}:
        return fail(f"bucket {bucket} lies in {region}", f"set AWS_REGION to {region}, or {variable} to another one")
    return None


def embedding_model(patient: Patient) -> Finding:
    """Ask the model for nothing, which is refused and free; with `paid_call`, for the vector of one small picture."""
    settings = patient.settings
    where = f"{settings.embedding_model} in {settings.bedrock_region}"
    embedder = wiring.embedder(settings, patient.clients)
    try:
        if not patient.paid_call:
            embedder.check()
            return ok(f"{where} answers, and we may invoke it (nothing was paid; --paid-call makes one vector)")
        vector = embedder.embed(_picture())
    except EmbeddingFailure as failure:
        return fail(str(failure), _model_remedy(patient))
    return ok(f"{where} made a vector of {len(vector) // 4} values (one paid call)")


def _model_remedy(patient: Patient) -> str:
    model = setting(patient, "embedding_model")
    region = setting(patient, "bedrock_region")
    return f"check {model} and {region}; let this role do bedrock:InvokeModel; was the model enabled for the account?"


def _picture() -> bytes:
    from PIL import Image  # noqa: PLC0415 - for a paid call alone

    out = BytesIO()
    Image.new("RGB", (64, 64), (30, 90, 160)).save(out, "PNG")
    return out.getvalue()
