"""Time into the reporter: partitions that stand ready before their first row, and end in time."""

import datetime as dt

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker

from mospay_reporter.usecases import recording

HOUR_SECONDS = 3600.0
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

    return [
        Worker("reporter_partitions", turn, idle_seconds=HOUR_SECONDS),
        Worker("reporter_sales_backlog", count_earlier, idle_seconds=HOUR_SECONDS),
    ]
