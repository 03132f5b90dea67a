"""Guest pages: they work without a script, name what is wrong, and keep the token to themselves."""

import json
import re
import secrets
from typing import Any

import httpx
import pytest
from mospay_portal_api.domain.guests import digest_of
from mospay_shared.ids import new_id

from .conftest import Portal

PHONE = "+250780000000"


def invoice(**changes: Any) -> dict[str, Any]:
    """An issued invoice as the ledger shows it to a guest."""
    return {
        "invoice_id": new_id("inv"), "number": "INV-2026-000042", "status": "issued",
        "mode": "live", "currency": "RWF", "total_minor": 12500, "paid_minor": 0,
        "open_minor": 12500, "tax_minor": 1907, "discount_minor": 0, "credited_minor": 0,
        "due_on": "2026-12-05", "issued_on": "2026-11-21", "locked": False,
        "allow_partial": False, "notes": None, "reference": None,
        "issuer_name": "Akaliza Shop", "colour": "#1f4b99",
        "issuer_email": "billing@shop.example", "issuer_phone": None, "locale": "en",
        "customer_name": "Keza Uwase", "payment": None,
        "lines": [{"description": "Tea, 1 kg", "quantity": "5", "unit_price_minor": 2500,
                   "discount_minor": 0, "tax_minor": 1907, "total_minor": 12500}],
        "methods": [{"service": "collection", "label": "Mobile money"}],
    } | changes  # fmt: skip


def payment(**changes: Any) -> dict[str, Any]:
    """A payment under way."""
    return {
        "id": new_id("int"), "state": "posted", "payment_status": "processing",
        "amount_minor": 12500, "phone_masked": "**********000", "reason_code": None,
        "reason_message": None, "created_at": "2026-11-21T10:00:00Z", "ended_at": None,
    } | changes  # fmt: skip


class Payer:
    """Somebody with a link and a browser."""

    def __init__(self, portal: Portal, found: dict[str, Any] | None) -> None:
        self.portal, self.token = portal, secrets.token_urlsafe(24)
        self.http = portal.browser().http
        if found is not None:
            portal.house.guests[digest_of(self.token)] = found

    async def get(self, path: str = "") -> httpx.Response:
        """GET a page."""
        return await self.http.get(f"/i/{self.token}{path}")

    async def pay(self, **changes: str) -> httpx.Response:
        """Open the page and send its form."""
        page = await self.get()
        found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
        form = {"form_token": found[1] if found else "", "phone": PHONE, "service": "collection"}
        return await self.http.post(f"/i/{self.token}/pay", data=form | changes)


async def payer(portal: Portal, found: dict[str, Any] | None) -> Payer:
    """A payer before a house that has its ledger."""
    await portal.house.up("ledger")
    return Payer(portal, found)


async def test_a_guest_sees_amount_due_lines_and_one_pay_button(portal: Portal) -> None:
    guest = await payer(portal, invoice())
    page = await guest.get()
    assert page.status_code == 200
    for words in ("INV-2026-000042", "RWF 12,500", "5 December 2026", "Tea, 1 kg", "Akaliza Shop"):
        assert words in page.text
    assert page.text.count('type="submit"') == 1 and "<script" not in page.text
    assert f"/i/{guest.token}/pdf" in page.text
    paper = await guest.get("/pdf")
    assert paper.content == b"%PDF-1.7" and paper.headers["content-type"] == "application/pdf"


async def test_pages_leave_no_trace_of_the_token(
    portal: Portal, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = await payer(portal, invoice())
    page = await guest.get()
    assert page.headers.get_list("referrer-policy") == ["no-referrer"]
    assert page.headers["cache-control"] == "no-store"
    assert "noindex" in page.headers["x-robots-tag"]
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    cookie = page.headers["set-cookie"]
    assert "HttpOnly" in cookie and "Path=/i" in cookie and guest.token not in cookie
    await guest.pay()
    await portal.house.down("ledger")
    assert (await guest.get()).status_code == 503
    asked = {path for _, path, _, _ in portal.house.calls}
    assert asked and not any(guest.token in path for path in asked)
    assert guest.token not in "".join(capsys.readouterr())


async def test_paying_goes_to_the_status_page_once_asked(portal: Portal) -> None:
    guest = await payer(portal, invoice())
    answer = await guest.pay(phone="+250 (780) 000-000")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/i/{guest.token}/status"
    assert portal.house.sent[-1][2] == {"phone": PHONE, "service": "collection"}


async def test_a_second_press_is_shown_how_the_first_goes(portal: Portal) -> None:
    guest = await payer(portal, invoice())
    portal.house.refusals = [(409, {"code": "payment_under_way", "title": "Wait"})]
    assert (await guest.pay()).headers["location"] == f"/i/{guest.token}/status"
    under_way = invoice(locked=True, payment=payment())
    portal.house.guests[digest_of(guest.token)] = under_way
    page = await guest.get()
    assert "being processed" in page.text and 'type="submit"' not in page.text
    status = await guest.get("/status")
    assert "Waiting for your approval" in status.text and 'http-equiv="refresh"' in status.text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"phone": "12"}, "country code"),
        ({"phone": ""}, "country code"),
        ({"phone": "+250\x00780000000x"}, "country code"),
        ({"service": "other"}, "Choose one"),
        ({"amount": "99999"}, "up to RWF 12,500"),
        ({"amount": "1.5"}, "up to RWF 12,500"),
        ({"amount": "9" * 100}, "up to RWF 12,500"),
    ],
)
async def test_a_form_says_what_is_wrong_with_it(
    portal: Portal, form: dict[str, str], words: str
) -> None:
    guest = await payer(portal, invoice(allow_partial=True))
    answer = await guest.pay(**form)
    assert answer.status_code == 422 and words in answer.text
    assert not portal.house.sent


