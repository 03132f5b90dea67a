"""Refunds, sale events, security events, provider health: any order, any repetition, once."""

import asyncio
import datetime as dt
import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mospay_reporter.app import create_service
from mospay_reporter.settings import ReporterSettings
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import Contract
from mospay_shared.ids import new_id

from ..samples import (
    encoded,
    entry,
    health,
    later,
    now,
    payment,
    queue_of,
    refund,
    refund_later,
    sale,
    security,
    tell,
    tell_raw,
)
from .books import (
    assert_rollups_are_true,
    assert_sales_are_true,
    fact,
    facts,
    inbox,
    rollups,
    sales,
)

SECOND = dt.timedelta(seconds=1)


async def rows(service: Service, statement: str, *args: Any) -> list[dict[str, Any]]:
    async with service.database.transaction() as tx:
        return [dict(row) for row in await tx.fetch(statement, *args)]


async def check(service: Service, client: str) -> None:
    await assert_rollups_are_true(service, client)
    await assert_sales_are_true(service, client)


# -- refunds


async def test_refund_moves_from_open_to_refunded_on_its_payment(service: Service) -> None:
    done = payment(status="succeeded", version=2)
    asked = refund(done, amount_minor=400)
    await tell(service, [done, asked])
    stored = await fact(service, done.client_id)
    assert (stored["refunded_minor"], stored["refunds_open_minor"]) == (0, 400)
    await tell(service, [refund_later(asked, "succeeded", 2)])
    stored = await fact(service, done.client_id)
    assert (stored["refunded_minor"], stored["refunds_open_minor"]) == (400, 0)
    (hour,) = await rollups(service, done.client_id, "hour")
    assert int(hour["refunded_minor"]) == 400
    await check(service, done.client_id)


async def test_repeated_refund_counts_once_under_the_same_and_another_id(service: Service) -> None:
    done = payment(status="succeeded", version=2)
    given_back = refund_later(refund(done), "succeeded", 2)
    body = encoded(given_back)
    queue = queue_of(service, given_back)
    await tell(service, [done])
    await tell_raw(service, queue, [body, body])
    await tell_raw(service, queue, [body])
    await tell(service, [given_back, given_back])
    assert (await fact(service, done.client_id))["refunded_minor"] == 500
    await check(service, done.client_id)


async def test_refund_told_before_its_payment_and_out_of_order_ends_the_same(
    service: Service,
) -> None:
    done = payment(status="succeeded", version=2)
    asked = refund(done)
    await tell(service, [refund_later(asked, "succeeded", 3)])
    await tell(service, [refund_later(asked, "unknown", 2)])
    assert await rollups(service, done.client_id, "hour") == []
    await tell(service, [asked, done, entry(done)])
    stored = await fact(service, done.client_id)
    assert (stored["refunded_minor"], stored["refunds_open_minor"]) == (500, 0)
    await check(service, done.client_id)


async def test_failed_refund_gives_nothing_back_until_it_succeeds_late(service: Service) -> None:
    done = payment(status="succeeded", version=2)
    failed = refund(done, status="failed", version=2)
    await tell(service, [done, failed])
    stored = await fact(service, done.client_id)
    assert (stored["refunded_minor"], stored["refunds_open_minor"]) == (0, 0)
    late = refund_later(failed, "succeeded", 3, late=True, over_refund=True)
    await tell(service, [late])
    assert (await fact(service, done.client_id))["refunded_minor"] == 500
    (row,) = await rows(
        service, "select late, over_refund from refund_facts where refund_id = $1", late.refund_id
    )
    assert row == {"late": True, "over_refund": True}
    await check(service, done.client_id)


async def test_concurrent_refunds_of_one_payment_are_all_counted(service: Service) -> None:
    done = payment(status="succeeded", version=2, amount_minor=100_000)
    given_back = [refund(done, amount_minor=n, status="succeeded") for n in range(1, 21)]
    await asyncio.gather(
        *(tell(service, [one]) for one in given_back[:10]),
        tell(service, [done, *given_back[10:]]),
        tell(service, given_back[5:15]),
        tell(service, [entry(done)]),
    )
    assert (await fact(service, done.client_id))["refunded_minor"] == sum(range(1, 21))
    await check(service, done.client_id)


