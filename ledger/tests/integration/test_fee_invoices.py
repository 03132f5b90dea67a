"""Fee invoices: a month of a client once, to the unit of what the journal says."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from mospay_ledger.domain.invoices import StepRefused
from mospay_ledger.usecases import fee_invoices, posting
from mospay_ledger.usecases.fee_invoices import month_of
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentEventV1, RefundEventV1
from mospay_shared.ids import new_id

from .billing_house import Shop
from .conftest import event, refund, succeeded


@pytest.fixture
async def operator(ledger: Service, portal: TokenSigner) -> Shop:
    """The operator, with an issuer whose days are those of the journal's clock."""
    house = Shop(ledger, portal, client_id=None)
    await house.issuer(time_zone="UTC", name="The operator")
    return house


async def book(ledger: Service, *bodies: PaymentEventV1 | RefundEventV1) -> None:
    async with ledger.database.transaction() as tx:
        await posting.post_events(tx, ledger.relay, [event(body) for body in bodies])


def this_month() -> dt.date:
    return month_of(dt.datetime.now(dt.UTC).date())


def next_month() -> dt.date:
    return month_of(this_month(), -1)


async def close(operator: Shop, client_id: str, month: dt.date, currency: str = "RWF") -> Any:
    issuer = await operator.issuer()
    ledger = operator.ledger
    async with ledger.database.transaction() as tx:
        return await fee_invoices.close_month(tx, ledger.relay, issuer, client_id, currency, month)


async def returning_plan(operator: Shop, client_id: str) -> None:
    """A plan of 10 % that goes back with refunds."""
    async with operator.ledger.database.transaction() as tx:
        await tx.run(
            "insert into fee_plans (id, version, mode, client_id, basis_points, fee_on_refund, "
            "effective_from) values ($1, 1, 'test', $2, 1000, 'return', now())",
            new_id("plan"), client_id,
        )  # fmt: skip


async def test_months_fees_are_invoiced_once_to_the_unit_and_netted(operator: Shop) -> None:
    client = new_id("cli")
    await book(
        operator.ledger,
        *(succeeded(client_id=client, amount_minor=1525, service_id="svc_a") for _ in range(3)),
        succeeded(client_id=client, amount_minor=1000, service_id="svc_b"),
        succeeded(client_id=client, amount_minor=1999, currency="USD"),
    )
    run = {"mode": "test", "as_of": str(next_month())}
    done = await operator.call("POST", "/invoices/run", run)
    assert done.status_code == 200, done.text
    assert done.json()["fee_invoices"] >= 2
    assert (await operator.call("POST", "/invoices/run", run)).json()["fee_invoices"] == 0
    shop = Shop(operator.ledger, operator.portal, client_id=client)
    listed = (await shop.call("GET", "/invoices")).json()["items"]  # the client sees its own
    by_currency = {one["currency"]: one for one in listed}
    assert set(by_currency) == {"RWF", "USD"}
    rwf = (await shop.call("GET", f"/invoices/{by_currency['RWF']['id']}")).json()
    # 2 % of 1525 is 30.5, half to even 30, three times; 2 % of 1000 is 20
    assert [(line["service_id"], line["total_minor"]) for line in rwf["lines"]] == [
        ("svc_a", 90), ("svc_b", 20),
    ]  # fmt: skip
    assert "3 payments" in rwf["lines"][0]["description"]
    assert (rwf["status"], rwf["total_minor"], rwf["open_minor"]) == ("paid", 110, 0)
    assert [one["source"] for one in rwf["payments"]] == ["netted"]
    assert "Netted from settlement" in rwf["notes"]
    (booked,) = await operator.fetch(
        "select sum(fee_minor)::bigint as fees from journal_entries "
        "where client_id = $1 and currency = 'RWF'",
        client,
    )
    assert rwf["total_minor"] == booked["fees"]
    months = (await shop.call("GET", "/fee-invoices")).json()["items"]
    assert [(m["currency"], m["invoiced_minor"], m["number"]) for m in months] == [
        ("RWF", 110, rwf["number"]), ("USD", 40, by_currency["USD"]["number"]),
    ]  # fmt: skip
    paper = await shop.call("GET", f"/invoices/{rwf['id']}.pdf")
    assert paper.content.startswith(b"%PDF")


