"""Settlements, payouts and statements of account: an operator's all, a client user's own alone."""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from mospay_shared.chassis.problems import Problem

from mospay_portal_api.domain.errors import Fault, Invalid
from mospay_portal_api.domain.people import Asker, Person, asker
from mospay_portal_api.routes.context import (
    PROBLEMS,
    ClientId,
    Context,
    Currency,
    Cursor,
    Limit,
    Mode,
    Reference,
    author,
)
from mospay_portal_api.routes.settlement_models import (
    NewPayout,
    OnePayout,
    Payout,
    PayoutPage,
    PayoutStepIn,
    Settlement,
    SettlementLines,
    SettlementPage,
    SettlementRun,
    SettlementRunOut,
    SettlementTerms,
    SettlementTermsOut,
    SettlementTermsPage,
)
from mospay_portal_api.storage import audit

LEDGER, BASE = "ledger", "/internal/v1"
Day = Annotated[dt.date | None, Query(description="a local day of the client, inclusive")]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]
FileKind = Annotated[str, Query(alias="format", pattern="^(csv|pdf)$")]
# What may be done to a payout that another person asked for.
STEPS = ("approve", "reject", "pay", "fail", "return")


def router(context: Context) -> APIRouter:
    """Return the routes of settlements, their files and statements of account."""
    routes = APIRouter(prefix="/bff/v1", tags=["settlements"], responses=PROBLEMS)
    house, signed_in = context.house, Depends(context.person)

    @routes.get("/settlements", response_model=SettlementPage)
    async def settlements(
        mode: Mode,
        client_id: ClientId = None,
        currency: Currency = None,
        since: Annotated[Day, Query(alias="from")] = None,
        until: Annotated[Day, Query(alias="to")] = None,
        cursor: Cursor = None,
        limit: Limit = 50,
        person: Person = signed_in,
    ) -> Any:
        """Settlements, newest first."""
        me, only = await context.speaker(person, client_id, mode)
        query = {
            "mode": mode, "client_id": only, "currency": currency, "from": _text(since),
            "to": _text(until), "cursor": cursor, "limit": limit,
        }  # fmt: skip
        return await house.get(LEDGER, f"{BASE}/settlements", "ledger:read", me, query)

    @routes.get("/settlements/{settlement_id}", response_model=Settlement)
    async def settlement(
        settlement_id: Reference, client_id: ClientId = None, person: Person = signed_in
    ) -> Any:
        """One settlement."""
        me, _ = await context.speaker(person, client_id)
        path = f"{BASE}/settlements/{settlement_id}"
        return await house.send("GET", LEDGER, path, "ledger:read", me)

    @routes.get("/settlements/{settlement_id}/lines", response_model=SettlementLines)
    async def lines(
        settlement_id: Reference,
        client_id: ClientId = None,
        cursor: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
        limit: Limit = 50,
        person: Person = signed_in,
    ) -> Any:
        """The journal entries a settlement settles."""
        me, _ = await context.speaker(person, client_id)
        path = f"{BASE}/settlements/{settlement_id}/lines?cursor={cursor}&limit={limit}"
        return await house.send("GET", LEDGER, path, "ledger:read", me)

    @routes.get("/settlements/{settlement_id}/statement", response_class=Response)
    async def settlement_file(
        settlement_id: Reference,
        kind: FileKind = "pdf",
        client_id: ClientId = None,
        person: Person = signed_in,
    ) -> Response:
        """A settlement's statement as CSV or PDF."""
        me, _ = await context.speaker(person, client_id)
        path = f"{BASE}/settlements/{settlement_id}/statement.{kind}"
        return await _file(context, me, path, {})

    @routes.get("/statements", response_class=Response)
    async def statement(
        mode: Mode,
        currency: Annotated[str, Query(pattern="^[A-Z]{3}$")],
        since: Annotated[dt.date, Query(alias="from")],
        until: Annotated[dt.date, Query(alias="to")],
        kind: FileKind = "pdf",
        client_id: ClientId = None,
        person: Person = signed_in,
    ) -> Response:
        """A client's statement of account as CSV or PDF."""
        me, only = await context.speaker(person, client_id, mode)
        query = {
            "client_id": only, "mode": mode, "currency": currency, "from": _text(since),
            "to": _text(until),
        }  # fmt: skip
        return await _file(context, me, f"{BASE}/statements.{kind}", query)

    return routes


def _text(day: dt.date | None) -> str | None:
    return day.isoformat() if day else None


async def _file(
    context: Context, me: Asker, path: str, query: Mapping[str, Any]
) -> StreamingResponse:
    """Pass a file on as it comes."""
    found = await context.house.file(LEDGER, path, "ledger:read", me, query)
    headers = {"Content-Disposition": found.disposition, "Cache-Control": "no-store"}
    return StreamingResponse(found.content, media_type=found.media_type, headers=headers)


