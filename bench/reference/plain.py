"""The plain ledger that ours is held against, the limits of the machine, what both are run by."""

import asyncio
import datetime as dt
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mospay_shared.ids import new_id

CONNECTIONS = 16  # of the reference's singles and of the raw commits
BATCH = 200  # postings a batch, for both
BATCH_CONNECTIONS = 2
SQL = Path(__file__).parent / "ledger.sql"
Step = Callable[[], Awaitable[int]]


async def pump(step: Step, workers: int, seconds: float) -> float:
    """Run `step` in some tasks for some seconds; return postings a second."""
    done, started = 0, time.perf_counter()

    async def loop() -> None:
        nonlocal done
        while time.perf_counter() - started < seconds:
            made = await step()  # on a line of its own: `done += await …` would read `done` first
            done += made

    await asyncio.gather(*(loop() for _ in range(workers)))
    return done / (time.perf_counter() - started)


def pairs(count: int) -> list[tuple[int, int]]:
    """Return random pairs of two different accounts."""
    return [tuple(random.sample(range(count), 2)) for _ in range(10_000)]  # type: ignore[misc]


# As wide as what we write, and nothing else: what is left is storing rows and the commit.
_BARE = (
    """create table bare_entries (id text, kind text, effect_key text, client_id text, mode text,
        currency char(3), amount_minor bigint, fee_minor bigint, fee_returned_minor bigint,
        fee_base_minor bigint, postings_count smallint, late bool, resolved bool,
        occurred_at timestamptz, posted_at timestamptz)""",
    """create table bare_postings (entry_id text, line smallint, account_id text, client_id text,
        currency char(3), mode text, amount_minor bigint, previous_minor bigint,
        balance_minor bigint, account_version bigint, posted_at timestamptz, closing bool)""",
)
_BARE_ROWS = """
with entries as (
    insert into bare_entries select id, 'settlement', id || ':bench', 'cli_bench', 'live', 'RWF',
        100, 0, 0, 0, 2, false, false, $3, $3 from unnest($1::text[]) as u(id))
insert into bare_postings select ($1::text[])[1 + (n - 1) / 2], 1 + n % 2, account, null, 'RWF',
    'live', 100, 0, 100, n, $3, true from unnest($2::text[]) with ordinality as u(account, n)"""


async def make_tables(pool: Any) -> None:
    """Make the tables and functions of the reference and of the limits."""
    for statement in SQL.read_text().split("\n--\n"):
        await pool.execute(statement)
    for statement in ("create table one_row (text text)", *_BARE):
        await pool.execute(statement)


class Theirs:
    """The reference: one call a transfer, or one call for a batch of them."""

    def __init__(self, pool: Any, count: int) -> None:
        self._pool, self._names = pool, [f"account-{count}-{n}" for n in range(count)]
        self._pairs = itertools.cycle(pairs(count))

    async def open(self) -> None:
        """Open the accounts."""
        await self._pool.execute(
            "insert into ref_accounts (id, currency) select u, 'RWF' from unnest($1::text[]) u "
            "on conflict do nothing",
            self._names,
        )

    def _next(self) -> tuple[str, str, str, int, str]:
        source, target = next(self._pairs)
        key = new_id("trf")
        return key, self._names[source], self._names[target], 100, key + ":bench"

    async def singles(self, seconds: float) -> float:
        """Transfer one at a time on each connection."""

        async def single() -> int:
            async with self._pool.acquire() as connection:
                await connection.fetchval("select ref_transfer($1,$2,$3,$4,$5)", *self._next())
            return 1

        return await pump(single, CONNECTIONS, seconds)

    async def batches(self, seconds: float) -> float:
        """Transfer batches."""

        async def batch() -> int:
            columns = [
                list(column) for column in zip(*(self._next() for _ in range(BATCH)), strict=True)
            ]
            async with self._pool.acquire() as connection:
                await connection.fetchval("select ref_transfers_of($1,$2,$3,$4,$5)", *columns)
            return BATCH

        return await pump(batch, BATCH_CONNECTIONS, seconds)

    async def rows(self, seconds: float) -> float:
        """The floor of batches: the rows of ours in tables without index, key, check or trigger."""
        names, now = itertools.cycle(self._names), dt.datetime.now(dt.UTC)
        ids = [new_id("ent") for _ in range(BATCH)]
        accounts = [f"provider:{next(names)}:RWF:live:clearing" for _ in range(2 * BATCH)]

        async def batch() -> int:
            async with self._pool.acquire() as connection:
                await connection.execute(_BARE_ROWS, ids, accounts, now)
            return BATCH

        return await pump(batch, BATCH_CONNECTIONS, seconds)

    async def commits(self, seconds: float) -> float:
        """The limit: commits of one row."""

        async def commit() -> int:
            async with self._pool.acquire() as connection:
                await connection.execute("insert into one_row values ($1)", "x" * 60)
            return 1

        return await pump(commit, CONNECTIONS, seconds)
