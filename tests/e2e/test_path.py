"""One payment through all six services: what every side says of it agrees."""

import asyncio
import secrets
import time
from typing import Any

import aio_pika
import httpx
import orjson
import pytest
from jsonschema import Draft202012Validator
from mospay_dev.audit import Auditor
from mospay_dev.demo.portal import Portal
from mospay_dev.services import ROOT
from mospay_shared.contracts import MESSAGES, Envelope

from tests.conftest import LiveStack


def pay(live: LiveStack, key: str, **changes: Any) -> httpx.Response:
    """Send one payment with a key."""
    client = live.seed.clients[0]
    body = {
        "service": "collection",
        "route": "payment",
        "amount_minor": 1000,
        "currency": "RWF",
        "phone": "+250780000000",
        "reference": f"e2e-{key}",
    }
    return httpx.post(
        f"{live.seed.gateway_url}/v1/payments",
        json=body | changes,
        headers={"X-API-Key": client.api_key, "Idempotency-Key": key, "Prefer": "wait=20"},
        timeout=30,
    )


def test_every_scenario_of_the_story_agrees_on_all_sides(live_stack: LiveStack) -> None:
    payments = sorted(set(live_stack.payments.values()))
    audit = asyncio.run(Auditor(live_stack.stack, live_stack.seed).run(payments))
    assert not audit.faults and audit.repeats == 0
    assert audit.statuses == {"succeeded": 3, "failed": 1}


def test_the_trace_shows_a_hop_of_every_service(live_stack: LiveStack) -> None:
    portal = Portal(live_stack.portal_url)
    portal.sign_in(live_stack.admin_email, live_stack.admin_password, "admin")
    until = time.monotonic() + 15
    wanted = {"gateway", "payment-router", "ledger", "notifier", "reporter"}
    while True:
        trace = portal.get(f"/payments/{live_stack.payments['v1_success']}/trace")
        if wanted <= {hop["service"] for hop in trace["hops"]} or time.monotonic() > until:
            break
        time.sleep(0.2)
    assert wanted <= {hop["service"] for hop in trace["hops"]}
    assert trace["entries"] and trace["deliveries"] and not trace["unavailable"]


def test_async_payment_is_ended_by_its_callback_and_paid_once(live_stack: LiveStack) -> None:
    answer = pay(live_stack, secrets.token_hex(12), phone="+250780000005")
    payment = answer.json()["id"]
    audit = asyncio.run(Auditor(live_stack.stack, live_stack.seed).run([payment], seconds=60))
    assert not audit.faults and audit.statuses == {"succeeded": 1}


@pytest.mark.parametrize(
    ("phone", "ends"),
    [
        ("+250780000006", {"succeeded"}),
        ("+250780000007", {"succeeded"}),
        ("+250780000008", {"failed"}),
        ("+250780000009", {"conflicted"}),
        ("+250780000010", {"succeeded"}),
        ("+250780000011", {"succeeded"}),
        ("+250780000012", {"succeeded"}),
        ("+250780000014", {"failed"}),
    ],
)
def test_trouble_at_the_provider_ends_as_proven(
    live_stack: LiveStack, phone: str, ends: set[str]
) -> None:
    payment = pay(live_stack, secrets.token_hex(12), phone=phone).json()["id"]
    audit = asyncio.run(
        Auditor(live_stack.stack, live_stack.seed).run(
            [payment], seconds=100, webhooks="conflicted" not in ends
        )
    )
    assert not audit.doubled and not audit.guessed, audit.faults
    assert set(audit.statuses) == ends, audit.statuses


def test_same_key_other_payload_is_refused_and_no_key_is_named(live_stack: LiveStack) -> None:
    key = secrets.token_hex(12)
    assert pay(live_stack, key).status_code in (200, 201, 202)
    other = pay(live_stack, key, amount_minor=2000)
    assert other.status_code == 422
    assert other.headers["content-type"] == "application/problem+json"
    client = live_stack.seed.clients[0]
    missing = httpx.post(
        f"{live_stack.seed.gateway_url}/v1/payments",
        json={},
        headers={"X-API-Key": client.api_key},
    )
    assert missing.status_code == 400


def test_one_tenant_never_sees_the_other(live_stack: LiveStack) -> None:
    foreign = live_stack.payments["v1_success"]  # belongs to the second merchant
    first = live_stack.seed.clients[0]
    answer = httpx.get(
        f"{live_stack.seed.gateway_url}/v1/payments/{foreign}",
        headers={"X-API-Key": first.api_key},
    )
    assert answer.status_code == 404
    portal = httpx.Client(base_url=live_stack.portal_url)
    portal.post(
        "/bff/v1/session",
        json={"email": first.client_email, "password": first.client_password, "audience": "client"},
    ).raise_for_status()
    assert portal.get(f"/bff/v1/payments/{foreign}").status_code == 404
    assert portal.get(f"/bff/v1/payments/{foreign}/trace").status_code == 404


async def test_real_messages_on_the_wire_validate_against_the_committed_schemas(
    live_stack: LiveStack,
) -> None:
    connection = await aio_pika.connect(live_stack.stack.cluster.broker_url)
    seen: set[str] = set()
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        for exchange in ("mospay.commands", "mospay.events"):
            await queue.bind(await channel.get_exchange(exchange), "#")
        await asyncio.to_thread(pay, live_stack, secrets.token_hex(12))
        wanted = {
            "payments.process.v1", "payment.accepted.v1", "payment.succeeded.v1",
            "ledger.entry_posted.v1", "webhook.delivered.v1", "api.called.v1",
        }  # fmt: skip
        async with asyncio.timeout(30), queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    for item in orjson.loads(message.body):
                        envelope = Envelope.model_validate(item)
                        schema = ROOT / f"shared/schemas/{envelope.type}.json"
                        Draft202012Validator(orjson.loads(schema.read_bytes())).validate(
                            envelope.data
                        )
                        MESSAGES[envelope.type].model.model_validate(envelope.data)
                        assert envelope.traceparent or envelope.type == "api.called.v1"
                        seen.add(envelope.type)
                if wanted <= seen:
                    break
    assert wanted <= seen