def terms_router(context: Context) -> APIRouter:
    """Return the operator's routes: settlement terms, and a run by hand."""
    routes = APIRouter(prefix="/bff/v1", tags=["settlements"], responses=PROBLEMS)
    house, database = context.house, context.service.database
    reads = Depends(context.needs("ledger:read"))
    writes = Depends(context.needs("ledger:write"))

    @routes.get("/settlement-terms", response_model=SettlementTermsPage)
    async def all_terms(
        mode: Mode,
        client_id: ClientId = None,
        cursor: Cursor = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> Any:
        """Settlement terms with all their versions."""
        query = {"mode": mode, "client_id": client_id, "cursor": cursor, "limit": limit}
        me = asker(person, None)
        return await house.get(LEDGER, f"{BASE}/settlement-terms", "ledger:read", me, query)

    @routes.post("/settlement-terms", status_code=201)
    async def add_terms(
        body: SettlementTerms, request: Request, person: Person = writes
    ) -> SettlementTermsOut:
        """Put terms in force from now or later."""
        wanted, path = body.model_dump(mode="json"), f"{BASE}/settlement-terms"
        made = SettlementTermsOut(
            **await house.send("POST", LEDGER, path, "ledger:write", asker(person, None), wanted)
        )
        async with database.transaction() as tx:
            await audit.write(
                tx, author(person, request), "settlement_terms_added", made.id, after=wanted
            )
        return made

    @routes.post("/settlements/run")
    async def run(
        body: SettlementRun, request: Request, person: Person = writes
    ) -> SettlementRunOut:
        """Settle clients whose day has ended, now."""
        wanted, path = body.model_dump(mode="json"), f"{BASE}/settlements/run"
        done = SettlementRunOut(
            **await house.send(
                "POST", LEDGER, path, "ledger:write", asker(person, None), wanted,
                timeout_seconds=60,
            )
        )  # fmt: skip
        async with database.transaction() as tx:
            await audit.write(
                tx, author(person, request), "settlements_run", body.client_id, after=wanted
            )
        return done

    return routes


def payouts_router(context: Context) -> APIRouter:
    """Return the routes of payouts: asked for by one person, decided on by another."""
    routes = APIRouter(prefix="/bff/v1", tags=["payouts"], responses=PROBLEMS)
    house, database, signed_in = context.house, context.service.database, Depends(context.person)
    decides = Depends(context.needs("payouts:decide"))

    @routes.get("/payouts", response_model=PayoutPage)
    async def listed(
        mode: Mode,
        client_id: ClientId = None,
        currency: Currency = None,
        status: Annotated[str | None, Query(pattern="^[a-z]{1,20}$")] = None,
        cursor: Cursor = None,
        limit: Limit = 50,
        person: Person = signed_in,
    ) -> Any:
        """Payouts, newest first."""
        me, only = await context.speaker(person, client_id, mode)
        query = {
            "mode": mode, "client_id": only, "currency": currency, "status": status,
            "cursor": cursor, "limit": limit,
        }  # fmt: skip
        return await house.get(LEDGER, f"{BASE}/payouts", "ledger:read", me, query)

    @routes.get("/payouts/{payout_id}", response_model=OnePayout)
    async def payout(
        payout_id: Reference, client_id: ClientId = None, person: Person = signed_in
    ) -> Any:
        """One payout with its steps."""
        me, _ = await context.speaker(person, client_id)
        return await house.send("GET", LEDGER, f"{BASE}/payouts/{payout_id}", "ledger:read", me)

    @routes.post("/payouts", status_code=201)
    async def ask(
        body: NewPayout,
        request: Request,
        key: Key = None,
        person: Person = Depends(context.needs("payouts:create")),
    ) -> Payout:
        """Ask for a payout; the operator's second person decides. The same key is the same one."""
        about = await context.reader.about(person, body.client_id)
        only = about["id"] if about else None
        if only is None:
            raise Invalid([Fault("client_id", "required", "name the client that is paid")])
        if key is None:
            raise Problem(400, "idempotency_key_missing", "Send an Idempotency-Key header")
        wanted = {**body.model_dump(), "client_id": only}
        me = asker(person, only, body.mode)
        made = Payout(
            **await house.send(
                "POST", LEDGER, f"{BASE}/payouts", "payouts:create", me, wanted,
                headers={"Idempotency-Key": key},
            )
        )  # fmt: skip
        async with database.transaction() as tx:
            await audit.write(tx, author(person, request), "payout_created", made.id, after=wanted)
        return made

    def step(name: str) -> None:
        @routes.post(f"/payouts/{{payout_id}}/{name}", name=f"{name}_payout")
        async def take(
            payout_id: Reference, body: PayoutStepIn, request: Request, person: Person = decides
        ) -> Payout:
            """Take a step on a payout whose version was read."""
            path, wanted = f"{BASE}/payouts/{payout_id}/{name}", body.model_dump()
            me = asker(person, None)
            made = Payout(**await house.send("POST", LEDGER, path, "payouts:decide", me, wanted))
            async with database.transaction() as tx:
                await audit.write(
                    tx, author(person, request), f"payout_{made.status}", payout_id, after=wanted
                )
            return made

    for name in STEPS:
        step(name)
    return routes
