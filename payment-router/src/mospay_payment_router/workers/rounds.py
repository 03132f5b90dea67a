"""Rounds over what is due: attempts, leases, unjudged answers, enquiries, callbacks."""

import asyncio
import datetime as dt

import structlog
from mospay_shared.chassis.database import DATABASE_DOWN, Database
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.workers import Worker
from prometheus_client import Gauge

from mospay_payment_router.clients import Provider
from mospay_payment_router.domain.answers import Answer, Call
from mospay_payment_router.domain.slots import Slots
from mospay_payment_router.storage import attempts, payments
from mospay_payment_router.usecases.accept import Leasing
from mospay_payment_router.usecases.answers import Answers
from mospay_payment_router.usecases.callbacks import Callbacks
from mospay_payment_router.usecases.enquire import Enquiries, Question
from mospay_payment_router.usecases.secrets import open_payload
from mospay_payment_router.usecases.sending import Outbound, Reservation
from mospay_payment_router.workers.sender import Sender, call_headers

log = structlog.get_logger()
ATTENTION = Gauge("mospay_router_attention", "Payments a person must look at")
UNKNOWN = Gauge("mospay_router_unknown", "Payments that are unknown now")
UNKNOWN_AGE = Gauge("mospay_router_unknown_oldest_seconds", "Age of the oldest unknown payment")
CLAIM = 64  # rows a claim of attempts
SWEEP_SECONDS = 60.0


class Rounds:
    """The router's workers, wired to its use cases."""

    def __init__(
        self,
        database: Database,
        provider: Provider,
        sealer: Sealer,
        slots: Slots,
        leasing: Leasing,
        sender: Sender,
        answers: Answers,
        enquiries: Enquiries,
        callbacks: Callbacks,
        enquiries_in_flight: int,
        secrets_hours: float,
    ) -> None:
        self._database, self._provider, self._sealer = database, provider, sealer
        self._slots, self._leasing, self._sender = slots, leasing, sender
        self._answers, self._enquiries, self._callbacks = answers, enquiries, callbacks
        self._secrets_hours = secrets_hours
        self._asking: set[asyncio.Task[None]] = set()
        self._asking_limit = enquiries_in_flight
        self.ready = Worker("ready_attempts", self._ready, 0.5)
        self.enquire = Worker("enquiries", self._enquire, 0.25)
        self.callbacks = Worker("callbacks", self._match, 0.5)

    def workers(self) -> list[Worker]:
        """Return all of them."""
        return [
            self.ready,
            Worker("lapsed_leases", self._lapse, 0.5),
            Worker("unjudged_answers", self._judge, 1.0),
            self.enquire,
            self.callbacks,
            Worker("sweep", self._sweep, SWEEP_SECONDS),
        ]

    async def drain(self) -> None:
        """Wait for enquiries under way."""
        while self._asking:
            await asyncio.wait(set(self._asking))

    async def _ready(self) -> int:
        """Claim ready attempts for the slots that are free; fair by client (failure, rule 1)."""
        slots = self._slots
        limit = min(slots.free, CLAIM)
        if limit <= 0:
            return 0
        now = asyncio.get_running_loop().time()
        full = slots.full_clients(), slots.full_providers()
        reservation = Reservation(slots, self._leasing.spare_seconds)
        async with self._database.transaction() as tx:
            claimed = await attempts.claim_ready(
                tx, self._leasing.owner, limit, *full, self._leasing.extra_seconds
            )
            for one in claimed:
                if slots.take(one.payment.client_id, one.payment.microservice):
                    reservation.add(self._outbound(one, now))
                else:  # the claim met a cap half-way
                    await attempts.put_back(tx, one.id, one.fence)
        reservation.launch(self._sender.send)
        if len(claimed) < limit and not full[1]:
            slots.waiting &= set(slots.full_clients())
        return len(claimed)

    def _outbound(self, one: attempts.Claimed, now: float) -> Outbound:
        payment, leasing = one.payment, self._leasing
        payload = one.payload
        if one.payload_sealed:
            payload = open_payload(self._sealer, payload, payment.id)
        lease_ends = now + payment.terms.timeout_seconds + leasing.extra_seconds
        return Outbound(
            one.id, one.fence, payment, one.url, payload, lease_ends, leasing.margin_seconds
        )

    async def _lapse(self) -> int:
        done = await self._enquiries.lapse(CLAIM)
        if done:
            self.enquire.wake()
        return done

    async def _judge(self) -> int:
        """Hear the RESPONSE function again for answers it has not been heard about."""
        async with self._database.transaction() as tx:
            unjudged = await attempts.claim_unjudged(tx, CLAIM)
        if unjudged:
            await self._answers.judge(unjudged)
        return len(unjudged)

    async def _enquire(self) -> int:
        room = min(self._asking_limit - len(self._asking), CLAIM)
        if room <= 0:
            return 0
        done, questions = await self._enquiries.claim(room, self._leasing.extra_seconds)
        for question in questions:
            task = asyncio.create_task(self._ask(question))
            self._asking.add(task)
            task.add_done_callback(self._asked)
        return done

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if len(self._asking) == self._asking_limit - 1:
            self.enquire.wake()

    async def _ask(self, question: Question) -> None:
        started_at = dt.datetime.now(dt.UTC)
        payment = question.due.payment
        answer: Answer | None = None
        try:
            if isinstance(question.call, Call):
                answer = await self._provider.post(
                    question.call.url,
                    question.call.payload,
                    call_headers(payment, question.due.attempt_id, ""),
                    payment.terms.timeout_seconds,
                )
            await self._enquiries.hear(question, answer, started_at)
        except DATABASE_DOWN as error:  # the claim runs out and the payment is asked about again
            log.warning("enquiry_not_stored", payment_id=payment.id, reason=repr(error)[:200])
        except Exception:
            log.exception("enquiry_failed", payment_id=payment.id)

    async def _match(self) -> int:
        done, asked = await self._callbacks.match(CLAIM)
        if asked:
            self.enquire.wake()
        return done

    async def _sweep(self) -> int:
        """Erase old secrets, and keep the gauges true."""
        async with self._database.transaction() as tx:
            erased = await payments.forget_secrets(tx, self._secrets_hours)
            attention, age, unknown = await payments.gauges(tx)
        ATTENTION.set(attention)
        UNKNOWN.set(unknown)
        UNKNOWN_AGE.set(age)
        return erased
