"""The look at the books, once a minute, finds what is wrong."""

import datetime as dt
from typing import Any

from mospay_ledger import workers
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import reads
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner

from .billing_house import Shop
from .conftest import booked, send, succeeded, wire
from .test_storage import write


async def test_true_books_show_zero_and_a_drifted_balance_shows(ledger: Service) -> None:
    body = succeeded()
    await send(ledger, wire(body))
    await booked(ledger, body.payment_id)
    worker, _ = workers.workers(ledger.database, LedgerSettings())
    await worker.turn()
    assert (workers.UNBALANCED._value.get(), workers.ADRIFT._value.get()) == (0, 0)
    move = "update accounts set balance_minor = balance_minor + $2 where id = $1"
    account = f"client:{body.client_id}:RWF:test:pending"
    try:
        async with ledger.database.transaction() as tx:
            await tx.run(move, account, 5)
        await worker.turn()
        assert workers.ADRIFT._value.get() == 1
    finally:
        async with ledger.database.transaction() as tx:
            await tx.run(move, account, -5)
    await worker.turn()
    assert workers.ADRIFT._value.get() == 0


async def test_entry_written_with_the_constraint_switched_off_is_counted(superuser: Any) -> None:
    switched_off = superuser.transaction()
    await switched_off.start()
    await superuser.execute("set local session_replication_role = replica")
    await write(superuser, (100, "RWF", "test"), (-99, "RWF", "test"))
    await superuser.execute("set local session_replication_role = default")
    assert await reads.count_unbalanced(Tx(superuser)) == 1
    await switched_off.rollback()


async def test_overdue_invoices_are_found_by_their_worker(
    ledger: Service, portal: TokenSigner
) -> None:
    shop = Shop(ledger, portal)
    row = await shop.issued(at=dt.datetime.now(dt.UTC) - dt.timedelta(days=20))
    overdue, _ = workers.invoice_workers(ledger.database, ledger.relay, LedgerSettings())
    while await overdue.turn():
        pass
    assert (await shop.find(row["id"]))["status"] == "overdue"
