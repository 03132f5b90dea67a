"""A ledger with an issued invoice, before a gateway that answers as the gateway's contract says."""

import datetime as dt
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest
from aiohttp import web
from mospay_ledger.app import create_service
from mospay_ledger.domain.invoices import Line
from mospay_ledger.domain.paying import Intent
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import customers as customer_rows
from mospay_ledger.storage import intents
from mospay_ledger.storage.customers import EVERYTHING
from mospay_ledger.usecases import customers, invoices
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner, TokenVerifier, public_key
from mospay_shared.contracts import PaymentEventV1, PaymentStatus, outgoing
from mospay_shared.ids import new_id

from .conftest import running, send, succeeded, until

PHONE = "+250780000000"


class Gateway:
    """A real HTTP server that keeps keys as the gateway does; `next` are its next answers.

    "drop": accepted, the answer lost. "away": 503, nothing accepted. "refuse": 422 naming a field.
    """

    def __init__(self, signing_key: str) -> None:
        self._verifier = TokenVerifier("gateway", [f"ledger={public_key(signing_key)}"])
        self.next: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.payments: dict[str, dict[str, Any]] = {}
        self.url = ""

    def _caller(self, request: web.Request, scope: str) -> tuple[str | None, str | None]:
        caller = self._verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
        assert scope in caller.scopes
        return caller.client_id, caller.mode

    async def pay(self, request: web.Request) -> web.StreamResponse:
        """POST /internal/v1/payments."""
        tenant = self._caller(request, "payments:create")
        body = await request.json()
        assert tenant == (body["client_id"], body["mode"])
        self.bodies.append(body)
        how = self.next.pop(0) if self.next else "accept"
        key = body["idempotency_key"]
        if how == "away":
            return web.json_response({"code": "temporarily_unavailable"}, status=503)
        if key not in self.payments:
            if how == "refuse":
                fault = {"field": "phone", "code": "invalid_phone", "message": "must be E.164"}
                told = {"code": "invalid_request", "title": "Not valid", "errors": [fault]}
                return web.json_response(told, status=422)
            if dt.datetime.now(dt.UTC) > dt.datetime.fromisoformat(body["not_after"]):
                fault = {"field": "not_after", "code": "too_late", "message": "has passed"}
                told = {"code": "invalid_request", "title": "Not valid", "errors": [fault]}
                return web.json_response(told, status=422)
            self.payments[key] = {
                "id": new_id("pay"), "status": "processing", "version": 0,
                "amount_minor": body["amount_minor"], "reason_code": None, "reason_message": None,
                "updated_at": dt.datetime.now(dt.UTC).isoformat(),
            }  # fmt: skip
        if how == "drop":
            assert request.transport is not None
            request.transport.close()
        return web.json_response(self.payments[key], status=202)

    async def by_key(self, request: web.Request) -> web.StreamResponse:
        """GET /internal/v1/payments/by-key/…"""
        assert self._caller(request, "payments:read")[0] == request.match_info["client"]
        found = self.payments.get(request.match_info["key"])
        return web.json_response(found or {"code": "not_found"}, status=200 if found else 404)


