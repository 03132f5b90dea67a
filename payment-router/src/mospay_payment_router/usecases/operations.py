"""Wishes about a payment: cancel it, ask about it now, resolve it by two people."""

import datetime as dt
from collections.abc import Sequence

import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.inbox import Permanent
from mospay_shared.contracts import (
    CancelPaymentV1,
    EnquirePaymentV1,
    Event,
    PaymentStatus,
    ResolvePaymentV1,
)
from prometheus_client import Counter

from mospay_payment_router.domain.answers import Finding
from mospay_payment_router.domain.errors import NotYetKnown
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.states import Evidence
from mospay_payment_router.storage import attempts, operations, payments
from mospay_payment_router.storage.operations import Wish
from mospay_payment_router.usecases.believe import Believer, Heard

log = structlog.get_logger()
CANCELS = Counter("mospay_router_cancels", "Cancel requests by what became of them", ["result"])
RESOLVED = Counter("mospay_router_resolutions", "Two-person resolutions", ["result"])
UNSEEN_HOURS = 24  # a cancel of a payment that never comes stays as a tombstone from then on
LOOK_AGAIN_SECONDS = 5.0  # for a payment that is not here yet
RESOLVABLE = frozenset(
    {PaymentStatus.UNKNOWN, PaymentStatus.CONFLICTED, PaymentStatus.REQUIRES_CUSTOMER_ACTION}
)


class Operations:
    """Handles the wishes; cancels are applied by a worker, after their own commit.

    A payment and its cancel may arrive in two transactions that don't see each other: so the wish
    is committed first, and what it finds later is what counts.
    """

    def __init__(self, database: Database, believer: Believer) -> None:
        self._database, self._believer = database, believer

    async def wish_cancels(self, tx: Tx, events: Sequence[Event[CancelPaymentV1]]) -> None:
        """Keep cancel requests, also of payments that have not been seen yet."""
        await operations.wish_cancels(tx, [e.data for e in events])

    async def apply_cancels(self, limit: int) -> int:
        """Cancel what is provably unsent; what was sent goes on. Return how many wishes ended."""
        async with self._database.transaction() as tx:
            wishes = await operations.claim_cancels(tx, limit, LOOK_AGAIN_SECONDS)
            if not wishes:
                return 0
            found = await payments.load(tx, [w.payment_id for w in wishes])
            unsent = await attempts.lock_unsent(tx, list(found))
            ended: dict[str, list[str]] = {"applied": [], "too_late": [], "unseen": []}
            heard = []
            for wish in wishes:
                payment = found.get(wish.payment_id)
                result = _result(wish, payment, unsent)
                if result is None:
                    continue
                ended[result].append(wish.payment_id)
                if result == "applied" and payment is not None:
                    finding = Finding(Evidence.CANCELLED, None, "cancelled", wish.reason)
                    attempt = await attempts.last_id(tx, payment.id)
                    heard.append(Heard(payment, attempt, attempt, finding))
            if heard:
                await self._believer.believe(tx, heard)
            for state, ids in ended.items():
                if ids:
                    await operations.end_cancels(tx, ids, state)
                    CANCELS.labels(state).inc(len(ids))
        return sum(len(ids) for ids in ended.values())

    async def ask_now(self, tx: Tx, events: Sequence[Event[EnquirePaymentV1]]) -> None:
        """Make open payments due for an enquiry at once; another tenant's are left alone."""
        found = await payments.owners(tx, [e.data.payment_id for e in events])
        own = [
            e.data.payment_id
            for e in events
            if found.get(e.data.payment_id) == (e.data.client_id, e.data.mode)
        ]
        if own:
            await operations.ask_now(tx, own)

    async def resolve(self, tx: Tx, events: Sequence[Event[ResolvePaymentV1]]) -> None:
        """Believe two people about a payment nobody else can end, if it is still what they saw.

        Raises Permanent when they are one person or it is another tenant's payment, NotYetKnown
        when it is not here.
        """
        for one in events:
            command = one.data
            if command.proposed_by == command.approved_by:
                raise Permanent("a resolution needs two different people")
            payment = (await payments.load(tx, [command.payment_id])).get(command.payment_id)
            if payment is None:
                raise NotYetKnown(command.payment_id)
            if (payment.client_id, payment.mode) != (command.client_id, command.mode):
                raise Permanent("the resolution names a payment of another client or mode")
            holds = payment.version == command.version and payment.status in RESOLVABLE
            if not await operations.add_resolution(tx, command, holds):
                continue
            RESOLVED.labels("applied" if holds else "stale").inc()
            if not holds:
                log.warning(
                    "resolution_stale",
                    payment_id=payment.id,
                    version=payment.version,
                    seen=command.version,
                )
                continue
            await self._believer.believe(tx, [await self._heard(tx, payment, command)])

    async def _heard(self, tx: Tx, payment: Payment, command: ResolvePaymentV1) -> Heard:
        won = command.outcome == "succeeded"
        evidence = Evidence.PEOPLE_SUCCEEDED if won else Evidence.PEOPLE_FAILED
        finding = Finding(evidence, None, None if won else "resolved_failed", command.evidence)
        attempt = await attempts.last_id(tx, payment.id)
        source = f"{command.proposed_by}+{command.approved_by}"
        return Heard(payment, attempt, source, finding)


def _result(wish: Wish, payment: Payment | None, unsent: set[str]) -> str | None:
    """Return how a wish ends, or None while there is nothing to decide."""
    if payment is None:
        age = dt.datetime.now(dt.UTC) - wish.requested_at
        return "unseen" if age > dt.timedelta(hours=UNSEEN_HOURS) else None
    if (payment.client_id, payment.mode) != (wish.client_id, wish.mode):
        return "too_late"
    waits = payment.status in (PaymentStatus.PROCESSING, PaymentStatus.HELD)
    return "applied" if waits and payment.id in unsent else "too_late"
