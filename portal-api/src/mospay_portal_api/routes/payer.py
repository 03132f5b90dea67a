"""What a payer reads and does over the API: its details, invoices, statement.

The ledger keeps all of it and is asked under a token that names this one customer.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from mospay_shared.chassis.problems import Problem

from mospay_portal_api.clients import File
from mospay_portal_api.domain.payers import Payer
from mospay_portal_api.routes.context import PROBLEMS, Context, Limit, Reference, author
from mospay_portal_api.routes.invoice_models import Passed, PassedPage
from mospay_portal_api.routes.invoices import PAPER_SECONDS, Word
from mospay_portal_api.routes.payer_door import BASE, LEDGER, SCOPE, Door
from mospay_portal_api.routes.payer_models import Address, Details, Me, PayInvoice
from mospay_portal_api.usecases import payers

State = Annotated[Literal["open", "overdue", "paid", ""], Query(description="empty: all")]


class Desk:
    """Asks the ledger for one payer at a time, and writes down what payers do."""

    def __init__(self, context: Context) -> None:
        self._context, self._house = context, context.house

    async def find(self, payer: Payer, path: str = "", **query: Any) -> Any:
        """GET below /payer; raises Problem 404, HouseError."""
        found = await self._house.find(LEDGER, BASE + path, SCOPE, payer.asker(), query)
        if found is None:
            raise Problem(404, "not_found", "There is no such thing")
        return found

    async def file(self, payer: Payer, path: str, etag: str | None = None) -> File:
        """GET a file below /payer; raises NotFound, HouseError."""
        return await self._house.file(
            LEDGER, BASE + path, SCOPE, payer.asker(), {}, timeout_seconds=PAPER_SECONDS, etag=etag
        )

    async def change(self, request: Request, payer: Payer, wanted: dict[str, Any]) -> Any:
        """Change a payer's details as they were read; the e-mail address stays what it is."""
        now = await self.find(payer)
        body = wanted | {"email": now["email"]}
        done = await self._house.send("PUT", LEDGER, BASE, SCOPE, payer.asker(), body)
        await self.note(request, payer, "payer_details_changed", payer.customer_id)
        return done

    async def ask_email(self, request: Request, payer: Payer, email: str) -> None:
        """Have a link mailed to the address a payer wants; raises TooOften."""
        service, settings = self._context.service, self._context.settings
        async with service.database.transaction() as tx:
            by = payer.author(author(None, request))
            await payers.ask_email(tx, service.relay, settings, payer, email, by)

    async def pay(
        self, request: Request, payer: Payer, invoice_id: str, wish: dict[str, Any]
    ) -> Any:
        """Start a payment of an invoice; raises NotFound, Refused, Unavailable."""
        path = f"{BASE}/invoices/{invoice_id}/pay"
        seconds = self._context.settings.guest_pay_seconds
        done = await self._house.send(
            "POST", LEDGER, path, SCOPE, payer.asker(), wish, timeout_seconds=seconds
        )
        await self.note(request, payer, "payer_payment_started", invoice_id)
        return done

    async def note(self, request: Request, payer: Payer, action: str, subject: str) -> None:
        """Write down what a payer did."""
        database = self._context.service.database
        await payers.note(database, payer, author(None, request), action, subject)


def passed_on(found: File) -> StreamingResponse:
    """Answer with a file as it comes."""
    headers = {"Content-Disposition": found.disposition, "Cache-Control": "no-store"}
    return StreamingResponse(found.content, media_type=found.media_type, headers=headers)


def router(desk: Desk, door: Door) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/bff/v1/payer", tags=["payer"], responses=PROBLEMS)
    _add_self(routes, desk, door)
    _add_invoices(routes, desk, door)
    return routes


def _add_self(routes: APIRouter, desk: Desk, door: Door) -> None:
    @routes.get("/me", response_model=Me)
    async def me(payer: Payer = Depends(door.by_api)) -> Any:
        """The payer as its issuer has it."""
        return await desk.find(payer)

    @routes.put("/me", response_model=Me)
    async def change(body: Details, request: Request, payer: Payer = Depends(door.by_api)) -> Any:
        """Change name, phone, postal address and language, as they were read."""
        return await desk.change(request, payer, body.model_dump())

    @routes.post("/me/email", status_code=202, response_class=Response)
    async def ask_email(
        body: Address, request: Request, payer: Payer = Depends(door.by_api)
    ) -> Response:
        """Have a link mailed to a new address, which moves when the link is opened (24 hours)."""
        await desk.ask_email(request, payer, body.email)
        return Response(status_code=202)

    @routes.get("/statement", response_model=Passed)
    async def statement(payer: Payer = Depends(door.by_api)) -> Any:
        """What is open today, by age and invoice."""
        return await desk.find(payer, "/statement")

    @routes.get("/statement.pdf", response_class=Response)
    async def statement_pdf(request: Request, payer: Payer = Depends(door.by_api)) -> Response:
        """The statement of account as PDF."""
        found = await desk.file(payer, "/statement.pdf")
        await desk.note(request, payer, "payer_statement_downloaded", payer.customer_id)
        return passed_on(found)


def _add_invoices(routes: APIRouter, desk: Desk, door: Door) -> None:
    @routes.get("/invoices", response_model=PassedPage)
    async def invoices(
        state: State = "",
        cursor: Word = None,
        limit: Limit = 50,
        payer: Payer = Depends(door.by_api),
    ) -> Any:
        """The payer's invoices, newest first."""
        return await desk.find(payer, "/invoices", state=state, cursor=cursor, limit=limit)

    @routes.get("/invoices/{invoice_id}.pdf", response_class=Response)
    async def paper(
        invoice_id: Reference, request: Request, payer: Payer = Depends(door.by_api)
    ) -> Response:
        """An invoice as PDF."""
        found = await desk.file(payer, f"/invoices/{invoice_id}/pdf")
        await desk.note(request, payer, "payer_invoice_downloaded", invoice_id)
        return passed_on(found)

    @routes.get("/invoices/{invoice_id}", response_model=Passed)
    async def invoice(invoice_id: Reference, payer: Payer = Depends(door.by_api)) -> Any:
        """One invoice with its lines, ways to pay and latest payment."""
        return await desk.find(payer, f"/invoices/{invoice_id}")

    @routes.get("/invoices/{invoice_id}/status", response_model=Passed)
    async def status(invoice_id: Reference, payer: Payer = Depends(door.by_api)) -> Any:
        """How an invoice stands and how its latest payment goes."""
        return await desk.find(payer, f"/invoices/{invoice_id}/status")

    @routes.post("/invoices/{invoice_id}/pay", status_code=202, response_model=Passed)
    async def pay(
        invoice_id: Reference,
        body: PayInvoice,
        request: Request,
        payer: Payer = Depends(door.by_api),
    ) -> Any:
        """Start paying an invoice; 409 while another payment of it is under way."""
        door.count_pay(payer)
        return await desk.pay(request, payer, invoice_id, body.model_dump())
