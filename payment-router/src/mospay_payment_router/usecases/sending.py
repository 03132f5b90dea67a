"""Claims: attempts with a lease and a slot, handed to the sender after their commit."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mospay_shared.chassis.database import Database, Question
from mospay_shared.chassis.sealed import Sealer

from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.slots import Slots
from mospay_payment_router.storage import attempts
from mospay_payment_router.usecases.secrets import open_payload


@dataclass(frozen=True, slots=True)
class Leasing:
    """How attempts are leased. Seconds; `owner` names this process in the attempts it holds."""

    owner: str
    margin_seconds: float
    spare_seconds: float
    announce_after_seconds: float
    first_enquiry_seconds: float

    @property
    def extra_seconds(self) -> float:
        """What a lease has beyond the HTTP time-out."""
        return self.margin_seconds + self.spare_seconds


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
            self._slots.give_back(payment.client_id, payment.lane)


class Claims:
    """Claims ready attempts from the table into the slots that are free."""

    def __init__(
        self,
        database: Database,
        slots: Slots,
        sealer: Sealer,
        leasing: Leasing,
        send: Callable[[Outbound], None],
    ) -> None:
        self._database, self._slots, self._sealer = database, slots, sealer
        self._leasing, self._send = leasing, send

    def waited_for(self, due: Question) -> Question:
        """Return `due`, and yes while clients are noted as waiting: a claim alone strikes them."""

        async def ask() -> bool:
            return bool(self._slots.waiting) or await due()

        return ask

    async def claim(self, limit: int) -> int:
        """Claim and send, fairly by client (failure, rule 1); return how many were claimed."""
        slots = self._slots
        limit = min(slots.free, limit)
        if limit <= 0:
            return 0
        now = asyncio.get_running_loop().time()
        full = slots.full_clients(), slots.full_providers()
        reservation = Reservation(slots, self._leasing.spare_seconds)
        async with self._database.transaction() as tx:
            claimed = await attempts.claim_ready(
                tx, self._leasing.owner, limit, *full, self._leasing.extra_seconds
            )
            for one in claimed:
                if slots.take(one.payment.client_id, one.payment.lane):
                    reservation.add(self._outbound(one, now))
                else:  # the claim met a cap half-way
                    await attempts.put_back(tx, one.id, one.fence)
        reservation.launch(self._send)
        if len(claimed) < limit and not full[1]:
            slots.waiting &= set(slots.full_clients())
        return len(claimed)

    def _outbound(self, one: attempts.Claimed, now: float) -> Outbound:
        payment, leasing = one.payment, self._leasing
        payload = one.payload
        if one.payload_sealed:
            payload = open_payload(self._sealer, payload, payment.id)
        lease_ends = now + payment.terms.timeout_seconds + leasing.extra_seconds
        return Outbound(
            one.id, one.fence, payment, one.url, payload, lease_ends, leasing.margin_seconds
        )
