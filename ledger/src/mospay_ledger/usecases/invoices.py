"""Invoices from draft to paid: one verb, one transaction; every step of an issued one is told.

An invoice's row is held first, whatever is done with it; then its customer, then the series that
numbers it. Nothing here posts: what customers owe a merchant is not money we hold.
"""

import datetime as dt
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import InvoiceEventV1, InvoiceStatus, Outgoing, outgoing
from mospay_shared.ids import new_id
from mospay_shared.money import MoneyError, exponent
from prometheus_client import Counter

from mospay_ledger.domain import invoices as rules
from mospay_ledger.domain.invoices import (
    InvoiceMissing,
    Line,
    Row,
    StaleVersion,
    StepRefused,
    Totals,
    check_step,
    invalid,
    open_balance,
)
from mospay_ledger.storage import customers
from mospay_ledger.storage import invoices as storage
from mospay_ledger.storage.customers import EVERYTHING, View

__all__ = ["apply_payment", "open_balance"]
log = structlog.get_logger()
NEWS = Counter("mospay_ledger_invoice_news", "Steps of issued invoices", ["news"])
DUE_LIMIT_DAYS = 3660  # how long after its issue an invoice may be due: ten years
SNAPSHOT = ("name", "address", "tax_id", "email", "phone", "locale")


@dataclass(frozen=True, slots=True)
class Draft:
    """What a draft says. `due_on` None: the issuer's payment terms decide when it is issued."""

    customer_id: str
    currency: str
    lines: tuple[Line, ...] = ()
    due_on: dt.date | None = None
    allow_partial: bool = False
    notes: str | None = None
    reference: str | None = None

    def totals(self) -> Totals:
        """Return the totals; raises InvoiceInvalid for what can't be so."""
        try:
            exponent(self.currency)
        except MoneyError as error:
            raise invalid("currency", "is none this system knows", error.code) from error
        if self.due_on is not None and not 2000 <= self.due_on.year <= 2200:
            raise invalid("due_on", "must be between 2000 and 2200", "out_of_range")
        return rules.totals_of(self.lines)

    def terms(self) -> dict[str, Any]:
        """Return the members an invoice's row has as they are."""
        names = ("currency", "allow_partial", "due_on", "notes", "reference")
        return {name: getattr(self, name) for name in names}


async def held(tx: Tx, view: View, invoice_id: str, version: int | None = None) -> asyncpg.Record:
    """Return an invoice and hold it; raises InvoiceMissing, StaleVersion."""
    row = await storage.lock(tx, view, invoice_id)
    if row is None:
        raise InvoiceMissing("there is no such invoice")
    if version is not None and row["version"] != version:
        raise StaleVersion(row["version"])
    return row


async def create(tx: Tx, view: View, draft: Draft, created_by: str | None = None) -> asyncpg.Record:
    """Make a draft; raises InvoiceMissing (the customer), InvoiceInvalid."""
    totals = draft.totals()
    customer = await _customer(tx, view, draft.customer_id)
    row = await storage.insert(tx, new_id("inv"), customer, totals, draft.terms(), created_by)
    await storage.write_lines(tx, row, draft.lines)
    return row


async def change(tx: Tx, view: View, invoice_id: str, version: int, draft: Draft) -> asyncpg.Record:
    """Change a draft as it was read; raises what `create` and `held` raise, StepRefused."""
    totals = draft.totals()
    row = await held(tx, view, invoice_id, version)
    _still_draft(row)
    customer = await _customer(tx, view, draft.customer_id)
    if (customer["issuer_id"], customer["mode"]) != (row["issuer_id"], row["mode"]):
        raise invalid("customer_id", "is a customer of another issuer")
    row = await storage.update_draft(tx, invoice_id, customer["id"], totals, draft.terms())
    await storage.write_lines(tx, row, draft.lines)
    return row


async def drop(tx: Tx, view: View, invoice_id: str, version: int) -> None:
    """Delete a draft as it was read."""
    _still_draft(await held(tx, view, invoice_id, version))
    await storage.delete_draft(tx, invoice_id)


def _still_draft(row: Row) -> None:
    if row["status"] != "draft":
        raise StepRefused(row["status"], "an issued invoice is not changed: void or credit it")


async def _customer(tx: Tx, view: View, customer_id: str) -> asyncpg.Record:
    found = await customers.lock_customer(tx, view, customer_id)
    if found is None:
        raise InvoiceMissing("there is no such customer")
    return found


