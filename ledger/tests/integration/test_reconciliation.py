"""Statements against the books: each exception, re-imports, crashes, cancels, resolutions."""

import asyncio
import datetime as dt
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mospay_ledger import workers
from mospay_ledger.domain.reconciliation import NotAllowed, NotNow, SecondPersonNeeded
from mospay_ledger.domain.statement_mappings import PRESETS
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import exceptions as stored_exceptions
from mospay_ledger.storage import imports as stored
from mospay_ledger.storage import matching as store
from mospay_ledger.usecases import importing, matching, posting, resolving
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentEventV1
from mospay_shared.ids import new_id

from .conftest import event, refund, succeeded

Row = dict[str, Any]
# Within the grace of what a statement may lack, by the clock itself.
T0 = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=3)
LIMITS = importing.Limits(
    chunk_bytes=256, file_bytes=10**6, faults=50, batch_lines=10, lease_seconds=5
)
RULES = matching.Rules(
    batch_lines=10,
    lease_seconds=5,
    window=dt.timedelta(hours=1),
    grace=dt.timedelta(hours=24),
    nightly_hour=24,  # by hand alone
)
HEADER = "provider_reference,reference,kind,amount,currency,fee,occurred_at"


@pytest.fixture
async def quiet(new_ledger: Callable[[], Service]) -> AsyncIterator[Service]:
    """A ledger whose pools are open; nothing runs but what a test runs."""
    service = new_ledger()
    await service.database.open()
    yield service
    await service.database.close()


@pytest.fixture
def provider() -> str:
    """A microservice of this test's own."""
    return "sim-" + new_id("m")


def line(body: PaymentEventV1 | None = None, **changes: Any) -> str:
    """A line of the simulator's export, of a payment unless `changes` say otherwise."""
    values: Row = {
        "reference": body.provider_reference if body else "",
        "ours": "",
        "kind": "payment",
        "amount": body.amount_minor if body else 1,
        "currency": body.currency if body else "RWF",
        "fee": 0,
        "at": (body.occurred_at if body else T0).isoformat(),
    } | changes
    return ",".join(str(values[k]) for k in ("reference", "ours", "kind", "amount", "currency",
                                             "fee", "at"))  # fmt: skip


async def book(ledger: Service, provider: str, count: int = 1, **changes: Any) -> list[Any]:
    """Book payments of a provider, a minute apart, each with a reference of its own."""
    bodies = []
    for n in range(count):
        at = T0 + dt.timedelta(minutes=n)
        values: Row = {
            "microservice": provider,
            "provider_reference": new_id("sim"),
            "accepted_at": at,
            "occurred_at": at,
        }
        bodies.append(succeeded(**(values | changes)))
    async with ledger.database.transaction() as tx:
        await posting.post_events(tx, ledger.relay, [event(body) for body in bodies])
    return bodies


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """A file as a network gives it."""
    for at in range(0, len(data), 100):
        yield data[at : at + 100]


async def upload(ledger: Service, provider: str, lines: Sequence[str], **changes: Any) -> str:
    """Upload a file and return its import."""
    values: Row = {
        "microservice": provider, "mode": "test", "file_name": "f.csv",
        "mapping": PRESETS["simulator"], "mapping_version": None, "preset": "simulator",
        "review": False, "covers_from": None, "covers_until": None, "by": "usr_a",
    } | changes  # fmt: skip
    data = "\n".join([HEADER, *lines, ""]).encode()
    given = importing.Upload(**values)
    import_id, _ = await importing.upload(ledger.database, given, pieces(data), LIMITS)
    return import_id


async def work(ledger: Service) -> None:
    """Let the workers do all there is."""
    while await importing.work_off(ledger.database, ledger.relay, LIMITS):
        pass
    while await matching.work_off(ledger.database, ledger.relay, RULES):
        pass


async def run(ledger: Service, provider: str, as_of: dt.datetime | None = None) -> None:
    """Match again by hand."""
    async with ledger.database.transaction() as tx:
        await matching.ask(tx, provider, "test", as_of)
    await work(ledger)


async def take(ledger: Service, provider: str, lines: Sequence[str], **changes: Any) -> Row:
    """Import a file to its end and return the import."""
    import_id = await upload(ledger, provider, lines, **changes)
    await work(ledger)
    return await shown(ledger, import_id)


