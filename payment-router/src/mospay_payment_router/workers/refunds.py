"""The refund worker: sends each refund once, asks about those that are open."""

import asyncio
import datetime as dt
from collections.abc import Callable

import structlog
from mospay_shared.chassis.database import DATABASE_DOWN
from mospay_shared.chassis.sealed import SealBroken
from mospay_shared.chassis.workers import Worker

from mospay_payment_router.clients import LeaseLapsed, Provider
from mospay_payment_router.domain.answers import Answer, Call, Finding
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.usecases.refunds import Refunds, RefundTask
from mospay_payment_router.usecases.sending import Leasing
from mospay_payment_router.workers.sender import call_headers

log = structlog.get_logger()


class RefundRounds:
    """Takes due refunds in turns; at most `in_flight` calls about refunds at once."""

    def __init__(
        self,
        provider: Provider,
        leasing: Leasing,
        callback_url: str,
        in_flight: int,
        credentials: Callable[[Payment], dict[str, str]],
    ) -> None:
        self._credentials = credentials
        self._provider, self._leasing = provider, leasing
        self._callback_url, self._limit = callback_url, in_flight
        self._tasks: set[asyncio.Task[None]] = set()
        self._refunds: Refunds | None = None
        self.worker = Worker("refunds", self._turn, 0.5)

    def serve(self, refunds: Refunds) -> None:
        """Say whose refunds are worked on."""
        self._refunds = refunds

    async def drain(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _turn(self) -> int:
        assert self._refunds is not None
        room = self._limit - len(self._tasks)
        if room <= 0:
            return 0
        claimed_at = asyncio.get_running_loop().time()
        due = await self._refunds.claim(self._leasing.owner, room, self._leasing.extra_seconds)
        for one in due:
            task = asyncio.create_task(self._guarded(one, claimed_at))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        return len(due)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if len(self._tasks) == self._limit - 1:
            self.worker.wake()

    async def _guarded(self, task: RefundTask, claimed_at: float) -> None:
        try:
            await self._handle(task, claimed_at)
        except DATABASE_DOWN as error:  # the claim runs out and the refund is due again
            log.warning("refund_not_stored", refund_id=task.refund.id, reason=repr(error)[:200])
        except Exception:
            log.exception("refund_round_failed", refund_id=task.refund.id)

    async def _handle(self, task: RefundTask, claimed_at: float) -> None:
        assert self._refunds is not None
        refund, payment = task.refund, task.payment
        started_at = dt.datetime.now(dt.UTC)
        if isinstance(task.call, Finding):
            await self._refunds.believe(refund.id, payment.id, refund.attempt_id, task.call)
        elif task.call is not None:
            await self._send(task, task.call, claimed_at, started_at)
        elif task.was == "answered":
            await self._refunds.judge_stored(task)
        else:
            await self._ask(task, started_at)

    async def _ask(self, task: RefundTask, started_at: dt.datetime) -> None:
        assert self._refunds is not None
        refund, payment = task.refund, task.payment
        call = await self._refunds.question(task)
        if isinstance(call, Finding):
            await self._refunds.believe(refund.id, payment.id, refund.id, call)
            return
        headers = call_headers(payment, refund.attempt_id, "") | self._credentials(payment)
        timeout = payment.terms.timeout_seconds
        answer = await self._provider.post(call.url, call.payload, headers, timeout)
        await self._refunds.heard(task, answer, started_at)

    async def _send(
        self, task: RefundTask, call: Call, claimed_at: float, started_at: dt.datetime
    ) -> None:
        assert self._refunds is not None
        payment = task.payment
        timeout, margin = payment.terms.timeout_seconds, self._leasing.margin_seconds
        lease_ends = claimed_at + timeout + self._leasing.extra_seconds

        def may_send() -> bool:
            return lease_ends - asyncio.get_running_loop().time() > timeout + margin

        headers = call_headers(payment, task.refund.attempt_id, self._callback_url)
        answer: Answer
        try:
            headers |= self._credentials(payment)
            answer = await self._provider.post(call.url, call.payload, headers, timeout, may_send)
        except SealBroken as error:
            words = f"the client's credentials with the provider can't be opened: {error}"
            answer = Answer(None, None, words, never_sent=True)
        except LeaseLapsed:
            log.warning("refund_lease_lapsed_unsent", refund_id=task.refund.id)
            await self._refunds.return_unsent(task)
            return
        await self._refunds.heard(task, answer, started_at)
