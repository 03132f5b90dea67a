"""Provider functions: what one does wrong stays its own, and existing ones run unchanged."""

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_shared.ids import new_id

from .conftest import Answering, Stage, success, until

HEAD = 'create or replace function fx."{name}"(unique_id text, data_input json) returns table '
BAD = {
    "raises": "begin raise exception 'boom'; end",
    "no_row": "begin return; end",
    "two_rows": "begin results := '{}'; return next; return next; end",
    "reads_payments": "begin results := (select to_json(p) from public.payments p limit 1); "
    "return next; end",
    "resets_role": "begin execute 'reset role'; results := '{}'; return next; end",
    "sets_role": "begin execute 'set role mospay_router_owner'; results := '{}'; return next; end",
    "writes": "begin create table fx.stolen(x int); results := '{}'; return next; end",
    "temp_table": "begin create temp table t(x int); results := '{}'; return next; end",
    "opens_writes": "begin set transaction read write; results := '{}'; return next; end",
    "commits": "begin commit; results := '{}'; return next; end",
    "drops": "begin execute 'drop function fx.call(text[], text[], text[])'; return next; end",
    "divides": "begin results := to_json(1 / 0); return next; end",
    "big": "begin results := to_json(repeat('x', 300000)); return next; end",
    "bad_json": "begin results := 'nonsense'; return next; end",
    "recurses": 'begin return query select results from fx."{name}"(unique_id, data_input); end',
}
SLEEPS = "begin perform pg_sleep(30); results := '{}'; return next; end"


async def create(database: Any, name: str, body: str) -> str:
    """Create a function owned by the schema's role, as a person with the permission does."""
    await database.execute("set role mospay_router_fx")
    sql = HEAD + "(results json) language plpgsql as $$ " + body + " $$"
    await database.execute(sql.replace("{name}", name))
    await database.execute("reset role")
    return name


async def good(database: Any) -> str:
    """Create a function that answers with its unique id."""
    body = "begin results := json_build_object('uid', unique_id); return next; end"
    return await create(database, new_id("fine"), body)


def call(name: str, uid: str = "u") -> FunctionCall:
    return FunctionCall(uid, name, "{}")


@pytest.mark.parametrize("kind", BAD)
async def test_bad_function_fails_its_own_row_alone(
    functions: Functions, database: Any, kind: str
) -> None:
    bad = await create(database, new_id("bad"), BAD[kind])
    fine = await good(database)
    rows = await functions.run([call(fine, "a"), call(bad), call(fine, "b")])
    assert rows[1].sqlstate is not None
    assert rows[1].results is None
    assert [orjson.loads(rows[i].results or "")["uid"] for i in (0, 2)] == ["a", "b"]


async def test_missing_and_injected_names_fail_their_own_rows(
    functions: Functions, database: Any
) -> None:
    fine = await good(database)
    names = ["nowhere", 'x"; drop schema fx cascade; --', "x', 'y", "", "a" * 200]
    rows = await functions.run([*(call(name) for name in names), call(fine)])
    assert all(row.sqlstate is not None for row in rows[:-1])
    assert rows[-1].sqlstate is None


async def test_input_that_is_not_json_fails_its_own_row(
    functions: Functions, database: Any
) -> None:
    fine = await good(database)
    rows = await functions.run([FunctionCall("u", fine, "{nope"), call(fine)])
    assert rows[0].sqlstate == "22P02"
    assert rows[1].sqlstate is None


async def test_cancelled_run_ends_at_once_and_leaves_the_pool_usable(
    functions: Functions, database: Any
) -> None:
    slow, fine = await create(database, new_id("slow"), SLEEPS), await good(database)
    task = asyncio.create_task(functions.run([call(slow)]))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await functions.run([call(fine)]))[0].sqlstate is None


async def test_settings_a_function_changes_do_not_outlive_it(
    functions: Functions, database: Any
) -> None:
    body = (
        "begin perform set_config('statement_timeout', '0', false); "
        "perform set_config('search_path', 'public', false); perform pg_advisory_lock(42); "
        "results := '{}'; return next; end"
    )
    sly = await create(database, new_id("sly"), body)
    assert (await functions.run([call(sly)]))[0].sqlstate is None
    slow, fine = await create(database, new_id("slow"), SLEEPS), await good(database)
    for _ in range(4):
        rows = await functions.run([call(fine), call(slow)])
        assert [row.sqlstate for row in rows] == [None, "57014"]
        functions._offences.clear()
    held = await database.fetchval(
        "select count(*) from pg_locks where locktype = 'advisory' and objid = 42"
    )
    assert held == 0


