"""Fee plans in the portal: who may, what the ledger is told, what the audit log keeps."""

from typing import Any

import pytest
from aiohttp import web

from .conftest import Portal
from .house import at

TERMS: dict[str, Any] = {
    "mode": "test", "client_id": None, "service_id": None, "currency": "RWF", "basis_points": 0,
    "fixed_minor": 0, "min_minor": 20, "max_minor": None,
    "tiers": [{"from_minor": 0, "basis_points": 250, "fixed_minor": 0}], "fee_on_refund": "keep",
}  # fmt: skip
PLAN = {
    **TERMS, "id": "plan_1", "version": 1, "effective_from": at(), "effective_until": None,
    "created_by": "usr_a",
}  # fmt: skip
SIMULATION = {
    "since": at(-9), "until": at(), "text": ["would have cost 1 RWF instead of 2 RWF"],
    "currencies": [
        {
            "currency": "RWF", "payments": 1, "amount_minor": 100, "charged_minor": 2,
            "would_have_cost_minor": 1, "difference_minor": -1,
            "tiers": [{"tier": 1, "payments": 1, "amount_minor": 100, "fee_minor": 1}],
        }
    ],
}  # fmt: skip


async def test_a_plan_is_put_in_force_in_the_name_of_a_person_and_written_down(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    me = (await admin.get("/session")).json()["user"]["id"]
    await portal.house.up("ledger")
    portal.house.answers["POST fee-plans"] = PLAN | {"client_id": client}
    body = {
        "mode": "test", "client_id": client, "currency": "RWF", "tiers": TERMS["tiers"],
        "min_minor": 20, "effective_from": "2999-01-01T00:00:00+02:00",
    }  # fmt: skip
    made = await admin.send("POST", "/fee-plans", body)
    assert (made.status_code, made.json()["client_id"]) == (201, client), made.text
    _, path, caller, _ = portal.house.calls[-1]
    assert (path, caller.actor, caller.operator) == ("/internal/v1/fee-plans", me, True)
    assert caller.scopes == {"ledger:write"}
    sent = portal.house.sent[-1][2]
    assert {key: sent[key] for key in body} == body
    (kept,) = await portal.rows(
        "select actor, after from audit_log where action = 'fee_plan_added' and actor = $1", me
    )
    assert kept["after"] == sent


async def test_plans_are_listed_and_simulated_by_whoever_reads_the_books(portal: Portal) -> None:
    viewer = await portal.admin(role="viewer")
    await portal.house.up("ledger")
    portal.house.answers["GET fee-plans"] = {"items": [PLAN], "next_cursor": "plan_1@1"}
    portal.house.answers["fee-plans/simulate"] = SIMULATION
    page = (await viewer.get("/fee-plans?mode=test&client_id=cli_x&limit=1")).json()
    assert ([one["id"] for one in page["items"]], page["next_cursor"]) == (["plan_1"], "plan_1@1")
    assert portal.house.calls[-1][3] == {"mode": "test", "client_id": "cli_x", "limit": "1"}
    told = await viewer.send("POST", "/fee-plans/simulate", TERMS)
    assert (told.status_code, told.json()["currencies"]) == (200, SIMULATION["currencies"])
    assert portal.house.calls[-1][2].scopes == {"ledger:read"}
    assert portal.house.sent[-1][2] == TERMS
    refused = await viewer.send("POST", "/fee-plans", TERMS)
    assert (refused.status_code, refused.json()["permission"]) == (403, "ledger:write")


async def test_client_users_have_no_fee_plans(portal: Portal) -> None:
    browser, _, _ = await portal.merchant(await portal.admin())
    await portal.house.up("ledger")
    for answer in (
        await browser.get("/fee-plans?mode=test"),
        await browser.send("POST", "/fee-plans", TERMS),
        await browser.send("POST", "/fee-plans/simulate", TERMS),
    ):
        assert answer.status_code == 403
    assert portal.house.calls == []


async def test_a_plan_for_a_client_or_service_that_is_not_there_is_refused_by_name(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    await portal.house.up("ledger")
    body = TERMS | {"client_id": "cli_gone", "service_id": "svc_gone"}
    for path in ("/fee-plans", "/fee-plans/simulate"):
        answer = await admin.send("POST", path, body)
        assert answer.status_code == 422
        faults = [(fault["field"], fault["code"]) for fault in answer.json()["errors"]]
        assert faults == [("client_id", "unknown"), ("service_id", "unknown")]
    assert portal.house.sent == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"mode": "demo"}, "mode"),
        ({"basis_points": 10_001}, "basis_points"),
        ({"tiers": [{"from_minor": -1, "basis_points": 1}]}, "tiers.0.from_minor"),
        ({"tiers": [{"from_minor": 0, "basis_points": 1}] * 21}, "tiers"),
        ({"fee_on_refund": "half"}, "fee_on_refund"),
        ({"currency": "XXQ"}, "currency"),
        ({"effective_from": "2999-01-01T00:00:00"}, "effective_from"),
        ({"created_by": "usr_b"}, "created_by"),
        ({"id": "a b"}, "id"),
    ],
)
async def test_bad_plan_is_refused_by_its_field(
    portal: Portal, changes: dict[str, Any], field: str
) -> None:
    admin = await portal.admin()
    answer = await admin.send("POST", "/fee-plans", TERMS | changes)
    assert answer.status_code == 422, answer.text
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_what_the_ledger_refuses_is_passed_on_with_its_field_and_not_written_down(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    me = (await admin.get("/session")).json()["user"]["id"]
    await portal.house.up("ledger")
    fault = {"field": "effective_from", "code": "invalid", "message": "a plan starts now or later"}
    portal.house.answers["POST fee-plans"] = web.json_response(
        {"code": "fee_plan_invalid", "title": "The fee plan is not valid", "errors": [fault]},
        status=422,
    )
    answer = await admin.send("POST", "/fee-plans", TERMS)
    assert (answer.status_code, answer.json()["code"]) == (422, "fee_plan_invalid")
    assert answer.json()["errors"] == [fault]
    assert not await portal.rows(
        "select 1 from audit_log where action = 'fee_plan_added' and actor = $1", me
    )
    await portal.house.down("ledger")
    assert (await admin.send("POST", "/fee-plans", TERMS)).status_code == 503
