"""payment.succeeded into the books: once, whole, whatever order or repeats it arrives in."""

import asyncio
import datetime as dt
from typing import Any

import aio_pika
import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mospay_ledger import usecases
from mospay_ledger.domain import FeePlan
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import Envelope, Event, PaymentEventV1, PaymentStatus, outgoing
from mospay_shared.ids import new_id

PLAN = FeePlan("p", 200, 0)


def succeeded(**changes: Any) -> PaymentEventV1:
    """A succeeded payment."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "payment_id": new_id("pay"),
        "client_id": new_id("cli"),
        "mode": "test",
        "app_id": "app",
        "service_id": "svc",
        "microservice": "simulator",
        "service": "collection",
        "route": "payment",
        "amount_minor": 1500,
        "currency": "RWF",
        "status": PaymentStatus.SUCCEEDED,
        "version": 2,
        "reference": "r",
        "attempt_id": new_id("att"),
        "accepted_at": now,
        "occurred_at": now,
    }
    return PaymentEventV1(**(values | changes))


def wire(body: PaymentEventV1) -> bytes:
    """The event as it travels."""
    return outgoing("payment.succeeded.v1", body.payment_id, body, source="t").body


async def send(ledger: Service, *bodies: bytes) -> None:
    """Publish packs of one."""
    connection = await aio_pika.connect(ledger.broker.url)
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange("mospay.events")
        for body in bodies:
            await exchange.publish(aio_pika.Message(b"[" + body + b"]"), "payment.succeeded.v1")


async def entries(ledger: Service, payment_id: str) -> list[Any]:
    """A payment's entries."""
    async with ledger.database.transaction() as tx:
        return await tx.fetch("select * from journal_entries where payment_id = $1", payment_id)


async def booked(ledger: Service, payment_id: str, count: int = 1) -> list[Any]:
    """Wait until a payment has entries."""
    for _ in range(600):
        found = await entries(ledger, payment_id)
        if len(found) >= count:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"{payment_id} was not booked")


async def test_repeated_event_posts_once(ledger: Service) -> None:
    body, after = succeeded(), succeeded()
    event = wire(body)
    await send(ledger, event, event, event, wire(after))
    await booked(ledger, after.payment_id)
    found = await booked(ledger, body.payment_id)
    assert len(found) == 1
    assert (found[0]["amount_minor"], found[0]["fee_minor"]) == (1500, 30)


async def test_two_events_of_one_effect_post_once(ledger: Service) -> None:
    body, after = succeeded(), succeeded()
    await send(ledger, wire(body), wire(body.model_copy(update={"version": 5})), wire(after))
    await booked(ledger, after.payment_id)
    assert len(await entries(ledger, body.payment_id)) == 1


async def test_second_capture_of_a_payment_is_owed_back(ledger: Service) -> None:
    body = succeeded()
    again = body.model_copy(update={"attempt_id": new_id("att"), "version": 4})
    await send(ledger, wire(body), wire(again))
    found = await booked(ledger, body.payment_id, 2)
    assert sorted(row["kind"] for row in found) == ["capture", "second_capture"]


async def test_late_success_is_booked(ledger: Service) -> None:
    body = succeeded(late=True, previous_status=PaymentStatus.FAILED)
    await send(ledger, wire(body))
    assert (await booked(ledger, body.payment_id))[0]["late"]


async def test_amount_beyond_the_books_is_dead_and_the_rest_of_its_pack_posts(
    ledger: Service,
) -> None:
    huge, good = succeeded(amount_minor=2**63 - 1), succeeded()
    connection = await aio_pika.connect(ledger.broker.url)
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange("mospay.events")
        pack = b"[" + wire(huge) + b"," + wire(good) + b"]"
        await exchange.publish(aio_pika.Message(pack), "payment.succeeded.v1")
    await booked(ledger, good.payment_id)
    async with ledger.database.transaction() as tx:
        row = await tx.row("select state, reason from inbox where subject = $1", huge.payment_id)
    assert row is not None and row["state"] == "dead"
    assert await entries(ledger, huge.payment_id) == []


async def test_unknown_field_is_ignored_and_malformed_is_dead(ledger: Service) -> None:
    more, less = succeeded(), succeeded()
    first, second = orjson.loads(wire(more)), orjson.loads(wire(less))
    first["data"]["new_in_v1_7"] = True
    second["data"]["amount_minor"] = "a lot"
    await send(ledger, orjson.dumps(second), orjson.dumps(first))
    await booked(ledger, more.payment_id)
    async with ledger.database.transaction() as tx:
        state = await tx.value("select state from inbox where subject = $1", less.payment_id)
    assert state == "dead"


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_any_order_and_repeats_leave_zero_sums_and_true_balances(
    ledger: Service, data: st.DataObject
) -> None:
    client = new_id("cli")
    amounts = data.draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
    currencies = data.draw(st.lists(st.sampled_from(["RWF", "USD", "KWD"]), min_size=6, max_size=6))
    bodies = [
        succeeded(client_id=client, amount_minor=a, currency=c)
        for a, c in zip(amounts, currencies, strict=False)
    ]
    order = data.draw(st.lists(st.sampled_from(bodies), min_size=1, max_size=15))
    for body in order:
        envelope = Envelope.model_validate_json(wire(body))
        async with ledger.database.transaction() as tx:
            await usecases.post_captures(tx, ledger.relay, PLAN, [Event(envelope, body)])
    async with ledger.database.transaction() as tx:
        sums = await tx.fetch(
            "select currency, sum(p.amount_minor)::bigint as total from postings p "
            "join journal_entries e using (currency, mode) "
            "where e.id = p.entry_id and e.client_id = $1 group by currency",
            client,
        )
        off = await tx.fetch(
            "select a.id from accounts a join lateral (select sum(amount_minor) as total, "
            "max(account_version) as newest from postings where account_id = a.id) p on true "
            "where a.client_id = $1 and (a.balance_minor <> p.total or a.version <> p.newest)",
            client,
        )
        count = await tx.value("select count(*) from journal_entries where client_id = $1", client)
    assert all(row["total"] == 0 for row in sums) and off == []
    assert count == len({b.payment_id for b in order})


async def test_trial_balance_needs_a_token_and_balances(ledger: Service) -> None:
    transport = httpx.ASGITransport(app=ledger.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        answer = await client.get("/internal/v1/trial-balance?mode=test")
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("amount", "fee"),
    [(0, 0), (1, 0), (25, 0), (75, 2), (125, 2), (1500, 30), (10**15, 2 * 10**13)],
)
def test_fee_is_rounded_half_to_even(amount: int, fee: int) -> None:
    assert PLAN.fee(amount) == fee