async def test_function_role_can_reach_nothing_but_the_dispatcher(
    router_env: dict[str, str], database: Any
) -> None:
    name = f"direct_{new_id('x')}_y"
    await database.execute("select fx.create_default_pair($1, $2)", name, f"RESPONSE_{name}")
    connection = await asyncpg.connect(router_env["ROUTER_FUNCTION_DATABASE_URL"])
    try:
        for statement in (
            "select * from public.payments",
            f"select * from fx.\"{name}\"('u', '{{}}')",
            "select fx.create_default_pair('a_b_c', 'RESPONSE_a_b_c')",
            "create table fx.t (x int)",
            "create temp table t (x int)",
            "set role mospay_router_fx",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_unchanged_templates_of_many_clients_share_one_body(
    functions: Functions, database: Any
) -> None:
    """What a session keeps of a function it has run does not grow with the number of clients."""
    where = await database.fetchval("select current_database()")
    await database.execute(
        f"alter role mospay_router_fn in database {where} set track_functions = 'pl'"
    )
    names = [f"app_{new_id('x')}_y" for _ in range(20)]
    for name in names:
        await database.execute("select fx.create_default_pair($1, $2)", name, f"RESPONSE_{name}")
    rows = await functions.run([FunctionCall(f"u{n}", name, "{}") for n, name in enumerate(names)])
    assert [orjson.loads(r.payload or "")[-1]["v"] for r in rows] == [f"u{n}" for n in range(20)]
    answers = [
        FunctionCall("u", f"RESPONSE_{name}", "{}", 200, b'{"outcome": "unknown"}')
        for name in names
    ]
    rows = await functions.run(answers)
    assert {orjson.loads(r.results or "")["outcome"] for r in rows} == {"unknown"}
    await functions.close()

    async def counted() -> Any:
        found = await database.fetch(
            "select funcname, calls from pg_stat_user_functions where schemaname = 'fx'"
        )
        return {r["funcname"]: r["calls"] for r in found} if len(found) >= 4 else None

    counts = await until(counted)
    assert counts["template_call"] >= 20 and counts["template_response"] >= 20
    assert not set(counts) & {*names, *(f"RESPONSE_{name}" for name in names)}


async def test_template_replaced_by_hand_is_used_from_the_next_call_on(
    functions: Functions, database: Any
) -> None:
    name = f"app_{new_id('x')}_y"
    await database.execute("select fx.create_default_pair($1, $2)", name, f"RESPONSE_{name}")
    (before,) = await functions.run([call(name)])
    assert orjson.loads(before.results or "")["action"] == "SERVICE"
    await create(database, name, 'begin results := \'{"action": "ERROR"}\'; return next; end')
    (after,) = await functions.run([call(name)])
    assert orjson.loads(after.results or "") == {"action": "ERROR"}


async def test_session_that_has_run_too_many_functions_is_left(
    functions: Functions, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mospay_payment_router.storage.dispatcher.NAMES_LIMIT", 2)
    body = "begin results := to_json(pg_backend_pid()); return next; end"
    names = [await create(database, new_id("pid"), body) for _ in range(3)]
    pids = [(await functions.run([call(n)]))[0].results for n in (*names[:2], names[0], *names)]
    assert len(set(pids[:4])) == 1 and pids[-1] == pids[3], pids
    last = (await functions.run([call(names[0])]))[0].results
    assert last != pids[0], pids


@pytest.mark.parametrize(
    ("call_name", "response_name"),
    [
        ("a_b_c", "RESPONSE_other"),
        ("nounderscore", "RESPONSE_nounderscore"),
        ("a_b_c;x", "RESPONSE_a_b_c;x"),
        ("a_b_" + "c" * 60, "RESPONSE_a_b_" + "c" * 60),
    ],
)
async def test_default_pair_takes_proper_names_only(
    router_env: dict[str, str], database: Any, call_name: str, response_name: str
) -> None:
    worker = await asyncpg.connect(router_env["ROUTER_WORKER_DATABASE_URL"])
    try:
        with pytest.raises(asyncpg.InvalidNameError):
            await worker.execute("select fx.create_default_pair($1, $2)", call_name, response_name)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await worker.execute("create function fx.own() returns int language sql as 'select 1'")
    finally:
        await worker.close()


async def test_existing_mospay_functions_run_unchanged(
    stage: Stage, provider: Answering, database: Any
) -> None:
    """A pair as an older installation has it, named after the service; no `outcome` anywhere."""
    tag = new_id("x")[-8:]
    app_id, microservice = f"akaliza{tag}", f"mtn{tag}"
    name = f"{app_id}_{microservice}_collection"
    await create(
        database,
        name,
        "declare payload json; begin payload := json_build_array("
        "json_build_object('i', 4, 'v', data_input->>'f004'), "
        "json_build_object('i', 10, 'v', unique_id)); "
        "return query select json_build_object('status', '200', 'type', 'object', 'message', 'ok', "
        "'version', '1.0', 'action', 'SERVICE', 'command', 'collection', 'appName', "
        f"data_input->>'f003', 'serviceurl', '{provider.url}/legacy', 'servicepayload', payload); "
        "end",
    )
    await database.execute(
        f'create function fx."RESPONSE_{name}"(unique_id text, data_input json, code integer, '
        "data_output json) returns table (results json) language plpgsql as $$ begin "
        "return query select json_build_object('status', code::text, 'message', "
        "data_output->>'message', 'action', 'OUTPUT'); end $$"
    )
    provider.plays["payment"] = [lambda _: (200, {"message": "done"})]
    merchant = await stage.merchant(
        provider.url, app_id=app_id, microservice=microservice, connector={"final_on_2xx": True}
    )
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    assert provider.requests[-1][0] == "/legacy"
    versions = await database.fetch(
        "select name, origin from function_versions where name like $1 order by name",
        f"%{app_id}%",
    )
    assert {v["name"]: v["origin"] for v in versions} == {
        name: "existing",
        f"RESPONSE_{name}": "existing",
        f"{name}Status": "default",
        f"RESPONSE_{name}Status": "default",
    }


async def test_rule_08_2xx_of_a_legacy_function_without_outcome_is_unknown(
    stage: Stage, provider: Answering
) -> None:
    provider.plays["payment"] = [lambda _: (200, {"message": "done"})]
    provider.plays["enquiry"] = [lambda _: (200, {"message": "done"})]
    merchant = await stage.merchant(provider.url)
    row = await stage.ends(await stage.pay(merchant), "unknown")
    assert row["reason_code"] == "http_200_without_outcome"


async def test_name_that_is_too_long_is_refused_in_the_open(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url, app_id="a" * 40, microservice="m" * 20)
    row = await stage.ends(await stage.pay(merchant), "failed")
    assert row["reason_code"] == "functions_refused"
    assert "63" in row["reason_message"]
    page = (await stage.http.get("/metrics")).text
    assert "mospay_router_functions_refused 0.0" not in page


async def test_error_action_fails_unsent_with_its_reason(
    stage: Stage, provider: Answering, database: Any
) -> None:
    merchant = await stage.merchant(provider.url)
    name = f"{merchant.app_id}_{merchant.microservice}_payment"
    body = "begin results := json_build_object('action', 'ERROR', 'message', 'number barred'); "
    await create(database, name, body + "return next; end")
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "failed")
    assert (row["reason_code"], row["reason_message"]) == ("refused_by_function", "number barred")
    assert (row["version"], provider.seen(payment_id)) == (2, 0)
    (told,) = await stage.told(payment_id, 1)
    assert told["data"]["reason_message"] == "number barred"


async def test_output_without_outcome_never_posts_and_goes_to_a_person(
    stage: Stage, provider: Answering, database: Any
) -> None:
    provider.plays["enquiry"] = [lambda _: (200, {"outcome": "unknown"})]
    merchant = await stage.merchant(provider.url)
    name = f"{merchant.app_id}_{merchant.microservice}_payment"
    body = "begin results := json_build_object('action', 'OUTPUT', 'status', '200'); "
    await create(database, name, body + "return next; end")
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "unknown")
    assert row["attention"] == "output_without_outcome"
    assert provider.seen(payment_id) == 0


