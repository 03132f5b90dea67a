"""Routes every service has: health, readiness, metrics, hops of a trace, its dead letters."""

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service_tokens import Caller

if TYPE_CHECKING:
    from mospay_shared.chassis.service import Service


class Hop(BaseModel):
    """One step of a payment as this service saw it; `kind` says what sort of step."""

    id: str
    service: str
    kind: str = Field(pattern="^(http|message|provider_call|state|posting|delivery)$")
    name: str
    event_id: str | None = None
    causation_id: str | None = None
    queue: str | None = None
    attempt: int = 1
    max_attempts: int | None = None
    next_at: dt.datetime | None = None
    published_at: dt.datetime | None = None
    received_at: dt.datetime | None = None
    handled_at: dt.datetime | None = None
    outcome: str = Field(pattern="^(ok|pending|retry|dead|failed|unknown)$")
    detail: str | None = None
    data: dict[str, Any] | None = None


class Trace(BaseModel):
    """The hops of one subject in one service."""

    service: str
    hops: list[Hop]


class DeadLetter(BaseModel):
    """A message that no further attempt will be made on by itself."""

    event_id: str
    queue: str
    type: str
    subject: str
    state: str
    attempts: int
    reason: str | None
    received_at: dt.datetime
    next_at: dt.datetime | None


class Redrive(BaseModel):
    """Why a message is tried again; kept with it."""

    model_config = ConfigDict(extra="forbid")
    event_id: str = Field(max_length=80)
    queue: str = Field(max_length=80)
    reason: str = Field(min_length=5, max_length=300)


TraceSource = Callable[[Tx, str], Awaitable[list[Hop]]]

_HOPS = """
select event_id, queue, type, causation_id, state, published_at, received_at, handled_at, attempts,
       next_at, reason
from inbox where subject = $1 order by received_at limit 200"""
_UNSENT = """
select id, type, attempts, not_before, reason from outbox where subject = $1 order by id limit 50"""
_DEAD = """
select event_id, queue, type, subject, state, attempts, reason, received_at, next_at from inbox
where state in ('dead', 'retry') and ($1 = '' or subject = $1) order by received_at desc limit $2"""
_REDRIVE = """
update inbox set state = 'retry', next_at = now(), attempts = 0,
    reason = left('redriven by ' || $3 || ': ' || $4 || ' | ' || coalesce(reason, ''), 500)
where event_id = $1 and queue = $2 and state in ('dead', 'retry') and body is not null
returning event_id"""
_OUTCOMES = {"done": "ok", "retry": "retry", "dead": "dead"}


async def inbox_hops(tx: Tx, service: str, subject: str, max_attempts: int) -> list[Hop]:
    """Return what this service's inbox and outbox know of a subject."""
    hops = [
        Hop(
            id=f"{row['queue']}:{row['event_id']}",
            service=service,
            kind="message",
            name=row["type"],
            event_id=row["event_id"],
            causation_id=row["causation_id"],
            queue=row["queue"],
            attempt=max(1, row["attempts"]),
            max_attempts=max_attempts,
            next_at=row["next_at"],
            published_at=row["published_at"],
            received_at=row["received_at"],
            handled_at=row["handled_at"],
            outcome=_OUTCOMES[row["state"]],
            detail=row["reason"],
        )
        for row in await tx.fetch(_HOPS, subject)
    ]
    for row in await tx.fetch(_UNSENT, subject):
        hops.append(
            Hop(
                id=f"outbox:{row['id']}",
                service=service,
                kind="message",
                name=row["type"],
                event_id=row["id"],
                attempt=row["attempts"] + 1,
                next_at=row["not_before"],
                outcome="pending",
                detail=row["reason"] or "waits to be published",
            )
        )
    return hops


def operations_router(service: "Service") -> APIRouter:
    """Return the routes; what is internal needs a service token with the named scope."""
    router = APIRouter(include_in_schema=True)
    verifier = service.verifier

    @router.get("/healthz", tags=["operations"])
    async def healthz() -> Response:
        """The process and its database."""
        alive = await service.database.alive()
        body = {"service": service.name, "database": "up" if alive else "down"}
        if service.broken:
            body["broken"] = "a background task ended; replace this process"
        return JSONResponse(body, 200 if alive and not service.broken else 503)

    @router.get("/readyz", tags=["operations"])
    async def readyz() -> Response:
        """Ready for traffic: migrations done, broker reached, consumers attached."""
        ready, checks = await service.readiness()
        return JSONResponse(
            {"service": service.name, "ready": ready, **checks}, 200 if ready else 503
        )

    @router.get("/metrics", tags=["operations"])
    async def metrics_page() -> Response:
        """Prometheus text."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/internal/v1/traces/{subject}", tags=["internal"])
    async def trace(subject: str, _: Caller = Depends(verifier.needs("trace:read"))) -> Trace:
        """The hops of a payment (or another subject) as this service saw them."""
        async with service.database.transaction() as tx:
            hops = await inbox_hops(tx, service.name, subject, service.settings.inbox_attempts)
            for source in service.trace_sources:
                hops.extend(await source(tx, subject))
        return Trace(service=service.name, hops=hops)

    @router.get("/internal/v1/messages", tags=["internal"])
    async def messages(
        _: Caller = Depends(verifier.needs("messages:read")),
        subject: str = "",
        limit: int = Query(50, ge=1, le=200),
    ) -> list[DeadLetter]:
        """Messages that are dead or wait for another try, newest first."""
        async with service.database.transaction() as tx:
            return [DeadLetter(**dict(row)) for row in await tx.fetch(_DEAD, subject, limit)]

    @router.post("/internal/v1/messages/redrive", tags=["internal"], status_code=202)
    async def redrive(
        body: Redrive, caller: Caller = Depends(verifier.needs("messages:redrive"))
    ) -> dict[str, str]:
        """Try a dead message again under the same id, with a person's reason."""
        actor = caller.actor or caller.issuer
        async with service.database.transaction() as tx:
            done = await tx.value(_REDRIVE, body.event_id, body.queue, actor, body.reason)
        if done is None:
            raise Problem(404, "not_found", "No dead message with that id waits on that queue")
        return {"event_id": done, "state": "retry"}

    return router
