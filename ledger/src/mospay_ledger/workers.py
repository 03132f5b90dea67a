"""Time into the ledger: blocks, a look that the books are true, settlements of ended days."""

import datetime as dt

import structlog
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.workers import Worker
from prometheus_client import Counter, Gauge

from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import intents
from mospay_ledger.storage import settlements as schedules
from mospay_ledger.usecases import (
    chain,
    fee_invoices,
    importing,
    invoices,
    matching,
    posting,
    reminders,
    settling,
)
from mospay_ledger.usecases.paying import Till

log = structlog.get_logger()
UNBALANCED = Gauge(
    "mospay_ledger_unbalanced_entries", "Entries of the last five minutes off balance"
)
ADRIFT = Gauge("mospay_ledger_accounts_adrift", "Accounts that differ from their newest posting")
UNSEALED = Gauge("mospay_ledger_unsealed_entries", "Entries that wait for their block")
BEHIND = Gauge(
    "mospay_ledger_settlement_late_seconds", "How long ago the most overdue client was due"
)
FAILING = Gauge("mospay_ledger_settlements_failing", "Clients whose settlement fails")
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
        Worker("ledger.seal", seal, settings.block_seconds, database.due("unsealed_entries")),
    ]


def settlement_workers(database: Database, relay: Relay, settings: LedgerSettings) -> list[Worker]:
    """Return the workers of settlements; any number of processes may run them."""
    rules = settling.Rules(
        settings.settlement_lines, dt.timedelta(seconds=settings.settlement_delay_seconds)
    )

    async def settle() -> int:
        now = dt.datetime.now(dt.UTC)
        async with database.transaction() as tx:
            await schedules.enrol(tx, settings.settlement_run_clients)
            failing, late = await schedules.behind(tx, now)
        FAILING.set(failing)
        BEHIND.set(late)
        for done in range(settings.settlement_batches):
            try:
                async with database.transaction() as tx:  # a client a transaction
                    if await settling.settle_next(tx, relay, now, rules) is None:
                        return done
            except settling.NotSettled as error:
                async with database.transaction() as tx:
                    await settling.put_off(tx, error, now)
        return settings.settlement_batches

    async def release() -> int:
        async with database.transaction() as tx:
            return await settling.release_reserves(
                tx, relay, dt.datetime.now(dt.UTC), settings.settlement_batches
            )

    return [
        Worker("ledger.settlements", settle, idle_seconds=30),
        Worker("ledger.reserves", release, idle_seconds=60),
    ]


INTENTS = Gauge(
    "mospay_ledger_intents", "Payments of invoices under way", ["state", "payment_status"]
)
OLDEST_INTENT = Gauge("mospay_ledger_oldest_intent_seconds", "How long an invoice is locked by now")


def paying_workers(
    database: Database, relay: Relay, settings: LedgerSettings, till: Till
) -> list[Worker]:
    """Return the workers that go on with payments of invoices, and ask for mails about them."""

    async def gauge() -> int:
        async with database.transaction() as tx:
            rows = await intents.under_way(tx)
        INTENTS.clear()
        for row in rows:
            INTENTS.labels(row["state"], row["payment_status"]).set(row["intents"])
        OLDEST_INTENT.set(max((row["oldest_seconds"] for row in rows), default=0))
        return 0

    async def remind() -> int:
        async with database.transaction() as tx:
            return await reminders.publish(tx, relay, settings)

    return [
        Worker(
            "ledger.intents",
            till.sweep,
            settings.intent_poll_seconds,
            database.due("payment_intents where next_at <= now() and state in ('open', 'posted')"),
        ),
        Worker("ledger.intent_gauges", gauge, idle_seconds=10),
        Worker("ledger.reminders", remind, idle_seconds=settings.reminder_seconds),
    ]


def invoice_workers(database: Database, relay: Relay, settings: LedgerSettings) -> list[Worker]:
    """Return the workers of invoicing: what became overdue, whose month is over."""

    async def overdue() -> int:
        async with database.transaction() as tx:
            return await invoices.mark_overdue(tx, relay, limit=settings.invoice_batch)

    async def fees() -> int:
        closed = 0
        for mode in ("live", "test"):
            closed += await fee_invoices.close_months(
                database,
                relay,
                mode,
                limit=settings.invoice_batch,
                months_back=settings.fee_months,
            )
        return closed

    return [
        Worker("ledger.overdue", overdue, idle_seconds=settings.overdue_seconds),
        Worker("ledger.fee_invoices", fees, idle_seconds=settings.fee_seconds),
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
