"""Payers' accounts follow the ledger's customers; a mailed link opens one, once."""

import asyncio
from typing import Any

import orjson
import pytest
from mospay_dev.infrastructure.cluster import Cluster
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import outgoing
from mospay_shared.ids import new_id

from .conftest import Portal
from .payers import PASSWORD, Lobby, Visitor, lobby, me, told
from .test_messages import publish, until


@pytest.fixture
async def desk(portal: Portal, infrastructure: Cluster) -> Lobby:
    """A merchant with a portal for its customers."""
    return await lobby(portal, TokenSigner("notifier", infrastructure.keys["notifier_signing"]))


ACCOUNT = "select * from payer_accounts where customer_id = $1"
AUDIT = "select action from audit_log where subject = any($1) or actor = any($1) order by at, id"


async def test_customers_become_accounts_over_the_broker_once_and_by_version(desk: Lobby) -> None:
    new, old = (told(desk.client_id, customer_id="cus_v", version=n, name=f"n{n}") for n in (3, 2))
    other = told(desk.client_id)
    wire: list[dict[str, Any]] = [
        orjson.loads(outgoing("customer.updated.v1", b.customer_id, b, source="ledger").body)
        for b in (new, old, other)
    ]
    wire[2]["data"]["field_of_tomorrow"] = 1
    broken = {**wire[0], "id": new_id("evt"), "data": {**wire[0]["data"], "version": "x"}}
    for one in (wire[0], wire[0], broken, wire[1], wire[2]):
        await publish(desk.portal, "mospay.events", "customer.updated.v1", one)
    await until(desk.portal, ACCOUNT, other.customer_id)
    (row,) = await desk.portal.rows(ACCOUNT, "cus_v")
    assert (row["name"], row["version"]) == ("n3", 3)
    (dead,) = await until(
        desk.portal, "select state, reason from inbox where event_id = $1", broken["id"]
    )
    assert dead["state"] == "dead" and "version" in dead["reason"]


async def test_an_invitation_is_a_mail_whose_link_sets_a_password_once(desk: Lobby) -> None:
    body = await desk.customer()
    assert (await desk.access(body))["state"] == "ready"
    sent = await desk.invite(body)
    assert (sent.status_code, sent.json()["state"]) == (201, "invited")
    (mail,) = await desk.mails(body)
    assert (mail["kind"], mail["customer_email"]) == ("invite", body.email)
    assert mail["issuer_name"] == "Akaliza Shop"
    path = await desk.link(body)
    token = path.rpartition("/")[2]
    stored = await desk.portal.rows("select l::text as row from payer_links l")
    spoken = await desk.portal.rows("select convert_from(body, 'UTF8') as body from outbox")
    assert all(token not in str(dict(one)) for one in [*stored, *spoken])
    visitor = Visitor(desk.portal.browser().http)
    weak = await visitor.enter("/invites/accept", token=token, password="short")
    assert (weak.status_code, weak.json()["errors"][0]["code"]) == (422, "too_short")
    entered = await visitor.enter("/invites/accept", token=token, password=PASSWORD)
    assert entered.json()["user"]["customer_id"] == body.customer_id
    cookies = entered.headers.get_list("set-cookie")
    assert [c.split("Path=")[1].split(";")[0] for c in cookies] == ["/portal", "/bff/v1/payer"]
    assert all("HttpOnly" in cookie for cookie in cookies)
    again = await Visitor(desk.portal.browser().http).enter(
        "/invites/accept", token=token, password=PASSWORD
    )
    assert (again.status_code, again.json()["code"]) == (410, "link_ended")
    assert (await desk.access(body))["state"] == "active"
    assert (await desk.invite(body)).status_code == 409


