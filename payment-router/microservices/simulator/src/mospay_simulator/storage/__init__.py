"""The record of payments, refunds, effects and due callbacks: SQLite, or a dict for benches."""

from mospay_simulator.storage.clock import Clock
from mospay_simulator.storage.memory import MemoryRecord
from mospay_simulator.storage.record import Record, Summary, Taken, TakenRefund
from mospay_simulator.storage.sqlite import SqliteRecord

__all__ = [
    "Clock",
    "MemoryRecord",
    "Record",
    "SqliteRecord",
    "Summary",
    "Taken",
    "TakenRefund",
]
