"""What a version may not do, whatever its body says: tables, sources, writes, time, the network.

Each body runs as it would for a payment: installed by `fx.install_version`, called by the
dispatcher, in the pool of the function role.
"""

import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_shared.ids import new_id

RUN = "mospay_router_run"
DENIED = "42501"
# What a body tries, and the SQLSTATE that ends it.
TRIES = {
    "payments": ("results := (select to_json(p) from public.payments p limit 1);", DENIED),
    "versions": ("results := (select to_json(v) from public.function_versions v limit 1);", DENIED),
    "directory": ("perform 1 from public.directory_entity;", DENIED),
    "passwords": ("perform 1 from pg_authid;", DENIED),
    "shadow": ("perform 1 from pg_shadow;", DENIED),
    "statistics": ("perform stavalues1 from pg_statistic;", DENIED),
    "sources": ("perform prosrc from pg_proc limit 1;", DENIED),
    "whole rows of pg_proc": ("perform p from pg_proc p limit 1;", DENIED),
    "definitions": ("perform pg_get_functiondef('fx.call(text[],text[],text[])'::regprocedure);",
                    DENIED),
    "routines": ("perform routine_definition from information_schema.routines;", DENIED),
    "another function": ('perform x.results from fx."{other}"(unique_id, data_input) x;', DENIED),
    "a default function": ('perform x.results from fx."{plain}"(unique_id, data_input) x;', DENIED),
    "the dispatcher": ("perform fx.call(array['a'], array['b'], array['{{}}']);", DENIED),
    "the maker": ("perform fx.install_version('a_b_c@v1', array['a','b'], 'sql', 'stable', false, "
                  "'select 1');", DENIED),
    "default pairs": ("perform fx.create_default_pair('a_b_c', 'RESPONSE_a_b_c');", DENIED),
    "a table": ("execute 'create table fx.t (x int)';", "25006"),
    "a temporary table": ("execute 'create temp table t (x int)';", None),
    "a function": ("execute 'create function fx.f() returns int language sql as ''select 1''';",
                   "25006"),
    "a grant": ('execute \'grant execute on function fx."{other}"(text, json) to ' + RUN + "';",
                "25006"),
    "its own rights": ('execute \'alter function fx."{own}"(text, json) reset all\';', "25006"),
    "a role": ("execute 'create role thief';", None),
    "another role": ("execute 'set role mospay_router_owner';", DENIED),
    "no role": ("execute 'reset role';", DENIED),
    "another session": ("execute 'set session authorization mospay_router_owner';", DENIED),
    "writing": ("execute 'set transaction read write';", "25001"),
    "a commit": ("commit;", "2D000"),
    "a program": ("execute 'copy (select 1) to program ''id''';", DENIED),
    "a file": ("perform pg_read_file('/etc/passwd');", DENIED),
    "a directory": ("perform pg_ls_dir('.');", DENIED),
    "copying a file": ("execute 'copy fx.t from ''/etc/passwd''';", None),
    "a large object's file": ("perform lo_import('/etc/passwd');", DENIED),
    "dblink": ("execute 'create extension dblink';", "25006"),
    "a library": ("execute 'load ''plpgsql''';", DENIED),
    "a server": ("execute 'create server s foreign data wrapper w';", None),
    "ending others": ("perform pg_terminate_backend({pid});", DENIED),
    "cancelling others": ("perform pg_cancel_backend({pid});", DENIED),
    "settings of the server": ("perform pg_reload_conf();", DENIED),
    "a superuser's setting": ("perform set_config('log_statement', 'none', false);", DENIED),
}  # fmt: skip


