"""Refunds: reserved under the payment's row lock, sent at most once, ended by evidence."""

import asyncio
import datetime as dt
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson
import structlog
from mospay_shared.chassis.database import DATABASE_DOWN, TRY_AGAIN, Database, Tx
from mospay_shared.chassis.inbox import Permanent
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Event, RefundPaymentV1, RefundStatus, ResolveRefundV1
from mospay_shared.ids import new_id
from prometheus_client import Counter

from mospay_payment_router.domain import refunds as domain
from mospay_payment_router.domain.answers import (
    Answer,
    Call,
    Finding,
    function_fault,
    judge,
    judge_transport,
    read_call,
    undefined,
)
from mospay_payment_router.domain.errors import NotYetKnown
from mospay_payment_router.domain.functions import ENQUIRY, REFUND, TRIES
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.refunds import Refund
from mospay_payment_router.domain.schedule import delay_seconds
from mospay_payment_router.domain.states import Evidence
from mospay_payment_router.storage import operations, payments
from mospay_payment_router.storage import refunds as storage
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_payment_router.usecases.accept import RESTORED
from mospay_payment_router.usecases.answers import AWAY_SECONDS, UNSENT_WAIT_SECONDS

log = structlog.get_logger()
MOVED = Counter("mospay_router_refunds", "Refunds by the state they moved to", ["status"])
OVER = Counter("mospay_router_over_refunds", "Refunds proven beyond what was captured")
RESOLVED = Counter(
    "mospay_router_refund_resolutions", "Two-person resolutions of refunds", ["result"]
)


@dataclass(frozen=True, slots=True)
class RefundTask:
    """A claimed refund: `call` is what to POST, or what is found without one.

    None where its stored answer is to be judged, or the provider to be asked: `was` says which.
    """

    refund: Refund
    payment: Payment
    was: str
    call: Call | Finding | None


