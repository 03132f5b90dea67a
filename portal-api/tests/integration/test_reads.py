"""Reads composed from the house: whole while all answer, with a named gap while one is away."""

from typing import Any

from mospay_shared.contracts import PaymentStatus
from mospay_shared.ids import new_id

from .conftest import Portal
from .house import SERVICES, at, hop, payment_row
from .test_live import keep, news


async def test_dashboard_is_composed_of_figures_counts_and_latest_payments(portal: Portal) -> None:
    admin = await portal.admin()
    browser, client, _ = await portal.merchant(admin)
    await portal.house.up("reporter")
    portal.house.know(payment_row(client))
    answer = await browser.get("/dashboard?mode=test&range=7d")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["granularity"] == "day" and body["kpis"]["success_rate"] == 0.75
    assert body["kpis"]["payments_growth"] == 1.0 and body["kpis"]["volume_growth"] is None
    assert body["kpis"]["active_clients"] == 1 and body["kpis"]["active_services"] == 0
    assert [row["client_name"] for row in body["recent"]] == ["Shop"]


async def test_filters_reach_the_reporter_under_a_token_of_the_tenant(portal: Portal) -> None:
    admin = await portal.admin()
    browser, client, _ = await portal.merchant(admin)
    await portal.house.up("reporter")
    path = "/payments?mode=test&status=failed,unknown&min_minor=5&sort=-amount&q=r-1&limit=7"
    assert (await browser.get(path)).status_code == 200
    _, _, caller, query = portal.house.calls[-1]
    assert caller.client_id == client and caller.mode == "test" and not caller.operator
    assert query == {
        "mode": "test", "client_id": client, "status": "failed,unknown", "min_minor": "5",
        "sort": "-amount", "q": "r-1", "limit": "7",
    }  # fmt: skip


