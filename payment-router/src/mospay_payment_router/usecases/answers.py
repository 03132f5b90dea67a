"""Answers: stored raw, then judged by their RESPONSE function, then believed."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import structlog
from mospay_shared.chassis.database import DATABASE_DOWN, TRY_AGAIN, Database
from mospay_shared.chassis.sealed import SealBroken, Sealer

from mospay_payment_router.domain.answers import (
    Answer,
    Finding,
    FunctionResult,
    judge,
    judge_transport,
    undefined,
)
from mospay_payment_router.domain.payments import Payment, function_input
from mospay_payment_router.storage import attempts
from mospay_payment_router.storage.attempts import Unjudged
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_payment_router.usecases.believe import Believer, Heard
from mospay_payment_router.usecases.failover import Failover
from mospay_payment_router.usecases.secrets import open_secrets

log = structlog.get_logger()
AWAY_SECONDS = 0.5  # between two tries while the database is away
UNSENT_WAIT_SECONDS = (0.5, 3.0)  # before an attempt that was not sent in time is claimed again


@dataclass(frozen=True, slots=True)
class Received:
    """What a sender got for an attempt it owned under `fence`."""

    attempt_id: str
    fence: int
    payment: Payment
    answer: Answer


class Answers:
    """Brings answers to belief, many at once."""

    def __init__(
        self,
        database: Database,
        functions: Functions,
        sealer: Sealer,
        believer: Believer,
        failover: Failover,
    ) -> None:
        self._database, self._functions = database, functions
        self._sealer, self._believer, self._failover = sealer, believer, failover

    async def settle(self, received: Sequence[Received]) -> list[None]:
        """Store the raw answers, then judge them; waits while the database is away."""
        rows = [(r.attempt_id, r.fence, r.answer) for r in received]
        while True:
            try:
                async with self._database.transaction() as tx:
                    await attempts.store_answers(tx, rows)
                break
            except (*DATABASE_DOWN, *TRY_AGAIN) as error:
                log.warning("answers_wait", count=len(rows), reason=repr(error)[:200])
                await asyncio.sleep(AWAY_SECONDS)
        await self.judge([Unjudged(r.attempt_id, r.payment, r.answer) for r in received])
        return [None] * len(received)

    async def return_unsent(self, attempt_id: str, fence: int) -> None:
        """Make an attempt ready again whose owner has provably sent nothing.

        After a while, each after another: a process too busy to send within its leases would claim
        the same attempts again at once, and never send any.
        """
        wait = random.uniform(*UNSENT_WAIT_SECONDS)
        async with self._database.transaction() as tx:
            await attempts.put_back(tx, attempt_id, fence, wait)

    async def judge_stored(self, limit: int) -> int:
        """Judge answers that were stored, but whose RESPONSE function was never heard."""
        async with self._database.transaction() as tx:
            unjudged = await attempts.claim_unjudged(tx, limit)
        if unjudged:
            await self.judge(unjudged)
        return len(unjudged)

    async def judge(self, items: Sequence[Unjudged]) -> None:
        """Judge stored answers by the functions pinned on their payments, and believe them.

        An answer that can't be settled with the others is settled alone; one that can't be at all
        leaves its payment unknown.
        """
        findings = await self._findings(items)
        tried = [
            await self._failover.next(item.payment, item.id, finding)
            for item, finding in zip(items, findings, strict=True)
        ]
        heard = [
            Heard(item.payment, item.id, item.id, finding)
            for item, finding, again in zip(items, findings, tried, strict=True)
            if not again
        ]
        if await self._believed(heard):
            return
        for one in heard:
            if not await self._believed([one]):
                fallback = undefined("settling_failed", "the answer is stored, see the log")
                await self._believed([Heard(one.payment, one.attempt_id, one.source_id, fallback)])

    async def _believed(self, heard: Sequence[Heard]) -> bool:
        while True:
            try:
                async with self._database.transaction() as tx:
                    await self._believer.believe(tx, heard)
                return True
            except (*DATABASE_DOWN, *TRY_AGAIN) as error:
                log.warning("belief_waits", count=len(heard), reason=repr(error)[:200])
                await asyncio.sleep(AWAY_SECONDS)
            except Exception:
                log.exception("belief_failed", payments=[h.payment.id for h in heard][:5])
                return False

    async def _findings(self, items: Sequence[Unjudged]) -> list[Finding]:
        calls = [
            (index, item.payment.terms.response, item)
            for index, item in enumerate(items)
            if item.answer.status is not None
        ]
        heard = await self.hear(
            [(item.payment, name, None, item.answer) for _, name, item in calls]
        )
        findings = {index: found for (index, _, _), found in zip(calls, heard, strict=True)}
        return [
            findings[index] if index in findings else judge_transport(item.answer)
            for index, item in enumerate(items)
        ]

    async def hear(
        self,
        asked: Sequence[tuple[Payment, str, str | None, Answer]],
        *,
        enquiry: bool = False,
    ) -> list[Finding]:
        """Run RESPONSE_ functions over (payment, function, route or None, HTTP answer)."""
        found: dict[int, Finding] = {}
        calls: list[tuple[int, FunctionCall]] = []
        for index, (payment, name, route, answer) in enumerate(asked):
            try:
                secrets = open_secrets(self._sealer, payment)
            except SealBroken as error:
                found[index] = undefined("secrets_unreadable", error)
                continue
            data = orjson.dumps(function_input(payment, secrets, route=route)).decode()
            call = FunctionCall(payment.id, name, data, answer.status, answer.body)
            calls.append((index, call))
        rows = await self._run([call for _, call in calls])
        for (index, call), row in zip(calls, rows, strict=True):
            assert call.code is not None
            found[index] = judge(call.code, row, asked[index][0], enquiry=enquiry)
        return [found[index] for index in range(len(asked))]

    async def _run(self, calls: list[FunctionCall]) -> list[FunctionResult]:
        while True:
            try:
                return await self._functions.run(calls)
            except (*DATABASE_DOWN, *TRY_AGAIN) as error:
                log.warning("functions_wait", count=len(calls), reason=repr(error)[:200])
                await asyncio.sleep(AWAY_SECONDS)
