"""Risk in the portal: who may, what the router is told, what the audit log keeps."""

import datetime as dt
from typing import Any

import orjson
import pytest
from mospay_portal_api.domain.explain import explain
from mospay_portal_api.domain.trace import for_client
from mospay_shared.contracts import MESSAGES, RiskAssessedV1, outgoing
from mospay_shared.contracts.payments import RiskReasonV1
from mospay_shared.ids import new_id

from .conftest import Browser, Portal
from .house import at, payment_row

RULE = {"kind": "amount_above", "currency": "RWF", "amount_minor": 5, "points": 10}
WORD = {"decision": "release", "note": "spoke with the payer", "version": 2}


async def held(portal: Portal, **changes: Any) -> tuple[Browser, str]:
    """An admin, and a payment that the router holds."""
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    await portal.house.up("payment-router", "reporter")
    row = payment_row(client, **({"status": "held"} | changes))
    return admin, portal.house.know(row)


async def audited(portal: Portal, subject: str) -> list[Any]:
    return await portal.rows(
        "select action, actor, before, after from audit_log where subject = $1 order by at", subject
    )


@pytest.mark.parametrize(("decision", "leads_to"), [("release", "processing"),
                                                    ("refuse", "cancelled")])  # fmt: skip
async def test_a_review_is_written_down_and_sent_to_the_router_as_one(
    portal: Portal, decision: str, leads_to: str
) -> None:
    admin, payment_id = await held(portal)
    me = (await admin.get("/session")).json()["user"]["id"]
    answer = await admin.send(
        "POST", f"/payments/{payment_id}/review", WORD | {"decision": decision}
    )
    assert answer.status_code == 202, answer.text
    ((kind, raw),) = [
        (r["type"], r["body"])
        for r in await portal.rows("select * from outbox where subject = $1", payment_id)
    ]
    data = orjson.loads(raw)["data"]
    MESSAGES["payments.review.v1"].model.model_validate(data)
    assert kind == "payments.review.v1"
    assert (data["decision"], data["version"], data["by"]) == (decision, 2, me)
    (kept,) = await audited(portal, payment_id)
    assert (kept["action"], kept["actor"]) == ("payment_reviewed", me)
    assert kept["before"] == {"status": "held", "version": 2}
    assert kept["after"]["asked_for"] == leads_to
    assert kept["after"]["note"] == "spoke with the payer"


async def test_a_review_of_what_has_moved_on_is_refused_and_tells_nobody(portal: Portal) -> None:
    admin, payment_id = await held(portal, version=3)
    answer = await admin.send("POST", f"/payments/{payment_id}/review", WORD)
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_version")
    assert answer.json()["current_version"] == 3
    client = portal.house.payments[payment_id]["client_id"]
    ended = portal.house.know(payment_row(client, status="succeeded"))
    answer = await admin.send("POST", f"/payments/{ended}/review", WORD)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "not_held"
    missing = await admin.send("POST", f"/payments/{new_id('pay')}/review", WORD)
    assert missing.status_code == 404
    for subject in (payment_id, ended):
        assert await portal.sent(subject) == []
        assert await audited(portal, subject) == []


async def test_reviews_and_changes_need_the_permission_to_write(portal: Portal) -> None:
    _, payment_id = await held(portal)
    viewer = await portal.admin(role="viewer")
    for method, path, body in (
        ("POST", f"/payments/{payment_id}/review", WORD),
        ("POST", "/risk/rules", {"mode": "test", "rule": RULE}),
        ("PUT", "/risk/rules/rsk_1", {"mode": "test", "rule": RULE, "version": 1}),
        ("DELETE", "/risk/rules/rsk_1?version=1", None),
        ("POST", "/risk/lists", {"mode": "test", "list": "block", "kind": "ip",
                                 "value": "10.0.0.1", "reason": "why"}),
        ("DELETE", "/risk/lists/rle_1", None),
        ("PUT", "/risk/thresholds/test", {"hold_at": 1, "refuse_at": 2}),
    ):  # fmt: skip
        answer = await viewer.send(method, path, body)
        assert (answer.status_code, answer.json().get("permission")) == (403, "risk:write"), path
    for path in ("/risk/rules", "/risk/lists", "/risk/thresholds", "/risk/decisions?open=true"):
        assert (await viewer.get(path)).status_code == 200, path
    assert portal.house.sent == []


async def test_the_router_hears_the_operator_with_the_scope_of_the_call(portal: Portal) -> None:
    admin, _ = await held(portal)
    portal.house.calls.clear()
    await admin.get("/risk/decisions?decision=hold&open=true&limit=7")
    await admin.send("POST", "/risk/rules", {"mode": "test", "rule": RULE})
    (read, write) = portal.house.calls
    assert read[2].operator and read[2].scopes == {"risk:read"} and read[2].actor
    assert write[2].scopes == {"risk:write"}
    assert read[3] == {"decision": "hold", "open": "true", "limit": "7"}