async def shown(ledger: Service, import_id: str) -> Row:
    """An import as people see it."""
    async with ledger.database.transaction() as tx:
        row = await stored.shown(tx, import_id)
    assert row is not None
    return dict(row)


async def rows(ledger: Service, sql: str, *values: Any) -> list[Row]:
    """Rows of a statement, across tenants."""
    async with ledger.database.transaction() as tx:
        return [dict(row) for row in await tx.fetch(sql, *values)]


async def exceptions(ledger: Service, provider: str) -> list[Row]:
    """A provider's exceptions, oldest first."""
    sql = "select * from reconciliation_exceptions where microservice = $1 order by id"
    return await rows(ledger, sql, provider)


async def states(ledger: Service, provider: str) -> Counter[str]:
    """How many lines are in each state."""
    sql = "select state, count(*) as n from statement_lines where microservice = $1 group by 1"
    return Counter({row["state"]: row["n"] for row in await rows(ledger, sql, provider)})


async def balance(ledger: Service, account: str) -> int:
    """What an account holds."""
    found = await rows(ledger, "select balance_minor from accounts where id = $1", account)
    return int(found[0]["balance_minor"]) if found else 0


async def told(ledger: Service, wire_type: str, provider: str) -> list[Row]:
    """The events of a type about a provider, in the outbox."""
    found = await rows(ledger, "select body from outbox where type = $1 order by id", wire_type)
    bodies = [orjson.loads(row["body"])["data"] for row in found]
    return [body for body in bodies if body["microservice"] == provider]


async def unbalanced(ledger: Service) -> list[Row]:
    """Currencies whose accounts do not sum to zero."""
    return await rows(
        ledger,
        "select currency, mode, sum(balance_minor) from accounts group by 1, 2 "
        "having sum(balance_minor) <> 0",
    )


async def test_lines_match_by_reference_by_our_id_and_by_amount_and_time(
    quiet: Service, provider: str
) -> None:
    one, two, three, four = await book(quiet, provider, 4)
    near = (four.occurred_at + dt.timedelta(minutes=30)).isoformat()
    lonely = await book(quiet, provider, amount_minor=777, provider_reference=None)
    done = await take(
        quiet,
        provider,
        [
            line(one),
            line(two, reference="", ours=two.attempt_id),
            line(three, reference="", ours=three.payment_id),
            line(four, at=near),
            line(lonely[0], reference="new-ref", at=near.replace("+00:00", "Z")),
        ],
    )
    assert (done["state"], done["lines_accepted"], done["fault"]) == ("finished", 5, None)
    found = await rows(
        quiet,
        "select line_no, matched_by from statement_lines where import_id = $1 order by 1",
        done["id"],
    )
    assert [row["matched_by"] for row in found] == ["reference"] * 4 + ["amount"]
    assert await exceptions(quiet, provider) == []
    (finished,) = await told(quiet, "reconciliation.import_finished.v1", provider)
    assert (finished["state"], finished["lines_matched"]) == ("finished", 5)


async def test_refunds_and_second_captures_have_lines_of_their_own(
    quiet: Service, provider: str
) -> None:
    (body,) = await book(quiet, provider)
    back = refund(body, 500, "succeeded", provider_reference="back-1")
    again = body.model_copy(update={"attempt_id": new_id("att"), "version": 4})
    async with quiet.database.transaction() as tx:
        await posting.post_events(tx, quiet.relay, [event(back), event(again)])
    # Both captures carry one reference of ours: each line takes one of them.
    both = line(body, reference="", ours=body.payment_id)
    await take(
        quiet, provider, [both, both, line(body, reference="back-1", kind="refund", amount=-500)]
    )
    assert await states(quiet, provider) == {"matched": 3}


