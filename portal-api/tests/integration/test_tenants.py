"""No tenant sees another: every route with another's ids, and the database below the routes."""

import re

import asyncpg
import pytest
from mospay_portal_api.storage import directory
from mospay_portal_api.storage.view import seen_by
from mospay_portal_api.usecases import people

from .conftest import Browser, Portal
from .house import SERVICES, payment_row
from .test_live import keep, news

# What a client user gets who names another client's things: 404, and 403 where the whole route is
# the operator's, whatever is named.
FOREIGN = {
    "GET /bff/v1/payments?mode=test&client_id={client}": 404,
    "GET /bff/v1/payments/{payment}": 404,
    "GET /bff/v1/payments/{payment}/trace": 404,
    "GET /bff/v1/dashboard?mode=test&client_id={client}": 404,
    "GET /bff/v1/trial-balance?mode=test": 403,
    "GET /bff/v1/journal-entries?mode=test&client_id={client}": 404,
    "GET /bff/v1/journal-entries/ent_x": 404,
    "GET /bff/v1/balances?mode=test&client_id={client}": 404,
    "GET /bff/v1/journal/verify": 403,
    "POST /bff/v1/journal-entries/ent_x/reversals": 403,
    "GET /bff/v1/reversals?mode=test&client_id={client}": 403,
    "POST /bff/v1/reversals/rev_x/approve": 403,
    "POST /bff/v1/reversals/rev_x/reject": 403,
    "GET /bff/v1/fee-plans?mode=test&client_id={client}": 403,
    "POST /bff/v1/fee-plans": 403,
    "POST /bff/v1/fee-plans/simulate": 403,
    "GET /bff/v1/settlements?mode=test&client_id={client}": 404,
    "GET /bff/v1/settlements/set_x": 404,
    "GET /bff/v1/settlements/set_x/lines": 404,
    "GET /bff/v1/settlements/set_x/statement": 404,
    "GET /bff/v1/statements?mode=test&currency=RWF&from=2026-01-01&to=2026-01-02"
    "&client_id={client}": 404,
    "GET /bff/v1/settlement-terms?mode=test": 403,
    "POST /bff/v1/settlement-terms": 403,
    "POST /bff/v1/settlements/run": 403,
    "GET /bff/v1/payouts?mode=test&client_id={client}": 404,
    "POST /bff/v1/payouts": 404,
    "GET /bff/v1/payouts/po_x": 404,
    "POST /bff/v1/payouts/po_x/approve": 403,
    "POST /bff/v1/payouts/po_x/reject": 403,
    "POST /bff/v1/payouts/po_x/pay": 403,
    "POST /bff/v1/payouts/po_x/fail": 403,
    "POST /bff/v1/payouts/po_x/return": 403,
    "GET /bff/v1/reconciliation/exceptions": 403,
    "GET /bff/v1/reconciliation/exceptions/exc_x": 403,
    "GET /bff/v1/reconciliation/imports": 403,
    "GET /bff/v1/reconciliation/imports/imp_x": 403,
    "GET /bff/v1/reconciliation/imports/imp_x/faults": 403,
    "GET /bff/v1/reconciliation/imports/imp_x/lines": 403,
    "GET /bff/v1/reconciliation/mappings": 403,
    "GET /bff/v1/reconciliation/presets": 403,
    "GET /bff/v1/reconciliation/report": 403,
    "POST /bff/v1/reconciliation/exceptions/exc_x/approval": 403,
    "POST /bff/v1/reconciliation/exceptions/exc_x/assignment": 403,
    "POST /bff/v1/reconciliation/exceptions/exc_x/notes": 403,
    "POST /bff/v1/reconciliation/exceptions/exc_x/rejection": 403,
    "POST /bff/v1/reconciliation/exceptions/exc_x/resolution": 403,
    "POST /bff/v1/reconciliation/exceptions/exc_x/wait": 403,
    "POST /bff/v1/reconciliation/imports": 403,
    "POST /bff/v1/reconciliation/imports/imp_x/decision": 403,
    "POST /bff/v1/reconciliation/mappings": 403,
    "POST /bff/v1/reconciliation/run": 403,
    "GET /bff/v1/companies": 403,
    "POST /bff/v1/companies": 403,
    "DELETE /bff/v1/companies/{company}?version=1": 403,
    "POST /bff/v1/users": 403,
    "GET /bff/v1/clients": 403,
    "POST /bff/v1/clients": 403,
    "PATCH /bff/v1/clients/{client}": 403,
    "DELETE /bff/v1/clients/{client}?version=1": 403,
    "GET /bff/v1/services": 403,
    "POST /bff/v1/services": 403,
    "PATCH /bff/v1/services/svc_x": 403,
    "DELETE /bff/v1/services/svc_x?version=1": 403,
    "GET /bff/v1/assignments": 403,
    "POST /bff/v1/assignments": 403,
    "PATCH /bff/v1/assignments/asg_x": 403,
    "DELETE /bff/v1/assignments/asg_x?version=1": 403,
    "GET /bff/v1/clients/{client}/credentials": 403,
    "POST /bff/v1/clients/{client}/credentials": 403,
    "PATCH /bff/v1/credentials/{credential}": 403,
    "DELETE /bff/v1/credentials/{credential}": 403,
    "GET /bff/v1/ip-rules?client_id={client}": 403,
    "POST /bff/v1/ip-rules": 403,
    "PATCH /bff/v1/ip-rules/ipr_x": 403,
    "DELETE /bff/v1/ip-rules/ipr_x?version=1": 403,
    "GET /bff/v1/clients/{client}/endpoints": 403,
    "POST /bff/v1/clients/{client}/endpoints": 403,
    "POST /bff/v1/payments/{payment}/enquire": 403,
    "POST /bff/v1/payments/{payment}/resolutions": 403,
    "GET /bff/v1/resolutions?payment_id={payment}": 403,
    "POST /bff/v1/resolutions/rsl_x/approve": 403,
    "POST /bff/v1/resolutions/rsl_x/reject": 403,
    "GET /bff/v1/refunds": 403,
    "GET /bff/v1/refunds/ref_x": 403,
    "POST /bff/v1/refunds/ref_x/resolutions": 403,
    "GET /bff/v1/refunds/ref_x/resolutions": 403,
    "GET /bff/v1/refund-resolutions": 403,
    "POST /bff/v1/refunds/ref_x/resolutions/rsl_x/approve": 403,
    "POST /bff/v1/refunds/ref_x/resolutions/rsl_x/reject": 403,
    "GET /bff/v1/providers": 403,
    "GET /bff/v1/routing-rules": 403,
    "POST /bff/v1/routing-rules": 403,
    "PUT /bff/v1/routing-rules/rtr_x": 403,
    "DELETE /bff/v1/routing-rules/rtr_x?version=1": 403,
    "GET /bff/v1/provider-credentials": 403,
    "PUT /bff/v1/clients/{client}/provider-credentials/{mode}/{connector}": 403,
    "DELETE /bff/v1/clients/{client}/provider-credentials/{mode}/{connector}": 403,
    "POST /bff/v1/payments/{payment}/review": 403,
    "GET /bff/v1/risk/decisions?payment_id={payment}": 403,
    "GET /bff/v1/risk/rules?client_id={client}": 403,
    "POST /bff/v1/risk/rules": 403,
    "PUT /bff/v1/risk/rules/rsk_x": 403,
    "DELETE /bff/v1/risk/rules/rsk_x?version=1": 403,
    "GET /bff/v1/risk/lists?client_id={client}": 403,
    "POST /bff/v1/risk/lists": 403,
    "DELETE /bff/v1/risk/lists/rle_x": 403,
    "GET /bff/v1/risk/thresholds": 403,
    "PUT /bff/v1/risk/thresholds/{mode}?client_id={client}": 403,
    "GET /bff/v1/functions?client_id={client}": 403,
    "GET /bff/v1/functions/{function}/versions": 403,
    "POST /bff/v1/functions/{function}/versions": 403,
    "GET /bff/v1/functions/{function}/versions/{number}": 403,
    "PATCH /bff/v1/functions/{function}/versions/{number}": 403,
    "POST /bff/v1/functions/{function}/versions/{number}/dry-run": 403,
    "POST /bff/v1/functions/{function}/versions/{number}/replay": 403,
    "POST /bff/v1/functions/{function}/versions/{number}/promote": 403,
    "POST /bff/v1/functions/{function}/versions/{number}/tested": 403,
    "POST /bff/v1/functions/{function}/versions/{number}/live": 403,
    "POST /bff/v1/functions/{function}/roll-back": 403,
    "PUT /bff/v1/function-mappings/{app}/{connector}/{service}/{route}/marks": 403,
    "GET /bff/v1/issuers?mode=test&client_id={client}": 404,
    "GET /bff/v1/customers?mode=test&client_id={client}": 404,
    "GET /bff/v1/customers/{payment}?mode=test&client_id={client}": 404,
    "GET /bff/v1/invoices?mode=test&client_id={client}": 404,
    "GET /bff/v1/invoices/{payment}?mode=test&client_id={client}": 404,
    "GET /bff/v1/credit-notes/{payment}?mode=test&client_id={client}": 404,
    "GET /bff/v1/ageing?mode=test&client_id={client}": 404,
    "GET /bff/v1/fee-invoices?mode=test&client_id={client}": 404,
    "GET /bff/v1/invoices/{payment}.pdf?mode=test&client_id={client}": 404,
    "GET /bff/v1/credit-notes/{payment}.pdf?mode=test&client_id={client}": 404,
    "GET /bff/v1/invoices.csv?mode=test&client_id={client}": 404,
    "GET /bff/v1/customers.csv?mode=test&client_id={client}": 404,
    "GET /bff/v1/ageing.csv?mode=test&client_id={client}": 404,
    "GET /bff/v1/ageing.pdf?mode=test&client_id={client}": 404,
    "PUT /bff/v1/issuers?mode=test&client_id={client}": 404,
    "POST /bff/v1/customers?mode=test&client_id={client}": 404,
    "PUT /bff/v1/customers/{payment}?mode=test&client_id={client}": 404,
    "POST /bff/v1/customer-imports?mode=test&client_id={client}": 404,
    "POST /bff/v1/invoices?mode=test&client_id={client}": 404,
    "PUT /bff/v1/invoices/{payment}?mode=test&client_id={client}": 404,
    "POST /bff/v1/invoices/{payment}/issue?mode=test&client_id={client}": 404,
    "POST /bff/v1/invoices/{payment}/void?mode=test&client_id={client}": 404,
    "POST /bff/v1/invoices/{payment}/credit-notes?mode=test&client_id={client}": 404,
    "POST /bff/v1/invoices/{payment}/use-credit?mode=test&client_id={client}": 404,
    "DELETE /bff/v1/invoices/{payment}?mode=test&client_id={client}&version=1": 404,
    "POST /bff/v1/invoices/{payment}/links?mode=test&client_id={client}": 404,
    "GET /bff/v1/invoices/{payment}/{what}?mode=test&client_id={client}": 404,
    "GET /bff/v1/issuers/{payment}/payment-methods?mode=test&client_id={client}": 404,
    "GET /bff/v1/issuers/{payment}/logo?mode=test&client_id={client}": 404,
    "PUT /bff/v1/issuers/{payment}/logo?mode=test&client_id={client}": 404,
    "DELETE /bff/v1/issuers/{payment}/logo?mode=test&client_id={client}": 404,
    "PUT /bff/v1/issuers/{payment}/payment-methods?mode=test&client_id={client}": 404,
    "POST /bff/v1/links/{payment}/revoke?mode=test&client_id={client}": 404,
    "GET /bff/v1/customers/{payment}/portal-access?mode=test&client_id={client}": 404,
    "POST /bff/v1/customers/{payment}/portal-invites?mode=test&client_id={client}": 404,
    # payers' own: another audience, whose cookie nobody else has
    "GET /bff/v1/payer/session": 401,
    "DELETE /bff/v1/payer/session": 401,
    "POST /bff/v1/payer/session/revoke-all": 401,
    "GET /bff/v1/payer/me": 401,
    "PUT /bff/v1/payer/me": 401,
    "POST /bff/v1/payer/me/email": 401,
    "GET /bff/v1/payer/statement": 401,
    "GET /bff/v1/payer/statement.pdf": 401,
    "GET /bff/v1/payer/invoices": 401,
    "GET /bff/v1/payer/invoices/{payment}": 401,
    "GET /bff/v1/payer/invoices/{payment}.pdf": 401,
    "GET /bff/v1/payer/invoices/{payment}/status": 401,
    "POST /bff/v1/payer/invoices/{payment}/pay": 401,
}
# Nothing of another tenant can be named there; their own tests say what they show.
OWN_ONLY = {
    "POST /bff/v1/session", "GET /bff/v1/session", "DELETE /bff/v1/session",
    "POST /bff/v1/session/revoke-all", "GET /bff/v1/stream",
    "POST /bff/v1/payer/session", "POST /bff/v1/payer/invites/accept",
    "POST /bff/v1/payer/password-resets", "POST /bff/v1/payer/password-resets/complete",
    "POST /bff/v1/payer/email-verifications/confirm",
}  # fmt: skip
BODIES = {
    "POST /bff/v1/settlement-terms": {"mode": "test", "hold_days": 1},
    "POST /bff/v1/settlements/run": {"mode": "test"},
    "POST /bff/v1/journal-entries/ent_x/reversals": {"kind": "reversal", "reason": "mine"},
    "POST /bff/v1/fee-plans": {"mode": "test", "client_id": "{client}"},
    "POST /bff/v1/fee-plans/simulate": {"mode": "test", "client_id": "{client}"},
    "POST /bff/v1/payouts": {
        "client_id": "{client}", "mode": "test", "currency": "RWF", "amount_minor": 5,
    },
    **{
        f"POST /bff/v1/payouts/po_x/{step}": {"version": 1}
        for step in ("approve", "reject", "pay", "fail", "return")
    },
    "POST /bff/v1/companies": {"name": "x"},
    "POST /bff/v1/users": {"audience": "admin", "name": "x", "email": "x@example.com"},
    "POST /bff/v1/clients": {"company_id": "{company}", "name": "x", "currency": "RWF"},
    "PATCH /bff/v1/clients/{client}": {"active": False, "version": 1},
    "POST /bff/v1/services": {
        "microservice": "m", "name": "n", "title": "t", "currency": "RWF",
        "urls": {"test": "http://x"}, "routes": ["payment"],
    },
    "PATCH /bff/v1/services/svc_x": {"active": False, "version": 1},
    "POST /bff/v1/assignments": {"client_id": "{client}", "service_id": "svc_x"},
    "PATCH /bff/v1/assignments/asg_x": {"active": False, "version": 1},
    "POST /bff/v1/clients/{client}/credentials": {"mode": "live", "kind": "api_key"},
    "PATCH /bff/v1/credentials/{credential}": {"rate_per_minute": 1, "version": 1},
    "POST /bff/v1/ip-rules": {"kind": "deny", "cidr": "203.0.113.9", "client_id": "{client}"},
    "PATCH /bff/v1/ip-rules/ipr_x": {"active": False, "version": 1},
    "POST /bff/v1/clients/{client}/endpoints": {"mode": "live", "url": "https://x.example"},
    "POST /bff/v1/payments/{payment}/resolutions": {
        "outcome": "failed", "evidence": "the statement", "version": 2,
    },
    "POST /bff/v1/refunds/ref_x/resolutions": {
        "outcome": "failed", "reason": "it was not made", "evidence": "the statement", "version": 2,
    },
    "POST /bff/v1/routing-rules": {"mode": "test", "rule": {}},
    "PUT /bff/v1/routing-rules/rtr_x": {"mode": "test", "rule": {}},
    "PUT /bff/v1/clients/{client}/provider-credentials/{mode}/{connector}": {"parts": {"a": "b"}},
    "POST /bff/v1/payments/{payment}/review": {
        "decision": "release", "note": "mine", "version": 2,
    },
    "POST /bff/v1/risk/rules": {"client_id": "{client}", "mode": "test", "rule": {}},
    "PUT /bff/v1/risk/rules/rsk_x": {"client_id": "{client}", "mode": "test", "rule": {}},
    "POST /bff/v1/risk/lists": {
        "client_id": "{client}", "mode": "test", "list": "allow", "kind": "ip",
        "value": "10.0.0.1", "reason": "mine",
    },
    "PUT /bff/v1/risk/thresholds/{mode}?client_id={client}": {"hold_at": 1, "refuse_at": 2},
    "PUT /bff/v1/issuers?mode=test&client_id={client}": {"name": "x"},
    "POST /bff/v1/customers?mode=test&client_id={client}": {"name": "x"},
    "PUT /bff/v1/customers/{payment}?mode=test&client_id={client}": {"name": "x", "version": 1},
    "POST /bff/v1/invoices?mode=test&client_id={client}": {
        "customer_id": "cus_x", "currency": "RWF",
    },
    "PUT /bff/v1/invoices/{payment}?mode=test&client_id={client}": {
        "customer_id": "cus_x", "currency": "RWF", "version": 1,
    },
    "POST /bff/v1/invoices/{payment}/issue?mode=test&client_id={client}": {"version": 1},
    "POST /bff/v1/invoices/{payment}/links?mode=test&client_id={client}": {},
    "PUT /bff/v1/issuers/{payment}/payment-methods?mode=test&client_id={client}": {"methods": []},
    "POST /bff/v1/invoices/{payment}/void?mode=test&client_id={client}": {"reason": "mine"},
    "POST /bff/v1/invoices/{payment}/credit-notes?mode=test&client_id={client}": {
        "amount_minor": 1, "reason": "mine",
    },
    "POST /bff/v1/invoices/{payment}/use-credit?mode=test&client_id={client}": {"amount_minor": 1},
}  # fmt: skip


