"""What the simulator remembers, whichever way it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mospay_simulator.domain.payments import Callback, Effect, Order, Payment


@dataclass(frozen=True, slots=True)
class Taken:
    """A payment request after it was recorded; `repeated` if its reference was already known."""

    payment: Payment
    repeated: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over the whole record; `requests` are well-formed payment requests, not enquiries."""

    effects: int
    references: int
    doubled: int
    repeats: int
    requests: int


class Record(Protocol):
    """What the simulator remembers. Times are aware UTC; each method is one transaction."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def take(self, order: Order, now: datetime) -> Taken:
        """Record a request, with its effect if it has one at once; raises AttemptReusedError."""

    async def find(self, reference: str) -> Payment | None: ...

    async def settle_due(self, now: datetime, limit: int) -> int:
        """Turn due payments into succeeded ones with effect and callbacks; how many there were."""

    async def next_settlement(self) -> datetime | None: ...

    async def due_callbacks(self, now: datetime, limit: int) -> Sequence[Callback]: ...

    async def reschedule_callback(self, callback_id: int, due_at: datetime | None) -> None:
        """Count one try; `None` means it is delivered or given up."""

    async def next_callback(self) -> datetime | None: ...

    async def effects_of(self, reference: str) -> tuple[Sequence[Effect], int]:
        """The effects of a reference and how often its request was repeated."""

    async def count_effects(self, references: Sequence[str]) -> dict[str, int]: ...

    async def summary(self) -> Summary: ...
