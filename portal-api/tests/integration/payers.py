"""Payers of a merchant as portal-api meets them: told by the ledger, invited, let in by a mail."""

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from mospay_portal_api.usecases import payers
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import CustomerEventV1, Envelope, Event, outgoing
from mospay_shared.ids import new_id

from .conftest import Browser, Portal

PASSWORD = "a fine long password"


def told(client_id: str | None, **changes: Any) -> CustomerEventV1:
    """A customer with a portal, as the ledger tells of it."""
    values: dict[str, Any] = {
        "customer_id": new_id("cus"), "issuer_id": new_id("iss"), "client_id": client_id,
        "mode": "live", "name": "Amélie Uwase", "email": f"{new_id('usr')}@payers.example",
        "locale": "en", "active": True, "portal_enabled": True, "version": 1,
        "occurred_at": dt.datetime.now(dt.UTC),
    }  # fmt: skip
    return CustomerEventV1(**(values | changes))


def event(body: CustomerEventV1, news: str = "updated") -> Event[CustomerEventV1]:
    """News of a customer as its handler gets them."""
    made = outgoing(f"customer.{news}.v1", body.customer_id, body, source="ledger")
    return Event(Envelope.model_validate_json(made.body), body)


def brand(**changes: Any) -> dict[str, Any]:
    """A merchant as its payers see it."""
    return {"name": "Akaliza Shop", "email": "billing@shop.example", "phone": None,
            "colour": "#1f4b99", "logo": None} | changes  # fmt: skip


def me(body: CustomerEventV1, **changes: Any) -> dict[str, Any]:
    """A payer as the ledger shows it to itself."""
    return {
        "id": body.customer_id, "mode": body.mode, "name": body.name, "email": body.email,
        "phone": None, "address": None, "locale": body.locale, "version": body.version,
        "tax_id": None, "credit": [], "issuer": brand(),
    } | changes  # fmt: skip


@dataclass
class Lobby:
    """A merchant's side of the portal, and the notifier's."""

    portal: Portal
    notifier: TokenSigner
    merchant: Browser
    client_id: str
    known: dict[str, CustomerEventV1] = field(default_factory=dict)

    async def tell(self, *bodies: CustomerEventV1) -> None:
        """Let the ledger's news arrive, in this order, in one batch."""
        async with self.portal.service.database.transaction() as tx:
            await payers.follow(tx, [event(body) for body in bodies])
        for body in bodies:
            self.keep(body)

    def keep(self, body: CustomerEventV1) -> None:
        """Let the ledger answer for a customer."""
        self.known[body.customer_id] = body
        answers = self.portal.house.answers
        answers[f"customers/{body.customer_id}"] = body.model_dump(mode="json") | {
            "id": body.customer_id
        }
        answers["payer"] = me(body)

    async def customer(self, **changes: Any) -> CustomerEventV1:
        """A customer that is known here."""
        body = told(self.client_id, **changes)
        await self.tell(body)
        return body

    async def invite(self, body: CustomerEventV1) -> httpx.Response:
        """Send an invitation as the merchant does."""
        path = f"/customers/{body.customer_id}/portal-invites?mode={body.mode}"
        return await self.merchant.send("POST", path)

    async def access(self, body: CustomerEventV1) -> dict[str, Any]:
        """How a customer's way in stands."""
        path = f"/customers/{body.customer_id}/portal-access?mode={body.mode}"
        found: dict[str, Any] = (await self.merchant.get(path)).json()
        return found

    async def mails(self, body: CustomerEventV1, kind: str = "") -> list[dict[str, Any]]:
        """The mails that were asked for a customer, oldest first."""
        rows = await self.portal.rows(
            "select body from outbox where type = 'payers.mail.v1' and command order by id"
        )
        data = [orjson.loads(row["body"])["data"] for row in rows]
        return [
            one for one in data
            if one["customer_id"] == body.customer_id and kind in ("", one["kind"])
        ]  # fmt: skip

    async def compose(self, mail_id: str) -> httpx.Response:
        """Ask for a mail's link as notifier does."""
        token = self.notifier.token("portal-api", "payers:link")
        return await self.portal.browser().http.post(
            f"/internal/v1/payer-links/{mail_id}/token",
            headers={"Authorization": f"Bearer {token}"},
        )

    async def link(self, body: CustomerEventV1, kind: str = "invite") -> str:
        """The path in the newest mail of a kind."""
        answer = await self.compose((await self.mails(body, kind))[-1]["mail_id"])
        assert answer.status_code == 201, answer.text
        path: str = answer.json()["path"]
        return path

    async def payer(self, body: CustomerEventV1 | None = None) -> "Visitor":
        """A payer who accepted an invitation over the API."""
        body = body or await self.customer()
        assert (await self.invite(body)).status_code == 201
        token = (await self.link(body)).rpartition("/")[2]
        visitor = Visitor(self.portal.browser().http)
        answer = await visitor.enter("/invites/accept", token=token, password=PASSWORD)
        assert answer.status_code == 200, answer.text
        return visitor


@dataclass
class Visitor:
    """A payer's browser."""

    http: httpx.AsyncClient
    csrf: str = ""

    async def enter(self, path: str, **body: Any) -> httpx.Response:
        """Come in by the API and keep the session."""
        answer = await self.http.post("/bff/v1/payer" + path, json=body)
        if answer.status_code == 200:
            self.csrf = answer.json()["csrf_token"]
        return answer

    async def get(self, path: str) -> httpx.Response:
        """GET below /bff/v1/payer."""
        return await self.http.get("/bff/v1/payer" + path)

    async def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Change something, with the CSRF token."""
        return await self.http.request(
            method, "/bff/v1/payer" + path, json=body, headers={"X-CSRF-Token": self.csrf}
        )

    async def form(self, path: str, action: str = "", **fields: str) -> httpx.Response:
        """Open a page and send its (last) form."""
        page = await self.http.get(path)
        found = re.findall(r'name="form_token" value="([^"]+)"', page.text)
        values = {"form_token": found[-1] if found else ""} | fields
        return await self.http.post(action or path, data=values)


async def lobby(portal: Portal, notifier: TokenSigner) -> Lobby:
    """A merchant before a house that has its ledger."""
    await portal.house.up("ledger")
    admin = await portal.admin()
    merchant, client_id, _ = await portal.merchant(admin)
    return Lobby(portal, notifier, merchant, client_id)
