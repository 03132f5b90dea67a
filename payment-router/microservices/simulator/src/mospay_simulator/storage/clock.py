"""The movable clock: the machine's time plus an offset that the record keeps."""

from datetime import UTC, datetime, timedelta
from typing import Final

from mospay_simulator.domain.errors import FieldError, MalformedError
from mospay_simulator.storage.record import Record

# Far enough for any window and any retention; `datetime` ends in the year 9999.
OFFSET_SECONDS_MAX: Final = 100 * 366 * 86_400


class Clock:
    """Reads the simulator's time; it only ever moves ahead, as what has settled stays settled."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.offset_seconds = 0.0

    async def open(self) -> None:
        """Take up the offset that was kept."""
        self.offset_seconds = await self._record.clock_offset()

    def now(self) -> datetime:
        """The simulator's time, aware UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.offset_seconds)

    async def advance(self, seconds: float) -> None:
        """Move ahead and keep it; raises MalformedError beyond a hundred years."""
        if self.offset_seconds + seconds > OFFSET_SECONDS_MAX:
            raise MalformedError(
                FieldError("advance_seconds", "too_large", "The clock moves at most 100 years")
            )
        self.offset_seconds = await self._record.move_clock(seconds)