async def test_an_invitation_sent_again_voids_the_one_before(desk: Lobby) -> None:
    body = await desk.customer()
    await desk.invite(body)
    first = (await desk.link(body)).rpartition("/")[2]
    await desk.invite(body)
    composed_late = await desk.compose((await desk.mails(body))[0]["mail_id"])
    assert composed_late.status_code == 409, "nobody mails a link that is void"
    second = (await desk.link(body)).rpartition("/")[2]
    for token, status in ((first, 410), (second, 200)):
        visitor = Visitor(desk.portal.browser().http)
        answer = await visitor.enter("/invites/accept", token=token, password=PASSWORD)
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"portal_enabled": False}, "portal_enabled"), ({"active": False}, "portal_enabled"),
     ({"email": None}, "email")],
)  # fmt: skip
async def test_who_is_not_to_be_invited_is_told_why(
    desk: Lobby, changes: dict[str, Any], field: str
) -> None:
    answer = await desk.invite(await desk.customer(**changes))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_an_account_that_is_behind_the_ledger_is_asked_for_again(desk: Lobby) -> None:
    body = told(desk.client_id)
    desk.keep(body)
    answer = await desk.invite(body)
    assert answer.status_code == 409 and "moment" in answer.json()["title"]
    assert (await desk.access(body))["state"] == "making"


async def test_invitations_are_for_whoever_may_write_invoices_of_that_client(desk: Lobby) -> None:
    body = await desk.customer()
    admin = await desk.portal.admin("viewer")
    path = f"/customers/{body.customer_id}/portal-invites?mode=live"
    assert (await admin.send("POST", path)).status_code == 403
    assert (await desk.portal.browser().send("POST", path)).status_code == 401
    unknown = f"/customers/{new_id('cus')}/portal-invites?mode=live"
    assert (await desk.merchant.send("POST", unknown)).status_code == 404
    invoiced = told(None, recipient_client_id=desk.client_id)  # by the operator
    await desk.tell(invoiced)
    assert (await desk.invite(invoiced)).status_code == 404


async def test_switching_the_portal_off_ends_sessions_at_once_and_on_lets_in_again(
    desk: Lobby,
) -> None:
    body = await desk.customer()
    visitor = await desk.payer(body)
    assert (await visitor.get("/me")).status_code == 200
    await desk.tell(body.model_copy(update={"portal_enabled": False, "version": 2}))
    assert (await visitor.get("/me")).status_code == 401
    refused = await visitor.enter("/session", email=body.email, password=PASSWORD)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")
    await desk.tell(body)  # older news change nothing
    assert (await visitor.enter("/session", email=body.email, password=PASSWORD)).status_code == 401
    await desk.tell(body.model_copy(update={"version": 3}))
    assert (await visitor.enter("/session", email=body.email, password=PASSWORD)).status_code == 200


async def test_an_address_the_merchant_changes_takes_password_and_links_away(desk: Lobby) -> None:
    body = await desk.customer()
    visitor = await desk.payer(body)
    moved = body.model_copy(update={"email": "new-" + str(body.email), "version": 2})
    await desk.tell(moved)
    assert (await visitor.get("/session")).status_code == 401
    for email in (body.email, moved.email):
        answer = await visitor.enter("/session", email=email, password=PASSWORD)
        assert answer.status_code == 401
    assert (await desk.access(moved))["state"] == "ready"
    assert (await desk.invite(moved)).status_code == 201, "to the new address"


async def test_payers_and_people_have_nothing_of_each_others_sessions(desk: Lobby) -> None:
    visitor = await desk.payer()
    token = next(c.value for c in visitor.http.cookies.jar if c.path == "/portal")
    browser = desk.portal.browser()
    for name in ("mospay_session", "mospay_payer"):
        browser.http.cookies[name] = token or ""
    assert (await browser.get("/session")).status_code == 401
    assert (await browser.get("/payments")).status_code == 401
    staff = desk.merchant.http.cookies["mospay_session"]
    other = Visitor(desk.portal.browser().http)
    other.http.cookies["mospay_payer"] = staff
    assert (await other.get("/session")).status_code == 401
    wrong = await desk.portal.browser().sign_in("a@b.example", "payer")
    assert wrong.status_code == 422, "the people's door knows no payers"


