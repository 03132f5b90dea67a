"""Taking commands in: functions, payment and attempt in one transaction, sent after its commit."""

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

from mospay_payment_router.domain.answers import Call, Finding, read_call, refused
from mospay_payment_router.domain.payments import (
    NO_TERMS,
    Payment,
    Terms,
    event,
    from_command,
    function_input,
)
from mospay_payment_router.domain.slots import Slots
from mospay_payment_router.domain.states import Evidence, decide, is_final
from mospay_payment_router.storage import payments
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_payment_router.storage.payments import NewAttempt, Taken
from mospay_payment_router.usecases.believe import FOR_PEOPLE, MOVED
from mospay_payment_router.usecases.catalogue import Catalogue
from mospay_payment_router.usecases.secrets import open_secrets, seal_payload
from mospay_payment_router.usecases.sending import Leasing, Outbound, Reservation

log = structlog.get_logger()


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
    ) -> None:
        self._catalogue, self._functions, self._sealer = catalogue, functions, sealer
        self._slots, self._relay, self._leasing = slots, relay, leasing
        self._send, self._ready = send, ready

    async def take(self, tx: Tx, events: Sequence[Event[ProcessPaymentV1]], now: float) -> None:
        """Insert the payments of these commands; `now` is a monotonic time before the claim.

        Raises NotYetKnown while the directory here is behind a command. A payment that is here
        already is left alone, whatever message names it again.
        """
        reached = dt.datetime.now(dt.UTC)
        in_time = [e for e in events if e.data.send_before > reached]
        await self._catalogue.wait_for([e.data for e in in_time])
        late = [e for e in events if e.data.send_before <= reached]
        findings: list[tuple[Payment, Call | Finding]] = [
            (_payment(e, NO_TERMS), Finding(Evidence.UNSENT_EXPIRED, None, "send_before_passed"))
            for e in late
        ]
        findings += await self._plan(in_time)
        reservation = Reservation(self._slots, self._leasing.spare_seconds)
        taken = [
            self._call(payment, found, reservation, now)
            if isinstance(found, Call)
            else self._without_call(payment, found)
            for payment, found in findings
        ]
        try:
            fresh = await payments.insert(tx, taken)
        except BaseException:
            reservation.keep_only(set())
            raise
        reservation.keep_only(fresh)
        tx.after_commit(lambda: self._committed(reservation, taken, fresh))

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
        self, events: Sequence[Event[ProcessPaymentV1]]
    ) -> list[tuple[Payment, Call | Finding]]:
        """Run the functions of a batch; each payment gets its call or the reason for none."""
        planned: dict[int, tuple[Payment, Call | Finding]] = {}
        calls: list[tuple[int, Payment, FunctionCall]] = []
        for index, one in enumerate(events):
            terms = self._catalogue.terms(one.data)
            if isinstance(terms, Finding):
                planned[index] = (_payment(one, NO_TERMS), terms)
                continue
            payment = _payment(one, terms)
            try:
                secrets = open_secrets(self._sealer, payment)
            except SealBroken as error:
                planned[index] = (payment, refused("secrets_unreadable", error))
                continue
            data = orjson.dumps(function_input(payment, secrets)).decode()
            calls.append((index, payment, FunctionCall(payment.id, terms.call, data)))
        rows = await self._functions.run([call for _, _, call in calls])
        for (index, payment, _), row in zip(calls, rows, strict=True):
            planned[index] = (payment, read_call(row, payment))
        return [planned[index] for index in range(len(events))]

    def _call(self, payment: Payment, call: Call, reservation: Reservation, now: float) -> Taken:
        leasing = self._leasing
        payload, sealed = call.payload, False
        if payment.terms.needs_secrets and payment.secrets is not None:
            payload, sealed = seal_payload(self._sealer, call.payload, payment.id), True
        attempt_id = new_id("att")
        lease = payment.terms.timeout_seconds + leasing.extra_seconds
        client, slots = payment.client_id, self._slots
        at_once = client not in slots.waiting and slots.take(client, payment.microservice)
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
        else:
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