async def test_refund_of_another_client_is_dead_and_changes_nothing(service: Service) -> None:
    done = payment(status="succeeded", version=2)
    own = refund(done)
    await tell(service, [done, own])
    for stolen in (
        refund(done, client_id=new_id("cli"), status="succeeded"),
        refund_later(own, "succeeded", 9, client_id=new_id("cli")),
        refund_later(own, "succeeded", 9, payment_id=payment().payment_id),
        refund(done, currency="USD", status="succeeded"),
    ):
        body = encoded(stolen)
        await tell_raw(service, queue_of(service, stolen), [body])
        row = await inbox(service, orjson.loads(body)["id"])
        assert row["state"] == "dead" and "foreign_payment" in row["reason"]
    assert (await fact(service, done.client_id))["refunded_minor"] == 0
    await check(service, done.client_id)


async def test_retry_of_is_kept(service: Service) -> None:
    again = payment(retry_of="pay_1")
    await tell(service, [again])
    assert (await fact(service, again.client_id))["retry_of"] == "pay_1"


# -- sale events


async def test_sale_is_counted_by_hour_method_product_and_customer(service: Service) -> None:
    sold = sale(
        fee_minor=30,
        payment_method="momo",
        product_id="p1",
        product_name="Tea",
        customer_id="c1",
    )
    await tell(service, [sold])
    (counted,) = await sales(service, sold.client_id)
    assert counted["outcome"] == "succeeded" and counted["payment_id"] is None
    assert (counted["amount_minor"], counted["fee_minor"]) == (1500, 30)
    (name,) = await rows(
        service, "select product_name from sale_products where client_id = $1", sold.client_id
    )
    assert name == {"product_name": "Tea"}
    await check(service, sold.client_id)


async def test_repeated_sale_event_counts_once_by_its_key(service: Service) -> None:
    sold = sale(customer_id="c1")
    body = encoded(sold)
    await tell_raw(service, queue_of(service, sold), [body, body])
    await tell(service, [sold, sale(**(sold.model_dump() | {"sale_event_id": new_id("sal")}))])
    assert len(await sales(service, sold.client_id)) == 1
    stored = await rows(service, "select 1 from sale_events where client_id = $1", sold.client_id)
    assert len(stored) == 1
    await check(service, sold.client_id)


async def test_refunded_before_succeeded_before_created_is_one_sale(service: Service) -> None:
    client, transaction, moment = new_id("cli"), new_id("tx"), now()

    def told(kind: str, after: int, **changes: Any) -> Contract:
        return sale(
            client_id=client,
            transaction_id=transaction,
            kind=kind,
            occurred_at=moment + after * SECOND,
            **changes,
        )

    await tell(service, [told("payment_refunded", 3, amount_minor=200)])
    await tell(service, [told("payment_failed", 1)])
    await tell(service, [told("payment_succeeded", 2, fee_minor=15)])
    await tell(service, [told("payment_created", 0, amount_minor=999)])
    (counted,) = await sales(service, client)
    assert counted["outcome"] == "succeeded"
    assert (counted["amount_minor"], counted["fee_minor"], counted["refunded_minor"]) == (
        1500,
        15,
        200,
    )
    await check(service, client)


async def test_refund_without_amount_gives_the_whole_sale_back(service: Service) -> None:
    sold = sale()
    whole = sale(
        client_id=sold.client_id,
        transaction_id=sold.transaction_id,
        kind="payment_refunded",
        amount_minor=None,
    )
    await tell(service, [whole, sold])
    (counted,) = await sales(service, sold.client_id)
    assert counted["refunded_minor"] == 1500


async def test_amount_in_a_second_currency_is_never_added(service: Service) -> None:
    sold = sale()
    odd = sale(
        client_id=sold.client_id,
        transaction_id=sold.transaction_id,
        kind="payment_refunded",
        currency="USD",
        amount_minor=700,
        occurred_at=sold.occurred_at + SECOND,
    )
    await tell(service, [sold, odd])
    (counted,) = await sales(service, sold.client_id)
    assert (counted["currency"], counted["refunded_minor"]) == ("RWF", 0)


