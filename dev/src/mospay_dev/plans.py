"""How PostgreSQL works a statement through: what a test may hold against its batch's size."""

from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx


class Watched(Tx):
    """Runs each statement under EXPLAIN ANALYZE, which answers with no rows.

    `compared` counts rows that a join looked at in vain: in a statement over a batch it must not
    grow with the square of the batch (ADR 0019).
    """

    __slots__ = ("compared",)

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self.compared = 0

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run a statement for its effect."""
        explained = f"explain (analyze, timing off, format json) {sql}"
        (row,) = await self.connection.fetch(explained, *args)
        self.compared += _in_vain(row[0][0]["Plan"])
        return []

    async def run(self, sql: str, *args: Any) -> str:
        """Run a statement for its effect."""
        await self.fetch(sql, *args)
        return ""


def _in_vain(node: dict[str, Any]) -> int:
    removed = int(node.get("Rows Removed by Join Filter", 0) * node.get("Actual Loops", 1))
    return removed + sum(_in_vain(child) for child in node.get("Plans", ()))
