"""Settlements and payouts in the portal: who may, what the ledger hears, files as they come."""

from typing import Any

from mospay_shared.ids import new_id

from .conftest import Browser, Portal
from .house import at

DAY = {"local_day": "2026-11-20", "cut_off_at": "2026-11-20T22:00:00Z"}


def settlement(client_id: str) -> dict[str, Any]:
    """A settlement as the ledger shows it."""
    amounts = dict.fromkeys(
        ("fee_minor", "refund_minor", "adjustment_minor", "reserve_minor"), 0
    ) | {"gross_minor": 100, "net_minor": 100}
    return {
        "id": new_id("set"), "client_id": client_id, "mode": "test", "currency": "RWF", "part": 1,
        "time_zone": "UTC", "entry_id": "ent_1", "line_count": 1, "reserve_due_at": None,
        "reserve_released_at": None, "settled_at": at(), "terms_id": "t", **DAY, **amounts,
    }  # fmt: skip


def payout(client_id: str, **changes: Any) -> dict[str, Any]:
    """A payout as the ledger shows it."""
    return {
        "id": "po_1", "client_id": client_id, "mode": "test", "currency": "RWF",
        "amount_minor": 50, "destination": "bank", "status": "created", "version": 1,
        "created_by": "usr_a", "decided_by": None, "reference": None, "reason": None,
        "created_at": at(), "changed_at": at(), **changes,
    }  # fmt: skip


async def keyed(browser: Browser, body: dict[str, Any], key: str = "k1") -> Any:
    """Ask for a payout with an idempotency key."""
    headers = {"X-CSRF-Token": browser.csrf, "Idempotency-Key": key}
    return await browser.http.post("/bff/v1/payouts", json=body, headers=headers)


async def test_client_user_reads_their_own_and_the_ledger_hears_their_client(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    browser, client, _ = await portal.merchant(admin)
    await portal.house.up("ledger")
    one = settlement(client)
    portal.house.answers["settlements"] = {"items": [one], "next_cursor": None}
    portal.house.answers[f"settlements/{one['id']}"] = one | {"reversed_by": None}
    listed = (await browser.get("/settlements?mode=test&from=2026-11-01")).json()
    assert [row["id"] for row in listed["items"]] == [one["id"]]
    assert (await browser.get(f"/settlements/{one['id']}")).json()["net_minor"] == 100
    heard = [(path, caller.client_id, query) for _, path, caller, query in portal.house.calls]
    assert [client_id for _, client_id, _ in heard] == [client, client]
    assert heard[0][2]["from"] == "2026-11-01"
    assert heard[0][2]["client_id"] == client


async def test_files_pass_through_as_they_come_with_their_names(portal: Portal) -> None:
    admin = await portal.admin()
    browser, client, _ = await portal.merchant(admin)
    await portal.house.up("ledger")
    portal.house.answers["settlements/set_1/statement.csv"] = b"number\r\n1\r\n"
    portal.house.answers["statements.pdf"] = b"%PDF-1.7"
    got = await browser.get("/settlements/set_1/statement?format=csv")
    assert (got.status_code, got.content) == (200, b"number\r\n1\r\n")
    assert got.headers["content-disposition"] == 'attachment; filename="a.csv"'
    period = "mode=test&currency=RWF&from=2026-11-01&to=2026-11-30"
    assert (await browser.get(f"/statements?{period}")).content == b"%PDF-1.7"
    assert portal.house.calls[-1][3]["client_id"] == client
    missing = await admin.get("/settlements/set_2/statement?format=csv")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    await portal.house.down("ledger")
    assert (await admin.get("/settlements/set_1/statement")).status_code == 503


async def test_payout_is_asked_for_by_a_client_and_decided_on_by_the_operator(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    browser, client, _ = await portal.merchant(admin)
    await portal.house.up("ledger")
    portal.house.answers["payouts"] = payout(client)
    portal.house.answers["payouts/po_1/approve"] = payout(
        client, status="approved", version=2, decided_by="usr_b"
    )
    wanted = {"mode": "test", "currency": "RWF", "amount_minor": 50}
    assert (await browser.send("POST", "/payouts", wanted)).json()["code"] == (
        "idempotency_key_missing"
    )
    assert (await keyed(browser, wanted)).status_code == 201
    _, path, caller, _ = portal.house.calls[-1]
    me = (await browser.get("/session")).json()["user"]["id"]
    assert (path, caller.client_id, caller.actor) == ("/internal/v1/payouts", client, me)
    assert caller.scopes == {"payouts:create"}
    assert portal.house.sent[-1][2]["client_id"] == client
    decided = await browser.send("POST", "/payouts/po_1/approve", {"version": 1})
    assert (decided.status_code, decided.json()["permission"]) == (403, "payouts:decide")
    decided = await admin.send("POST", "/payouts/po_1/approve", {"version": 1})
    assert (decided.status_code, decided.json()["status"]) == (200, "approved")
    kept = await portal.rows(
        "select action from audit_log where subject = 'po_1' and actor is not null order by at"
    )
    assert [row["action"] for row in kept][-2:] == ["payout_created", "payout_approved"]


async def test_an_operator_names_the_client_and_a_viewer_changes_nothing(portal: Portal) -> None:
    admin, viewer = await portal.admin(), await portal.admin("viewer")
    _, client, _ = await portal.merchant(admin)
    await portal.house.up("ledger")
    portal.house.answers["payouts"] = payout(client)
    wanted = {"mode": "test", "currency": "RWF", "amount_minor": 50}
    refused = await keyed(admin, wanted)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "client_id")
    assert (await keyed(admin, wanted | {"client_id": client})).status_code == 201
    assert portal.house.calls[-1][2].operator
    for path, body in {
        "/payouts/po_1/approve": {"version": 1},
        "/settlement-terms": {"mode": "test", "hold_days": 1},
        "/settlements/run": {"mode": "test"},
    }.items():
        assert (await viewer.send("POST", path, body)).status_code == 403, path
    assert (await keyed(viewer, wanted | {"client_id": client})).status_code == 403


async def test_terms_and_runs_are_passed_on_and_written_down(portal: Portal) -> None:
    admin = await portal.admin()
    await portal.house.up("ledger")
    terms = {"mode": "test", "hold_days": 2, "cut_off": "18:00"}
    portal.house.answers["POST settlement-terms"] = {
        **terms, "id": "trm_1", "created_by": "usr_a", "effective_from": at(),
    }  # fmt: skip
    portal.house.answers["settlements/run"] = {
        "as_of": at(), "looked_at": 0, "settlements": [], "reserves_released": 0, "failed": [],
        "next_cursor": None,
    }  # fmt: skip
    assert (await admin.send("POST", "/settlement-terms", terms)).json()["id"] == "trm_1"
    run = await admin.send("POST", "/settlements/run", {"mode": "test", "as_of": at()})
    assert (run.status_code, run.json()["looked_at"]) == (200, 0)
    kept = await portal.rows("select action from audit_log where action like 'settlement%'")
    assert {row["action"] for row in kept} >= {"settlement_terms_added", "settlements_run"}
