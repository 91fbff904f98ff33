"""`store_sale`: one sale by API Gateway and Lambda into the sales table, through the repository as everybody uses it.

Lambda's handler is `salesintel_dagster.handlers.store_sale.handle`; it reads STAGE and the other settings from its
environment. Answers: 201 stored (or stored before, the same), 400 the rule that the request breaks, 409 another payload
is stored under this sale id, 500 with an error id that stands in the log, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from functools import cache

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import SaleRefused, SalesIntelError
from salesintel_dagster.domain.redaction import Redaction
from salesintel_dagster.domain.retention import ttl_of
from salesintel_dagster.domain.sale import shown
from salesintel_dagster.domain.sale_request import RequestRules, parse_request, read_json, require_kept, wire_name
from salesintel_dagster.domain.sales_repository import PutOutcome, SaleWriter
from salesintel_dagster.domain.tenancy import CallerContext

TENANT_CLAIMS = ("tenant", "custom:tenant")
"""Claims of the authoriser that name the caller's tenant; the second is how Cognito calls it."""

Response = dict[str, object]
logger = logging.getLogger(__name__)


class StoreSale:
    """The handler over any writer. Never raises: whatever goes wrong is an answer."""

    def __init__(
        self,
        writer: SaleWriter,
        rules: RequestRules,
        clock: Clock = SYSTEM_CLOCK,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._writer = writer
        self._rules = rules
        self._clock = clock
        self._new_id = new_id

    def __call__(self, event: object) -> Response:
        """Return API Gateway's answer to its event (payload 1.0 or 2.0)."""
        try:
            return self._stored(event)
        except SaleRefused as error:
            return _answer(
                400, {"error": "refused", "field": wire_name(error.field), "value": error.value, "rule": error.rule}
            )
        except Exception as error:  # noqa: BLE001 - the last ring: no internals reach a client
            return _failed(error, self._new_id())

    def _stored(self, event: object) -> Response:
        given = event if isinstance(event, Mapping) else {}
        record = parse_request(read_json(_body(given)), CallerContext(_tenant(given)), self._rules)
        require_kept(record, self._clock.now())
        result = self._writer.put(CallerContext(record.tenant), record)
        if result.outcome is PutOutcome.CONFLICT:
            rule = "another payload is stored under this sale id; it was not changed"
            return _answer(409, {"error": "conflict", "saleId": record.sale_id, "rule": rule})
        return _answer(
            201, {"saleId": record.sale_id, "ttl": ttl_of(record.sold_date), "outcome": result.outcome.value}
        )


def handle(event: object, _context: object = None) -> Response:
    """Answer one event of API Gateway: what Lambda calls."""
    try:
        return _handler()(event)
    except Exception as error:  # noqa: BLE001 - a setting of the function is wrong
        return _failed(error, str(uuid.uuid4()))


@cache
def _handler() -> StoreSale:
    """Make the handler once a process: Lambda keeps it warm."""
    from salesintel_dagster.adapters.aws import AwsClients, AwsTarget  # noqa: PLC0415 - boto3, once a process
    from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository  # noqa: PLC0415 - same
    from salesintel_dagster.domain.shards import ShardCounts  # noqa: PLC0415 - same
    from salesintel_dagster.settings import Settings  # noqa: PLC0415 - same

    settings = Settings.from_environment(os.environ)
    clients = AwsClients(AwsTarget(settings.aws_region, settings.bedrock_region, settings.aws_endpoint_url))
    shards = ShardCounts(settings.sales_category_shards, settings.sales_embedding_shards)
    sales = DynamoSalesRepository(clients.client("dynamodb"), settings.sales_table_name, shards)
    return StoreSale(sales, RequestRules(settings.zone, settings.hemisphere))


def _tenant(event: Mapping[str, object]) -> str:
    """Return the tenant that the authoriser vouches for; no header, query or body is asked."""
    authoriser = _inner(_inner(event, "requestContext"), "authorizer")
    places = (_inner(_inner(authoriser, "jwt"), "claims"), _inner(authoriser, "lambda"), _inner(authoriser, "claims"))
    named = {str(place[claim]) for place in (*places, authoriser) for claim in TENANT_CLAIMS if claim in place}
    if len(named) != 1:
        found = ", ".join(sorted(named)) or "none"
        raise SaleRefused("tenant", shown(found), "the request's authoriser names exactly one tenant")
    return named.pop()


def _inner(outer: Mapping[str, object], name: str) -> Mapping[str, object]:
    inner = outer.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _body(event: Mapping[str, object]) -> str | bytes:
    body = event.get("body")
    if not isinstance(body, str) or not body:
        raise SaleRefused("body", shown(body), "a sale is one JSON object")
    if not event.get("isBase64Encoded"):
        return body
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise SaleRefused("body", shown(body), "base64, as the event says") from None


def _answer(status: int, body: Mapping[str, object]) -> Response:
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}


def _failed(error: Exception, error_id: str) -> Response:
    """Log what went wrong under an id, answer with the id alone. Another library's words may hold anything."""
    what = Redaction()(str(error)) if isinstance(error, SalesIntelError) else "no words of ours"
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    at = f"{frames.tb_frame.f_code.co_qualname} line {frames.tb_lineno}" if frames is not None else "nowhere"
    logger.error("store_sale failed, error id %s: %s: %s, in %s", error_id, type(error).__name__, what, at)
    return _answer(500, {"error": "internal", "errorId": error_id})
