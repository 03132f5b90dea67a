"""Invoices and customers: the operator's own and, for a client user, those of one of its clients.

The ledger keeps and checks them; here is who may, under which client's token, and what the audit
log keeps of it.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from mospay_shared.chassis.problems import Problem

from mospay_portal_api.domain.people import Asker, Person, asker
from mospay_portal_api.routes.bodies import BIGINT, Body
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference, author
from mospay_portal_api.routes.invoice_models import (
    CreditUse,
    CustomerIn,
    InvoiceCredit,
    InvoiceIn,
    InvoiceStep,
    InvoiceVoid,
    IssuerIn,
    Passed,
    PassedPage,
)
from mospay_portal_api.storage import audit

LEDGER, READ, WRITE = "ledger", "invoices:read", "invoices:write"
BASE = "/internal/v1"
UPLOAD_BYTES = 2_000_000  # of a customer list: the ledger's own limit
PAPER_SECONDS = 25.0  # the ledger gives a paper 20
Mode = Annotated[str, Query(pattern=r"^(live|test)$")]
ClientId = Annotated[
    str | None,
    Query(pattern=r"^[A-Za-z0-9_]{1,80}$", description="whose; needed by users of several"),
]
Word = Annotated[str | None, Query(pattern=r"^[\x21-\x7e]{1,120}$")]
Search = Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
DayQuery = Annotated[str | None, Query(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Limit = Annotated[int, Query(ge=1, le=200)]


async def asked(context: Context, person: Person, mode: str, client_id: str | None) -> Asker:
    """Return whom the ledger is asked for: the operator, or one of a client user's own clients."""
    about = await context.reader.about(person, client_id)
    return asker(person, about["id"] if about else None, mode)


def only(person: Person, client_id: str | None) -> dict[str, Any]:
    """Return the filter for one client, for the operator alone.

    A client user's token bounds what is seen, the operator's invoices to that client included.
    """
    return {"client_id": client_id} if person.operator else {}


def router(context: Context) -> APIRouter:
    """Return the routes of invoices, customers and issuers."""
    routes = APIRouter(prefix="/bff/v1", tags=["invoices"], responses=PROBLEMS)
    _add_lists(routes, context)
    _add_reads(routes, context)
    _add_parties(routes, context)
    _add_drafts(routes, context)
    _add_steps(routes, context)
    return routes


def _add_lists(routes: APIRouter, context: Context) -> None:
    reads = Depends(context.needs(READ))

    async def page(
        person: Person, mode: str, client_id: str | None, path: str, query: dict[str, Any]
    ) -> Any:
        me = await asked(context, person, mode, client_id)
        query |= {"mode": mode} | only(person, client_id)
        return await context.house.get(LEDGER, f"{BASE}/{path}", READ, me, query)

    @routes.get("/issuers", response_model=PassedPage)
    async def issuers(
        mode: Mode, client_id: ClientId = None, cursor: Word = None, limit: Limit = 50,
        person: Person = reads,
    ) -> Any:  # fmt: skip
        """Issuers: of the operator and the clients, or the client's own."""
        query = {"cursor": cursor, "limit": limit}
        return await page(person, mode, client_id, "issuers", query)

    @routes.get("/customers", response_model=PassedPage)
    async def customers(
        mode: Mode, client_id: ClientId = None, issuer_id: Word = None, q: Search = None,
        active: bool | None = None, cursor: Word = None, limit: Limit = 50, person: Person = reads,
    ) -> Any:  # fmt: skip
        """Customers, newest first; q: a part of name, e-mail, phone, tax id or reference."""
        query = {"issuer_id": issuer_id, "q": q, "cursor": cursor, "limit": limit,
                 "active": None if active is None else str(active).lower()}  # fmt: skip
        return await page(person, mode, client_id, "customers", query)

    @routes.get("/invoices", response_model=PassedPage)
    async def invoices(
        mode: Mode, client_id: ClientId = None, issuer_id: Word = None, customer_id: Word = None,
        status: Word = None, currency: Word = None, number: Word = None, cursor: Word = None,
        limit: Limit = 50, person: Person = reads,
    ) -> Any:  # fmt: skip
        """Invoices, newest first: a client's own, and those the operator sent it."""
        query = {"issuer_id": issuer_id, "customer_id": customer_id, "status": status,
                 "currency": currency, "number": number, "cursor": cursor,
                 "limit": limit}  # fmt: skip
        return await page(person, mode, client_id, "invoices", query)

    @routes.get("/ageing", response_model=PassedPage)
    async def ageing(
        mode: Mode, client_id: ClientId = None, issuer_id: Word = None, customer_id: Word = None,
        as_of: DayQuery = None, cursor: Word = None, limit: Limit = 50, person: Person = reads,
    ) -> Any:  # fmt: skip
        """What is open by age and customer at the end of a day."""
        query = {"issuer_id": issuer_id, "customer_id": customer_id, "as_of": as_of,
                 "cursor": cursor, "limit": limit}  # fmt: skip
        return await page(person, mode, client_id, "ageing", query)

    @routes.get("/fee-invoices", response_model=PassedPage)
    async def fee_invoices(
        mode: Mode, client_id: ClientId = None, month: DayQuery = None, cursor: Word = None,
        limit: Limit = 50, person: Person = reads,
    ) -> Any:  # fmt: skip
        """Closed months of fees: what the journal says, and the invoice that told of it."""
        query = {"month": month, "cursor": cursor, "limit": limit}
        return await page(person, mode, client_id, "fee-invoices", query)


