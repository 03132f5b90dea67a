"""HTTP in: both APIs, faults by field, reads of one tenant, callbacks, the API log."""

import asyncio
import base64
import json
import secrets
import time
from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import FieldDefinitionV1, PaymentStatus, ProcessPaymentV1

from .conftest import Gateway, Tap, eventually, new_merchant, newer, news, running, wire


def named(answer: httpx.Response) -> set[tuple[str, str]]:
    """Return (field, code) of every fault an answer names."""
    return {(fault["field"], fault["code"]) for fault in answer.json()["errors"]}


async def test_accepted_payment_is_answered_202_with_where_to_look(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.pay(merchant)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"/v1/payments/{body['id']}"
    assert answer.headers["retry-after"] == "1"
    assert body["status"] == "processing" and body["phone"] == "**********000"
    found = await gateway.http.get(answer.headers["location"], headers=merchant.headers)
    assert found.status_code == 200 and found.json()["id"] == body["id"]


async def test_prefer_wait_is_answered_with_the_outcome(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    waiting = asyncio.create_task(gateway.pay(merchant, wait=20, reference="r"))
    row = await eventually(
        lambda: gateway.sql.fetchrow(
            "select id from payments where client_id = $1", merchant.client.client_id
        )
    )
    await gateway.publish(*wire(news({"id": row["id"]}, merchant)))
    answer = await waiting
    assert answer.status_code == 200 and answer.json()["status"] == "succeeded"
    assert answer.json()["provider_reference"] == "sim_1"


async def test_the_wait_ends_with_202_when_the_time_is_up(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    started = time.monotonic()
    answer = await gateway.pay(merchant, wait=1)
    assert answer.status_code == 202 and 0.9 < time.monotonic() - started < 15


async def test_waiters_get_202_when_the_service_is_stopping(gateway: Gateway) -> None:
    merchant, started = await gateway.merchant(), time.monotonic()
    waiting = asyncio.create_task(gateway.pay(merchant, wait=60))
    of_client = ("payments", "client_id = $1", merchant.client.client_id)
    await eventually(lambda: gateway.count(*of_client))
    gateway.service.stopping.set()
    answer = await waiting
    assert answer.status_code == 202 and time.monotonic() - started < 30


async def test_field_api_answers_with_the_final_result_by_default(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    await gateway.tell(newer(merchant.client, answer_wait_seconds=30))
    for status, http, word, outcome in (
        (PaymentStatus.SUCCEEDED, 200, "200", "succeeded"),
        (PaymentStatus.FAILED, 200, "402", "failed"),
    ):
        body = merchant.fields()
        waiting = asyncio.create_task(
            gateway.http.post(
                "/api/v1/payment/process",
                json=body,
                headers={"App-ID": merchant.app_id},
                auth=(merchant.username, merchant.password),
            )
        )
        by_reference = "select id from payments where reference = $1"
        row = await eventually(partial(gateway.sql.fetchrow, by_reference, body["f010"]))
        await gateway.publish(*wire(news({"id": row["id"]}, merchant, status=status)))
        answer = await waiting
        shown = answer.json()
        assert answer.status_code == http and shown["status"] == word
        assert shown["payment_id"] == row["id"] and shown["outcome"] == outcome
        assert {"type", "message", "version", "action", "command"} <= shown.keys()
        assert shown["reference"] == body["f010"] and shown["amount"] == "1000"


async def test_field_api_answers_202_processing_after_the_clients_own_wait(
    gateway: Gateway,
) -> None:
    merchant = await gateway.merchant()  # answer_wait_seconds is 1
    answer = await gateway.http.post(
        "/api/v1/payment/process", json=merchant.fields(f010="x"), headers=merchant.headers
    )
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["type"]) == ("202", "processing")
    status = await gateway.http.post(
        "/api/v1/payment/status", json=merchant.fields(f010="x"), headers=merchant.headers
    )
    assert status.status_code == 202
    assert status.json()["payment_id"] == answer.json()["payment_id"]
    unknown = await gateway.http.post(
        "/api/v1/payment/status", json={"f010": "never"}, headers=merchant.headers
    )
    assert unknown.status_code == 404 and unknown.json()["type"] == "error"


async def test_client_sees_its_services_and_profile(gateway: Gateway) -> None:
    merchant, other = await gateway.merchant(), await gateway.merchant()
    shown = await gateway.http.get("/api/v1/client/services", headers=merchant.headers)
    assert [s["f001"] for s in shown.json()["services"]] == [merchant.service.name]
    assert other.service.name not in shown.text
    profile = await gateway.http.get("/api/v1/client/profile", headers=merchant.headers)
    assert profile.json()["profile"]["app_id"] == merchant.app_id


async def test_every_fault_of_v1_is_named_at_once(gateway: Gateway) -> None:
    definitions = [
        FieldDefinitionV1(code="f011", label="Meter", type="number", max_value="99"),
        FieldDefinitionV1(code="f012", label="Plan", required=False, enum=["day", "week"]),
        FieldDefinitionV1(code="f013", label="Code", required=False, regex="[A-Z]{3}"),
    ]
    merchant = await gateway.merchant(fields=definitions)
    answer = await gateway.pay(
        merchant,
        route="refund",
        amount_minor=50,
        currency="USD",
        phone="0780000000",
        reference="a\x00b",
        customer_id="",
        colour="red",
        fields={"f011": "100", "f012": "year", "f013": "abc", "f010": "x", "f099": "?", "no": "x"},
        metadata={"k": 5},
    )
    assert answer.status_code == 422
    assert named(answer) >= {
        ("route", "unknown_route"),
        ("amount_minor", "amount_too_small"),
        ("currency", "wrong_currency"),
        ("phone", "invalid_phone"),
        ("reference", "string_pattern_mismatch"),
        ("customer_id", "string_too_short"),
        ("colour", "extra_forbidden"),
        ("fields.f011", "too_large"),
        ("fields.f012", "not_allowed"),
        ("fields.f013", "wrong_format"),
        ("fields.f010", "not_here"),
        ("fields.f099", "unknown_field"),
        ("fields.no", "unknown_field"),
        ("metadata.k", "string_type"),
    }


async def test_every_fault_of_the_field_api_is_named_at_once(gateway: Gateway) -> None:
    merchant = await gateway.merchant(
        fields=[FieldDefinitionV1(code="f006", label="User", min_length=3)]
    )
    body = merchant.fields(
        f003="another", f004="10.505", f005="12", f006="ab", f010=None, f042="x", nope="x"
    )
    answer = await gateway.http.post("/api/v1/payment/process", json=body, headers=merchant.headers)
    assert answer.status_code == 422
    assert named(answer) == {
        ("f003", "wrong_app_id"),
        ("f004", "too_precise"),
        ("f005", "invalid_phone"),
        ("f006", "too_short"),
        ("f010", "required"),
        ("f042", "unknown_field"),
        ("nope", "unknown_field"),
    }
    empty = await gateway.http.post("/api/v1/payment/process", json={}, headers=merchant.headers)
    assert {f for f, _ in named(empty)} >= {"f000", "f001", "f003", "f010"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"service": "nowhere"}, ("service", "unknown_service")),
        ({"service": None}, ("service", "required")),
        ({"microservice": "other"}, ("microservice", "unknown_service")),
        ({"amount_minor": "1000"}, ("amount_minor", "int_type")),
        ({"amount_minor": 10.0}, ("amount_minor", "int_type")),
        ({"amount_minor": 0}, ("amount_minor", "greater_than")),
        ({"amount_minor": 2**63}, ("amount_minor", "less_than_equal")),
        ({"amount_minor": 5_000_001}, ("amount_minor", "amount_too_large")),
        ({"phone": None}, ("phone", "required")),
        ({"phone": "+250" + "9" * 40}, ("phone", "string_too_long")),
        ({"reference": ""}, ("reference", "string_too_short")),
        ({"reference": "x" * 256}, ("reference", "string_too_long")),
        ({"fields": {"f008": "x" * 5000}}, ("fields.f008", "string_too_long")),
        ({"fields": []}, ("fields", "dict_type")),
        ({"metadata": {"a": "\x00"}}, ("metadata.a", "string_pattern_mismatch")),
    ],
)
async def test_malformed_member_is_named(
    gateway: Gateway, change: dict[str, Any], fault: tuple[str, str]
) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.pay(merchant, **change)
    assert answer.status_code == 422 and fault in named(answer), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"\xff", 400), (b'"\\ud800"', 400), (b"[]", 422), (b"null", 422),
     (b"[" * 5000, 400), (b"{}", 422), (b"x" * 1_100_000, 413)],
)  # fmt: skip
async def test_unreadable_body_is_a_problem(gateway: Gateway, body: bytes, status: int) -> None:
    merchant = await gateway.merchant()
    headers = {**merchant.headers, "Idempotency-Key": "k" + secrets.token_hex(4)}
    for path in ("/v1/payments", "/api/v1/payment/process", "/api/v1/payment/status"):
        answer = await gateway.http.post(path, content=body, headers=headers)
        assert answer.status_code == status, (path, answer.text)
        assert answer.json()["code"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = st.sampled_from(
    ["service", "microservice", "route", "amount_minor", "currency", "phone", "reference",
     "customer_id", "fields", "metadata", *(f"f{n:03}" for n in range(13))]
)  # fmt: skip


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=st.dictionaries(_MEMBERS | st.text(), _JSON, max_size=4), sure=st.booleans())
def test_no_body_makes_a_500(fuzzing: Any, changes: dict[str, Any], sure: bool) -> None:
    for path, status in fuzzing(changes, sure):
        assert status in (200, 202, 400, 404, 409, 413, 422), (path, status)


