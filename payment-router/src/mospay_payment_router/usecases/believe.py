"""Belief: evidence meets the state machine, and the books of a payment move in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import PaymentStatus
from prometheus_client import Counter

from mospay_payment_router.domain.answers import Finding
from mospay_payment_router.domain.payments import Payment, age_seconds, event
from mospay_payment_router.domain.schedule import delay_seconds
from mospay_payment_router.domain.states import decide, is_final
from mospay_payment_router.storage import payments
from mospay_payment_router.storage.payments import Change

log = structlog.get_logger()
MOVED = Counter("mospay_router_payments", "Payments by the state they moved to", ["status"])
CONTRADICTED = Counter("mospay_router_contradictions", "Evidence against a proven success")
ROUNDS = 5  # a payment that moved on is looked at again under its lock; twice is the rule
REMIND_SECONDS = 3600.0  # a conflicted payment comes back to mind this often until people act
# Findings after which only a person can know; the payment is asked about all the same.
FOR_PEOPLE = frozenset({"output_without_outcome", "not_found_unproven"})


@dataclass(frozen=True, slots=True)
class Heard:
    """A finding about a payment as it was when it was made.

    `attempt_id` is the attempt whose effect it speaks of, `source_id` who told: attempt, enquiry,
    callback.
    """

    payment: Payment
    attempt_id: str | None
    source_id: str | None
    finding: Finding


class Believer:
    """Applies findings. `schedule` are seconds before each enquiry about an open payment."""

    def __init__(
        self, relay: Relay, schedule: Sequence[float], attention_after_seconds: float
    ) -> None:
        self._relay, self._schedule = relay, schedule
        self._attention_after = attention_after_seconds

    async def believe(self, tx: Tx, heard: Sequence[Heard]) -> None:
        """Write what the findings change. One of several findings about a payment at a time."""
        waiting = list(heard)
        for round_number in range(ROUNDS):
            if not waiting:
                break
            turn = list({h.payment.id: h for h in reversed(waiting)}.values())
            if round_number:
                fresh = await payments.load(tx, [h.payment.id for h in turn])
                turn = [replace(h, payment=fresh[h.payment.id]) for h in turn]
            changes = [self.change(h) for h in turn]
            written = await payments.settle(tx, changes)
            done = {(h.payment.id, id(h.finding)) for h in turn if h.payment.id in written}
            waiting = [h for h in waiting if (h.payment.id, id(h.finding)) not in done]
            self._count([c for c in changes if c.payment.id in written and c.bump])
        assert not waiting, "a payment under its row lock can't move on"
        tx.after_commit(self._relay.wake)

    def change(self, heard: Heard) -> Change:
        """Return what a finding does to a payment."""
        before, finding = heard.payment, heard.finding
        move = decide(before.status, finding.evidence)
        final = is_final(move.status)
        ended = final or move.status is PaymentStatus.CONFLICTED
        proven = move.status is PaymentStatus.SUCCEEDED
        news = move.changed or not ended  # an ended payment keeps the words it ended with
        after = replace(
            before,
            status=move.status,
            version=before.version + move.changed,
            late=before.late or move.late,
            attention=self._attention(before, finding, move.contradiction, move.status),
            provider_reference=(finding.provider_reference if news else None)
            or before.provider_reference,
            reason_code=_word(finding.reason_code, before.reason_code, news, proven),
            reason_message=_word(finding.reason_message, before.reason_message, news, proven),
        )
        if move.contradiction:
            CONTRADICTED.inc()
            log.error("payment_contradicted", payment_id=before.id, told=finding.evidence)
        wake = None if final else REMIND_SECONDS
        if not ended:
            wake = delay_seconds(self._schedule, before.enquiries)
        return Change(
            payment=after,
            expected=before.version,
            bump=int(move.changed),
            before=before.status,
            evidence=finding.evidence,
            source_id=heard.source_id,
            attempt_state="ended" if ended else "unknown",
            result=finding.result,
            wake_seconds=wake,
            event=event(after, before.status, heard.attempt_id) if move.changed else None,
        )

    def _attention(
        self, payment: Payment, finding: Finding, contradiction: bool, after: PaymentStatus
    ) -> str | None:
        """Return why a person must look at a payment, or None."""
        if contradiction or payment.attention == "contradicted":
            return "contradicted"
        if after is PaymentStatus.CONFLICTED:
            return "conflicted"
        if is_final(after):
            return None
        if finding.reason_code in FOR_PEOPLE:
            return finding.reason_code
        if age_seconds(payment) > self._attention_after:
            return "unresolved"
        return payment.attention

    def _count(self, changes: Sequence[Change]) -> None:
        for change in changes:
            MOVED.labels(change.payment.status).inc()
            if change.payment.late:
                log.warning("payment_succeeded_late", payment_id=change.payment.id)


def _word(told: str | None, before: str | None, news: bool, proven: bool) -> str | None:
    """Return a reason's new text: none for a success, the old one where nothing is new."""
    if proven:
        return None
    return told if news else before
