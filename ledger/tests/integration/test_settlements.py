"""Settlements: a day's batch is what was posted, to the unit; made once, whoever makes it."""

import asyncio
import datetime as dt
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mospay_ledger import workers
from mospay_ledger.domain import FeePlan
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import settlements as storage
from mospay_ledger.usecases import posting, pricing, settling
from mospay_shared.contracts import RefundStatus
from mospay_shared.ids import new_id

from .conftest import refund
from .settling_desk import DAY, FIRST, Desk, end_of, noon

TABLES = ("settlement_terms", "settlements", "settlement_lines", "payouts", "payout_steps")


async def consistent(desk: Desk) -> None:
    """Settlements are their lines and their postings, and pending is what no line names."""
    rows = await desk.fetch(
        """select s.*, l.*, e.amount_minor as posted, e.kind from settlements s
        join lateral (select count(*) as n, sum(gross_minor) as gross, sum(fee_minor) as fee,
            sum(refund_minor) as refund, sum(adjustment_minor) as adjustment, sum(net_minor) as net
            from settlement_lines where settlement_id = s.id) l on true
        join journal_entries e on e.id = s.entry_id where s.client_id = $1""",
        desk.client_id,
    )
    for row in rows:
        assert row["n"] == row["line_count"]
        for name in ("gross", "fee", "refund", "adjustment", "net"):
            assert row[name] == row[f"{name}_minor"], name
        assert (row["posted"], row["kind"]) == (row["net_minor"], "settlement")
    (left,) = await desk.fetch(
        """select coalesce(sum(-p.amount_minor), 0) as minor from postings p
        join journal_entries e on e.id = p.entry_id
        where p.account_id = $1 and e.kind <> 'settlement'
            and not exists (select from settlement_lines l where l.entry_id = e.id)""",
        f"client:{desk.client_id}:RWF:test:pending",
    )
    have = await desk.balances()
    assert left["minor"] == -have.get("pending", 0)
    reserved = sum(row["reserve_minor"] for row in rows if row["reserve_released_at"] is None)
    assert reserved <= -have.get("reserve", 0)


async def test_a_day_is_settled_once_its_hold_is_over(desk: Desk) -> None:
    await desk.terms(hold_days=1)
    await desk.post(desk.capture(0), desk.capture(1, 2000))
    assert await desk.settle(end_of(0)) is None
    made = await desk.settle(end_of(1))
    row, (line,) = await desk.settlement(made), await desk.lines(made)
    assert (row["local_day"], row["part"], row["made_by"]) == (FIRST + DAY, 1, "usr_a")
    assert (row["gross_minor"], row["fee_minor"], row["net_minor"]) == (1500, 30, 1470)
    assert (line["kind"], line["gross_minor"], line["fee_minor"]) == ("capture", 1500, 30)
    assert await desk.balances() == {"pending": -1960, "available": -1470}
    assert await desk.settle(end_of(1)) is None
    assert await desk.settle(end_of(2)) is not None
    assert await desk.balances() == {"available": -3430}
    assert await desk.told(made) == ["settlement.processed.v1"]
    await consistent(desk)


async def test_without_terms_of_its_own_a_client_is_settled_after_a_days_hold(desk: Desk) -> None:
    await desk.post(desk.capture(0))
    assert await desk.settle(end_of(0)) is None
    made = await desk.settle(end_of(1))
    assert (await desk.settlement(made))["terms_id"] == "trm_default_test"


