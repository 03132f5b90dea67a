"""What is handed to a sender: an owned attempt with its slot and the end of its lease."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.slots import Slots


@dataclass(frozen=True, slots=True)
class Outbound:
    """An attempt in `sending` that this process owns and holds a slot for.

    `lease_ends` is on this process's monotonic clock, counted from before the claim.
    """

    attempt_id: str
    fence: int
    payment: Payment
    url: str
    payload: bytes
    lease_ends: float
    margin_seconds: float

    def may_send(self) -> bool:
        """Say whether the lease still covers the whole call and the margin after it."""
        left = self.lease_ends - asyncio.get_running_loop().time()
        return left > self.payment.terms.timeout_seconds + self.margin_seconds


class Reservation:
    """Slots taken for attempts whose claim is not committed yet.

    Launched after the commit; if there is none, the slots lapse by themselves, at a time from which
    the lease would forbid sending anyway.
    """

    def __init__(self, slots: Slots, seconds: float) -> None:
        self._slots = slots
        self._held: list[Outbound] = []
        self._timer = asyncio.get_running_loop().call_later(seconds, self._lapse)

    def add(self, outbound: Outbound) -> None:
        """Hold an attempt whose slot has been taken."""
        self._held.append(outbound)

    def keep_only(self, payments: set[str]) -> None:
        """Give back the slots of payments that turned out to be here already."""
        dropped = [o for o in self._held if o.payment.id not in payments]
        self._held = [o for o in self._held if o.payment.id in payments]
        self._return(dropped)

    def launch(self, send: Callable[[Outbound], None]) -> None:
        """Hand the attempts over; their sender gives the slots back."""
        self._timer.cancel()
        held, self._held = self._held, []
        for outbound in held:
            send(outbound)

    def _lapse(self) -> None:
        held, self._held = self._held, []
        self._return(held)

    def _return(self, outbounds: Sequence[Outbound]) -> None:
        for outbound in outbounds:
            payment = outbound.payment
            self._slots.give_back(payment.client_id, payment.microservice)
