"""The journal in the portal: who sees which books, as of when, and two people for a reversal."""

from typing import Any

from aiohttp import web

from .conftest import Portal
from .house import at

THEN = "2026-11-21T08:00:00.123456Z"
ENTRY: dict[str, Any] = {
    "entry_id": "ent_1", "kind": "capture", "client_id": "cli_1", "mode": "test",
    "posted_at": THEN, "occurred_at": THEN, "currency": "RWF", "amount_minor": 1500,
    "fee_minor": 30, "fee_plan_id": "default_test", "fee_plan_version": 1, "fee_tier": None,
    "fee_returned_minor": 0, "late": False, "resolved": False, "payment_id": "pay_1",
    "attempt_id": None, "refund_id": None, "provider_reference": None, "reverses": None,
    "reason": None,
    "postings": [
        {"account": "client:cli_1:RWF:test:pending", "amount_minor": -1470, "previous_minor": 0,
         "balance_minor": -1470, "account_version": 1},
    ],
}  # fmt: skip
REVERSAL: dict[str, Any] = {
    "id": "rev_1", "entry_id": "ent_1", "entry_kind": "capture", "client_id": "cli_1",
    "mode": "test", "currency": "RWF", "amount_minor": 1500, "kind": "reversal",
    "reason": "wrong merchant", "state": "open", "proposed_by": "usr_a", "proposed_at": at(-3),
    "decided_by": None, "decided_at": None, "reversal_entry_id": None,
}  # fmt: skip
APPROVED = REVERSAL | {
    "state": "approved", "decided_by": "usr_b", "decided_at": at(), "reversal_entry_id": "ent_2",
}  # fmt: skip
NOON = "2026-11-21T12:00:00%2B02:00"
NOON_UTC = "2026-11-21T10:00:00+00:00"