@pytest.fixture
async def database(router_env: dict[str, str], owner_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def worker(router_env: dict[str, str]) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(router_env["ROUTER_WORKER_DATABASE_URL"])
    yield connection
    await connection.close()


@pytest.fixture
async def functions(router_env: dict[str, str]) -> AsyncIterator[Functions]:
    made = Functions(router_env["ROUTER_FUNCTION_DATABASE_URL"], "test", 2, 0.5)
    await made.open()
    yield made
    await made.close()


async def install(worker: Any, body: str, name: str = "", language: str = "plpgsql") -> str:
    """Install a version as the router does; return its name."""
    name = name or f"shop_{new_id('x')}_y@v2"
    arguments = ["unique_id", "data_input"]
    sql = "select fx.install_version($1, $2, $3, 'volatile', false, $4)"
    await worker.execute(sql, name, arguments, language, body)
    return name


def does(what: str) -> str:
    """A body that does something and then answers as if nothing had been."""
    return "begin " + what + " results := coalesce(results, '{}'); return next; end"


async def run(functions: Functions, *names: str) -> list[Any]:
    """Run functions; return their rows."""
    return await functions.run([FunctionCall("u", name, "{}") for name in names])


@pytest.mark.parametrize("what", TRIES)
async def test_version_is_denied(
    functions: Functions, worker: Any, database: Any, what: str
) -> None:
    body, sqlstate = TRIES[what]
    plain, own = f"a_{new_id('x')}_y", f"shop_{new_id('x')}_y@v2"
    await worker.execute("select fx.create_default_pair($1, $2)", plain, f"RESPONSE_{plain}")
    other = await install(worker, does(""))
    pid = await worker.fetchval("select pg_backend_pid()")
    body = body.replace("{{", "{").replace("}}", "}")
    for mark, value in (("other", other), ("plain", plain), ("pid", str(pid)), ("own", own)):
        body = body.replace("{" + mark + "}", value)
    await install(worker, does(body), own)
    bad, fine = await run(functions, own, other)
    assert bad.sqlstate is not None and bad.results is None, bad
    assert sqlstate in (None, bad.sqlstate), bad
    assert fine.sqlstate is None


async def test_version_has_no_right_to_call_anothers(functions: Functions, worker: Any) -> None:
    other = await install(worker, does(""))
    asks = does(
        "results := json_build_object('user', current_user, 'may', "
        f"has_function_privilege('fx.\"{other}\"(text, json)', 'execute'), 'makes', "
        "has_database_privilege(current_database(), 'temp'));"
    )
    (row,) = await run(functions, await install(worker, asks))
    assert row.sqlstate is None, row
    assert orjson.loads(row.results or "") == {
        "user": RUN, "may": False, "makes": False,
    }  # fmt: skip


async def test_version_does_not_see_what_others_run(functions: Functions, worker: Any) -> None:
    asks = does(
        "results := (select json_agg(query) from pg_stat_activity where query is not null "
        "and query not in ('', '<insufficient privilege>'));"
    )
    (row,) = await run(functions, await install(worker, asks))
    assert row.results == "{}"


@pytest.mark.parametrize(
    "body",
    [
        "begin loop perform 1; end loop; end",
        "begin perform pg_sleep(30); return next; end",
        "begin perform set_config('statement_timeout', '0', true); perform pg_sleep(30); end",
        "begin loop begin perform pg_sleep(5); exception when query_canceled then null; end; "
        "end loop; end",
        "begin perform count(*) from generate_series(1, 1000000000); return next; end",
    ],
)
async def test_version_does_not_outlast_its_time(
    functions: Functions, worker: Any, body: str
) -> None:
    bad, fine = await install(worker, body), await install(worker, does(""))
    started = time.monotonic()
    rows = await run(functions, fine, bad, fine)
    assert [row.sqlstate for row in rows] == [None, "57014", None]
    assert time.monotonic() - started < 20


async def test_nothing_a_version_does_is_there_for_the_next_one(
    router_env: dict[str, str], worker: Any, database: Any
) -> None:
    leaves = does(
        "perform set_config('shop.memory', 'kept', false);"
        "perform set_config('search_path', 'public', false);"
        "perform set_config('role', 'none', false);"
    )
    keeps = does(
        "perform set_config('shop.memory', 'kept', false);"
        "perform set_config('search_path', 'public', false);"
        "perform pg_advisory_lock(4711); perform pg_notify('shop', 'x');"
        "execute 'prepare kept as select 1';"
    )
    asks = does(
        "results := json_build_object('memory', current_setting('shop.memory', true), "
        "'path', current_setting('search_path'), 'prepared', "
        "(select count(*) from pg_prepared_statements where from_sql), 'locks', "
        "(select count(*) from pg_locks where locktype = 'advisory' and objid = 4711));"
    )
    url = router_env["ROUTER_FUNCTION_DATABASE_URL"]
    functions = Functions(url, "test", 1, 0.5)  # one connection: whatever is kept is met again
    await functions.open()
    try:
        (denied,) = await run(functions, await install(worker, leaves))
        assert denied.sqlstate == DENIED
        (kept,) = await run(functions, await install(worker, keeps))
        assert kept.sqlstate is None, kept
        (row,) = await run(functions, await install(worker, asks))
    finally:
        await functions.close()
    found = orjson.loads(row.results or "")
    assert found["memory"] in (None, "")
    assert (found["path"], found["prepared"], found["locks"]) == ("fx, pg_temp", 0, 0)


async def test_settings_of_one_clients_function_do_not_reach_the_next_row(
    functions: Functions, worker: Any
) -> None:
    """Both rows are of one batch, in one transaction."""
    sly = await install(
        worker,
        does(
            "perform set_config('timezone', 'Asia/Tokyo', false);"
            "perform set_config('datestyle', 'German', true);"
            "perform set_config('search_path', 'pg_catalog', false);"
            "perform set_config('shop.memory', 'kept', false);"
        ),
    )
    asks = does(
        "results := json_build_array(current_setting('timezone'), current_setting('datestyle'), "
        "current_setting('search_path'), coalesce(current_setting('shop.memory', true), ''));"
    )
    honest = await install(worker, asks)
    (alone,) = await run(functions, honest)
    first, after = await run(functions, sly, honest)
    assert first.sqlstate is None and first.results == "{}"
    assert after.results == alone.results
    assert orjson.loads(after.results or "")[2:] == ["fx, pg_temp", ""]


async def test_function_can_not_pass_for_the_dispatcher(functions: Functions, worker: Any) -> None:
    body = "begin results := '{}'; return next; raise exception sqlstate 'MP001'; end"
    (row,) = await run(functions, await install(worker, body))
    assert row.results is None


async def test_large_object_of_a_version_does_not_stay(functions: Functions, worker: Any,
                                                       database: Any) -> None:  # fmt: skip
    before = await database.fetchval("select count(*) from pg_largeobject_metadata")
    await run(functions, await install(worker, does("perform lo_create(0);")))
    assert await database.fetchval("select count(*) from pg_largeobject_metadata") == before


@pytest.mark.parametrize(
    "parts",
    [
        ("shop_a_b", ["a", "b"], "plpgsql", "volatile", "begin end"),  # no version's name
        ('x"@v2', ["a", "b"], "plpgsql", "volatile", "begin end"),
        ("shop_a_b@v2; drop schema fx", ["a", "b"], "plpgsql", "volatile", "begin end"),
        ("shop_a_b@v2", ["a"], "plpgsql", "volatile", "begin end"),
        ("shop_a_b@v2", ["a", "b", "c"], "plpgsql", "volatile", "begin end"),
        ("shop_a_b@v2", ["a", "a"], "plpgsql", "volatile", "begin end"),
        ("shop_a_b@v2", ["a", "b"], "internal", "volatile", "pg_sleep"),
        ("shop_a_b@v2", ["a", "b"], "c", "volatile", "x"),
        ("shop_a_b@v2", ["a", "b"], "plpgsql", "security definer", "begin end"),
        ("shop_a_b@v2", ["a", "b"], "plpgsql", "volatile", "begin oops end"),
        ("shop_a_b@v2", ["a", "b"], "sql", "volatile", "select * from public.payments"),
        ("a" * 62 + "@v2", ["a", "b"], "plpgsql", "volatile", "begin end"),
    ],
)
async def test_maker_takes_parts_of_provider_functions_only(
    worker: Any, database: Any, parts: tuple[Any, ...]
) -> None:
    name, arguments, language, volatility, body = parts
    before = await database.fetchval("select count(*) from pg_proc")
    with pytest.raises(asyncpg.PostgresError):
        await worker.execute(
            "select fx.install_version($1, $2, $3, $4, false, $5)",
            *(name, arguments, language, volatility, body),
        )
    assert await database.fetchval("select count(*) from pg_proc") == before


async def test_names_and_bodies_are_quoted_by_the_database(
    functions: Functions, worker: Any
) -> None:
    name = f"shop_{new_id('x')}_y@v2"
    body = "begin results := json_build_object('x', '$_$ $body$ %s %I '' \" '); return next; end"
    sql = "select fx.install_version($1, $2, 'plpgsql', 'volatile', false, $3)"
    await worker.execute(sql, name, ['a"b', "select"], body)
    (row,) = await run(functions, name)
    assert orjson.loads(row.results or "") == {"x": "$_$ $body$ %s %I ' \" "}


async def test_version_that_is_there_is_never_replaced(worker: Any) -> None:
    name = await install(worker, does(""))
    with pytest.raises(asyncpg.DuplicateFunctionError):
        await install(worker, "begin return; end", name)


async def test_functions_made_by_hand_are_not_for_everybody(
    worker: Any, database: Any, functions: Functions
) -> None:
    name = f"hand_{new_id('x')}_y"
    await database.execute(
        f'set role mospay_router_fx; create function fx."{name}"(unique_id text, data_input json) '
        "returns table (results json) language sql as $$ select '{}'::json $$; reset role"
    )
    caller = await install(
        worker, does(f'perform x.results from fx."{name}"(unique_id, data_input) x;')
    )
    hand, nested = await run(functions, name, caller)
    assert hand.sqlstate is None and nested.sqlstate == DENIED
    grant = f'grant execute on function fx."{name}"(text, json) to {RUN}'
    await database.execute(f"set role mospay_router_fx; {grant}; reset role")
    (nested,) = await run(functions, caller)
    assert nested.sqlstate is None


@pytest.mark.parametrize("role", ["APP_DATABASE", "FUNCTION_DATABASE", "WORKER_DATABASE"])
async def test_only_the_worker_makes_versions_and_nobody_takes_the_role(
    router_env: dict[str, str], role: str
) -> None:
    url = router_env[f"ROUTER_{role}_URL".replace("APP_", "")]
    connection = await asyncpg.connect(url)
    try:
        for statement in (f"set role {RUN}", "set role mospay_router_fx"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        if role != "WORKER_DATABASE":
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await install(connection, "begin end")
    finally:
        await connection.close()
