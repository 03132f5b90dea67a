"""Alembic, run by `python -m mospay_<service> migrate` as the owner of the database.

A service that serves needs to know no more than which revisions there are, and those are the names
of its files: Alembic is imported by who migrates (it is a tenth of a service's start).
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from mospay_shared.chassis.database import Database

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

LOCK = 7_226_001  # one migration at a time, whoever else starts


def revisions(folder: Path) -> list[str]:
    """Return the revisions of a migrations folder, oldest first: `0001_books.py` is `0001`."""
    return sorted(path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py"))


def _config(folder: Path) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    config.set_main_option("version_locations", str(folder))
    config.set_main_option("path_separator", "os")
    return config


def migrate(folder: Path, url: str) -> None:
    """Bring a database to the newest revision; safe to run at once from several places.

    Raises ValueError where a file is not called by its revision: services go by the names.
    """
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_config(folder)).get_current_head() or ""
    if [head] != revisions(folder)[-1:]:
        raise ValueError(f"{folder}: the newest revision is {head!r}, the last file another")
    asyncio.run(_migrate(folder, url))


async def _migrate(folder: Path, url: str) -> None:
    from alembic import command
    from sqlalchemy import pool
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=pool.NullPool
    )
    config = _config(folder)

    def upgrade(connection: "Connection") -> None:
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({LOCK})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


async def at_head(database: Database, folder: Path) -> bool:
    """Say whether the database has every migration of this version (newer is fine as well)."""
    known = revisions(folder)
    async with database.transaction() as tx:
        current = await tx.value("select version_num from alembic_version")
    return [current] == known[-1:] or current not in known
