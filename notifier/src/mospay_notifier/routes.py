"""HTTP into the notifier: endpoints and deliveries for portal-api."""

import datetime as dt
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.operations import Hop
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, ConfigDict, Field

from mospay_notifier import storage, usecases
from mospay_notifier.domain import (
    EndpointRefused,
    TooManyEndpoints,
    check_event_types,
    check_url,
)
from mospay_notifier.settings import NotifierSettings

ID = r"^[A-Za-z0-9_.-]{1,80}$"
IdInPath = Annotated[str, Path(pattern=ID)]


class NewEndpoint(BaseModel):
    """An endpoint to be made; an empty filter means every end and every need for action."""

    model_config = ConfigDict(extra="forbid")
    client_id: str = Field(pattern=ID)
    mode: str = Field(pattern="^(live|test)$")
    url: str = Field(max_length=4000)
    event_types: list[str] = Field(default_factory=list, max_length=50)


class CreatedEndpoint(BaseModel):
    """The secret is shown this once."""

    endpoint_id: str
    secret: str


class Queued(BaseModel):
    """A delivery that is due now."""

    delivery_id: str
    state: str


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
    """A delivery with its attempts; `next_at` is when the next one starts, if one will."""

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


def _delivery(row: Any) -> Delivery:
    return Delivery(
        delivery_id=row["id"],
        endpoint_id=row["endpoint_id"],
        url=row["url"],
        event_type=row["event_type"],
        state=row["state"],
        attempts=_attempts(row),
        next_at=row["next_at"],
    )


def delivery_hops(attempts_allowed: int) -> Any:
    """Return the trace source: a payment's deliveries, each attempt a hop.

    A replay starts the schedule again, so it adds its attempts to those allowed.
    """

    def hop(row: Any, **more: Any) -> Hop:
        return Hop(
            service="notifier",
            kind="delivery",
            name=f"webhook {row['event_type']}",
            event_id=row["event_id"],
            max_attempts=row["attempts_before"] + attempts_allowed,
            data={"url": row["url"], "delivery_id": row["id"]},
            **more,
        )

    async def source(tx: Tx, payment_id: str) -> list[Hop]:
        hops = []
        for row in await storage.deliveries_of(tx, payment_id):
            tries = _attempts(row)
            for one in tries:
                last = one.number == row["attempts"]
                ended = last and row["state"] == "failed"
                hops.append(
                    hop(
                        row,
                        id=f"{row['id']}:{one.number}",
                        attempt=one.number,
                        next_at=row["next_at"] if last else None,
                        received_at=one.at,
                        handled_at=one.at + dt.timedelta(milliseconds=one.duration_ms),
                        outcome="ok" if one.error is None else "failed" if ended else "retry",
                        detail=one.error or f"HTTP {one.status_code}",
                    )
                )
            if not tries:
                hops.append(
                    hop(
                        row,
                        id=row["id"],
                        next_at=row["next_at"],
                        received_at=row["created_at"],
                        outcome="pending",
                    )
                )
        return hops

    return source


def _view(database: Database, caller: Caller) -> AbstractAsyncContextManager[Tx]:
    """Open a transaction that sees what the caller may see."""
    return database.request(
        client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
    )


def _check_new(body: NewEndpoint, caller: Caller, *, plain_allowed: bool) -> None:
    """Refuse an endpoint of another tenant or mode (404), or with a faulty field (422)."""
    own_client = caller.operator or caller.client_id == body.client_id
    if not own_client or caller.mode not in (None, "", body.mode):
        raise Problem(404, "not_found", "There is no such client")
    try:
        check_url(body.url, plain_allowed=plain_allowed)
        check_event_types(body.event_types)
    except EndpointRefused as error:
        fault = FieldProblem(field=error.field, code=error.code, message=str(error))
        raise Problem(422, "invalid_request", "The request is not valid", errors=[fault]) from error


def endpoints_router(service: Service, settings: NotifierSettings, sealer: Sealer) -> APIRouter:
    """Return the routes of endpoints."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    needs, database = service.verifier.needs, service.database

    @routes.post("/endpoints", status_code=201)
    async def create(
        body: NewEndpoint, caller: Caller = Depends(needs("endpoints:write"))
    ) -> CreatedEndpoint:
        """Make an endpoint."""
        _check_new(body, caller, plain_allowed=bool(settings.allow_private_networks))
        try:
            async with database.transaction() as tx:
                endpoint_id, secret = await usecases.create_endpoint(
                    tx, sealer, **body.model_dump(), limit=settings.endpoints_limit
                )
        except TooManyEndpoints as error:
            raise Problem(409, error.code, str(error)) from error
        return CreatedEndpoint(endpoint_id=endpoint_id, secret=secret)

    @routes.get("/endpoints")
    async def endpoints(
        client_id: str = Query(pattern=ID),
        mode: str = Query("", pattern="^(live|test|)$"),
        caller: Caller = Depends(needs("endpoints:read")),
    ) -> list[Endpoint]:
        """A client's endpoints."""
        async with _view(database, caller) as tx:
            rows = await storage.list_endpoints(tx, client_id, mode)
        return [Endpoint(**dict(row)) for row in rows]

    return routes