@pytest.mark.parametrize("by", ["payment_id", "reference"])
@pytest.mark.parametrize("first", ["payment", "sale"])
async def test_event_that_names_our_payment_enriches_it_and_never_counts_twice(
    service: Service, by: str, first: str
) -> None:
    done = payment(status="succeeded", version=2)
    told = sale(
        client_id=done.client_id,
        transaction_id=getattr(done, by),
        amount_minor=77,  # the payment knows better
        fee_minor=99,
        payment_method="card",
        product_id="p1",
        product_name="Tea",
        customer_id="c1",
    )
    await tell(service, [done, told] if first == "payment" else [told, done])
    (counted,) = await sales(service, done.client_id)
    assert counted["payment_id"] == done.payment_id and counted["name"] == done.reference
    assert (counted["amount_minor"], counted["fee_minor"]) == (1000, 99)
    assert [counted[n] for n in ("method", "product_id", "product_name", "customer_id")] == [
        "card",
        "p1",
        "Tea",
        "c1",
    ]
    await check(service, done.client_id)
    await tell(service, [entry(done, 20)])
    (counted,) = await sales(service, done.client_id)
    assert counted["fee_minor"] == 20  # what the ledger posted, once it has
    await check(service, done.client_id)


async def test_event_by_id_and_event_by_reference_meet_on_one_sale(service: Service) -> None:
    done = payment(status="succeeded", version=2)
    client = done.client_id
    await tell(
        service,
        [
            sale(client_id=client, transaction_id=done.payment_id, product_id="p1"),
            sale(client_id=client, transaction_id=done.reference, payment_method="card"),
        ],
    )
    assert len(await sales(service, client)) == 2  # nobody knows yet that they are one
    await tell(service, [done])
    (counted,) = await sales(service, client)
    assert (counted["method"], counted["product_id"]) == ("card", "p1")
    await check(service, client)


async def test_event_that_names_another_clients_payment_is_a_sale_of_its_own(
    service: Service,
) -> None:
    theirs = payment(status="succeeded", version=2)
    mine = sale(transaction_id=theirs.payment_id)
    await tell(service, [theirs, mine])
    await tell(service, [sale(client_id=mine.client_id, transaction_id=theirs.reference)])
    assert len(await sales(service, mine.client_id)) == 2
    (counted,) = await sales(service, theirs.client_id)
    assert counted["amount_minor"] == 1000
    other_mode = sale(client_id=theirs.client_id, mode="live", transaction_id=theirs.payment_id)
    await tell(service, [other_mode])
    assert len(await sales(service, theirs.client_id)) == 2
    await check(service, theirs.client_id)


async def test_payment_and_events_about_it_told_at_once_end_as_one_sale(service: Service) -> None:
    client = new_id("cli")
    done = [payment(client_id=client, status="succeeded", version=2) for _ in range(20)]
    by_id = [
        sale(client_id=client, transaction_id=p.payment_id, customer_id=f"c{n % 3}")
        for n, p in enumerate(done)
    ]
    by_reference = [
        sale(client_id=client, transaction_id=p.reference, product_id=f"p{n % 2}")
        for n, p in enumerate(done)
    ]
    await asyncio.gather(
        *(tell(service, [p]) for p in done),
        *(tell(service, [s]) for s in by_id),
        *(tell(service, [s]) for s in by_reference),
        tell(service, [refund(p, status="succeeded") for p in done]),
        tell(service, [entry(p) for p in done]),
    )
    counted = await sales(service, client)
    assert len(counted) == 20
    assert all(s["payment_id"] and s["customer_id"] and s["product_id"] for s in counted)
    await check(service, client)


async def test_customer_whose_first_sale_is_taken_back_begins_later(service: Service) -> None:
    moment = now() - dt.timedelta(hours=3)
    first = payment(status="succeeded", version=2, customer_id="c1", accepted_at=moment)
    second = payment(
        client_id=first.client_id,
        status="succeeded",
        version=2,
        customer_id="c1",
        accepted_at=moment + dt.timedelta(hours=1),
    )
    await tell(service, [first, second, later(first, "conflicted", 3)])
    (customer,) = await rows(
        service,
        "select successful, spent_minor, first_at from sale_customers where client_id = $1",
        first.client_id,
    )
    assert (customer["successful"], int(customer["spent_minor"])) == (1, 1000)
    assert customer["first_at"] == second.accepted_at
    await check(service, first.client_id)


