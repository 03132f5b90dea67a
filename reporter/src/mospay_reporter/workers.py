"""Time into the reporter: partitions that stand ready before their first row, and end in time."""

import datetime as dt

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker
from prometheus_client import Gauge

from mospay_reporter.usecases import reconciliation, recording

HOUR_SECONDS = 3600.0
OPEN = Gauge(
    "mospay_reporter_exceptions_open", "Exceptions of reconciliation told of and not resolved",
    ["kind", "mode"],
)  # fmt: skip
BACKLOG_BATCH = 500  # payments a transaction, so that news never waits for it long


def workers(database: Database, *, call_retention_days: int) -> list[Worker]:
    """Return the workers: partitions of facts and calls, and sales of earlier payments."""

    async def turn() -> int:
        async with database.transaction() as tx:
            await recording.keep_partitions(tx, dt.datetime.now(dt.UTC).date(), call_retention_days)
        return 0  # an hour until the next look, whatever was made

    async def count_earlier() -> int:
        async with database.transaction() as tx:
            return await recording.sell_earlier(tx, BACKLOG_BATCH)

    async def watch_exceptions() -> int:
        async with database.transaction() as tx:
            rows = await reconciliation.still_open(tx)
        for mode, kind, count in rows:
            OPEN.labels(kind, mode).set(count)
        return 0

    return [
        Worker("reporter_exceptions", watch_exceptions, idle_seconds=60),
        Worker("reporter_partitions", turn, idle_seconds=HOUR_SECONDS),
        Worker("reporter_sales_backlog", count_earlier, idle_seconds=HOUR_SECONDS),
    ]
