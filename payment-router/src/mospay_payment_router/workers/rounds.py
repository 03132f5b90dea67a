"""Rounds over what is due: attempts, leases, unjudged answers, enquiries, callbacks."""

import asyncio
import datetime as dt
from collections.abc import Callable

import structlog
from mospay_shared.chassis.database import DATABASE_DOWN, Database
from mospay_shared.chassis.workers import Worker

from mospay_payment_router.clients import Provider
from mospay_payment_router.domain.answers import Answer, Call
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.storage.callbacks import Callback
from mospay_payment_router.usecases.answers import Answers
from mospay_payment_router.usecases.callbacks import (
    Callbacks,
    Reading,
    read_reading,
    translation_request,
)
from mospay_payment_router.usecases.catalogue import Catalogue
from mospay_payment_router.usecases.enquire import Enquiries, Question
from mospay_payment_router.usecases.operations import Operations
from mospay_payment_router.usecases.sending import Claims, Leasing
from mospay_payment_router.usecases.sweep import sweep
from mospay_payment_router.workers.sender import call_headers

log = structlog.get_logger()
CLAIM = 64  # rows a claim of attempts
SWEEP_SECONDS = 60.0
LOOK_SECONDS = 0.2  # in which what is due is looked for once, for all
# By what is done with them: the rows of which each says when it is due.
DUE = {
    "ready": "attempts where state = 'ready'",
    "enquire": "payments where true",
    "match": "callbacks where state = 'new'",
    "cancel": "cancel_requests where state = 'waiting'",
    "lapse": "attempts where state = 'sending'",
    "judge": "attempts where state = 'answered'",
}
TRANSLATION_SECONDS = 5.0  # for a connector to verify and read a callback


class Rounds:
    """The router's workers, wired to its use cases."""

    def __init__(
        self,
        database: Database,
        provider: Provider,
        claims: Claims,
        leasing: Leasing,
        answers: Answers,
        enquiries: Enquiries,
        callbacks: Callbacks,
        operations: Operations,
        catalogue: Catalogue,
        credentials: Callable[[Payment], dict[str, str]],
        refunds: Worker,
        enquiries_in_flight: int,
        secrets_hours: float,
    ) -> None:
        self._database, self._provider = database, provider
        self._claims, self._leasing = claims, leasing
        self._answers, self._enquiries, self._callbacks = answers, enquiries, callbacks
        self._operations, self._secrets_hours = operations, secrets_hours
        self._catalogue, self._refunds = catalogue, refunds
        self._credentials = credentials
        self._asking: set[asyncio.Task[None]] = set()
        self._asking_limit = enquiries_in_flight
        due = database.dues(
            {name: f"{rows} and next_action_at <= now()" for name, rows in DUE.items()},
            LOOK_SECONDS,
        )
        self.ready = Worker("ready_attempts", self._ready, 0.5, claims.waited_for(due["ready"]))
        self.enquire = Worker("enquiries", self._enquire, 0.25, due["enquire"])
        self.callbacks = Worker("callbacks", self._match, 0.5, due["match"])
        self.cancels = Worker("cancels", self._cancel, 0.5, due["cancel"])
        self._lapsed = Worker("lapsed_leases", self._lapse, 0.5, due["lapse"])
        self._unjudged = Worker("unjudged_answers", self._judge, 1.0, due["judge"])

    def workers(self) -> list[Worker]:
        """Return all of them."""
        return [
            self.ready,
            self._lapsed,
            self._unjudged,
            self.enquire,
            self.callbacks,
            self.cancels,
            Worker("sweep", self._sweep, SWEEP_SECONDS),
        ]

    async def drain(self) -> None:
        """Wait for enquiries under way."""
        while self._asking:
            await asyncio.wait(set(self._asking))

    async def _ready(self) -> int:
        return await self._claims.claim(CLAIM)

    async def _lapse(self) -> int:
        done = await self._enquiries.lapse(CLAIM)
        if done:
            self.enquire.wake()
        return done

    async def _judge(self) -> int:
        return await self._answers.judge_stored(CLAIM)

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
                headers = call_headers(payment, question.due.attempt_id, "")
                answer = await self._provider.post(
                    question.call.url,
                    question.call.payload,
                    headers | self._credentials(payment),
                    payment.terms.timeout_seconds,
                )
            await self._enquiries.hear(question, answer, started_at)
        except DATABASE_DOWN as error:  # the claim runs out and the payment is asked about again
            log.warning("enquiry_not_stored", payment_id=payment.id, reason=repr(error)[:200])
        except Exception:
            log.exception("enquiry_failed", payment_id=payment.id)

    async def _match(self) -> int:
        due = await self._callbacks.claim(CLAIM)
        readings = await asyncio.gather(*(self._read(callback) for callback in due))
        asked = False
        for callback, reading in zip(due, readings, strict=True):
            asked |= await self._callbacks.match(callback, reading)
        if asked:
            self.enquire.wake()
            self._refunds.wake()
        return len(due)

    async def _read(self, callback: Callback) -> Reading | None:
        """Let the connector verify and read a callback, where it is the one to do so."""
        base_url = self._catalogue.translator(callback.microservice)
        if base_url is None:
            return None
        url = f"{base_url.rstrip('/')}/callbacks"
        headers = {"Accept": "application/json"}
        return read_reading(
            await self._provider.post(
                url, translation_request(callback), headers, TRANSLATION_SECONDS
            )
        )

    async def _cancel(self) -> int:
        return await self._operations.apply_cancels(CLAIM)

    async def _sweep(self) -> int:
        return await sweep(self._database, self._secrets_hours)
