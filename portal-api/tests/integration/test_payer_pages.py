"""The payers' pages: they work without a script, from the invitation to the payment."""

import re
from typing import Any

import httpx
import pytest
from mospay_dev.infrastructure.cluster import Cluster
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import CustomerEventV1

from .conftest import Portal
from .payers import PASSWORD, Lobby, Visitor, brand, lobby, me
from .test_guests import invoice, payment

PHONE = "+250780000000"


@pytest.fixture
async def desk(portal: Portal, infrastructure: Cluster) -> Lobby:
    """A merchant with a portal for its customers."""
    return await lobby(portal, TokenSigner("notifier", infrastructure.keys["notifier_signing"]))


def row(**changes: Any) -> dict[str, Any]:
    """An invoice in a list, as the ledger shows it to its payer."""
    return {
        "id": "inv_1", "number": "INV-2026-000042", "status": "issued", "currency": "RWF",
        "total_minor": 12500, "paid_minor": 0, "credited_minor": 0, "open_minor": 12500,
        "issued_on": "2026-11-21", "due_on": "2026-12-05", "locked": False,
    } | changes  # fmt: skip


async def inside(desk: Lobby, **changes: Any) -> tuple[Visitor, CustomerEventV1]:
    """A payer who is signed in, with one invoice."""
    body = await desk.customer(**changes)
    visitor = await desk.payer(body)
    desk.portal.house.answers |= {
        "payer": me(body), "payer/invoices": {"items": [row()], "next_cursor": None},
        "payer/invoices/inv_1": invoice(), "payer/invoices/inv_1/status": invoice(),
    }  # fmt: skip
    return visitor, body


def at(answer: httpx.Response) -> str:
    """Where an answer sends the browser."""
    return answer.headers["location"]


async def test_an_invitation_leads_from_its_page_to_the_invoices(desk: Lobby) -> None:
    body = await desk.customer()
    await desk.invite(body)
    path = await desk.link(body)
    desk.portal.house.answers["payer/invoices"] = {"items": [row()], "next_cursor": None}
    visitor = Visitor(desk.portal.browser().http)
    page = await visitor.http.get(path)
    assert page.status_code == 200 and str(body.email) in page.text
    assert "<script" not in page.text and page.headers["referrer-policy"] == "no-referrer"
    short = await visitor.form(path, password="short")
    assert short.status_code == 422 and "at least 12 characters" in short.text
    entered = await visitor.form(path, password=PASSWORD)
    assert (entered.status_code, at(entered)) == (303, "/portal/invoices")
    invoices = await visitor.http.get("/portal/invoices")
    assert invoices.status_code == 200 and "INV-2026-000042" in invoices.text
    used = await visitor.http.get(path)
    assert used.status_code == 410 and "has ended" in used.text


async def test_signing_in_says_what_is_wrong_and_keeps_the_address(desk: Lobby) -> None:
    _, body = await inside(desk)
    visitor = Visitor(desk.portal.browser().http)
    wrong = await visitor.form("/portal/login", email=str(body.email), password="x")
    assert wrong.status_code == 401 and str(body.email) in wrong.text
    assert "is wrong" in wrong.text
    entered = await visitor.form("/portal/login", email=str(body.email), password=PASSWORD)
    assert at(entered) == "/portal/invoices"
    out = await visitor.form("/portal/invoices", "/portal/sign-out")
    assert at(out) == "/portal/login?out=1"
    assert at(await visitor.http.get("/portal/invoices")) == "/portal/login"
    for _ in range(5):
        locked = await visitor.form("/portal/login", email=str(body.email), password="x")
    assert locked.status_code == 423 and "15 minutes" in locked.text


async def test_one_address_of_two_customers_is_asked_which(desk: Lobby) -> None:
    one = await desk.customer()
    two = await desk.customer(email=one.email, name="Another <one>")
    for body in (one, two):
        desk.keep(body)
        await desk.payer(body)
    visitor = Visitor(desk.portal.browser().http)
    asked = await visitor.form("/portal/login", email=str(one.email), password=PASSWORD)
    assert asked.status_code == 409 and "Another &lt;one&gt;" in asked.text
    entered = await visitor.form(
        "/portal/login", email=str(one.email), password=PASSWORD, customer_id=two.customer_id
    )
    assert at(entered) == "/portal/invoices"


