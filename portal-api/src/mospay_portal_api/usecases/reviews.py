"""The review of a payment that risk holds: written down and sent to the router as one."""

import datetime as dt
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import ReviewPaymentV1, outgoing

from mospay_portal_api.domain.errors import Fault, Invalid, StaleVersion
from mospay_portal_api.domain.people import Author
from mospay_portal_api.storage import audit

ENDS = {"release": "processing", "refuse": "cancelled"}


async def review(
    tx: Tx,
    relay: Relay,
    by: Author,
    payment: dict[str, Any],
    decision: str,
    note: str,
    version: int,
) -> None:
    """Send a person's word on a held payment to the router, bound to the version they saw.

    `payment` is as the router shows it. Raises StaleVersion when it has moved on, Invalid when it
    is not held. The router looks again, under the payment's lock.
    """
    if payment["version"] != version:
        raise StaleVersion("payment", payment["version"])
    if payment["status"] != "held":
        words = f"the payment is {payment['status']}; only a held one can be reviewed"
        raise Invalid([Fault("payment_id", "not_held", words)])
    assert by.actor is not None
    command = ReviewPaymentV1(
        payment_id=payment["id"],
        client_id=payment["client_id"],
        mode=payment["mode"],
        version=version,
        decision=decision,
        note=note,
        by=by.actor,
        requested_at=dt.datetime.now(dt.UTC),
    )
    before = {"status": payment["status"], "version": version}
    after = {"decision": decision, "asked_for": ENDS[decision], "note": note}
    await audit.write(tx, by, "payment_reviewed", payment["id"], before=before, after=after)
    message = outgoing("payments.review.v1", payment["id"], command, source="portal-api")
    await relay.enqueue(tx, [message])
