"""Taking commands in: functions, payment and attempt in one transaction, sent after its commit."""

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson
import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.sealed import SealBroken, Sealer
from mospay_shared.contracts import Event, PaymentStatus, ProcessPaymentV1
from mospay_shared.ids import new_id

from mospay_payment_router.domain.answers import (
    Call,
    Finding,
    function_fault,
    read_call,
    refused,
    undefined,
)
from mospay_payment_router.domain.functions import TRIES
from mospay_payment_router.domain.payments import (
    NO_TERMS,
    Payment,
    Terms,
    event,
    from_command,
    function_input,
)
from mospay_payment_router.domain.risk import Decision, Verdict
from mospay_payment_router.domain.slots import Slots
from mospay_payment_router.domain.states import Evidence, decide, is_final
from mospay_payment_router.storage import operations, payments
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_payment_router.storage.payments import NewAttempt, Taken
from mospay_payment_router.usecases.believe import FOR_PEOPLE, MOVED
from mospay_payment_router.usecases.catalogue import Catalogue
from mospay_payment_router.usecases.failover import Router, routed
from mospay_payment_router.usecases.risk import Risk
from mospay_payment_router.usecases.secrets import open_secrets, seal_payload
from mospay_payment_router.usecases.sending import Leasing, Outbound, Reservation

log = structlog.get_logger()
RISK_HELD = ("risk_held", "held by the risk rules until a person has looked at it")
RISK_REFUSED = ("risk_refused", "refused by the risk rules")
RESTORED = ("router_restored", "accepted before this database was restored: only asked about")


