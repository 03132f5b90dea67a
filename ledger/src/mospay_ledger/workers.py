"""Time into the ledger: a block a second, and a look, once a minute, that the books are true."""

import structlog
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.workers import Worker
from prometheus_client import Counter, Gauge

from mospay_ledger.settings import LedgerSettings
from mospay_ledger.usecases import chain, importing, matching, posting

log = structlog.get_logger()
UNBALANCED = Gauge(
    "mospay_ledger_unbalanced_entries", "Entries of the last five minutes off balance"
)
ADRIFT = Gauge("mospay_ledger_accounts_adrift", "Accounts that differ from their newest posting")
UNSEALED = Gauge("mospay_ledger_unsealed_entries", "Entries that wait for their block")
SEALED = Counter("mospay_ledger_sealed_entries", "Entries sealed into blocks")
OPEN_EXCEPTIONS = Gauge("mospay_ledger_exceptions_open", "Open exceptions", ["kind", "mode"])
OVERDUE = Gauge("mospay_ledger_exceptions_overdue", "Exceptions past due", ["kind", "mode"])


def workers(database: Database, settings: LedgerSettings) -> list[Worker]:
    """Return the ledger's workers."""

    async def check() -> int:
        async with database.transaction() as tx:
            unbalanced, adrift, unsealed = await posting.check_books(tx)
        UNBALANCED.set(unbalanced)
        ADRIFT.set(adrift)
        UNSEALED.set(unsealed)
        if unbalanced or adrift:
            log.error("books_are_wrong", unbalanced_entries=unbalanced, accounts_adrift=adrift)
        return 0

    async def seal() -> int:
        async with database.transaction() as tx:
            sealed = await chain.seal(tx, settings.block_limit)
        SEALED.inc(sealed)
        return sealed if sealed == settings.block_limit else 0  # a full block: more waits

    return [
        Worker("ledger.balance_check", check, idle_seconds=60),
        Worker("ledger.seal", seal, idle_seconds=settings.block_seconds),
    ]


def reconciliation_workers(
    database: Database, relay: Relay, settings: LedgerSettings
) -> list[Worker]:
    """Return the workers of statements: import, match (nightly too), and the overdue clock."""
    rules, limits = matching.rules_of(settings), importing.limits_of(settings)

    async def take_in() -> int:
        return await importing.work_off(database, relay, limits)

    async def match() -> int:
        return await matching.work_off(database, relay, rules)

    async def watch() -> int:
        async with database.transaction() as tx:
            rows = await matching.waiting(tx)
        for gauge in (OPEN_EXCEPTIONS, OVERDUE):
            gauge.clear()  # what has none any more is not shown with its last figure
        for row in rows:
            OPEN_EXCEPTIONS.labels(row["kind"], row["mode"]).set(row["open"])
            OVERDUE.labels(row["kind"], row["mode"]).set(row["overdue"])
            if row["overdue"]:
                log.error(
                    "exceptions_overdue",
                    kind=row["kind"],
                    mode=row["mode"],
                    count=row["overdue"],
                )
        return 0

    return [
        Worker("ledger.statements", take_in, idle_seconds=1),
        Worker("ledger.matching", match, idle_seconds=1),
        Worker("ledger.exceptions", watch, idle_seconds=60),
    ]
