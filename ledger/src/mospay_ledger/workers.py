"""Time into the ledger: a look, once a minute, that what was posted lately balances."""

import structlog
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker
from prometheus_client import Gauge

from mospay_ledger import storage

log = structlog.get_logger()
UNBALANCED = Gauge("mospay_ledger_unbalanced_entries", "Entries of the last hour off balance")


def workers(database: Database) -> list[Worker]:
    """Return the ledger's workers."""

    async def turn() -> int:
        async with database.transaction() as tx:
            broken = await storage.unbalanced_lately(tx)
        UNBALANCED.set(broken)
        if broken:
            log.error("unbalanced_entries", count=broken)
        return 0

    return [Worker("ledger.balance_check", turn, idle_seconds=60)]
