"""Logos: the content decides, a tenant sees and changes its own, papers bear it and never break."""

import hashlib
from typing import Any

import asyncpg
import httpx
import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from mospay_ledger import papers
from mospay_ledger.domain.logos import BYTES_LIMIT
from mospay_ledger.storage import customers as customer_rows
from mospay_ledger.usecases import customers
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from ..images import chunk, jpeg, png
from .billing_house import BASE, ISSUER, WRITE, Shop
from .settling_desk import DAY, FIRST, Desk, end_of

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
# its structure is sound, its pixels are not
UNDECODABLE = png()[:33] + chunk(b"IDAT", b"no zlib at all") + chunk(b"IEND", b"")


@pytest.fixture
def shop(ledger: Service, portal: TokenSigner) -> Shop:
    """A merchant."""
    return Shop(ledger, portal)


async def put(shop: Shop, content: bytes, issuer_id: str = "", **claims: str) -> httpx.Response:
    """Upload a logo, under a media type that says nothing."""
    path = f"{BASE}/issuers/{issuer_id or (await shop.issuer())['id']}/logo"
    headers = shop.headers(WRITE, **claims) | {"content-type": "text/html"}
    transport = httpx.ASGITransport(app=shop.ledger.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport) as http:
        return await http.put(path, content=content, headers=headers)


def images(pdf: bytes) -> list[int]:
    """How many images each page of a PDF bears."""
    document = pypdfium2.PdfDocument(pdf)
    kind = pdfium.FPDF_PAGEOBJ_IMAGE
    return [len(list(page.get_objects(filter=[kind]))) for page in document]


def text_of(pdf: bytes) -> str:
    """The words of a PDF; every kind of space is one."""
    document = pypdfium2.PdfDocument(pdf)
    pages = (page.get_textpage().get_text_bounded() for page in document)
    return " ".join(" ".join(pages).split())


async def test_a_logo_is_kept_known_by_its_digest_replaced_and_taken_away(shop: Shop) -> None:
    path = f"/issuers/{(await shop.issuer())['id']}/logo"
    assert (await shop.call("GET", path)).status_code == 404
    for content, kind, media in ((png(), "png", "image/png"), (jpeg(), "jpg", "image/jpeg")):
        made = await put(shop, content)
        digest = hashlib.sha256(content).hexdigest()
        assert made.status_code == 200, made.text
        assert {k: made.json()[k] for k in ("format", "width", "height", "bytes", "digest")} == {
            "format": kind, "width": 40, "height": 20, "bytes": len(content), "digest": digest,
        }  # fmt: skip
        seen = await shop.call("GET", path)
        assert (seen.content, seen.headers["content-type"]) == (content, media)
        assert seen.headers["etag"] == f'"{digest}"'
        assert seen.headers["x-content-type-options"] == "nosniff"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=shop.ledger.app)) as http:
        for known, status in ((f'"x", W/"{digest}"', 304), ("*", 304), ('"x"', 200)):
            headers = shop.headers("invoices:read") | {"if-none-match": known}
            assert (await http.get(BASE + path, headers=headers)).status_code == status
    assert (await shop.call("DELETE", path)).status_code == 204
    assert (await shop.call("DELETE", path)).status_code == 404
    assert (await shop.call("GET", path)).status_code == 404


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "required"),
        (SVG, 422, "svg"),
        (b"GIF89a" + bytes(40), 422, "not_an_image"),
        (png(2001, 1), 422, "wrong_size"),
        (png()[:-9], 422, "corrupt"),
        (UNDECODABLE, 422, "corrupt"),
        (bytes(BYTES_LIMIT + 1), 413, ""),
    ],
    ids=["empty", "svg", "gif", "wide", "cut", "undecodable", "large"],
)
async def test_what_is_no_logo_is_refused_and_the_old_one_stays(
    shop: Shop, content: bytes, status: int, code: str
) -> None:
    assert (await put(shop, png())).status_code == 200
    answer = await put(shop, content)
    assert answer.status_code == status, answer.text
    if code:
        fault = answer.json()["errors"][0]
        assert (fault["field"], fault["code"]) == ("logo", code) and fault["message"]
    path = f"/issuers/{(await shop.issuer())['id']}/logo"
    assert (await shop.call("GET", path)).content == png()


async def test_a_logo_is_its_own_tenants_in_its_own_mode(shop: Shop) -> None:
    issuer = (await shop.issuer())["id"]
    await put(shop, png())
    path = f"/issuers/{issuer}/logo"
    for other in (Shop(shop.ledger, shop.portal), Shop(shop.ledger, shop.portal, mode="live")):
        assert (await put(other, jpeg(), issuer)).status_code == 404
        assert (await other.call("GET", path)).status_code == 404
        assert (await other.call("DELETE", path)).status_code == 404
    assert (await put(shop, jpeg(), issuer, mode="live")).status_code == 404
    payer = await shop.customer()
    assert (await put(shop, jpeg(), issuer, customer_id=payer)).status_code == 403
    assert (await shop.call("DELETE", path, payer=payer)).status_code == 403
    operator = Shop(shop.ledger, shop.portal, client_id=None)
    assert (await operator.call("GET", path)).content == png()
    assert (await put(operator, jpeg(), issuer)).status_code == 200
    # the policy alone, without the query's own bound
    for tenant, seen in (
        ({"client_id": shop.client_id or "", "mode": "test"}, 1),
        ({"client_id": shop.client_id or "", "mode": "live"}, 0),
        ({"client_id": new_id("cli"), "mode": "test"}, 0),
        ({}, 0),
    ):
        async with shop.ledger.database.request(**tenant) as tx:
            rows = await tx.fetch("select 1 from issuer_logos where issuer_id = $1", issuer)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await tx.run("delete from issuer_logos")
        assert len(rows) == seen, tenant


