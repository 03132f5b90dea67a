"""The record of payments, effects and due callbacks: SQLite, or a dict for benches."""

from mospay_simulator.storage.memory import MemoryRecord
from mospay_simulator.storage.record import Record, Summary, Taken
from mospay_simulator.storage.sqlite import SqliteRecord

__all__ = ["MemoryRecord", "Record", "SqliteRecord", "Summary", "Taken"]
