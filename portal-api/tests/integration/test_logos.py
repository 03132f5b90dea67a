"""Logos at the portal: who may, what is passed on, what the audit keeps, what a guest is shown."""

import httpx
import pytest
from mospay_portal_api.domain.guests import digest_of
from mospay_portal_api.routes.logos import LOGO_BYTES

from .conftest import Browser, Portal
from .test_guests import Payer, invoice, payer, payment
from .test_invoices import audited

PATH = "/issuers/iss_a/logo?mode=test"
KEPT = {"digest": "d1", "format": "png", "width": 4, "height": 2}
IMAGE = b"\x89PNG\r\n\x1a\n not looked at here"
LOGO = {"digest": "ab" * 32, "width": 640, "height": 160}


async def put(browser: Browser, content: bytes, path: str = PATH) -> httpx.Response:
    """Upload a logo under a media type nobody believes."""
    headers = {"X-CSRF-Token": browser.csrf, "Content-Type": "image/svg+xml"}
    return await browser.http.put("/bff/v1" + path, content=content, headers=headers)


async def test_a_client_user_uploads_reads_and_removes_its_logo(portal: Portal) -> None:
    browser, client, _ = await portal.merchant(await portal.admin())
    await portal.house.up("ledger")
    portal.house.answers |= {
        "PUT issuers/iss_a/logo": {"issuer_id": "iss_a", **KEPT}, "GET issuers/iss_a/logo": IMAGE,
        "DELETE issuers/iss_a/logo": {"gone": True},
    }  # fmt: skip
    assert (await put(browser, IMAGE)).json()["digest"] == "d1"
    assert portal.house.uploads == [IMAGE]
    seen = await browser.get(PATH)
    assert (seen.content, seen.headers["content-type"]) == (IMAGE, "image/png")
    assert seen.headers["x-content-type-options"] == "nosniff"
    again = await browser.http.get("/bff/v1" + PATH, headers={"If-None-Match": '"d1"'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"d1"')
    assert (await browser.send("DELETE", PATH)).status_code == 204
    callers = {(c.client_id, c.mode) for _, path, c, _ in portal.house.calls if "logo" in path}
    assert callers == {(client, "test")}
    rows = await audited(portal, "iss_a")  # the stand-in has one issuer: other tests change it
    kept = [(row["action"], row["after"]) for row in rows if row["action"].startswith("logo")]
    assert kept == [("logo_changed", KEPT), ("logo_removed", None)]


async def test_a_refused_image_is_told_as_the_ledger_tells_it_and_not_audited(
    portal: Portal,
) -> None:
    browser, _, _ = await portal.merchant(await portal.admin())
    await portal.house.up("ledger")
    fault = {"field": "logo", "code": "svg", "message": "is an SVG"}
    portal.house.refusals = [(422, {"code": "invoice_invalid", "title": "No", "errors": [fault]})]
    path = PATH.replace("iss_a", "iss_refused")
    answer = await put(browser, b"<svg/>", path)
    assert (answer.status_code, answer.json()["errors"]) == (422, [fault])
    for size in (LOGO_BYTES + 1, LOGO_BYTES * 3):
        assert (await put(browser, b"x" * size, path)).status_code == 413
    assert (await put(browser, IMAGE, path)).status_code == 404, "no such issuer"
    assert await audited(portal, "iss_refused") == []


async def test_a_viewer_sees_the_logo_and_changes_nothing(portal: Portal) -> None:
    admin = await portal.admin()
    _, _, company = await portal.merchant(admin)
    browser = portal.browser()
    await browser.sign_in(await portal.user("client", company, role="viewer"), "client")
    await portal.house.up("ledger")
    portal.house.answers["GET issuers/iss_a/logo"] = IMAGE
    assert (await browser.get(PATH)).status_code == 200
    for answer in (await put(browser, IMAGE), await browser.send("DELETE", PATH)):
        assert (answer.status_code, answer.json()["permission"]) == (403, "invoices:write")
    assert (await portal.browser().http.get("/bff/v1" + PATH)).status_code == 401
    assert portal.house.uploads == []


async def test_a_guest_is_shown_the_logo_which_the_browser_keeps(portal: Portal) -> None:
    guest = await payer(portal, invoice(logo=LOGO))
    digest = digest_of(guest.token)
    portal.house.answers[f"guest/{digest}/logo"] = IMAGE
    for page in ("", "/status"):
        text = (await guest.get(page)).text
        assert f'src="/i/{guest.token}/logo?v={LOGO["digest"][:16]}" width="640"' in text
    seen = await guest.get("/logo?v=1")
    assert (seen.content, seen.headers["content-type"]) == (IMAGE, "image/png")
    assert seen.headers["cache-control"] == "private, max-age=86400"
    assert seen.headers["x-content-type-options"] == "nosniff"
    assert seen.headers["referrer-policy"] == "no-referrer" and seen.headers["etag"] == '"d1"'
    url = f"/i/{guest.token}/logo"
    again = await guest.http.get(url, headers={"If-None-Match": '"d1"'})
    assert (again.status_code, again.content) == (304, b"")
    odd = await guest.http.get(url, headers={"If-None-Match": b"\xe9" * 9})
    assert odd.content == IMAGE
    assert not any(guest.token in path for _, path, _, _ in portal.house.calls)


async def test_without_a_logo_the_initial_stands_and_nothing_is_served(portal: Portal) -> None:
    guest = await payer(portal, invoice(logo=None))
    text = (await guest.get()).text
    assert "<img" not in text and 'class="mark"' in text
    assert (await guest.get("/logo")).status_code == 404
    guest.token = "short"
    assert (await guest.get("/logo")).status_code == 404
    assert (await Payer(portal, None).get("/logo")).status_code == 404


async def test_a_page_of_a_ledger_of_before_has_neither_logo_nor_language(portal: Portal) -> None:
    old = {key: value for key, value in invoice().items() if key not in ("locale", "logo")}
    guest = await payer(portal, old)
    for page in ("", "/status"):
        answer = await guest.get(page)
        assert answer.status_code == 200 and '<html lang="en">' in answer.text


async def test_a_french_customer_reads_french(portal: Portal) -> None:
    found = invoice(
        locale="fr-RW", currency="USD", total_minor=123456, open_minor=123456, due_on="2026-12-01",
        customer_name="<b>Zoë</b>",
    )  # fmt: skip
    guest = await payer(portal, found)
    text = (await guest.get()).text
    for words in (
        '<html lang="fr">', "Facture INV-2026-000042", "1\u202f234,56\u00a0USD", "Payer maintenant",
        "À payer au plus tard le <strong>1er décembre 2026</strong>",
        'Pour <span dir="auto">&lt;b&gt;Zoë&lt;/b&gt;</span> · émise le 21 novembre 2026',
    ):  # fmt: skip
        assert words in text, words
    wrong = await guest.pay(phone="12")
    assert wrong.status_code == 422 and "indicatif du pays" in wrong.text
    failed = payment(
        state="failed", reason_code="insufficient_funds", reason_message="Not enough money."
    )
    portal.house.guests[digest_of(guest.token)] = found | {"payment": failed}
    for page in ("", "/status"):
        text = (await guest.get(page)).text
        assert "pas assez d’argent" in text and "Not enough" not in text


async def test_a_part_is_read_as_french_writes_it(portal: Portal) -> None:
    found = invoice(locale="fr", currency="USD", open_minor=123456, allow_partial=True)
    guest = await payer(portal, found)
    assert (await guest.pay(amount="1\u202f000,50")).status_code == 303
    assert portal.house.sent[-1][2]["amount_minor"] == 100050
    over = await guest.pay(amount="9 000,00")
    assert over.status_code == 422 and "1\u202f234,56\u00a0USD" in over.text


@pytest.mark.parametrize(
    ("accepted", "words"), [("fr-FR,fr;q=0.9", "Ce lien"), ("de, en;q=0.5", "This link")]
)
async def test_a_page_without_an_invoice_speaks_the_browsers_language(
    portal: Portal, accepted: str, words: str
) -> None:
    guest = await payer(portal, None)
    url = f"/i/{guest.token}"
    page = await guest.http.get(url, headers={"Accept-Language": accepted})
    assert page.status_code == 404 and words in page.text