@dataclass
class Shop:
    """A client that takes payments of its invoices."""

    ledger: Service
    http: httpx.AsyncClient
    gateway: Gateway
    portal: TokenSigner
    client_id: str = field(default_factory=lambda: new_id("cli"))
    issuer_id: str = ""

    def headers(self, scope: str, *, operator: bool = False, **claims: str) -> dict[str, str]:
        """A service token of the portal for this shop in test mode."""
        tenant = {} if operator else {"client_id": self.client_id, "mode": "test"} | claims
        token = self.portal.token("ledger", scope, actor="usr_a", **tenant)
        return {"Authorization": f"Bearer {token}"}

    async def invoice(self, amount_minor: int = 5000, *, issued: bool = True, **terms: Any) -> str:
        """Make an invoice of one line, issued to a customer of its own; return its id."""
        async with self.ledger.database.transaction() as tx:
            issuer = await customer_rows.issuer_of(tx, self.client_id, "test")
            if issuer is None:
                issuer = await customers.put_issuer(tx, self.client_id, "test", 0, ISSUER)
            self.issuer_id = issuer["id"]
            customer = await customers.create(tx, self.ledger.relay, issuer, CUSTOMER)
            draft = invoices.Draft(
                customer["id"], "RWF", (Line("Tea", Decimal(1), amount_minor),), **terms
            )
            made = await invoices.create(tx, EVERYTHING, draft)
            if issued:
                await invoices.issue(tx, self.ledger.relay, EVERYTHING, made["id"])
        invoice_id: str = made["id"]
        return invoice_id

    async def pay(self, invoice_id: str, **changes: Any) -> httpx.Response:
        """POST /invoices/{id}/pay."""
        body = {"phone": PHONE, "service": "collection"} | changes
        return await self.http.post(
            f"/internal/v1/invoices/{invoice_id}/pay",
            json={k: v for k, v in body.items() if v is not None},
            headers=self.headers("invoices:pay"),
        )

    async def intent(self, intent_id: str) -> Intent:
        """Return an intent as it is stored."""
        async with self.ledger.database.transaction() as tx:
            found = await intents.find(tx, intent_id)
        assert found is not None
        return found

    async def ended(self, intent_id: str, state: str) -> Intent:
        """Wait until an intent is in a state."""

        async def there() -> Intent | None:
            found = await self.intent(intent_id)
            return found if found.state == state else None

        made: Intent = await until(there)
        return made

    async def row(self, invoice_id: str) -> Any:
        """Return an invoice's row."""
        async with self.ledger.database.transaction() as tx:
            return await tx.row("select * from invoices where id = $1", invoice_id)

    async def value(self, sql: str, *args: Any) -> Any:
        """Return one value as the worker role."""
        async with self.ledger.database.transaction() as tx:
            return await tx.value(sql, *args)

    async def credit(self, invoice_id: str) -> int:
        """Return what the invoice's customer has as credit."""
        asked = "select coalesce(sum(amount_minor), 0) from customer_credits where invoice_id = $1"
        return int(await self.value(asked, invoice_id))

    def news(self, intent_id: str, status: str, **changes: Any) -> PaymentEventV1:
        """Return what the router would say of an intent's payment."""
        payment = self.gateway.payments.get(intent_id, {})
        values = {
            "payment_id": payment.get("id", new_id("pay")),
            "client_id": self.client_id,
            "reference": intent_id,
            "amount_minor": payment.get("amount_minor", 5000),
            "status": PaymentStatus(status),
        }
        return succeeded(**(values | changes))

    async def tell(self, *news: PaymentEventV1) -> None:
        """Publish news of payments, each as its own event."""
        await send(
            self.ledger,
            *(
                outgoing(f"payment.{one.status}.v1", one.payment_id, one, source="t").body
                for one in news
            ),
        )

    async def handled(self, subject: str) -> None:
        """Wait until news about a payment was handled by the queue of intents."""

        async def there() -> Any:
            return await self.value(
                "select state from inbox where subject = $1 and queue = 'ledger.intents'", subject
            )

        assert await until(there) == "done"


ISSUER: dict[str, Any] = {
    "name": "Akaliza Shop", "address": None, "tax_id": None, "email": "billing@shop.example",
    "phone": None, "colour": "#1f4b99", "time_zone": "Africa/Kigali", "locale": "en",
    "footer": None, "payment_terms_days": 14, "fee_tax_bps": 0, "invoice_prefix": "INV",
    "credit_prefix": "CRN",
}  # fmt: skip
CUSTOMER: dict[str, Any] = {
    "client_ref": None, "name": "Keza Uwase", "email": "keza@example.com", "phone": None,
    "address": None, "tax_id": None, "locale": "en", "active": True, "portal_enabled": False,
}  # fmt: skip
QUICK = {
    "LEDGER_INTENT_POLL_SECONDS": "0.05",
    "LEDGER_INTENT_LEASE_SECONDS": "1",
    "LEDGER_INTENT_CHECK_SECONDS": "3600",
    "LEDGER_BATCH_LINGER_SECONDS": "0",
}


@asynccontextmanager
async def open_shop(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, portal: TokenSigner, **settings: str
) -> AsyncIterator[Shop]:
    """Run a ledger before a gateway of the test's own."""
    gateway = Gateway(env["LEDGER_SIGNING_KEY"])
    app = web.Application()
    app.router.add_post("/internal/v1/payments", gateway.pay)
    app.router.add_get("/internal/v1/payments/by-key/{client}/{mode}/{key}", gateway.by_key)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    whole = env | QUICK | {"LEDGER_GATEWAY_URL": gateway.url} | settings
    for name, value in whole.items():
        monkeypatch.setitem(os.environ, name, value)
    try:
        async with running(create_service(LedgerSettings())) as ledger:
            transport = httpx.ASGITransport(app=ledger.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as http:
                yield Shop(ledger, http, gateway, portal)
    finally:
        await runner.cleanup()
