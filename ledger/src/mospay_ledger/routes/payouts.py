"""Payouts: asked for by one person, decided on by another, then paid, failed or returned."""

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_ledger.domain.settling import STEPS
from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    EXAMPLE_ENTRY,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    NO_CONTROLS,
    PRINTABLE,
    AnyMode,
    ClientFilter,
    Limit,
    actor_of,
    fault,
    operators_only,
    refusals,
    seen_by,
    tenant_of,
)
from mospay_ledger.storage import payouts as storage
from mospay_ledger.usecases import payouts

EXAMPLE_PAYOUT = "po_019aa51c000070008000000000000022"
PayoutId = Annotated[str, Path(max_length=80, pattern=PRINTABLE)]
Words = Annotated[str, Field(min_length=1, max_length=300, pattern=NO_CONTROLS)]
Label = Annotated[str, Field(min_length=1, max_length=120, pattern=NO_CONTROLS)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255, pattern=NO_CONTROLS)]
STATUS = "^(created|approved|rejected|paid|failed|returned|)$"


class NewPayout(BaseModel):
    """A transfer of what is available; its money is reserved at once, minor units.

    Without `destination` it goes where the client's settlement terms say.
    """

    client_id: Annotated[str, Field(max_length=80, pattern=PRINTABLE)] = Field(
        examples=[EXAMPLE_CLIENT]
    )
    mode: Literal["live", "test"] = Field(examples=["test"])
    currency: str = Field(pattern="^[A-Z]{3}$", examples=["RWF"])
    amount_minor: int = Field(gt=0, le=2**63 - 1, examples=[2000])
    destination: Label | None = Field(None, examples=["Bank of Kigali …4410"])


class Decision(BaseModel):
    """A step on a payout whose version was read; why, and the bank's reference, where needed."""

    version: int = Field(ge=1, le=2**31 - 1, examples=[1])
    reason: Words | None = Field(None, examples=["account closed"])
    reference: Label | None = Field(None, examples=["bank-77"])


class PayoutBody(BaseModel):
    """A payout; `version` rises with every step."""

    id: str = Field(examples=[EXAMPLE_PAYOUT])
    client_id: str = Field(examples=[EXAMPLE_CLIENT])
    mode: str = Field(examples=["test"])
    currency: str = Field(examples=["RWF"])
    amount_minor: int = Field(examples=[2000])
    destination: str = Field(examples=["Bank of Kigali …4410"])
    status: str = Field(examples=["created"])
    version: int = Field(examples=[1])
    created_by: str = Field(examples=["usr_a"])
    decided_by: str | None = Field(examples=[None])
    reference: str | None = Field(examples=[None])
    reason: str | None = Field(examples=[None])
    created_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    changed_at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class StepBody(BaseModel):
    """One step of a payout: who, why, and the journal entry it posted, if any."""

    version: int = Field(examples=[1])
    status: str = Field(examples=["created"])
    actor: str = Field(examples=["usr_a"])
    reason: str | None = Field(examples=[None])
    reference: str | None = Field(examples=[None])
    entry_id: str | None = Field(examples=[EXAMPLE_ENTRY])
    at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class OnePayout(PayoutBody):
    """A payout with its steps, oldest first."""

    steps: list[StepBody]


class PayoutPage(BaseModel):
    """A page of payouts, newest first; `next_cursor` is null at the end."""

    items: list[PayoutBody]
    next_cursor: str | None = Field(examples=[None])


def add(routes: APIRouter, service: Service) -> None:
    """Add the routes about payouts."""
    _add_create(routes, service)
    _add_reads(routes, service)
    for name in STEPS:
        _add_step(routes, service, name)


def _add_create(routes: APIRouter, service: Service) -> None:
    creates = service.verifier.needs("payouts:create")

    @routes.post("/payouts", status_code=201)
    async def create(
        body: NewPayout, key: Key, response: Response, caller: Caller = Depends(creates)
    ) -> PayoutBody:
        """Ask for a payout; another person has to approve it. The same key is the same payout."""
        actor = actor_of(caller)
        own, own_mode = tenant_of(caller)
        if own and own != body.client_id:
            raise fault("client_id", "is not the client the token speaks for")
        if own_mode and own_mode != body.mode:
            raise fault("mode", "is not the mode the token speaks for")
        async with refusals(), service.database.transaction() as tx:
            row, repeated = await payouts.create(
                tx, service.relay, key=key, actor=actor, **body.model_dump()
            )
        if repeated:
            response.status_code = 200
            response.headers["Idempotent-Replayed"] = "true"
        return PayoutBody(**dict(row))


def _add_step(routes: APIRouter, service: Service, name: str) -> None:
    step = STEPS[name]
    decides = service.verifier.needs("payouts:decide")

    @routes.post(f"/payouts/{{payout_id}}/{name}", name=f"{name}_payout")
    async def take(
        payout_id: PayoutId, body: Decision, caller: Caller = Depends(decides)
    ) -> PayoutBody:
        operators_only(caller, "Deciding on payouts")
        actor = actor_of(caller)
        if step.needs is not None and getattr(body, step.needs) is None:
            raise fault(step.needs, "is required")
        async with refusals(), service.database.transaction() as tx:
            row = await payouts.take_step(
                tx, service.relay, payout_id, name, actor=actor, **body.model_dump()
            )
        return PayoutBody(**dict(row))

    take.__doc__ = f"Take a payout from {step.before} to {step.after}."


def _add_reads(routes: APIRouter, service: Service) -> None:
    reader = service.verifier.needs("ledger:read")

    @routes.get("/payouts")
    async def listed(
        caller: Caller = Depends(reader),
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        currency: Annotated[str, Query(pattern="^([A-Z]{3}|)$")] = "",
        status: Annotated[str, Query(pattern=STATUS)] = "",
        cursor: Annotated[str, Query(max_length=200, pattern=MAYBE_PRINTABLE)] = "",
        limit: Limit = 50,
    ) -> PayoutPage:
        """Payouts, newest first."""
        own, own_mode = tenant_of(caller)
        async with seen_by(service, caller) as tx:
            rows = await storage.page(
                tx,
                client_id=own or client_id,
                mode=own_mode or mode,
                currency=currency,
                status=status,
                before=cursor,
                limit=limit + 1,
            )
        items = [PayoutBody(**_shown(row, caller)) for row in rows[:limit]]
        return PayoutPage(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    @routes.get("/payouts/{payout_id}")
    async def one(payout_id: PayoutId, caller: Caller = Depends(reader)) -> OnePayout:
        """One payout with its steps."""
        async with seen_by(service, caller) as tx:
            row = await storage.one(tx, payout_id, *tenant_of(caller))
            if row is None:
                raise Problem(404, "payout_missing", "There is no such payout")
            steps = await storage.steps(tx, payout_id)
        shown = [StepBody(**_shown(step, caller)) for step in steps]
        return OnePayout(**_shown(row, caller), steps=shown)


def _shown(row: Any, caller: Caller) -> dict[str, Any]:
    """Return a row as its reader may see it: a client is not told which of our people acted."""
    shown = dict(row)
    if not caller.operator and shown.get("decided_by"):
        shown["decided_by"] = "operator"
    if not caller.operator and shown.get("actor") and shown["version"] > 1:
        shown["actor"] = "operator"
    return shown
