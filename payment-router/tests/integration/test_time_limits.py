"""Time limits: a function that has no end, and one that a busy database only held up."""

import asyncio
import time
from typing import Any

import pytest
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_shared.ids import new_id

from .conftest import Answering, Merchant, Stage, until
from .desk import name_of
from .test_functions import SLEEPS, call, create, good
from .test_refunds import command, ends, gave_back, message, paid, purse

__all__ = ["paid"]  # a fixture
DOZES = "begin perform pg_sleep(0.1); results := '{}'; return next; end"
STUBBORN = """declare n int := 0; begin
    loop
        begin perform pg_sleep(5); exception when query_canceled then n := n + 1; end;
    end loop;
end"""


@pytest.fixture
def batches(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of each dispatcher call, in order."""
    order: list[list[str]] = []
    original = functions._once

    async def watched(calls: list[FunctionCall]) -> Any:
        order.append([c.name for c in calls])
        return await original(calls)

    monkeypatch.setattr(functions, "_once", watched)
    return order


async def test_function_beyond_the_time_limit_is_cut_and_the_rest_runs(
    functions: Functions, database: Any, batches: list[list[str]]
) -> None:
    slow, fine = await create(database, new_id("slow"), SLEEPS), await good(database)
    rows = await functions.run([call(fine), call(slow), call(fine), call(fine)])
    assert [row.sqlstate for row in rows] == [None, "57014", None, None]
    assert batches == [[fine, slow, fine, fine], [fine, fine], [slow]]


async def test_function_during_which_the_others_time_ran_out_runs_again_alone(
    functions: Functions, database: Any, batches: list[list[str]]
) -> None:
    """Eight that take 0.1 s don't fit in 0.4 s together, and none of them is too slow."""
    names = [await create(database, new_id("doze"), DOZES) for _ in range(8)]
    rows = await functions.run([call(name) for name in names])
    assert [row.sqlstate for row in rows] == [None] * 8
    assert len(batches) > 1
    assert not functions._offences


async def test_result_that_came_while_the_process_stood_still_is_no_time_out(
    functions: Functions, database: Any
) -> None:
    body = "begin perform pg_sleep(0.2); results := '{}'; return next; end"
    dozes = await create(database, new_id("doze"), body)
    running = asyncio.create_task(functions.run([call(dozes)]))

    async def begun() -> Any:
        return running.done() or await database.fetchval(
            "select 1 from pg_stat_activity where usename = 'mospay_router_fn' and "
            "datname = current_database() and state = 'active' and query like '%fx.call%'"
        )

    await until(begun)
    asyncio.get_running_loop().call_soon(time.sleep, 2)  # longer than one that hangs is waited for
    (row,) = await running
    assert row.sqlstate is None
    assert not functions._offences


async def test_caller_that_may_wait_is_not_held_up_by_each_call_of_a_slow_function(
    functions: Functions, database: Any, batches: list[list[str]]
) -> None:
    slow, fine = await create(database, new_id("slow"), SLEEPS), await good(database)
    calls = [*(call(slow) for _ in range(20)), call(fine), *(call(slow) for _ in range(20))]
    rows = await functions.run(calls, may_wait=True)
    assert [row.timed_out for row in rows] == [*[True] * 20, False, *[True] * 20]
    assert batches[1:] == [[slow], [fine]]  # all together before, and each but once


async def test_repeat_offender_runs_alone_after_the_others_until_it_is_quick_again(
    functions: Functions, database: Any, batches: list[list[str]]
) -> None:
    slow, fine = await create(database, new_id("slow"), SLEEPS), await good(database)
    for _ in range(2):
        await functions.run([call(slow)])
    batches.clear()
    rows = await functions.run([call(slow), call(fine), call(fine)])
    assert [row.sqlstate for row in rows] == ["57014", None, None]
    assert batches == [[fine, fine], [slow]]
    await create(database, slow, "begin results := '{}'; return next; end")
    await functions.run([call(slow)])
    batches.clear()
    await functions.run([call(slow), call(fine)])
    assert batches == [[slow, fine]]


async def test_function_that_traps_its_cancellation_is_terminated(
    functions: Functions, database: Any
) -> None:
    stubborn, fine = await create(database, new_id("stub"), STUBBORN), await good(database)
    rows = await functions.run([call(fine), call(stubborn), call(fine)])
    assert [row.sqlstate for row in rows] == [None, "57014", None]
    left = await database.fetchval(
        "select count(*) from pg_stat_activity where usename = 'mospay_router_fn' "
        "and datname = current_database() and state = 'active'"
    )
    assert left == 0


async def test_function_that_loops_costs_nobody_else_their_payment(
    stage: Stage, provider: Answering, database: Any, quick_retries: None
) -> None:
    bad, fine = await stage.merchant(provider.url), await stage.merchant(provider.url)
    await create(database, name_of(bad), SLEEPS)
    ids = [await stage.pay(fine) for _ in range(5)]
    looped = await stage.pay(bad)
    ids += [await stage.pay(fine) for _ in range(5)]
    row = await stage.ends(looped, "failed")
    assert "time limit" in row["reason_message"]
    for payment_id in ids:
        await stage.ends(payment_id, "succeeded")


async def waits(stage: Stage, payment_id: str) -> str:
    """Wait until a command about a payment waits for another try and return why."""

    async def set_aside() -> Any:
        return await stage.database.fetchval(
            "select reason from inbox where subject = $1 and state = 'retry'", payment_id
        )

    return str(await until(set_aside))


async def test_payment_whose_function_had_no_end_in_time_is_tried_again_and_not_refused(
    stage: Stage, provider: Answering, database: Any
) -> None:
    merchant = await stage.merchant(provider.url)
    name = name_of(merchant)
    source = await database.fetchval("select pg_get_functiondef($1::text::regproc)", f'fx."{name}"')
    await create(database, name, SLEEPS)
    payment_id = await stage.pay(merchant)
    assert "time limit" in await waits(stage, payment_id)
    assert await stage.payment(payment_id) is None
    await database.execute(source)
    await stage.ends(payment_id, "succeeded")
    assert provider.seen(payment_id) == 1


async def test_refund_whose_function_had_no_end_in_time_is_tried_again_and_not_refused(
    stage: Stage, provider: Answering, database: Any, paid: tuple[Merchant, str]
) -> None:
    merchant, payment_id = paid
    name = name_of(merchant, "Refund")
    source = await database.fetchval("select pg_get_functiondef($1::text::regproc)", f'fx."{name}"')
    await create(database, name, SLEEPS)
    provider.plays["refund"] = [gave_back]
    told = command(merchant, payment_id)
    await stage.publish(message(told))
    assert "time limit" in await waits(stage, payment_id)
    made = "select count(*) from refunds where payment_id = $1"
    assert await stage.database.fetchval(made, payment_id) == 0
    await database.execute(source)
    await ends(stage, told.refund_id, "succeeded")
    assert await purse(stage, payment_id) == (0, 400, 0)
    assert provider.seen(told.refund_id) == 1


async def test_refund_whose_function_never_ends_fails_unsent_and_reserves_nothing(
    stage: Stage,
    provider: Answering,
    database: Any,
    paid: tuple[Merchant, str],
    quick_retries: None,
) -> None:
    merchant, payment_id = paid
    await create(database, name_of(merchant, "Refund"), SLEEPS)
    told = command(merchant, payment_id)
    asked = message(told)
    await stage.publish(asked)
    row = await ends(stage, told.refund_id, "failed")
    assert row["reason_code"] == "function_failed" and "time limit" in row["reason_message"]
    assert await purse(stage, payment_id) == (0, 0, 0)
    assert provider.seen(told.refund_id) == 0
    tries = await stage.database.fetchval(
        "select attempts from inbox where event_id = $1", asked.id
    )
    assert tries == 3
