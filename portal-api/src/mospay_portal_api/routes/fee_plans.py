"""Fee plans for the operator's people: what is in force, a new version, what one would have cost.

The ledger keeps and checks them; here is who may, and what the audit log keeps.
"""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, BaseModel, Field

from mospay_portal_api.domain.errors import Fault, Invalid
from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.routes.bodies import Body, Currency
from mospay_portal_api.routes.context import (
    PROBLEMS,
    ClientId,
    Context,
    Cursor,
    Limit,
    Mode,
    author,
)
from mospay_portal_api.storage import audit, directory
from mospay_portal_api.storage.view import seen_by

LEDGER, PATH = "ledger", "/internal/v1/fee-plans"
READ, WRITE = "ledger:read", "ledger:write"
SIMULATE_SECONDS = 20.0  # it prices the captures of a month
Id = Annotated[str, Field(min_length=1, max_length=80, pattern="^[A-Za-z0-9_]+$")]
Minor = Annotated[int, Field(ge=0, le=2**62)]
Points = Annotated[int, Field(ge=0, le=10_000)]


class FeeTier(Body):
    """Applies to the whole amount from `from_minor` up to the next tier."""

    from_minor: Minor = Field(examples=[0])
    basis_points: Points = Field(examples=[250])
    fixed_minor: Minor = Field(0, examples=[0])


class FeePlanTerms(Body):
    """What a plan asks: basis points (100 = 1 %) plus a fixed part, within min and max.

    Tiers replace percentage and fixed part. Amounts are minor units and need a currency. Null in
    client, service or currency means "any".
    """

    mode: str = Field(pattern="^(live|test)$", examples=["test"])
    client_id: Id | None = None
    service_id: Id | None = None
    currency: Currency | None = None
    basis_points: Points = Field(0, examples=[200])
    fixed_minor: Minor = Field(0, examples=[50])
    min_minor: Minor | None = Field(None, examples=[20])
    max_minor: Minor | None = Field(None, examples=[5000])
    tiers: list[FeeTier] = Field(default_factory=list, max_length=20)
    fee_on_refund: str = Field("keep", pattern="^(keep|return)$")


class NewFeePlan(FeePlanTerms):
    """A version to put in force, now or later: of a new plan, or the next one of `id`."""

    id: Id | None = None
    effective_from: AwareDatetime | None = None
    effective_until: AwareDatetime | None = None


class FeePlanTier(BaseModel):
    """A tier of a plan."""

    from_minor: int
    basis_points: int
    fixed_minor: int


class FeePlan(BaseModel):
    """A version of a plan; it is never changed."""

    id: str
    version: int
    mode: str
    client_id: str | None
    service_id: str | None
    currency: str | None
    basis_points: int
    fixed_minor: int
    min_minor: int | None
    max_minor: int | None
    tiers: list[FeePlanTier]
    fee_on_refund: str
    effective_from: dt.datetime
    effective_until: dt.datetime | None
    created_by: str | None


class FeePlanPage(BaseModel):
    """A page of plans in id and version order; `next_cursor` is null at the end."""

    items: list[FeePlan]
    next_cursor: str | None


class FeeSimulationTier(BaseModel):
    """What fell into one tier, counted from 1; null without tiers. Minor units."""

    tier: int | None
    payments: int
    amount_minor: int
    fee_minor: int


class FeeSimulationCurrency(BaseModel):
    """One currency: what was charged, what the plan would have charged, and the difference."""

    currency: str
    payments: int
    amount_minor: int
    charged_minor: int
    would_have_cost_minor: int
    difference_minor: int
    tiers: list[FeeSimulationTier]


class FeeSimulation(BaseModel):
    """The captures between `since` and `until` in the plan's scope, priced again."""

    since: dt.datetime
    until: dt.datetime
    currencies: list[FeeSimulationCurrency]
    text: list[str]


def router(context: Context) -> APIRouter:
    """Return the routes of fee plans."""
    routes = APIRouter(prefix="/bff/v1", tags=["fee plans"], responses=PROBLEMS)
    house, database = context.house, context.service.database
    reads, writes = Depends(context.needs(READ)), Depends(context.needs(WRITE))

    async def check_scope(person: Person, terms: FeePlanTerms) -> None:
        """A plan for a client or service that is not there would silently never apply."""
        faults = []
        async with seen_by(database, person) as tx:
            for field, named, find in (
                ("client_id", terms.client_id, directory.client),
                ("service_id", terms.service_id, directory.service),
            ):
                row = await find(tx, named) if named else None
                if named and (row is None or row["deleted"]):
                    faults.append(Fault(field, "unknown", "is not in the directory"))
        if faults:
            raise Invalid(faults)

    @routes.get("/fee-plans", response_model=FeePlanPage)
    async def plans(
        mode: Mode,
        client_id: ClientId = None,
        cursor: Cursor = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> Any:
        """Fee plans with all their versions; with `client_id`, those of that client alone."""
        query = {"mode": mode, "client_id": client_id, "cursor": cursor, "limit": limit}
        return await house.get(LEDGER, PATH, READ, asker(person, None, mode), query)

    @routes.post("/fee-plans", status_code=201)
    async def add_plan(body: NewFeePlan, request: Request, person: Person = writes) -> FeePlan:
        """Put a version in force from now or later; payments accepted before keep theirs."""
        await check_scope(person, body)
        wanted, me = body.model_dump(mode="json"), asker(person, None)
        made = FeePlan(**await house.send("POST", LEDGER, PATH, WRITE, me, wanted))
        async with database.transaction() as tx:
            await audit.write(tx, author(person, request), "fee_plan_added", made.id, after=wanted)
        return made

    @routes.post("/fee-plans/simulate", response_model=FeeSimulation)
    async def simulate(body: FeePlanTerms, person: Person = reads) -> Any:
        """What the captures of the last 30 days would have cost under such a plan."""
        await check_scope(person, body)
        return await house.send(
            "POST", LEDGER, f"{PATH}/simulate", READ, asker(person, None), body.model_dump(),
            timeout_seconds=SIMULATE_SECONDS,
        )  # fmt: skip

    return routes
