"""HTTP in: security events, and the health of providers."""

import datetime as dt
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_reporter.domain.pages import decode_time_cursor, encode_time_cursor
from mospay_reporter.domain.periods import QueryError
from mospay_reporter.routes.parts import Id, Mode, refused, seen_by
from mospay_reporter.storage import events

Kind = Literal["authentication_failed", "address_refused", "rate_limited"]


class SecurityQuery(BaseModel):
    """Whose and which events; without a client, an operator's token sees everybody's."""

    client_id: Id | None = None
    kind: Kind | None = None
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=400)


class SecurityRow(BaseModel):
    """What happened `count` times from `first_at` to `last_at`; never a secret."""

    event_id: str
    kind: str
    client_id: str | None
    mode: str | None
    ip: str | None
    credential: str | None
    path: str | None
    reason: str
    count: int
    first_at: dt.datetime
    last_at: dt.datetime


class SecurityBody(BaseModel):
    """The newest first, and where the next page starts (null at the end)."""

    items: list[SecurityRow]
    next_cursor: str | None


class HealthRow(BaseModel):
    """A connector's circuit breaker as it was last told of."""

    microservice: str
    mode: Mode
    state: str
    previous_state: str
    reason: str
    failures: int
    calls: int
    changed_at: dt.datetime


class HealthBody(BaseModel):
    """Connectors that were ever told of; one that never was has never failed."""

    items: list[HealthRow]


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    database, needs = service.database, service.verifier.needs

    @routes.get("/security-events")
    async def read_security_events(
        query: Annotated[SecurityQuery, Query()], caller: Caller = Depends(needs("security:read"))
    ) -> SecurityBody:
        """A page of security events."""
        try:
            before = decode_time_cursor(query.cursor) if query.cursor else None
        except QueryError as error:
            raise refused(error) from error
        async with seen_by(database, caller) as tx:
            rows = await events.security_page(
                tx,
                before=before,
                client_id=query.client_id or caller.client_id,
                kind=query.kind,
                limit=query.limit + 1,
            )
        shown = rows[: query.limit]
        more = len(rows) > query.limit
        return SecurityBody(
            items=[SecurityRow.model_validate(row) for row in shown],
            next_cursor=encode_time_cursor(shown[-1]["last_at"], shown[-1]["event_id"])
            if more
            else None,
        )

    @routes.get("/provider-health")
    async def read_provider_health(
        mode: Mode, caller: Caller = Depends(needs("reports:read"))
    ) -> HealthBody:
        """The newest state of every connector; an operator's token alone sees any."""
        async with seen_by(database, caller) as tx:
            rows = await events.health_now(tx, mode)
        return HealthBody(items=[HealthRow.model_validate(row) for row in rows])

    return routes
