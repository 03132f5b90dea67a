"""What the router asks of a connector: call once, ask again as often as needed, translate."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from mospay_generic.clients import Provider
from mospay_generic.domain.protocol import (
    Answer,
    Call,
    CallbackBody,
    Order,
    Told,
    UnsendableError,
    never_sent,
    unknown,
)
from mospay_generic.settings import Credentials
from mospay_generic.storage import Record

log = logging.getLogger("mospay.connector")
# Gives the credentials of a request; raises UnsendableError when its header is wrong.
Own = Callable[[], Credentials]


class Connector:
    """A provider behind the router's protocol; one call out for each attempt, never two."""

    def __init__(self, provider: Provider, record: Record, under_way_seconds: float) -> None:
        self._provider, self._record = provider, record
        self._under_way_seconds = under_way_seconds

    async def start(self, order: Order, own: Own) -> Answer:
        """Ask for a payment or refund once; a repeat is told what the first call came to."""
        known = await self._record.take(order)
        if known is not None:
            _note("repeated", order, known.answer)
            return known.answer or unknown(order, "the first request is under way or was cut off")
        order = await self._with_payment(order)
        try:
            send = self._provider.pay if order.kind == "payment" else self._provider.refund
            answer = await send(order, own())
        except UnsendableError as error:
            answer = never_sent(order, str(error))
        await self._record.finish(order, answer)
        _note("called", order, answer)
        return answer

    async def enquire(self, order: Order, own: Own) -> Answer:
        """Ask the provider what became of it; never starts anything."""
        known = await self._record.find(order.kind, order.reference)
        if known is not None and self._is_under_way(known):
            return unknown(order, "the call is still under way")
        order = await self._with_payment(replace(order, known=known))
        try:
            ask = self._provider.enquire if order.kind == "payment" else self._provider.track
            answer = await ask(order, own())
        except UnsendableError as error:
            answer = unknown(order, str(error))
        if known is not None:
            await self._record.learn(known, answer)
        _note("enquired", order, answer)
        return answer

    async def callback(self, callback: CallbackBody, own: Own) -> Told:
        """Verify and translate a callback; raises MalformedError when it can't be read."""
        told = await self._provider.read(callback, own())
        log.info(json.dumps({"event": "callback_read", **told.model_dump(include=_TOLD)}))
        return told

    async def _with_payment(self, order: Order) -> Order:
        if order.kind == "payment":
            return order
        return replace(order, paid=await self._record.find("payment", order.payment_reference))

    def _is_under_way(self, call: Call) -> bool:
        age = (datetime.now(UTC) - call.taken_at).total_seconds()
        return call.answer is None and age < self._under_way_seconds


_TOLD = {"verified", "kind", "reference", "outcome", "event_id"}


def _note(event: str, order: Order, answer: Answer | None) -> None:
    # Ids and outcomes alone: no phone, amount, credential or provider's words.
    log.info(
        json.dumps(
            {
                "event": f"{order.kind}_{event}",
                "reference": order.reference,
                "attempt_id": order.attempt_id,
                "outcome": None if answer is None else answer.outcome,
                "reason_code": None if answer is None else answer.reason_code,
            }
        )
    )
