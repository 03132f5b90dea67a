"""What people do about exceptions of reconciliation: one or two of them, once, over HTTP."""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from mospay_ledger import workers
from mospay_ledger.domain.reconciliation import NotNow, SecondPersonNeeded
from mospay_ledger.domain.statement_mappings import PRESETS
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import exceptions as stored_exceptions
from mospay_ledger.usecases import resolving
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from .reconciling_desk import (
    HEADER,
    Row,
    balance,
    book,
    exceptions,
    http_of,
    line,
    one_exception,
    resolve,
    rows,
    take,
    token,
    told,
    unbalanced,
    work,
)


@pytest.fixture
async def http(quiet: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP side of a ledger whose workers do not run."""
    async with http_of(quiet) as client:
        yield client


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