async def test_an_idle_payer_is_out_after_fifteen_minutes(desk: Lobby) -> None:
    visitor = await desk.payer()
    aged = "update sessions set seen_at = now() - interval '{} s' returning user_id"
    await desk.portal.rows(aged.format(890))
    assert (await visitor.get("/session")).status_code == 200
    await desk.portal.rows(aged.format(901))
    assert (await visitor.get("/session")).status_code == 401


async def test_five_failures_lock_known_and_unknown_addresses_alike(desk: Lobby) -> None:
    body = await desk.customer()
    await desk.payer(body)
    said = []
    for email in (body.email, f"{new_id('usr')}@payers.example"):
        visitor = Visitor(desk.portal.browser().http)
        answers = [
            await visitor.enter("/session", email=email, password="wrong wrong wrong")
            for _ in range(6)
        ]
        said.append([(a.status_code, a.json()["title"], a.json().get("attempts_left"))
                     for a in answers])  # fmt: skip
    assert said[0] == said[1]
    assert [status for status, *_ in said[0]] == [401] * 4 + [423] * 2
    locked = await visitor.enter("/session", email=body.email, password=PASSWORD)
    assert locked.status_code == 423


async def test_one_address_of_two_customers_chooses_and_sees_one(desk: Lobby) -> None:
    one = await desk.customer()
    two = await desk.customer(email=one.email, name="Another")
    for body in (one, two):
        desk.keep(body)
        await desk.payer(body)
    visitor = Visitor(desk.portal.browser().http)
    several = await visitor.enter("/session", email=one.email, password=PASSWORD)
    assert (several.status_code, several.json()["code"]) == (409, "several_accounts")
    named = {a["customer_id"] for a in several.json()["accounts"]}
    assert named == {one.customer_id, two.customer_id}
    answer = await visitor.enter(
        "/session", email=one.email, password=PASSWORD, customer_id=two.customer_id
    )
    assert answer.json()["user"]["customer_id"] == two.customer_id
    other = await visitor.enter(
        "/session", email=one.email, password=PASSWORD, customer_id=new_id("cus")
    )
    assert other.status_code == 401


async def test_a_reset_is_answered_alike_for_everybody_and_three_times_an_hour(
    desk: Lobby,
) -> None:
    body = await desk.customer()
    first = await desk.payer(body)
    await desk.portal.rows("delete from payer_asks returning key")
    visitor = Visitor(desk.portal.browser().http)
    known = await visitor.send("POST", "/password-resets", {"email": str(body.email).upper()})
    unknown = await visitor.send("POST", "/password-resets", {"email": "nobody@payers.example"})
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    assert len(await desk.mails(body, "reset")) == 1
    token = (await desk.link(body, "reset")).rpartition("/")[2]
    fresh = "another fine password"
    entered = await visitor.enter("/password-resets/complete", token=token, password=fresh)
    assert entered.status_code == 200
    assert (await first.get("/session")).status_code == 401, "signed out everywhere else"
    assert (await visitor.enter("/session", email=body.email, password=PASSWORD)).status_code == 401
    assert (await visitor.enter("/session", email=body.email, password=fresh)).status_code == 200
    used = await visitor.enter("/password-resets/complete", token=token, password=fresh)
    assert used.status_code == 410
    await desk.portal.rows("delete from payer_asks returning key")
    answers = [
        await visitor.send("POST", "/password-resets", {"email": "x@payers.example"})
        for _ in range(4)
    ]
    assert [a.status_code for a in answers] == [202, 202, 202, 429]
    assert answers[-1].headers["retry-after"] == "3600"


