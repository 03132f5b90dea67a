"""Invoices of the operator to its clients: the fees of a month, from the journal, to the unit.

The fees were kept when payments were captured, so such an invoice is paid as soon as it is issued
("netted from settlement"): a record for the client's own books.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

import asyncpg
import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.ids import new_id

from mospay_ledger.domain.invoices import Line, Row, StepRefused, totals_of
from mospay_ledger.papers.languages import Language, language_of
from mospay_ledger.storage import customers
from mospay_ledger.storage import fee_invoices as storage
from mospay_ledger.storage import invoices as papers
from mospay_ledger.storage.customers import EVERYTHING
from mospay_ledger.usecases import customers as people
from mospay_ledger.usecases import invoices
from mospay_ledger.usecases.invoices import Draft

log = structlog.get_logger()
SETTLES_SECONDS = 3600  # a month is closed an hour after its end: no posting is late by then


@dataclass(frozen=True, slots=True)
class Run:
    """What a run did."""

    overdue: int = 0
    fee_invoices: int = 0


def month_of(day: dt.date, back: int = 0) -> dt.date:
    """Return the first day of a day's month, `back` months earlier."""
    months = day.year * 12 + day.month - 1 - back
    return dt.date(months // 12, months % 12 + 1, 1)


def span_of(month: dt.date, time_zone: str) -> tuple[dt.datetime, dt.datetime]:
    """Return the instants a month of a calendar starts and ends at."""
    zone = ZoneInfo(time_zone)
    starts = (month, month_of(month, -1))
    first, last = (dt.datetime(d.year, d.month, 1, tzinfo=zone).astimezone(dt.UTC) for d in starts)
    return first, last


def fee_lines(
    rows: Sequence[Row], brought_minor: int, currency: str, tax_bps: int, language: Language
) -> list[Line]:
    """Return the lines of a fee invoice: one a service, one for what earlier months left.

    A line is what was taken less what was given back; it comes to that to the unit, its tax within.
    """

    def line(text: str, minor: int, service_id: str | None = None, rate: int = tax_bps) -> Line:
        return Line(
            text, Decimal(1), minor, tax_rate_bps=rate, tax_inclusive=True, service_id=service_id
        )

    found = [
        line(_words(row, currency, language), net, row["service_id"] or None)
        for row in rows
        if (net := row["taken_minor"] - row["returned_minor"])
    ]
    if brought_minor:
        found.append(line(language.say("fees.brought"), brought_minor))
    if totals_of(found).tax_minor < 0:  # rounding of many small negative lines
        found = [
            line(f.description, f.unit_price_minor, f.service_id, rate=0)
            if f.unit_price_minor < 0
            else f
            for f in found
        ]
    return found


def _words(row: Row, currency: str, language: Language) -> str:
    name = row["service_id"] or language.say("fees.payments")
    words = language.say("fees.line", service=name, payments=language.number(str(row["payments"])))
    if not row["returned_minor"]:
        return words
    returned = f"{language.amount(row['returned_minor'], currency)} {currency}"
    refunds = language.number(str(row["refunds"]))
    return words + language.say("fees.returned", amount=returned, refunds=refunds)


async def close_month(
    tx: Tx, relay: Relay, issuer: Row, client_id: str, currency: str, month: dt.date
) -> asyncpg.Record | None:
    """Close a month for a client, once: issue the invoice of its fees and mark it netted.

    A month in which more was given back than taken has no invoice; its rest lowers the next one's.
    Raises StepRefused where a later month is closed already. Returns the invoice, None without one.
    """
    mode = issuer["mode"]
    done, later = await storage.hold(tx, client_id, mode, currency, month)
    if done:
        return None
    if later:
        raise StepRefused("closed", f"a month after {month:%Y-%m} is closed for {client_id}")
    rows = await storage.by_service(
        tx, client_id, mode, currency, span_of(month, issuer["time_zone"])
    )
    brought = await storage.brought(tx, client_id, mode, currency, month)
    taken = sum(row["taken_minor"] for row in rows)
    returned = sum(row["returned_minor"] for row in rows)
    net = taken - returned + brought
    invoice = None
    if net > 0:
        customer = await _recipient(tx, relay, issuer, client_id)
        language = language_of(customer["locale"])
        lines = fee_lines(rows, brought, currency, issuer["fee_tax_bps"], language)
        draft = Draft(
            customer_id=customer["id"],
            currency=currency,
            lines=tuple(lines),
            notes=language.say("fees.netted", month=language.month(month)),
            reference=f"fees {month:%Y-%m}",
        )
        invoice = await _netted(tx, relay, customer, draft)
        assert invoice["total_minor"] == net, "a fee invoice is what the journal says"
    await storage.write(
        tx,
        {
            "client_id": client_id,
            "mode": mode,
            "currency": currency,
            "month": month,
            "taken_minor": taken,
            "returned_minor": returned,
            "brought_minor": brought,
            "carried_minor": min(net, 0),
            "invoice_id": invoice["id"] if invoice else None,
            "invoiced_minor": max(net, 0),
        },
    )
    return invoice


async def _netted(tx: Tx, relay: Relay, customer: Row, draft: Draft) -> asyncpg.Record:
    totals = totals_of(draft.lines)
    row = await papers.insert(tx, new_id("inv"), customer, totals, draft.terms(), "system")
    await papers.write_lines(tx, row, draft.lines)
    row = await invoices.issue(tx, relay, EVERYTHING, row["id"], even_inactive=True)
    return await invoices.apply_payment(
        tx,
        relay,
        invoice_id=row["id"],
        payment_id=new_id("net"),
        amount_minor=row["total_minor"],
        at=row["issued_at"],
        source="netted",
    )


async def _recipient(tx: Tx, relay: Relay, issuer: Row, client_id: str) -> asyncpg.Record:
    """Return the operator's customer that stands for a client, made where there is none."""
    found = await customers.recipient(tx, issuer["id"], client_id)
    if found is not None:
        return found
    # One at a time: two currencies of one client may be closed at once.
    await tx.run("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"recipient:{client_id}")
    found = await customers.recipient(tx, issuer["id"], client_id)
    if found is not None:
        return found
    known = await storage.client_name(tx, client_id, issuer["mode"])
    fields = {**known, "client_ref": None, "active": True, "portal_enabled": False}
    made = await customers.insert_customer(tx, new_id("cus"), issuer, fields, client_id)
    await relay.enqueue(tx, [people.told(made, "created")])
    return made


async def close_months(
    database: Database,
    relay: Relay,
    mode: str,
    *,
    limit: int,
    months_back: int,
    as_of: dt.date | None = None,
) -> int:
    """Close at most `limit` (client, currency, month)s that are over, the oldest month first.

    `as_of` stands for the operator's today; it is for test mode. Returns how many were closed.
    """
    assert as_of is None or mode == "test", "only test mode may look ahead"
    async with database.transaction() as tx:
        issuer = await customers.issuer_of(tx, None, mode)
        found = await storage.currencies(tx, mode) if issuer else []
    if issuer is None:
        log.info("fee_invoices_wait", mode=mode, reason="the operator has no issuer in this mode")
        return 0
    zone = ZoneInfo(issuer["time_zone"])
    settled = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=SETTLES_SECONDS)
    today = as_of or settled.astimezone(zone).date()
    done = 0
    for back in range(months_back, 0, -1):
        month = month_of(today, back)
        span = span_of(month, issuer["time_zone"])
        for currency in found:
            async with database.transaction() as tx:
                clients = await storage.waiting(tx, mode, currency, month, span, limit - done)
            for client_id in clients:
                async with database.transaction() as tx:
                    await close_month(tx, relay, issuer, client_id, currency, month)
                done += 1
            if done >= limit:
                return done
    return done


async def run(
    database: Database, relay: Relay, mode: str, as_of: dt.date | None, *, limit: int, months: int
) -> Run:
    """Do by hand what the workers do: mark what is overdue, close months; at most `limit` each."""
    async with database.transaction() as tx:
        overdue = await invoices.mark_overdue(tx, relay, limit=limit, as_of=as_of, mode=mode)
    closed = await close_months(database, relay, mode, limit=limit, months_back=months, as_of=as_of)
    return Run(overdue, closed)
