"""Issuers and customers: one verb, one transaction; every change of a customer is told."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import CustomerEventV1, Outgoing, outgoing
from mospay_shared.ids import new_id

from mospay_ledger.domain.invoices import (
    InvoiceMissing,
    ReferenceTaken,
    Row,
    StaleVersion,
    invalid,
)
from mospay_ledger.storage import customers as storage
from mospay_ledger.storage.customers import View


async def put_issuer(
    tx: Tx, client_id: str | None, mode: str, version: int, fields: Row
) -> asyncpg.Record:
    """Make a client's issuer in a mode (version 0), or change it as it was read.

    Without a client it is the operator's own. Raises InvoiceInvalid, StaleVersion.
    """
    if not await storage.knows_zone(tx, fields["time_zone"]):
        raise invalid("time_zone", "is no time zone of the IANA list")
    if fields["invoice_prefix"] == fields["credit_prefix"]:
        raise invalid("credit_prefix", "must differ from invoice_prefix")
    if version == 0:
        made = await storage.insert_issuer(tx, new_id("iss"), client_id, mode, fields)
        if made is not None:
            return made
    there = await storage.issuer_of(tx, client_id, mode)
    if there is None:
        raise InvoiceMissing("there is no issuer to change; send version 0 to make one")
    # A series has papers of one kind: else either kind's numbers would have gaps.
    for field, other in (("invoice_prefix", "credit_note"), ("credit_prefix", "invoice")):
        if await storage.numbered(tx, there["id"], other, fields[field]):
            raise invalid(field, f"numbers {other.replace('_', ' ')}s already", "taken")
    changed = await storage.update_issuer(tx, there["id"], version, fields)
    if changed is None:
        raise StaleVersion(there["version"])
    return changed


async def issuer_for(tx: Tx, view: View, issuer_id: str | None, mode: str | None) -> asyncpg.Record:
    """Return the issuer a change is for: the named one, else the caller's own in that mode.

    Raises InvoiceMissing, InvoiceInvalid.
    """
    if issuer_id is not None:
        found = await storage.issuer(tx, view, issuer_id)
    elif (of_mode := view.mode or mode) is not None:
        found = await storage.issuer_of(tx, view.client_id, of_mode)
    else:
        raise invalid("issuer_id", "name an issuer, or a mode for the operator's own")
    if found is None:
        raise InvoiceMissing("there is no such issuer: make one first")
    return found


async def create(tx: Tx, relay: Relay, issuer: Row, fields: Row) -> asyncpg.Record:
    """Make a customer; raises ReferenceTaken."""
    wanted = {name: fields[name] for name in storage.CUSTOMER_FIELDS}
    wanted["portal_enabled"] = bool(wanted["portal_enabled"])
    try:
        row = await storage.insert_customer(tx, new_id("cus"), issuer, wanted)
    except asyncpg.UniqueViolationError as error:
        raise ReferenceTaken("another customer of the issuer has this client_ref") from error
    await relay.enqueue(tx, [told(row, "created")])
    return row


async def change(
    tx: Tx, relay: Relay, view: View, customer_id: str, version: int, fields: Mapping[str, Any]
) -> asyncpg.Record:
    """Change these fields of a customer as it was read.

    `portal_enabled` None leaves that as it is. Raises InvoiceMissing, StaleVersion, ReferenceTaken.
    """
    there = await storage.lock_customer(tx, view, customer_id)
    if there is None:
        raise InvoiceMissing("there is no such customer")
    if there["version"] != version:
        raise StaleVersion(there["version"])
    wanted = {name: there[name] for name in storage.CUSTOMER_FIELDS}
    wanted |= fields
    if wanted["portal_enabled"] is None:
        wanted["portal_enabled"] = there["portal_enabled"]
    try:
        row = await storage.update_customer(tx, customer_id, wanted)
    except asyncpg.UniqueViolationError as error:
        raise ReferenceTaken("another customer of the issuer has this client_ref") from error
    await relay.enqueue(tx, [told(row, _news(there["active"], row["active"]))])
    return row


async def bring_in(tx: Tx, relay: Relay, issuer: Row, rows: Sequence[Row]) -> tuple[int, int]:
    """Write a checked list of customers by their reference; return how many are new, and changed.

    Those that are as the list says already stay as they are, and nobody is told.
    """
    before = await storage.known_references(tx, issuer["id"], [row["client_ref"] for row in rows])
    ids = [new_id("cus") for _ in rows]
    written = await storage.import_customers(tx, issuer, ids, rows)
    news = [
        told(row, _news(before[row["client_ref"]], row["active"]))
        if row["client_ref"] in before
        else told(row, "created")
        for row in written
    ]
    await relay.enqueue(tx, news)
    created = sum(row["client_ref"] not in before for row in written)
    return created, len(written) - created


def _news(was_active: bool, is_active: bool) -> str:
    return "deactivated" if was_active and not is_active else "updated"


def told(row: Row, news: str) -> Outgoing:
    """Return the news of a customer."""
    same = (
        "issuer_id", "client_id", "recipient_client_id", "mode", "client_ref", "name", "email",
        "phone", "address", "tax_id", "locale", "active", "portal_enabled", "version",
    )  # fmt: skip
    body = CustomerEventV1(
        customer_id=row["id"],
        occurred_at=dt.datetime.now(dt.UTC),
        **{name: row[name] for name in same},
    )
    return outgoing(f"customer.{news}.v1", row["id"], body, source="ledger")
