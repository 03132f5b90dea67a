"""What is done to a payment after it was accepted, through all six services."""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from mospay_dev.audit import Auditor
from mospay_dev.demo.portal import Portal

from tests.conftest import LiveStack

from .test_path import pay


def call(live: LiveStack, method: str, path: str, body: Any = None) -> httpx.Response:
    """Call the gateway as the first client, with a fresh key."""
    headers = {
        "X-API-Key": live.seed.clients[0].api_key,
        "Idempotency-Key": secrets.token_hex(12),
    }
    url = live.seed.gateway_url + path
    return httpx.request(method, url, json=body, headers=headers, timeout=30)


def until(check: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until a check returns something true, and return it."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.1)
    return found


def ended(live: LiveStack, path: str, *statuses: str) -> dict[str, Any]:
    """Wait until what is at a path has one of these statuses."""

    def reached() -> dict[str, Any] | None:
        found: dict[str, Any] = call(live, "GET", path).json()
        return found if found["status"] in statuses else None

    return dict(until(reached))


def books(live: LiveStack, payment_id: str) -> list[dict[str, Any]]:
    """Return the journal entries of a payment."""
    auditor = Auditor(live.stack, live.seed)
    answer = httpx.get(
        f"{live.stack.url('ledger')}/internal/v1/payments/{payment_id}/entries",
        headers=auditor._token("ledger", "ledger:read"),
    )
    entries: list[dict[str, Any]] = answer.json()["entries"]
    return entries


@pytest.mark.parametrize(
    ("cents", "ends"),
    [(0, "succeeded"), (1, "failed"), (5, "succeeded"), (7, "succeeded"), (8, "failed")],
)
def test_a_refund_ends_as_its_provider_proves_and_the_books_follow(
    live_stack: LiveStack, cents: int, ends: str
) -> None:
    payment = pay(live_stack, secrets.token_hex(12), amount_minor=10_000).json()["id"]
    ended(live_stack, f"/v1/payments/{payment}", "succeeded")
    made = call(
        live_stack, "POST", f"/v1/payments/{payment}/refunds", {"amount_minor": 400 + cents}
    )
    assert made.status_code in (200, 202), made.text
    refund = ended(live_stack, f"/v1/refunds/{made.json()['id']}", "succeeded", "failed")
    assert refund["status"] == ends, refund
    effects = httpx.post(
        f"{live_stack.seed.simulator_url}/_effects/refunds/query",
        json={"references": [refund["id"]]},
    ).json()
    assert effects.get(refund["id"], 0) == (ends == "succeeded")

    def told() -> bool:
        shown = call(live_stack, "GET", f"/v1/payments/{payment}").json()
        back = 400 + cents if ends == "succeeded" else 0
        return bool(shown["refunded_minor"] == back and not shown["refunds_open_minor"])

    until(told)
    kinds = until(lambda: len(found := books(live_stack, payment)) >= 3 and found)
    assert len(kinds) == 3, [entry["kind"] for entry in kinds]  # capture, reserved, ended
    audit = asyncio.run(Auditor(live_stack.stack, live_stack.seed).balanced_now())
    assert audit


def test_refunds_beyond_what_is_left_are_refused_at_once(live_stack: LiveStack) -> None:
    payment = pay(live_stack, secrets.token_hex(12)).json()["id"]
    ended(live_stack, f"/v1/payments/{payment}", "succeeded")
    path = f"/v1/payments/{payment}/refunds"
    assert call(live_stack, "POST", path, {"amount_minor": 900}).status_code in (200, 202)
    answer = call(live_stack, "POST", path, {"amount_minor": 200})
    assert answer.status_code == 422 and answer.json()["code"] == "refund_too_large"


def test_rule_04_retry_is_a_new_payment_that_names_the_old_one(live_stack: LiveStack) -> None:
    first = pay(live_stack, secrets.token_hex(12), phone="+250780000001").json()["id"]
    ended(live_stack, f"/v1/payments/{first}", "failed")
    reference = f"retry-{secrets.token_hex(8)}"
    path = f"/v1/payments/{first}/retry"
    again = call(live_stack, "POST", path, {"reference": reference})
    assert again.status_code in (200, 202), again.text
    body = again.json()
    assert body["retry_of"] == first and body["id"] != first
    ended(live_stack, f"/v1/payments/{body['id']}", "failed")
    assert call(live_stack, "GET", f"/v1/payments/{first}").json()["status"] == "failed"


def test_cancel_of_a_payment_that_was_sent_changes_nothing(live_stack: LiveStack) -> None:
    payment = call(
        live_stack,
        "POST",
        "/v1/payments",
        {
            "service": "collection",
            "route": "payment",
            "amount_minor": 1000,
            "currency": "RWF",
            "phone": "+250780000005",
            "reference": secrets.token_hex(8),
        },
    ).json()["id"]
    answer = call(live_stack, "POST", f"/v1/payments/{payment}/cancel")
    assert answer.status_code in (202, 409), answer.text
    assert ended(live_stack, f"/v1/payments/{payment}", "succeeded", "cancelled")
    audit = asyncio.run(Auditor(live_stack.stack, live_stack.seed).run([payment], seconds=60))
    assert not audit.faults


def test_two_people_end_a_conflicted_payment_with_evidence(live_stack: LiveStack) -> None:
    payment = pay(live_stack, secrets.token_hex(12), phone="+250780000009").json()["id"]
    ended(live_stack, f"/v1/payments/{payment}", "conflicted")
    first, second = Portal(live_stack.portal_url), Portal(live_stack.portal_url)
    first.sign_in(live_stack.admin_email, live_stack.admin_password, "admin")
    email, password = f"{secrets.token_hex(6)}@mospay.example", secrets.token_urlsafe(18)
    first.post(
        "/users",
        {
            "audience": "admin",
            "name": "Second",
            "email": email,
            "role": "owner",
            "password": password,
        },
    )
    second.sign_in(email, password, "admin")
    version = call(live_stack, "GET", f"/v1/payments/{payment}").json()["version"]
    said = {"outcome": "succeeded", "evidence": "line 14 of the statement", "version": version}
    proposed = first.post(f"/payments/{payment}/resolutions", said)
    with pytest.raises(Exception, match="second person"):
        first.post(f"/resolutions/{proposed['id']}/approve", {})
    assert second.post(f"/resolutions/{proposed['id']}/approve", {})["state"] == "approved"
    ended(live_stack, f"/v1/payments/{payment}", "succeeded")
    assert until(lambda: books(live_stack, payment))
