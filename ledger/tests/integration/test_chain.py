"""The hash chain: what was sealed is found changed, missing or added, and named."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.usecases import chain, posting
from mospay_ledger.workers import workers
from mospay_shared.chassis.service import Service

from .conftest import event, succeeded, until


async def seal_all(ledger: Service) -> None:
    """Seal whatever waits, unless the service's own worker did."""

    async def nothing_waits() -> bool:
        async with ledger.database.transaction() as tx:
            await chain.seal(tx, 5000)
            return not await tx.value("select count(*) from unsealed_entries")

    await until(nothing_waits)


async def posted(ledger: Service) -> str:
    """Book a payment, seal it, return its entry."""
    async with ledger.database.transaction() as tx:
        (entry,) = await posting.post_events(tx, ledger.relay, [event(succeeded())])
    await seal_all(ledger)
    return entry.id


async def verified(ledger: Service, first: int = 1, blocks: int = 100_000) -> chain.Verified:
    """Verify the chain."""
    async with ledger.database.transaction() as tx:
        return await chain.verify(tx, first, blocks)


@asynccontextmanager
async def tampered(superuser: Any, *statements: str) -> AsyncIterator[None]:
    """Change rows past every trigger and constraint; put them back by the inverse at the end."""
    change, back = statements
    for sql, last in ((change, False), (back, True)):
        async with superuser.transaction():
            await superuser.execute("set local session_replication_role = replica")
            assert await superuser.execute(sql) not in ("UPDATE 0", "DELETE 0"), sql
        if not last:
            yield


async def test_untouched_journal_is_whole(ledger: Service) -> None:
    await posted(ledger)
    found = await verified(ledger)
    assert found.fault is None
    assert found.next_block is None
    async with ledger.database.transaction() as tx:
        assert found.entries == await tx.value("select count(*) from journal_entries")


async def test_worker_seals_what_was_posted_a_block_a_turn(ledger: Service) -> None:
    async with ledger.database.transaction() as tx:
        made = await posting.post_events(tx, ledger.relay, [event(succeeded()) for _ in range(7)])

    _, sealer = workers(ledger.database, LedgerSettings())

    async def sealed() -> bool:
        await sealer.turn()
        async with ledger.database.transaction() as tx:
            count = await tx.value(
                "select count(*) from journal_seals where entry_id = any($1)", [e.id for e in made]
            )
        return bool(count == 7)

    await until(sealed)


@pytest.mark.parametrize(
    ("table", "key", "change"),
    [
        ("journal_entries", "id", "reason = 'x'|reason = null"),
        ("journal_entries", "id", "amount_minor = 1501|amount_minor = 1500"),
        ("journal_entries", "id", "late = true|late = false"),
        ("postings", "entry_id",
         "amount_minor = -amount_minor, balance_minor = -balance_minor, previous_minor = "
         "-previous_minor|amount_minor = -amount_minor, balance_minor = -balance_minor, "
         "previous_minor = -previous_minor"),
        ("journal_entries", "id",
         "posted_at = posted_at + interval '1 us'|posted_at = posted_at - interval '1 us'"),
    ],
)  # fmt: skip
async def test_one_changed_value_is_found_and_its_entry_named(
    ledger: Service, superuser: Any, table: str, key: str, change: str
) -> None:
    await posted(ledger)
    entry = await posted(ledger)
    await posted(ledger)
    there, back = (f"update {table} set {c} where {key} = '{entry}'" for c in change.split("|"))
    async with tampered(superuser, there, back):
        fault = (await verified(ledger)).fault
    assert fault is not None
    assert (fault.what, fault.entry_id) == ("entry_changed", entry)
    assert (await verified(ledger)).fault is None


async def test_one_flipped_byte_of_a_text_is_found_and_its_entry_named(
    ledger: Service, superuser: Any
) -> None:
    entry = await posted(ledger)
    text = "convert_to(service_id, 'UTF8')"
    flipped = f"convert_from(set_byte({text}, 0, get_byte({text}, 0) # 1), 'UTF8')"
    flip = f"update journal_entries set service_id = {flipped} where id = '{entry}'"
    async with tampered(superuser, flip, flip):
        fault = (await verified(ledger)).fault
    assert fault is not None
    assert (fault.what, fault.entry_id) == ("entry_changed", entry)


