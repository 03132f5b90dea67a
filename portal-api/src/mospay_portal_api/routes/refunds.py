"""What the operator's people do about refunds: see those without an end, end one by two people."""

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from mospay_portal_api.clients import House
from mospay_portal_api.domain.errors import NotFound
from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.routes.bodies import Body
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference, author
from mospay_portal_api.storage.resolutions import REFUNDS
from mospay_portal_api.storage.view import seen_by
from mospay_portal_api.usecases import resolutions

ROUTER, AT_ROUTER = "payment-router", "/internal/v1/refunds"
VERSION_LIMIT = 2**31 - 1
IdQuery = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_]{1,80}$")]
Limit = Annotated[int, Query(ge=1, le=200)]
State = Annotated[Literal["open", "approved", "rejected"] | None, Query()]
Text = Annotated[str, Field(min_length=10, max_length=500)]


class Refund(BaseModel):
    """A refund as the router knows it. Amounts in minor units of `currency`.

    `attention` says why a person must look at it; `resolved` that two people ended it.
    """

    id: str
    payment_id: str
    client_id: str
    mode: str
    amount_minor: int = Field(examples=[500])
    currency: str = Field(examples=["RWF"])
    status: str = Field(examples=["unknown"])
    version: int
    late: bool
    over_refund: bool
    resolved: bool
    provider_reference: str | None
    reason: str | None
    reason_code: str | None
    reason_message: str | None
    attention: str | None = Field(examples=["unresolved"])
    enquiries: int = Field(description="How often the provider was asked about it")
    requested_at: dt.datetime
    updated_at: dt.datetime


class NewRefundResolution(Body):
    """What a person knows about a refund that stays unknown.

    `reason` is what they found, in words the client may read; `evidence` names what proves it.
    """

    outcome: Literal["succeeded", "failed"]
    reason: Text = Field(examples=["The provider's statement has no such refund"])
    evidence: Text = Field(examples=["Statement of 21 November, lines 1 to 90"])
    version: int = Field(ge=1, le=VERSION_LIMIT, description="the refund's version that was read")


class RefundResolution(BaseModel):
    """A proposed resolution of a refund. `state` is open, approved or rejected."""

    id: str
    refund_id: str
    payment_id: str
    client_id: str
    mode: str
    version: int
    outcome: str
    reason: str
    evidence: str
    proposed_by: str
    proposed_at: dt.datetime
    state: str
    decided_by: str | None
    decided_at: dt.datetime | None


async def _refund_of(house: House, person: Person, refund_id: str) -> dict[str, Any]:
    path = f"{AT_ROUTER}/{refund_id}"
    found = await house.find(ROUTER, path, "payments:read", asker(person, None))
    if found is None:
        raise NotFound("The router has no such refund")
    return dict(found)


def reads_router(context: Context) -> APIRouter:
    """Return the routes by which people look at refunds."""
    routes = APIRouter(prefix="/bff/v1", tags=["refunds"], responses=PROBLEMS)
    house, reads = context.house, Depends(context.needs("directory:read"))

    @routes.get("/refunds", response_model=list[Refund])
    async def without_end(
        status: Annotated[Literal["unknown", "pending"], Query()] = "unknown",
        after: IdQuery = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> object:
        """Refunds without an end, the oldest first."""
        query = {"status": status, "after": after, "limit": limit}
        return await house.get(ROUTER, AT_ROUTER, "payments:read", asker(person, None), query)

    @routes.get("/refunds/{refund_id}", response_model=Refund)
    async def one(refund_id: Reference, person: Person = reads) -> object:
        """One refund, with the version that a resolution has to name."""
        return await _refund_of(house, person, refund_id)

    return routes


def resolutions_router(context: Context) -> APIRouter:
    """Return the routes by which two people end a refund."""
    routes = APIRouter(prefix="/bff/v1", tags=["refunds"], responses=PROBLEMS)
    database, relay = context.service.database, context.service.relay
    reads = Depends(context.needs("directory:read"))
    resolves = Depends(context.needs("payments:resolve"))

    @routes.post("/refunds/{refund_id}/resolutions", status_code=201)
    async def propose(
        refund_id: Reference, body: NewRefundResolution, request: Request,
        person: Person = resolves,
    ) -> RefundResolution:  # fmt: skip
        """Propose how a refund ended; a second person has to approve."""
        refund = await _refund_of(context.house, person, refund_id)
        async with database.transaction() as tx:
            row = await resolutions.propose_for_refund(
                tx, author(person, request), refund, body.version, body.outcome, body.reason,
                body.evidence,
            )  # fmt: skip
        return RefundResolution(**dict(row))

    async def page(
        person: Person, state: str | None, refund_id: str | None, before: str | None, limit: int
    ) -> list[RefundResolution]:
        async with seen_by(database, person) as tx:
            rows = await REFUNDS.page(tx, state, refund_id, before, limit)
        return [RefundResolution(**dict(row)) for row in rows]

    @routes.get("/refund-resolutions")
    async def proposed(
        state: State = None, before: IdQuery = None, limit: Limit = 50, person: Person = reads
    ) -> list[RefundResolution]:
        """Proposed resolutions of all refunds, newest first."""
        return await page(person, state, None, before, limit)

    @routes.get("/refunds/{refund_id}/resolutions")
    async def proposed_for(
        refund_id: Reference, before: IdQuery = None, limit: Limit = 50, person: Person = reads
    ) -> list[RefundResolution]:
        """What was proposed for one refund, newest first."""
        return await page(person, None, refund_id, before, limit)

    def deciding(name: str, *, approve: bool) -> None:
        path = f"/refunds/{{refund_id}}/resolutions/{{resolution_id}}/{name}"

        @routes.post(path, name=f"{name}_refund_resolution")
        async def decide(
            refund_id: Reference, resolution_id: Reference, request: Request,
            person: Person = resolves,
        ) -> RefundResolution:  # fmt: skip
            """Decide on what another person proposed."""
            async with database.transaction() as tx:
                row = await resolutions.decide_on_refund(
                    tx, relay, author(person, request), refund_id, resolution_id, approve=approve
                )
            return RefundResolution(**dict(row))

    deciding("approve", approve=True)
    deciding("reject", approve=False)
    return routes