async def test_whoever_is_not_signed_in_is_sent_to_sign_in_from_everywhere(desk: Lobby) -> None:
    http = desk.portal.browser().http
    for path in ("/portal/invoices", "/portal/invoices/inv_1", "/portal/statement",
                 "/portal/details", "/portal/logo", "/portal/invoices/inv_1/pdf"):  # fmt: skip
        answer = await http.get(path)
        assert (answer.status_code, at(answer)) == (303, "/portal/login"), path
    assert at(await http.get("/portal")) == "/portal/invoices"


async def test_paying_from_the_page_goes_to_the_status_page(desk: Lobby) -> None:
    visitor, body = await inside(desk)
    page = await visitor.http.get("/portal/invoices/inv_1")
    assert "Tea, 1 kg" in page.text and "/portal/invoices/inv_1/pdf" in page.text
    assert "Whoever has this link" not in page.text
    desk.portal.house.answers["POST payer/invoices/inv_1/pay"] = invoice()
    path = "/portal/invoices/inv_1"
    wrong = await visitor.form(path, f"{path}/pay", phone="12", service="collection")
    assert wrong.status_code == 422 and "country code" in wrong.text
    started = await visitor.form(path, f"{path}/pay", phone=PHONE, service="collection")
    assert (started.status_code, at(started)) == (303, f"{path}/status")
    assert desk.portal.house.sent[-1][2] == {"phone": PHONE, "service": "collection"}
    under_way = invoice(locked=True, payment=payment())
    desk.portal.house.answers["payer/invoices/inv_1/status"] = under_way
    status = await visitor.http.get(f"{path}/status")
    assert "Waiting for your approval" in status.text and 'http-equiv="refresh"' in status.text
    desk.portal.house.refusals = [(409, {"code": "payment_under_way", "title": "Wait"})]
    again = await visitor.form(path, f"{path}/pay", phone=PHONE, service="collection")
    assert at(again) == f"{path}/status"
    assert body.customer_id in {caller.customer_id for _, _, caller, _ in desk.portal.house.calls}


async def test_a_form_of_another_browser_changes_nothing(desk: Lobby) -> None:
    visitor, _ = await inside(desk)
    before = len(desk.portal.house.sent)
    for token in ("", "0" * 64, "é"):
        for path in ("/portal/invoices/inv_1/pay", "/portal/details", "/portal/sign-out",
                     "/portal/details/email", "/portal/login", "/portal/forgot"):  # fmt: skip
            answer = await visitor.http.post(path, data={"form_token": token, "phone": PHONE})
            assert answer.status_code == 403 and "too old" in answer.text, path
    assert len(desk.portal.house.sent) == before
    assert (await visitor.get("/session")).status_code == 200


@pytest.mark.parametrize(
    ("path", "answers", "words"),
    [
        ("/portal/invoices", {"payer/invoices": {"items": [], "next_cursor": None}}, "yet"),
        ("/portal/invoices?state=overdue",
         {"payer/invoices": {"items": [], "next_cursor": None}}, "None of these"),
        ("/portal/invoices?state=dream&cursor=%3C", {}, "INV-2026-000042"),
        ("/portal/invoices",
         {"payer/invoices": {"items": [row(status="overdue")], "next_cursor": "inv_1"}},
         "/portal/invoices?cursor=inv_1"),
        ("/portal/statement", {"payer/statement": {"as_of": "2026-11-21", "totals": [],
         "invoices": [], "credit": []}}, "Nothing is open"),
        ("/portal/statement", {"payer/statement": {"as_of": "2026-11-21",
         "totals": [{"currency": "RWF", "invoices": 1, "current": 0, "days_1_30": 12500,
                     "days_31_60": 0, "days_61_90": 0, "days_over_90": 0, "open_minor": 12500}],
         "invoices": [row(days=3)], "credit": [{"currency": "RWF", "amount_minor": 500}]}},
         "1 to 30 days late"),
        ("/portal/details", {}, "How to reach you"),
        ("/portal/invoices/inv_9", {}, "no such page"),
        ("/portal/invoices/%00", {}, "no such page"),
    ],
)  # fmt: skip
async def test_each_page_shows_what_there_is(
    desk: Lobby, path: str, answers: dict[str, Any], words: str
) -> None:
    visitor, _ = await inside(desk)
    desk.portal.house.answers |= answers
    page = await visitor.http.get(path)
    assert words in page.text
    assert page.status_code == (404 if "no such" in words else 200)
    assert (
        "<script" not in page.text
        and "default-src 'none'" in page.headers["content-security-policy"]
    )