async def test_decisions_name_their_clients(portal: Portal) -> None:
    admin, payment_id = await held(portal)
    row = portal.house.payments[payment_id]
    decision = {
        "payment_id": payment_id, "client_id": row["client_id"], "mode": "test",
        "decision": "hold", "score": 60, "reasons": [{"rule": "r", "points": 60, "detail": "why"}],
        "by_default": False, "took_ms": 1.2, "rules_version": 3, "assessed_at": at(),
        "status": "held", "version": 2, "service": "collection", "amount_minor": 1, "currency":
        "RWF", "phone_masked": None, "reference": "r", "accepted_at": at(), "send_before": at(9),
        "reviews": [],
    }  # fmt: skip
    portal.house.risk["decisions"] = [decision]
    page = (await admin.get("/risk/decisions")).json()
    assert page["items"][0]["client_name"] == "Shop"
    assert page["items"][0]["reasons"][0]["detail"] == "why"


async def test_changes_of_rules_and_thresholds_are_audited_with_before_and_after(
    portal: Portal,
) -> None:
    admin, _ = await held(portal)
    stored = {"client_id": None, "mode": "test", "rule": RULE, "active": True, "version": 4,
              "updated_by": "usr_1", "updated_at": at()}  # fmt: skip
    name = new_id("rsk")
    portal.house.risk["rules"] = [stored | {"id": name}]
    body = {"mode": "test", "rule": RULE | {"points": 20}, "version": 4}
    made = await admin.send("PUT", f"/risk/rules/{name}", body)
    assert made.json() == {"id": name, "version": 5}
    gone = await admin.send("DELETE", f"/risk/rules/{name}?version=5")
    assert gone.status_code == 204
    changed, deleted = await audited(portal, name)
    assert (changed["before"]["rule"]["points"], changed["after"]["rule"]["points"]) == (10, 20)
    assert (deleted["action"], deleted["before"]["id"]) == ("risk_rule_deleted", name)
    client = new_id("cli")
    portal.house.risk["thresholds"] = [
        {"client_id": client, "mode": "live", "hold_at": 5, "refuse_at": 6, "version": 1,
         "updated_by": "u", "updated_at": at()}
    ]  # fmt: skip
    wanted = {"hold_at": 7, "refuse_at": 8, "version": 1}
    answer = await admin.send("PUT", f"/risk/thresholds/live?client_id={client}", wanted)
    assert answer.json() == {"version": 2}
    (kept,) = await audited(portal, f"{client}/live")
    assert (kept["before"]["hold_at"], kept["after"]["hold_at"]) == (5, 7)
    assert [path for _, path, _ in portal.house.sent] == [
        f"/internal/v1/risk/rules/{name}",
        f"/internal/v1/risk/rules/{name}?version=5",
        f"/internal/v1/risk/thresholds/live?client_id={client}",
    ]


async def test_a_listed_phone_is_in_no_log_in_clear(portal: Portal) -> None:
    admin, _ = await held(portal)
    body = {"mode": "live", "list": "block", "kind": "phone", "value": "+250780000321",
            "reason": "chargeback"}  # fmt: skip
    assert (await admin.send("POST", "/risk/lists", body)).status_code == 201
    assert portal.house.sent[-1][2]["value"] == "+250780000321"
    (kept,) = await portal.rows(
        "select after from audit_log where action = 'risk_entry_added' and actor = $1",
        (await admin.get("/session")).json()["user"]["id"],
    )
    assert kept["after"]["value"] == "**********321"


async def test_a_decision_is_no_news_of_a_payments_state(portal: Portal) -> None:
    """The event of a decision reaches neither the live stream nor its dead letters."""
    from mospay_portal_api.handlers import PAYMENT_EVENTS

    body = RiskAssessedV1(
        payment_id=new_id("pay"), client_id="cli_1", mode="test", decision="hold", score=60,
        reasons=[RiskReasonV1(rule="r", points=60, detail="why")],
        assessed_at=dt.datetime.now(dt.UTC),
    )  # fmt: skip
    told = outgoing("payment.risk_assessed.v1", body.payment_id, body, source="payment-router")
    assert told.type not in PAYMENT_EVENTS
    assert "payment.held.v1" in PAYMENT_EVENTS


def test_a_merchant_sees_that_risk_looked_and_no_rule() -> None:
    data = {"risk": "hold", "score": 60, "reasons": [{"detail": "31 payments"}], "rules_version": 4}
    detail, shown = for_client("state", "pending", "score 60: 31 payments of this phone", data)
    assert "31" not in str(detail) and shown is None


@pytest.mark.parametrize("code", ["risk_refused", "refused_in_review", "payload_erased"])
def test_every_end_risk_makes_is_explained(code: str) -> None:
    told = explain("failed", code, "internal words", late=False)
    assert "internal words" not in told.cause and told.next_action
