"""Time into the ledger: a look, once a minute, that the books are what they must be."""

import structlog
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker
from prometheus_client import Gauge

from mospay_ledger import usecases

log = structlog.get_logger()
UNBALANCED = Gauge(
    "mospay_ledger_unbalanced_entries", "Entries of the last five minutes off balance"
)
ADRIFT = Gauge("mospay_ledger_accounts_adrift", "Accounts that differ from their newest posting")


def workers(database: Database) -> list[Worker]:
    """Return the ledger's workers."""

    async def turn() -> int:
        async with database.transaction() as tx:
            unbalanced, adrift = await usecases.check_books(tx)
        UNBALANCED.set(unbalanced)
        ADRIFT.set(adrift)
        if unbalanced or adrift:
            log.error("books_are_wrong", unbalanced_entries=unbalanced, accounts_adrift=adrift)
        return 0

    return [Worker("ledger.balance_check", turn, idle_seconds=60)]
