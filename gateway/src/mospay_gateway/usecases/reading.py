"""Reads of one tenant: the transaction sees that tenant's rows and no others."""

from dataclasses import replace

from mospay_shared.chassis.database import Database

from mospay_gateway.domain.catalogue import ClientApp
from mospay_gateway.domain.errors import NotFound
from mospay_gateway.domain.payments import Payment
from mospay_gateway.storage import acceptance, payments
from mospay_gateway.storage.payments import Filter

_MISSING = "There is no such payment among yours"


async def read_payment(database: Database, caller: ClientApp, payment_id: str) -> Payment:
    """Return a payment of the caller's; raises NotFound, whoever else may have it."""
    async with database.request(client_id=caller.client_id, mode=caller.mode) as tx:
        payment = await payments.find(tx, payment_id)
    if payment is None:
        raise NotFound(_MISSING)
    return payment


async def read_by_reference(
    database: Database, caller: ClientApp, reference_hash: bytes
) -> Payment:
    """Return the payment the caller's reference names; raises NotFound."""
    async with database.request(client_id=caller.client_id, mode=caller.mode) as tx:
        payment = await payments.find_by_reference(tx, reference_hash)
    if payment is None:
        raise NotFound(_MISSING)
    return payment


async def read_by_key(
    database: Database,
    client_id: str,
    mode: str,
    *,
    operation: str,
    key: str,
    reference_hash: bytes,
) -> Payment:
    """Return the payment a key, or a reference of the same text, was used for; raises NotFound.

    Keys are forgotten after days, references never: who uses one text for both can prove absence.
    """
    async with database.request(client_id=client_id, mode=mode) as tx:
        known = await acceptance.earlier(tx, client_id, mode, operation, key, reference_hash)
        found = known.get("key") or known.get("reference")
        payment = await payments.find(tx, found.payment_id) if found is not None else None
    if payment is None:
        raise NotFound("No payment was accepted under this key")
    return payment


async def list_payments(
    database: Database, caller: ClientApp, wanted: Filter
) -> tuple[list[Payment], str | None]:
    """Return a page, newest first, and the id to go on from (None at the end)."""
    more = replace(wanted, limit=wanted.limit + 1)
    async with database.request(client_id=caller.client_id, mode=caller.mode) as tx:
        found = await payments.page(tx, caller.client_id, caller.mode, more)
    if len(found) <= wanted.limit:
        return found, None
    return found[: wanted.limit], found[wanted.limit - 1].id