async def test_filters_reach_the_ledger_and_a_client_user_is_heard_as_their_client(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    browser, client, _ = await portal.merchant(admin)
    await portal.house.up("ledger")
    portal.house.answers["entries"] = {"items": [ENTRY], "next_cursor": "ent_1"}
    portal.house.answers["entries/ent_1"] = ENTRY | {"reversed_by": None}
    path = f"/journal-entries?mode=test&kind=capture&payment_id=pay_1&from={NOON}&limit=1"
    page = (await browser.get(path)).json()
    assert (page["items"], page["next_cursor"]) == ([ENTRY], "ent_1")
    _, asked, caller, query = portal.house.calls[-1]
    assert (asked, caller.client_id, caller.mode) == ("/internal/v1/entries", client, "test")
    assert query == {
        "mode": "test", "client_id": client, "kind": "capture", "payment_id": "pay_1",
        "from": NOON_UTC, "limit": "1",
    }  # fmt: skip
    assert (await browser.get("/journal-entries/ent_1")).json()["reversed_by"] is None
    assert portal.house.calls[-1][2].client_id == client
    assert (await browser.get("/journal-entries/ent_2")).status_code == 404
    assert (await admin.get("/journal-entries?mode=live")).status_code == 200
    _, _, caller, query = portal.house.calls[-1]
    assert (caller.operator, query) == (True, {"mode": "live", "limit": "50"})


async def test_balances_are_a_clients_own_as_of_any_instant(portal: Portal) -> None:
    admin = await portal.admin()
    browser, client, _ = await portal.merchant(admin)
    await portal.house.up("ledger")
    account = {
        "account": f"client:{client}:RWF:test:pending", "kind": "pending", "client_id": client,
        "currency": "RWF", "mode": "test", "balance_minor": -1470, "version": 1,
    }  # fmt: skip
    holding = {
        "currency": "RWF", "mode": "test", "pending_minor": 1470, "available_minor": 0,
        "held_minor": 0, "debt_minor": 0, "balance_minor": 1470, "refund_due_minor": 0,
    }  # fmt: skip
    portal.house.answers["balances"] = {
        "as_of": at(), "balances": [account], "holdings": [holding],
    }  # fmt: skip
    found = (await browser.get(f"/balances?mode=test&as_of={NOON}")).json()
    assert (found["balances"], found["holdings"]) == ([account], [holding])
    _, _, caller, query = portal.house.calls[-1]
    assert caller.client_id == client
    assert query == {"client_id": client, "mode": "test", "at": NOON_UTC}
    nobody = await admin.get("/balances?mode=test")
    assert (nobody.status_code, nobody.json()["errors"][0]["field"]) == (422, "client_id")
    assert (await admin.get(f"/balances?mode=test&client_id={client}")).status_code == 200
    assert (await admin.get("/balances?mode=test&client_id=cli_none")).status_code == 404


async def test_the_whole_books_are_for_the_operator(portal: Portal) -> None:
    viewer = await portal.admin(role="viewer")
    browser, _, _ = await portal.merchant(await portal.admin())
    await portal.house.up("ledger")
    assert (await viewer.get("/trial-balance?mode=live")).json()["balanced"] is True
    assert portal.house.calls[-1][3] == {"mode": "live"}
    assert (await viewer.get(f"/trial-balance?mode=live&as_of={NOON}")).status_code == 200
    assert portal.house.calls[-1][3] == {"mode": "live", "at": NOON_UTC}
    whole = {
        "whole": False, "first_block": 1, "last_block": 500, "entries": 9, "next_block": 501,
        "fault": {"block_id": 7, "entry_id": "ent_1", "what": "entry_changed"},
        "head_hash": None,
    }  # fmt: skip
    portal.house.answers["verify"] = whole
    assert (await viewer.get("/journal/verify?from=2")).json() == whole
    assert portal.house.calls[-1][3] == {"from": "2"}
    for path in ("/trial-balance?mode=live", "/journal/verify", "/reversals?mode=test"):
        answer = await browser.get(path)
        assert (answer.status_code, answer.json()["permission"]) == (403, "ledger:read"), path


async def test_two_sessions_take_an_entry_back_and_neither_names_the_other(
    portal: Portal,
) -> None:
    maker, checker = await portal.admin(), await portal.admin()
    first, second = [
        (await browser.get("/session")).json()["user"]["id"] for browser in (maker, checker)
    ]
    await portal.house.up("ledger")
    portal.house.answers["POST entries/ent_1/reversals"] = REVERSAL | {"proposed_by": first}
    portal.house.answers["POST reversals/rev_1/approve"] = APPROVED | {"decided_by": second}
    portal.house.answers["reversals"] = {"items": [REVERSAL], "next_cursor": None}
    words = {"kind": "reversal", "reason": "wrong merchant"}
    named = await maker.send(
        "POST", "/journal-entries/ent_1/reversals", words | {"approved_by": second}
    )
    assert (named.status_code, named.json()["errors"][0]["field"]) == (422, "approved_by")
    made = await maker.send("POST", "/journal-entries/ent_1/reversals", words)
    assert (made.status_code, made.json()["state"]) == (201, "open"), made.text
    assert (portal.house.calls[-1][2].actor, portal.house.sent[-1][2]) == (first, words)
    listed = (await checker.get("/reversals?mode=test&state=open&entry_id=ent_1")).json()
    assert [one["id"] for one in listed["items"]] == ["rev_1"]
    done = await checker.send("POST", "/reversals/rev_1/approve")
    assert (done.status_code, done.json()["reversal_entry_id"]) == (200, "ent_2"), done.text
    _, path, caller, _ = portal.house.calls[-1]
    assert (path, caller.actor, caller.scopes) == (
        "/internal/v1/reversals/rev_1/approve", second, {"ledger:write"},
    )  # fmt: skip
    kept = await portal.rows(
        "select action, actor from audit_log where subject = 'ent_1' and actor = any($1) "
        "order by at",
        [first, second],
    )
    assert [(row["action"], row["actor"]) for row in kept] == [
        ("reversal_proposed", first), ("reversal_approved", second),
    ]  # fmt: skip


async def test_a_refused_approval_says_why_and_is_not_written_down(portal: Portal) -> None:
    admin = await portal.admin()
    me = (await admin.get("/session")).json()["user"]["id"]
    await portal.house.up("ledger")
    why = "second_person: who approves must be another than who proposed"
    portal.house.answers["POST reversals/rev_1/approve"] = web.json_response(
        {"code": "second_person", "title": "The ledger refuses", "detail": why}, status=422
    )
    answer = await admin.send("POST", "/reversals/rev_1/approve")
    assert (answer.status_code, answer.json()["code"]) == (422, "second_person")
    assert answer.json()["detail"] == why
    missing = await admin.send("POST", "/reversals/rev_2/reject")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert not await portal.rows(
        "select 1 from audit_log where action like 'reversal%' and actor = $1", me
    )


async def test_viewers_and_merchants_take_nothing_back(portal: Portal) -> None:
    admin, viewer = await portal.admin(), await portal.admin(role="viewer")
    merchant, _, _ = await portal.merchant(admin)
    await portal.house.up("ledger")
    words = {"kind": "reversal", "reason": "mine"}
    for browser in (viewer, merchant):
        for path, body in (
            ("/journal-entries/ent_1/reversals", words),
            ("/reversals/rev_1/approve", None),
            ("/reversals/rev_1/reject", None),
        ):
            answer = await browser.send("POST", path, body)
            assert (answer.status_code, answer.json()["permission"]) == (403, "ledger:write")
    assert portal.house.sent == []


async def test_the_journal_without_the_ledger_says_who_is_away(portal: Portal) -> None:
    browser, _, _ = await portal.merchant(await portal.admin())
    for path in ("/journal-entries?mode=test", "/journal-entries/ent_1", "/balances?mode=test"):
        answer = await browser.get(path)
        assert answer.status_code == 503, path
        assert "ledger" in answer.json()["title"] and answer.headers["retry-after"]
