"""A merchant whose customers have the payers' portal: let in by a mailed link, in test mode."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import asyncpg
import httpx
from mospay_shared.chassis.service_tokens import TokenSigner

from mospay_dev.demo.invoices import Billing
from mospay_dev.demo.portal import Portal
from mospay_dev.demo.seed import Merchant
from mospay_dev.infrastructure.databases import database_url
from mospay_dev.proxy import until
from mospay_dev.services import SERVICES
from mospay_dev.stack import Stack

PASSWORD = "a fine long password"  # noqa: S105 - a payer's, of test data
SERVICE = "portal-api"
MODE = "test"


@dataclass
class Reception:
    """Who lets a merchant's customers in: its owner at the portal, its invoices at the ledger."""

    stack: Stack
    merchant: Merchant
    owner: Portal = field(init=False)
    billing: Billing = field(init=False)

    def __post_init__(self) -> None:
        self.owner = Portal(self.stack.url(SERVICE))
        self.owner.sign_in(self.merchant.client_email, self.merchant.client_password, "client")
        self.billing = Billing(self.stack, self.merchant.client_id, MODE)
        self.billing.open()

    @property
    def _mine(self) -> dict[str, str]:
        return {"mode": MODE, "client_id": self.merchant.client_id}

    @property
    def _query(self) -> str:
        return "?" + urlencode(self._mine)

    def customer(self, name: str, **more: Any) -> dict[str, Any]:
        """Make a customer whose portal is on."""
        body = {"name": name, "portal_enabled": True, **more}
        made: dict[str, Any] = self.owner.post(f"/customers{self._query}", body)
        return made

    def read(self, customer_id: str) -> dict[str, Any]:
        """Return a customer as it is."""
        found: dict[str, Any] = self.owner.get(f"/customers/{customer_id}", **self._mine)
        return found

    def switch(self, customer_id: str, *, on: bool) -> None:
        """Switch a customer's portal on or off."""
        now = self.read(customer_id)
        kept = {
            name: now[name] for name in ("name", "email", "phone", "address", "locale", "version")
        }
        path = f"/customers/{customer_id}{self._query}"
        self.owner.change("PUT", path, kept | {"portal_enabled": on})

    def access(self, customer_id: str) -> str:
        """Return how a customer's way in stands: making, ready, invited, …"""
        found = self.owner.get(f"/customers/{customer_id}/portal-access", **self._mine)
        return str(found["state"])

    def invite(self, customer_id: str) -> None:
        """Have an invitation mailed, once the customer's account is made."""
        until(lambda: self.access(customer_id) != "making", "the account is made", 60)
        invited = self.owner.post(f"/customers/{customer_id}/portal-invites{self._query}", {})
        assert invited["state"] == "invited", invited

    def invited(self, name: str, email: str) -> dict[str, Any]:
        """Make a customer and have it invited."""
        made = self.customer(name, email=email)
        self.invite(made["id"])
        return made

    def invoice(self, customer_id: str, amount_minor: int = 6400) -> dict[str, Any]:
        """Issue an invoice of one line to a customer."""
        line = {"description": "Tea, 1 kg", "unit_price_minor": amount_minor}
        body = {"customer_id": customer_id, "currency": "RWF", "lines": [line]}
        draft = self.billing.have("POST", "/invoices", body)
        issued: dict[str, Any] = self.billing.have("POST", f"/invoices/{draft['id']}/issue", {})
        return issued

    def link(self, customer_id: str) -> str:
        """Return the path of a customer's newest link, made as for the mail that carries it.

        In a thread of its own, so that whoever has a loop running may ask: Playwright does.
        """
        with ThreadPoolExecutor(1) as pool:
            link_id = pool.submit(asyncio.run, self._newest_link(customer_id)).result()
        signer = TokenSigner("notifier", self.stack.cluster.keys["notifier_signing"])
        answer = httpx.post(
            f"{self.stack.url(SERVICE)}/internal/v1/payer-links/{link_id}/token",
            headers={"Authorization": f"Bearer {signer.token(SERVICE, 'payers:link')}"},
        )
        assert answer.status_code == 201, answer.text
        path: str = answer.json()["path"]
        return path

    async def _newest_link(self, customer_id: str) -> str:
        url = database_url(self.stack.cluster.postgres_url, SERVICES[SERVICE].database)
        connection = await asyncpg.connect(url)
        try:
            found = await connection.fetchval(
                "select id from payer_links where customer_id = $1 order by created_at desc",
                customer_id,
            )
        finally:
            await connection.close()
        return str(found)


class Payer:
    """A payer with a browser without scripts."""

    def __init__(self, portal_url: str) -> None:
        self.http = httpx.Client(base_url=portal_url, timeout=15)

    def page(self, path: str) -> httpx.Response:
        """GET a page."""
        return self.http.get(path)

    def send(self, path: str, action: str = "", **fields: str) -> httpx.Response:
        """Open a page and send its (last) form."""
        found = re.findall(r'name="form_token" value="([^"]+)"', self.page(path).text)
        assert found, f"{path} has no form"
        return self.http.post(action or path, data={"form_token": found[-1], **fields})

    def enter(self, link: str) -> None:
        """Follow an invitation, or the link for a new password, to the invoices."""
        entered = self.send(link, password=PASSWORD)
        assert entered.headers.get("location") == "/portal/invoices", entered.text
