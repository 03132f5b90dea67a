"""Alembic, run by `python -m mospay_<service> migrate` as the owner of the database."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from mospay_shared.chassis.database import Database

LOCK = 7_226_001  # one migration at a time, whoever else starts


def _config(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    config.set_main_option("version_locations", str(folder))
    config.set_main_option("path_separator", "os")
    return config


def heads(folder: Path) -> str:
    """Return the newest revision in a migrations folder."""
    return ScriptDirectory.from_config(_config(folder)).get_current_head() or ""


def migrate(folder: Path, url: str) -> None:
    """Bring a database to the newest revision; safe to run at once from several places."""
    asyncio.run(_migrate(folder, url))


async def _migrate(folder: Path, url: str) -> None:
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=pool.NullPool
    )
    config = _config(folder)

    def upgrade(connection: Connection) -> None:
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({LOCK})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


async def at_head(database: Database, folder: Path) -> bool:
    """Say whether the database has every migration of this version (newer is fine as well)."""
    scripts = ScriptDirectory.from_config(_config(folder))
    known = {script.revision for script in scripts.walk_revisions()}
    async with database.transaction() as tx:
        current = await tx.value("select version_num from alembic_version")
    return current == heads(folder) or current not in known
