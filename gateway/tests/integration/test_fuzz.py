"""Whatever is sent, to whatever path: an answer below 500, with a code."""

import asyncio
import json
import os
import secrets
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Gateway

EXAMPLES = int(os.environ.get("MOSPAY_FUZZ_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text() | st.sampled_from(
    ["", "\x00", "a\x00b", "\ud800", "\udfff\ud800", "\u202e", "f" * 5000, "NaN", "1e999", "-0",
     "+250780000000", "٣", "=cmd|' /C calc'!A0", "' or 1=1--", "pay_" + "0" * 32]
)  # fmt: skip
NUMBER = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**64), 10**400, 1e308, -0.0])
)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
MEMBERS = st.sampled_from(
    ["service", "microservice", "route", "amount_minor", "currency", "phone", "reference", "reason",
     "customer_id", "product_id", "fields", "metadata", "transaction_id", "event_type", "amount",
     "fee", "event_id", "occurred_at", "payment_method", *(f"f{n:03}" for n in range(14))]
)  # fmt: skip
DEEP = st.integers(1, 30_000).flatmap(
    lambda n: st.sampled_from([b"[" * n, b'{"a":' * n, b"[" * n + b"]" * n])
)
RAW = st.binary(max_size=400) | DEEP | st.sampled_from(
    [b"", b"null", b'"\\ud800"', b'{"f010": "\\ud800"}', b'{"amount_minor": 1e999}', b"\xff\xfe{}",
     b'{"a": 1, "a": 2}', b'{"amount": ' + b"9" * 6000 + b"}", b"[[[[[]]]]]", b"{} {}"]
)  # fmt: skip
POSTS = (
    "/v1/payments", "/v1/payments/{id}/cancel", "/v1/payments/{id}/retry",
    "/v1/payments/{id}/refunds", "/api/v1/payment/process", "/api/v1/payment/status",
    "/api/events/transaction", "/api/events/transaction/batch", "/v1/callbacks/mtnmomorwa",
    "/webhooks/razorpay", "/webhooks/paypal",
)  # fmt: skip


def fine(answer: httpx.Response) -> None:
    """Check that an answer is one a caller can understand; there is no ledger to read from."""
    no_books = answer.status_code == 503 and answer.json()["code"] == "books_unavailable"
    assert answer.status_code < 500 or no_books, (answer.request.url, answer.text)
    if answer.status_code >= 400:
        assert answer.json()["code"], answer.text


@pytest.fixture
async def fuzzing(gateway: Gateway) -> Any:
    """Sends one example to every path; the loop goes on between them."""
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()["id"]
    sound = {
        "/v1/payments": merchant.body(),
        "/api/v1/payment/process": merchant.fields(),
        "/api/events/transaction": {"transaction_id": "t", "event_type": "payment_failed"},
    }
    loop = asyncio.get_running_loop()

    async def post(content: bytes | dict[str, Any], key: str) -> None:
        headers = {**merchant.headers, "Prefer": "wait=0", "Idempotency-Key": key}
        for path in POSTS:
            body = content
            if isinstance(body, dict):
                whole = {**sound.get(path, {}), **body}
                body = json.dumps([whole] if path.endswith("batch") else whole).encode()
            method = "PUT" if path.startswith("/v1/callbacks") and len(body) % 2 else "POST"
            url = path.replace("{id}", made)
            fine(await gateway.http.request(method, url, content=body, headers=headers))

    async def get(path: str, query: dict[str, str]) -> None:
        fine(await gateway.http.get(path, params=query, headers=merchant.headers))

    async def call(headers: dict[str, str]) -> None:
        for path in ("/v1/payments", "/api/v1/payment/process", "/api/v1/auth/token"):
            body = json.dumps(merchant.body()).encode()
            raw = [(k.encode(), v.encode("utf-8", "replace")) for k, v in headers.items()]
            fine(await gateway.http.post(path, content=body, headers=raw))

    class Runner:
        post_ = staticmethod(lambda *args: loop.run_until_complete(post(*args)))
        get_ = staticmethod(lambda *args: loop.run_until_complete(get(*args)))
        call_ = staticmethod(lambda *args: loop.run_until_complete(call(*args)))

    return Runner


@FUZZ
@given(changes=st.dictionaries(MEMBERS | TEXT, VALUE, max_size=5))
def test_no_json_makes_a_500(fuzzing: Any, changes: dict[str, Any]) -> None:
    fuzzing.post_(changes, secrets.token_hex(8))


@FUZZ
@given(content=RAW)
def test_no_bytes_make_a_500(fuzzing: Any, content: bytes) -> None:
    fuzzing.post_(content, secrets.token_hex(8))


QUERY = st.sampled_from(
    ["status", "service", "reference", "from", "to", "limit", "cursor", "payment_id", "days",
     "currency", "start_date", "end_date", "field.f011", "field.", "field.f005", "at", "format",
     "kind", "state", "q", "number", "direction"]
)  # fmt: skip
SAFE_TEXT = TEXT.map(lambda text: text.encode("utf-8", "replace").decode())


@FUZZ
@given(
    path=st.sampled_from(
        [
            "/v1/payments",
            "/v1/refunds",
            "/api/dashboard/nothing",
            "/v1/balances",
            "/v1/statements",
            "/v1/journal-entries",
            "/v1/settlements",
            "/v1/payouts",
            "/v1/invoices",
            "/v1/customers",
            "/v1/reconciliation-exceptions",
        ]
    )
    | st.sampled_from(
        [
            "/v1/payments/",
            "/v1/refunds/",
            "/v1/callbacks/",
            "/",
            "/v1/settlements/",
            "/v1/invoices/",
            "/v1/payouts/",
            "/v1/journal-entries/",
        ]
    ).flatmap(lambda start: st.text("abc%/\\.0_-", max_size=20).map(lambda end: start + end)),
    query=st.dictionaries(QUERY | SAFE_TEXT, SAFE_TEXT, max_size=4),
)
def test_no_query_makes_a_500(fuzzing: Any, path: str, query: dict[str, str]) -> None:
    fuzzing.get_(path, query)


NAMES = st.sampled_from(
    ["Idempotency-Key", "Prefer", "X-API-Key", "Authorization", "App-ID", "X-Device-Id",
     "Content-Type", "X-Request-Id", "traceparent"]
)  # fmt: skip
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"))


@FUZZ
@given(headers=st.dictionaries(NAMES, HEADER | st.sampled_from(
    ["wait=99999999999999999999", "wait=-1", 'wait="5"', "Basic ", "Basic Og==", "Bearer ",
     "Bearer a.b.c", "mp_test_", "mp_test_a_b", "Basic /////w=="]), max_size=4))  # fmt: skip
def test_no_header_makes_a_500(fuzzing: Any, headers: dict[str, str]) -> None:
    fuzzing.call_(headers)