async def test_refunds_chargebacks_and_their_fees_are_lines_of_the_batch(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    first, second, third = (desk.capture(0, amount) for amount in (1500, 2000, 3000))
    entries = await desk.post(first, second, third)
    asked = refund(first, 500, "pending")
    done = refund(first, 500, "succeeded", refund_id=asked.refund_id, version=2)
    failing = refund(second, 700, "pending")
    await desk.post(asked)
    await desk.post(done, failing)
    async with desk.service.database.transaction() as tx:
        await posting.reverse(
            tx, desk.service.relay, entries[2].id, keep_fee=True, reason="disputed",
            by=("usr_a", "usr_b"),
        )  # fmt: skip
    made = await desk.settle(end_of(0))
    row = await desk.settlement(made)
    assert (row["gross_minor"], row["fee_minor"]) == (6500, 130)
    assert (row["refund_minor"], row["adjustment_minor"]) == (-1200, -3000)
    assert row["net_minor"] == 2170
    assert {line["kind"] for line in await desk.lines(made)} == {
        "capture", "refund_reserved", "chargeback",
    }  # fmt: skip
    failed = refund(second, 700, "failed", refund_id=failing.refund_id, version=2)
    await desk.post(failed)  # what it had taken comes back, and is settled the next day
    again = await desk.settlement(await desk.settle(end_of(1)))
    assert (again["refund_minor"], again["net_minor"]) == (700, 700)
    await consistent(desk)


async def test_a_debt_that_a_capture_pays_off_is_named_and_not_settled(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    old = desk.capture(0)
    await desk.post(old)
    await desk.post(refund(old, 1500, "succeeded"))  # 1,470 there were: a debt of 30
    assert await desk.balances() == {"receivable": 30}
    await desk.post(desk.capture(0, 1000))
    made = await desk.settlement(await desk.settle(end_of(0)))
    assert (made["gross_minor"], made["fee_minor"]) == (2500, 50)
    assert (made["refund_minor"], made["adjustment_minor"], made["net_minor"]) == (-1470, -30, 950)
    await consistent(desk)


async def test_more_taken_than_came_in_waits_for_a_better_day(desk: Desk) -> None:
    await desk.terms(hold_days=1)
    first, second = desk.capture(0), desk.capture(1, 4000)
    await desk.post(first, second)
    await desk.post(refund(second, 2000, "pending"))
    assert await desk.settle(end_of(1)) is None  # 1,470 are ripe, 2,000 are under way
    made = await desk.settlement(await desk.settle(end_of(2)))
    assert made["net_minor"] == 1470 + 3920 - 2000
    await consistent(desk)


async def test_minimum_and_pause_keep_a_batch_waiting(desk: Desk) -> None:
    await desk.terms(hold_days=0, minimum_minor=2000)
    await desk.post(desk.capture(0))
    assert await desk.settle(end_of(0)) is None
    await desk.post(desk.capture(1))
    await desk.terms(hold_days=0, paused=True)
    assert await desk.settle(end_of(1)) is None
    await desk.terms(hold_days=0)
    assert (await desk.settlement(await desk.settle(end_of(2))))["net_minor"] == 2940


async def test_a_client_day_ends_by_its_own_clock_and_an_unknown_zone_is_utc(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    await desk.lives_in("Africa/Kigali")  # two hours ahead
    await desk.post(
        desk.capture(0, occurred_at=noon(0, 21)), desk.capture(0, 2000, occurred_at=noon(0, 22))
    )
    made = await desk.settlement(await desk.settle(noon(0, 22)))
    assert (made["local_day"], made["net_minor"], made["time_zone"]) == (
        FIRST, 1470, "Africa/Kigali",
    )  # fmt: skip
    assert made["cut_off_at"] == noon(0, 22)
    lost = Desk(desk.service, desk.signer)
    await lost.terms(hold_days=0)
    await lost.lives_in("Mars/Olympus")
    await lost.post(lost.capture(0))
    assert (await lost.settlement(await lost.settle(end_of(0))))["time_zone"] == "UTC"


async def test_a_long_day_is_settled_in_parts_that_add_up(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    await desk.post(*(desk.capture(0, 1000 + n) for n in range(5)))
    await desk.post(refund(desk.capture(0), 100, "pending"))
    small = settling.Rules(3, dt.timedelta(0))
    parts = [await desk.settle(end_of(0), small) for _ in range(4)]
    assert parts[2:] == [None, None] or parts[3] is None
    rows = [await desk.settlement(part) for part in parts if part]
    assert [row["part"] for row in rows] == list(range(1, len(rows) + 1))
    assert sum(row["line_count"] for row in rows) == 6
    assert await desk.balances() == {
        "available": -sum(row["net_minor"] for row in rows), "reserve": -100,
    }  # fmt: skip
    await consistent(desk)


async def test_two_who_settle_at_once_make_one_batch(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    await desk.post(desk.capture(0), desk.capture(0, 2000))
    assert await desk.settle(noon(-1)) is None  # it has a schedule from now on
    made = await asyncio.gather(*(desk.settle(end_of(0)) for _ in range(6)))
    assert len([one for one in made if one]) == 1
    assert await desk.balances() == {"available": -3430}
    await consistent(desk)


async def test_reserve_is_kept_and_given_back_once_to_a_debt_first(desk: Desk) -> None:
    await desk.terms(hold_days=0, reserve_bps=1000, reserve_days=5)
    paid = desk.capture(0)
    await desk.post(paid)
    made = await desk.settle(end_of(0))
    row = await desk.settlement(made)
    assert (row["reserve_minor"], row["reserve_due_at"]) == (147, end_of(5))
    assert await desk.balances() == {"available": -1323, "reserve": -147}
    await consistent(desk)
    await desk.post(refund(paid, 1400, "succeeded"))  # 77 more than is available
    assert await desk.balances() == {"receivable": 77, "reserve": -147}

    async def release(at: dt.datetime) -> int:
        async with desk.service.database.transaction() as tx:
            return await settling.release_reserves(
                tx, desk.service.relay, at, 50, client_id=desk.client_id
            )

    assert await release(end_of(5) - dt.timedelta(seconds=1)) == 0
    assert sum(await asyncio.gather(*(release(end_of(5)) for _ in range(4)))) == 1
    assert await desk.balances() == {"available": -70}
    assert await desk.told(made) == ["settlement.processed.v1", "settlement.reserve_released.v1"]


async def test_a_settlement_taken_back_is_pending_again(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    await desk.post(desk.capture(0))
    made = await desk.settle(end_of(0))
    row = await desk.settlement(made)
    async with desk.service.database.transaction() as tx:
        await posting.reverse(
            tx, desk.service.relay, row["entry_id"], keep_fee=False, reason="wrong day",
            by=("usr_a", "usr_b"),
        )  # fmt: skip
    assert await desk.balances() == {"pending": -1470}
    shown = (await desk.call("GET", f"/settlements/{made}")).json()
    assert shown["reversed_by"].startswith("ent_")
    again = await desk.settlement(await desk.settle(end_of(1)))
    assert (again["adjustment_minor"], again["net_minor"]) == (1470, 1470)


action = st.tuples(
    st.sampled_from(("capture", "capture", "refund", "failed_refund", "chargeback", "settle")),
    st.integers(1, 5000),
    st.integers(0, 3),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.lists(action, max_size=5), min_size=1, max_size=4),
    st.integers(0, 2),
    st.sampled_from((0, 250, 10_000)),
    st.booleans(),
)
async def test_whatever_happens_batches_are_their_lines_and_their_postings(
    desk: Desk, days: list[list[tuple[str, int, int]]], hold: int, points: int, returns: bool
) -> None:
    own = Desk(desk.service, desk.signer)
    if returns:
        plan = FeePlan(
            new_id("plan"), 0, 290, client_id=own.client_id, mode="test", fee_on_refund="return"
        )
        async with own.service.database.transaction() as tx:
            await pricing.add_plan(tx, plan, None, None)
    await own.terms(hold_days=hold, reserve_bps=points, reserve_days=1 if points else 0)
    captured: list[Any] = []
    for day, actions in enumerate(days):
        for kind, amount, which in actions:
            if kind == "capture":
                body = own.capture(day, amount)
                captured.append((body, *await own.post(body)))
            elif captured and kind in ("refund", "failed_refund"):
                of = captured[which % len(captured)][0]
                asked = refund(of, min(amount, of.amount_minor), "pending")
                word = "succeeded" if kind == "refund" else "failed"
                await own.post(asked)
                update = {"status": RefundStatus(word), "version": 2}
                await own.post(asked.model_copy(update=update))
            elif captured and kind == "chargeback":
                _, entry = captured.pop(which % len(captured))
                async with own.service.database.transaction() as tx:
                    await posting.reverse(
                        tx, own.service.relay, entry.id, keep_fee=bool(which % 2), reason="r",
                        by=("a", "b"),
                    )  # fmt: skip
            elif kind == "settle":
                await own.settle(end_of(day - 1))
        await own.settle(end_of(day))
        await consistent(own)
    for day in range(len(days), len(days) + 3):
        await own.settle(end_of(day))
    await consistent(own)
    async with own.service.database.transaction() as tx:
        await settling.release_reserves(
            tx, own.service.relay, end_of(60), 50, client_id=own.client_id
        )
    await consistent(own)
    assert "reserve" not in await own.balances()


async def test_the_worker_settles_who_is_due_and_goes_on_past_who_fails(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    yesterday = dt.datetime.now(dt.UTC) - DAY
    await desk.post(desk.capture(0, occurred_at=yesterday))
    made, _ = workers.settlement_workers(
        desk.service.database, desk.service.relay, LedgerSettings()
    )
    async with desk.service.database.transaction() as tx:
        await storage.enrol(tx, 10_000)
        await settling.put_off(
            tx, settling.NotSettled(desk.key, "x"), dt.datetime.now(dt.UTC) - DAY
        )
    for _ in range(50):
        await made.turn()
        if await desk.balances() == {"available": -1470}:
            break
    (schedule,) = await desk.fetch(
        "select * from settlement_schedules where client_id = $1", desk.client_id
    )
    assert (schedule["failures"], schedule["reason"]) == (0, None)
    assert schedule["next_at"] > dt.datetime.now(dt.UTC)
    assert schedule["settled_below"] > 0
    await consistent(desk)


async def refused(desk: Desk, state: str, sql: str, *values: Any) -> None:
    """A statement of the service's own role fails with this SQLSTATE."""
    with pytest.raises(asyncpg.PostgresError) as error:
        await desk.fetch(sql, *values)
    assert error.value.sqlstate == state, error.value


async def test_database_itself_refuses_what_a_settlement_never_does(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    await desk.post(desk.capture(0))
    made = await desk.settle(end_of(0))
    denied = "42501"
    await refused(desk, denied, "update settlement_lines set net_minor = 1")
    await refused(desk, denied, "delete from settlement_lines")
    await refused(desk, denied, "update settlements set net_minor = 1 where id = $1", made)
    await refused(desk, denied, "delete from settlements")
    await refused(desk, denied, "update settlement_terms set hold_days = 0")
    await refused(desk, denied, "delete from payouts")
    await refused(desk, denied, "update payouts set amount_minor = 1")
    line = """insert into settlement_lines select $1, settlement_id, number + 1, client_id, mode,
        currency, kind, payment_id, refund_id, occurred_at, gross_minor, fee_minor, refund_minor,
        adjustment_minor, net_minor from settlement_lines where settlement_id = $2"""
    await refused(desk, "23M06", line, new_id("ent"), made)  # no longer the sum of its lines
    (settled,) = await desk.lines(made)
    await refused(desk, "23505", line, settled["entry_id"], made)  # settled before
    with pytest.raises(asyncpg.UniqueViolationError):
        await desk.fetch(
            "insert into settlements select (jsonb_populate_record(s, "
            "jsonb_build_object('id', 'set_y', 'entry_id', 'ent_y'))).* "
            "from settlements s where id = $1",
            made,
        )
    past = """insert into settlement_terms (id, mode, hold_days, effective_from)
        values ($1, 'test', 1, now() - interval '1 second')"""
    await refused(desk, "23M03", past, new_id("trm"))


async def test_immutable_tables_stay_so_for_their_owner_too(desk: Desk, superuser: Any) -> None:
    await desk.terms(hold_days=0)
    await desk.post(desk.capture(0))
    made = await desk.settle(end_of(0))
    for sql in (
        "update settlement_lines set net_minor = 1",
        "update settlements set net_minor = 1",
        "truncate payouts cascade",
        "delete from settlement_terms",
    ):
        with pytest.raises(asyncpg.PostgresError) as error:
            await superuser.execute(sql)
        assert error.value.sqlstate == "23M02", sql
    assert (await desk.settlement(made))["net_minor"] == 1470


@pytest.mark.parametrize("table", TABLES)
async def test_request_role_sees_its_tenant_and_mode_alone(desk: Desk, table: str) -> None:
    await desk.terms(hold_days=0)
    await desk.post(desk.capture(0))
    await desk.settle(end_of(0))
    body = {"client_id": desk.client_id, "mode": "test", "currency": "RWF", "amount_minor": 5,
            "destination": "bank"}  # fmt: skip
    assert (await desk.call("POST", "/payouts", json=body, key="k")).status_code == 201
    count = f"select count(*) from {table}"

    async def seen(**tenant: Any) -> int:
        async with desk.service.database.request(**tenant) as tx:
            return int(await tx.value(count))

    assert await seen(client_id=desk.client_id, mode="test") == 1
    assert await seen(client_id=desk.client_id, mode="live") == 0
    assert await seen(client_id=new_id("cli"), mode="test") == 0
    assert await seen() == 0
    assert await seen(operator=True) >= 1
    async with desk.service.database.request(client_id=desk.client_id) as tx:
        for hidden in ("settlement_schedules", "directory_snapshot"):
            assert await tx.value(f"select count(*) from {hidden}") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with desk.service.database.request(operator=True) as tx:
            await tx.run(f"delete from {table}")