def endpoint_actions_router(
    service: Service, settings: NotifierSettings, sealer: Sealer, wake: Callable[[], None]
) -> APIRouter:
    """Return the routes that do something to one endpoint; `wake` tells the sender of it."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    needs, database = service.verifier.needs, service.database

    async def visible(endpoint_id: str, caller: Caller) -> Any:
        async with _view(database, caller) as tx:
            found = await storage.find_endpoint(tx, endpoint_id)
        if found is None:
            raise Problem(404, "not_found", "There is no such endpoint")
        return found

    @routes.post("/endpoints/{endpoint_id}/rotate")
    async def rotate(
        endpoint_id: IdInPath, caller: Caller = Depends(needs("endpoints:write"))
    ) -> CreatedEndpoint:
        """Give an endpoint a new secret; the old one signs as well for a day."""
        await visible(endpoint_id, caller)
        async with database.transaction() as tx:
            secret = await usecases.rotate(
                tx, sealer, endpoint_id, settings.rotation_overlap_seconds
            )
        return CreatedEndpoint(endpoint_id=endpoint_id, secret=secret)

    @routes.post("/endpoints/{endpoint_id}/test", status_code=202)
    async def test(
        endpoint_id: IdInPath, caller: Caller = Depends(needs("endpoints:write"))
    ) -> Queued:
        """Send a test event, signed and tried again like any other."""
        endpoint = await visible(endpoint_id, caller)
        if not endpoint["active"]:
            raise Problem(409, "endpoint_disabled", "The endpoint is disabled")
        async with database.transaction() as tx:
            delivery_id = await usecases.send_test(tx, endpoint)
            tx.after_commit(wake)
        return Queued(delivery_id=delivery_id, state="pending")

    @routes.delete("/endpoints/{endpoint_id}", status_code=204)
    async def disable(
        endpoint_id: IdInPath, caller: Caller = Depends(needs("endpoints:write"))
    ) -> None:
        """Disable an endpoint; what still waits for it ends as failed. Its log stays."""
        await visible(endpoint_id, caller)
        async with database.transaction() as tx:
            await storage.disable_endpoints(tx, [endpoint_id], "it was removed")
            tx.after_commit(wake)

    return routes


def deliveries_router(service: Service, wake: Callable[[], None]) -> APIRouter:
    """Return the routes of deliveries."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    needs, database = service.verifier.needs, service.database

    async def visible(delivery_id: str, caller: Caller) -> Any:
        async with _view(database, caller) as tx:
            found = await storage.find_delivery(tx, delivery_id)
        if found is None:
            raise Problem(404, "not_found", "There is no such delivery")
        return found

    @routes.get("/deliveries")
    async def deliveries(
        payment_id: str = Query(pattern=ID),
        caller: Caller = Depends(needs("deliveries:read")),
    ) -> Deliveries:
        """A payment's deliveries."""
        async with _view(database, caller) as tx:
            rows = await storage.deliveries_of(tx, payment_id)
        return Deliveries(deliveries=[_delivery(row) for row in rows])

    @routes.get("/deliveries/{delivery_id}")
    async def delivery(
        delivery_id: IdInPath, caller: Caller = Depends(needs("deliveries:read"))
    ) -> Delivery:
        """One delivery, also of a test event."""
        return _delivery(await visible(delivery_id, caller))

    @routes.post("/deliveries/{delivery_id}/replay", status_code=202)
    async def replay(
        delivery_id: IdInPath, caller: Caller = Depends(needs("endpoints:write"))
    ) -> Queued:
        """Send an ended delivery again under the same webhook id."""
        await visible(delivery_id, caller)
        async with database.transaction() as tx:
            done = await storage.replay(tx, delivery_id)
            tx.after_commit(wake)
        if not done:
            title = "Only an ended delivery to an active endpoint can be sent again"
            raise Problem(409, "not_replayable", title)
        return Queued(delivery_id=delivery_id, state="pending")

    return routes