async def test_each_kind_of_exception_is_found(quiet: Service, provider: str) -> None:
    fine, less, other, gone = await book(quiet, provider, 4)
    (late,) = await book(quiet, provider, occurred_at=T0 + dt.timedelta(minutes=2))
    lines = [
        line(fine),
        line(fine, at=(T0 + dt.timedelta(minutes=3)).isoformat()),  # told twice
        line(less, amount=less.amount_minor - 100),
        line(other, currency="USD", amount="15.00"),
        line(reference="unknown", amount=9999, fee=25, at=(T0 + dt.timedelta(hours=5)).isoformat()),
        line(kind="fee", reference="f1", amount=-40),
        line(kind="payout", reference="p1", amount=-1000),
        line(late),
    ]
    done = await take(quiet, provider, lines)
    await run(quiet, provider, T0 + dt.timedelta(days=3))
    found = {row["kind"]: row for row in await exceptions(quiet, provider)}
    assert set(found) == {
        "duplicate", "amount_differs", "currency_differs", "missing_here", "missing_there",
        "provider_fee",
    }  # fmt: skip
    assert found["missing_there"]["payment_id"] == gone.payment_id
    assert {kind: row["delta_minor"] for kind, row in found.items()} == {
        "duplicate": 1500,
        "amount_differs": -100,
        "currency_differs": 1500,
        "missing_here": 9999,
        "missing_there": -1500,
        "provider_fee": -65,
    }
    assert await states(quiet, provider) == {
        "matched": 2, "duplicate": 1, "amount_differs": 1, "currency_differs": 1,
        "missing_here": 1, "noted": 2,
    }  # fmt: skip
    opened = await told(quiet, "reconciliation.exception_opened.v1", provider)
    assert Counter({b["kind"]: b["count"] for b in opened}) == dict.fromkeys(found, 1)
    assert done["lines_accepted"] == len(lines)


async def test_nothing_is_missing_there_before_its_grace_or_outside_what_is_covered(
    quiet: Service, provider: str
) -> None:
    inside, _, after = await book(quiet, provider, 3)
    usd = await book(quiet, provider, currency="USD")
    until = after.occurred_at - dt.timedelta(seconds=1)
    lines = [line(inside)]
    await take(quiet, provider, lines, covers_from=T0, covers_until=until)
    await run(quiet, provider, T0 + dt.timedelta(hours=23))
    assert await exceptions(quiet, provider) == []
    await run(quiet, provider, T0 + dt.timedelta(days=9))
    found = await exceptions(quiet, provider)
    assert [row["kind"] for row in found] == ["missing_there"]
    assert usd[0].payment_id not in {row["payment_id"] for row in found}


async def test_two_that_fit_are_never_guessed(quiet: Service, provider: str) -> None:
    await book(quiet, provider, 2, amount_minor=4242, provider_reference=None)
    await book(quiet, provider, 1, amount_minor=999, provider_reference="ours-1")
    await take(quiet, provider, [
        line(reference="x1", amount=4242), line(reference="other", amount=999),
    ])  # fmt: skip
    assert await states(quiet, provider) == {"missing_here": 2}


async def test_a_reversed_capture_is_waited_for_no_more(quiet: Service, provider: str) -> None:
    one, two = await book(quiet, provider, 2)
    (entry,) = await rows(
        quiet, "select id from journal_entries where payment_id = $1", two.payment_id
    )
    await take(quiet, provider, [line(one)], covers_from=T0, covers_until=T0 + dt.timedelta(days=1))
    await run(quiet, provider, T0 + dt.timedelta(days=5))
    (missing,) = await exceptions(quiet, provider)
    assert (missing["kind"], missing["state"]) == ("missing_there", "open")
    async with quiet.database.transaction() as tx:
        await posting.reverse(
            tx, quiet.relay, entry["id"], keep_fee=False, reason="never came", by=("a", "b")
        )
    await run(quiet, provider, T0 + dt.timedelta(days=5))
    (missing,) = await exceptions(quiet, provider)
    assert (missing["state"], missing["resolution"]) == ("resolved", "matched")


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


