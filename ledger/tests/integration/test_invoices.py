"""Invoices from draft to paid: numbers, steps, immutability, whose they are."""

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mospay_ledger.domain.invoices import InvoiceError, InvoiceInvalid, StaleVersion, StepRefused
from mospay_ledger.storage.customers import EVERYTHING, View
from mospay_ledger.usecases import invoices
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from .billing_house import Shop, news_kept
from .conftest import running

WRITERS, EACH = 20, 50


@pytest.fixture
def shop(ledger: Service, portal: TokenSigner) -> Shop:
    """A merchant."""
    return Shop(ledger, portal)


class Crash(Exception):
    """The process dies before its commit."""


async def test_thousand_invoices_of_twenty_writers_are_numbered_without_gap_or_double(
    shop: Shop,
) -> None:
    customer, issuer = await shop.customer(), (await shop.issuer())["id"]
    ids = [new_id("inv") for _ in range(WRITERS * EACH)]
    async with shop.ledger.database.transaction() as tx:
        await tx.run(
            "insert into invoices (id, issuer_id, client_id, mode, customer_id, currency, "
            "total_minor) select u, $2, $3, 'test', $4, 'RWF', 5 from unnest($1::text[]) u",
            ids, issuer, shop.client_id, customer,
        )  # fmt: skip
        await tx.run(
            "insert into invoice_lines (invoice_id, line, client_id, mode, customer_id, "
            "description, quantity, unit_price_minor, net_minor, tax_minor, total_minor) "
            "select u, 1, $2, 'test', $3, 'x', 1, 5, 5, 0, 5 from unnest($1::text[]) u",
            ids, shop.client_id, customer,
        )  # fmt: skip

    async def issue(invoice_id: str, *, dies: bool) -> None:
        async with shop.ledger.database.transaction() as tx:
            await invoices.issue(tx, shop.ledger.relay, EVERYTHING, invoice_id)
            if dies:
                raise Crash

    async def writer(own: list[str]) -> None:
        for turn, invoice_id in enumerate(own):
            if turn % 10 == 0:  # its number must go to another
                with pytest.raises(Crash):
                    await issue(invoice_id, dies=True)
            await issue(invoice_id, dies=False)

    await asyncio.gather(*(writer(ids[n::WRITERS]) for n in range(WRITERS)))
    rows = await shop.fetch("select number from invoices where issuer_id = $1", issuer)
    year = dt.datetime.now(dt.UTC).year
    wanted = {f"INV-{year}-{n:06d}" for n in range(1, len(ids) + 1)}
    assert len(rows) == len(wanted) and {row["number"] for row in rows} == wanted


async def test_year_of_the_issuers_calendar_starts_a_series(shop: Shop) -> None:
    await shop.issuer(time_zone="Pacific/Auckland", invoice_prefix="AK")
    last = dt.datetime(2030, 12, 31, 10, 30, tzinfo=dt.UTC)  # 23:30 there
    numbers = [
        (await shop.issued(at=at))["number"]
        for at in (last, last + dt.timedelta(hours=1), last - dt.timedelta(days=1))
    ]
    assert numbers == ["AK-2030-000001", "AK-2031-000001", "AK-2030-000002"]


async def test_void_invoice_keeps_its_number(shop: Shop) -> None:
    first = await shop.issued()
    async with news_kept(shop.ledger) as news, shop.ledger.database.transaction() as tx:
        await invoices.void(tx, shop.ledger.relay, EVERYTHING, first["id"], "wrong customer")
    assert [(kind, data["status"], data["reason"]) for kind, data in news] == [
        ("invoice.voided.v1", "void", "wrong customer")
    ]
    second = await shop.issued()
    assert first["number"].endswith("000001") and second["number"].endswith("000002")
    assert (await shop.find(first["id"]))["number"] == first["number"]