async def test_entry_that_is_gone_is_named(ledger: Service, superuser: Any) -> None:
    entry = await posted(ledger)
    away = f"update journal_entries set id = 'gone' where id = '{entry}'"
    back = f"update journal_entries set id = '{entry}' where id = 'gone'"
    async with tampered(superuser, away, back):
        fault = (await verified(ledger)).fault
    assert fault is not None
    assert (fault.what, fault.entry_id) == ("entry_missing", entry)


async def test_entry_that_came_past_the_triggers_is_named(ledger: Service, superuser: Any) -> None:
    entry = await posted(ledger)
    add = (
        "insert into journal_entries select (jsonb_populate_record(e, "
        """'{"id": "ent_forged", "effect_key": "forged", "payment_id": "pay_forged"}')).* """
        f"from journal_entries e where id = '{entry}'"
    )
    async with tampered(superuser, add, "delete from journal_entries where id = 'ent_forged'"):
        fault = (await verified(ledger)).fault
    assert fault is not None
    assert (fault.what, fault.entry_id) == ("entry_not_sealed", "ent_forged")


async def test_rewritten_seal_breaks_its_block(ledger: Service, superuser: Any) -> None:
    """Whoever changes a row and its digest still has the block against them."""
    entry = await posted(ledger)
    there = (
        f"update journal_entries set reason = 'x' where id = '{entry}'",
        f"update journal_entries set reason = null where id = '{entry}'",
    )
    digest = (
        "update journal_seals s set digest = entry_digest_v1(e) from journal_entries e "
        f"where e.id = s.entry_id and e.id = '{entry}'"
    )
    async with tampered(superuser, *there):
        async with superuser.transaction():
            await superuser.execute("set local session_replication_role = replica")
            await superuser.execute(digest)
        fault = (await verified(ledger)).fault
    async with superuser.transaction():
        await superuser.execute("set local session_replication_role = replica")
        await superuser.execute(digest)
    assert fault is not None
    assert fault.what == "seals_changed"
    assert (await verified(ledger)).fault is None


async def test_block_taken_out_breaks_the_chain(ledger: Service, superuser: Any) -> None:
    for _ in range(3):
        await posted(ledger)
    async with ledger.database.transaction() as tx:
        last = await tx.value("select max(id) from blocks")
    away = f"update blocks set id = -id where id = {last - 1}"
    back = f"update blocks set id = -id where id = {1 - last}"
    async with tampered(superuser, away, back):
        fault = (await verified(ledger)).fault
    assert fault is not None
    assert (fault.what, fault.block_id) == ("chain_broken", last - 1)


async def test_verification_goes_on_where_it_stopped(ledger: Service) -> None:
    for _ in range(3):
        await posted(ledger)
    first, entries = 1, 0
    while first is not None:
        found = await verified(ledger, first, 2)
        assert found.fault is None
        assert found.last_block - found.first_block <= 1
        entries += found.entries
        first = found.next_block  # type: ignore[assignment]
    assert entries == (await verified(ledger)).entries


async def test_only_one_sealer_seals_at_a_time(ledger: Service) -> None:
    await posted(ledger)
    async with ledger.database.transaction() as one, ledger.database.transaction() as two:
        await chain.seal(one, 10)
        assert await chain.seal(two, 10) == 0


async def test_verify_command_tells_whole_and_broken(
    ledger: Service, ledger_env: dict[str, str], superuser: Any
) -> None:
    entry = await posted(ledger)

    def verify(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "mospay_ledger", "verify", *arguments],
            env=os.environ | ledger_env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    whole = verify()
    assert (whole.returncode, whole.stdout.split(":")[0]) == (0, "whole")
    there = f"update journal_entries set reason = 'x' where id = '{entry}'"
    back = f"update journal_entries set reason = null where id = '{entry}'"
    async with tampered(superuser, there, back):
        broken = verify()
    assert broken.returncode == 1
    assert entry in broken.stdout
    assert verify("all").returncode == 2