async def test_details_are_changed_as_they_were_read(desk: Lobby) -> None:
    visitor, body = await inside(desk, locale="fr-RW")
    house = desk.portal.house
    house.answers["PUT payer"] = me(body, version=2)
    page = await visitor.http.get("/portal/details")
    assert 'lang="fr"' in page.text and 'name="version" value="1"' in page.text
    fields = {"name": "K <b>", "phone": "+250 780 000 000", "address": "KN 1\r\nKigali",
              "locale": "fr", "version": "1"}  # fmt: skip
    saved = await form_of(visitor, "/portal/details", "/portal/details", fields)
    assert at(saved) == "/portal/details?saved=1"
    assert house.sent[-1][2] == {
        "name": "K <b>", "phone": PHONE, "address": "KN 1\nKigali", "locale": "fr-RW",
        "version": 1, "email": body.email,
    }  # fmt: skip
    for changes, words in (({"name": " "}, "Écrivez un nom"), ({"phone": "12"}, "indicatif"),
                           ({"address": "x" * 501}, "au plus 500")):  # fmt: skip
        wrong = await form_of(visitor, "/portal/details", "/portal/details", fields | changes)
        assert wrong.status_code == 422 and words in wrong.text
    house.refusals = [(409, {"code": "stale_version", "title": "Stale"})]
    stale = await form_of(visitor, "/portal/details", "/portal/details", fields)
    assert stale.status_code == 409 and "entre-temps" in stale.text


async def form_of(
    visitor: Visitor, path: str, action: str, fields: dict[str, str]
) -> httpx.Response:
    """Send a form of a page with these fields."""
    return await visitor.form(path, action, **fields)


async def test_a_new_address_is_asked_for_and_taken_by_pages(desk: Lobby) -> None:
    visitor, body = await inside(desk)
    await desk.portal.rows("delete from payer_asks returning key")
    path = "/portal/details/email"
    wrong = await visitor.form("/portal/details", path, email="nobody")
    assert wrong.status_code == 422 and "Write an e-mail address" in wrong.text
    new = "new-" + str(body.email)
    assert at(await visitor.form("/portal/details", path, email=new)) == "/portal/details?sent=1"
    link = await desk.link(body, "verify")
    desk.portal.house.answers["PUT payer"] = me(body, email=new, version=2)
    other = Visitor(desk.portal.browser().http)
    page = await other.http.get(link)
    assert new in page.text
    moved = await other.form(link)
    assert moved.status_code == 200 and "is changed" in moved.text
    assert desk.portal.house.sent[-1][2]["email"] == new
    assert (await other.http.get(link)).status_code == 410


async def test_a_forgotten_password_is_answered_alike_and_set_by_the_link(desk: Lobby) -> None:
    body = await desk.customer()
    await desk.payer(body)
    await desk.portal.rows("delete from payer_asks returning key")
    visitor = Visitor(desk.portal.browser().http)
    strip = re.compile(r'nonce="[^"]+"')
    pages = [
        await visitor.form("/portal/forgot", email=email)
        for email in (str(body.email), "nobody@payers.example")
    ]
    assert strip.sub("", pages[0].text) == strip.sub("", pages[1].text)
    assert pages[0].status_code == 200 and "Look into your mails" in pages[0].text
    path = await desk.link(body, "reset")
    entered = await visitor.form(path, password="another fine password")
    assert at(entered) == "/portal/invoices"


async def test_pages_wait_for_a_ledger_that_is_away_and_repeat_no_token(
    desk: Lobby, capsys: pytest.CaptureFixture[str]
) -> None:
    visitor, _ = await inside(desk)
    other = await desk.customer()
    await desk.invite(other)
    link = await desk.link(other)
    await desk.portal.house.down("ledger")
    away = await visitor.http.get("/portal/invoices")
    assert away.status_code == 503 and away.headers["retry-after"]
    assert (await visitor.http.get(link)).status_code == 200
    assert link.rpartition("/")[2] not in "".join(capsys.readouterr())


async def test_the_logo_stands_on_pages_and_is_the_payers_issuers(desk: Lobby) -> None:
    visitor, body = await inside(desk)
    logo = {"digest": "d" * 64, "width": 64, "height": 16}
    desk.portal.house.answers |= {
        "payer": me(body, issuer=brand(logo=logo)), "payer/logo": b"\x89PNG",
    }  # fmt: skip
    page = await visitor.http.get("/portal/invoices")
    assert f'src="/portal/logo?v={"d" * 16}"' in page.text
    shown = await visitor.http.get("/portal/logo")
    assert shown.content == b"\x89PNG" and shown.headers["content-type"] == "image/png"
