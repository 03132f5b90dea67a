"""Risk for the operator's people: rules, lists, thresholds, decisions, and the review of payments.

The rules live in payment-router, which checks them; here is who may, and what the audit log keeps.
"""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from mospay_portal_api.domain.errors import NotFound
from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.routes.bodies import Body
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference, author
from mospay_portal_api.storage import audit
from mospay_portal_api.usecases import reviews

ROUTER = "payment-router"
RULES, LISTS = "/internal/v1/risk/rules", "/internal/v1/risk/lists"
THRESHOLDS, DECISIONS = "/internal/v1/risk/thresholds", "/internal/v1/risk/decisions"
VERSION_LIMIT = 2**31 - 1
Mode = Annotated[str, Field(pattern=r"^(live|test)$")]
ModeQuery = Annotated[str | None, Query(pattern=r"^(live|test)$")]
IdQuery = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_]{1,80}$")]
ClientId = Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_]{1,80}$")]
Limit = Annotated[int, Query(ge=1, le=200)]


class RiskRuleIn(Body):
    """A rule to keep; `rule` is as the router's API has it. `version` as it was read, 0: new."""

    client_id: ClientId = None
    mode: Mode
    rule: dict[str, Any]
    active: bool = True
    version: int = Field(0, ge=0, le=VERSION_LIMIT)


class RiskRule(BaseModel):
    """A rule as it is. A null client holds for all of them."""

    id: str
    client_id: str | None
    mode: str
    rule: dict[str, Any]
    active: bool
    version: int
    updated_by: str
    updated_at: dt.datetime


class RiskEntryIn(Body):
    """What to put on the block or the allow list, why, and until when."""

    client_id: ClientId = None
    mode: Mode
    list: str = Field(pattern=r"^(block|allow)$")
    kind: str = Field(pattern=r"^(phone|device|ip|customer)$")
    value: str = Field(min_length=1, max_length=255)
    reason: str = Field(min_length=3, max_length=300)
    expires_at: dt.datetime | None = None


class RiskEntry(BaseModel):
    """An entry of a list; `shown` is what may be seen of its value."""

    id: str
    client_id: str | None
    mode: str
    list: str
    kind: str
    shown: str
    reason: str
    expires_at: dt.datetime | None
    added_by: str
    added_at: dt.datetime


class RiskEntryPage(BaseModel):
    """A page of entries, newest first."""

    items: list[RiskEntry]
    next_before: str | None


class RiskThresholdsIn(Body):
    """From which score payments are held and refused; `version` as it was read, 0: none yet."""

    hold_at: int = Field(ge=1, le=1_000_000)
    refuse_at: int = Field(ge=1, le=1_000_000)
    version: int = Field(0, ge=0, le=VERSION_LIMIT)


class RiskThresholds(BaseModel):
    """Thresholds as they are; those of a null client hold for clients without their own."""

    client_id: str | None
    mode: str
    hold_at: int
    refuse_at: int
    version: int
    updated_by: str
    updated_at: dt.datetime


class RiskReason(BaseModel):
    """Why; `rule` is the id of a rule or of a list's entry."""

    rule: str
    points: int
    detail: str


class RiskReview(BaseModel):
    """What a person said about a held payment; `applied` is false where it had moved on."""

    version: int
    by: str
    decision: str
    note: str
    applied: bool
    requested_at: dt.datetime
    at: dt.datetime


class RiskDecision(BaseModel):
    """What risk decided about a payment, why, and what people made of it."""

    payment_id: str
    client_id: str
    client_name: str
    mode: str
    decision: str
    score: int
    reasons: list[RiskReason]
    by_default: bool
    took_ms: float
    rules_version: int
    assessed_at: dt.datetime
    status: str
    version: int
    service: str
    amount_minor: int
    currency: str
    phone_masked: str | None
    reference: str
    accepted_at: dt.datetime
    send_before: dt.datetime
    reviews: list[RiskReview]


class RiskDecisionPage(BaseModel):
    """A page of decisions, newest first."""

    items: list[RiskDecision]
    next_before: str | None


class NewReview(Body):
    """A person's word on a held payment, why, and the version of the payment they saw."""

    decision: str = Field(pattern=r"^(release|refuse)$", examples=["release"])
    note: str = Field(min_length=3, max_length=500, examples=["Spoke with the payer"])
    version: int = Field(ge=0, le=VERSION_LIMIT)


