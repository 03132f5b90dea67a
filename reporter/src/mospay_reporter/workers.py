"""Time into the reporter: partitions that stand ready before their first row, and end in time."""

import datetime as dt

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker

from mospay_reporter.usecases import recording

HOUR_SECONDS = 3600.0


def workers(database: Database, *, call_retention_days: int) -> list[Worker]:
    """Return the worker that keeps the partitions of facts, calls and webhook attempts."""

    async def turn() -> int:
        async with database.transaction() as tx:
            await recording.keep_partitions(tx, dt.datetime.now(dt.UTC).date(), call_retention_days)
        return 0  # an hour until the next look, whatever was made

    return [Worker("reporter_partitions", turn, idle_seconds=HOUR_SECONDS)]