def shape(route: str) -> str:
    """A route's method and path without the names of what it is about."""
    return re.sub(
        r"\{\w+\}|(svc|asg|ipr|ref|rsl|rtr|rsk|rle|set|po|exc|imp|ent|rev)_x",
        "{}",
        route.partition("?")[0],
    )


def test_every_route_of_the_browsers_is_asked_for_anothers_things(portal: Portal) -> None:
    known = {
        shape(f"{method.upper()} {path}")
        for path, methods in portal.service.app.openapi()["paths"].items()
        if path.startswith("/bff/")
        for method in methods
    }
    assert known == {shape(route) for route in (*FOREIGN, *OWN_ONLY)}


async def two_tenants(portal: Portal) -> tuple[Browser, dict[str, str]]:
    """A signed-in client user, and the names of another company's things."""
    admin = await portal.admin()
    browser, _, _ = await portal.merchant(admin)
    _, client, company = await portal.merchant(admin)
    body = {"mode": "test", "kind": "api_key"}
    made = await admin.send("POST", f"/clients/{client}/credentials", body)
    await portal.house.up(*SERVICES)
    payment = portal.house.know(payment_row(client))
    await keep(portal, news(client, payment_id=payment))
    credential = made.json()["credential_id"]
    return browser, {
        "client": client, "company": company, "credential": credential, "payment": payment,
        "mode": "test", "connector": "mtn", "function": "app_mtn_payment", "number": "1",
        "what": "links", "app": "app", "service": "collection", "route": "payment",
    }  # fmt: skip


