"""A merchant with an issuer and customers, in a ledger of its own process."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import orjson
from mospay_ledger.domain.invoices import Line
from mospay_ledger.storage import customers as customer_rows
from mospay_ledger.storage.customers import EVERYTHING
from mospay_ledger.usecases import customers, invoices
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

BASE = "http://ledger/internal/v1"
ISSUER: dict[str, Any] = {
    "name": "Kigali Books", "address": "KN 4 Ave", "tax_id": "T-1", "email": None, "phone": None,
    "colour": "#0f5c63", "time_zone": "Africa/Kigali", "locale": "en", "footer": None,
    "payment_terms_days": 14, "fee_tax_bps": 0, "invoice_prefix": "INV", "credit_prefix": "CRN",
}  # fmt: skip
CUSTOMER: dict[str, Any] = {
    "client_ref": None, "name": "Amélie", "email": None, "phone": None, "address": None,
    "tax_id": None, "locale": "en", "active": True, "portal_enabled": False,
}  # fmt: skip
READ, WRITE = "invoices:read", "invoices:write"


@dataclass
class Shop:
    """A client in test mode; `issuer` and `customer` are made at first use."""

    ledger: Service
    portal: TokenSigner
    client_id: str | None = field(default_factory=lambda: new_id("cli"))
    mode: str = "test"
    _customer: str = ""

    def headers(self, scope: str, **claims: str) -> dict[str, str]:
        """A service token that speaks for this shop."""
        tenant = {"client_id": self.client_id, "mode": self.mode} if self.client_id else {}
        token = self.portal.token("ledger", scope, actor="usr_a", **(tenant | claims))
        return {"authorization": f"Bearer {token}"}

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        scope: str = "",
        payer: str = "",
        **more: Any,
    ) -> httpx.Response:
        """Call the ledger for this shop, or for one of its customers."""
        transport = httpx.ASGITransport(app=self.ledger.app, raise_app_exceptions=False)
        wanted = scope or (READ if method == "GET" else WRITE)
        headers = self.headers(wanted, **({"customer_id": payer} if payer else {}))
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
            return await http.request(method, path, json=body, headers=headers, **more)

    async def issuer(self, **changes: Any) -> Any:
        """This shop's issuer."""
        async with self.ledger.database.transaction() as tx:
            found = await customer_rows.issuer_of(tx, self.client_id, self.mode)
            if found is None:
                fields = ISSUER | changes
                found = await customers.put_issuer(tx, self.client_id, self.mode, 0, fields)
        return found

    async def new_customer(self, **changes: Any) -> str:
        """Make a customer."""
        issuer = await self.issuer()
        async with self.ledger.database.transaction() as tx:
            made = await customers.create(tx, self.ledger.relay, issuer, CUSTOMER | changes)
        customer_id: str = made["id"]
        return customer_id

    async def customer(self) -> str:
        """The customer invoices are for unless another is named."""
        if not self._customer:
            self._customer = await self.new_customer()
        return self._customer

    async def draft(self, amount_minor: int = 1000, **terms: Any) -> Any:
        """Make a draft of one line."""
        values = {
            "customer_id": terms.pop("customer_id", None) or await self.customer(),
            "currency": "RWF",
            "lines": (Line("Books", Decimal(1), amount_minor),),
        } | terms
        async with self.ledger.database.transaction() as tx:
            return await invoices.create(tx, EVERYTHING, invoices.Draft(**values))

    async def issued(
        self, amount_minor: int = 1000, *, at: dt.datetime | None = None, **terms: Any
    ) -> Any:
        """Make an invoice of one line and issue it."""
        made = await self.draft(amount_minor, **terms)
        async with self.ledger.database.transaction() as tx:
            return await invoices.issue(tx, self.ledger.relay, EVERYTHING, made["id"], at=at)

    async def pay(
        self, invoice_id: str, amount_minor: int, payment_id: str = "", at: Any = None
    ) -> Any:
        """Note a payment of an invoice."""
        async with self.ledger.database.transaction() as tx:
            return await invoices.apply_payment(
                tx,
                self.ledger.relay,
                invoice_id=invoice_id,
                payment_id=payment_id or new_id("pay"),
                amount_minor=amount_minor,
                at=at or dt.datetime.now(dt.UTC),
            )

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """Read what is stored."""
        async with self.ledger.database.transaction() as tx:
            return await tx.fetch(sql, *args)

    async def find(self, invoice_id: str) -> Any:
        """An invoice's row."""
        (row,) = await self.fetch("select * from invoices where id = $1", invoice_id)
        return row

    async def credit(self, customer_id: str = "") -> int:
        """What a customer has with this shop in RWF."""
        rows = await self.fetch(
            "select coalesce(sum(amount_minor), 0)::bigint as minor from customer_credits "
            "where customer_id = $1",
            customer_id or await self.customer(),
        )
        return int(rows[0]["minor"])


@asynccontextmanager
async def news_kept(ledger: Service) -> AsyncIterator[list[tuple[str, dict[str, Any]]]]:
    """Keep what is enqueued meanwhile: (type, data), whether it has been published or not."""
    kept: list[tuple[str, dict[str, Any]]] = []
    enqueue = ledger.relay.enqueue

    async def keeping(tx: Any, events: Any) -> None:
        kept.extend((e.type, orjson.loads(e.body)["data"]) for e in events)
        await enqueue(tx, events)

    ledger.relay.enqueue = keeping  # type: ignore[method-assign]
    try:
        yield kept
    finally:
        ledger.relay.enqueue = enqueue  # type: ignore[method-assign]
