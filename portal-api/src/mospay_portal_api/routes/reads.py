"""Reads composed from the house: dashboard, payments, one payment's trace, trial balance."""

import asyncio
import datetime as dt
from typing import Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from mospay_shared.chassis.problems import Problem

from mospay_portal_api.clients import Unavailable
from mospay_portal_api.domain import Person
from mospay_portal_api.routes.context import Context, one_client
from mospay_portal_api.routes.models import Dashboard, Payment, PaymentPage, PaymentTrace
from mospay_portal_api.storage import directory
from mospay_portal_api.usecases import reading

MODE = Query(pattern="^(live|test)$")
_WINDOWS = {
    "24h": (dt.timedelta(hours=24), "hour"),
    "7d": (dt.timedelta(days=7), "day"),
    "30d": (dt.timedelta(days=30), "day"),
}
_FILTERS = (
    "status", "service", "from", "to", "min_minor", "max_minor", "q", "sort", "limit", "cursor",
)  # fmt: skip


class Reader:
    """Asks the house for one person."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def names(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Return client names by id, and the client rows."""
        async with self._context.service.database.transaction() as tx:
            rows = {row["id"]: row for row in await directory.clients(tx)}
        return {key: row["name"] for key, row in rows.items()}, rows

    async def payment(self, person: Person, payment_id: str) -> dict[str, Any]:
        """Return a payment this person may see, or raise 404; router's word beats reporter's."""
        house = self._context.house
        wanted = sorted(person.client_ids) if person.client_ids is not None else [None]
        for client_id in wanted:
            found = await house.call(
                "reporter",
                f"/internal/v1/payments/{payment_id}",
                "payments:read",
                person,
                client_id=client_id,
            )
            if found and person.sees(found["client_id"]):
                names, _ = await self.names()
                payment: dict[str, Any] = reading.with_names([found], names)[0]
                return payment
        raise Problem(404, "not_found", "There is no such payment")

    async def try_call(self, service: str, *arguments: Any, **more: Any) -> tuple[Any, Any]:
        """Call a service; return its answer and what to say when it is away."""
        try:
            return await self._context.house.call(service, *arguments, **more), None
        except Unavailable as error:
            return None, {"service": error.service, "detail": error.detail}


def router(context: Context) -> APIRouter:
    """Return the list of payments."""
    routes = APIRouter(prefix="/bff/v1", tags=["payments"])
    reader, house = Reader(context), context.house
    signed_in = Depends(context.person)

    @routes.get("/payments", response_model=PaymentPage)
    async def payments(
        request: Request,
        mode: str = MODE,
        client_id: str | None = Query(None, max_length=80),
        status: str | None = Query(None, max_length=200),
        service: str | None = Query(None, max_length=400),
        since: str | None = Query(None, alias="from", max_length=40),
        until: str | None = Query(None, alias="to", max_length=40),
        min_minor: int | None = Query(None, ge=0),
        max_minor: int | None = Query(None, ge=0),
        q: str | None = Query(None, max_length=255),
        sort: str | None = Query(None, max_length=40),
        limit: int = Query(50, ge=1, le=200),
        cursor: str | None = Query(None, max_length=500),
        person: Person = signed_in,
    ) -> Any:
        """Payments, filtered and sorted, a page at a time."""
        about = one_client(person, client_id)
        given = {k: request.query_params[k] for k in _FILTERS if k in request.query_params}
        query = {**given, "mode": mode, "client_id": about, "limit": limit}
        found = await house.call(
            "reporter",
            "/internal/v1/payments",
            "payments:read",
            person,
            client_id=about if person.client_ids is not None else None,
            mode=mode,
            query=query,
        )
        names, _ = await reader.names()
        return {**found, "items": reading.with_names(found["items"], names)}

    return routes