async def test_no_route_shows_or_changes_anothers_things(portal: Portal) -> None:
    browser, names = await two_tenants(portal)
    for route, status in FOREIGN.items():
        method, _, path = route.format(**names).partition(" ")
        body = BODIES.get(route)
        if body is not None:
            body = {k: v.format(**names) if isinstance(v, str) else v for k, v in body.items()}
        answer = await browser.send(method, path.removeprefix("/bff/v1"), body)
        assert answer.status_code == status, (route, answer.text)
    assert not [one for one in portal.house.calls if one[2].operator]


async def test_nobody_reads_without_a_session(portal: Portal) -> None:
    for route in (*FOREIGN, "GET /bff/v1/stream", "GET /bff/v1/session"):
        method, _, path = route.partition(" ")
        body = BODIES.get(route, {})
        if method == "GET":
            assert (await portal.browser().http.get(path)).status_code == 401, route
        else:
            answer = await portal.browser().http.request(method, path, json=body)
            assert answer.status_code == 401, route


async def test_house_hears_of_a_foreign_payment_under_the_askers_own_clients_alone(
    portal: Portal,
) -> None:
    browser, names = await two_tenants(portal)
    portal.house.calls.clear()
    assert (await browser.get(f"/payments/{names['payment']}/trace")).status_code == 404
    asked = {(service, caller.client_id) for service, _, caller, _ in portal.house.calls}
    own = (await browser.get("/session")).json()["user"]["client_id"]
    assert asked == {("reporter", own)}


