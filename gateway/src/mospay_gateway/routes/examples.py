"""What the document shows: one example of every request and success, and every error by its code.

An operation that is missing here, or an error it can give and does not name, fails a test.
"""

from dataclasses import dataclass, field
from typing import Any

_TAIL = "019aa6d4c0de7b3f8a5b0c1d2e3f4a5b"
PAYMENT_ID, REFUND_ID, REQUEST_ID = f"pay_{_TAIL}", f"ref_{_TAIL}", f"req_{_TAIL}"
_AT, _LATER = "2026-01-31T09:30:00.123456Z", "2026-01-31T09:30:04.700120Z"

_CLIENT = ("ApiKey", "Bearer", "Basic")
_EVERYONE: tuple[str, ...] = ()
_SERVICE = ("ServiceToken",)


def _fault(name: str, code: str, message: str) -> list[dict[str, str]]:
    return [{"field": name, "code": code, "message": message}]


# code → status, title, faults
PROBLEMS: dict[str, tuple[int, str, list[dict[str, str]]]] = {
    "invalid_json": (400, "The body is not valid JSON",
                     _fault("body", "invalid_json", "is not valid JSON")),
    "idempotency_key_missing": (
        400, "Send an Idempotency-Key header: a fresh one for every new payment", []),
    "idempotency_key_invalid": (
        400, "An Idempotency-Key has 1 to 255 printable ASCII characters", []),
    "not_authenticated": (401, "The credentials are wrong, expired or revoked", []),
    "token_expired": (401, "The token has expired", []),
    "app_id_missing": (401, "Send the App-ID header", []),
    "invalid_token": (401, "The service token is missing, expired or not trusted here", []),
    "client_inactive": (403, "This client is not active", []),
    "address_refused": (403, "Calls from this address are refused", []),
    "missing_scope": (403, "The token lacks the scope messages:redrive", []),
    "not_allowed": (403, "Only portal-api tells of changes", []),
    "not_found": (404, "There is no such thing among yours", []),
    "first_request_still_open": (
        409, "The first request with this key or reference is still being accepted", []),
    "already_final": (409, "The payment has ended: it is succeeded", []),
    "body_too_slow": (408, "The body did not arrive within 10 seconds", []),
    "body_too_large": (413, "The body is too large", []),
    "invalid_request": (422, "The request is not valid",
                        _fault("amount_minor", "amount_too_small", "must be at least 100 RWF")),
    "daily_limit_exceeded": (
        422, "The payment would exceed a daily limit",
        _fault("amount_minor", "daily_limit_exceeded",
               "would exceed what you may take in a day; 500 RWF is left today")),
    "idempotency_key_reused": (
        422, "This Idempotency-Key came before with another payload; use a fresh key", []),
    "reference_reused": (
        422, "This reference came before with another payload; a reference is used once", []),
    "invalid_text": (
        422, "The request has text with a character that can't be kept (NUL)", []),
    "not_retryable": (
        422, "Only a payment that ended without money, not one processing", []),
    "not_refundable": (
        422, "Only a payment that succeeded can be refunded, not one that is failed", []),
    "refund_too_large": (
        422, "More can't be refunded than was paid",
        _fault("amount_minor", "refund_too_large", "at most 500 RWF can still be refunded")),
    "rate_limited": (429, "More than 6000 calls a minute (limit: client); come again later", []),
    "directory_incomplete": (
        503, "The gateway is starting and does not know its clients yet; try again shortly", []),
    "temporarily_unavailable": (
        503, "The gateway can't reach its database right now; send the same request again shortly",
        []),
    "reporter_unavailable": (503, "Figures are not available right now; try again shortly", []),
    "books_unavailable": (503, "The books can't be read right now; try again shortly", []),
    "too_many_at_once": (429, "More than 8 such reads at once; wait for one to end", []),
    "statement_too_long": (
        422, "More entries than one file holds: choose a shorter period, or CSV", []),
    "paper_too_large": (422, "More than one PDF holds: choose a shorter period, or CSV", []),
}  # fmt: skip