class Acceptance:
    """Takes `payments.process.v1`.

    `send` gets each attempt this process may send at once; `ready` is called when others wait.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        functions: Functions,
        sealer: Sealer,
        slots: Slots,
        relay: Relay,
        leasing: Leasing,
        send: Callable[[Outbound], None],
        ready: Callable[[], None],
        router: Router,
        risk: Risk,
    ) -> None:
        self._catalogue, self._functions, self._sealer = catalogue, functions, sealer
        self._router, self._risk = router, risk
        self._slots, self._relay, self._leasing = slots, relay, leasing
        self._send, self._ready = send, ready
        self.epoch_started_at: dt.datetime | None = None  # None: nothing was ever forgotten

    async def take(self, tx: Tx, events: Sequence[Event[ProcessPaymentV1]], now: float) -> None:
        """Insert the payments of these commands; `now` is a monotonic time before the claim.

        Raises NotYetKnown while the directory here is behind a command; puts those off whose
        functions had no end in time. A payment that is here already is left alone, whatever message
        names it again.
        """
        reached = dt.datetime.now(dt.UTC)
        forgotten = [e for e in events if self._forgotten(e)]
        events = [e for e in events if not self._forgotten(e)]
        in_time = [e for e in events if e.data.send_before > reached]
        await self._catalogue.wait_for([e.data for e in (*in_time, *forgotten)])
        cancelled = await self._cancelled(tx, in_time)
        findings: list[tuple[Payment, Call | Finding]] = [
            (_payment(e, NO_TERMS), Finding(Evidence.UNSENT_EXPIRED, None, "send_before_passed"))
            for e in events
            if e.data.send_before <= reached
        ]
        findings += [
            (_payment(e, NO_TERMS), Finding(Evidence.CANCELLED, None, "cancelled"))
            for e in in_time
            if e.data.payment_id in cancelled
        ]
        findings += [(self._as_accepted(e), undefined(*RESTORED)) for e in forgotten]
        wanted = [e for e in in_time if e.data.payment_id not in cancelled]
        # risk asks its questions while the functions run, each on connections of its own
        planned, verdicts = await asyncio.gather(
            self._plan(tx, wanted), self._risk.assess([e.data for e in wanted])
        )
        findings += planned
        reservation = Reservation(self._slots, self._leasing.spare_seconds)
        try:
            taken = [
                self._taken(payment, found, verdicts.get(payment.id), reservation, now)
                for payment, found in findings
            ]
            fresh = await payments.insert(tx, taken)
            called = [t.payment for t, (_, f) in zip(taken, findings, strict=True)
                      if isinstance(f, Call)]  # fmt: skip
            await self._risk.record(tx, called, verdicts, fresh)
        except BaseException:
            reservation.keep_only(set())
            raise
        reservation.keep_only(fresh)
        tx.after_commit(lambda: self._committed(reservation, taken, fresh))

    def _forgotten(self, one: Event[ProcessPaymentV1]) -> bool:
        """Say whether a payment is older than this database's memory: it may have been sent."""
        return self.epoch_started_at is not None and one.data.accepted_at < self.epoch_started_at

    def _as_accepted(self, one: Event[ProcessPaymentV1]) -> Payment:
        terms = self._catalogue.terms(one.data)
        return _payment(one, NO_TERMS if isinstance(terms, Finding) else terms)

    async def _cancelled(self, tx: Tx, events: Sequence[Event[ProcessPaymentV1]]) -> set[str]:
        """Return the payments whose cancel came first."""
        wished = await operations.wished_cancels(tx, [e.data.payment_id for e in events])
        return {
            e.data.payment_id
            for e in events
            if wished.get(e.data.payment_id) == (e.data.client_id, e.data.mode)
        }

    def _committed(self, reservation: Reservation, taken: Sequence[Taken], fresh: set[str]) -> None:
        reservation.launch(self._send)
        if self._slots.waiting:
            self._ready()
        if any(t.event for t in taken):
            self._relay.wake()
        for t in taken:
            if t.payment.id in fresh:
                MOVED.labels(t.payment.status).inc()

    async def _plan(
        self, tx: Tx, events: Sequence[Event[ProcessPaymentV1]]
    ) -> list[tuple[Payment, Call | Finding]]:
        """Run the functions of a batch; each payment gets its call or the reason for none.

        Those whose functions may have an end another time are put off and left out.
        """
        planned: dict[int, tuple[Payment, Call | Finding]] = {}
        calls: list[tuple[int, Payment, FunctionCall]] = []
        for index, one in enumerate(events):
            terms = self._router.terms(one.data)
            if isinstance(terms, Finding):
                planned[index] = (_payment(one, NO_TERMS), terms)
                continue
            payment = routed(_payment(one, terms), terms)
            try:
                secrets = open_secrets(self._sealer, payment)
            except SealBroken as error:
                planned[index] = (payment, refused("secrets_unreadable", error))
                continue
            data = orjson.dumps(function_input(payment, secrets)).decode()
            calls.append((index, payment, FunctionCall(payment.id, terms.call, data)))
        rows = await self._functions.run([call for _, _, call in calls], may_wait=True)
        for (index, payment, _), row in zip(calls, rows, strict=True):
            if row.may_pass and events[index].tries < TRIES:
                tx.put_off[events[index].id] = function_fault(row)
            else:
                planned[index] = (payment, read_call(row, payment))
        return [planned[index] for index in sorted(planned)]

    def _taken(
        self,
        payment: Payment,
        found: Call | Finding,
        verdict: Verdict | None,
        reservation: Reservation,
        now: float,
    ) -> Taken:
        """Return a payment with its attempt as risk leaves it; one without a verdict is allowed."""
        decision = Decision.ALLOW if verdict is None else verdict.decision
        if not isinstance(found, Call):
            return self._without_call(payment, found)
        if decision is Decision.REFUSE:
            return self._without_call(payment, Finding(Evidence.REFUSED, None, *RISK_REFUSED))
        if decision is Decision.HOLD:
            return self._held(payment, found)
        return self._call(payment, found, reservation, now)

    def _payload(self, payment: Payment, call: Call) -> tuple[bytes, bool]:
        """Return what to store of a call, and whether it is sealed."""
        if payment.terms.needs_secrets and payment.secrets is not None:
            return seal_payload(self._sealer, call.payload, payment.id), True
        return call.payload, False

    def _held(self, payment: Payment, call: Call) -> Taken:
        """Return a payment that waits for a person; its attempt is ready and nobody claims it."""
        payload, sealed = self._payload(payment, call)
        attempt = NewAttempt(new_id("att"), "ready", call.url, payload, sealed)
        code, words = RISK_HELD
        after = replace(
            payment,
            status=decide(PaymentStatus.PROCESSING, Evidence.HELD_BY_RISK).status,
            version=2,
            reason_code=code,
            reason_message=words,
        )
        left = (payment.send_before - dt.datetime.now(dt.UTC)).total_seconds()
        told = event(after, PaymentStatus.PROCESSING, attempt.id)
        return Taken(after, attempt, max(0.0, left), told, Evidence.HELD_BY_RISK)

    def _call(self, payment: Payment, call: Call, reservation: Reservation, now: float) -> Taken:
        leasing = self._leasing
        payload, sealed = self._payload(payment, call)
        attempt_id = new_id("att")
        lease = payment.terms.timeout_seconds + leasing.extra_seconds
        client, slots = payment.client_id, self._slots
        at_once = client not in slots.waiting and slots.take(client, payment.lane)
        if at_once:
            reservation.add(
                Outbound(
                    attempt_id,
                    1,
                    payment,
                    call.url,
                    call.payload,
                    now + lease,
                    leasing.margin_seconds,
                )
            )
        elif payment.lane not in slots.caps:  # who waits for a breaker holds nobody else up
            slots.waiting.add(client)
        attempt = NewAttempt(
            id=attempt_id,
            state="sending" if at_once else "ready",
            url=call.url,
            payload=payload,
            payload_sealed=sealed,
            owner=leasing.owner if at_once else None,
            lease_seconds=lease if at_once else None,
        )
        return Taken(payment, attempt, leasing.announce_after_seconds)

    def _without_call(self, payment: Payment, finding: Finding) -> Taken:
        """Return a payment whose function made no call: refused, expired, or finished."""
        move = decide(PaymentStatus.PROCESSING, finding.evidence)
        ended = is_final(move.status)
        after = replace(
            payment,
            status=move.status,
            version=1 + move.changed,
            provider_reference=finding.provider_reference,
            reason_code=None if move.status is PaymentStatus.SUCCEEDED else finding.reason_code,
            reason_message=finding.reason_message,
            attention=_attention(finding, move.status),
            secrets=None if ended else payment.secrets,
        )
        attempt = NewAttempt(
            id=new_id("att"), state="ended" if ended else "unknown", result=finding.result
        )
        return Taken(
            after,
            attempt,
            None if ended else self._leasing.first_enquiry_seconds,
            event(after, PaymentStatus.PROCESSING, attempt.id) if move.changed else None,
            finding.evidence if move.changed else None,
        )


def _attention(finding: Finding, status: PaymentStatus) -> str | None:
    if status is PaymentStatus.CONFLICTED:
        return "conflicted"
    return finding.reason_code if finding.reason_code in FOR_PEOPLE else None


def _payment(one: Event[ProcessPaymentV1], terms: Terms) -> Payment:
    envelope = one.envelope
    return from_command(
        one.data, terms, (envelope.id, envelope.correlation_id, envelope.traceparent)
    )