async def test_issued_invoice_has_its_parties_of_that_day_and_is_told(shop: Shop) -> None:
    draft = await shop.draft(1500)
    async with news_kept(shop.ledger) as news, shop.ledger.database.transaction() as tx:
        row = await invoices.issue(tx, shop.ledger.relay, EVERYTHING, draft["id"])
    assert row["issuer_snapshot"]["name"] == "Kigali Books"
    assert row["customer_snapshot"]["name"] == "Amélie"
    assert row["due_on"] == row["issued_on"] + dt.timedelta(days=14)
    ((kind, data),) = news
    assert (kind, data["open_minor"], data["number"]) == ("invoice.issued.v1", 1500, row["number"])


@pytest.mark.parametrize(
    "sql",
    [
        "update invoices set total_minor = 1 where id = $1",
        "update invoices set customer_id = 'cus_x' where id = $1",
        "update invoices set number = 'INV-1' where id = $1",
        "update invoices set due_on = due_on + 1 where id = $1",
        "update invoices set paid_minor = paid_minor - 1 where id = $1",
        "update invoices set status = 'draft' where id = $1",
        "update invoices set issuer_snapshot = '{}' where id = $1",
        "delete from invoices where id = $1",
        "delete from invoice_lines where invoice_id = $1",
        "insert into invoice_lines select invoice_id, 2::smallint, client_id, mode, "
        "recipient_client_id, customer_id, description, quantity, unit_price_minor, discount_bps, "
        "discount_minor, tax_rate_bps, tax_inclusive, service_id, net_minor, tax_minor, "
        "total_minor from invoice_lines where invoice_id = $1",
        "update invoice_lines set total_minor = 1 where invoice_id = $1",
        "update credit_notes set total_minor = 1 where invoice_id = $1",
        "update invoice_payments set applied_minor = 1 where invoice_id = $1",
        "delete from invoice_payments where invoice_id = $1",
        "delete from customer_credits where invoice_id = $1",
        "update number_series set next = 9 where $1 <> ''",
        "insert into number_series values ($1, 'test', 'X', 2026, 'invoice', 5)",
        "delete from number_series where $1 <> ''",
        "select next_number($1, 'test', 'invoice', 'INV', 2026)",
        "truncate invoices cascade",
    ],
)
async def test_service_role_changes_nothing_of_an_issued_invoice(
    shop: Shop, worker_connection: Any, sql: str
) -> None:
    row = await shop.issued(100)
    await shop.pay(row["id"], 40)
    before = dict(await shop.find(row["id"]))
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.PostgresError)) as refused:
        arguments = [row["id"]] if "$1" in sql else []
        await worker_connection.execute(sql, *arguments)
    assert refused.value.sqlstate in ("42501", "23M02", "23M20")
    assert dict(await shop.find(row["id"])) == before


async def test_totals_that_are_not_those_of_the_lines_are_never_issued(
    shop: Shop, worker_connection: Any
) -> None:
    row = await shop.draft(100)
    await worker_connection.execute("update invoices set total_minor = 99 where id = $1", row["id"])
    with pytest.raises(asyncpg.PostgresError) as refused:
        async with shop.ledger.database.transaction() as tx:
            await invoices.issue(tx, shop.ledger.relay, EVERYTHING, row["id"])
    assert refused.value.sqlstate == "23M21"


async def test_draft_is_changed_and_deleted_and_an_issued_invoice_is_not(shop: Shop) -> None:
    row = await shop.draft(100)
    draft = invoices.Draft(await shop.customer(), "USD")
    async with shop.ledger.database.transaction() as tx:
        changed = await invoices.change(tx, EVERYTHING, row["id"], row["version"], draft)
    assert (changed["currency"], changed["total_minor"], changed["version"]) == ("USD", 0, 2)
    with pytest.raises(StaleVersion):
        async with shop.ledger.database.transaction() as tx:
            await invoices.change(tx, EVERYTHING, row["id"], row["version"], draft)
    with pytest.raises(InvoiceInvalid):  # comes to nothing
        async with shop.ledger.database.transaction() as tx:
            await invoices.issue(tx, shop.ledger.relay, EVERYTHING, row["id"])
    async with shop.ledger.database.transaction() as tx:
        await invoices.drop(tx, EVERYTHING, row["id"], 2)
    assert await shop.fetch("select 1 from invoices where id = $1", row["id"]) == []
    issued = await shop.issued()
    for act in (
        lambda tx: invoices.change(tx, EVERYTHING, issued["id"], issued["version"], draft),
        lambda tx: invoices.drop(tx, EVERYTHING, issued["id"], issued["version"]),
        lambda tx: invoices.issue(tx, shop.ledger.relay, EVERYTHING, issued["id"]),
    ):
        with pytest.raises(StepRefused):
            async with shop.ledger.database.transaction() as tx:
                await act(tx)


