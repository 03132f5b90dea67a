"""What people do about a payment: two end it with evidence, one has it asked about."""

import datetime as dt
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Contract, EnquirePaymentV1, ResolvePaymentV1, outgoing
from mospay_shared.ids import new_id

from mospay_portal_api.domain.errors import Conflict, Fault, Invalid, NotFound, StaleVersion
from mospay_portal_api.domain.people import Author
from mospay_portal_api.storage import audit, resolutions

RESOLVABLE = ("unknown", "conflicted", "requires_customer_action")


async def propose(
    tx: Tx, by: Author, payment: dict[str, Any], version: int, outcome: str, evidence: str
) -> Any:
    """Keep what one person knows about a payment; return the proposal's row.

    Raises StaleVersion when the payment has moved on since it was read, Conflict when somebody has
    proposed something for it already.
    """
    if payment["version"] != version:
        raise StaleVersion("payment", payment["version"])
    if payment["status"] not in RESOLVABLE:
        words = f"the payment is {payment['status']}; only {', '.join(RESOLVABLE)} can be resolved"
        raise Invalid([Fault("payment_id", "not_resolvable", words)])
    assert by.actor is not None
    values = (new_id("rsl"), payment["id"], payment["client_id"], payment["mode"], version,
              outcome, evidence, by.actor)  # fmt: skip
    row = await resolutions.insert(tx, values)
    if row is None:
        raise Conflict("Somebody has proposed a resolution of this payment; decide on that first")
    await audit.write(tx, by, "resolution_proposed", payment["id"], after=_shown(row))
    return row


async def decide(tx: Tx, relay: Relay, by: Author, resolution_id: str, *, approve: bool) -> Any:
    """Approve or reject what another person proposed; an approved one goes to the router."""
    before = await resolutions.find(tx, resolution_id)
    if before is None:
        raise NotFound("There is no such resolution")
    if before["state"] != "open":
        raise Conflict(f"It was {before['state']} already")
    assert by.actor is not None
    if approve and before["proposed_by"] == by.actor:
        words = "is who proposed it: a second person must approve"
        raise Invalid([Fault("approved_by", "same_person", words)])
    row = await resolutions.decide(
        tx, resolution_id, "approved" if approve else "rejected", by.actor
    )
    action = f"resolution_{row['state']}"
    await audit.write(tx, by, action, row["payment_id"], before=_shown(before), after=_shown(row))
    if approve:
        command = ResolvePaymentV1(
            payment_id=row["payment_id"],
            client_id=row["client_id"],
            mode=row["mode"],
            version=row["version"],
            outcome=row["outcome"],
            evidence=row["evidence"],
            proposed_by=row["proposed_by"],
            approved_by=by.actor,
            requested_at=dt.datetime.now(dt.UTC),
        )
        await _command(tx, relay, "payments.resolve.v1", row["payment_id"], command)
    return row


async def enquire(tx: Tx, relay: Relay, by: Author, payment: dict[str, Any]) -> None:
    """Have the provider asked about a payment now."""
    command = EnquirePaymentV1(
        payment_id=payment["id"],
        client_id=payment["client_id"],
        mode=payment["mode"],
        requested_at=dt.datetime.now(dt.UTC),
    )
    await audit.write(tx, by, "payment_enquired", payment["id"])
    await _command(tx, relay, "payments.enquire.v1", payment["id"], command)


async def _command(tx: Tx, relay: Relay, wire_type: str, subject: str, body: Contract) -> None:
    message = outgoing(wire_type, subject, body, source="portal-api", command=True)
    await relay.enqueue(tx, [message])


def _shown(row: Any) -> dict[str, Any]:
    return {
        key: value.isoformat() if isinstance(value, dt.datetime) else value
        for key, value in dict(row).items()
    }
