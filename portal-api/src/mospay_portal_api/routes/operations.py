"""What the operator's people do about payments and providers."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from mospay_portal_api.domain.errors import NotFound
from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference, author
from mospay_portal_api.storage import audit
from mospay_portal_api.storage.resolutions import PAYMENTS
from mospay_portal_api.storage.view import seen_by
from mospay_portal_api.usecases import resolutions

ROUTER = "payment-router"
Version = Annotated[int, Query(ge=1, description="the version that was read")]


class NewResolution(BaseModel):
    """What a person knows about a payment that no machine can end, and how they know."""

    outcome: str = Field(pattern=r"^(succeeded|failed)$", examples=["succeeded"])
    evidence: str = Field(min_length=10, max_length=500, examples=["Line 14 of the statement"])
    version: int = Field(ge=0, description="the payment's version that was read")


class Resolution(BaseModel):
    """A proposed resolution. `state` is open, approved or rejected."""

    id: str
    payment_id: str
    client_id: str
    mode: str
    version: int
    outcome: str
    evidence: str
    proposed_by: str
    proposed_at: dt.datetime
    state: str
    decided_by: str | None
    decided_at: dt.datetime | None


class Provider(BaseModel):
    """A connector whose breaker has moved."""

    microservice: str
    mode: str
    state: str
    reason: str
    failures: int
    calls: int
    changed_at: dt.datetime


class ProviderCredential(BaseModel):
    """Which parts a client's credentials with a connector have; never the parts."""

    client_id: str
    mode: str
    microservice: str
    names: list[str]
    version: int
    updated_by: str
    updated_at: dt.datetime


class NewProviderCredential(BaseModel):
    """What a client has with a provider, by name; kept by the router alone."""

    parts: dict[str, str] = Field(min_length=1, max_length=20)


class RoutingRule(BaseModel):
    """A routing rule; `rule` is as the router's API has it."""

    client_id: str | None = Field(None, max_length=80)
    mode: str = Field(pattern=r"^(live|test)$")
    service_id: str | None = Field(None, max_length=80)
    priority: int = Field(100, ge=0, le=100_000)
    rule: dict[str, Any]
    active: bool = True
    version: int = Field(0, ge=0)


class RoutingRuleOut(RoutingRule):
    """A routing rule as it is."""

    id: str
    updated_by: str
    updated_at: dt.datetime


class Made(BaseModel):
    """What was made or changed, and its version now."""

    id: str
    version: int