async def test_another_clients_view_finds_nothing_to_change(shop: Shop) -> None:
    row = await shop.issued()
    relay = shop.ledger.relay
    for view in (View(new_id("cli"), "test"), View(shop.client_id, "live"), View("", "test")):
        for act in (
            lambda tx, v=view: invoices.void(tx, relay, v, row["id"], "no"),
            lambda tx, v=view: invoices.use_credit(tx, relay, v, row["id"]),
            lambda tx, v=view: invoices.credit(
                tx, relay, v, row["id"], amount_minor=1, reason="no"
            ),
        ):
            with pytest.raises(InvoiceError, match="not_found"):
                async with shop.ledger.database.transaction() as tx:
                    await act(tx)


async def test_request_role_sees_one_tenant_and_a_payer_sees_its_own(shop: Shop) -> None:
    row, other = await shop.issued(100), await shop.issued(
        100, customer_id=await shop.new_customer(name="Ben"))  # fmt: skip
    await shop.pay(row["id"], 150)
    async with shop.ledger.database.transaction() as tx:
        note = await invoices.credit(
            tx, shop.ledger.relay, EVERYTHING, row["id"], amount_minor=10, reason="bad book"
        )
    tables = ("customers", "invoices", "invoice_lines", "invoice_payments", "credit_notes",
              "customer_credits", "issuers")  # fmt: skip
    database = shop.ledger.database
    for view in (
        {"client_id": new_id("cli"), "mode": "test"},
        {"client_id": shop.client_id, "mode": "live"},
        {"client_id": "", "mode": ""},
        {"client_id": shop.client_id, "mode": "test", "customer_id": new_id("cus")},
    ):
        async with database.request(**view) as tx:  # type: ignore[arg-type]
            for table in tables[:-1]:
                assert await tx.fetch(f"select * from {table}") == [], (view, table)
    async with database.request(client_id=str(shop.client_id), mode="test") as tx:
        for table in tables:
            assert await tx.fetch(f"select * from {table}"), table
        seen = await tx.fetch("select id from invoices")
        assert {one["id"] for one in seen} == {row["id"], other["id"]}
        assert await tx.fetch("select * from number_series") == []
        for table in tables:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with tx.connection.transaction():
                    await tx.run(f"delete from {table}")
    payer = {"client_id": str(shop.client_id), "mode": "test", "customer_id": row["customer_id"]}
    async with database.request(**payer) as tx:
        assert [one["id"] for one in await tx.fetch("select id from invoices")] == [row["id"]]
        assert [one["id"] for one in await tx.fetch("select id from credit_notes")] == [note["id"]]
        assert len(await tx.fetch("select id from customers")) == 1


async def test_credit_note_lowers_what_is_open_and_the_rest_is_the_customers(shop: Shop) -> None:
    row = await shop.issued(100)
    await shop.pay(row["id"], 80)
    relay = shop.ledger.relay
    async with news_kept(shop.ledger) as news, shop.ledger.database.transaction() as tx:
        note = await invoices.credit(
            tx, relay, EVERYTHING, row["id"], amount_minor=50, reason="two books back"
        )
    assert (note["applied_minor"], note["number"][:4]) == (20, "CRN-")
    ((kind, data),) = news
    assert (kind, data["status"], data["excess_minor"]) == ("invoice.credited.v1", "paid", 30)
    assert await shop.credit() == 30
    for amount in (51, 0, -1, 2**62):
        with pytest.raises(InvoiceInvalid):
            async with shop.ledger.database.transaction() as tx:
                await invoices.credit(
                    tx, relay, EVERYTHING, row["id"], amount_minor=amount, reason="too much"
                )
    async with shop.ledger.database.transaction() as tx:
        await invoices.credit(tx, relay, EVERYTHING, row["id"], amount_minor=50, reason="the rest")
    assert await shop.credit() == 80  # all that was paid
    with pytest.raises(StepRefused):
        async with shop.ledger.database.transaction() as tx:
            await invoices.void(tx, relay, EVERYTHING, row["id"], "late")