@pytest.fixture
async def fuzzing(gateway: Gateway) -> Any:
    """Send bodies from hypothesis' thread of control; the loop runs between."""
    merchant = await gateway.merchant()
    loop = asyncio.get_running_loop()

    async def send(changes: dict[str, Any], sure: bool) -> list[tuple[str, int]]:
        headers = {**merchant.headers, "Prefer": "wait=0", "Idempotency-Key": secrets.token_hex(8)}
        found = []
        for path, base in (
            ("/v1/payments", merchant.body()),
            ("/api/v1/payment/process", merchant.fields()),
            ("/api/v1/payment/status", {"f010": "x"}),
        ):
            body = json.dumps({**(base if sure else {}), **changes}).encode()
            answer = await gateway.http.post(path, content=body, headers=headers)
            found.append((path, answer.status_code))
        return found

    return lambda changes, sure: loop.run_until_complete(send(changes, sure))


async def test_two_services_of_one_name_need_their_microservice(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    twin = new_merchant(gateway.env, name=merchant.service.name).service
    grant = newer(merchant.assignment, assignment_id="asg_" + secrets.token_hex(16))
    await gateway.tell(twin, grant.model_copy(update={"service_id": twin.service_id}))
    vague = await gateway.pay(merchant)
    assert named(vague) == {("microservice", "ambiguous_service")}
    exact = await gateway.pay(merchant, microservice=twin.microservice)
    assert exact.status_code == 202 and exact.json()["microservice"] == twin.microservice


async def test_secrets_are_in_no_row_and_no_message_in_clear(gateway: Gateway, tap: Tap) -> None:
    merchant = await gateway.merchant(
        fields=[FieldDefinitionV1(code="f011", label="PIN", type="secret", required=False)]
    )
    words = {"f007": "word-" + secrets.token_hex(8), "f008": "word-" + secrets.token_hex(8)}
    words["f011"] = "word-" + secrets.token_hex(8)
    body = merchant.fields(**words)
    answer = await gateway.http.post(
        "/api/v1/payment/process", json=body, headers={**merchant.headers, "Prefer": "wait=0"}
    )
    payment = answer.json()["payment_id"]
    event = await tap.about(payment, "payments.process.v1")
    await tap.about(payment, "payment.accepted.v1")
    await tap.about(answer.headers["x-request-id"], "api.called.v1")
    text = json.dumps(tap.seen, default=str)
    for table in ("payments", "outbox", "idempotency_keys", "payment_references"):
        text += str([dict(row) for row in await gateway.sql.fetch(f"select * from {table}")])
    assert not [word for word in words.values() if word in text]
    command = ProcessPaymentV1.model_validate(event["data"])
    assert command.secrets is not None and not set(words) & set(command.fields)
    opened = Sealer(gateway.env["GATEWAY_SECRETS_KEY"]).open(command.secrets, payment)
    assert opened == words
    assert command.fields["f004"] == "1000.00" and command.amount_minor == 1000


async def test_command_names_the_newest_version_it_rests_on(gateway: Gateway, tap: Tap) -> None:
    merchant = await gateway.merchant()
    payment = (await gateway.pay(merchant)).json()["id"]
    data = (await tap.about(payment, "payments.process.v1"))["data"]
    assert data["directory_version"] == merchant.assignment.version, "not that of a credential"
    window = ProcessPaymentV1.model_validate(data)
    assert (window.send_before - window.accepted_at).total_seconds() == 900


async def test_one_tenant_never_sees_the_other(gateway: Gateway) -> None:
    one, other = await gateway.merchant(), await gateway.merchant()
    payment = (await gateway.pay(one, reference="mine")).json()["id"]
    for path in (f"/v1/payments/{payment}", "/v1/payments/pay_x%00", "/v1/payments/nonsense"):
        answer = await gateway.http.get(path, headers=other.headers)
        assert answer.status_code == 404, path
    listed = await gateway.http.get("/v1/payments", headers=other.headers)
    assert listed.json()["items"] == []
    status = await gateway.http.post(
        "/api/v1/payment/status", json={"f010": "mine"}, headers=other.headers
    )
    assert status.status_code == 404


async def test_list_pages_by_key_and_filters(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    made = [(await gateway.pay(merchant, reference=f"r{n}")).json()["id"] for n in range(5)]

    async def ask(**query: Any) -> Any:
        answer = await gateway.http.get("/v1/payments", params=query, headers=merchant.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    first = await ask(limit=3)
    rest = await ask(limit=3, cursor=first["next_cursor"])
    assert [p["id"] for p in first["items"] + rest["items"]] == made[::-1]
    assert rest["next_cursor"] is None
    assert [p["id"] for p in (await ask(reference="r2"))["items"]] == [made[2]]
    assert (await ask(status="failed,succeeded"))["items"] == []
    assert len((await ask(**{"from": "2020-01-01T00:00:00Z"}))["items"]) == 5
    assert (await ask(to="2020-01-01T00:00:00Z"))["items"] == []
    for wrong in (
        {"status": "paid"},
        {"limit": 0},
        {"cursor": "x"},
        {"from": "yesterday"},
        {"who": "me"},
        {"reference": ["r1", "r2"]},
    ):
        answer = await gateway.http.get("/v1/payments", params=wrong, headers=merchant.headers)
        assert answer.status_code == 422 and answer.json()["errors"], wrong


async def test_query_parameter_given_twice_is_refused_by_its_name(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    for path, name in (("/v1/customers?q=a&q=b", "q"), ("/v1/payments?limit=1&limit=2", "limit")):
        answer = await gateway.http.get(path, headers=merchant.headers)
        assert answer.status_code == 422, answer.text
        faults = answer.json()["errors"]
        assert [(f["field"], f["code"]) for f in faults] == [(name, "repeated")]


async def test_callback_is_stored_byte_for_byte_and_queued(gateway: Gateway, tap: Tap) -> None:
    merchant = await gateway.merchant()
    raw = b'{"a": "\\u0000"}\x00\xff raw'
    answer = await gateway.http.put(
        f"/v1/callbacks/{merchant.service.microservice}",
        content=raw,
        headers={
            "X-Signature": "abc", "Cookie": "session=1", "Authorization": "Bearer no",
            "X-Forwarded-For": "10.0.0.1", "Content-Type": "application/json",
        },
    )  # fmt: skip
    assert answer.status_code == 200 and answer.json()["received"] is True
    callback = answer.json()["callback_id"]
    row = await gateway.sql.fetchrow("select * from callbacks where id = $1", callback)
    assert row is not None and row["body"] == raw and row["method"] == "PUT"
    data = (await tap.about(callback, "payments.callback.v1"))["data"]
    assert base64.b64decode(data["body_base64"]) == raw
    assert data["service_id"] == merchant.service.service_id
    kept = {"x-signature", "content-type", "user-agent"}
    assert set(data["headers"]) == kept and data["headers"]["x-signature"] == "abc"


async def test_callback_aliases_limits_and_unknown_names(gateway: Gateway) -> None:
    for path in ("/webhooks/razorpay", "/webhooks/paypal", "/v1/callbacks/nobody_knows"):
        answer = await gateway.http.post(path, content=b"{}")
        assert answer.status_code == 200, path
    row = await gateway.sql.fetchrow(
        "select * from callbacks where id = $1", answer.json()["callback_id"]
    )
    assert row is not None and row["service_id"] is None
    big = await gateway.http.post("/v1/callbacks/x", content=b"x" * 140_000)
    assert big.status_code == 413
    assert (await gateway.http.post("/v1/callbacks/no%20way", content=b"")).status_code == 422
    assert (await gateway.http.post("/webhooks/stripe", content=b"")).status_code == 404


async def test_api_log_tells_of_calls_without_secrets(gateway: Gateway, tap: Tap) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.pay(merchant, fields={"f008": "hush"})
    data = (await tap.about(answer.headers["x-request-id"], "api.called.v1"))["data"]
    assert data["payment_id"] == answer.json()["id"]
    assert (data["method"], data["path"], data["status"]) == ("POST", "/v1/payments", 202)
    assert data["client_id"] == merchant.client.client_id and data["mode"] == "test"
    body = json.loads(data["request_body"])
    assert body["fields"]["f008"] == "[redacted]" and body["phone"] == "**********000"
    refused = await gateway.pay(merchant, amount_minor=1)
    data = (await tap.about(refused.json()["request_id"], "api.called.v1"))["data"]
    assert data["error_code"] == "invalid_request" and data["status"] == 422


async def test_cors_lets_the_configured_origin_in_and_no_other(gateway: Gateway) -> None:
    for origin, allowed in (("https://shop.example", True), ("https://evil.example", False)):
        answer = await gateway.http.options(
            "/v1/payments",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "idempotency-key",
            },
        )
        assert ("access-control-allow-origin" in answer.headers) is allowed


async def test_trace_has_the_http_hop_of_a_payment(gateway: Gateway, infrastructure: Any) -> None:
    merchant = await gateway.merchant()
    payment = (await gateway.pay(merchant)).json()["id"]
    signer = TokenSigner("portal-api", infrastructure.keys["portal_signing"])
    answer = await gateway.http.get(
        f"/internal/v1/traces/{payment}",
        headers={"Authorization": f"Bearer {signer.token('gateway', 'trace:read')}"},
    )
    hops = [hop for hop in answer.json()["hops"] if hop["kind"] == "http"]
    assert [hop["name"] for hop in hops] == ["POST /v1/payments"]
    assert hops[0]["data"]["phone"] == "**********000" and hops[0]["outcome"] == "ok"


async def test_database_away_is_503_in_the_shape_of_the_api(
    gateway: Gateway, gateway_env: dict[str, str]
) -> None:
    """Without its database the gateway starts, refuses with 503, and never says 401."""
    nowhere = "postgresql://nobody:x@127.0.0.1:1/none"
    async with running(
        gateway_env, GATEWAY_DATABASE_URL=nowhere, GATEWAY_WORKER_DATABASE_URL=nowhere
    ) as (_, lonely):
        for path in ("/v1/payments", "/api/v1/payment/process"):
            answer = await lonely.post(path, json={}, headers={"X-API-Key": "mp_test_a_b"})
            assert answer.status_code == 503 and answer.headers["retry-after"]
            assert answer.json()["code"] == "directory_incomplete"
        callback = await lonely.post("/v1/callbacks/sim", content=b"{}")
        assert callback.status_code == 503 and callback.headers["retry-after"]


@pytest.mark.parametrize("path", ["messages?subject=%00", "traces/%00"])
async def test_nul_in_a_parameter_is_a_problem(
    gateway: Gateway, infrastructure: Any, path: str
) -> None:
    signer = TokenSigner("portal-api", infrastructure.keys["portal_signing"])
    token = signer.token("gateway", "trace:read messages:read")
    headers = {"Authorization": f"Bearer {token}"}
    answer = await gateway.http.get(f"/internal/v1/{path}", headers=headers)
    assert answer.status_code == 422 and answer.json()["code"] == "invalid_text"


async def test_405_names_every_method_of_the_path(gateway: Gateway) -> None:
    answer = await gateway.http.request("DELETE", "/v1/payments")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, POST"
    assert answer.json()["code"] == "method_not_allowed"


async def test_times_are_rfc_3339_text(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    for value, status in (("2026-01-31T09:30:00Z", 200), ("0.5", 422), ("1700000000", 422),
                          ("2026-01-31T09:30:00", 422), ("2026-01-31", 422)):  # fmt: skip
        answer = await gateway.http.get(
            "/v1/payments", params={"from": value}, headers=merchant.headers
        )
        assert answer.status_code == status, value
