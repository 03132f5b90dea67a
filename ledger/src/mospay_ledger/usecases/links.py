"""Guest links: made once shown once, followed until they end; a guest sees one invoice alone."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.ids import new_id

from mospay_ledger.domain.invoices import InvoiceMissing
from mospay_ledger.domain.paying import Intent, LinkMissing, Method, NotPayable, new_token
from mospay_ledger.storage import intents, invoices, links, logos


@dataclass(frozen=True, slots=True)
class Seen:
    """What a guest or payer sees: an invoice, its lines, ways to pay, and its latest payment."""

    invoice: asyncpg.Record
    lines: list[asyncpg.Record]
    methods: list[Method]
    latest: Intent | None


@dataclass(frozen=True, slots=True)
class Paper:
    """What the paper of an issued invoice is made of."""

    invoice: asyncpg.Record
    lines: list[asyncpg.Record]
    payments: list[asyncpg.Record]
    notes: list[asyncpg.Record]
    logo: asyncpg.Record | None


async def logo(database: Database, token_hash: bytes) -> asyncpg.Record:
    """Return the logo of the issuer behind a link; raises LinkMissing, InvoiceMissing."""
    link = await follow(database, token_hash)
    async with database.request(**tenant_of(link)) as tx:
        invoice = await invoices.find(tx, link["invoice_id"])
        found = None if invoice is None else await logos.find(tx, invoice["issuer_id"])
    if found is None:
        raise InvoiceMissing("the issuer has no logo")
    return found


async def paper(database: Database, token_hash: bytes) -> Paper:
    """Return what the paper behind a link is made of; raises LinkMissing."""
    link = await follow(database, token_hash)
    async with database.request(**tenant_of(link)) as tx:
        found = await paper_of(tx, link["invoice_id"])
    if found is None:
        raise LinkMissing("there is no such link")
    return found


async def paper_of(tx: Tx, invoice_id: str) -> Paper | None:
    """Return what the paper of an invoice is made of where `tx` sees it and it was issued."""
    invoice = await invoices.find(tx, invoice_id)
    if invoice is None or invoice["issuer_snapshot"] is None:
        return None
    return Paper(
        invoice,
        await invoices.lines_of(tx, invoice["id"]),
        await invoices.payments_of(tx, invoice["id"]),
        await invoices.credit_notes_of(tx, invoice["id"]),
        await logos.find(tx, invoice["issuer_id"]),
    )


async def make(
    tx: Tx,
    invoice_id: str,
    *,
    client_id: str,
    mode: str,
    purpose: str,
    expires_at: dt.datetime,
    by: str | None,
) -> tuple[str, asyncpg.Record]:
    """Make a link to an issued invoice; return its token, which nobody can read again, and its row.

    Raises InvoiceMissing, NotPayable (a draft has no readers).
    """
    invoice = await links.invoice_of(tx, invoice_id, client_id, mode)
    if invoice is None:
        raise InvoiceMissing("there is no such invoice")
    if invoice["status"] == "draft":
        raise NotPayable("a draft is not shown to anybody")
    if purpose == "mailed" and invoice["open_minor"] == 0:
        raise NotPayable("nothing is open: nobody is reminded")
    token, digest = new_token()
    row = await links.insert(
        tx,
        invoice,
        link_id=new_id("lnk"),
        token_hash=digest,
        purpose=purpose,
        expires_at=expires_at,
        by=by,
    )
    return token, row


async def follow(database: Database, token_hash: bytes, *, count: bool = False) -> asyncpg.Record:
    """Return the link behind a token's hash; raises LinkMissing whatever is wrong with it."""
    async with database.transaction() as tx:
        found = await links.follow(tx, token_hash, count=count)
    if found is None:
        raise LinkMissing("there is no such link")
    return found


async def see(database: Database, token_hash: bytes, *, count: bool, lines: bool = True) -> Seen:
    """Return what the guest with a token sees; raises LinkMissing."""
    link = await follow(database, token_hash, count=count)
    async with database.request(**tenant_of(link)) as tx:
        seen = await look(tx, link["invoice_id"], lines=lines)
    if seen is None:
        raise LinkMissing("there is no such link")
    return seen


async def look(tx: Tx, invoice_id: str, *, lines: bool = True) -> Seen | None:
    """Return an issued invoice as whoever pays it sees it; None where `tx` sees none."""
    invoice = await links.seen(tx, invoice_id)
    if invoice is None:
        return None
    latest = await intents.of_invoice(tx, invoice["id"], "int_z", 1)
    return Seen(
        invoice,
        await links.lines(tx, invoice["id"]) if lines else [],
        await intents.methods(tx, invoice["issuer_id"], invoice["currency"]),
        latest[0] if latest else None,
    )


def tenant_of(link: asyncpg.Record) -> dict[str, Any]:
    """Return whose rows a guest's transaction sees: of the operator's own invoices, the operator's.

    The statements name one invoice besides.
    """
    if link["client_id"] is None:
        return {"operator": True, "mode": link["mode"]}
    return {"client_id": link["client_id"], "mode": link["mode"]}
