"""A record in dicts: costs a bench next to nothing and is gone with the process."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import orjson

from mospay_simulator.domain.errors import AttemptReusedError
from mospay_simulator.domain.payments import (
    Callback,
    Effect,
    Order,
    Payment,
    callback_body,
    effect_of,
    open_payment,
    planned_callbacks,
)
from mospay_simulator.domain.scenarios import Outcome
from mospay_simulator.storage.record import Summary, Taken


class MemoryRecord:
    """A record that is gone with the process; nothing in it ever awaits."""

    def __init__(self, delays: Mapping[str, timedelta]) -> None:
        self._delays = delays
        self._payments: dict[str, Payment] = {}
        self._attempts: dict[str, str] = {}
        self._effects: dict[str, Effect] = {}
        self._repeats: dict[str, int] = {}
        self._settles: dict[str, datetime] = {}
        self._callbacks: dict[int, tuple[datetime, Callback]] = {}
        self._callback_count = 0

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def take(self, order: Order, now: datetime) -> Taken:
        if order.attempt_id is not None:
            known = self._attempts.setdefault(order.attempt_id, order.reference)
            if known != order.reference:
                raise AttemptReusedError
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

    async def settle_due(self, now: datetime, limit: int) -> int:
        due = [reference for reference, at in self._settles.items() if at <= now][:limit]
        for reference in due:
            del self._settles[reference]
            payment = replace(self._payments[reference], outcome=Outcome.SUCCEEDED, settles_at=None)
            self._payments[reference] = payment
            self._effects[reference] = effect_of(payment, now)
            for due_at, plan in planned_callbacks(payment, now):
                assert payment.callback_url is not None
                self._callback_count += 1
                callback = Callback(
                    self._callback_count,
                    payment.callback_url,
                    orjson.dumps(callback_body(payment, plan.outcome)),
                    plan.forged,
                    tries=0,
                )
                self._callbacks[callback.id] = (due_at, callback)
        return len(due)

    async def next_settlement(self) -> datetime | None:
        return min(self._settles.values(), default=None)

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

    async def summary(self) -> Summary:
        repeats = sum(self._repeats.values())
        return Summary(
            effects=len(self._effects),
            references=len(self._payments),
            doubled=0,  # a dict has one effect for a key
            repeats=repeats,
            requests=len(self._payments) + repeats,
        )
