"""Fee plans: list, add a version, and what one would have cost."""

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from mospay_shared.ids import new_id
from pydantic import AwareDatetime, BaseModel, Field

from mospay_ledger.domain import FeePlan, Tier
from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    PRINTABLE,
    AnyMode,
    ClientFilter,
    Limit,
    instant,
    operators_only,
    refusals,
    seen_by,
)
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import plans
from mospay_ledger.usecases import pricing

Minor = Annotated[int, Field(ge=0, le=2**62)]
Points = Annotated[int, Field(ge=0, le=10_000)]


class TierBody(BaseModel):
    """Applies to the whole amount from `from_minor` up to the next tier."""

    from_minor: Minor = Field(examples=[0])
    basis_points: Points = Field(examples=[250])
    fixed_minor: Minor = Field(0, examples=[0])


class PlanTerms(BaseModel):
    """What a plan asks: basis points (100 = 1 %) plus a fixed part, within min and max.

    Tiers replace percentage and fixed part. Amounts are minor units and need a currency. Rounded
    half to even, never above the amount. A null scope member means "any".
    """

    mode: Literal["live", "test"] = Field(examples=["test"])
    client_id: Annotated[str, Field(max_length=80, pattern=PRINTABLE)] | None = Field(
        None, examples=[EXAMPLE_CLIENT]
    )
    service_id: Annotated[str, Field(max_length=80, pattern=PRINTABLE)] | None = None
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = Field(None, examples=["RWF"])
    basis_points: Points = Field(0, examples=[200])
    fixed_minor: Minor = Field(0, examples=[50])
    min_minor: Minor | None = Field(None, examples=[20])
    max_minor: Minor | None = Field(None, examples=[5000])
    tiers: list[TierBody] = Field(default_factory=list, max_length=20)
    fee_on_refund: Literal["keep", "return"] = Field("keep", examples=["keep"])

    def plan(self, plan_id: str, **more: Any) -> FeePlan:
        """Return the domain's plan; version 0 until it is written."""
        terms = self.model_dump(include=set(PlanTerms.model_fields) - {"tiers"})
        tiers = tuple(Tier(t.from_minor, t.basis_points, t.fixed_minor) for t in self.tiers)
        return FeePlan(id=plan_id, version=0, tiers=tiers, **terms, **more)


class NewPlan(PlanTerms):
    """A version of a plan to put in force: of a new plan, or the next of `id`."""

    id: Annotated[str, Field(max_length=80, pattern=PRINTABLE)] | None = None
    effective_from: AwareDatetime | None = Field(None, examples=[EXAMPLE_TIME])
    effective_until: AwareDatetime | None = None


class PlanBody(PlanTerms):
    """A version of a plan; it is never changed."""

    id: str = Field(examples=["plan_019aa51c000070008000000000000003"])
    version: int = Field(examples=[1])
    effective_from: dt.datetime = Field(examples=[EXAMPLE_TIME])
    effective_until: dt.datetime | None = Field(None, examples=[None])
    created_by: str | None = Field(None, examples=["usr_a"])


class Plans(BaseModel):
    """A page of plans in id and version order; `next_cursor` is null at the end."""

    items: list[PlanBody]
    next_cursor: str | None = Field(examples=[None])


class TierResult(BaseModel):
    """What fell into one tier; `tier` counts from 1, null without tiers."""

    tier: int | None = Field(examples=[1])
    payments: int = Field(examples=[120])
    amount_minor: int = Field(examples=[180000])
    fee_minor: int = Field(examples=[3600])


class CurrencyResult(BaseModel):
    """One currency: what was charged, what this plan would have charged, and the difference."""

    currency: str = Field(examples=["RWF"])
    payments: int = Field(examples=[120])
    amount_minor: int = Field(examples=[180000])
    charged_minor: int = Field(examples=[3600])
    would_have_cost_minor: int = Field(examples=[3000])
    difference_minor: int = Field(examples=[-600])
    tiers: list[TierResult]


class SimulationBody(BaseModel):
    """The captures between `since` and `until` in the plan's scope, priced again."""

    since: dt.datetime = Field(examples=[EXAMPLE_TIME])
    until: dt.datetime = Field(examples=[EXAMPLE_TIME])
    currencies: list[CurrencyResult]
    text: list[str] = Field(examples=[["would have cost 3000 RWF instead of 3600 RWF"]])


def _currency(found: pricing.Simulation) -> CurrencyResult:
    return CurrencyResult(
        currency=found.currency,
        payments=found.payments,
        amount_minor=found.amount_minor,
        charged_minor=found.charged_minor,
        would_have_cost_minor=found.fee_minor,
        difference_minor=found.fee_minor - found.charged_minor,
        tiers=[
            TierResult(
                tier=t.tier,
                payments=t.payments,
                amount_minor=t.amount_minor,
                fee_minor=t.fee_minor,
            )
            for t in sorted(found.tiers.values(), key=lambda t: t.tier or 0)
        ],
    )


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes about fee plans."""
    reader = service.verifier.needs("ledger:read")
    writer = service.verifier.needs("ledger:write")

    @routes.get("/fee-plans")
    async def list_plans(
        caller: Caller = Depends(reader),
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        cursor: Annotated[str, Query(max_length=100, pattern=MAYBE_PRINTABLE)] = "",
        limit: Limit = 50,
    ) -> Plans:
        """Fee plans with all their versions; a tenant sees its own."""
        last, _, version = cursor.rpartition("@")
        after = (last, int(version) if version.isdecimal() and len(version) < 10 else 0)
        async with seen_by(service, caller) as tx:
            rows = await plans.list_plans(
                tx, client_id=client_id, mode=mode, after=after, limit=limit + 1
            )
        items = [PlanBody(**dict(row)) for row in rows[:limit]]
        more = f"{items[-1].id}@{items[-1].version}" if len(rows) > limit else None
        return Plans(items=items, next_cursor=more)

    @routes.post("/fee-plans", status_code=201)
    async def add_plan(body: NewPlan, caller: Caller = Depends(writer)) -> PlanBody:
        """Put a version in force from now or later; nothing is ever back-dated or changed."""
        operators_only(caller, "Planning fees")
        plan_id = body.id or new_id("plan")
        since = instant(body.effective_from, "effective_from")
        span = {
            "effective_from": since or dt.datetime.now(dt.UTC),
            "effective_until": instant(body.effective_until, "effective_until"),
        }
        async with refusals(), service.database.transaction() as tx:
            row = await pricing.add_plan(tx, body.plan(plan_id, **span), since, caller.actor)
        terms = body.model_dump(exclude={"id", "effective_from"})
        return PlanBody(**terms, **dict(row), created_by=caller.actor)

    @routes.post("/fee-plans/simulate")
    async def simulate(body: PlanTerms, caller: Caller = Depends(reader)) -> SimulationBody:
        """What the captures of the last days would have cost under this plan."""
        until = dt.datetime.now(dt.UTC)
        since = until - dt.timedelta(days=settings.simulate_days)
        async with refusals(), seen_by(service, caller) as tx:
            found = await pricing.simulate(
                tx,
                body.plan("simulated"),
                since=since,
                until=until,
                amounts_limit=settings.simulate_amounts,
            )
        return SimulationBody(
            since=since,
            until=until,
            currencies=[_currency(one) for one in found],
            text=[one.text for one in found],
        )
