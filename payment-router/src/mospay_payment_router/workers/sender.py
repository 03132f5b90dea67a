"""The sender: one task a call, slots released in `finally`, outcomes in batches."""

import asyncio
from collections.abc import Callable
from urllib.parse import quote

import structlog
from mospay_shared.chassis.batcher import Batcher
from mospay_shared.chassis.sealed import SealBroken
from mospay_shared.chassis.telemetry import new_traceparent
from prometheus_client import Counter, Gauge, Histogram

from mospay_payment_router.clients import LeaseLapsed, Provider
from mospay_payment_router.domain.answers import Answer
from mospay_payment_router.domain.breaker import Breakers
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.slots import Slots
from mospay_payment_router.usecases.answers import Answers, Received
from mospay_payment_router.usecases.providers import Providers
from mospay_payment_router.usecases.sending import Outbound

log = structlog.get_logger()
SENT = Counter("mospay_router_calls", "Provider calls by result", ["provider", "result"])
SECONDS = Histogram(
    "mospay_router_call_seconds",
    "Time a provider took",
    ["provider"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)
IN_FLIGHT = Gauge("mospay_router_in_flight", "Provider calls under way")
BATCH = 64  # outcomes a statement
RUNNERS = 2


def call_headers(payment: Payment, attempt_id: str, callback_url: str) -> dict[str, str]:
    """Return the headers every call to a connector has."""
    headers = {
        "X-Attempt-Id": attempt_id,
        "X-Currency": payment.currency,
        "traceparent": new_traceparent(payment.traceparent),
        "Accept": "application/json",
    }
    if callback_url:
        path = f"/v1/callbacks/{quote(payment.provider, safe='')}"
        headers["X-Callback-Url"] = callback_url.rstrip("/") + path
    return headers


class Sender:
    """Sends attempts this process owns."""

    def __init__(
        self,
        provider: Provider,
        answers: Answers,
        slots: Slots,
        callback_url: str,
        providers: Providers,
        breakers: Breakers,
    ) -> None:
        self._provider, self._answers = provider, answers
        self._slots, self._callback_url = slots, callback_url
        self._providers, self._breakers = providers, breakers
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcomes: Batcher[Received, None] | None = None
        self._freed: Callable[[], None] = lambda: None

    def when_freed(self, freed: Callable[[], None]) -> None:
        """Call `freed` when a slot came back while attempts wait for one."""
        self._freed = freed

    async def open(self) -> None:
        """Start the outcome batcher."""
        self._outcomes = Batcher(self._answers.settle, limit=BATCH, runners=RUNNERS)

    def send(self, outbound: Outbound) -> None:
        """Start a call in a task of its own; no message handler waits for a provider."""
        task = asyncio.create_task(self._send(outbound))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        IN_FLIGHT.set(len(self._tasks))

    async def drain(self) -> None:
        """Wait for the calls under way and for their outcomes to be stored."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        if self._outcomes is not None:
            await self._outcomes.close()

    async def _send(self, outbound: Outbound) -> None:
        payment = outbound.payment
        try:
            received = await self._call(outbound)
        finally:
            self._slots.give_back(payment.client_id, payment.lane)
            if self._slots.waiting:
                self._freed()
            IN_FLIGHT.set(len(self._tasks))
        if received is not None:
            assert self._outcomes is not None
            await self._outcomes.submit(received)

    async def _call(self, outbound: Outbound) -> Received | None:
        payment = outbound.payment
        clock = asyncio.get_running_loop()
        started = clock.time()
        try:
            headers = call_headers(payment, outbound.attempt_id, self._callback_url)
            answer = await self._provider.post(
                outbound.url,
                outbound.payload,
                headers | self._providers.headers(payment),
                payment.terms.timeout_seconds,
                outbound.may_send,
            )
        except SealBroken as error:
            words = f"the client's credentials with the provider can't be opened: {error}"
            answer = Answer(None, None, words, never_sent=True)
        except LeaseLapsed:
            log.warning("lease_lapsed_unsent", attempt_id=outbound.attempt_id)
            await self._answers.return_unsent(outbound.attempt_id, outbound.fence)
            self._slots.waiting.add(payment.client_id)
            return None
        fine = answer.status is not None and answer.status < 500
        self._breakers.record(payment.lane, clock.time(), fine)
        SECONDS.labels(payment.provider).observe(clock.time() - started)
        result = f"{answer.status // 100}xx" if answer.status else "none"
        SENT.labels(payment.provider, result).inc()
        return Received(outbound.attempt_id, outbound.fence, payment, answer)
