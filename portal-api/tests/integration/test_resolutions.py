"""Two people end a refund or a payment: who may, what is kept, what the router is told."""

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest
from mospay_shared.contracts import MESSAGES
from mospay_shared.ids import new_id

from .conftest import Browser, Portal
from .house import at, payment_row

SAID = {
    "outcome": "failed",
    "reason": "The statement has no such refund",
    "evidence": "Statement of 21 November, lines 1 to 90",
    "version": 2,
}


async def unknown(portal: Portal, **changes: Any) -> dict[str, Any]:
    """A refund that the router knows as unknown."""
    if "payment-router" not in portal.house._runners:
        await portal.house.up("payment-router", "reporter")
    row: dict[str, Any] = {
        "id": new_id("ref"), "payment_id": new_id("pay"), "client_id": new_id("cli"),
        "mode": "test", "amount_minor": 500, "currency": "RWF", "status": "unknown", "version": 2,
        "late": False, "over_refund": False, "resolved": False, "provider_reference": None,
        "reason": "returned goods", "reason_code": None, "reason_message": None,
        "attention": "unresolved", "attempt_state": "unknown", "enquiries": 31,
        "requested_at": at(-90_000), "updated_at": at(-60),
    } | changes  # fmt: skip
    portal.house.answers[f"refunds/{row['id']}"] = row
    return row


async def me(browser: Browser) -> str:
    """The user's id."""
    return str((await browser.get("/session")).json()["user"]["id"])


async def proposed(browser: Browser, refund: dict[str, Any], **changes: Any) -> str:
    """Propose an end and return the path to decide on it."""
    path = f"/refunds/{refund['id']}/resolutions"
    answer = await browser.send("POST", path, SAID | changes)
    assert answer.status_code == 201, answer.text
    return f"{path}/{answer.json()['id']}"


async def told(portal: Portal, refund: dict[str, Any]) -> list[dict[str, Any]]:
    """What was written for the router about a refund's payment."""
    rows = await portal.rows("select * from outbox where subject = $1", refund["payment_id"])
    for row in rows:
        assert row["type"] == "refunds.resolve.v1"
    return [orjson.loads(row["body"])["data"] for row in rows]


async def audited(portal: Portal, subject: str) -> list[Any]:
    return await portal.rows(
        "select action, actor, before, after from audit_log where subject = $1 order by at", subject
    )


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
async def test_what_two_people_say_of_a_refund_goes_to_the_router_and_is_written_down(
    portal: Portal, outcome: str
) -> None:
    first, second, refund = await portal.admin(), await portal.admin(), await unknown(portal)
    path = await proposed(first, refund, outcome=outcome)
    assert await told(portal, refund) == [], "one person moves nothing"
    answer = await second.send("POST", f"{path}/approve")
    assert (answer.status_code, answer.json()["state"]) == (200, "approved"), answer.text
    (data,) = await told(portal, refund)
    MESSAGES["refunds.resolve.v1"].model.model_validate(data)
    named = {name: data[name] for name in ("refund_id", "payment_id", "client_id", "mode")}
    assert named == {
        "refund_id": refund["id"],
        **{name: refund[name] for name in ("payment_id", "client_id", "mode")},
    }
    assert {name: data[name] for name in SAID} == SAID | {"outcome": outcome}
    assert (data["proposed_by"], data["approved_by"]) == (await me(first), await me(second))
    one, two = await audited(portal, refund["id"])
    assert (one["action"], one["actor"]) == ("refund_resolution_proposed", await me(first))
    assert (two["action"], two["actor"]) == ("refund_resolution_approved", await me(second))
    assert (two["before"]["state"], two["after"]["state"]) == ("open", "approved")
    assert two["before"]["decided_by"] is None


async def test_who_proposed_an_end_can_not_approve_it(portal: Portal) -> None:
    first, refund = await portal.admin(), await unknown(portal)
    path = await proposed(first, refund)
    answer = await first.send("POST", f"{path}/approve")
    assert answer.status_code == 422
    fault = answer.json()["errors"][0]
    assert (fault["field"], fault["code"]) == ("approved_by", "same_person")
    assert await told(portal, refund) == []
    with pytest.raises(asyncpg.CheckViolationError):
        await portal.rows(
            "update refund_resolutions set state = 'approved', decided_by = proposed_by"
            " where refund_id = $1 returning 1", refund["id"],
        )  # fmt: skip


async def test_a_rejected_end_tells_nobody_and_another_may_be_proposed(portal: Portal) -> None:
    first, second, refund = await portal.admin(), await portal.admin(), await unknown(portal)
    path = await proposed(first, refund)
    again = await second.send("POST", f"/refunds/{refund['id']}/resolutions", SAID)
    assert (again.status_code, again.json()["code"]) == (409, "conflict"), "one is open"
    assert (await second.send("POST", f"{path}/reject")).json()["state"] == "rejected"
    assert (await second.send("POST", f"{path}/approve")).status_code == 409, "decided once"
    assert await told(portal, refund) == []
    await proposed(second, refund, outcome="succeeded")
    shown = (await first.get(f"/refunds/{refund['id']}/resolutions")).json()
    assert [one["state"] for one in shown] == ["open", "rejected"]
    waiting = (await first.get("/refund-resolutions?state=open&limit=200")).json()
    assert refund["id"] in [one["refund_id"] for one in waiting]


