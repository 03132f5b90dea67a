"""PostgreSQL: one pool a role, one transaction a use case, statements on the driver (ADR 0003).

Two ways in: `transaction()` runs as the worker role, which crosses tenants; `request(...)` runs as
the request role, for which row-level security shows only the rows of the tenant set here.
"""

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

from mospay_shared.chassis.settings import ServiceSettings

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
    from sqlalchemy.sql import ClauseElement

Question = Callable[[], Awaitable[bool]]  # whether a worker has anything to do
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 20.0

# What says "the database is away", not "this statement is wrong".
DATABASE_DOWN = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a cut in the middle of a protocol exchange raises
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    OSError,
    TimeoutError,
)
# Another transaction kept a row for longer than `lock_timeout`.
LOCK_TAKEN = asyncpg.LockNotAvailableError
# What a second try of the same transaction may cure.
TRY_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, LOCK_TAKEN)


@functools.cache
def _dialect() -> "PGDialect_asyncpg":
    """Return SQLAlchemy's dialect; imported by the services that compose statements alone."""
    from sqlalchemy.dialects import postgresql

    made: PGDialect_asyncpg = postgresql.asyncpg.dialect()  # type: ignore[no-untyped-call]
    return made


class Tx:
    """An open transaction: statements, and what is to happen once it has committed."""

    __slots__ = ("_after", "connection", "put_off")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._after: list[Callable[[], None]] = []
        # By event id, why a handler leaves an event for later; the inbox tries it again.
        self.put_off: dict[str, str] = {}

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run a statement and return its rows."""
        rows: list[asyncpg.Record] = await self.connection.fetch(sql, *args)
        return rows

    async def row(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run a statement and return its first row, or None."""
        found: asyncpg.Record | None = await self.connection.fetchrow(sql, *args)
        return found

    async def value(self, sql: str, *args: Any) -> Any:
        """Run a statement and return the first column of its first row, or None."""
        return await self.connection.fetchval(sql, *args)

    async def run(self, sql: str, *args: Any) -> str:
        """Run a statement for its effect and return its command tag."""
        tag: str = await self.connection.execute(sql, *args)
        return tag

    async def select(self, statement: "ClauseElement") -> list[asyncpg.Record]:
        """Run a SQLAlchemy Core statement (for queries whose shape depends on the request)."""
        compiled = statement.compile(dialect=_dialect())
        params = compiled.construct_params() or {}
        names = getattr(compiled, "positiontup", None) or []
        return await self.fetch(str(compiled), *[params[name] for name in names])

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call this once the transaction has committed; never if it rolls back."""
        self._after.append(callback)

    def committed(self) -> None:
        """Run what waited for the commit (the database module calls it)."""
        for callback in self._after:
            callback()


async def _prepare(connection: Any) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name,
            schema="pg_catalog",
            encoder=lambda value: orjson.dumps(value).decode(),
            decoder=orjson.loads,
        )


async def _no_reset(_: Any) -> None:
    """Nothing to reset: all work is in transactions and settings are SET LOCAL (kernel: 180 µs)."""


async def open_pool(url: str, name: str, size: int, *, reset: bool = False, **settings: str) -> Any:
    """Open a pool of at most `size` connections; a database that is away is no error yet."""
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=300,
        timeout=CONNECT_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        init=_prepare,
        reset=None if reset else _no_reset,
        server_settings={
            "application_name": name,
            "jit": "off",
            "timezone": "UTC",
            "idle_in_transaction_session_timeout": "60s",
            "lock_timeout": "10s",
            **settings,
        },
    )


class Database:
    """The two pools of a service."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        self._service, self._settings = service, settings
        self._workers: Any = None
        self._requests: Any = None
        self._by_index: Any = None

    async def open(self) -> None:
        """Open both pools."""
        settings = self._settings
        self._workers = await open_pool(
            settings.worker_database_url.get_secret_value(), self._service, settings.pool_size
        )
        self._requests = await open_pool(
            settings.database_url.get_secret_value(),
            f"{self._service}-http",
            settings.request_pool_size,
        )
        # A plan made while a table was empty reads it from end to end, and is kept until the table
        # is analyzed: a minute, of which every batch costs more than the one before.
        self._by_index = await open_pool(
            settings.worker_database_url.get_secret_value(),
            f"{self._service}-index",
            2,
            enable_seqscan="off",
        )

    async def close(self) -> None:
        """Close both pools, waiting a little for what still runs."""
        for pool in (self._workers, self._requests, self._by_index):
            if pool is not None:
                try:
                    await asyncio.wait_for(pool.close(), 5)
                except (TimeoutError, *DATABASE_DOWN):
                    pool.terminate()

    def due(self, rows: str) -> Question:
        """Return a question whether there are `rows` (what follows `from`), for a Worker."""
        return self.dues({"it": rows}, 0)["it"]

    def dues(self, rows: Mapping[str, str], seconds: float) -> dict[str, Question]:
        """Return questions that are asked together, at most once in so many seconds.

        One round trip as the worker role; a transaction takes three, and idle workers ask often.
        """
        parts = [f"exists(select from {part})" for part in rows.values()]
        sql = "select " + ", ".join(parts)  # never from outside
        known: dict[str, bool] = {}
        asked_at, one_at_once = -math.inf, asyncio.Lock()

        async def ask(name: str) -> bool:
            nonlocal asked_at
            async with one_at_once:
                if time.monotonic() - asked_at >= seconds:
                    (row,) = await self.fetch(sql)
                    known.update(zip(rows, row, strict=True))
                    asked_at = time.monotonic()
            return known[name]

        return {name: functools.partial(ask, name) for name in rows}

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement as the worker role, a transaction by itself, and return its rows."""
        async with self._workers.acquire() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *args)
        return rows

    async def fetch_by_index(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """As `fetch`, for a hot statement whose tables are never to be read from end to end."""
        async with self._by_index.acquire() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *args)
        return rows

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """A transaction as the worker role, across tenants: commits at the end, or rolls back."""
        async with self._workers.acquire() as connection:
            tx = Tx(connection)
            async with connection.transaction():
                yield tx
        tx.committed()

    @asynccontextmanager
    async def request(
        self, *, client_id: str = "", mode: str = "", customer_id: str = "", operator: bool = False
    ) -> AsyncIterator[Tx]:
        """A transaction as the request role, seeing the rows of one tenant alone.

        Policies read `mospay.client_id`, `mospay.mode`, `mospay.customer_id` (empty sees nothing)
        and `mospay.operator` (`on` for a verified operator). All are local to the transaction.
        """
        async with self._requests.acquire() as connection:
            tx = Tx(connection)
            async with connection.transaction():
                await connection.execute(
                    "select set_config('mospay.client_id',$1,true),"
                    "set_config('mospay.mode',$2,true),set_config('mospay.customer_id',$3,true),"
                    "set_config('mospay.operator',$4,true)",
                    client_id,
                    mode,
                    customer_id,
                    "on" if operator else "off",
                )
                yield tx
        tx.committed()

    async def alive(self) -> bool:
        """Say whether the database answers within two seconds."""
        try:
            async with asyncio.timeout(2), self._workers.acquire() as connection:
                await connection.fetchval("select 1")
        except (*DATABASE_DOWN, asyncpg.PostgresError):
            return False
        return True
