"""Sharing invoices: guest links, how they are paid, and the ways an issuer takes payments."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from mospay_shared.chassis.problems import Problem
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from mospay_portal_api.domain.people import Person
from mospay_portal_api.routes.bodies import Body
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference, author
from mospay_portal_api.routes.invoice_models import Passed, PassedPage
from mospay_portal_api.routes.invoices import BASE, LEDGER, READ, WRITE, ClientId, Mode, asked
from mospay_portal_api.storage import audit

SHARE = "invoices:share"
Cursor = Annotated[str | None, Query(pattern=r"^[\x21-\x7e]{1,80}$")]


class LinkIn(Body):
    """A guest link to make; without an end it lives 60 days."""

    expires_at: AwareDatetime | None = None


class SharedLink(BaseModel):
    """A new link. Its address is in this answer and nowhere else: a hash alone is kept."""

    model_config = ConfigDict(extra="ignore")

    id: str
    invoice_id: str
    url: str = Field(examples=["https://pay.example/i/uN5vZ0m2qFh8x1c7Jr4kT9bW3yLpE6aD"])
    expires_at: AwareDatetime


class MethodIn(Body):
    """A way to pay: a service assigned to the client, and what payers call it."""

    currency: str = Field(pattern="^[A-Z]{3}$", examples=["RWF"])
    service: str = Field(pattern="^[A-Za-z0-9_]{1,40}$", examples=["collection"])
    microservice: str | None = Field(None, pattern="^[A-Za-z0-9_]{1,40}$")
    route: str = Field("payment", pattern="^[A-Za-z0-9_]{1,63}$")
    label: str = Field(min_length=1, max_length=60, examples=["Mobile money"])


class MethodsIn(Body):
    """All ways to pay, the first of a currency is the default."""

    methods: list[MethodIn] = Field(max_length=20)


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/bff/v1", tags=["invoices"], responses=PROBLEMS)
    _add_links(routes, context)
    _add_reads(routes, context)
    _add_methods(routes, context)
    return routes


async def _found(
    context: Context, person: Person, of: tuple[str, str | None], path: str, **query: Any
) -> Any:
    me = await asked(context, person, *of)
    found = await context.house.find(LEDGER, f"{BASE}/{path}", READ, me, query)
    if found is None:
        raise Problem(404, "not_found", "There is no such thing")
    return found


async def _noted(
    context: Context, request: Request, person: Person, action: str, subject: str
) -> None:
    """Write down who did it; never what a link opens with."""
    async with context.service.database.transaction() as tx:
        await audit.write(tx, author(person, request), action, subject)


def _add_links(routes: APIRouter, context: Context) -> None:
    writes = Depends(context.needs(WRITE))
    public_url = context.settings.public_url.rstrip("/")

    @routes.post("/invoices/{invoice_id}/links", status_code=201)
    async def share(
        invoice_id: Reference, body: LinkIn, request: Request, mode: Mode,
        client_id: ClientId = None, person: Person = writes,
    ) -> SharedLink:  # fmt: skip
        """Make a link with which anybody sees this invoice and can pay it."""
        me = await asked(context, person, mode, client_id)
        path = f"{BASE}/invoices/{invoice_id}/links"
        made = await context.house.send(
            "POST", LEDGER, path, SHARE, me, body.model_dump(mode="json")
        )
        await _noted(context, request, person, "invoice_shared", invoice_id)
        return SharedLink(**made, url=f"{public_url}/i/{made['token']}")

    @routes.post("/links/{link_id}/revoke", response_model=Passed)
    async def revoke(
        link_id: Reference, request: Request, mode: Mode, client_id: ClientId = None,
        person: Person = writes,
    ) -> Any:  # fmt: skip
        """End a link at once and for ever."""
        me = await asked(context, person, mode, client_id)
        path = f"{BASE}/links/{link_id}/revoke"
        done = await context.house.send("POST", LEDGER, path, SHARE, me)
        await _noted(context, request, person, "invoice_link_revoked", link_id)
        return done


def _add_reads(routes: APIRouter, context: Context) -> None:
    reads = Depends(context.needs(READ))

    async def listed(
        invoice_id: Reference, what: Literal["links", "intents"], mode: Mode,
        client_id: ClientId = None, cursor: Cursor = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50, person: Person = reads,
    ) -> Any:  # fmt: skip
        """The links of an invoice (without their addresses) or its payments, newest first."""
        query = {"cursor": cursor, "limit": limit}
        path = f"invoices/{invoice_id}/{what}"
        return await _found(context, person, (mode, client_id), path, **query)

    routes.get("/invoices/{invoice_id}/{what}", response_model=PassedPage)(listed)

    @routes.get("/issuers/{issuer_id}/payment-methods", response_model=Passed)
    async def methods(
        issuer_id: Reference, mode: Mode, client_id: ClientId = None, person: Person = reads
    ) -> Any:
        """The ways payers may choose from, in order."""
        path = f"issuers/{issuer_id}/payment-methods"
        return await _found(context, person, (mode, client_id), path)


def _add_methods(routes: APIRouter, context: Context) -> None:
    writes = Depends(context.needs(WRITE))

    @routes.put("/issuers/{issuer_id}/payment-methods", response_model=Passed)
    async def keep(
        issuer_id: Reference, body: MethodsIn, request: Request, mode: Mode,
        client_id: ClientId = None, person: Person = writes,
    ) -> Any:  # fmt: skip
        """Make these the only ways to pay an issuer's invoices."""
        me = await asked(context, person, mode, client_id)
        path = f"{BASE}/issuers/{issuer_id}/payment-methods"
        done = await context.house.send("PUT", LEDGER, path, WRITE, me, body.model_dump())
        await _noted(context, request, person, "payment_methods_changed", issuer_id)
        return done