async def test_of_two_who_decide_at_once_the_first_does(portal: Portal) -> None:
    first, refund = await portal.admin(), await unknown(portal)
    path = await proposed(first, refund)
    others = [await portal.admin() for _ in range(4)]
    steps = ("approve", "reject", "approve", "reject")
    answers = await asyncio.gather(
        *(o.send("POST", f"{path}/{s}") for o, s in zip(others, steps, strict=True))
    )
    assert sorted(a.status_code for a in answers) == [200, 409, 409, 409]
    (state,) = [a.json()["state"] for a in answers if a.status_code == 200]
    assert len(await told(portal, refund)) == (state == "approved")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"version": 3}, 409, "stale_version"),
        ({"status": "pending"}, 422, "not_resolvable"),
        ({"status": "failed"}, 422, "not_resolvable"),
        ({"status": "succeeded"}, 422, "not_resolvable"),
    ],
    ids=["moved on", "pending", "failed", "succeeded"],
)
async def test_only_a_refund_that_is_unknown_and_as_it_was_read_is_resolved(
    portal: Portal, changes: dict[str, Any], status: int, code: str
) -> None:
    admin, refund = await portal.admin(), await unknown(portal, **changes)
    answer = await admin.send("POST", f"/refunds/{refund['id']}/resolutions", SAID)
    body = answer.json()
    assert answer.status_code == status, answer.text
    assert code in (body["code"], *(fault["code"] for fault in body.get("errors", [])))
    assert await audited(portal, refund["id"]) == []


async def test_what_is_not_there_is_404(portal: Portal) -> None:
    first, second, refund = await portal.admin(), await portal.admin(), await unknown(portal)
    other = await unknown(portal)
    missing = await first.send("POST", f"/refunds/{new_id('ref')}/resolutions", SAID)
    assert missing.status_code == 404
    path = await proposed(first, refund)
    elsewhere = path.replace(refund["id"], other["id"])
    assert (await second.send("POST", f"{elsewhere}/approve")).status_code == 404
    nothing = f"/refunds/{refund['id']}/resolutions/{new_id('rsl')}/approve"
    assert (await second.send("POST", nothing)).status_code == 404
    assert await told(portal, refund) == await told(portal, other) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("outcome", "cancelled"), ("reason", "why"), ("evidence", "x" * 501), ("version", 0),
     ("colour", "red")],
    ids=["outcome", "reason", "evidence", "version", "unknown"],
)  # fmt: skip
async def test_a_bad_proposal_names_its_field(portal: Portal, field: str, value: object) -> None:
    admin, refund = await portal.admin(), await unknown(portal)
    path = f"/refunds/{refund['id']}/resolutions"
    answer = await admin.send("POST", path, SAID | {field: value})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in answer.json()["errors"][0]["field"]


async def test_a_viewer_sees_refunds_and_proposals_and_ends_none(portal: Portal) -> None:
    first, refund = await portal.admin(), await unknown(portal)
    path = await proposed(first, refund)
    viewer = await portal.admin(role="viewer")
    portal.house.answers["refunds"] = [[refund]]
    portal.house.calls.clear()
    shown = await viewer.get("/refunds?status=unknown&limit=7")
    assert [one["id"] for one in shown.json()] == [refund["id"]], shown.text
    assert (await viewer.get(f"/refunds/{refund['id']}")).json()["version"] == 2
    (listed, _) = portal.house.calls
    assert listed[2].operator and listed[2].scopes == {"payments:read"}
    assert listed[3] == {"status": "unknown", "limit": "7"}
    assert len((await viewer.get(f"/refunds/{refund['id']}/resolutions")).json()) == 1
    for step in (f"/refunds/{refund['id']}/resolutions", f"{path}/approve", f"{path}/reject"):
        answer = await viewer.send("POST", step, SAID)
        assert (answer.status_code, answer.json()["permission"]) == (403, "payments:resolve")


async def test_two_people_end_a_payment_by_the_same_plan(portal: Portal) -> None:
    first, second = await portal.admin(), await portal.admin()
    _, client, _ = await portal.merchant(first)
    await portal.house.up("payment-router", "reporter")
    payment = portal.house.know(payment_row(client, status="conflicted"))
    said = {"outcome": "succeeded", "evidence": "line 14 of the statement", "version": 2}
    made = (await first.send("POST", f"/payments/{payment}/resolutions", said)).json()
    assert made["payment_id"] == payment and made["state"] == "open"
    assert (await first.send("POST", f"/resolutions/{made['id']}/approve")).status_code == 422
    assert (await second.send("POST", f"/resolutions/{made['id']}/approve")).status_code == 200
    assert await portal.sent(payment) == ["payments.resolve.v1"]
    one, two = await audited(portal, payment)
    assert (one["action"], two["action"]) == ("resolution_proposed", "resolution_approved")
