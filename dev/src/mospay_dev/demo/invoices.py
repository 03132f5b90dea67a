"""A merchant that invoices: issuer, customers, invoices, links, as portal-api asks the ledger."""

import re
from dataclasses import dataclass, field
from typing import Any

import httpx
from mospay_shared.chassis.service_tokens import TokenSigner

from mospay_dev.stack import Stack

SCOPES = "invoices:read invoices:write invoices:pay invoices:share"


@dataclass
class Billing:
    """The invoices of one client in one mode."""

    stack: Stack
    client_id: str
    mode: str = "test"
    issuer: dict[str, Any] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Call the ledger as portal-api would for a person of this client."""
        signer = TokenSigner("portal-api", self.stack.cluster.keys["portal_signing"])
        token = signer.token(
            "ledger", SCOPES, actor="demo", client_id=self.client_id, mode=self.mode
        )
        return httpx.request(
            method,
            f"{self.stack.url('ledger')}/internal/v1{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=15,
        )

    def have(self, method: str, path: str, body: Any = None) -> Any:
        """Call the ledger and insist on success."""
        answer = self.ask(method, path, body)
        assert answer.is_success, (path, answer.status_code, answer.text)
        return answer.json()

    def open(self, name: str = "Akaliza Shops", service: str = "collection") -> None:
        """Make the client an issuer whose invoices are paid by a service, once."""
        known = self.have("GET", f"/issuers?mode={self.mode}")["items"]
        if known:
            self.issuer = known[0]
        else:
            body = {
                "name": name, "mode": self.mode, "version": 0, "time_zone": "Africa/Kigali",
                "email": "billing@akaliza.example", "colour": "#0b6b3a",
            }  # fmt: skip
            self.issuer = self.have("PUT", "/issuers", body)
        method = {"currency": "RWF", "service": service, "label": "Mobile money"}
        path = f"/issuers/{self.issuer['id']}/payment-methods"
        self.have("PUT", path, {"methods": [method]})

    def invoice(self, amount_minor: int = 5000, **terms: Any) -> dict[str, Any]:
        """Issue an invoice of one line to a customer of its own; return it."""
        customer = self.have("POST", "/customers", {"name": "Keza Uwase"})
        line = {"description": "Tea, 1 kg", "unit_price_minor": amount_minor}
        body = {"customer_id": customer["id"], "currency": "RWF", "lines": [line], **terms}
        draft = self.have("POST", "/invoices", body)
        issued: dict[str, Any] = self.have("POST", f"/invoices/{draft['id']}/issue", {})
        return issued

    def read(self, invoice_id: str) -> dict[str, Any]:
        """Return an invoice as it is."""
        found: dict[str, Any] = self.have("GET", f"/invoices/{invoice_id}")
        return found

    def intents(self, invoice_id: str) -> list[dict[str, Any]]:
        """Return the payments of an invoice that were started, newest first."""
        found: list[dict[str, Any]] = self.have("GET", f"/invoices/{invoice_id}/intents")["items"]
        return found

    def link(self, invoice_id: str) -> str:
        """Make a guest link and return its token."""
        token: str = self.have("POST", f"/invoices/{invoice_id}/links", {})["token"]
        return token


class Guest:
    """Somebody with a link and a browser without scripts."""

    def __init__(self, portal_url: str, token: str) -> None:
        self.http, self._path = httpx.Client(base_url=portal_url, timeout=15), f"/i/{token}"

    def page(self, path: str = "") -> httpx.Response:
        """GET a page."""
        return self.http.get(self._path + path)

    def form(self, **changes: str) -> dict[str, str]:
        """Open the invoice and fill in its form."""
        found = re.search(r'name="form_token" value="([0-9a-f]+)"', self.page().text)
        assert found, "the page has no form"
        return {"form_token": found[1], "service": "collection", "phone": "+250780000000"} | changes

    def send(self, form: dict[str, str]) -> httpx.Response:
        """Press Pay."""
        return self.http.post(self._path + "/pay", data=form)
