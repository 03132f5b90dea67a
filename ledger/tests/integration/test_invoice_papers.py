"""Papers of invoicing and the ageing statement: what they say, for whom, how long they get."""

import csv
import datetime as dt
import io
import re
from decimal import Decimal
from typing import Any

import pytest
from mospay_ledger.domain.invoices import AGES, Line, age_of
from mospay_ledger.storage.customers import EVERYTHING
from mospay_ledger.usecases import invoices
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner

from .billing_house import Shop

TODAY = dt.datetime.now(dt.UTC)


@pytest.fixture
def shop(ledger: Service, portal: TokenSigner) -> Shop:
    """A merchant."""
    return Shop(ledger, portal)


def pages(pdf: bytes) -> int:
    """How many pages a PDF says it has."""
    return max(int(n) for n in re.findall(rb"/Type ?/Pages ?/Count (\d+)", pdf))


async def test_invoice_paper_is_as_long_as_its_lines(shop: Shop) -> None:
    short = await shop.issued()
    lines = tuple(Line(f"Book {n}: كتاب، ספר, Źdźbło", Decimal(n), 1500) for n in range(1, 201))
    long = await shop.issued(lines=lines, notes="#let x = 1\n*not bold*")
    one, many = [
        (await shop.call("GET", f"/invoices/{row['id']}.pdf")).content for row in (short, long)
    ]
    assert (pages(one), pages(many) > 3) == (1, True)


async def test_draft_credit_note_and_statement_of_account_are_papers(shop: Shop) -> None:
    draft, row = await shop.draft(), await shop.issued(at=TODAY - dt.timedelta(days=50))
    answer = await shop.call("POST", f"/invoices/{row['id']}/credit-notes",
                             {"amount_minor": 300, "reason": "*back* #panic()"})  # fmt: skip
    note = answer.json()["credit_notes"][0]
    paths = [
        f"/invoices/{draft['id']}.pdf", f"/credit-notes/{note['id']}.pdf", "/ageing.pdf?mode=test",
        f"/ageing.pdf?mode=test&customer_id={row['customer_id']}",
    ]  # fmt: skip
    for path in paths:
        paper = await shop.call("GET", path)
        assert paper.headers["content-type"] == "application/pdf", (path, paper.text)
        assert pages(paper.content) == 1
    assert (await shop.call("GET", "/ageing.pdf?mode=test&customer_id=cus_x")).status_code == 404


async def test_ageing_sums_are_those_of_the_open_invoices_of_that_day(shop: Shop) -> None:
    other = await shop.new_customer(name="Ben")
    wanted: dict[str, int] = dict.fromkeys(AGES, 0)
    # The issuer's day, Kigali's, as it is now: later payments are not in an earlier day's ageing.
    on = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)).date()
    for days in (0, 14, 15, 44, 45, 74, 75, 104, 105, 200):
        for customer in (await shop.customer(), other):
            row = await shop.issued(
                1000 + days, at=TODAY - dt.timedelta(days=days), customer_id=customer
            )
            await shop.pay(row["id"], 300)
            wanted[age_of(row["due_on"], on)] += 700 + days
    gone = await shop.issued(at=TODAY - dt.timedelta(days=100))
    async with shop.ledger.database.transaction() as tx:
        await invoices.void(tx, shop.ledger.relay, EVERYTHING, gone["id"], "a mistake")
    await shop.draft()
    told = (await shop.call("GET", f"/ageing?mode=test&as_of={on}")).json()
    (total,) = told["totals"]
    assert {age: total[age] for age in AGES} == wanted
    assert total["open_minor"] == sum(wanted.values())
    for age in AGES:
        assert total[age] == sum(item[age] for item in told["items"])
    paged = (await shop.call("GET", "/ageing?mode=test&limit=1")).json()
    rest = await shop.call("GET", f"/ageing?mode=test&limit=1&cursor={paged['next_cursor']}")
    assert [paged["items"][0], rest.json()["items"][0]] == told["items"]
    assert rest.json()["next_cursor"] is None
    text = (await shop.call("GET", "/ageing.csv?mode=test")).text
    rows: list[Any] = list(csv.DictReader(io.StringIO(text)))
    assert sum(int(row["open_minor"]) for row in rows) == total["open_minor"]


async def test_ageing_of_an_earlier_day_knows_no_later_payment(shop: Shop) -> None:
    paid_at = TODAY - dt.timedelta(days=10)
    row = await shop.issued(1000, at=TODAY - dt.timedelta(days=60))
    await shop.pay(row["id"], 1000, at=paid_at)
    later = await shop.issued(500, at=TODAY - dt.timedelta(days=5))

    async def total(day: dt.datetime) -> int:
        told = (await shop.call("GET", f"/ageing?mode=test&as_of={day.date()}")).json()
        return sum(one["open_minor"] for one in told["totals"])

    assert later["status"] == "issued"
    assert await total(TODAY - dt.timedelta(days=70)) == 0
    assert await total(TODAY - dt.timedelta(days=20)) == 1000
    assert await total(TODAY - dt.timedelta(days=8)) == 0
    assert await total(TODAY + dt.timedelta(days=1)) == 500