class Made(BaseModel):
    """What was made or changed, and its version now."""

    id: str
    version: int


class MadeEntry(BaseModel):
    """The entry that was made."""

    id: str


class Version(BaseModel):
    """The version now."""

    version: int


def review_router(context: Context) -> APIRouter:
    """Return the route by which people release or refuse what risk holds, and the decisions."""
    routes = APIRouter(prefix="/bff/v1", tags=["risk"], responses=PROBLEMS)
    database, relay, house = context.service.database, context.service.relay, context.house
    reads, writes = (Depends(context.needs(f"risk:{what}")) for what in ("read", "write"))

    @routes.post("/payments/{payment_id}/review", status_code=202, response_class=Response)
    async def review(
        payment_id: Reference, body: NewReview, request: Request, person: Person = writes
    ) -> Response:
        """Release or refuse a held payment; 409 when it has moved on since it was read."""
        path = f"/internal/v1/payments/{payment_id}"
        payment = await house.find(ROUTER, path, "payments:read", asker(person, None))
        if payment is None:
            raise NotFound("The router has no such payment")
        by = author(person, request)
        async with database.transaction() as tx:
            await reviews.review(tx, relay, by, payment, body.decision, body.note, body.version)
        return Response(status_code=202)

    @routes.get("/risk/decisions", response_model=RiskDecisionPage)
    async def decisions(
        payment_id: IdQuery = None,
        decision: Annotated[str | None, Query(pattern=r"^(allow|hold|refuse)$")] = None,
        only_open: Annotated[bool, Query(alias="open", description="held at this moment")] = False,
        client_id: IdQuery = None,
        mode: ModeQuery = None,
        before: IdQuery = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> Any:
        """Decisions of risk, newest first; what was allowed without a reason is not kept."""
        query = {
            "payment_id": payment_id, "decision": decision, "open": only_open,
            "client_id": client_id, "mode": mode, "before": before, "limit": limit,
        }  # fmt: skip
        me = asker(person, None)
        page = await house.get(ROUTER, DECISIONS, "risk:read", me, query)
        return {**page, "items": await context.reader.named(person, page["items"])}

    return routes


def rules_router(context: Context) -> APIRouter:
    """Return the routes of rules, lists and thresholds."""
    routes = APIRouter(prefix="/bff/v1/risk", tags=["risk"], responses=PROBLEMS)
    _add_rules(routes, context)
    _add_lists(routes, context)
    _add_thresholds(routes, context)
    return routes


async def _rules(context: Context, person: Person) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await context.house.get(
        ROUTER, RULES, "risk:read", asker(person, None)
    )
    return rows


async def _note(
    context: Context, person: Person, request: Request, action: str, what: str, **kept: Any
) -> None:
    async with context.service.database.transaction() as tx:
        await audit.write(tx, author(person, request), action, what, **kept)


def _add_rules(routes: APIRouter, context: Context) -> None:
    house = context.house
    reads, writes = (Depends(context.needs(f"risk:{what}")) for what in ("read", "write"))

    async def before(person: Person, rule_id: str) -> Any:
        return next((r for r in await _rules(context, person) if r["id"] == rule_id), None)

    @routes.get("/rules", response_model=list[RiskRule])
    async def rules(
        client_id: IdQuery = None, mode: ModeQuery = None, person: Person = reads
    ) -> Any:
        """Rules, those that are not active too."""
        query = {"client_id": client_id, "mode": mode}
        return await house.get(ROUTER, RULES, "risk:read", asker(person, None), query)

    @routes.post("/rules", status_code=201)
    async def add_rule(body: RiskRuleIn, request: Request, person: Person = writes) -> Made:
        """Add a rule; it holds for payments taken in from about a second later on."""
        me, wanted = asker(person, None), body.model_dump()
        made = Made(**await house.send("POST", ROUTER, RULES, "risk:write", me, wanted))
        await _note(context, person, request, "risk_rule_added", made.id, after=wanted)
        return made

    @routes.put("/rules/{rule_id}")
    async def put_rule(
        rule_id: Reference, body: RiskRuleIn, request: Request, person: Person = writes
    ) -> Made:
        """Replace a rule whose version was read."""
        me, wanted, path = asker(person, None), body.model_dump(), f"{RULES}/{rule_id}"
        was = await before(person, rule_id)
        made = Made(**await house.send("PUT", ROUTER, path, "risk:write", me, wanted))
        await _note(
            context, person, request, "risk_rule_changed", rule_id, before=was, after=wanted
        )
        return made

    @routes.delete("/rules/{rule_id}", status_code=204, response_class=Response)
    async def drop_rule(
        rule_id: Reference,
        version: Annotated[int, Query(ge=1, le=VERSION_LIMIT)],
        request: Request,
        person: Person = writes,
    ) -> Response:
        """Delete a rule whose version was read."""
        was, path = await before(person, rule_id), f"{RULES}/{rule_id}?version={version}"
        await house.send("DELETE", ROUTER, path, "risk:write", asker(person, None))
        await _note(context, person, request, "risk_rule_deleted", rule_id, before=was)
        return Response(status_code=204)


def _add_lists(routes: APIRouter, context: Context) -> None:
    house = context.house
    reads, writes = (Depends(context.needs(f"risk:{what}")) for what in ("read", "write"))

    @routes.get("/lists", response_model=RiskEntryPage)
    async def entries(
        name: Annotated[str | None, Query(alias="list", pattern=r"^(block|allow)$")] = None,
        kind: Annotated[str | None, Query(pattern=r"^(phone|device|ip|customer)$")] = None,
        client_id: IdQuery = None,
        mode: ModeQuery = None,
        before: IdQuery = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> Any:
        """Entries of the block and allow lists, newest first."""
        query = {"list": name, "kind": kind, "client_id": client_id, "mode": mode,
                 "before": before, "limit": limit}  # fmt: skip
        return await house.get(ROUTER, LISTS, "risk:read", asker(person, None), query)

    @routes.post("/lists", status_code=201)
    async def add_entry(body: RiskEntryIn, request: Request, person: Person = writes) -> MadeEntry:
        """Put a phone, device, address, network or customer on a list."""
        me, wanted = asker(person, None), body.model_dump(mode="json")
        made = MadeEntry(**await house.send("POST", ROUTER, LISTS, "risk:write", me, wanted))
        if body.kind in ("phone", "device"):  # as the router shows it; never in clear in the log
            wanted["value"] = "*" * max(0, len(body.value) - 3) + body.value[-3:]
        await _note(context, person, request, "risk_entry_added", made.id, after=wanted)
        return made

    @routes.delete("/lists/{entry_id}", status_code=204, response_class=Response)
    async def drop_entry(
        entry_id: Reference, request: Request, person: Person = writes
    ) -> Response:
        """Take an entry off its list."""
        path = f"{LISTS}/{entry_id}"
        await house.send("DELETE", ROUTER, path, "risk:write", asker(person, None))
        await _note(context, person, request, "risk_entry_deleted", entry_id)
        return Response(status_code=204)


def _add_thresholds(routes: APIRouter, context: Context) -> None:
    house = context.house
    reads, writes = (Depends(context.needs(f"risk:{what}")) for what in ("read", "write"))

    @routes.get("/thresholds", response_model=list[RiskThresholds])
    async def thresholds(person: Person = reads) -> Any:
        """Thresholds, those for all clients first."""
        return await house.get(ROUTER, THRESHOLDS, "risk:read", asker(person, None))

    @routes.put("/thresholds/{mode}")
    async def put_thresholds(
        mode: Reference,
        body: RiskThresholdsIn,
        request: Request,
        client_id: IdQuery = None,
        person: Person = writes,
    ) -> Version:
        """Set the thresholds of a client, or of all that have none of their own."""
        me, wanted = asker(person, None), body.model_dump()
        rows = await house.get(ROUTER, THRESHOLDS, "risk:read", me)
        place = (client_id, mode)
        was = next((r for r in rows if (r["client_id"], r["mode"]) == place), None)
        path = f"{THRESHOLDS}/{mode}" + (f"?client_id={client_id}" if client_id else "")
        made = Version(**await house.send("PUT", ROUTER, path, "risk:write", me, wanted))
        subject = f"{client_id or 'all'}/{mode}"
        await _note(
            context, person, request, "risk_thresholds_set", subject, before=was, after=wanted
        )
        return made