async def test_a_link_is_over_at_its_time_and_tried_at_once_it_works_once(desk: Lobby) -> None:
    body = await desk.customer()
    await desk.invite(body)
    token = (await desk.link(body)).rpartition("/")[2]
    visitors = [Visitor(desk.portal.browser().http) for _ in range(4)]
    answers = await asyncio.gather(
        *(one.enter("/invites/accept", token=token, password=PASSWORD) for one in visitors)
    )
    assert sorted(a.status_code for a in answers) == [200, 410, 410, 410]
    late = await desk.customer()
    await desk.invite(late)
    token = (await desk.link(late)).rpartition("/")[2]
    await desk.portal.rows(
        "update payer_links set expires_at = now() where customer_id = $1 returning id",
        late.customer_id,
    )
    answer = await visitors[0].enter("/invites/accept", token=token, password=PASSWORD)
    assert answer.status_code == 410


async def test_only_notifier_gets_the_token_of_a_mail(desk: Lobby, infrastructure: Cluster) -> None:
    body = await desk.customer()
    await desk.invite(body)
    mail_id = (await desk.mails(body))[0]["mail_id"]
    desk.notifier = TokenSigner("gateway", infrastructure.keys["gateway_signing"])
    assert (await desk.compose(mail_id)).status_code == 403
    anonymous = desk.portal.browser().http
    assert (await anonymous.post(f"/internal/v1/payer-links/{mail_id}/token")).status_code == 401


async def test_everything_of_the_ledger_is_asked_under_this_customer_alone(desk: Lobby) -> None:
    body = await desk.customer()
    visitor = await desk.payer(body)
    house = desk.portal.house
    house.calls.clear()
    house.answers |= {
        "payer": me(body), "payer/invoices": {"items": [], "next_cursor": None},
        "payer/invoices/inv_1": {"number": "INV-1"}, "payer/invoices/inv_1/pdf": b"%PDF",
        "payer/statement": {"totals": []}, "payer/statement.pdf": b"%PDF",
        "payer/invoices/inv_1/status": {"number": "INV-1"},
        "POST payer/invoices/inv_1/pay": {"number": "INV-1", "locked": True},
    }  # fmt: skip
    for path in ("/me", "/invoices?state=open", "/invoices/inv_1", "/invoices/inv_1.pdf",
                 "/invoices/inv_1/status", "/statement", "/statement.pdf"):  # fmt: skip
        assert (await visitor.get(path)).status_code == 200, path
    paid = await visitor.send("POST", "/invoices/inv_1/pay", {"phone": "+250780000000"})
    assert paid.status_code == 202
    assert (await visitor.get("/invoices/inv_2")).status_code == 404
    details = {"name": "A", "phone": None, "address": None, "locale": "fr", "version": 1}
    house.answers["PUT payer"] = me(body, name="A", version=2)
    assert (await visitor.send("PUT", "/me", details)).json()["version"] == 2
    assert house.sent[-1][2] == details | {"email": body.email}
    forged = await visitor.send("PUT", "/me", details | {"email": "x@y.example"})
    assert forged.status_code == 422
    for _, path, caller, _ in house.calls:
        tenant = (caller.client_id, caller.customer_id, caller.mode)
        assert tenant == (desk.client_id, body.customer_id, "live"), path
        assert caller.scopes == {"invoices:payer"}
    user = (await desk.portal.rows("select id from users where customer_id = $1",
                                   body.customer_id))[0]["id"]  # fmt: skip
    actions = [row["action"] for row in await desk.portal.rows(AUDIT, [user])]
    assert {"payer_invite_accepted", "login", "payer_invoice_downloaded",
            "payer_statement_downloaded", "payer_payment_started",
            "payer_details_changed"} <= set(actions)  # fmt: skip


async def test_a_change_without_the_csrf_token_is_refused(desk: Lobby) -> None:
    visitor = await desk.payer()
    visitor.csrf = "guess"
    answer = await visitor.send("DELETE", "/session")
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")