async def test_secrets_reach_only_functions_that_read_them_and_are_erased_at_the_end(
    stage: Stage, provider: Answering, database: Any
) -> None:
    merchant = await stage.merchant(provider.url)
    name = f"{merchant.app_id}_{merchant.microservice}_payment"
    await create(
        database,
        name,
        "begin results := json_build_object('action', 'SERVICE', 'serviceurl', "
        f"'{provider.url}/x', 'servicepayload', json_build_array("
        "json_build_object('i', 8, 'v', data_input->>'f008'), "
        "json_build_object('i', 10, 'v', unique_id))); return next; end",
    )
    stored: dict[str, Any] = {}

    async def look(reference: str) -> Any:
        stored["payment"] = dict(await stage.payment(reference) or {})
        stored["attempt"] = dict(await stage.attempt(reference))
        return success(reference)

    provider.plays["payment"] = [look]

    async def reads_them() -> bool:
        command = stage.command(merchant)
        sealed = stage.sealer.seal({"f007": "", "f008": "hunter2-pin"}, command.payment_id)
        payment_id = await stage.process(command.model_copy(update={"secrets": sealed}))
        row = await stage.ends(payment_id, "succeeded")
        assert row["secrets"] is None
        last = provider.requests[-1][3]
        return any(item["i"] == 8 and item["v"] == "hunter2-pin" for item in last)

    await until(reads_them)
    assert "hunter2-pin" not in repr(stored)
    assert b"hunter2-pin" not in stored["attempt"]["payload"]
    assert stored["attempt"]["payload_sealed"]
    gone = await stage.attempt(stored["payment"]["id"])
    assert gone["payload"] is None


async def test_secrets_that_do_not_open_fail_the_payment_unsent(
    stage: Stage, provider: Answering, database: Any
) -> None:
    merchant = await stage.merchant(provider.url)
    name = f"{merchant.app_id}_{merchant.microservice}_payment"
    body = "begin results := json_build_object('x', data_input->>'f007'); return next; end"
    await create(database, name, body)

    async def refused_so() -> bool:
        command = stage.command(merchant)
        sealed = stage.sealer.seal({"f007": "s"}, "another payment")
        payment_id = await stage.process(command.model_copy(update={"secrets": sealed}))
        return bool((await stage.ends(payment_id, "failed"))["reason_code"] == "secrets_unreadable")

    await until(refused_so)
