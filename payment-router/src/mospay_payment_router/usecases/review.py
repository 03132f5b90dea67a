"""Review: a person's word on a payment that risk holds, bound to the version they saw."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Permanent
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Event, PaymentStatus, ReviewPaymentV1
from prometheus_client import Counter

from mospay_payment_router.domain.answers import Finding
from mospay_payment_router.domain.errors import NotYetKnown
from mospay_payment_router.domain.payments import Payment, event
from mospay_payment_router.domain.states import Evidence, decide
from mospay_payment_router.storage import attempts, payments, risk
from mospay_payment_router.storage.payments import Change
from mospay_payment_router.usecases.believe import MOVED, Believer, Heard
from mospay_payment_router.usecases.risk_history import Histories

log = structlog.get_logger()
REVIEWED = Counter("mospay_router_reviews", "Reviews of held payments", ["result"])
REFUSED = ("refused_in_review", "a person looked at it and refused it")
TOO_LATE = ("send_before_passed", "released after its time to be sent was over")
ERASED = ("payload_erased", "released after what the payer had entered was erased")


class Reviews:
    """Handles `payments.review.v1`. `ready` is called when a released attempt may be claimed."""

    def __init__(
        self,
        believer: Believer,
        relay: Relay,
        history: Histories,
        ready: Callable[[], None],
        announce_after_seconds: float,
    ) -> None:
        self._believer, self._relay, self._history = believer, relay, history
        self._ready, self._announce_after = ready, announce_after_seconds

    async def review(self, tx: Tx, events: Sequence[Event[ReviewPaymentV1]]) -> None:
        """Release or refuse held payments; what has moved on since it was seen stays as it is.

        Raises NotYetKnown for a payment that is not here, Permanent for another tenant's.
        """
        await payments.load(tx, [e.data.payment_id for e in events])  # all locks, in their order
        for one in events:
            command = one.data
            payment = (await payments.load(tx, [command.payment_id])).get(command.payment_id)
            if payment is None:
                raise NotYetKnown(command.payment_id)
            if (payment.client_id, payment.mode) != (command.client_id, command.mode):
                raise Permanent("the review names a payment of another client or mode")
            result = await self._apply(tx, payment, command)
            REVIEWED.labels(result).inc()
            log.info(
                "payment_reviewed",
                payment_id=payment.id,
                result=result,
                version=payment.version,
                seen=command.version,
                by=command.by,
            )

    async def _apply(self, tx: Tx, payment: Payment, command: ReviewPaymentV1) -> str:
        holds = payment.status is PaymentStatus.HELD and payment.version == command.version
        if not await risk.add_review(tx, command, holds):
            return "repeated"
        if not holds:
            return "stale"
        if command.decision == "refuse":
            await self._end(tx, payment, command, Evidence.REFUSED_IN_REVIEW, REFUSED)
            return "refused"
        if payment.send_before <= dt.datetime.now(dt.UTC):
            await self._end(tx, payment, command, Evidence.UNSENT_EXPIRED, TOO_LATE)
            return "too_late"
        if not await risk.sendable(tx, payment.id):
            await self._end(tx, payment, command, Evidence.UNSENT_EXPIRED, ERASED)
            return "erased"
        await self._release(tx, payment, command)
        return "released"

    async def _end(
        self,
        tx: Tx,
        payment: Payment,
        command: ReviewPaymentV1,
        evidence: Evidence,
        why: tuple[str, str],
    ) -> None:
        attempt = await attempts.last_id(tx, payment.id)
        finding = Finding(evidence, None, *why)
        await self._believer.believe(tx, [Heard(payment, attempt, command.by, finding)])

    async def _release(self, tx: Tx, payment: Payment, command: ReviewPaymentV1) -> None:
        after = replace(
            payment,
            status=decide(payment.status, Evidence.RELEASED).status,
            version=payment.version + 1,
            reason_code=None,
            reason_message=None,
        )
        attempt = await attempts.last_id(tx, payment.id)
        change = Change(
            payment=after,
            expected=payment.version,
            bump=1,
            before=payment.status,
            evidence=Evidence.RELEASED,
            source_id=command.by,
            attempt_state="",  # stays ready, and is claimed like any other
            result="",
            wake_seconds=self._announce_after,
            event=event(after, payment.status, attempt),
        )
        written = await payments.settle(tx, [change])
        assert payment.id in written, "a payment under its row lock can't move on"
        await risk.release(tx, payment.id)
        tx.after_commit(lambda: self._released(after))

    def _released(self, payment: Payment) -> None:
        MOVED.labels(payment.status).inc()
        self._history.learn(payment)
        self._relay.wake()
        self._ready()