async def test_a_new_address_is_proven_before_it_moves_and_keeps_the_password(
    desk: Lobby,
) -> None:
    body = await desk.customer()
    visitor = await desk.payer(body)
    await desk.portal.rows("delete from payer_asks returning key")
    new = f"{new_id('usr')}@payers.example"
    assert (await visitor.send("POST", "/me/email", {"email": new})).status_code == 202
    (mail,) = await desk.mails(body, "verify")
    assert mail["customer_email"] == new
    token = (await desk.link(body, "verify")).rpartition("/")[2]
    house = desk.portal.house
    house.answers["PUT payer"] = me(body, email=new, version=2)
    house.refusals = [(409, {"code": "stale_version", "title": "Stale"})]
    confirmed = await visitor.send("POST", "/email-verifications/confirm", {"token": token})
    assert confirmed.status_code == 204, confirmed.text
    assert house.sent[-1][2]["email"] == new and len(house.sent) >= 2, "asked again when stale"
    await desk.tell(body.model_copy(update={"email": new, "version": 2}))
    assert (await visitor.get("/session")).json()["user"]["email"] == new
    assert (await visitor.enter("/session", email=new, password=PASSWORD)).status_code == 200
    used = await visitor.send("POST", "/email-verifications/confirm", {"token": token})
    assert used.status_code == 410


async def test_signing_out_everywhere_ends_every_session(desk: Lobby) -> None:
    body = await desk.customer()
    first = await desk.payer(body)
    second = Visitor(desk.portal.browser().http)
    await second.enter("/session", email=body.email, password=PASSWORD)
    assert (await first.send("POST", "/session/revoke-all")).status_code == 204
    for one in (first, second):
        assert (await one.get("/session")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/session", {"email": "a@b.example"}),
        ("/session", {"email": "a\x00@b.example", "password": "x"}),
        ("/session", {"email": "a@b.example", "password": "x", "audience": "admin"}),
        ("/invites/accept", {"token": "x" * 100, "password": "y"}),
        ("/password-resets", {"email": "nobody"}),
        ("/password-resets/complete", {"token": 5, "password": "y"}),
        ("/email-verifications/confirm", {}),
        ("/email-verifications/confirm", []),
    ],
)
async def test_bad_input_is_named(desk: Lobby, path: str, body: Any) -> None:
    answer = await Visitor(desk.portal.browser().http).send("POST", path, body)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"]


async def test_accounts_of_another_client_are_not_to_be_seen(desk: Lobby) -> None:
    mine = await desk.customer()
    other, client_id, company = await desk.portal.merchant(await desk.portal.admin())
    theirs = told(client_id)
    await desk.tell(theirs)
    asked = "select customer_id from payer_accounts where customer_id = any($1)"
    both = [mine.customer_id, theirs.customer_id]
    for named, seen in (("", set()), (company, {theirs.customer_id})):
        async with desk.portal.service.database.request() as tx:
            await tx.run("select set_config('mospay.company_id', $1, true)", named)
            assert {row["customer_id"] for row in await tx.fetch(asked, both)} == seen
    path = f"/customers/{mine.customer_id}/portal-access?mode=live&client_id={desk.client_id}"
    assert (await other.get(path)).status_code == 404


async def test_payments_are_started_six_times_a_minute(desk: Lobby) -> None:
    visitor = await desk.payer()
    desk.portal.house.answers["POST payer/invoices/inv_1/pay"] = {"number": "INV-1"}
    answers = [
        await visitor.send("POST", "/invoices/inv_1/pay", {"phone": "+250780000000"})
        for _ in range(7)
    ]
    assert [a.status_code for a in answers] == [202] * 6 + [429]


async def test_too_many_tries_of_an_address_wait(desk: Lobby) -> None:
    visitor = Visitor(desk.portal.browser().http)
    wrong = [
        await visitor.enter("/invites/accept", token="A" * 32, password=PASSWORD) for _ in range(32)
    ]
    assert [a.status_code for a in wrong][-1] == 429 and wrong[0].status_code == 410