async def test_fees_given_back_lower_the_invoice(operator: Shop) -> None:
    client = new_id("cli")
    await returning_plan(operator, client)
    paid = succeeded(client_id=client, amount_minor=1000)
    await book(operator.ledger, paid)
    await book(operator.ledger, refund(paid, 300, "succeeded"))
    invoice = await close(operator, client, this_month())
    assert invoice["total_minor"] == 100 - 30
    (line,) = await operator.fetch("select * from invoice_lines where invoice_id = $1",
                                   invoice["id"])  # fmt: skip
    assert "30 RWF given back on 1 refunds" in line["description"]


async def test_month_with_more_given_back_lowers_the_next(operator: Shop) -> None:
    client = new_id("cli")
    ledger = operator.ledger
    await returning_plan(operator, client)
    paid = succeeded(client_id=client, amount_minor=1000)
    await book(ledger, paid)
    assert (await close(operator, client, this_month()))["total_minor"] == 100
    # What follows is posted now; the months after this one have no postings of their own.
    (row,) = await operator.fetch("select * from fee_invoices where client_id = $1", client)
    assert (row["taken_minor"], row["carried_minor"]) == (100, 0)
    assert await close(operator, client, this_month()) is None
    later = new_id("cli")
    async with ledger.database.transaction() as tx:
        await tx.run(
            "insert into fee_invoices values ($1, 'test', 'RWF', $2, 10, 45, 0, -35, null, 0)",
            later, month_of(this_month(), 1),
        )  # fmt: skip
    await book(ledger, succeeded(client_id=later, amount_minor=2000))
    invoice = await close(operator, later, this_month())
    assert invoice["total_minor"] == 40 - 35
    (row,) = await operator.fetch(
        "select * from fee_invoices where client_id = $1 and invoice_id is not null", later
    )
    assert (row["brought_minor"], row["invoiced_minor"], row["carried_minor"]) == (-35, 5, 0)
    with pytest.raises(StepRefused):
        await close(operator, later, month_of(this_month(), 2))


async def test_month_closed_by_many_at_once_has_one_invoice(operator: Shop) -> None:
    client = new_id("cli")
    await book(operator.ledger, succeeded(client_id=client, amount_minor=1000))
    made = await asyncio.gather(*(close(operator, client, this_month()) for _ in range(6)))
    assert len([one for one in made if one is not None]) == 1
    rows = await operator.fetch("select 1 from invoices where recipient_client_id = $1", client)
    assert len(rows) == 1


async def test_tax_within_the_fees_is_shown_and_the_total_stays(operator: Shop) -> None:
    client = new_id("cli")
    await book(operator.ledger, succeeded(client_id=client, amount_minor=59_000))
    issuer = dict(await operator.issuer()) | {"fee_tax_bps": 1800}
    async with operator.ledger.database.transaction() as tx:
        invoice = await fee_invoices.close_month(
            tx, operator.ledger.relay, issuer, client, "RWF", this_month()
        )
    assert invoice is not None
    assert (invoice["total_minor"], invoice["tax_minor"]) == (1180, 180)


async def test_live_month_is_not_closed_before_it_is_over(operator: Shop) -> None:
    answer = await operator.call(
        "POST", "/invoices/run", {"mode": "live", "as_of": str(next_month())}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "test_only")
    client = new_id("cli")
    await book(operator.ledger, succeeded(client_id=client))
    ledger = operator.ledger
    await fee_invoices.close_months(ledger.database, ledger.relay, "test", limit=100, months_back=3)
    assert await operator.fetch("select 1 from fee_invoices where client_id = $1", client) == []
