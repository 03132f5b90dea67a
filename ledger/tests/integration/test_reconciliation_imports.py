"""Statements on their way in: files again and in parts, faults, crashes, cancels."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mospay_ledger.domain.reconciliation import NotAllowed, NotNow
from mospay_ledger.domain.statement_mappings import PRESETS
from mospay_ledger.storage import imports as stored
from mospay_ledger.usecases import importing
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from .reconciling_desk import (
    LIMITS,
    book,
    exceptions,
    http_of,
    line,
    pieces,
    rows,
    shown,
    states,
    take,
    token,
    told,
    unbalanced,
    upload,
    work,
)


@pytest.fixture
async def http(quiet: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP side of a ledger whose workers do not run."""
    async with http_of(quiet) as client:
        yield client


async def test_the_same_file_again_is_its_first_import(quiet: Service, provider: str) -> None:
    (body,) = await book(quiet, provider)
    first = await take(quiet, provider, [line(body)])
    assert await upload(quiet, provider, [line(body)]) == first["id"]
    await work(quiet)
    assert await states(quiet, provider) == {"matched": 1}


async def test_the_same_file_twice_at_once_is_imported_once(quiet: Service, provider: str) -> None:
    lines = [line(reference=f"r{n}", amount=n + 1) for n in range(20)]
    ids = await asyncio.gather(*(upload(quiet, provider, lines) for _ in range(4)))
    await work(quiet)
    assert len(set(ids)) == 1
    assert await states(quiet, provider) == {"missing_here": 20}


@given(seed=st.integers(0, 2**32), parts=st.integers(1, 4))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_lines_again_in_any_order_and_split_change_nothing(
    quiet: Service, seed: int, parts: int
) -> None:
    chance, provider = random.Random(seed), "sim-" + new_id("m")
    bodies = await book(quiet, provider, 6)
    lines = [line(body) for body in bodies[:4]]
    lines += [lines[0], line(reference="lost", amount=5), line(bodies[4], amount=7)]
    first = await take(quiet, provider, lines)

    async def all_of_it() -> list[Any]:
        told = [
            await rows(
                quiet, f"select * from {table} where microservice = $1 order by 1, 2", provider
            )
            for table in ("statement_lines", "expected_lines", "reconciliation_exceptions")
        ]
        return [*told, await unbalanced(quiet)]

    before = await all_of_it()
    chance.shuffle(lines)
    cuts = sorted(chance.sample(range(1, len(lines)), parts - 1))
    repeated = 0
    for start, stop in zip([0, *cuts], [*cuts, len(lines)], strict=True):
        # of another name and bytes: only the lines themselves say that they were here before
        part = [*lines[start:stop], f"{new_id('x')},,payment,1,RWF,0,nonsense"]
        done = await take(quiet, provider, part, review=True)
        assert done["state"] == "staged"
        async with quiet.database.transaction() as tx:
            await importing.decide(tx, done["id"], "accept", "usr_a")
        await work(quiet)
        repeated += (await shown(quiet, done["id"]))["lines_repeated"]
    assert repeated == len(lines) == first["lines_accepted"]
    assert await all_of_it() == before


async def test_faults_are_told_by_line_and_column_and_nothing_goes_in_until_a_person_decides(
    quiet: Service, provider: str
) -> None:
    bodies = await book(quiet, provider, 2)
    lines = [line(bodies[0]), line(bodies[1], amount="12x"), line(bodies[1], currency="EURO"),
             line(bodies[1])]  # fmt: skip
    done = await take(quiet, provider, lines)
    assert (done["state"], done["lines_good"], done["lines_bad"]) == ("staged", 2, 2)
    async with quiet.database.transaction() as tx:
        found = await stored.faults(tx, done["id"], (0, ""), 10)
        aside = await stored.lines(tx, done["id"], state="staged", after=0, limit=10)
    assert [(f["line_no"], f["column_name"]) for f in found] == [(3, "amount"), (4, "currency")]
    assert [row["line_no"] for row in aside] == [2, 5]
    assert await states(quiet, provider) == {}
    async with quiet.database.transaction() as tx:
        await importing.decide(tx, done["id"], "accept", "usr_b")
    await work(quiet)
    assert await states(quiet, provider) == {"matched": 2}
    with pytest.raises(NotNow):
        async with quiet.database.transaction() as tx:
            await importing.decide(tx, done["id"], "discard", "usr_b")


async def test_a_discarded_file_leaves_nothing_and_may_come_again(
    quiet: Service, provider: str
) -> None:
    lines = [line(reference="a", amount=3), line(reference="b", amount="x")]
    done = await take(quiet, provider, lines)
    async with quiet.database.transaction() as tx:
        await importing.decide(tx, done["id"], "discard", "usr_b")
    await work(quiet)
    for table in ("statement_chunks", "statement_staged", "statement_lines"):
        sql = f"select count(*) as n from {table} where import_id = $1"
        assert (await rows(quiet, sql, done["id"]))[0]["n"] == 0
    (ended,) = await told(quiet, "reconciliation.import_finished.v1", provider)
    assert (ended["state"], ended["lines_accepted"]) == ("discarded", 0)
    assert await upload(quiet, provider, lines) != done["id"]


