"""Guest links: a hash alone is kept, ended ones are told alike, a guest pays one invoice."""

import asyncio
import datetime as dt
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from mospay_ledger.domain.paying import TOKEN
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from ..images import png
from .paying_house import PHONE, Shop, open_shop


@pytest.fixture
async def shop(
    ledger_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, portal: TokenSigner
) -> AsyncIterator[Shop]:
    """A shop."""
    async with open_shop(ledger_env, monkeypatch, portal) as made:
        yield made


async def link(shop: Shop, invoice: str, **body: Any) -> dict[str, Any]:
    """Make a link and return it with its token."""
    answer = await shop.http.post(
        f"/internal/v1/invoices/{invoice}/links",
        json=body,
        headers=shop.headers("invoices:share"),
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def guest(
    shop: Shop, token: str, path: str = "", body: dict[str, Any] | None = None
) -> httpx.Response:
    """Ask as portal-api does for whoever has a token."""
    url = f"/internal/v1/guest/{hashlib.sha256(token.encode()).hexdigest()}{path}"
    headers = shop.headers("invoices:guest", operator=True)
    if body is None:
        return await shop.http.get(url, headers=headers)
    return await shop.http.post(url, json=body, headers=headers)


async def with_method(shop: Shop) -> None:
    """Let payers use one service."""
    method = {"currency": "RWF", "service": "collection", "route": "payment", "label": "Momo"}
    answer = await shop.http.put(
        f"/internal/v1/issuers/{shop.issuer_id}/payment-methods",
        json={"methods": [method]},
        headers=shop.headers("invoices:write"),
    )
    assert answer.status_code == 200, answer.text


async def test_a_guest_sees_the_invoice_and_its_link_counts_it(
    shop: Shop, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    invoice = await shop.invoice(5000)
    made = await link(shop, invoice)
    assert TOKEN.fullmatch(made["token"]) and made["uses"] == 0
    await with_method(shop)
    seen = (await guest(shop, made["token"])).json()
    assert (seen["status"], seen["open_minor"], seen["currency"]) == ("issued", 5000, "RWF")
    assert seen["lines"][0]["description"] == "Tea" and seen["lines"][0]["quantity"] == "1"
    assert seen["methods"] == [{"service": "collection", "label": "Momo"}]
    assert seen["issuer_name"] == "Akaliza Shop" and seen["customer_name"] == "Keza Uwase"
    rows = await superuser.fetch("select l::text as row, uses from invoice_links l")
    assert all(made["token"] not in row["row"] for row in rows)
    uses = await superuser.fetchval("select uses from invoice_links where id = $1", made["id"])
    assert uses == 1


async def test_a_guest_is_shown_the_issuers_logo_and_the_customers_language(shop: Shop) -> None:
    invoice = await shop.invoice()
    made = await link(shop, invoice)
    seen = (await guest(shop, made["token"])).json()
    assert (seen["logo"], seen["locale"]) == (None, "en")
    assert (await guest(shop, made["token"], "/logo")).status_code == 404
    image = png(64, 16)
    kept = await shop.http.put(
        f"/internal/v1/issuers/{shop.issuer_id}/logo",
        content=image,
        headers=shop.headers("invoices:write"),
    )
    assert kept.status_code == 200, kept.text
    async with shop.ledger.database.transaction() as tx:
        await tx.run("update issuers set locale = 'fr' where id = $1", shop.issuer_id)
    digest = hashlib.sha256(image).hexdigest()
    for path in ("", "/status"):
        seen = (await guest(shop, made["token"], path)).json()
        assert seen["logo"] == {"digest": digest, "width": 64, "height": 16}
        assert seen["locale"] == "en", "the issuer's is not the reader's"
    shown = await guest(shop, made["token"], "/logo")
    assert (shown.content, shown.headers["content-type"]) == (image, "image/png")
    assert (await guest(shop, "A" * 32, "/logo")).status_code == 404


async def test_unknown_expired_and_revoked_links_are_told_alike(
    shop: Shop, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    invoice = await shop.invoice()
    expired, revoked = await link(shop, invoice), await link(shop, invoice)
    await superuser.execute(
        "update invoice_links set expires_at = now() - interval '1 s' where id = $1", expired["id"]
    )
    for _ in range(2):
        ended = await shop.http.post(
            f"/internal/v1/links/{revoked['id']}/revoke", headers=shop.headers("invoices:share")
        )
        assert ended.status_code == 200 and ended.json()["revoked_at"]
    answers = [
        await guest(shop, token, path, body)
        for token in (expired["token"], revoked["token"], "A" * 32)
        for path, body in (("", None), ("/status", None), ("/pay", {"phone": PHONE}))
    ]
    assert {a.status_code for a in answers} == {404}
    told = [
        {k: v for k, v in a.json().items() if k not in ("request_id", "instance")} for a in answers
    ]
    assert all(one == told[0] for one in told)


async def test_a_guest_pays_once_however_often_it_presses(shop: Shop) -> None:
    invoice = await shop.invoice()
    made = await link(shop, invoice)
    none = await guest(shop, made["token"], "/pay", {"phone": PHONE})
    assert none.status_code == 422 and none.json()["errors"][0]["field"] == "service"
    await with_method(shop)
    presses = await asyncio.gather(
        *(guest(shop, made["token"], "/pay", {"phone": PHONE}) for _ in range(10))
    )
    assert sorted(p.status_code for p in presses) == [202] + [409] * 9
    assert len(shop.gateway.payments) == 1
    status = (await guest(shop, made["token"], "/status")).json()
    assert status["locked"] and status["payment"]["state"] == "posted"
    await shop.tell(shop.news(status["payment"]["id"], "succeeded"))
    await shop.ended(status["payment"]["id"], "succeeded")
    status = (await guest(shop, made["token"], "/status")).json()
    assert (status["status"], status["locked"]) == ("paid", False)
    unlisted = await guest(
        shop, (await link(shop, await shop.invoice()))["token"], "/pay",
        {"phone": PHONE, "service": "other"},
    )  # fmt: skip
    assert unlisted.status_code == 422 and unlisted.json()["code"] == "no_such_method"


async def test_only_the_portal_speaks_for_guests(shop: Shop, ledger_env: dict[str, str]) -> None:
    made = await link(shop, await shop.invoice())
    digest = hashlib.sha256(made["token"].encode()).hexdigest()
    url = f"/internal/v1/guest/{digest}"
    other = TokenSigner("ledger", ledger_env["LEDGER_SIGNING_KEY"])
    tokens = [
        shop.headers("invoices:guest"),  # somebody's tenant
        {"Authorization": f"Bearer {other.token('ledger', 'invoices:guest')}"},
        shop.headers("ledger:read", operator=True),
    ]
    for headers in tokens:
        assert (await shop.http.get(url, headers=headers)).status_code == 403
    assert (await shop.http.get(url)).status_code == 401
    fine = shop.headers("invoices:guest", operator=True)
    for wrong in ("x", digest.upper(), digest + "0", made["token"]):
        answer = await shop.http.get(f"/internal/v1/guest/{wrong}", headers=fine)
        assert answer.status_code == 422


async def test_links_are_a_clients_own_and_not_to_drafts(shop: Shop) -> None:
    draft, issued = await shop.invoice(issued=False), await shop.invoice()
    share = shop.headers("invoices:share")
    path = "/internal/v1/invoices/{}/links"
    assert (await shop.http.post(path.format(draft), json={}, headers=share)).status_code == 409
    made = await link(shop, issued)
    listed = await shop.http.get(path.format(issued), headers=shop.headers("invoices:read"))
    assert [row["id"] for row in listed.json()["items"]] == [made["id"]]
    assert "token" not in listed.json()["items"][0]
    shop.client_id = new_id("cli")
    share = shop.headers("invoices:share")
    assert (await shop.http.post(path.format(issued), json={}, headers=share)).status_code == 404
    revoke = f"/internal/v1/links/{made['id']}/revoke"
    assert (await shop.http.post(revoke, headers=share)).status_code == 404


@pytest.mark.parametrize("when", ["2020-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "soon"])
async def test_an_end_that_is_past_or_absurd_is_refused(shop: Shop, when: str) -> None:
    invoice = await shop.invoice()
    answer = await shop.http.post(
        f"/internal/v1/invoices/{invoice}/links",
        json={"expires_at": when},
        headers=shop.headers("invoices:share"),
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "expires_at"


async def test_a_link_lives_as_long_as_it_says(shop: Shop) -> None:
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
    made = await link(shop, await shop.invoice(), expires_at=until.isoformat())
    assert dt.datetime.fromisoformat(made["expires_at"]) == until


async def test_a_mail_sent_again_ends_the_link_nobody_used(shop: Shop) -> None:
    invoice = await shop.invoice()
    first = await link(shop, invoice, purpose="mailed")
    shared = await link(shop, invoice)
    second = await link(shop, invoice, purpose="mailed")
    assert (await guest(shop, first["token"])).status_code == 404
    assert (await guest(shop, shared["token"])).status_code == 200
    assert (await guest(shop, second["token"])).status_code == 200
    await link(shop, invoice, purpose="mailed")
    assert (await guest(shop, second["token"])).status_code == 200, "it was used: it stays"