async def test_credit_pays_another_invoice_once_however_many_ask(shop: Shop) -> None:
    first, second, third = [await shop.issued(100) for _ in range(3)]
    await shop.pay(first["id"], 150)
    assert await shop.credit() == 50

    async def use(invoice_id: str) -> bool:
        try:
            async with shop.ledger.database.transaction() as tx:
                await invoices.use_credit(tx, shop.ledger.relay, EVERYTHING, invoice_id)
        except InvoiceInvalid:
            return False
        return True

    done = await asyncio.gather(*(use(i) for i in (second["id"], third["id"]) * 3))
    assert sum(done) == 1
    assert await shop.credit() == 0
    paid = [(await shop.find(i["id"]))["paid_minor"] for i in (second, third)]
    assert sorted(paid) == [0, 50]
    with pytest.raises(asyncpg.PostgresError) as refused:  # and the database itself
        async with shop.ledger.database.transaction() as tx:
            await tx.run(
                "insert into customer_credits select $1, issuer_id, client_id, mode, "
                "recipient_client_id, customer_id, currency, -1, 'used', $1, invoice_id, at "
                "from customer_credits where customer_id = $2 limit 1",
                new_id("ccr"), await shop.customer(),
            )  # fmt: skip
    assert refused.value.sqlstate == "23M22"


async def test_payment_of_a_void_invoice_is_the_customers_credit(shop: Shop) -> None:
    row = await shop.issued(100)
    async with shop.ledger.database.transaction() as tx:
        await invoices.void(tx, shop.ledger.relay, EVERYTHING, row["id"], "no more")
    await shop.pay(row["id"], 100)
    assert await shop.credit() == 100
    assert (await shop.find(row["id"]))["status"] == "void"


async def test_locked_invoice_is_not_voided(shop: Shop) -> None:
    row = await shop.issued(100)
    async with shop.ledger.database.transaction() as tx:
        await tx.run("update invoices set locked_by = 'int_x' where id = $1", row["id"])
    with pytest.raises(StepRefused, match="int_x"):
        async with shop.ledger.database.transaction() as tx:
            await invoices.void(tx, shop.ledger.relay, EVERYTHING, row["id"], "no")


async def test_due_day_of_the_issuer_makes_an_invoice_overdue_once(shop: Shop) -> None:
    await shop.issuer(time_zone="Pacific/Auckland")
    now = dt.datetime.now(dt.UTC)
    row = await shop.issued(100, at=now - dt.timedelta(days=20))
    part = await shop.issued(100, at=now - dt.timedelta(days=20))
    await shop.pay(part["id"], 1)
    fresh = await shop.issued(100)
    async with news_kept(shop.ledger) as news:
        while await run_overdue(shop.ledger):
            pass
    own = [d for _, d in news if d["client_id"] == shop.client_id]
    assert {d["invoice_id"] for d in own} <= {row["id"], part["id"]}
    states = [(await shop.find(one["id"]))["status"] for one in (row, part, fresh)]
    assert states == ["overdue", "overdue", "issued"]
    assert (await shop.pay(part["id"], 98))["status"] == "overdue"
    assert (await shop.pay(part["id"], 1))["status"] == "paid"
    with pytest.raises(AssertionError, match="test mode"):
        async with shop.ledger.database.transaction() as tx:
            await invoices.mark_overdue(
                tx, shop.ledger.relay, limit=1, as_of=dt.date(2026, 1, 1), mode="live"
            )