async def test_earlier_payments_are_counted_by_the_backlog(
    service: Service, settings: ReporterSettings
) -> None:
    from mospay_reporter.usecases import recording

    client = new_id("cli")
    done = [payment(client_id=client, status="succeeded", version=2) for _ in range(7)]
    await tell(service, done)
    async with service.database.transaction() as tx:  # as if they were from before the migration
        for table in ("sales", "sale_rollups_hourly", "sale_methods_daily"):
            await tx.run(f"delete from {table} where client_id = $1", client)
        await tx.run(
            "update sales_backlog set done = false, payment_id = '', accepted_month = '1900-01-01'"
        )
    assert await sales(service, client) == []

    async def turn() -> int:
        async with service.database.transaction() as tx:
            return await recording.sell_earlier(tx, 3)

    while await turn():
        pass
    assert len(await sales(service, client)) == 7
    assert await turn() == 0
    await check(service, client)


# -- malformed, unknown fields

BAD: list[tuple[Contract, dict[str, Any]]] = [
    (refund(payment()), {"amount_minor": -1}),
    (refund(payment()), {"version": 2**70}),
    (refund(payment()), {"occurred_at": "2026-11-21T08:00:00"}),
    (refund(payment()), {"client_id": "cli_\0"}),
    (sale(), {"kind": "payment_dreamt"}),
    (sale(), {"amount_minor": 1.5}),
    (sale(), {"amount_minor": 2**63}),
    (sale(), {"occurred_at": "2026-11-21T08:00:00"}),
    (sale(), {"client_id": "cli_\0"}),
    (security(), {"count": 0}),
    (security(), {"last_at": "2026-11-21T08:00:00"}),
    (health(), {"state": "ajar"}),
    (health(), {"failures": 2**70}),
]


@pytest.mark.parametrize(
    ("sample", "changes"), BAD, ids=lambda v: str(v) if isinstance(v, dict) else type(v).__name__
)
async def test_malformed_event_is_dead_with_its_reason_and_its_pack_goes_on(
    service: Service, sample: Contract, changes: dict[str, Any]
) -> None:
    event = orjson.loads(encoded(sample))
    event["data"] |= changes
    good = {
        "RefundEventV1": lambda: refund(payment()),
        "SaleEventV1": sale,
        "SecurityEventV1": security,
        "ProviderHealthV1": health,
    }[type(sample).__name__]()
    pack = [json.dumps(event).encode(), encoded(good)]
    await tell_raw(service, queue_of(service, good), pack)
    row = await inbox(service, event["id"])
    assert row["state"] == "dead" and row["reason"]
    assert (await inbox(service, orjson.loads(pack[1])["id"]))["state"] == "done"


async def test_refund_status_from_a_later_version_is_ignored(service: Service) -> None:
    newer = refund(payment())
    event = orjson.loads(encoded(newer))
    event["data"]["status"] = "gone"
    await tell_raw(service, queue_of(service, newer), [orjson.dumps(event)])
    row = await inbox(service, event["id"])
    assert row["state"] == "done" and row["reason"]
    assert await facts(service, newer.client_id) == []


@pytest.mark.parametrize("make", [lambda: refund(payment()), sale, security, health])
async def test_unknown_fields_are_ignored(service: Service, make: Any) -> None:
    body = make()
    event = orjson.loads(encoded(body))
    event["data"]["brand_new"] = {"a": 1}
    await tell_raw(service, queue_of(service, body), [orjson.dumps(event)])
    assert (await inbox(service, event["id"]))["state"] == "done"


async def test_text_with_nul_is_kept_without_it(service: Service) -> None:
    odd = sale(transaction_id="a\0b", dedupe_key="a\0b", product_name="Tea\0", customer_id="\0")
    await tell(service, [odd, odd])
    (counted,) = await sales(service, odd.client_id)
    assert counted["name"] == "a\ufffdb" and counted["product_id"] == "Tea\ufffd"


# -- security events, provider health


async def test_security_event_is_stored_once_with_its_kind(service: Service) -> None:
    told = security()
    await tell(service, [told])
    await tell(service, [told, told])
    (row,) = await rows(
        service, "select kind, count from security_events where event_id = $1", told.event_id
    )
    assert row == {"kind": "rate_limited", "count": 3}


async def test_security_event_of_nobody_we_know_is_stored(service: Service) -> None:
    told = security(client_id=None, mode=None)
    await tell(service, [told])
    assert await rows(service, "select 1 from security_events where event_id = $1", told.event_id)


