"""What is kept in memory of a table: every change, however late it commits, and each once."""

from typing import Any

import asyncpg
from mospay_shared.chassis.broker import Broker
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.outbox import Relay

from .conftest import Stage

INSERT = """
insert into directory_entity (kind, entity_id, version, deleted, body, changed_at)
values ('company', $1, $2, false, $3::jsonb, now() - interval '1 hour')"""
CHANGE = """
update directory_entity set version = version + 1, changed_at = now() - interval '1 hour'
where entity_id = $1"""


class Counting(Database):
    """A database that counts the rows of the directory it hands out."""

    handed = 0

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Fetch as ever, and count."""
        rows = await super().fetch(sql, *args)
        self.handed += len(rows) if "from directory_entity" in sql else 0
        return rows


async def _replica(stage: Stage, database: Database) -> DirectoryReplica:
    await database.open()
    relay = Relay("chassis", database, Broker("unused", "chassis"))
    replica = DirectoryReplica("chassis", ["company"], database, relay)
    await replica.refresh()
    return replica


async def test_a_change_is_seen_whose_transaction_commits_long_after_it_took_its_time(
    stage: Stage,
) -> None:
    database = Database("chassis", stage.settings)
    replica = await _replica(stage, database)
    slow, quick = await asyncpg.connect(stage.owner_url), await asyncpg.connect(stage.owner_url)
    try:
        held = slow.transaction()
        await held.start()
        await slow.execute(INSERT, "com_late", 1, '{"name": "late"}')
        for name in ("com_quick", "com_quicker"):
            await quick.execute(INSERT, name, 1, "{}")
            await replica.refresh()
            assert replica.get("company", name) == {}
        assert replica.get("company", "com_late") is None
        await held.commit()
        await replica.refresh()
        assert replica.get("company", "com_late") == {"name": "late"}
    finally:
        await slow.close()
        await quick.close()
        await database.close()


async def test_what_was_read_is_not_read_again_and_every_kind_of_change_is(stage: Stage) -> None:
    database = Counting("chassis", stage.settings)
    replica = await _replica(stage, database)
    owner = await asyncpg.connect(stage.owner_url)
    try:
        await owner.executemany(INSERT, [(f"com_many{n}", 1, "{}") for n in range(500)])
        await replica.refresh()
        await replica.refresh()
        assert replica.get("company", "com_many499") == {}
        database.handed = 0
        for _ in range(3):
            await replica.refresh()
        assert database.handed == 0
        await owner.execute(CHANGE, "com_many7")  # the number comes from the database alone
        await replica.refresh()
        assert (database.handed, replica.version) == (1, 2)
    finally:
        await owner.close()
        await database.close()


async def test_a_restored_number_that_its_cluster_has_not_reached_is_read_the_first_time_alone(
    stage: Stage,
) -> None:
    owner = await asyncpg.connect(stage.owner_url)
    database = Counting("chassis", stage.settings)
    try:
        await owner.execute(INSERT, "com_restored", 1, "{}")
        await owner.execute("alter table directory_entity disable trigger user")
        await owner.execute(
            "update directory_entity set changed_in = '9000000000' where entity_id = 'com_restored'"
        )
        await owner.execute("alter table directory_entity enable trigger user")
        replica = await _replica(stage, database)
        assert replica.get("company", "com_restored") == {}
        await replica.refresh()
        database.handed = 0
        await replica.refresh()
        assert database.handed == 0
        await owner.execute(CHANGE, "com_restored")
        await replica.refresh()
        assert replica.version >= 2
    finally:
        await owner.execute("delete from directory_entity")
        await owner.close()
        await database.close()