async def test_a_matcher_killed_between_batches_is_followed_by_one_that_ends_the_same(
    quiet: Service, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = await book(quiet, provider, 25)
    lines = [line(body) for body in bodies] + [line(reference="z", amount=8)]
    await upload(quiet, provider, lines)
    while await importing.work_off(quiet.database, quiet.relay, LIMITS):
        pass
    # a lease that is over at once
    quick = matching.Rules(10, 0.0, RULES.window, RULES.grace, nightly_hour=24)
    for name in ("match", "differing", "missing_here", "missing_there", "finish"):

        async def dies(*_: Any, **__: Any) -> None:
            raise RuntimeError("killed")

        async def nothing(*_: Any) -> None:
            """A dead process releases no lease."""

        with monkeypatch.context() as patched:
            patched.setattr(matching.Run, name, dies)
            patched.setattr(store, "release", nothing)
            with pytest.raises(RuntimeError, match="killed"):
                await matching.work_off(quiet.database, quiet.relay, quick)
    await work(quiet)
    assert await states(quiet, provider) == {"matched": 25, "missing_here": 1}
    assert [row["kind"] for row in await exceptions(quiet, provider)] == ["missing_here"]


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


async def one_exception(ledger: Service, provider: str, **changes: Any) -> str:
    """An import with one line that is missing here; return its exception."""
    await take(ledger, provider, [line(reference=new_id("r"), amount=5000, **changes)])
    (row,) = await exceptions(ledger, provider)
    return str(row["id"])


async def resolve(
    ledger: Service, exception_id: str, how: str, by: str = "usr_a", limit: int = 10**9
) -> None:
    """Resolve, alone up to a limit in RWF."""
    async with ledger.database.transaction() as tx:
        await resolving.resolve(
            tx, ledger.relay, exception_id, how, "because", by, {"RWF": limit, "USD": limit}
        )


@pytest.mark.parametrize(
    ("how", "account", "kind"),
    [("suspense_in", "suspense", "suspense_in"), ("write_off", "write_offs", "write_off")],
)
async def test_a_resolution_posts_between_clearing_and_the_operator_and_names_the_line(
    quiet: Service, provider: str, how: str, account: str, kind: str
) -> None:
    before = await balance(quiet, f"operator:RWF:test:{account}")
    exception_id = await one_exception(quiet, provider)
    await resolve(quiet, exception_id, how)
    assert await balance(quiet, f"provider:{provider}:RWF:test:clearing") == 5000
    assert await balance(quiet, f"operator:RWF:test:{account}") == before - 5000
    (entry,) = await rows(
        quiet,
        "select * from journal_entries where effect_key = $1",
        f"{exception_id}:RWF:resolved",
    )
    (row,) = await exceptions(quiet, provider)
    assert (entry["kind"], entry["client_id"]) == (kind, None)
    assert f"line 2 of {row['import_id']}" in entry["reason"]
    assert (row["state"], row["resolution"]) == ("resolved", how)
    (resolved,) = await told(quiet, "reconciliation.exception_resolved.v1", provider)
    assert (resolved["resolution"], resolved["exception_ids"]) == (how, [exception_id])
    assert await unbalanced(quiet) == []


async def test_a_resolution_posts_once_whoever_asks_at_once(quiet: Service, provider: str) -> None:
    exception_id = await one_exception(quiet, provider)
    done = await asyncio.gather(
        *(resolve(quiet, exception_id, "suspense_in", f"usr_{n}") for n in range(6)),
        return_exceptions=True,
    )
    assert Counter(type(one) for one in done) == {type(None): 1, NotNow: 5}
    assert await balance(quiet, f"provider:{provider}:RWF:test:clearing") == 5000
    assert await unbalanced(quiet) == []


async def test_above_the_limit_a_second_person_approves_and_the_database_wants_another(
    quiet: Service, provider: str, worker_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    exception_id = await one_exception(quiet, provider)
    await resolve(quiet, exception_id, "write_off", "usr_a", limit=4999)
    assert await balance(quiet, f"provider:{provider}:RWF:test:clearing") == 0

    async def approve(by: str) -> None:
        async with quiet.database.transaction() as tx:
            await resolving.approve(tx, quiet.relay, exception_id, None, by)

    with pytest.raises(SecondPersonNeeded):
        await approve("usr_a")
    with pytest.raises(asyncpg.CheckViolationError):
        await worker_connection.execute(
            "update reconciliation_exceptions set approved_by = proposed_by where id = $1",
            exception_id,
        )
    done = await asyncio.gather(approve("usr_b"), approve("usr_c"), return_exceptions=True)
    assert Counter(type(one) for one in done) == {type(None): 1, NotNow: 1}
    assert await balance(quiet, f"provider:{provider}:RWF:test:clearing") == 5000


async def test_a_rejected_proposal_is_open_again_and_history_cannot_be_changed(
    quiet: Service, provider: str, worker_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    exception_id = await one_exception(quiet, provider)
    await resolve(quiet, exception_id, "write_off", limit=0)
    async with quiet.database.transaction() as tx:
        await resolving.reject(tx, exception_id, "ask them first", "usr_b")
        until = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)
        await resolving.wait(tx, exception_id, until, "they answer on Monday", "usr_b")
        await resolving.assign(tx, exception_id, "usr_c", "usr_b")
    (row,) = await exceptions(quiet, provider)
    assert (row["state"], row["assignee"], row["due_at"]) == ("open", "usr_c", until)
    acted = await rows(
        quiet,
        "select action from reconciliation_actions where exception_id = $1 order by id",
        exception_id,
    )
    assert [a["action"] for a in acted] == ["proposed", "rejected", "waiting", "assigned"]
    for sql in ("update reconciliation_actions set actor = 'x'", "delete from statement_lines",
                "delete from reconciliation_exceptions", "delete from expected_lines"):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await worker_connection.execute(sql)


async def test_a_match_that_comes_late_closes_the_exception_and_takes_its_posting_back(
    quiet: Service, provider: str
) -> None:
    reference, open_one = new_id("r"), new_id("r")
    await take(quiet, provider, [
        line(reference=reference, amount=5000), line(reference=open_one, amount=6000),
    ])  # fmt: skip
    first, _ = await exceptions(quiet, provider)
    await resolve(quiet, first["id"], "suspense_in")
    held = await balance(quiet, "operator:RWF:test:suspense")
    for amount, name in ((5000, reference), (6000, open_one)):
        await book(quiet, provider, amount_minor=amount, provider_reference=name, late=True)
    for _ in range(2):  # the second finds nothing to do
        await run(quiet, provider)
    assert await states(quiet, provider) == {"matched": 2}
    found = await exceptions(quiet, provider)
    assert [(row["state"], row["resolution"]) for row in found] == [
        ("resolved", "suspense_in"), ("resolved", "matched"),
    ]  # fmt: skip
    assert await balance(quiet, f"provider:{provider}:RWF:test:clearing") == 11000
    assert await balance(quiet, "operator:RWF:test:suspense") == held + 5000
    assert await unbalanced(quiet) == []


async def test_fees_are_confirmed_once_and_a_difference_of_currencies_posts_in_both(
    quiet: Service, provider: str
) -> None:
    (body,) = await book(quiet, provider)
    await take(quiet, provider, [line(body, currency="USD", amount="15.00", fee="0.45")])
    fee, differs = sorted(
        await exceptions(quiet, provider), key=lambda row: row["kind"] != "provider_fee"
    )
    spent = await balance(quiet, "operator:USD:test:provider_fees")
    await resolve(quiet, fee["id"], "confirm_fee")
    await resolve(quiet, differs["id"], "suspense_in")
    assert await balance(quiet, "operator:USD:test:provider_fees") == spent + 45
    assert await balance(quiet, f"provider:{provider}:USD:test:clearing") == 1500 - 45
    assert await balance(quiet, f"provider:{provider}:RWF:test:clearing") == 0
    assert await unbalanced(quiet) == []


async def test_the_report_adds_up_to_the_unit_on_both_sides(quiet: Service, provider: str) -> None:
    bodies = await book(quiet, provider, 6)
    await take(quiet, provider, [
        *(line(body) for body in bodies[:3]),
        line(bodies[0], at=(T0 + dt.timedelta(hours=1)).isoformat()),
        line(bodies[3], amount=1), line(reference="z", amount=70),
    ], covers_from=T0, covers_until=T0 + dt.timedelta(minutes=4, seconds=30))  # fmt: skip
    await run(quiet, provider, T0 + dt.timedelta(days=4))
    (missing,) = [row for row in await exceptions(quiet, provider) if row["kind"] == "missing_here"]
    await resolve(quiet, missing["id"], "suspense_in")
    await run(quiet, provider)
    async with quiet.database.transaction() as tx:
        now = dt.datetime.now(dt.UTC) + dt.timedelta(days=400)
        (one,) = await stored_exceptions.report(tx, provider, "test", T0 - dt.timedelta(1), now)
    assert one["stated_minor"] == 4500 + 1500 + 1 + 70 == (
        one["matched_minor"] + one["differs_stated_minor"] + one["missing_here_minor"]
        + one["duplicate_minor"] + one["not_matched_yet_minor"]
    )  # fmt: skip
    assert one["expected_minor"] == 9000 == (
        one["matched_minor"] + one["differs_expected_minor"] + one["missing_there_minor"]
        + one["not_covered_minor"]
    )  # fmt: skip
    assert (one["missing_there_minor"], one["not_covered_minor"]) == (1500, 1500)
    assert one["books_minor"] == one["expected_minor"] + one["adjusted_minor"]
    clearing = await balance(quiet, f"provider:{provider}:RWF:test:clearing")
    assert one["books_minor"] == clearing == 9070


async def test_the_nightly_match_runs_once_a_day_and_finds_what_is_missing(
    quiet: Service, provider: str
) -> None:
    one, _ = await book(quiet, provider, 2)
    await take(quiet, provider, [line(one)], covers_from=T0, covers_until=T0 + dt.timedelta(days=1))
    nightly = matching.Rules(10, 5, RULES.window, dt.timedelta(0), nightly_hour=0)
    await run(quiet, provider, T0)
    async with quiet.database.transaction() as tx:
        await tx.run("update reconciliation_streams set nightly_on = null")
    turns = 0
    while await matching.work_off(quiet.database, quiet.relay, nightly):
        turns += 1
    assert turns >= 1
    (stream,) = await rows(
        quiet, "select nightly_on from reconciliation_streams where microservice = $1", provider
    )
    assert stream["nightly_on"] == dt.datetime.now(dt.UTC).date()
    assert [row["kind"] for row in await exceptions(quiet, provider)] == ["missing_there"]


@pytest.fixture
async def http(quiet: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP side of a ledger whose workers do not run."""
    transport = httpx.ASGITransport(app=quiet.app, raise_app_exceptions=False)
    base = "http://ledger/internal/v1/reconciliation"
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        yield client


def token(portal: TokenSigner, **claims: Any) -> dict[str, str]:
    """Headers of a person of the operator."""
    made = portal.token("ledger", "ledger:read ledger:write", **({"actor": "usr_a"} | claims))
    return {"authorization": f"Bearer {made}"}


async def test_a_file_is_uploaded_followed_and_resolved_over_http(
    quiet: Service, http: httpx.AsyncClient, portal: TokenSigner, provider: str
) -> None:
    headers = token(portal)
    mapping = PRESETS["simulator"].model_dump(mode="json")
    made = await http.post(
        "/mappings", json={"microservice": provider, "mapping": mapping}, headers=headers
    )
    assert (made.status_code, made.json()["version"]) == (201, 1), made.text
    formula = '=HYPERLINK(""http://x"")'
    data = f'{HEADER}\n"{formula}",,payment,500,RWF,0,2026-11-01T08:00:00Z\n'.encode()
    query = {"microservice": provider, "mode": "test", "file_name": "n.csv"}
    up = await http.post("/imports", params=query, content=data, headers=headers)
    assert (up.status_code, up.json()["state"]) == (202, "parsing"), up.text
    await work(quiet)
    one = (await http.get(f"/imports/{up.json()['id']}", headers=headers)).json()
    assert (one["state"], one["bytes_done"], one["mapping_version"]) == ("finished", len(data), 1)
    again = await http.post("/imports", params=query, content=data, headers=headers)
    assert (again.status_code, again.json()["repeated"]) == (200, True)
    page = (
        await http.get("/exceptions", params={"microservice": provider}, headers=headers)
    ).json()
    (found,) = page["items"]
    assert found["reference"] == '=HYPERLINK("http://x")'  # text, as it came
    path = f"/exceptions/{found['id']}"
    body = {"resolution": "suspense_in", "note": "asked them"}
    proposed = await http.post(path + "/resolution", json=body, headers=headers)
    assert (proposed.status_code, proposed.json()["state"]) == (200, "proposed"), proposed.text
    same = await http.post(path + "/approval", json={"note": "yes"}, headers=headers)
    assert (same.status_code, same.json()["code"]) == (422, "second_person")
    other = token(portal, actor="usr_b")
    done = await http.post(path + "/approval", json={"note": "yes"}, headers=other)
    assert (done.status_code, done.json()["state"]) == (200, "resolved")
    assert [a["actor"] for a in done.json()["actions"]] == ["usr_a", "usr_b"]
    report = await http.get("/report", params=query, headers=headers)
    assert report.json()["currencies"][0]["stated_minor"] == 500


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "status", "field"),
    [
        ("POST", "/imports", {"microservice": "a b"}, None, 422, "microservice"),
        ("POST", "/imports", {"preset": "nobody"}, None, 422, "preset"),
        ("POST", "/imports", {"mapping_version": "9"}, None, 404, None),
        ("POST", "/imports", {"file_name": "a\x00b"}, None, 422, "file_name"),
        ("POST", "/imports", {"covers_from": "0001-01-01T00:00:00+14:00"}, None, 422,
         "covers_from"),
        ("POST", "/mappings", {}, {"microservice": "m", "mapping": {}}, 422, "mapping"),
        ("POST", "/run", {}, {"microservice": "m", "mode": "live",
                              "as_of": "2026-01-01T00:00:00Z"}, 422, "as_of"),
        ("POST", "/exceptions/exc_none/notes", {}, {"note": "n\x00o"}, 422, "note"),
        ("POST", "/exceptions/exc_none/notes", {}, {"note": "nobody"}, 404, None),
        ("GET", "/imports/imp_none", {}, None, 404, None),
        ("GET", "/imports/x/lines", {"cursor": str(2**63)}, None, 422, "cursor"),
        ("GET", "/exceptions", {"kind": "odd"}, None, 422, "kind"),
        ("GET", "/report", {"mode": "both"}, None, 422, "mode"),
    ],
)  # fmt: skip
async def test_bad_input_is_a_problem_that_names_the_field(
    http: httpx.AsyncClient, portal: TokenSigner, method: str, path: str, query: Row, body: Any,
    status: int, field: str | None,
) -> None:  # fmt: skip
    params = {"microservice": "simulator", "mode": "test", "file_name": "f"} | query
    answer = await http.request(
        method, path, params=params, json=body, headers=token(portal),
    )  # fmt: skip
    assert answer.status_code == status, answer.text
    if field is not None:
        assert any(e["field"].startswith(field) for e in answer.json()["errors"]), answer.text


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


async def test_a_tenant_sees_nothing_of_it_by_http_or_by_sql(
    quiet: Service, http: httpx.AsyncClient, portal: TokenSigner, provider: str
) -> None:
    await one_exception(quiet, provider)
    headers = token(portal, client_id=new_id("cli"), mode="test")
    for path in (
        "/imports",
        "/exceptions",
        "/mappings",
        f"/report?microservice={provider}&mode=test",
    ):
        answer = await http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "operators_only"), path
    machine = token(portal, actor=None)
    order = {"microservice": provider, "mode": "test"}
    nobody = await http.post("/run", json=order, headers=machine)
    assert (nobody.status_code, nobody.json()["code"]) == (403, "person_missing")
    async with quiet.database.request(client_id="cli_x", mode="test") as tx:
        for table in ("statement_imports", "statement_lines", "expected_lines",
                      "reconciliation_exceptions", "reconciliation_actions"):  # fmt: skip
            assert await tx.fetch(f"select 1 from {table} limit 1") == []
    async with quiet.database.request(operator=True) as tx:
        assert await tx.fetch("select 1 from statement_lines limit 1")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await tx.fetch("select 1 from statement_chunks")


async def test_what_is_overdue_is_counted_and_shown(quiet: Service, provider: str) -> None:
    exception_id = await one_exception(quiet, provider)
    watch = workers.reconciliation_workers(quiet.database, quiet.relay, LedgerSettings())[2]
    await watch.turn()
    gauge = ("missing_here", "test")
    before = workers.OVERDUE.labels(*gauge)._value.get()
    async with quiet.database.transaction() as tx:
        await tx.run(
            "update reconciliation_exceptions set due_at = now() - interval '1 s' where id = $1",
            exception_id,
        )
        found = await stored_exceptions.page(tx, ("", "", provider, "", "", "", "", True), "", 10)
    assert [(row["id"], row["overdue"]) for row in found] == [(exception_id, True)]
    await watch.turn()
    assert workers.OVERDUE.labels(*gauge)._value.get() == before + 1


async def test_statements_are_taken_in_by_the_running_service(
    ledger: Service, provider: str
) -> None:
    import_id = await upload(ledger, provider, [line(reference="x", amount=2)])
    async with asyncio.timeout(20):
        while (await shown(ledger, import_id))["state"] != "finished":
            await asyncio.sleep(0.05)
    assert [row["kind"] for row in await exceptions(ledger, provider)] == ["missing_here"]
