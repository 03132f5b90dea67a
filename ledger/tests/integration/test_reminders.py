"""Reminders: asked for by the issuer's calendar, each once, only while something is open."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.usecases import reminders
from mospay_shared.chassis.service_tokens import TokenSigner

from .paying_house import Shop, open_shop


@pytest.fixture
async def shop(
    ledger_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, portal: TokenSigner
) -> AsyncIterator[Shop]:
    """A shop whose workers and relay rest: the tests take the turns."""
    quiet = {"LEDGER_ROLES": "http,consume"}
    async with open_shop(ledger_env, monkeypatch, portal, **quiet) as made:
        yield made


async def due(shop: Shop, invoice: str) -> list[str]:
    """Take a turn; return the kinds of mail asked for of an invoice so far."""
    settings = LedgerSettings().model_copy(update={"reminders_in_test": True})
    async with shop.ledger.database.transaction() as tx:
        await reminders.publish(tx, shop.ledger.relay, settings)
    async with shop.ledger.database.transaction() as tx:
        rows = await tx.fetch("select body from outbox where subject = $1 order by id", invoice)
    news = [orjson.loads(row["body"]) for row in rows]
    return [n["data"]["kind"] for n in news if n["type"] == "invoice.reminder_due.v1"]


async def move(superuser: Any, invoice: str, days: int) -> None:
    """Let an invoice have been issued long ago, due so many days from now."""
    await superuser.execute("alter table invoices disable trigger invoices_guard")
    await superuser.execute(
        "update invoices set due_on = (now() at time zone 'Africa/Kigali')::date + $2::int, "
        "issued_on = current_date - 60, issued_at = now() - interval '60 days' where id = $1",
        invoice,
        days,
    )
    await superuser.execute("alter table invoices enable trigger invoices_guard")


async def test_each_reminder_comes_once_at_its_time(shop: Shop, superuser: Any) -> None:
    invoice = await shop.invoice()
    assert await due(shop, invoice) == ["issued"]
    assert await due(shop, invoice) == ["issued"]
    seen = ["issued"]
    for days, kind in ((10, None), (3, "before_due"), (0, "due"), (-6, None), (-7, "overdue")):
        await move(superuser, invoice, days)
        seen += [kind] if kind else []
        await asyncio.gather(due(shop, invoice), due(shop, invoice))
        assert await due(shop, invoice) == seen


async def test_nobody_is_reminded_of_what_is_paid_locked_or_drafted(
    shop: Shop, superuser: Any
) -> None:
    draft, locked = await shop.invoice(issued=False), await shop.invoice()
    await shop.pay(locked)
    await move(superuser, locked, 0)
    assert await due(shop, draft) == [] and await due(shop, locked) == []


async def test_test_mode_writes_to_nobody_unless_told_to(shop: Shop) -> None:
    invoice = await shop.invoice()
    async with shop.ledger.database.transaction() as tx:
        await reminders.publish(tx, shop.ledger.relay, LedgerSettings())
    asked = "select count(*) from invoice_reminders where invoice_id = $1"
    assert await shop.value(asked, invoice) == 0