async def papers_of(shop: Shop, locale: str = "en") -> dict[str, bytes]:
    """Every paper of invoicing, of a customer of a locale."""
    customer = await shop.new_customer(name="Zoë", locale=locale)
    row = await shop.issued(1_234_500, customer_id=customer)
    body = {"amount_minor": 300, "reason": "back"}
    note = (await shop.call("POST", f"/invoices/{row['id']}/credit-notes", body)).json()
    paths = {
        "invoice": f"/invoices/{row['id']}.pdf",
        "credit_note": f"/credit-notes/{note['credit_notes'][0]['id']}.pdf",
        "ageing": "/ageing.pdf?mode=test",
        "account": f"/ageing.pdf?mode=test&customer_id={customer}",
    }
    return {name: (await shop.call("GET", path)).content for name, path in paths.items()}


@pytest.mark.parametrize(
    "logo", [png(1200, 90), png(30, 900), png(1, 1), jpeg(300, 200)],
    ids=["wide", "tall", "tiny", "jpeg"],
)  # fmt: skip
async def test_papers_of_invoicing_bear_the_logo_on_their_first_page(
    shop: Shop, logo: bytes
) -> None:
    assert {images(pdf)[0] for pdf in (await papers_of(shop)).values()} == {0}
    assert (await put(shop, logo)).status_code == 200
    assert {images(pdf)[0] for pdf in (await papers_of(shop)).values()} == {1}


async def test_a_logo_that_can_no_longer_be_shown_breaks_no_paper(
    shop: Shop, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await put(shop, png())
    await superuser.execute(
        "update issuer_logos set content = $2 where issuer_id = $1",
        (await shop.issuer())["id"],
        UNDECODABLE,
    )
    made = await papers_of(shop)
    assert {images(pdf)[0] for pdf in made.values()} == {0}
    assert "Kigali Books" in text_of(made["invoice"])
    with pytest.raises(papers.PaperFailed):
        await papers.render(papers.LOGO, {"issuer": {"name": ""}})


@pytest.mark.parametrize(
    ("locale", "issuers", "words"),
    [
        ("fr-RW", "fr", {"invoice": "Facture d’essai", "credit_note": "Avoir d’essai",
                         "ageing": "Balance âgée", "account": "Relevé de compte"}),
        ("fr", "en", {"invoice": "Facturé à", "credit_note": "Motif", "ageing": "Ageing",
                      "account": "Statement of account"}),
        ("en", "fr", {"invoice": "Bill to", "credit_note": "Reason", "ageing": "Non échu",
                      "account": "Jours de retard"}),
        ("rw", "rw", {"invoice": "Test invoice", "credit_note": "Credit note", "ageing": "Not due",
                      "account": "Days late"}),
    ],
    ids=["french", "customer", "issuer", "fallback"],
)  # fmt: skip
async def test_papers_speak_their_readers_language(
    shop: Shop, locale: str, issuers: str, words: dict[str, str]
) -> None:
    await shop.issuer(locale=issuers)
    for name, pdf in (await papers_of(shop, locale)).items():
        said = text_of(pdf).casefold()  # some headings are in capitals
        assert words[name].casefold() in said, name
        speaks = (locale if name in ("invoice", "credit_note") else issuers)[:2]
        if name != "credit_note":  # that one is of 300
            assert ("1 234 200" if speaks == "fr" else "1,234,200") in said


async def _operators_issuer(service: Service, **fields: Any) -> str:
    """The operator's issuer in test mode, whichever test made it first."""
    async with service.database.transaction() as tx:
        found = await customer_rows.issuer_of(tx, None, "test")
        version, kept = (found["version"], dict(found)) if found else (0, {})
        same = {name: kept.get(name, ISSUER[name]) for name in ISSUER}
        made = await customers.put_issuer(tx, None, "test", version, same | fields)
    issuer_id: str = made["id"]
    return issuer_id


async def test_settlements_and_statements_bear_the_operators_logo_in_its_language(
    desk: Desk,
) -> None:
    await desk.terms(hold_days=0, reserve_bps=1000, reserve_days=5)
    await desk.lives_in("Africa/Kigali", "Épicerie Łódź")
    await desk.post(desk.capture(0, 1_234_567))
    made = await desk.settle(end_of(0))
    today = end_of(0).date() - 11 * DAY
    query = f"client_id={desk.client_id}&mode=test&currency=RWF&from={today - DAY}&to={FIRST}"
    paths = (f"/settlements/{made}/statement.pdf", f"/statements.pdf?{query}")
    operator = Shop(desk.service, desk.signer, client_id=None)
    issuer = await _operators_issuer(desk.service, locale="fr", name="La Maison")
    try:
        assert (await put(operator, png(), issuer)).status_code == 200
        own = {"client_id": desk.client_id, "mode": "test"}  # who asks sees none of it by itself
        settlement, statement = [(await desk.call("GET", p, **own)).content for p in paths]
        for pdf in (settlement, statement):
            assert images(pdf)[0] == 1
            assert "La Maison" in text_of(pdf) and "1 209 876" in text_of(pdf)
        assert "Solde final" in text_of(statement)
        assert "retenus jusqu’au" in text_of(settlement)
    finally:
        await _operators_issuer(desk.service, locale="en", name="Kigali Books")
        await operator.call("DELETE", f"/issuers/{issuer}/logo")
    plain = (await desk.call("GET", paths[0])).content
    assert images(plain)[0] == 0 and "Settled (RWF)" in text_of(plain)
