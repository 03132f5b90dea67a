"""Whatever a browser sends, the answer is a 4xx that names the field: never a 500."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Browser, Portal

BODIES: dict[str, dict[str, Any]] = {
    "POST /session": {"email": "a@example.com", "password": "p", "audience": "client"},
    "POST /companies": {"name": "x"},
    "POST /clients": {
        "company_id": "c", "name": "x", "currency": "RWF", "time_zone": "UTC",
        "answer_wait_seconds": 30, "app_ids": {"live": "abc", "test": "abd"},
    },
    "PATCH /clients/cli_x": {"name": "x", "active": True, "version": 1},
    "POST /services": {
        "microservice": "m", "name": "n", "title": "t", "currency": "RWF",
        "urls": {"test": "http://x"}, "routes": ["payment"], "limits": {"min_minor": 1},
        "fields": [{"code": "f011", "label": "l", "regex": "a", "min_length": 1}],
        "payer_window_seconds": 60, "provider_timeout_seconds": 5, "connector": {"a": 1},
    },
    "PATCH /services/svc_x": {"title": "x", "connector": {"a": 1}, "version": 1},
    "POST /assignments": {"client_id": "c", "service_id": "s"},
    "PATCH /assignments/asg_x": {"active": True, "version": 1},
    "POST /clients/cli_x/credentials": {"mode": "live", "kind": "api_key"},
    "POST /clients/cli_x/endpoints": {"mode": "live", "url": "https://x", "event_types": ["a"]},
    "POST /payments/pay_x/review": {"decision": "release", "note": "why", "version": 2},
    "POST /refunds/ref_x/resolutions": {
        "outcome": "failed", "reason": "it was not made", "evidence": "the statement", "version": 2,
    },
    "POST /risk/rules": {"client_id": "c", "mode": "test", "rule": {"a": 1}, "active": True,
                         "version": 0},
    "PUT /risk/rules/rsk_x": {"mode": "test", "rule": {"a": 1}, "version": 1},
    "POST /risk/lists": {"mode": "test", "list": "block", "kind": "ip", "value": "10.0.0.1",
                         "reason": "why", "expires_at": "2999-01-01T00:00:00Z"},
    "PUT /risk/thresholds/test": {"hold_at": 1, "refuse_at": 2, "version": 1},
    "PUT /issuers?mode=test": {"name": "x", "colour": "#000000", "version": 0},
    "POST /customers?mode=test": {"name": "x", "email": "a@example.com", "active": True},
    "POST /invoices?mode=test": {
        "customer_id": "cus_x", "currency": "RWF", "due_on": "2026-12-01", "notes": "x",
        "lines": [{"description": "x", "quantity": "1", "unit_price_minor": 1}],
    },
    "POST /invoices/inv_x/void?mode=test": {"reason": "why", "version": 1},
    "POST /fee-plans": {
        "mode": "test", "currency": "RWF", "basis_points": 100, "fixed_minor": 1, "min_minor": 1,
        "max_minor": 9, "tiers": [{"from_minor": 0, "basis_points": 1}], "fee_on_refund": "keep",
        "effective_from": "2999-01-01T00:00:00Z", "client_id": "c", "id": "plan_x",
    },
    "POST /journal-entries/ent_x/reversals": {"kind": "reversal", "reason": "why"},
    "POST /users": {
        "audience": "client", "company_id": "c", "name": "x", "email": "a@example.com",
        "role": "owner", "password": "123456789012",
    },
}  # fmt: skip
ODD = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 2**63, 10**40, 1.5, float("nan"), float("inf"), "", " ", "\x00",
         "a\x00b", "\ud800", "x" * 5000, "é" * 300, [], {}, [[]], {"\x00": 1}, {"\udfff": "\x00"},
         "9" * 50]
    ),
    st.text(max_size=20),
    st.integers(),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=6,
    ),
)  # fmt: skip


@pytest.fixture
async def admin(portal: Portal) -> Browser:
    """A signed-in admin."""
    return await portal.admin()


def encode(body: Any) -> bytes:
    """JSON as a careless client makes it: NaN and lone surrogates included."""
    import json

    return json.dumps(body).encode()


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(route=st.sampled_from(sorted(BODIES)), data=st.data())
def test_no_body_is_a_500(
    portal: Portal, admin: Browser, event_loop_runner: Any, route: str, data: st.DataObject
) -> None:
    body = dict(BODIES[route])
    field = data.draw(st.sampled_from([*body, "unknown_field"]))
    body[field] = data.draw(ODD)
    answer = event_loop_runner(admin, route, encode(body))
    assert answer.status_code < 500 or answer.status_code == 503, (route, body, answer.text)
    if answer.status_code == 422:
        assert answer.json()["errors"], answer.text


@pytest.fixture
def event_loop_runner() -> Any:
    """Run a request from a hypothesis test, which is no coroutine itself."""
    import asyncio

    def run(admin: Browser, route: str, content: bytes) -> Any:
        method, _, path = route.partition(" ")
        headers = {"X-CSRF-Token": admin.csrf, "Content-Type": "application/json"}
        return asyncio.get_event_loop().run_until_complete(
            admin.http.request(method, "/bff/v1" + path, content=content, headers=headers)
        )

    return run


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 5000, b'{"name": 1e999}',
     b'{"name": "x", "name": 7}', b"1" * 5000],
)  # fmt: skip
async def test_body_that_is_no_object_is_a_problem(admin: Browser, content: bytes) -> None:
    headers = {"X-CSRF-Token": admin.csrf, "Content-Type": "application/json"}
    answer = await admin.http.post("/bff/v1/companies", content=content, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/payments?mode=dead",
        "/payments?mode=test&limit=0",
        "/payments?mode=test&limit=999",
        "/payments?mode=test&client_id=%00",
        "/dashboard?mode=test&range=1y",
        "/dashboard?mode=test&currency=rwf",
        "/stream?topics=",
        "/journal-entries",
        "/journal-entries?mode=test&kind=Cash",
        "/journal-entries?mode=test&from=yesterday",
        "/journal-entries?mode=test&to=2026-01-01T00:00:00",
        "/journal-entries?mode=test&from=0001-01-01T00:00:00%2B14:00",
        "/journal-entries?mode=test&payment_id=%00",
        "/balances?mode=test",
        "/trial-balance?mode=test&as_of=soon",
        "/trial-balance?mode=test&as_of=9999-12-31T23:59:59-14:00",
        "/journal/verify?from=0",
        "/reversals?mode=test&state=done",
        "/fee-plans?mode=demo",
    ],
)
async def test_bad_query_is_named(admin: Browser, path: str) -> None:
    answer = await admin.get(path)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"], answer.text


@pytest.mark.parametrize(
    "name", ["%00", "a%20b", "..%2Fx", "x%3Fy=1", "pay_1", "%F0%9F", "a" * 200]
)
async def test_id_that_can_not_be_one_is_not_found(admin: Browser, name: str) -> None:
    for path in (f"/payments/{name}", f"/payments/{name}/trace", f"/clients/{name}/credentials"):
        answer = await admin.get(path)
        assert answer.status_code in (404, 422), (path, answer.text)


async def test_body_beyond_the_limit_is_refused(admin: Browser) -> None:
    answer = await admin.send("POST", "/companies", {"name": "x" * 300_000})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"limits": {"min_minor": 5, "max_minor": 4}}, "limits.min_minor"),
        ({"limits": {"max_minor": 5, "daily_minor": 4}}, "limits.max_minor"),
        ({"urls": {"test": "http://user:pw@x"}}, "urls.test"),
        ({"urls": {"prod": "http://x"}}, "urls"),
        ({"routes": ["a", "b", "a"]}, "routes.2"),
        ({"fields": [{"code": "f011", "label": "x", "regex": "("}]}, "fields.0.regex"),
        ({"fields": [{"code": "f011", "label": "x", "enum": []}]}, "fields.0.enum"),
        ({"fields": [{"code": "f011", "label": "x"}] * 2}, "fields.1.code"),
        ({"fields": [{"code": "f11", "label": "x"}]}, "fields.0.code"),
        (
            {"fields": [{"code": "f011", "label": "x", "min_length": 5, "max_length": 4}]},
            "fields.0.min_length",
        ),
        ({"currency": "RWANDA"}, "currency"),
        ({"connector": {"a": "\x00"}}, "connector.a"),
        ({"provider_timeout_seconds": 0}, "provider_timeout_seconds"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_fault_of_a_service_names_its_field(
    admin: Browser, changes: dict[str, Any], field: str
) -> None:
    answer = await admin.send("POST", "/services", {**BODIES["POST /services"], **changes})
    assert answer.status_code == 422, answer.text
    assert field in {fault["field"] for fault in answer.json()["errors"]}, answer.text


async def test_change_of_a_service_is_checked_with_what_stays(admin: Browser) -> None:
    from mospay_shared.ids import new_id

    body = {**BODIES["POST /services"], "microservice": new_id("m")[-20:]}
    body["limits"] = {"min_minor": 50}
    made = (await admin.send("POST", "/services", body)).json()
    change = {"limits": {"min_minor": 50, "max_minor": 10}, "version": made["version"]}
    answer = await admin.send("PATCH", f"/services/{made['id']}", change)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "limits.min_minor"