async def test_changes_of_a_connector_are_kept_each_once_in_any_order(service: Service) -> None:
    opened = health()
    closed = health(
        microservice=opened.microservice,
        state="closed",
        previous_state="open",
        changed_at=opened.changed_at + SECOND,
    )
    body = encoded(closed)
    await tell_raw(service, queue_of(service, closed), [body])
    await tell(service, [opened])
    await tell_raw(service, queue_of(service, closed), [body])
    states = await rows(
        service,
        "select state from provider_changes where microservice = $1 order by changed_at",
        opened.microservice,
    )
    assert states == [{"state": "open"}, {"state": "closed"}]


# -- any order, any repetition


@st.composite
def stories(draw: st.DrawFn) -> tuple[str, list[Any], list[Any]]:
    """What happened to a client's payments and sales, and one way in which it is told."""
    client, base = new_id("cli"), now() - dt.timedelta(hours=5)
    told: list[Any] = []
    for _ in range(draw(st.integers(1, 3))):
        first = payment(
            client_id=client,
            version=0,
            accepted_at=base + dt.timedelta(minutes=draw(st.integers(0, 180))),
            amount_minor=draw(st.integers(0, 5000)),
            currency=draw(st.sampled_from(["RWF", "USD"])),
            customer_id=draw(st.sampled_from([None, "c1", "c2"])),
        )
        told.append(first)
        states = draw(st.lists(st.sampled_from(["failed", "unknown", "succeeded"]), max_size=2))
        told += [later(first, state, n) for n, state in enumerate(states, 1)]
        for state in draw(st.lists(st.sampled_from(["succeeded", "failed"]), max_size=2)):
            asked = refund(first, amount_minor=draw(st.integers(1, 500)))
            told += [asked, refund_later(asked, state, 2)]
        if draw(st.booleans()):
            told.append(entry(first, draw(st.integers(0, 9))))
        names = st.sampled_from([first.payment_id, first.reference, "own-1", "own-2"])
        kinds = st.sampled_from(
            ["payment_created", "payment_succeeded", "payment_failed", "payment_refunded"]
        )
        for name, kind, minute in draw(
            st.lists(st.tuples(names, kinds, st.integers(0, 200)), max_size=4)
        ):
            told.append(
                sale(
                    client_id=client,
                    transaction_id=name,
                    kind=kind,
                    dedupe_key=new_id("k"),
                    occurred_at=base + dt.timedelta(minutes=minute),
                    currency=draw(st.sampled_from(["RWF", "USD"])),
                    amount_minor=draw(st.sampled_from([None, 10, 300])),
                    fee_minor=draw(st.sampled_from([None, 3])),
                    customer_id=draw(st.sampled_from([None, "c1", "c3"])),
                    product_id=draw(st.sampled_from([None, "p1", "p2"])),
                    payment_method=draw(st.sampled_from([None, "card"])),
                )
            )
    repeated = draw(st.lists(st.sampled_from(told), max_size=4))
    return client, told, list(draw(st.permutations(told + repeated)))


@given(stories())
@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_sales_end_the_same_in_any_order(
    settings: ReporterSettings, story: tuple[str, list[Any], list[Any]]
) -> None:
    client, told, order = story
    straight, prefix = new_id("cli"), f"pay_{new_id('x')[-4:]}"

    def of_another(body: Any) -> Any:
        """The same about another client: its payments keep their months, its names change alike."""
        changes = {"client_id": straight}
        for name in ("payment_id", "transaction_id"):
            value = getattr(body, name, None)
            if value is not None and value.startswith("pay_"):
                changes[name] = prefix + value.removeprefix("pay_")
        if hasattr(body, "refund_id"):
            changes["refund_id"] = "x" + body.refund_id
        return type(body)(**(body.model_dump() | changes))

    async def run() -> None:
        service = create_service(settings)
        await service.database.open()
        try:
            await tell(service, [of_another(body) for body in told])
            for body in order:
                await tell(service, [body])
            for one in (client, straight):
                await check(service, one)
            shuffled = [_bare(row) for row in await sales(service, client)]
            assert shuffled == [_bare(row) for row in await sales(service, straight)]
            assert len(await facts(service, client)) == len(await facts(service, straight))
        finally:
            await service.database.close()

    asyncio.run(run())


def _bare(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in ("client_id", "payment_id", "accepted_month")}