AUTH = (
    "not_authenticated", "token_expired", "client_inactive", "address_refused", "rate_limited",
    "directory_incomplete",
)  # fmt: skip
_READ = (*AUTH, "temporarily_unavailable")
_BODY = ("invalid_json", "body_too_large", "body_too_slow", "invalid_request")
_WRITE = (*_READ, *_BODY)
_KEY = (
    "idempotency_key_missing", "idempotency_key_invalid", "idempotency_key_reused",
    "first_request_still_open",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation's examples: `success` by status, `errors` by code; `media` of a success.

    `files` are the other media a success may have, with how such a file begins.
    """

    success: dict[int, Any]
    errors: tuple[str, ...] = ()
    request: Any = None
    security: tuple[str, ...] = _CLIENT
    media: str = "application/json"
    schema: str = "object"
    headers: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def _headers(*names: str) -> dict[str, Any]:
    words = {
        "Location": "Where it can be looked at",
        "Retry-After": "Seconds after which to look; absent once it has ended",
        "Idempotent-Replayed": "`true`: an earlier request had made it",
    }
    return {
        name: {"description": words[name], "schema": {"type": "string"}, "required": False}
        for name in names
    }


_KEYED = _headers("Location", "Retry-After", "Idempotent-Replayed")
_CREATE = {
    "service": "collection", "route": "payment", "amount_minor": 25000, "currency": "RWF",
    "phone": "+250780000000", "reference": "order-10042", "customer_id": "cust_7",
    "product_name": "Tea, 1 kg", "fields": {"f011": "meter 7"},
    "metadata": {"branch": "Kimironko"},
}  # fmt: skip
_PAYMENT = {
    "id": PAYMENT_ID, "object": "payment", "status": "processing", "version": 0, "mode": "live",
    "app_id": "akaliza_live", "microservice": "mtnmomorwa", "service": "collection",
    "route": "payment", "amount_minor": 25000, "currency": "RWF", "phone": "**********000",
    "reference": "order-10042", "customer_id": "cust_7", "product_id": None,
    "product_name": "Tea, 1 kg", "fields": {"f011": "meter 7"},
    "metadata": {"branch": "Kimironko"}, "provider_reference": None, "reason_code": None,
    "reason_message": None, "late": False, "retry_of": None, "refunded_minor": 0,
    "refunds_open_minor": 0, "cancel_requested_at": None, "accepted_at": _AT, "updated_at": _AT,
}  # fmt: skip
_INVOICE_PAYMENT = {
    **_PAYMENT, "reference": f"int_{_TAIL}", "customer_id": f"cus_{_TAIL}", "fields": {},
    "product_name": "Invoice AKA-2026-000042", "metadata": {"invoice_id": f"inv_{_TAIL}"},
}  # fmt: skip
_PAID = {
    **_PAYMENT, "status": "succeeded", "version": 2, "provider_reference": "1873629017",
    "updated_at": _LATER,
}  # fmt: skip
_REFUND = {
    "id": REFUND_ID, "object": "refund", "payment_id": PAYMENT_ID, "status": "pending",
    "version": 0, "mode": "live", "amount_minor": 5000, "currency": "RWF",
    "reason": "one item was broken", "provider_reference": None, "reason_code": None,
    "reason_message": None, "late": False, "over_refund": False, "requested_at": _LATER,
    "updated_at": _LATER,
}  # fmt: skip
_REFUNDED = {**_REFUND, "status": "succeeded", "version": 2, "provider_reference": "1873629055"}
_FIELDS = {
    "f000": "mtnmomorwa", "f001": "collection", "f002": "payment", "f003": "akaliza_live",
    "f004": "25000", "f005": "+250780000000", "f006": "customer123", "f007": "",
    "f008": "their-password", "f009": "device_abc123", "f010": "order-10042",
}  # fmt: skip
_FIELD_PAID = {
    "status": "200", "type": "success", "message": "The payment succeeded", "version": "1.0",
    "action": "OUTPUT", "command": "payment", "payment_id": PAYMENT_ID,
    "reference": "order-10042", "outcome": "succeeded", "amount": "25000", "currency": "RWF",
    "provider_reference": "1873629017", "reason_code": None, "accepted_at": _AT,
}  # fmt: skip
_FIELD_OPEN = {
    **_FIELD_PAID, "status": "202", "type": "processing", "outcome": "processing",
    "message": "The payment is being processed", "provider_reference": None,
}  # fmt: skip
_SALE = {
    "transaction_id": "txn-789", "customer_id": "cust-456", "event_type": "payment_succeeded",
    "amount": 1000, "currency": "XOF", "fee": 30, "payment_method": "mobile_money",
    "product_id": "prod-123", "product_name": "Premium Package",
}  # fmt: skip
_EVENT = {"ok": True, "event_id": f"sal_{_TAIL}", "queued": True,
          "message": "Event queued for processing"}  # fmt: skip
_SUCCESS = {"status": "200", "type": "success", "version": "1.0", "action": "OUTPUT"}
_LIMITS = {"min_minor": 100, "max_minor": 5_000_000, "daily_minor": None, "daily_phone_minor": None}
_CALLBACK = Operation(
    {200: {"received": True, "callback_id": f"cbk_{_TAIL}"}},
    ("body_too_large", "body_too_slow", "invalid_request", "address_refused", "rate_limited",
     "temporarily_unavailable"),
    security=_EVERYONE,
)  # fmt: skip
_WEBHOOK = Operation(
    _CALLBACK.success,
    tuple(code for code in _CALLBACK.errors if code != "invalid_request"),
    security=_EVERYONE,
)


def _figures(body: dict[str, Any]) -> Operation:
    return Operation({200: {"currency": "RWF", **body}}, (*AUTH, "invalid_request",
                                                          "reporter_unavailable"))  # fmt: skip


def _inside(success: dict[int, Any], *errors: str, request: Any = None) -> Operation:
    errors = (
        "invalid_token", "missing_scope", "temporarily_unavailable", "invalid_text", *errors
    )  # fmt: skip
    return Operation(success, errors, request, security=_SERVICE)


OPERATIONS: dict[str, Operation] = {
    "POST /v1/payments": Operation(
        {202: _PAYMENT, 200: _PAID},
        (*_WRITE, *_KEY, "reference_reused", "daily_limit_exceeded"),
        _CREATE, headers=_KEYED,
    ),
    "GET /v1/payments": Operation(
        {200: {"items": [_PAID], "next_cursor": PAYMENT_ID}}, (*_READ, "invalid_request")),
    "GET /v1/payments/{payment_id}": Operation({200: _PAID}, (*_READ, "not_found")),
    "POST /v1/payments/{payment_id}/cancel": Operation(
        {202: {**_PAYMENT, "cancel_requested_at": _LATER},
         200: {**_PAYMENT, "status": "cancelled", "version": 2, "cancel_requested_at": _LATER}},
        (*_WRITE, *_KEY[1:], "not_found", "already_final"),
        {"reason": "the customer changed their mind"}, headers=_KEYED,
    ),
    "POST /v1/payments/{payment_id}/retry": Operation(
        {202: {**_PAYMENT, "id": f"pay_{_TAIL[::-1]}", "reference": "order-10042-2",
               "retry_of": PAYMENT_ID}, 200: {**_PAID, "retry_of": PAYMENT_ID}},
        (*_WRITE, *_KEY, "reference_reused", "daily_limit_exceeded", "not_found",
         "not_retryable"),
        {"reference": "order-10042-2", "fields": {"f008": "their-password"}}, headers=_KEYED,
    ),
    "POST /v1/payments/{payment_id}/refunds": Operation(
        {202: _REFUND, 200: _REFUNDED},
        (*_WRITE, *_KEY, "not_found", "not_refundable", "refund_too_large"),
        {"amount_minor": 5000, "reason": "one item was broken"}, headers=_KEYED,
    ),
    "GET /v1/refunds": Operation(
        {200: {"items": [_REFUNDED], "next_cursor": None}},
        (*_READ, "invalid_request", "not_found")),
    "GET /v1/refunds/{refund_id}": Operation({200: _REFUNDED}, (*_READ, "not_found")),
    "POST /api/v1/payment/process": Operation(
        {200: _FIELD_PAID, 202: _FIELD_OPEN},
        (*_WRITE, "first_request_still_open", "reference_reused", "daily_limit_exceeded"), _FIELDS,
        headers=_headers("Idempotent-Replayed"),
    ),
    "POST /api/v1/payment/status": Operation(
        {200: _FIELD_PAID, 202: _FIELD_OPEN}, (*_WRITE, "not_found"), {"f010": "order-10042"}),
    "GET /api/v1/client/services": Operation(
        {200: {**_SUCCESS, "message": "1 services", "services": [
            {"f000": "mtnmomorwa", "f001": "collection", "f002": ["payment"],
             "f003": "akaliza_live", "title": "Collection", "currency": "RWF", "available": True,
             "limits": _LIMITS, "answer_wait_seconds": 30, "fields": [
                 {"code": "f005", "label": "Phone", "type": "phone", "required": True,
                  "mask": False, "order": 5}]}]}}, AUTH),
    "GET /api/v1/client/profile": Operation(
        {200: {**_SUCCESS, "message": "Akaliza Shop", "profile": {
            "client_id": f"cli_{_TAIL}", "name": "Akaliza Shop", "app_id": "akaliza_live",
            "mode": "live", "currency": "RWF", "time_zone": "Africa/Kigali",
            "answer_wait_seconds": 30}}}, AUTH),
    "POST /api/v1/auth/token": Operation(
        {200: {"status": "200", "message": "Token issued", "token": "eyJhbGciOiJFZERTQSJ9.e30.c2ln",
               "token_type": "Bearer", "expires_in": 900}},
        ("not_authenticated", "app_id_missing", "client_inactive", "address_refused",
         "rate_limited", "directory_incomplete"), security=("Basic",)),
    "GET /.well-known/jwks.json": Operation(
        {200: {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                         "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                         "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}]}},
        security=_EVERYONE),
    "POST /v1/callbacks/{microservice}": _CALLBACK,
    "PUT /v1/callbacks/{microservice}": _CALLBACK,
    "POST /webhooks/razorpay": _WEBHOOK,
    "POST /webhooks/paypal": _WEBHOOK,
    "POST /api/events/transaction": Operation(
        {202: _EVENT, 200: {**_EVENT, "queued": False, "message": "Event was known already"}},
        _WRITE, _SALE),
    "POST /api/events/transaction/batch": Operation(
        {202: {"ok": True, "total": 2, "ingested": 2, "duplicates": 0}}, _WRITE,
        [{**_SALE, "transaction_id": "txn-1"},
         {"transaction_id": "txn-2", "event_type": "payment_failed", "amount": 750,
          "currency": "XOF"}]),
    "GET /api/dashboard/overview": _figures({
        "today": {"transactions": 1234, "successful_transactions": 1200, "revenue": 50000,
                  "fees": 1500, "net_revenue": 48500, "avg_transaction": 41,
                  "transaction_growth": "5.20", "revenue_growth": "8.40"},
        "month": {"transactions": 35000, "revenue": 1500000, "customers": 2500}}),
    "GET /api/dashboard/analytics": _figures({"granularity": "daily", "data": [
        {"date": "2026-01-15", "transactions": 450, "successful": 440, "failed": 10,
         "revenue": 18500, "net_revenue": 17900, "customers": 120, "new_customers": 15}]}),
    "GET /api/dashboard/payment-methods": _figures({"period_days": 30, "payment_methods": [
        {"method": "mobile_money", "count": 1500, "amount": 750000}]}),
    "GET /api/dashboard/top-products": _figures({"period_days": 30, "products": [
        {"product_id": "prod-123", "product_name": "Premium Package", "transactions": 350,
         "amount": 175000}]}),
    "GET /api/dashboard/customers": _figures({
        "summary": {"total_customers": 2500, "avg_transactions": "4.50", "avg_spend": "600.00"},
        "top_customers": [{"customer_id": "cust-456", "transactions": 25, "total_spent": 15000,
                           "first_transaction": "2025-06-01T10:00:00Z",
                           "last_transaction": "2026-01-15T14:30:00Z"}]}),
    "GET /healthz": Operation(
        {200: {"service": "gateway", "database": "up"},
         503: {"service": "gateway", "database": "down"}}, security=_EVERYONE),
    "GET /readyz": Operation(
        {200: {"service": "gateway", "ready": True, "migrations": "done", "broker": "up",
               "detached": []},
         503: {"service": "gateway", "ready": False, "migrations": "missing", "broker": "down",
               "detached": ["gateway.payments"]}}, security=_EVERYONE),
    "GET /metrics": Operation(
        {200: "mospay_gateway_unseen_payments 0.0\n"}, security=_EVERYONE, media="text/plain",
        schema="string"),
    "GET /internal/v1/traces/{subject}": _inside({200: {"service": "gateway", "hops": [
        {"id": f"http:{PAYMENT_ID}", "service": "gateway", "kind": "http", "attempt": 1,
         "name": "POST /v1/payments", "outcome": "ok", "detail": f"accepted as {PAYMENT_ID}"}]}}),
    "GET /internal/v1/messages": _inside({200: [
        {"event_id": f"evt_{_TAIL}", "queue": "gateway.payments", "subject": PAYMENT_ID,
         "type": "payment.succeeded.v1", "state": "dead", "attempts": 1,
         "reason": "data.version: Input should be a valid integer", "received_at": _AT,
         "next_at": None}]}, "invalid_request"),
    "POST /internal/v1/messages/redrive": _inside(
        {202: {"event_id": f"evt_{_TAIL}", "state": "retry"}}, *_BODY, "not_found",
        request={"event_id": f"evt_{_TAIL}", "queue": "gateway.payments",
                 "reason": "the schema was fixed"}),
    "POST /internal/v1/payments": _inside(
        {202: _INVOICE_PAYMENT, 200: {**_INVOICE_PAYMENT, "status": "succeeded", "version": 2}},
        *_BODY, *_KEY[1:], "not_allowed", "not_found", "client_inactive", "reference_reused",
        "daily_limit_exceeded", "rate_limited", "directory_incomplete",
        request={
            "client_id": f"cli_{_TAIL}", "mode": "live", "idempotency_key": f"int_{_TAIL}",
            "not_after": _LATER, "service": "collection", "route": "payment",
            "amount_minor": 25000, "currency": "RWF", "phone": "+250780000000",
            "reference": f"int_{_TAIL}", "customer_id": f"cus_{_TAIL}",
            "product_name": "Invoice AKA-2026-000042", "metadata": {"invoice_id": f"inv_{_TAIL}"},
        }),
    "GET /internal/v1/payments/by-key/{client_id}/{mode}/{key}": _inside(
        {200: _INVOICE_PAYMENT}, "invalid_request", "idempotency_key_invalid", "not_allowed",
        "not_found", "directory_incomplete"),
    "POST /internal/v1/credentials/changed": _inside(
        {200: {"acknowledged": 1}}, *_BODY, "not_allowed",
        request={"credentials": [
            {"credential_id": f"crd_{_TAIL}", "client_id": f"cli_{_TAIL}", "mode": "live",
             "app_id": "akaliza_live", "kind": "api_key", "lookup": "k7f3",
             "secret_hash": "ab" * 32, "revoked": True, "version": 7}]}),
    "POST /internal/v1/clients/changed": _inside(
        {200: {"acknowledged": 1}}, *_BODY, "not_allowed",
        request={"clients": [
            {"client_id": f"cli_{_TAIL}", "company_id": f"cmp_{_TAIL}", "name": "Akaliza Shop",
             "apps": [{"app_id": "akaliza_live", "mode": "live"}], "currency": "RWF",
             "time_zone": "Africa/Kigali", "active": False, "version": 8}]}),
}  # fmt: skip