async def test_token_of_an_admin_speaks_for_the_operator_and_names_the_person(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    await portal.house.up("reporter")
    assert (await admin.get("/payments?mode=live")).status_code == 200
    caller = portal.house.calls[-1][2]
    user = (await admin.get("/session")).json()["user"]["id"]
    assert caller.operator and caller.actor == user and caller.issuer == "portal-api"


async def test_trace_has_hops_of_every_service_in_order(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    await portal.house.up(*SERVICES)
    payment = portal.house.know(payment_row(client))
    portal.house.hops["notifier", payment].append(hop("notifier", received_at=None))
    body = (await admin.get(f"/payments/{payment}/trace")).json()
    assert {one["service"] for one in body["hops"]} == set(SERVICES)
    assert body["hops"][0]["service"] == "payment-router"
    assert body["hops"][-1]["received_at"] is None
    assert body["entries"] and body["missing"] == [] and body["unavailable"] == []
    assert body["explanation"]["headline"] == "The payer has paid"


async def test_each_service_that_is_away_is_named_and_the_rest_lives(portal: Portal) -> None:
    admin = await portal.admin()
    browser, client, _ = await portal.merchant(admin)
    await portal.house.up(*SERVICES)
    payment = portal.house.know(payment_row(client))
    for service in SERVICES:
        if service == "reporter":
            continue
        await portal.house.down(service)
        answer = await browser.get(f"/payments/{payment}/trace")
        assert answer.status_code == 200, service
        body = answer.json()
        assert [gap["service"] for gap in body["unavailable"]] == [service]
        assert service not in {gap["service"] for gap in body["missing"]}
        assert len({one["service"] for one in body["hops"]}) == 4
        await portal.house.up(service)


async def test_service_that_answers_nonsense_is_a_gap_too(portal: Portal) -> None:
    admin = await portal.admin()
    await portal.house.up(*SERVICES)
    payment = portal.house.know(payment_row("cli_x"))
    portal.house.broken.add("notifier")
    portal.house.hops["ledger", payment] = [{"not": "a hop"}]
    body = (await admin.get(f"/payments/{payment}/trace")).json()
    assert {gap["service"] for gap in body["unavailable"]} == {"notifier", "ledger"}


async def test_payment_is_shown_from_its_own_news_while_the_reporter_is_away(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    browser, own, _ = await portal.merchant(admin)
    event = news(own, status=PaymentStatus.FAILED, reason_code="insufficient_funds", version=3)
    await keep(portal, news(own, payment_id=event.data.payment_id, version=2), event)
    answer = await browser.get(f"/payments/{event.data.payment_id}/trace")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["payment"]["status"] == "failed" and body["payment"]["version"] == 3
    assert "enough money" in body["explanation"]["cause"]
    assert {gap["service"] for gap in body["unavailable"]} == set(SERVICES)
    other, _, _ = await portal.merchant(admin)
    assert (await other.get(f"/payments/{event.data.payment_id}")).status_code == 503


async def test_newer_word_of_the_router_beats_the_reporter(portal: Portal) -> None:
    admin = await portal.admin()
    await portal.house.up(*SERVICES)
    payment = portal.house.know(payment_row("cli_x", status="processing", version=1))
    portal.house.routed[payment] |= {"status": "unknown", "version": 2, "updated_at": at()}
    attempt = {
        "id": "att_1", "number": 1, "state": "unknown", "route": "payment", "started_at": at(-9),
        "ended_at": None, "http_status": None, "result": "undefined", "reason": "no answer",
    }  # fmt: skip
    portal.house.routed[payment]["attempts"] = [attempt]
    body = (await admin.get(f"/payments/{payment}")).json()
    assert (body["status"], body["version"]) == ("unknown", 2)
    assert body["attempts"][0]["id"] == "att_1"


async def test_merchant_sees_no_inside_of_the_house(portal: Portal) -> None:
    admin = await portal.admin()
    browser, own, _ = await portal.merchant(admin)
    await portal.house.up(*SERVICES)
    payment = portal.house.know(payment_row(own))
    data = {"host": "10.0.0.1", "function": "f", "http_status": 200, "f008": "1234",
            "phone": "+250780000001"}  # fmt: skip
    portal.house.hops["payment-router", payment] = [
        hop("payment-router", kind="provider_call", detail="declined", data=data),
        hop("payment-router", outcome="retry", detail="KeyError: 'x'", data=data),
    ]
    call, message = [
        one
        for one in (await browser.get(f"/payments/{payment}/trace")).json()["hops"]
        if one["service"] == "payment-router"
    ]
    assert call["data"] == {"http_status": 200} and call["detail"] == "declined"
    assert "KeyError" not in message["detail"]
    hops = (await admin.get(f"/payments/{payment}/trace")).json()["hops"]
    seen = next(one["data"] for one in hops if one["kind"] == "provider_call")
    assert seen["f008"] == "[redacted]" and seen["phone"] == "**********001"
    assert seen["host"] == "10.0.0.1"


async def test_lists_without_the_reporter_say_who_is_away_and_when_to_come_back(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    for path in ("/payments?mode=test", "/dashboard?mode=test", f"/payments/{new_id('pay')}"):
        answer = await admin.get(path)
        assert answer.status_code == 503, path
        assert "reporter" in answer.json()["title"] and answer.headers["retry-after"]
    assert (await admin.get("/trial-balance?mode=test")).status_code == 503


async def test_endpoint_secret_is_shown_once_and_never_kept_here(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    await portal.house.up("notifier")
    body = {"mode": "test", "url": "https://shop.example/hook"}
    made = await admin.send("POST", f"/clients/{client}/endpoints", body)
    assert made.status_code == 201 and made.json()["secret"] == "whsec_x"
    rows = await portal.rows(
        "select after from audit_log where subject = $1", made.json()["endpoint_id"]
    )
    assert rows[0]["after"]["client_id"] == client and "whsec_x" not in str(dict(rows[0]))
    assert (await admin.get(f"/clients/{client}/endpoints")).json() == []
    unknown: Any = await admin.send("POST", f"/clients/{new_id('cli')}/endpoints", body)
    assert unknown.status_code == 404
