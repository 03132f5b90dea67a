"""Papers and lists of invoicing: PDF and CSV, passed on as they come."""

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response, StreamingResponse

from mospay_portal_api.domain.people import Person
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference
from mospay_portal_api.routes.invoices import (
    BASE,
    LEDGER,
    PAPER_SECONDS,
    READ,
    ClientId,
    DayQuery,
    Mode,
    Word,
    asked,
    only,
)


def router(context: Context) -> APIRouter:
    """Return the routes of papers and lists, which are passed on as they come."""
    routes = APIRouter(prefix="/bff/v1", tags=["invoices"], responses=PROBLEMS)
    reads = Depends(context.needs(READ))

    async def passed(person: Person, mode: str, client_id: str | None, path: str,
                     query: dict[str, Any]) -> StreamingResponse:  # fmt: skip
        me = await asked(context, person, mode, client_id)
        query |= {"mode": mode} | only(person, client_id)
        found = await context.house.file(
            LEDGER, f"{BASE}/{path}", READ, me, query, timeout_seconds=PAPER_SECONDS
        )
        headers = {"Content-Disposition": found.disposition, "Cache-Control": "no-store"}
        return StreamingResponse(found.content, media_type=found.media_type, headers=headers)

    @routes.get("/invoices/{invoice_id}.pdf", response_class=Response)
    async def invoice_pdf(
        invoice_id: Reference, mode: Mode, client_id: ClientId = None, person: Person = reads
    ) -> Response:
        """An invoice as PDF."""
        return await passed(person, mode, client_id, f"invoices/{invoice_id}.pdf", {})

    @routes.get("/credit-notes/{note_id}.pdf", response_class=Response)
    async def credit_note_pdf(
        note_id: Reference, mode: Mode, client_id: ClientId = None, person: Person = reads
    ) -> Response:
        """A credit note as PDF."""
        return await passed(person, mode, client_id, f"credit-notes/{note_id}.pdf", {})

    @routes.get("/invoices.csv", response_class=Response)
    async def invoices_csv(
        mode: Mode, client_id: ClientId = None, issuer_id: Word = None, person: Person = reads
    ) -> Response:
        """Invoices as CSV."""
        return await passed(person, mode, client_id, "invoices.csv", {"issuer_id": issuer_id})

    @routes.get("/customers.csv", response_class=Response)
    async def customers_csv(
        mode: Mode, client_id: ClientId = None, issuer_id: Word = None, person: Person = reads
    ) -> Response:
        """Customers as CSV, in the shape an import takes."""
        return await passed(person, mode, client_id, "customers.csv", {"issuer_id": issuer_id})

    @routes.get("/ageing.csv", response_class=Response)
    async def ageing_csv(
        mode: Mode,
        client_id: ClientId = None,
        issuer_id: Word = None,
        as_of: DayQuery = None,
        person: Person = reads,
    ) -> Response:
        """The ageing statement as CSV."""
        query = {"issuer_id": issuer_id, "as_of": as_of}
        return await passed(person, mode, client_id, "ageing.csv", query)

    @routes.get("/ageing.pdf", response_class=Response)
    async def ageing_pdf(
        mode: Mode,
        client_id: ClientId = None,
        issuer_id: Word = None,
        customer_id: Word = None,
        as_of: DayQuery = None,
        person: Person = reads,
    ) -> Response:
        """The ageing statement as PDF; of one customer, a statement of account."""
        query = {"issuer_id": issuer_id, "customer_id": customer_id, "as_of": as_of}
        return await passed(person, mode, client_id, "ageing.pdf", query)

    return routes