async def test_a_file_of_another_kind_fails_whole_and_says_why(
    quiet: Service, provider: str
) -> None:
    import_id = await upload(quiet, provider, [])
    assert import_id
    data = b"a;b;c\n1;2;3\n"
    given = importing.Upload(
        provider, "test", "f", PRESETS["simulator"], None, "simulator", False, None, None, "usr_a"
    )
    failed, _ = await importing.upload(quiet.database, given, pieces(data), LIMITS)
    await work(quiet)
    row = await shown(quiet, failed)
    assert row["state"] == "failed"
    assert "provider_reference" in row["fault"]


async def test_a_worker_killed_at_any_chunk_or_batch_is_followed_by_one_that_ends_the_same(
    quiet: Service, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = await book(quiet, provider, 30)
    lines = [line(body) for body in bodies] + [line(reference="z", amount=8)] * 2
    import_id = await upload(quiet, provider, lines)
    quick = importing.Limits(256, 10**6, 50, 10, 0.0)  # a lease that is over at once

    class Killed(BaseException):
        """The process dies: nothing after it runs, and the open transaction is gone."""

    kills = 0
    for name in ("note_parsed", "stage", "count_occurrences", "drop_chunks", "accept"):
        real = getattr(stored, name)

        async def dies(*given: Any, _real: Any = real, **more: Any) -> Any:
            await _real(*given, **more)
            raise Killed

        async def nothing(*_: Any) -> None:
            """A dead process releases no lease."""

        with monkeypatch.context() as patched:
            patched.setattr(stored, name, dies)
            patched.setattr(stored, "release", nothing)
            with pytest.raises(Killed):
                await importing.work_off(quiet.database, quiet.relay, quick)
        kills += 1
        # one step further, so that the next kill is elsewhere
    await work(quiet)
    row = await shown(quiet, import_id)
    assert kills == 5
    assert (row["state"], row["lines_good"], row["lines_accepted"]) == ("finished", 32, 32)
    assert await states(quiet, provider) == {"matched": 30, "missing_here": 2}


async def test_a_cancel_while_a_file_is_parsed_stops_it_and_nothing_is_in(
    quiet: Service, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(reference=f"r{n}", amount=n + 1) for n in range(40)]
    import_id = await upload(quiet, provider, lines)
    real = stored.note_parsed
    steps = 0

    async def cancelled_meanwhile(tx: Any, *given: Any, **more: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            async with quiet.database.transaction() as other:
                await importing.decide(other, import_id, "cancel", "usr_b")
        return await real(tx, *given, **more)

    monkeypatch.setattr(stored, "note_parsed", cancelled_meanwhile)
    await work(quiet)
    row = await shown(quiet, import_id)
    assert (row["state"], row["lines_accepted"], steps) == ("cancelled", 0, 3)
    assert await rows(quiet, "select 1 from statement_staged where import_id = $1", import_id) == []


async def test_two_workers_at_once_take_each_line_once(quiet: Service, provider: str) -> None:
    bodies = await book(quiet, provider, 20)
    files = [[line(body) for body in bodies[:15]], [line(body) for body in bodies[5:]]]
    for file in files:
        await upload(quiet, provider, file)
    await asyncio.gather(*(work(quiet) for _ in range(3)))
    await work(quiet)
    assert await states(quiet, provider) == {"matched": 20}
    assert await exceptions(quiet, provider) == []
    assert len(await told(quiet, "reconciliation.import_finished.v1", provider)) == 2


async def test_an_upload_that_was_given_up_is_cancelled(quiet: Service, provider: str) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"x" * 300
        raise ConnectionResetError

    given = importing.Upload(
        provider, "test", "f", PRESETS["simulator"], None, "simulator", False, None, None, "usr_a"
    )
    with pytest.raises(ConnectionResetError):
        await importing.upload(quiet.database, given, cut(), LIMITS)
    async with quiet.database.transaction() as tx:
        await tx.run(
            "update statement_imports set lease_until = now() where microservice = $1", provider
        )
    await work(quiet)
    (row,) = await rows(
        quiet, "select state, cleaned from statement_imports where microservice = $1", provider
    )
    assert row == {"state": "cancelled", "cleaned": True}


async def test_an_empty_or_too_large_file_is_refused_and_leaves_nothing(
    quiet: Service, http: httpx.AsyncClient, portal: TokenSigner, provider: str
) -> None:
    query = {"microservice": provider, "mode": "test", "file_name": "f", "preset": "simulator"}
    empty = await http.post("/imports", params=query, content=b"", headers=token(portal))
    assert (empty.status_code, empty.json()["errors"][0]["field"]) == (422, "body")
    given = importing.Upload(
        provider, "test", "f", PRESETS["simulator"], None, "simulator", False, None, None, "usr_a"
    )
    with pytest.raises(NotAllowed, match="split"):
        await importing.upload(quiet.database, given, pieces(b"x" * (10**6 + 1)), LIMITS)
    await work(quiet)
    sql = """select 1 from statement_chunks c join statement_imports i on i.id = c.import_id
        where microservice = $1"""
    assert await rows(quiet, sql, provider) == []


async def test_statements_are_taken_in_by_the_running_service(
    ledger: Service, provider: str
) -> None:
    import_id = await upload(ledger, provider, [line(reference="x", amount=2)])
    async with asyncio.timeout(20):
        while (await shown(ledger, import_id))["state"] != "finished":
            await asyncio.sleep(0.05)
    assert [row["kind"] for row in await exceptions(ledger, provider)] == ["missing_here"]