async def run_overdue(ledger: Service) -> int:
    async with ledger.database.transaction() as tx:
        return await invoices.mark_overdue(tx, ledger.relay, limit=200)


async def test_payments_at_one_moment_are_each_noted_once(shop: Shop) -> None:
    row = await shop.issued(100)
    payments = [new_id("pay") for _ in range(4)]
    await asyncio.gather(*(shop.pay(row["id"], 40, p) for p in payments * 3))
    stored = await shop.find(row["id"])
    assert (stored["status"], stored["paid_minor"]) == ("paid", 100)
    assert await shop.credit() == 60


def machine(run: Any, shop: Shop) -> type[RuleBasedStateMachine]:
    """Payments, repeats of them, credit notes and credit used, in any order."""

    class Paying(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.customer = run(shop.new_customer())
            self.row = run(shop.issued(1000, customer_id=self.customer))
            self.payments: dict[str, int] = {}
            self.credited = 0
            self.events: list[dict[str, Any]] = []

        @rule(amount=st.integers(1, 1500))
        def pay(self, amount: int) -> None:
            payment_id = new_id("pay")
            self.payments[payment_id] = amount
            run(shop.pay(self.row["id"], amount, payment_id))

        @precondition(lambda self: self.payments)
        @rule(data=st.data())
        def repeat(self, data: Any) -> None:
            payment_id = data.draw(st.sampled_from(sorted(self.payments)))
            run(shop.pay(self.row["id"], self.payments[payment_id], payment_id))

        @precondition(lambda self: self.credited < 1000)
        @rule(data=st.data())
        def credit(self, data: Any) -> None:
            amount = data.draw(st.integers(1, 1000 - self.credited))
            self.credited += amount

            async def write() -> None:
                async with shop.ledger.database.transaction() as tx:
                    await invoices.credit(
                        tx, shop.ledger.relay, EVERYTHING, self.row["id"],
                        amount_minor=amount, reason="back",
                    )  # fmt: skip

            run(write())

        @rule(days=st.integers(0, 30))
        def late(self, days: int) -> None:
            async def mark() -> None:
                async with shop.ledger.database.transaction() as tx:
                    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days)
                    await invoices.mark_overdue(
                        tx, shop.ledger.relay, limit=1000, as_of=day, mode="test"
                    )

            run(mark())

        @invariant()
        def every_franc_is_somewhere(self) -> None:
            row = run(shop.find(self.row["id"]))
            kept = run(shop.credit(self.customer))
            came = sum(self.payments.values())
            # What came and was credited either lowered the invoice or is the customer's.
            owed = 1000 - came - self.credited
            assert row["open_minor"] == max(0, owed)
            assert kept == max(0, -owed)
            assert (row["status"] == "paid") == (owed <= 0)

    return Paying


@pytest.mark.timeout(120)
def test_payments_and_credits_in_any_order_leave_every_franc_somewhere(
    new_ledger: Callable[[], Service], portal: TokenSigner
) -> None:
    with asyncio.Runner() as runner:
        ledger = new_ledger()
        runner.run(ledger.database.open())
        try:
            shop = Shop(ledger, portal)
            run_state_machine_as_test(
                machine(runner.run, shop),
                settings=settings(max_examples=15, stateful_step_count=12, deadline=None),
            )
        finally:
            runner.run(ledger.database.close())


async def test_stopped_worker_leaves_nothing_half_done(new_ledger: Callable[[], Service],
                                                       portal: TokenSigner) -> None:  # fmt: skip
    async with running(new_ledger()) as ledger:
        shop = Shop(ledger, portal)
        row = await shop.issued(100)
        with pytest.raises(Crash):
            async with ledger.database.transaction() as tx:
                await invoices.apply_payment(
                    tx, ledger.relay, invoice_id=row["id"], payment_id="pay_crash",
                    amount_minor=150, at=dt.datetime.now(dt.UTC),
                )  # fmt: skip
                raise Crash
        assert (await shop.find(row["id"]))["paid_minor"] == 0
        assert await shop.credit() == 0