def payment_router(context: Context) -> APIRouter:
    """Return the routes of one payment."""
    routes = APIRouter(prefix="/bff/v1", tags=["payments"])
    reader, house = Reader(context), context.house
    signed_in = Depends(context.person)

    @routes.get("/payments/{payment_id}", response_model=Payment)
    async def payment(payment_id: str, person: Person = signed_in) -> Any:
        """One payment with its attempts."""
        found = await reader.payment(person, payment_id)
        routed, _ = await reader.try_call(
            "payment-router",
            f"/internal/v1/payments/{payment_id}",
            "payments:read",
            person,
            client_id=found["client_id"] if person.client_ids is not None else None,
        )
        return {"metadata": {}, **found, "attempts": (routed or {}).get("attempts", [])}

    @routes.get("/payments/{payment_id}/trace", response_model=PaymentTrace)
    async def trace(payment_id: str, person: Person = signed_in) -> Any:
        """What every service did for a payment, in order."""
        found = await reader.payment(person, payment_id)
        tenant = {"client_id": found["client_id"] if person.client_ids is not None else None}
        hop_path = f"/internal/v1/traces/{payment_id}"
        asked = [
            *(
                reader.try_call(name, hop_path, "trace:read", person, **tenant)
                for name in house.names
            ),
            reader.try_call(
                "ledger",
                f"/internal/v1/payments/{payment_id}/entries",
                "ledger:read",
                person,
                **tenant,
            ),
            reader.try_call(
                "notifier",
                "/internal/v1/deliveries",
                "deliveries:read",
                person,
                query={"payment_id": payment_id},
                **tenant,
            ),
        ]
        answers = await asyncio.gather(*asked)
        hops = [hop for answer, _ in answers[:-2] if answer for hop in answer["hops"]]
        away = {gap["service"]: gap for _, gap in answers if gap}
        composed = reading.compose_trace(
            found,
            hops,
            (answers[-2][0] or {}).get("entries", []),
            (answers[-1][0] or {}).get("deliveries", []),
            list(away.values()),
            context.settings.expected_seconds,
        )
        return reading.trace_for(person, composed)

    return routes


def figures_router(context: Context) -> APIRouter:
    """Return the routes of figures."""
    routes = APIRouter(prefix="/bff/v1", tags=["figures"])
    reader, house = Reader(context), context.house

    @routes.get("/dashboard", response_model=Dashboard)
    async def dashboard(
        mode: str = MODE,
        window: str = Query("24h", alias="range", pattern="^(24h|7d|30d)$"),
        client_id: str | None = Query(None, max_length=80),
        currency: str | None = Query(None, pattern="^[A-Z]{3}$"),
        person: Person = Depends(context.person),
    ) -> Any:
        """Figures of a window, with the latest payments."""
        about = one_client(person, client_id)
        names, rows = await reader.names()
        zone = rows[about]["time_zone"] if about in rows else "UTC"
        span, granularity = _WINDOWS[window]
        now = dt.datetime.now(dt.UTC)
        tenant = {"client_id": about if person.client_ids is not None else None, "mode": mode}
        shared = {"mode": mode, "client_id": about}
        overview, page = await asyncio.gather(
            house.call(
                "reporter",
                "/internal/v1/overview",
                "reports:read",
                person,
                query={
                    **shared,
                    "from": (now - span).isoformat(),
                    "to": now.isoformat(),
                    "granularity": granularity,
                    "currency": currency,
                    "time_zone": zone,
                },
                **tenant,
            ),
            house.call(
                "reporter",
                "/internal/v1/payments",
                "payments:read",
                person,
                query={**shared, "limit": 10},
                **tenant,
            ),
        )
        async with context.service.database.transaction() as tx:
            rows_assigned = await directory.assignments(tx, [about] if about else None)
        return reading.dashboard(
            overview,
            reading.with_names(page["items"], names),
            mode=mode,
            window=window,
            granularity=granularity,
            time_zone=zone,
            active_services=len({r["service_id"] for r in rows_assigned if r["active"]}),
            active_clients=sum(1 for row in rows.values() if row["active"]),
        )

    @routes.get("/trial-balance")
    async def trial_balance(
        mode: str = MODE, person: Person = Depends(context.admin)
    ) -> JSONResponse:
        """The books: every account of a mode, and whether debits equal credits."""
        found = await house.call(
            "ledger", "/internal/v1/trial-balance", "ledger:read", person, query={"mode": mode}
        )
        return JSONResponse(jsonable_encoder(found))

    return routes
