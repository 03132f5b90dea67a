"""Address rules for the operator's admins: who is refused, and where a client is heard from."""

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, Field

from mospay_portal_api.domain.people import Person
from mospay_portal_api.routes.bodies import Body, Version
from mospay_portal_api.routes.context import PROBLEMS, Context, Read, Reference, author
from mospay_portal_api.storage import ip_rules as store
from mospay_portal_api.storage.view import seen_by
from mospay_portal_api.usecases import directory, ip_rules

Note = Annotated[str, Field(max_length=200)]


class IpRule(BaseModel):
    """A rule; without a client a deny rule holds for everybody."""

    id: str
    client_id: str | None
    kind: str
    cidr: str
    expires_at: dt.datetime | None
    note: str | None
    active: bool
    version: int
    created_at: dt.datetime


class NewIpRule(Body):
    """Refuse addresses (`deny`), or hear a client from these alone (`allow`)."""

    client_id: str | None = Field(None, max_length=80)
    kind: str = Field(pattern="^(allow|deny)$")
    cidr: str = Field(max_length=50, examples=["203.0.113.0/24", "2001:db8::/32"])
    expires_at: AwareDatetime | None = None
    note: Note | None = None


class IpRuleChange(Body):
    """What to change, and the version that was read; null takes expiry or note away."""

    expires_at: AwareDatetime | None = None
    note: Note | None = None
    active: bool = True
    version: Version


def router(context: Context) -> APIRouter:
    """Return the routes of address rules."""
    routes = APIRouter(prefix="/bff/v1/ip-rules", tags=["directory"], responses=PROBLEMS)
    database, relay = context.service.database, context.service.relay
    reads, writes = (Depends(context.needs(f"directory:{what}")) for what in ("read", "write"))

    @routes.get("")
    async def rules(
        client_id: Annotated[str | None, Query(max_length=80, pattern="^[A-Za-z0-9_]+$")] = None,
        person: Person = reads,
    ) -> list[IpRule]:
        """All rules, or those of one client."""
        async with seen_by(database, person) as tx:
            return [IpRule(**dict(row)) for row in await store.rules(tx, client_id)]

    @routes.post("", status_code=201)
    async def create(body: NewIpRule, request: Request, person: Person = writes) -> IpRule:
        """Make a rule; it holds as soon as the gateway has heard of it."""
        by = author(person, request)
        async with database.transaction() as tx:
            row = await ip_rules.create(tx, relay, by, body.model_dump())
        return IpRule(**dict(row))

    @routes.patch("/{ip_rule_id}")
    async def change(
        ip_rule_id: Reference, body: IpRuleChange, request: Request, person: Person = writes
    ) -> IpRule:
        """Change expiry or note, switch a rule on or off."""
        changes = body.model_dump(exclude={"version"}, exclude_unset=True)
        by = author(person, request)
        async with database.transaction() as tx:
            row = await ip_rules.change(tx, relay, by, ip_rule_id, body.version, changes)
        return IpRule(**dict(row))

    @routes.delete("/{ip_rule_id}", status_code=204, response_class=Response)
    async def delete(
        ip_rule_id: Reference, version: Read, request: Request, person: Person = writes
    ) -> Response:
        """Take a rule away for good."""
        by = author(person, request)
        async with database.transaction() as tx:
            await directory.delete(tx, relay, by, "ip_rule", ip_rule_id, version)
        return Response(status_code=204)

    return routes