async def test_user_of_several_clients_has_to_name_one_and_finds_payments_of_all(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    browser, first, company = await portal.merchant(admin)
    body = {"company_id": company, "name": "Second", "currency": "RWF"}
    second = (await admin.send("POST", "/clients", body)).json()["id"]
    await portal.house.up(*SERVICES)
    payments = [portal.house.know(payment_row(client)) for client in (first, second)]
    answer = await browser.get("/payments?mode=test")
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == "client_id"
    page = await browser.get(f"/payments?mode=test&client_id={second}")
    assert [row["id"] for row in page.json()["items"]] == payments[1:]
    for payment in payments:
        assert (await browser.get(f"/payments/{payment}/trace")).status_code == 200


async def test_request_role_sees_the_rows_of_one_company(portal: Portal) -> None:
    admin = await portal.admin()
    browser, own, _ = await portal.merchant(admin)
    _, foreign, _ = await portal.merchant(admin)
    token = browser.http.cookies["mospay_session"]
    database, settings = portal.service.database, portal.service.settings
    person = await people.who(database, settings, token)  # type: ignore[arg-type]
    await keep(portal, news(own), news(foreign))
    async with seen_by(database, person) as tx:
        assert [row["id"] for row in await directory.clients(tx)] == [own]
        assert len(await directory.companies(tx)) == 1
        for table in ("client_apps", "stream_rows"):
            rows = await tx.fetch(f"select distinct client_id from {table}")
            assert [row["client_id"] for row in rows] == [own], table


async def test_request_role_without_a_setting_sees_nothing_and_reads_no_secret(
    portal: Portal, portal_env: dict[str, str]
) -> None:
    await portal.merchant(await portal.admin())
    connection = await asyncpg.connect(portal_env["PORTAL_DATABASE_URL"])
    try:
        for table in ("companies", "clients", "client_apps", "assignments", "stream_rows"):
            assert await connection.fetchval(f"select count(*) from {table}") == 0, table
        for sql in (
            "select secret_hash from credentials", "select * from users",
            "select * from sessions", "select * from audit_log", "delete from clients",
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(sql)
    finally:
        await connection.close()
