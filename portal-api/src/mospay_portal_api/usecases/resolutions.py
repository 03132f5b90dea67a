"""What people do about payments and refunds: two end one with evidence, one has it asked about."""

import datetime as dt
from collections.abc import Collection
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import (
    Contract,
    EnquirePaymentV1,
    ResolvePaymentV1,
    ResolveRefundV1,
    outgoing,
)
from mospay_shared.ids import new_id

from mospay_portal_api.domain.errors import Conflict, Fault, Invalid, NotFound, StaleVersion
from mospay_portal_api.domain.people import Author
from mospay_portal_api.storage import audit
from mospay_portal_api.storage.resolutions import PAYMENTS, REFUNDS, Proposals

RESOLVABLE = ("unknown", "conflicted", "requires_customer_action")
RESOLVABLE_REFUNDS = ("unknown",)


async def propose(
    tx: Tx, by: Author, payment: dict[str, Any], version: int, outcome: str, evidence: str
) -> Any:
    """Keep what one person knows about a payment; return the proposal's row.

    Raises StaleVersion when the payment has moved on since it was read, Conflict when somebody has
    proposed something for it already.
    """
    _check(payment, version, "payment", RESOLVABLE)
    values = _values(by, payment, version, outcome, evidence) | {"payment_id": payment["id"]}
    row = await PAYMENTS.insert(tx, values)
    if row is None:
        raise Conflict("Somebody has proposed a resolution of this payment; decide on that first")
    await audit.write(tx, by, "resolution_proposed", payment["id"], after=_shown(row))
    return row


async def propose_for_refund(
    tx: Tx,
    by: Author,
    refund: dict[str, Any],
    version: int,
    outcome: str,
    reason: str,
    evidence: str,
) -> Any:
    """Keep what one person knows about a refund that stays unknown; raises as `propose` does."""
    _check(refund, version, "refund", RESOLVABLE_REFUNDS)
    values = _values(by, refund, version, outcome, evidence) | {
        "refund_id": refund["id"],
        "payment_id": refund["payment_id"],
        "reason": reason,
    }
    row = await REFUNDS.insert(tx, values)
    if row is None:
        raise Conflict("Somebody has proposed a resolution of this refund; decide on that first")
    await audit.write(tx, by, "refund_resolution_proposed", refund["id"], after=_shown(row))
    return row


async def decide(tx: Tx, relay: Relay, by: Author, resolution_id: str, *, approve: bool) -> Any:
    """Approve or reject what another person proposed; an approved one goes to the router."""
    row = await _decided(tx, by, PAYMENTS, resolution_id, approve=approve)
    action = f"resolution_{row['state']}"
    await audit.write(tx, by, action, row["payment_id"], before=_open(row), after=_shown(row))
    if approve:
        command = ResolvePaymentV1(payment_id=row["payment_id"], **_said(row))
        await _command(tx, relay, "payments.resolve.v1", row["payment_id"], command)
    return row


async def decide_on_refund(
    tx: Tx, relay: Relay, by: Author, refund_id: str, resolution_id: str, *, approve: bool
) -> Any:
    """Approve or reject what another person proposed for this refund, as `decide` does."""
    row = await _decided(tx, by, REFUNDS, resolution_id, about=refund_id, approve=approve)
    action = f"refund_resolution_{row['state']}"
    await audit.write(tx, by, action, refund_id, before=_open(row), after=_shown(row))
    if approve:
        command = ResolveRefundV1(
            refund_id=refund_id, payment_id=row["payment_id"], reason=row["reason"], **_said(row)
        )
        # the subject is the payment: its trace shows what became of its refunds
        await _command(tx, relay, "refunds.resolve.v1", row["payment_id"], command)
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


def _check(thing: dict[str, Any], version: int, what: str, resolvable: Collection[str]) -> None:
    if thing["version"] != version:
        raise StaleVersion(what, thing["version"])
    if thing["status"] not in resolvable:
        words = f"the {what} is {thing['status']}; only {', '.join(resolvable)} can be resolved"
        raise Invalid([Fault(f"{what}_id", "not_resolvable", words)])


def _values(
    by: Author, thing: dict[str, Any], version: int, outcome: str, evidence: str
) -> dict[str, Any]:
    assert by.actor is not None
    return {
        "id": new_id("rsl"),
        "client_id": thing["client_id"],
        "mode": thing["mode"],
        "version": version,
        "outcome": outcome,
        "evidence": evidence,
        "proposed_by": by.actor,
    }


async def _decided(
    tx: Tx,
    by: Author,
    proposals: Proposals,
    resolution_id: str,
    *,
    approve: bool,
    about: str | None = None,
) -> Any:
    """Decide on a proposal under its row lock; return its row."""
    before = await proposals.find(tx, resolution_id)
    if before is None or about not in (None, before[proposals.about]):
        raise NotFound("There is no such resolution")
    if before["state"] != "open":
        raise Conflict(f"It was {before['state']} already")
    assert by.actor is not None
    if approve and before["proposed_by"] == by.actor:
        words = "is who proposed it: a second person must approve"
        raise Invalid([Fault("approved_by", "same_person", words)])
    state = "approved" if approve else "rejected"
    return await proposals.decide(tx, resolution_id, state, by.actor)


def _said(row: Any) -> dict[str, Any]:
    """Return what the commands about payments and refunds have in common."""
    names = ("client_id", "mode", "version", "outcome", "evidence", "proposed_by")
    return {name: row[name] for name in names} | {
        "approved_by": row["decided_by"],
        "requested_at": dt.datetime.now(dt.UTC),
    }


async def _command(tx: Tx, relay: Relay, wire_type: str, subject: str, body: Contract) -> None:
    message = outgoing(wire_type, subject, body, source="portal-api")
    await relay.enqueue(tx, [message])


def _shown(row: Any) -> dict[str, Any]:
    return {
        key: value.isoformat() if isinstance(value, dt.datetime) else value
        for key, value in dict(row).items()
    }


def _open(row: Any) -> dict[str, Any]:
    """Return a proposal as it was before it was decided on."""
    return _shown(row) | {"state": "open", "decided_by": None, "decided_at": None}
