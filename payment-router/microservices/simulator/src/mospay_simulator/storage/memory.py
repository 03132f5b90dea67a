"""A record in dicts: costs a bench next to nothing and is gone with the process."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import orjson

from mospay_simulator.domain.errors import AttemptReusedError
from mospay_simulator.domain.payments import (
    Callback,
    Delays,
    DueCallback,
    Effect,
    Moments,
    Order,
    Payment,
    effect_of,
    open_payment,
    payment_callbacks,
    settle_payment,
)
from mospay_simulator.domain.refunds import (
    Refund,
    RefundEffect,
    RefundOrder,
    open_refund,
    refund_callbacks,
    refund_effect_of,
    settle_refund,
)
from mospay_simulator.domain.scenarios import Outcome
from mospay_simulator.storage.record import Summary, Taken, TakenRefund


class MemoryRecord:
    """A record that is gone with the process; nothing in it ever awaits."""

    def __init__(self, delays: Delays) -> None:
        self._delays = delays
        self._offset = 0.0
        self._payments: dict[str, Payment] = {}
        self._refunds: dict[str, Refund] = {}
        self._refunds_of: dict[str, list[str]] = {}
        # An attempt id belongs to a payment or a refund: both have their own prefix here.
        self._attempts: dict[str, tuple[str, str]] = {}
        self._effects: dict[str, Effect] = {}
        self._refund_effects: dict[str, RefundEffect] = {}
        self._repeats: dict[str, int] = {}
        self._refund_repeats: dict[str, int] = {}
        self._settles: dict[str, datetime] = {}
        self._refund_settles: dict[str, datetime] = {}
        self._callbacks: dict[int, tuple[datetime, Callback]] = {}
        self._callback_count = 0

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def clock_offset(self) -> float:
        return self._offset

    async def move_clock(self, seconds: float) -> float:
        self._offset += seconds
        return self._offset

    def _own(self, attempt_id: str | None, owner: tuple[str, str]) -> None:
        if attempt_id is not None and self._attempts.setdefault(attempt_id, owner) != owner:
            raise AttemptReusedError

    async def take(self, order: Order, now: datetime) -> Taken:
        self._own(order.attempt_id, ("payment", order.reference))
        payment = self._payments.get(order.reference)
        if payment is not None:
            self._repeats[order.reference] = self._repeats.get(order.reference, 0) + 1
            return Taken(payment, repeated=True)
        payment = open_payment(order, now, self._delays)
        self._payments[order.reference] = payment
        if payment.outcome is Outcome.SUCCEEDED:
            self._effects[order.reference] = effect_of(payment, now)
        if payment.settles_at is not None:
            self._settles[order.reference] = payment.settles_at
        return Taken(payment, repeated=False)

    async def find(self, reference: str) -> Payment | None:
        return self._payments.get(reference)

    async def take_refund(self, order: RefundOrder, now: datetime) -> TakenRefund:
        self._own(order.attempt_id, ("refund", order.refund_id))
        refund = self._refunds.get(order.refund_id)
        if refund is not None:
            self._refund_repeats[order.refund_id] = self._refund_repeats.get(order.refund_id, 0) + 1
            return TakenRefund(refund, repeated=True)
        ids = self._refunds_of.setdefault(order.payment_reference, [])
        others = [self._refunds[one] for one in ids]
        payment = self._payments.get(order.payment_reference)
        refund = open_refund(order, payment, others, now, self._delays)
        ids.append(order.refund_id)
        self._refunds[order.refund_id] = refund
        if refund.outcome is Outcome.SUCCEEDED:
            self._refund_effects[order.refund_id] = refund_effect_of(refund, now)
        if refund.settles_at is not None:
            self._refund_settles[order.refund_id] = refund.settles_at
        return TakenRefund(refund, repeated=False)

    async def find_refund(self, refund_id: str) -> Refund | None:
        return self._refunds.get(refund_id)

    async def settle_due(self, now: datetime, limit: int) -> int:
        return max(self._settle_payments(now, limit), self._settle_refunds(now, limit))

    def _settle_payments(self, now: datetime, limit: int) -> int:
        due = [reference for reference, at in self._settles.items() if at <= now][:limit]
        for reference in due:
            moments = Moments(self._settles.pop(reference), now)
            payment, step = settle_payment(self._payments[reference], self._delays)
            self._payments[reference] = payment
            if payment.settles_at is not None:
                self._settles[reference] = payment.settles_at
            if payment.outcome is Outcome.SUCCEEDED:
                self._effects[reference] = effect_of(payment, now)
            self._keep(payment_callbacks(payment, step, moments, self._delays))
        return len(due)

    def _settle_refunds(self, now: datetime, limit: int) -> int:
        due = [refund_id for refund_id, at in self._refund_settles.items() if at <= now][:limit]
        for refund_id in due:
            moments = Moments(self._refund_settles.pop(refund_id), now)
            refund, step = settle_refund(self._refunds[refund_id], self._delays)
            self._refunds[refund_id] = refund
            if refund.settles_at is not None:
                self._refund_settles[refund_id] = refund.settles_at
            if refund.outcome is Outcome.SUCCEEDED:
                self._refund_effects[refund_id] = refund_effect_of(refund, now)
            self._keep(refund_callbacks(refund, step, moments, self._delays))
        return len(due)

    def _keep(self, callbacks: list[DueCallback]) -> None:
        for one in callbacks:
            self._callback_count += 1
            body = orjson.dumps(one.body)
            callback = Callback(self._callback_count, one.url, body, one.forged, tries=0)
            self._callbacks[callback.id] = (one.due_at, callback)

    async def next_settlement(self) -> datetime | None:
        return min((*self._settles.values(), *self._refund_settles.values()), default=None)

    async def due_callbacks(self, now: datetime, limit: int) -> Sequence[Callback]:
        return [callback for due_at, callback in self._callbacks.values() if due_at <= now][:limit]

    async def reschedule_callback(self, callback_id: int, due_at: datetime | None) -> None:
        _, callback = self._callbacks.pop(callback_id)
        if due_at is not None:
            self._callbacks[callback_id] = (due_at, replace(callback, tries=callback.tries + 1))

    async def next_callback(self) -> datetime | None:
        return min((due_at for due_at, _ in self._callbacks.values()), default=None)

    async def effects_of(self, reference: str) -> tuple[Sequence[Effect], int]:
        effect = self._effects.get(reference)
        return [] if effect is None else [effect], self._repeats.get(reference, 0)

    async def count_effects(self, references: Sequence[str]) -> dict[str, int]:
        return {reference: int(reference in self._effects) for reference in references}

    async def refund_effects_of(self, refund_id: str) -> tuple[Sequence[RefundEffect], int]:
        effect = self._refund_effects.get(refund_id)
        return [] if effect is None else [effect], self._refund_repeats.get(refund_id, 0)

    async def refund_effects_of_payment(self, reference: str) -> tuple[Sequence[RefundEffect], int]:
        ids = self._refunds_of.get(reference, [])
        found = [self._refund_effects[one] for one in ids if one in self._refund_effects]
        return found, sum(self._refund_repeats.get(one, 0) for one in ids)

    async def count_refund_effects(self, refund_ids: Sequence[str]) -> dict[str, int]:
        return {refund_id: int(refund_id in self._refund_effects) for refund_id in refund_ids}

    async def summary(self) -> Summary:
        repeats, refund_repeats = sum(self._repeats.values()), sum(self._refund_repeats.values())
        return Summary(
            effects=len(self._effects),
            references=len(self._payments),
            doubled=0,  # a dict has one effect for a key
            repeats=repeats,
            requests=len(self._payments) + repeats,
            refunds=len(self._refund_effects),
            refund_references=len(self._refunds),
            refund_doubled=0,
            refund_repeats=refund_repeats,
            refund_requests=len(self._refunds) + refund_repeats,
        )
