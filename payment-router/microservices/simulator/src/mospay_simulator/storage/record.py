"""What the simulator remembers, whichever way it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mospay_simulator.domain.payments import Callback, Effect, Order, Payment
from mospay_simulator.domain.refunds import Refund, RefundEffect, RefundOrder


@dataclass(frozen=True, slots=True)
class Taken:
    """A payment request after it was recorded; `repeated` if its reference was already known."""

    payment: Payment
    repeated: bool


@dataclass(frozen=True, slots=True)
class TakenRefund:
    """A refund request after it was recorded; `repeated` if its id was already known."""

    refund: Refund
    repeated: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over the whole record; `requests` are well-formed requests, not enquiries.

    `refunds` counts refund effects, as `effects` counts those of payments.
    """

    effects: int
    references: int
    doubled: int
    repeats: int
    requests: int
    refunds: int
    refund_references: int
    refund_doubled: int
    refund_repeats: int
    refund_requests: int


class Record(Protocol):
    """What the simulator remembers. Times are aware UTC; each method is one transaction."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def clock_offset(self) -> float:
        """Seconds the simulator's clock is ahead of the machine's."""

    async def move_clock(self, seconds: float) -> float:
        """Move the clock ahead; the new offset."""

    async def take(self, order: Order, now: datetime) -> Taken:
        """Record a request, with its effect if it has one at once; raises AttemptReusedError."""

    async def find(self, reference: str) -> Payment | None: ...

    async def take_refund(self, order: RefundOrder, now: datetime) -> TakenRefund:
        """Record a refund, checked against the others of its payment; raises AttemptReusedError."""

    async def find_refund(self, refund_id: str) -> Refund | None: ...

    async def settle_due(self, now: datetime, limit: int) -> int:
        """Take the due step of up to `limit` payments and as many refunds; how many at most.

        The number is that of the kind with more of them, so less than `limit` means all are done.
        """

    async def next_settlement(self) -> datetime | None: ...

    async def due_callbacks(self, now: datetime, limit: int) -> Sequence[Callback]: ...

    async def reschedule_callback(self, callback_id: int, due_at: datetime | None) -> None:
        """Count one try; `None` means it is delivered or given up."""

    async def next_callback(self) -> datetime | None: ...

    async def effects_of(self, reference: str) -> tuple[Sequence[Effect], int]:
        """The effects of a reference and how often its request was repeated."""

    async def count_effects(self, references: Sequence[str]) -> dict[str, int]: ...

    async def refund_effects_of(self, refund_id: str) -> tuple[Sequence[RefundEffect], int]:
        """The effects of a refund id and how often its request was repeated."""

    async def refund_effects_of_payment(self, reference: str) -> tuple[Sequence[RefundEffect], int]:
        """All refund effects of a payment and how often its refund requests were repeated."""

    async def count_refund_effects(self, refund_ids: Sequence[str]) -> dict[str, int]: ...

    async def summary(self) -> Summary: ...
