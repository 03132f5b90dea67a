"""Migrations over what versions before them wrote: 0002 over books, 0007 over exceptions."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.databases import database_url, make_database
from mospay_dev.services import SERVICES
from mospay_ledger.app import create_service
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import reads
from mospay_ledger.usecases import chain, posting
from mospay_shared.chassis import migrations
from mospay_shared.ids import new_id
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from .conftest import event, refund, succeeded

OLD = [
    """insert into accounts (id, kind, client_id, currency, mode, balance_minor, version) values
        ('provider:momo:RWF:test:clearing', 'clearing', null, 'RWF', 'test', 3000, 2),
        ('client:cli_old:RWF:test:pending', 'pending', 'cli_old', 'RWF', 'test', -2940, 2),
        ('operator:RWF:test:fees', 'fees', null, 'RWF', 'test', -60, 2)""",
    # the second entry's clock was behind the first one's
    """insert into journal_entries (id, kind, effect_key, payment_id, attempt_id, client_id, mode,
        currency, amount_minor, fee_minor, fee_plan_id, fee_plan_version, postings_count, late,
        accepted_at, occurred_at, posted_at)
    select 'ent_old' || n, 'capture', 'att_old' || n || ':capture', 'pay_old' || n,
        'att_old' || n, 'cli_old', 'test', 'RWF', 1500, 30, 'default_test', 1, 3, false, now(),
        now(), '2026-03-01Z'::timestamptz - n * interval '1 minute' from generate_series(1, 2) n""",
    """insert into postings (entry_id, account_id, client_id, currency, mode, amount_minor,
        balance_minor, account_version)
    select 'ent_old' || n, a, c, 'RWF', 'test', minor, minor * n, n from generate_series(1, 2) n,
        (values ('provider:momo:RWF:test:clearing', null, 1500),
            ('client:cli_old:RWF:test:pending', 'cli_old', -1470),
            ('operator:RWF:test:fees', null, -30)) as s(a, c, minor)""",
]


def _upgrade(folder: Path, url: str, revision: str) -> None:
    config = migrations._config(folder)

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async def upgrade() -> None:
        engine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=pool.NullPool
        )
        async with engine.begin() as connection:
            await connection.run_sync(run)
        await engine.dispose()

    asyncio.run(upgrade())


@pytest.fixture
async def old_books(
    infrastructure: Cluster, ledger_env: dict[str, str]
) -> AsyncIterator[dict[str, str]]:
    """An environment whose database is at 0001 with two captures in it."""
    name = new_id("old")
    await make_database(infrastructure.postgres_url, SERVICES["ledger"], infrastructure.keys, name)
    environment = {
        key: value.rpartition("/")[0] + f"/{name}" if key.endswith("DATABASE_URL") else value
        for key, value in ledger_env.items()
    }
    folder = SERVICES["ledger"].folder / "migrations/versions"
    owner = environment["LEDGER_MIGRATION_DATABASE_URL"]
    await asyncio.to_thread(_upgrade, folder, owner, "0001")
    worker = await asyncpg.connect(environment["LEDGER_WORKER_DATABASE_URL"])
    async with worker.transaction():
        for statement in OLD:
            await worker.execute(statement)
    await worker.close()
    await asyncio.to_thread(_upgrade, folder, owner, "0002")
    await asyncio.to_thread(_upgrade, folder, owner, "head")  # what the service of now needs
    yield environment
    server = await asyncpg.connect(infrastructure.postgres_url)
    await server.execute(f'drop database "{name}" with (force)')
    await server.close()


async def test_books_of_before_go_on_under_the_new_rules(
    old_books: dict[str, str], monkeypatch: pytest.MonkeyPatch, infrastructure: Cluster
) -> None:
    for key, value in old_books.items():
        monkeypatch.setitem(os.environ, key, value)
    service = create_service(LedgerSettings())
    await service.database.open()
    try:
        async with service.database.transaction() as tx:
            found = await tx.fetch(
                "select account_version as v, previous_minor as p, balance_minor as b, posted_at "
                "from postings where account_id = 'client:cli_old:RWF:test:pending' order by 1"
            )
            trial: list[Any] = await reads.trial_balance(tx, "test", 10, None)
            assert await reads.count_adrift(tx) == 0
        assert [(r["v"], r["p"], r["b"]) for r in found] == [(1, 0, -1470), (2, -1470, -2940)]
        assert found[0]["posted_at"] <= found[1]["posted_at"]
        assert trial[0]["balances_agree"]
        assert trial[0]["debit_minor"] == trial[0]["credit_minor"] == 3000
        again = succeeded(
            payment_id="pay_old1", attempt_id="att_old1", client_id="cli_old", microservice="momo"
        )
        news = [again, refund(again, 1500, "succeeded"), succeeded(client_id="cli_old")]
        async with service.database.transaction() as tx:
            booked = await posting.post_events(tx, service.relay, [event(b) for b in news])
        assert [entry.kind for entry in booked] == ["refund", "capture"]
        async with service.database.transaction() as tx:
            assert await chain.seal(tx, 100) == 4
            assert (await chain.verify(tx, 1, 10)).fault is None
            assert await reads.entry_count(tx, "test") == 4
    finally:
        await service.database.close()
    url = database_url(
        infrastructure.postgres_url, old_books["LEDGER_DATABASE_URL"].rpartition("/")[2]
    )
    owner = await asyncpg.connect(url)
    forced = await owner.fetch(
        "select relname from pg_class where relkind = 'r' and relname = any($1) "
        "and relrowsecurity and relforcerowsecurity",
        ["accounts", "journal_entries", "postings", "fee_plans", "void_effects", "blocks",
         "journal_seals", "unsealed_entries"],
    )  # fmt: skip
    await owner.close()
    assert len(forced) == 8


EXCEPTIONS = [
    """insert into expected_lines (entry_id, microservice, mode, currency, kind, amount_minor,
        client_id, payment_id, occurred_at, posted_at, state)
    values ('ent_1', 'momo', 'test', 'RWF', 'payment', 1500, 'cli_old', 'pay_1', now(), now(),
        'missing_there')""",
    """insert into reconciliation_exceptions (id, kind, microservice, mode, currency, stated_minor,
        expected_minor, delta_minor, entry_id, payment_id, import_id, line_no, occurred_at, state,
        due_at)
    values ('exc_1', 'missing_there', 'momo', 'test', 'RWF', 0, 1500, -1500, 'ent_1', 'pay_1',
            null, null, now(), 'open', now()),
        ('exc_2', 'missing_here', 'momo', 'test', 'RWF', 5, 0, 5, null, 'pay_1', 'imp_1', 1, now(),
            'open', now()),
        ('exc_3', 'missing_here', 'momo', 'live', 'RWF', 5, 0, 5, null, 'pay_1', 'imp_1', 2, now(),
            'open', now()),
        ('exc_4', 'missing_here', 'momo', 'test', 'RWF', 5, 0, 5, null, null, 'imp_1', 3, now(),
            'open', now())""",
]


async def test_exceptions_of_before_get_the_client_they_are_about(
    infrastructure: Cluster, ledger_env: dict[str, str]
) -> None:
    name = new_id("old")
    await make_database(infrastructure.postgres_url, SERVICES["ledger"], infrastructure.keys, name)
    urls = {
        role: ledger_env[f"LEDGER_{role}DATABASE_URL"].rpartition("/")[0] + f"/{name}"
        for role in ("MIGRATION_", "WORKER_", "")
    }
    folder = SERVICES["ledger"].folder / "migrations/versions"
    server = await asyncpg.connect(infrastructure.postgres_url)
    try:
        await asyncio.to_thread(_upgrade, folder, urls["MIGRATION_"], "0006")
        worker = await asyncpg.connect(urls["WORKER_"])
        for statement in EXCEPTIONS:
            await worker.execute(statement)
        await asyncio.to_thread(_upgrade, folder, urls["MIGRATION_"], "0007")
        rows = await worker.fetch("select id, client_id from reconciliation_exceptions")
        forced = await worker.fetchval(
            "select count(*) from pg_class where relname = any($1) and relforcerowsecurity",
            ["reconciliation_exceptions", "expected_lines"],
        )
        await worker.close()
        request = await asyncpg.connect(urls[""])
        async with request.transaction():
            await request.execute(
                "select set_config('mospay.client_id', 'cli_old', true), "
                "set_config('mospay.mode', 'test', true)"
            )
            seen = await request.fetch("select id from reconciliation_exceptions order by id")
        await request.close()
    finally:
        await server.execute(f'drop database if exists "{name}" with (force)')
        await server.close()
    assert dict(map(tuple, rows)) == {
        "exc_1": "cli_old", "exc_2": "cli_old", "exc_3": None, "exc_4": None,
    }  # fmt: skip
    assert forced == 2
    assert [row["id"] for row in seen] == ["exc_1", "exc_2"]