def _add_reads(routes: APIRouter, context: Context) -> None:
    reads = Depends(context.needs(READ))

    async def one(person: Person, mode: str, client_id: str | None, path: str) -> Any:
        me = await asked(context, person, mode, client_id)
        found = await context.house.find(LEDGER, f"{BASE}/{path}", READ, me)
        if found is None:
            raise Problem(404, "not_found", "There is no such thing")
        return found

    @routes.get("/customers/{customer_id}", response_model=Passed)
    async def customer(
        customer_id: Reference, mode: Mode, client_id: ClientId = None, person: Person = reads
    ) -> Any:
        """One customer with its credit."""
        return await one(person, mode, client_id, f"customers/{customer_id}")

    @routes.get("/invoices/{invoice_id}", response_model=Passed)
    async def invoice(
        invoice_id: Reference, mode: Mode, client_id: ClientId = None, person: Person = reads
    ) -> Any:
        """One invoice with its lines, payments and credit notes."""
        return await one(person, mode, client_id, f"invoices/{invoice_id}")

    @routes.get("/credit-notes/{note_id}", response_model=Passed)
    async def credit_note(
        note_id: Reference, mode: Mode, client_id: ClientId = None, person: Person = reads
    ) -> Any:
        """One credit note."""
        return await one(person, mode, client_id, f"credit-notes/{note_id}")


async def _send(
    context: Context, request: Request, person: Person, asked_for: tuple[str, str | None],
    method: str, path: str, body: dict[str, Any] | None, action: str,
) -> Any:  # fmt: skip
    """Send a change, and write down who made it; `asked_for`: mode, client."""
    me = await asked(context, person, *asked_for)
    done = await context.house.send(method, LEDGER, f"{BASE}/{path}", WRITE, me, body)
    subject = done.get("id") or path.split("/")[1].partition("?")[0]
    async with context.service.database.transaction() as tx:
        await audit.write(tx, author(person, request), action, subject, after=body)
    return done


def _add_parties(routes: APIRouter, context: Context) -> None:
    writes = Depends(context.needs(WRITE))

    @routes.put("/issuers", response_model=Passed)
    async def put_issuer(
        body: IssuerIn, request: Request, mode: Mode, client_id: ClientId = None,
        person: Person = writes,
    ) -> Any:  # fmt: skip
        """Make or change the operator's issuer, a client's, or (a client user) the own one."""
        wanted = body.model_dump() | {"mode": mode, "client_id": client_id}
        return await _send(context, request, person, (mode, client_id), "PUT", "issuers",
                           wanted, "issuer_changed")  # fmt: skip

    @routes.post("/customers", status_code=201, response_model=Passed)
    async def add_customer(
        body: CustomerIn, request: Request, mode: Mode, client_id: ClientId = None,
        issuer_id: Word = None, person: Person = writes,
    ) -> Any:  # fmt: skip
        """Make a customer of the operator's issuer, of the named one, or of the own one."""
        wanted = body.model_dump(exclude={"version"}) | {"mode": mode, "issuer_id": issuer_id}
        return await _send(context, request, person, (mode, client_id), "POST", "customers",
                           wanted, "customer_added")  # fmt: skip

    @routes.put("/customers/{customer_id}", response_model=Passed)
    async def change_customer(
        customer_id: Reference, body: CustomerIn, request: Request, mode: Mode,
        client_id: ClientId = None, person: Person = writes,
    ) -> Any:  # fmt: skip
        """Change a customer as it was read; `active` false gives it up."""
        return await _send(context, request, person, (mode, client_id), "PUT",
                           f"customers/{customer_id}", body.model_dump(),
                           "customer_changed")  # fmt: skip

    @routes.post(
        "/customer-imports",
        response_model=Passed,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"text/csv": {"schema": {"type": "string"}}},
            }
        },
    )
    async def import_customers(
        request: Request, mode: Mode, client_id: ClientId = None, issuer_id: Word = None,
        person: Person = writes,
    ) -> Any:  # fmt: skip
        """Bring in a CSV list of customers: all of it, or every fault by line and column."""
        content = b""
        async for chunk in request.stream():
            content += chunk
            if len(content) > UPLOAD_BYTES:
                raise Problem(413, "too_large", f"A list has at most {UPLOAD_BYTES} bytes")
        me, query = await asked(context, person, mode, client_id), {"mode": mode}
        done = await context.house.upload(
            LEDGER, f"{BASE}/customer-imports", WRITE, me, query | {"issuer_id": issuer_id},
            content, timeout_seconds=PAPER_SECONDS,
        )  # fmt: skip
        async with context.service.database.transaction() as tx:
            by = author(person, request)
            await audit.write(tx, by, "customers_imported", me.client_id, after=done)
        return done


