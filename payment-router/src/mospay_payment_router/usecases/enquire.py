"""Asking again: what to do about a payment that is due a look, and what an enquiry proves."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay, columns
from mospay_shared.chassis.sealed import SealBroken, Sealer
from mospay_shared.contracts import PaymentStatus
from mospay_shared.ids import new_id

from mospay_payment_router.domain.answers import (
    Answer,
    Call,
    Finding,
    judge_transport,
    read_call,
    undefined,
)
from mospay_payment_router.domain.functions import ENQUIRY
from mospay_payment_router.domain.payments import event, function_input
from mospay_payment_router.domain.states import Evidence
from mospay_payment_router.storage import attempts, enquiries, payments
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_payment_router.storage.enquiries import Due, Enquiry
from mospay_payment_router.usecases.answers import Answers
from mospay_payment_router.usecases.believe import REMIND_SECONDS, Believer, Heard
from mospay_payment_router.usecases.secrets import open_secrets

LOOK_AGAIN_SECONDS = 5.0  # at ready attempts: a worker claims them as soon as a slot is free
AFTER_LEASE_SECONDS = 1.0  # the lapse worker comes first


@dataclass(frozen=True, slots=True)
class Question:
    """An enquiry to make; `call` is a Finding where the twin function gave none."""

    due: Due
    call: Call | Finding


class Enquiries:
    """The enquiry worker's verbs."""

    def __init__(
        self,
        database: Database,
        functions: Functions,
        sealer: Sealer,
        relay: Relay,
        believer: Believer,
        answers: Answers,
    ) -> None:
        self._database, self._functions, self._sealer = database, functions, sealer
        self._relay, self._believer, self._answers = relay, believer, answers

    async def claim(self, limit: int, lease_extra_seconds: float) -> tuple[int, list[Question]]:
        """Claim what is due: announce, expire and remind here; return what must be asked.

        Also returns how many payments were due, so that the caller knows whether to come again.
        """
        async with self._database.transaction() as tx:
            due = await enquiries.claim_due(tx, limit, lease_extra_seconds)
            now = dt.datetime.now(dt.UTC)
            unsent = [d for d in due if _waits(d) and d.attempt_state == "ready"]
            late = [d for d in unsent if d.payment.send_before <= now]
            unsent_ids = await attempts.lock_unsent(tx, [d.payment.id for d in late])
            expired = [d for d in late if d.payment.id in unsent_ids]
            under_way = [d for d in due if _waits(d) and d not in expired]
            fresh = [d.payment for d in due if _unheard_of(d) and d not in expired]
            if fresh:
                told = [event(p, None, None) for p in fresh]
                await enquiries.announce(tx, [p.id for p in fresh], columns(told))
                tx.after_commit(self._relay.wake)
            reminded = [d for d in due if d.payment.status is PaymentStatus.CONFLICTED]
            await enquiries.wake_in(
                tx,
                {d.payment.id: _look_again_seconds(d, now) for d in under_way}
                | {d.payment.id: REMIND_SECONDS for d in reminded},
            )
            if expired:
                finding = Finding(Evidence.UNSENT_EXPIRED, None, "send_before_passed")
                heard = [Heard(d.payment, d.attempt_id, d.attempt_id, finding) for d in expired]
                await self._believer.believe(tx, heard)
        handled = {d.payment.id for d in (*under_way, *expired, *reminded)}
        return len(due), await self._questions([d for d in due if d.payment.id not in handled])

    async def _questions(self, due: Sequence[Due]) -> list[Question]:
        questions: list[Question] = []
        calls: list[tuple[Due, FunctionCall]] = []
        for one in due:
            payment = one.payment
            try:
                secrets = open_secrets(self._sealer, payment)
            except SealBroken as error:
                questions.append(Question(one, undefined("secrets_unreadable", error)))
                continue
            data = function_input(payment, secrets, route=payment.route + ENQUIRY)
            text = orjson.dumps(data).decode()
            calls.append((one, FunctionCall(payment.id, payment.terms.enquiry, text)))
        rows = await self._functions.run([call for _, call in calls])
        for (one, _), row in zip(calls, rows, strict=True):
            questions.append(Question(one, read_call(row, one.payment)))
        return questions

    async def hear(
        self, question: Question, answer: Answer | None, started_at: dt.datetime
    ) -> None:
        """Store what an enquiry brought and believe what it proves."""
        payment = question.due.payment
        if isinstance(question.call, Finding):
            finding, answer = question.call, Answer(None, None)
        elif answer is None or answer.status is None:
            answer = answer or Answer(None, None, "no answer")
            finding = undefined("enquiry_failed", judge_transport(answer).reason_message)
        else:
            route = payment.route + ENQUIRY
            asked = [(payment, payment.terms.enquiry_response, route, answer)]
            (finding,) = await self._answers.hear(asked, enquiry=True)
            finding = self._weigh(question.due, finding)
        if finding.evidence in (Evidence.UNDEFINED, Evidence.REFUSED):
            finding = replace(finding, evidence=Evidence.SILENT)  # of the enquiry, not the payment
        made = Enquiry(new_id("enq"), payment, started_at, answer, finding)
        async with self._database.transaction() as tx:
            await enquiries.record(tx, [made])
            payment = replace(payment, enquiries=payment.enquiries + 1)
            heard = Heard(payment, question.due.attempt_id, made.id, finding)
            await self._believer.believe(tx, [heard])

    def _weigh(self, due: Due, finding: Finding) -> Finding:
        """Take "not found" for what it is worth with this connector, at this time."""
        if finding.evidence is not Evidence.NOT_FOUND:
            return finding
        terms = due.payment.terms
        if not terms.authoritative_enquiry:
            return undefined(
                "not_found_unproven", "the provider knows no such payment, which proves nothing"
            )
        until = due.sent_until or due.payment.seen_at
        grace = dt.timedelta(seconds=terms.grace_seconds)
        if dt.datetime.now(dt.UTC) < until + grace:
            return undefined("not_found_yet", "a request under way may still arrive there")
        return replace(finding, reason_code="never_sent")

    async def lapse(self, limit: int) -> int:
        """Take attempts whose lease ran out from their owner; their payments become unknown."""
        async with self._database.transaction() as tx:
            lapsed = await attempts.claim_lapsed(tx, limit)
            if lapsed:
                loaded = await payments.load(tx, [payment for _, payment in lapsed])
                finding = undefined("lease_expired", "the sender did not come back with an answer")
                heard = [Heard(loaded[p], a, a, finding) for a, p in lapsed]
                await self._believer.believe(tx, heard)
        return len(lapsed)


def _waits(due: Due) -> bool:
    """Say whether the payment's attempt is still in other hands: nothing to ask about yet."""
    under_way = due.attempt_state in ("ready", "sending", "answered")
    return due.payment.status in (PaymentStatus.PROCESSING, PaymentStatus.HELD) and under_way


def _unheard_of(due: Due) -> bool:
    return due.payment.status is PaymentStatus.PROCESSING and not due.announced


def _look_again_seconds(due: Due, now: dt.datetime) -> float:
    if due.payment.status is PaymentStatus.HELD:  # until a person decides or its time is over
        return max(0.1, (due.payment.send_before - now).total_seconds())
    if due.attempt_state != "sending" or due.sent_until is None:
        return LOOK_AGAIN_SECONDS
    return max(0.0, (due.sent_until - now).total_seconds()) + AFTER_LEASE_SECONDS