def payments_router(context: Context) -> APIRouter:
    """Return the routes by which people ask about payments and end them."""
    routes = APIRouter(prefix="/bff/v1", tags=["operations"], responses=PROBLEMS)
    database, relay, house = context.service.database, context.service.relay, context.house
    resolves = Depends(context.needs("payments:resolve"))

    async def payment_of(person: Person, payment_id: str) -> dict[str, Any]:
        path = f"/internal/v1/payments/{payment_id}"
        found = await house.find(ROUTER, path, "payments:read", asker(person, None))
        if found is None:
            raise NotFound("The router has no such payment")
        return dict(found)

    @routes.post("/payments/{payment_id}/enquire", status_code=202, response_class=Response)
    async def enquire(
        payment_id: Reference, request: Request, person: Person = resolves
    ) -> Response:
        """Have the provider asked about a payment now."""
        payment = await payment_of(person, payment_id)
        async with database.transaction() as tx:
            await resolutions.enquire(tx, relay, author(person, request), payment)
        return Response(status_code=202)

    @routes.post("/payments/{payment_id}/resolutions", status_code=201)
    async def propose(
        payment_id: Reference, body: NewResolution, request: Request, person: Person = resolves
    ) -> Resolution:
        """Propose how a payment ended; a second person has to approve."""
        payment = await payment_of(person, payment_id)
        async with database.transaction() as tx:
            row = await resolutions.propose(
                tx, author(person, request), payment, body.version, body.outcome, body.evidence
            )
        return Resolution(**dict(row))

    @routes.get("/resolutions")
    async def listed(
        state: Annotated[str | None, Query(pattern=r"^(open|approved|rejected)$")] = None,
        payment_id: Annotated[str | None, Query(max_length=80)] = None,
        before: Annotated[str | None, Query(max_length=80)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        person: Person = Depends(context.needs("directory:read")),
    ) -> list[Resolution]:
        """Proposed resolutions, newest first."""
        async with seen_by(database, person) as tx:
            rows = await PAYMENTS.page(tx, state, payment_id, before, limit)
        return [Resolution(**dict(row)) for row in rows]

    def deciding(name: str, *, approve: bool) -> None:
        @routes.post(f"/resolutions/{{resolution_id}}/{name}", name=f"{name}_resolution")
        async def decide(
            resolution_id: Reference, request: Request, person: Person = resolves
        ) -> Resolution:
            """Decide on what another person proposed."""
            async with database.transaction() as tx:
                row = await resolutions.decide(
                    tx, relay, author(person, request), resolution_id, approve=approve
                )
            return Resolution(**dict(row))

    deciding("approve", approve=True)
    deciding("reject", approve=False)
    return routes


def providers_router(context: Context) -> APIRouter:
    """Return the routes of connectors: health, routing rules, clients' credentials."""
    routes = APIRouter(prefix="/bff/v1", tags=["providers"], responses=PROBLEMS)
    database, house = context.service.database, context.house
    reads = Depends(context.needs("directory:read"))
    writes = Depends(context.needs("providers:write"))
    rules, keys = "/internal/v1/routing-rules", "/internal/v1/provider-credentials"

    async def note(person: Person, request: Request, action: str, what: str, body: Any) -> None:
        async with database.transaction() as tx:
            await audit.write(tx, author(person, request), action, what, after=body)

    @routes.get("/providers", response_model=list[Provider])
    async def health(person: Person = reads) -> object:
        """Connectors whose breaker has ever moved, with their latest health."""
        me = asker(person, None)
        return await house.get(ROUTER, "/internal/v1/providers", "providers:read", me)

    @routes.get("/routing-rules", response_model=list[RoutingRuleOut])
    async def all_rules(person: Person = reads) -> object:
        """Routing rules, in the order of their priority."""
        return await house.get(ROUTER, rules, "providers:read", asker(person, None))

    @routes.post("/routing-rules", status_code=201)
    async def add_rule(body: RoutingRule, request: Request, person: Person = writes) -> Made:
        """Add a routing rule; it holds for payments accepted from now on."""
        me, wanted = asker(person, None), body.model_dump()
        made = Made(**await house.send("POST", ROUTER, rules, "providers:write", me, wanted))
        await note(person, request, "routing_rule_added", made.id, wanted)
        return made

    @routes.put("/routing-rules/{rule_id}")
    async def change_rule(
        rule_id: Reference, body: RoutingRule, request: Request, person: Person = writes
    ) -> Made:
        """Replace a routing rule whose version was read."""
        me, wanted, path = asker(person, None), body.model_dump(), f"{rules}/{rule_id}"
        made = Made(**await house.send("PUT", ROUTER, path, "providers:write", me, wanted))
        await note(person, request, "routing_rule_changed", rule_id, wanted)
        return made

    @routes.delete("/routing-rules/{rule_id}", status_code=204, response_class=Response)
    async def drop_rule(
        rule_id: Reference, request: Request, version: Version, person: Person = writes
    ) -> Response:
        """Delete a routing rule whose version was read."""
        path = f"{rules}/{rule_id}?version={version}"
        await house.send("DELETE", ROUTER, path, "providers:write", asker(person, None))
        await note(person, request, "routing_rule_deleted", rule_id, None)
        return Response(status_code=204)

    @routes.get("/provider-credentials", response_model=list[ProviderCredential])
    async def credentials(person: Person = reads) -> object:
        """Which clients have credentials of their own with which connectors."""
        return await house.get(ROUTER, keys, "providers:read", asker(person, None))

    path = "/clients/{client_id}/provider-credentials/{mode}/{microservice}"

    @routes.put(path, status_code=204, response_class=Response)
    async def put_credential(
        client_id: Reference, mode: Reference, microservice: Reference,
        body: NewProviderCredential, request: Request, person: Person = writes,
    ) -> Response:  # fmt: skip
        """Hand a client's credentials with a connector to the router, which alone can open them."""
        at, me = f"{keys}/{client_id}/{mode}/{microservice}", asker(person, None)
        await house.send("PUT", ROUTER, at, "providers:write", me, body.model_dump())
        names = {"mode": mode, "microservice": microservice, "names": sorted(body.parts)}
        await note(person, request, "provider_credentials_set", client_id, names)
        return Response(status_code=204)

    @routes.delete(path, status_code=204, response_class=Response)
    async def drop_credential(
        client_id: Reference, mode: Reference, microservice: Reference, request: Request,
        person: Person = writes,
    ) -> Response:  # fmt: skip
        """Erase a client's credentials with a connector."""
        at, me = f"{keys}/{client_id}/{mode}/{microservice}", asker(person, None)
        await house.send("DELETE", ROUTER, at, "providers:write", me)
        names = {"mode": mode, "microservice": microservice}
        await note(person, request, "provider_credentials_erased", client_id, names)
        return Response(status_code=204)

    return routes