class Refunds:
    """The verbs of refunds. `schedule` are seconds before each enquiry."""

    def __init__(
        self,
        database: Database,
        functions: Functions,
        relay: Relay,
        schedule: Sequence[float],
        attention_after_seconds: float,
        wake: Callable[[], None],
    ) -> None:
        self._database, self._functions, self._relay = database, functions, relay
        self._schedule, self._attention_after = schedule, attention_after_seconds
        self._wake = wake
        self.epoch_started_at: dt.datetime | None = None  # None: nothing was ever forgotten

    async def take(self, tx: Tx, events: Sequence[Event[RefundPaymentV1]]) -> None:
        """Reserve and insert these refunds; those that can't be made end `failed`, unsent.

        One that was asked for before this database was restored may have been sent: it begins
        `unknown` and is only asked about. Raises NotYetKnown for a payment that is not here (or
        not yet again what such a refund needs), Permanent for another tenant's; puts those off
        that go by a function that had no end in time.
        """
        found = await payments.load(tx, [e.data.payment_id for e in events])
        for one in events:
            payment = found.get(one.data.payment_id)
            if payment is None:
                raise NotYetKnown(one.data.payment_id)
            if (payment.client_id, payment.mode) != (one.data.client_id, one.data.mode):
                raise Permanent("the refund names a payment of another client or mode")
        known = set(await storage.lock(tx, [e.data.refund_id for e in events]))
        late: dict[str, str] = {}
        for one in sorted(events, key=lambda e: e.data.refund_id):
            payment = found[one.data.payment_id]
            if one.data.refund_id in known:
                continue
            if payment.terms.refund in late:  # not waited for again and again
                tx.put_off[one.id] = late[payment.terms.refund]
                continue
            known.add(one.data.refund_id)  # it may be told of twice in one batch
            fault = await self._take(tx, one, payment)
            if fault is not None:
                late[payment.terms.refund] = tx.put_off[one.id] = fault
        tx.after_commit(self._wake)

    async def _take(self, tx: Tx, one: Event[RefundPaymentV1], payment: Payment) -> str | None:
        """Insert a refund, or return why its function may have an end another time."""
        purse = (await storage.purses(tx, [payment.id]))[payment.id]
        refund = _asked_for(one)
        refused = domain.refusal(payment, purse, one.data)
        if self._forgotten(one.data) and (refused is None or domain.may_pass(refused)):
            if refused is not None:  # it may have been made all the same: nothing is decided yet
                raise NotYetKnown(f"{refund.id}: {refused.reason_message}")
            refund = replace(
                refund,
                status=RefundStatus.UNKNOWN,
                attempt_state="unknown",
                reason_code=RESTORED[0],
                reason_message=RESTORED[1],
            )
        elif refused is None:
            (row,) = await self._functions.run(
                [self._call(refund, payment, payment.terms.refund, payment.route + REFUND)]
            )
            if row.may_pass and one.tries < TRIES:
                return function_fault(row)
            call = read_call(row, domain.subject(refund, payment))
            if isinstance(call, Call):
                refund = replace(refund, url=call.url, payload=call.payload)
            else:
                refused = replace(call, evidence=Evidence.REFUSED)
        if refused is not None:
            refund = replace(
                refund,
                status=RefundStatus.FAILED,
                attempt_state="ended",
                reason_code=refused.reason_code,
                reason_message=refused.reason_message,
            )
        await storage.insert(tx, refund, None if refused else 0.0)
        if refused is None:
            reserved = replace(purse, open_minor=purse.open_minor + refund.amount_minor)
            await storage.save_purse(tx, payment.id, reserved)
        await self._relay.enqueue(tx, [domain.event(refund, payment, None, purse.refunded_minor)])
        tx.after_commit(lambda: MOVED.labels(refund.status).inc())
        return None

    def _forgotten(self, command: RefundPaymentV1) -> bool:
        """Say whether a refund is older than this database's memory: it may have been sent."""
        started_at = self.epoch_started_at
        return started_at is not None and command.requested_at < started_at

    async def resolve(self, tx: Tx, events: Sequence[Event[ResolveRefundV1]]) -> None:
        """Believe two people about a refund that stays unknown, if it is still what they saw.

        Raises Permanent when they are one person or the refund is of another tenant or payment,
        NotYetKnown when it (or the version they saw) is not here.
        """
        await payments.load(tx, [e.data.payment_id for e in events])  # in the order of their ids
        for one in events:
            command = one.data
            if command.proposed_by == command.approved_by:
                raise Permanent("a resolution needs two different people")
            refund = (await storage.lock(tx, [command.refund_id])).get(command.refund_id)
            if refund is None:
                raise NotYetKnown(command.refund_id)
            named = (command.payment_id, command.client_id, command.mode)
            if (refund.payment_id, refund.client_id, refund.mode) != named:
                raise Permanent("the resolution names a refund of another payment, client or mode")
            if refund.version < command.version:  # they saw what a restore took away again
                raise NotYetKnown(f"version {command.version} of {refund.id}")
            holds = domain.resolvable(refund, command.version)
            if not await operations.add_refund_resolution(tx, command, holds):
                continue
            RESOLVED.labels("applied" if holds else "stale").inc()
            if not holds:
                log.warning(
                    "refund_resolution_stale",
                    refund_id=refund.id,
                    version=refund.version,
                    seen=command.version,
                )
                continue
            source = f"{command.proposed_by}+{command.approved_by}"
            finding = domain.resolution(command)
            await self.believe_in(tx, refund.id, refund.payment_id, source, finding)

    def _call(
        self, refund: Refund, payment: Payment, name: str, route: str, answer: Answer | None = None
    ) -> FunctionCall:
        data = orjson.dumps(domain.function_input(refund, payment, route)).decode()
        if answer is None:
            return FunctionCall(refund.id, name, data)
        return FunctionCall(refund.id, name, data, answer.status, answer.body)

    async def claim(self, owner: str, limit: int, lease_extra_seconds: float) -> list[RefundTask]:
        """Claim due refunds and say what each needs; one whose lease ran out becomes unknown."""
        async with self._database.transaction() as tx:
            due = await storage.claim_due(tx, owner, limit, lease_extra_seconds)
            found = await storage.payments_of(tx, [d.refund.payment_id for d in due])
        tasks = []
        for one in due:
            payment = found[one.refund.payment_id]
            call: Call | Finding | None = None
            if one.was == "ready":
                assert one.refund.url is not None and one.refund.payload is not None
                call = Call(one.refund.url, one.refund.payload)
            elif one.was == "sending":
                call = undefined("lease_expired", "the sender did not come back with an answer")
            tasks.append(RefundTask(one.refund, payment, one.was, call))
        return tasks

    async def question(self, task: RefundTask) -> Call | Finding:
        """Return the call that asks about a refund, or why there is none."""
        refund, payment = task.refund, task.payment
        name = payment.terms.refund_enquiry
        if not name:
            return Finding(Evidence.SILENT, None, "no_enquiry", "no function asks about refunds")
        route = payment.route + REFUND + ENQUIRY
        (row,) = await self._functions.run([self._call(refund, payment, name, route)])
        asked = read_call(row, domain.subject(refund, payment))
        if isinstance(asked, Finding):  # of the enquiry, not of the refund
            return replace(asked, evidence=Evidence.SILENT)
        return asked

    async def return_unsent(self, task: RefundTask) -> None:
        """Make a refund ready again whose owner has provably sent nothing, after a while."""
        wait = random.uniform(*UNSENT_WAIT_SECONDS)
        async with self._database.transaction() as tx:
            await storage.put_back(tx, task.refund.id, task.refund.fence, wait)

    async def heard(self, task: RefundTask, answer: Answer, started_at: dt.datetime) -> None:
        """Store what a call or an enquiry brought, judge it and believe what it proves."""
        if task.was == "ready":
            await self._until_stored(task.refund, answer)
            await self.believe(
                task.refund.id,
                task.payment.id,
                task.refund.attempt_id,
                await self._judged(task, answer, enquiry=False),
            )
            return
        finding = await self._judged(task, answer, enquiry=True)
        # Whatever became of the enquiry itself is no news: also that no byte of *it* left.
        if answer.status is None or finding.evidence in (Evidence.UNDEFINED, Evidence.REFUSED):
            finding = replace(finding, evidence=Evidence.SILENT)
        asked = (new_id("enq"), started_at, answer)
        await self.believe(task.refund.id, task.payment.id, asked[0], finding, asked)

    async def judge_stored(self, task: RefundTask) -> None:
        """Judge an answer that was stored, but whose RESPONSE function was never heard."""
        answer = Answer(task.refund.http_status, task.refund.answer)
        finding = await self._judged(task, answer, enquiry=False)
        await self.believe(task.refund.id, task.payment.id, task.refund.attempt_id, finding)

    async def _until_stored(self, refund: Refund, answer: Answer) -> None:
        while True:
            try:
                async with self._database.transaction() as tx:
                    await storage.store_answer(tx, refund.id, refund.fence, answer)
                return
            except (*DATABASE_DOWN, *TRY_AGAIN) as error:
                log.warning("refund_answer_waits", reason=repr(error)[:200])
                await asyncio.sleep(AWAY_SECONDS)

    async def _judged(self, task: RefundTask, answer: Answer, *, enquiry: bool) -> Finding:
        if answer.status is None:
            told = judge_transport(answer)
            # Of an enquiry that could not leave: that says nothing about the refund.
            return undefined("enquiry_failed", told.reason_message) if enquiry else told
        refund, payment = task.refund, task.payment
        terms, route = payment.terms, payment.route + REFUND
        name, route = (
            (terms.refund_enquiry_response, route + ENQUIRY)
            if enquiry
            else (terms.refund_response, route)
        )
        while True:
            try:
                (row,) = await self._functions.run(
                    [self._call(refund, payment, name, route, answer)]
                )
                break
            except (*DATABASE_DOWN, *TRY_AGAIN):
                await asyncio.sleep(AWAY_SECONDS)
        found = judge(answer.status, row, domain.subject(refund, payment), enquiry=enquiry)
        return self._weighed(refund, payment, found)

    def _weighed(self, refund: Refund, payment: Payment, finding: Finding) -> Finding:
        """Take "no such refund" for what it is worth with this connector, at this time."""
        if finding.evidence is not Evidence.NOT_FOUND:
            return finding
        if not payment.terms.authoritative_enquiry:
            return undefined("not_found_unproven", "the provider knows no such refund")
        grace = dt.timedelta(seconds=payment.terms.grace_seconds)
        until = refund.lease_until
        if until is not None and dt.datetime.now(dt.UTC) < until + grace:
            return undefined("not_found_yet", "a request under way may still arrive there")
        return replace(finding, reason_code="never_sent")

    async def believe(
        self,
        refund_id: str,
        payment_id: str,
        source_id: str,
        finding: Finding,
        asked: tuple[str, dt.datetime, Answer] | None = None,
    ) -> None:
        """Apply a finding in a transaction of its own, waiting while the database is away."""
        while True:
            try:
                async with self._database.transaction() as tx:
                    await self.believe_in(tx, refund_id, payment_id, source_id, finding, asked)
                return
            except (*DATABASE_DOWN, *TRY_AGAIN) as error:
                log.warning("refund_belief_waits", reason=repr(error)[:200])
                await asyncio.sleep(AWAY_SECONDS)

    async def believe_in(
        self,
        tx: Tx,
        refund_id: str,
        payment_id: str,
        source_id: str,
        finding: Finding,
        asked: tuple[str, dt.datetime, Answer] | None = None,
    ) -> None:
        """Apply a finding: payment row first, then the refund's, purse, transition and event."""
        payment = (await payments.load(tx, [payment_id]))[payment_id]
        before = (await storage.lock(tx, [refund_id]))[refund_id]
        now = domain.after(before, finding)
        if asked is not None:
            now = replace(now, enquiries=before.enquiries + 1)
            await storage.record_enquiry(tx, asked[0], now, asked[1], asked[2], finding)
        if now.status is RefundStatus.PENDING and self._old(before):
            finding = domain.left_pending()
            now = domain.after(now, finding)
        purse = (await storage.purses(tx, [payment_id]))[payment_id]
        settled = domain.settle_purse(purse, before, now, payment.amount_minor)
        if settled.over_minor > purse.over_minor:
            now = replace(now, over_refund=True, attention="over_refund")
            OVER.inc()
            log.error("over_refund", refund_id=refund_id, payment_id=payment_id)
        if domain.contradicts(before.status, finding.evidence):
            log.error("refund_contradicted", refund_id=refund_id, told=finding.evidence)
        if settled != purse:
            await storage.save_purse(tx, payment_id, settled)
        if not now.final and self._old(before):
            now = replace(now, attention=now.attention or "unresolved")
        wake = None if now.final else delay_seconds(self._schedule, before.enquiries)
        await storage.settle(tx, before, now, finding, source_id, wake)
        if now.version != before.version:
            told = domain.event(now, payment, before.status, settled.refunded_minor)
            await self._relay.enqueue(tx, [told])
            tx.after_commit(lambda: MOVED.labels(now.status).inc())

    def _old(self, refund: Refund) -> bool:
        age = dt.datetime.now(dt.UTC) - (refund.created_at or refund.requested_at)
        return age.total_seconds() > self._attention_after


def _asked_for(one: Event[RefundPaymentV1]) -> Refund:
    command, envelope = one.data, one.envelope
    return Refund(
        id=command.refund_id,
        payment_id=command.payment_id,
        client_id=command.client_id,
        mode=command.mode,
        amount_minor=command.amount_minor,
        currency=command.currency,
        reason=command.reason,
        requested_at=command.requested_at,
        attempt_id=new_id("att"),
        correlation_id=envelope.correlation_id,
        causation_id=envelope.id,
        traceparent=envelope.traceparent,
    )