async def issue(
    tx: Tx,
    relay: Relay,
    view: View,
    invoice_id: str,
    *,
    version: int | None = None,
    at: dt.datetime | None = None,
    even_inactive: bool = False,
) -> asyncpg.Record:
    """Issue a draft: it gets its number and copies of its parties, and is never changed again.

    The day is that of the issuer's calendar. Raises InvoiceMissing, StaleVersion, StepRefused,
    InvoiceInvalid.
    """
    row = await held(tx, view, invoice_id, version)
    check_step(row["status"], "issued")
    customer = await _customer(tx, EVERYTHING, row["customer_id"])
    if not (customer["active"] or even_inactive):
        raise StepRefused(row["status"], "its customer is not active")
    if row["total_minor"] == 0:
        raise invalid("lines", "come to nothing: there is nothing to invoice", "empty")
    issuer = await customers.issuer(tx, EVERYTHING, row["issuer_id"])
    assert issuer is not None
    issued_at = at or dt.datetime.now(dt.UTC)
    today = issued_at.astimezone(ZoneInfo(issuer["time_zone"])).date()
    due_on = row["due_on"] or today + dt.timedelta(days=issuer["payment_terms_days"])
    if not today <= due_on <= today + dt.timedelta(days=DUE_LIMIT_DAYS):
        message = f"must be within ten years from {today}, the day of issue"
        raise invalid("due_on", message, "out_of_range")
    more = ("colour", "footer", "time_zone")
    row = await storage.issue(
        tx,
        invoice_id,
        issued_on=today,
        issued_at=issued_at,
        due_on=due_on,
        issuer={name: issuer[name] for name in (*SNAPSHOT, *more)},
        customer={name: customer[name] for name in (*SNAPSHOT, "client_ref")},
    )
    await _tell(tx, relay, [told(row, "issued", issued_at)])
    return row


async def void(
    tx: Tx, relay: Relay, view: View, invoice_id: str, reason: str, version: int | None = None
) -> asyncpg.Record:
    """Void an issued invoice nothing was paid or credited of; its number stays taken.

    Raises InvoiceMissing, StaleVersion, StepRefused.
    """
    row = await held(tx, view, invoice_id, version)
    check_step(row["status"], "void")
    if row["paid_minor"] or row["credited_minor"]:
        raise StepRefused(row["status"], "something is paid or credited: write a credit note")
    if row["locked_by"] is not None:
        raise StepRefused(row["status"], f"a payment is under way ({row['locked_by']})")
    at = dt.datetime.now(dt.UTC)
    row = await storage.void(tx, invoice_id, reason, at)
    await _tell(tx, relay, [told(row, "voided", at, reason=reason)])
    return row


async def credit(
    tx: Tx,
    relay: Relay,
    view: View,
    invoice_id: str,
    *,
    amount_minor: int,
    reason: str,
    version: int | None = None,
    by: str | None = None,
) -> asyncpg.Record:
    """Write a credit note, at most what is not credited yet, and return it.

    It lowers what is open; what is beyond (because it was paid) is the customer's credit. Raises
    InvoiceMissing, StaleVersion, StepRefused, InvoiceInvalid.
    """
    row = await held(tx, view, invoice_id, version)
    if row["status"] in ("draft", "void"):
        raise StepRefused(row["status"], "only what was issued and stands can be credited")
    most = row["total_minor"] - row["credited_minor"]
    if not 0 < amount_minor <= most:
        message = f"must be between 1 and {most}, what is not credited yet"
        raise invalid("amount_minor", message, "out_of_range")
    issuer = await customers.issuer(tx, EVERYTHING, row["issuer_id"])
    assert issuer is not None
    at, applied = dt.datetime.now(dt.UTC), min(amount_minor, open_balance(row))
    tax_before = await storage.credited_tax(tx, invoice_id)
    note = await storage.write_credit_note(
        tx,
        new_id("crn"),
        row,
        total_minor=amount_minor,
        tax_minor=rules.credited_tax(row, amount_minor, tax_before),
        applied_minor=applied,
        reason=reason,
        issued_on=at.astimezone(ZoneInfo(issuer["time_zone"])).date(),
        issued_at=at,
        created_by=by,
    )
    credited = row["credited_minor"] + amount_minor
    row = await _settle(tx, row, row["paid_minor"], credited, at)
    if amount_minor > applied:
        await customers.write_credit(
            tx,
            new_id("ccr"),
            row,
            amount_minor=amount_minor - applied,
            source="credit_note",
            reference=note["id"],
            at=at,
        )
    news = told(
        row,
        "credited",
        at,
        credit_note_id=note["id"],
        credit_note_number=note["number"],
        amount_minor=amount_minor,
        excess_minor=amount_minor - applied,
        reason=reason,
    )
    await _tell(tx, relay, [news])
    return note