async def test_what_the_gateway_refuses_is_shown_at_its_field(portal: Portal) -> None:
    guest = await payer(portal, invoice())
    fault = {"field": "phone", "code": "daily_phone_limit_exceeded", "message": "is over <its> day"}
    problem = {"code": "payment_refused", "title": "No", "errors": [fault]}
    portal.house.refusals = [(422, problem), (422, {"code": "payment_refused", "title": "No"})]
    answer = await guest.pay()
    assert answer.status_code == 422 and "is over &lt;its&gt; day" in answer.text
    assert "Nothing was taken" in (await guest.pay()).text


async def test_a_form_of_another_page_pays_nothing(portal: Portal) -> None:
    guest, other = await payer(portal, invoice()), Payer(portal, invoice())
    foreign = re.search(r'value="([0-9a-f]{64})"', (await other.get()).text)
    assert foreign is not None
    for forged in ("", "0" * 64, foreign[1], "é"):
        assert (await guest.pay(form_token=forged)).status_code == 403
    url = f"/i/{guest.token}/pay"
    assert (await guest.http.post(url, json={"phone": PHONE})).status_code == 403
    assert (await guest.http.post(url, content=b"x=" + b"y" * 9000)).status_code == 403
    assert not portal.house.sent


async def test_links_that_do_not_hold_look_alike(portal: Portal) -> None:
    guest = await payer(portal, None)
    unknown = await guest.get()
    guest.token = "short"
    mistyped = await guest.get()
    assert unknown.status_code == mistyped.status_code == 404
    strip = re.compile(r'nonce="[^"]+"')
    assert strip.sub("", unknown.text) == strip.sub("", mistyped.text)
    assert all(path.count("/guest/") == 0 or "short" not in path
               for _, path, _, _ in portal.house.calls)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words", "payable"),
    [
        ({"status": "paid", "open_minor": 0, "paid_minor": 12500}, "Nothing is left to pay", False),
        ({"status": "part_paid", "open_minor": 2500, "paid_minor": 10000}, "Partly paid", True),
        ({"status": "overdue"}, "Was due on", True),
        ({"status": "void", "open_minor": 0}, "was cancelled", False),
        ({"methods": []}, "does not take online payments", False),
        ({"mode": "test"}, "Test mode", True),
        ({"customer_name": "<b>Zoë</b> شركة"}, "&lt;b&gt;Zoë&lt;/b&gt; شركة", True),
        ({"payment": payment(state="failed", reason_message="No funds")}, "No funds", True),
    ],
)
async def test_the_page_says_how_the_invoice_stands(
    portal: Portal, changes: dict[str, Any], words: str, payable: bool
) -> None:
    page = await (await payer(portal, invoice(**changes))).get()
    assert page.status_code == 200 and words in page.text
    assert ('type="submit"' in page.text) == payable


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"locked": True, "payment": payment(payment_status="unknown")}, "still finding out"),
        (
            {"status": "paid", "open_minor": 0, "payment": payment(state="succeeded")},
            "went through",
        ),
        ({"payment": payment(state="released")}, "did not go through"),
        ({}, "No payment was started"),
    ],
)
async def test_the_status_page_says_how_the_payment_goes(
    portal: Portal, changes: dict[str, Any], words: str
) -> None:
    page = await (await payer(portal, invoice(**changes))).get("/status")
    assert page.status_code == 200 and words in page.text


async def test_too_many_calls_of_one_link_wait(portal: Portal) -> None:
    guest = await payer(portal, invoice())
    answers = [await guest.pay() for _ in range(8)]
    refused = [a for a in answers if a.status_code == 429]
    assert refused and refused[0].headers["retry-after"] == "30"
    assert len(portal.house.sent) == 6
    assert json.dumps(portal.house.sent[0][2])