def _add_drafts(routes: APIRouter, context: Context) -> None:
    writes = Depends(context.needs(WRITE))

    @routes.post("/invoices", status_code=201, response_model=Passed)
    async def add_invoice(
        body: InvoiceIn, request: Request, mode: Mode, client_id: ClientId = None,
        person: Person = writes,
    ) -> Any:  # fmt: skip
        """Make a draft."""
        return await _send(context, request, person, (mode, client_id), "POST", "invoices",
                           body.model_dump(exclude={"version"}), "invoice_drafted")  # fmt: skip

    @routes.put("/invoices/{invoice_id}", response_model=Passed)
    async def change_invoice(
        invoice_id: Reference, body: InvoiceIn, request: Request, mode: Mode,
        client_id: ClientId = None, person: Person = writes,
    ) -> Any:  # fmt: skip
        """Change a draft as it was read."""
        return await _send(context, request, person, (mode, client_id), "PUT",
                           f"invoices/{invoice_id}", body.model_dump(),
                           "invoice_changed")  # fmt: skip

    @routes.delete("/invoices/{invoice_id}", status_code=204, response_class=Response)
    async def drop_invoice(
        invoice_id: Reference, request: Request, mode: Mode,
        version: Annotated[int, Query(ge=1, le=BIGINT)], client_id: ClientId = None,
        person: Person = writes,
    ) -> Response:  # fmt: skip
        """Delete a draft as it was read."""
        path = f"invoices/{invoice_id}?version={version}"
        await _send(context, request, person, (mode, client_id), "DELETE", path, None,
                    "invoice_deleted")  # fmt: skip
        return Response(status_code=204)


def _add_steps(routes: APIRouter, context: Context) -> None:
    writes = Depends(context.needs(WRITE))

    async def step(request: Request, person: Person, asked_for: tuple[str, str | None],
                   invoice_id: str, name: str, body: Body, action: str) -> Any:  # fmt: skip
        return await _send(context, request, person, asked_for, "POST",
                           f"invoices/{invoice_id}/{name}", body.model_dump(),
                           action)  # fmt: skip

    @routes.post("/invoices/{invoice_id}/issue", response_model=Passed)
    async def issue(
        invoice_id: Reference, body: InvoiceStep, request: Request, mode: Mode,
        client_id: ClientId = None, person: Person = writes,
    ) -> Any:  # fmt: skip
        """Issue a draft: it is numbered, and never changed again."""
        return await step(request, person, (mode, client_id), invoice_id, "issue", body,
                          "invoice_issued")  # fmt: skip

    @routes.post("/invoices/{invoice_id}/void", response_model=Passed)
    async def void(
        invoice_id: Reference, body: InvoiceVoid, request: Request, mode: Mode,
        client_id: ClientId = None, person: Person = writes,
    ) -> Any:  # fmt: skip
        """Void an invoice nothing was paid or credited of."""
        return await step(request, person, (mode, client_id), invoice_id, "void", body,
                          "invoice_voided")  # fmt: skip

    @routes.post("/invoices/{invoice_id}/credit-notes", status_code=201, response_model=Passed)
    async def credit(
        invoice_id: Reference, body: InvoiceCredit, request: Request, mode: Mode,
        client_id: ClientId = None, person: Person = writes,
    ) -> Any:  # fmt: skip
        """Write a credit note."""
        return await step(request, person, (mode, client_id), invoice_id, "credit-notes", body,
                          "invoice_credited")  # fmt: skip

    @routes.post("/invoices/{invoice_id}/use-credit", response_model=Passed)
    async def use_credit(
        invoice_id: Reference, body: CreditUse, request: Request, mode: Mode,
        client_id: ClientId = None, person: Person = writes,
    ) -> Any:  # fmt: skip
        """Pay what is open from the customer's credit."""
        return await step(request, person, (mode, client_id), invoice_id, "use-credit", body,
                          "invoice_credit_used")  # fmt: skip
