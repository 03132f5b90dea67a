"""Reads composed from the house: dashboard, payments, one payment's trace."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from mospay_portal_api.domain.people import Person
from mospay_portal_api.routes.context import (
    PROBLEMS,
    ClientId,
    Context,
    Currency,
    Mode,
    Reference,
)
from mospay_portal_api.routes.models import (
    Dashboard,
    Payment,
    PaymentPage,
    PaymentTrace,
)

Words = Annotated[str | None, Query(max_length=400, description="comma list")]
Instant = Annotated[str | None, Query(max_length=40, description="ISO 8601 with an offset")]
Minor = Annotated[int | None, Query(ge=0, le=2**63 - 1)]
_FILTERS = (
    "status", "service", "from", "to", "min_minor", "max_minor", "q", "sort", "limit", "cursor",
)  # fmt: skip


def router(context: Context) -> APIRouter:
    """Return the routes of lists and single payments."""
    routes = APIRouter(prefix="/bff/v1", tags=["payments"], responses=PROBLEMS)
    reader, signed_in = context.reader, Depends(context.person)

    @routes.get("/payments", response_model=PaymentPage)
    async def payments(
        request: Request,
        mode: Mode,
        client_id: ClientId = None,
        status: Words = None,
        service: Words = None,
        since: Annotated[Instant, Query(alias="from")] = None,
        until: Annotated[Instant, Query(alias="to")] = None,
        min_minor: Minor = None,
        max_minor: Minor = None,
        q: Annotated[str | None, Query(max_length=255)] = None,
        sort: Annotated[str | None, Query(max_length=40)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=1000)] = None,
        person: Person = signed_in,
    ) -> Any:
        """Payments, filtered and sorted, a page at a time; q: an id, reference or customer."""
        given = {k: request.query_params[k] for k in _FILTERS if k in request.query_params}
        return await reader.payments(person, mode, client_id, {**given, "limit": limit})

    @routes.get("/payments/{payment_id}", response_model=Payment)
    async def payment(payment_id: Reference, person: Person = signed_in) -> Any:
        """One payment with its attempts."""
        return await reader.payment(person, payment_id)

    @routes.get("/payments/{payment_id}/trace", response_model=PaymentTrace)
    async def trace(payment_id: Reference, person: Person = signed_in) -> Any:
        """What every service did for a payment, in order."""
        return await reader.trace(person, payment_id)

    return routes


def figures_router(context: Context) -> APIRouter:
    """Return the routes of figures."""
    routes = APIRouter(prefix="/bff/v1", tags=["figures"], responses=PROBLEMS)

    @routes.get("/dashboard", response_model=Dashboard)
    async def dashboard(
        mode: Mode,
        window: Annotated[str, Query(alias="range", pattern="^(24h|7d|30d)$")] = "24h",
        client_id: ClientId = None,
        currency: Currency = None,
        person: Person = Depends(context.person),
    ) -> Any:
        """Figures of a window, with the latest payments."""
        return await context.reader.dashboard(person, mode, window, client_id, currency)

    return routes
