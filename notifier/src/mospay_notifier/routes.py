"""HTTP into the notifier: endpoints and deliveries for portal-api."""

import datetime as dt
from typing import Any

from fastapi import APIRouter, Depends, Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.operations import Hop
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, ConfigDict, Field

from mospay_notifier import storage, usecases
from mospay_notifier.domain import EndpointRefused, TooManyEndpoints, check_url
from mospay_notifier.settings import NotifierSettings


class NewEndpoint(BaseModel):
    """An endpoint to be made; an empty filter means every end and every need for action."""

    model_config = ConfigDict(extra="forbid")
    client_id: str = Field(max_length=80)
    mode: str = Field(pattern="^(live|test)$")
    url: str = Field(max_length=4000)
    event_types: list[str] = Field(default_factory=list, max_length=50)


class CreatedEndpoint(BaseModel):
    """The secret is shown this once."""

    endpoint_id: str
    secret: str


class Endpoint(BaseModel):
    """An endpoint as it may be seen."""

    id: str
    client_id: str
    mode: str
    url: str
    event_types: list[str]
    active: bool
    disabled_reason: str | None
    version: int
    created_at: dt.datetime


class DeliveryAttempt(BaseModel):
    """One attempt of a delivery."""

    number: int
    at: dt.datetime
    status_code: int | None
    error: str | None
    duration_ms: int


class Delivery(BaseModel):
    """A delivery with its attempts."""

    delivery_id: str
    endpoint_id: str
    url: str
    event_type: str
    state: str
    attempts: list[DeliveryAttempt]
    next_at: dt.datetime | None


class Deliveries(BaseModel):
    """The deliveries of one payment."""

    deliveries: list[Delivery]


def _attempts(row: Any) -> list[DeliveryAttempt]:
    keys = ("number", "at", "status_code", "error", "duration_ms")
    return [DeliveryAttempt(**dict(zip(keys, tuple(one), strict=True))) for one in row["tries"]]


def delivery_hops(attempts_allowed: int) -> Any:
    """Return the trace source: a payment's deliveries, each attempt a hop."""

    async def source(tx: Tx, payment_id: str) -> list[Hop]:
        hops = []
        for row in await storage.deliveries_of(tx, payment_id):
            tries = _attempts(row)
            for one in tries:
                last = one.number == row["attempts"] and row["state"] in ("pending", "failed")
                ok = one.error is None
                outcome = "ok" if ok else "retry" if last and row["next_at"] else "failed"
                end = one.at + dt.timedelta(milliseconds=one.duration_ms)
                hops.append(
                    Hop(
                        id=f"{row['id']}:{one.number}",
                        service="notifier",
                        kind="delivery",
                        name=f"webhook {row['event_type']}",
                        event_id=row["event_id"],
                        attempt=one.number,
                        max_attempts=attempts_allowed,
                        next_at=row["next_at"] if last else None,
                        received_at=one.at,
                        handled_at=end,
                        outcome=outcome,
                        detail=one.error or f"HTTP {one.status_code}",
                        data={"url": row["url"], "delivery_id": row["id"]},
                    )
                )
            if not tries:
                hops.append(
                    Hop(
                        id=row["id"],
                        service="notifier",
                        kind="delivery",
                        name=f"webhook {row['event_type']}",
                        event_id=row["event_id"],
                        max_attempts=attempts_allowed,
                        next_at=row["next_at"],
                        received_at=row["created_at"],
                        outcome="pending",
                        data={"url": row["url"], "delivery_id": row["id"]},
                    )
                )
        return hops

    return source


def endpoints_router(service: Service, settings: NotifierSettings, sealer: Sealer) -> APIRouter:
    """Return the routes of endpoints."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    needs, database = service.verifier.needs, service.database

    def own(caller: Caller, client_id: str) -> None:
        if not caller.operator and caller.client_id != client_id:
            raise Problem(404, "not_found", "There is no such client")

    @routes.post("/endpoints", status_code=201)
    async def create(
        body: NewEndpoint, caller: Caller = Depends(needs("endpoints:write"))
    ) -> CreatedEndpoint:
        """Make an endpoint."""
        own(caller, body.client_id)
        try:
            check_url(body.url, plain_allowed=bool(settings.allow_private_networks))
            async with database.transaction() as tx:
                endpoint_id, secret = await usecases.create_endpoint(
                    tx, sealer, **body.model_dump(), limit=settings.endpoints_limit
                )
        except EndpointRefused as error:
            fault = FieldProblem(field="url", code=error.code, message=str(error))
            raise Problem(422, "invalid_request", "The URL is refused", errors=[fault]) from error
        except TooManyEndpoints as error:
            raise Problem(409, error.code, str(error)) from error
        return CreatedEndpoint(endpoint_id=endpoint_id, secret=secret)

    @routes.get("/endpoints")
    async def endpoints(
        client_id: str = Query(max_length=80),
        mode: str = Query("", pattern="^(live|test|)$"),
        caller: Caller = Depends(needs("endpoints:read")),
    ) -> list[Endpoint]:
        """A client's endpoints."""
        async with database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            rows = await storage.list_endpoints(tx, client_id, mode)
        return [Endpoint(**dict(row)) for row in rows]

    @routes.post("/endpoints/{endpoint_id}/rotate")
    async def rotate(
        endpoint_id: str, caller: Caller = Depends(needs("endpoints:write"))
    ) -> CreatedEndpoint:
        """Give an endpoint a new secret; the old one signs as well for a day."""
        async with database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            seen = await tx.value("select 1 from endpoints where id = $1", endpoint_id)
        secret = None
        if seen:
            async with database.transaction() as tx:
                secret = await usecases.rotate(
                    tx, sealer, endpoint_id, settings.rotation_overlap_seconds
                )
        if secret is None:
            raise Problem(404, "not_found", "There is no such endpoint")
        return CreatedEndpoint(endpoint_id=endpoint_id, secret=secret)

    return routes


def deliveries_router(service: Service) -> APIRouter:
    """Return the routes of deliveries."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    needs, database = service.verifier.needs, service.database

    @routes.get("/deliveries")
    async def deliveries(
        payment_id: str = Query(max_length=80),
        caller: Caller = Depends(needs("deliveries:read")),
    ) -> Deliveries:
        """A payment's deliveries."""
        async with database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            rows = await storage.deliveries_of(tx, payment_id)
        return Deliveries(
            deliveries=[
                Delivery(
                    delivery_id=row["id"],
                    endpoint_id=row["endpoint_id"],
                    url=row["url"],
                    event_type=row["event_type"],
                    state=row["state"],
                    attempts=_attempts(row),
                    next_at=row["next_at"],
                )
                for row in rows
            ]
        )

    @routes.post("/deliveries/{delivery_id}/replay", status_code=202)
    async def replay(
        delivery_id: str, caller: Caller = Depends(needs("endpoints:write"))
    ) -> dict[str, str]:
        """Send an ended delivery again under the same webhook id."""
        async with database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            seen = await tx.value("select 1 from deliveries where id = $1", delivery_id)
        done = False
        if seen:
            async with database.transaction() as tx:
                done = await storage.replay(tx, delivery_id)
        if not done:
            raise Problem(404, "not_found", "No ended delivery with that id can be sent again")
        return {"delivery_id": delivery_id, "state": "pending"}

    return routes