async def apply_payment(
    tx: Tx,
    relay: Relay,
    *,
    invoice_id: str,
    payment_id: str,
    amount_minor: int,
    at: dt.datetime,
    source: str = "payment",
) -> asyncpg.Record:
    """Note a payment on its invoice, once, and return the invoice as it is then.

    The amount is in the invoice's currency. What exceeds the open balance (all of it, where the
    invoice is void or paid) becomes the customer's credit. Raises InvoiceMissing, StepRefused (a
    draft), InvoiceInvalid (no amount).
    """
    row = await held(tx, EVERYTHING, invoice_id)
    if await storage.has_payment(tx, payment_id):
        return row
    if row["status"] == "draft":
        raise StepRefused("draft", "a draft can't be paid")
    if amount_minor <= 0:
        raise invalid("amount_minor", "must be above 0")
    applied = min(amount_minor, open_balance(row))
    await storage.write_payment(
        tx,
        row,
        payment_id=payment_id,
        source=source,
        amount_minor=amount_minor,
        applied_minor=applied,
        at=at,
    )
    if amount_minor > applied:
        log.warning(
            "invoice_overpaid", invoice_id=invoice_id, payment_id=payment_id, status=row["status"]
        )
        await customers.write_credit(
            tx,
            new_id("ccr"),
            row,
            amount_minor=amount_minor - applied,
            source="overpayment",
            reference=payment_id,
            at=at,
        )
    if applied == 0:
        return row  # void or paid it stays: all of the money is the customer's credit
    row = await _settle(tx, row, row["paid_minor"] + applied, row["credited_minor"], at)
    news = told(
        row,
        "paid" if row["status"] == "paid" else "part_paid",
        at,
        payment_id=payment_id,
        amount_minor=amount_minor,
        excess_minor=amount_minor - applied,
    )
    await _tell(tx, relay, [news])
    return row


async def use_credit(
    tx: Tx, relay: Relay, view: View, invoice_id: str, amount_minor: int | None = None
) -> asyncpg.Record:
    """Pay what is open from the customer's credit, as far as it goes or so much of it.

    Raises InvoiceMissing, StepRefused (nothing open, a payment under way), InvoiceInvalid.
    """
    row = await held(tx, view, invoice_id)
    if row["locked_by"] is not None:
        raise StepRefused(row["status"], f"a payment is under way ({row['locked_by']})")
    is_open = open_balance(row)
    if is_open == 0:
        raise StepRefused(row["status"], "nothing of it is open")
    await _customer(tx, EVERYTHING, row["customer_id"])  # held: its credit can't be used twice
    has = {c["currency"]: c["amount_minor"] for c in await customers.credit_of(
        tx, row["customer_id"])}.get(row["currency"], 0)  # fmt: skip
    most = min(is_open, has)
    wanted = most if amount_minor is None else amount_minor
    if not 0 < wanted <= most:
        message = f"must be between 1 and {most}: {is_open} is open, the customer has {has}"
        raise invalid("amount_minor", message, "out_of_range")
    at, used = dt.datetime.now(dt.UTC), new_id("ccr")
    await customers.write_credit(
        tx, used, row, amount_minor=-wanted, source="used", reference=used, at=at
    )
    return await apply_payment(
        tx,
        relay,
        invoice_id=invoice_id,
        payment_id=used,
        amount_minor=wanted,
        at=at,
        source="credit",
    )


async def mark_overdue(
    tx: Tx, relay: Relay, *, limit: int, as_of: dt.date | None = None, mode: str = ""
) -> int:
    """Mark at most `limit` invoices that were due before today, by their issuer's calendar.

    `as_of` stands for today; it is for test mode.
    """
    assert as_of is None or mode == "test", "only test mode may look ahead"
    rows = await storage.mark_overdue(tx, as_of, mode, limit)
    at = dt.datetime.now(dt.UTC)
    await _tell(tx, relay, [told(row, "overdue", at) for row in rows])
    return len(rows)


async def _settle(
    tx: Tx, row: Row, paid_minor: int, credited_minor: int, at: dt.datetime
) -> asyncpg.Record:
    status = rules.status_after(row, paid_minor=paid_minor, credited_minor=credited_minor)
    if status != row["status"]:
        check_step(row["status"], status)
    return await storage.settle(
        tx,
        row["id"],
        status=status,
        paid_minor=paid_minor,
        credited_minor=credited_minor,
        at=at,
    )


async def _tell(tx: Tx, relay: Relay, news: Sequence[Outgoing]) -> None:
    """Enqueue news and count them when they are true."""
    await relay.enqueue(tx, news)

    def count() -> None:
        for kind, times in Tally(one.type.split(".")[1] for one in news).items():
            NEWS.labels(kind).inc(times)

    tx.after_commit(count)


def told(row: Row, news: str, at: dt.datetime, **more: Any) -> Outgoing:
    """Return the news of an invoice."""
    same = (
        "issuer_id", "client_id", "recipient_client_id", "mode", "customer_id", "number",
        "currency", "total_minor", "tax_minor", "discount_minor", "paid_minor", "credited_minor",
        "due_on", "issued_at", "version",
    )  # fmt: skip
    body = InvoiceEventV1(
        invoice_id=row["id"],
        status=InvoiceStatus(row["status"]),
        open_minor=open_balance(row),
        occurred_at=at,
        **{name: row[name] for name in same},
        **more,
    )
    return outgoing(f"invoice.{news}.v1", row["id"], body, source="ledger")
