"""Settlements: terms, the batches with their lines, and a run by hand."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller

from mospay_ledger.routes.common import (
    MAYBE_PRINTABLE,
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
from mospay_ledger.routes.settlement_bodies import (
    LineBody,
    LinePage,
    NewRun,
    NewTerms,
    OneSettlement,
    RunBody,
    SettlementBody,
    SettlementPage,
    TermsBody,
    TermsPage,
)
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import settlements as storage
from mospay_ledger.usecases import settling

SettlementId = Annotated[str, Path(max_length=80, pattern=PRINTABLE)]
Currency = Annotated[str, Query(pattern="^([A-Z]{3}|)$")]
Cursor = Annotated[str, Query(max_length=200, pattern=MAYBE_PRINTABLE)]
Day = Annotated[dt.date | None, Query(description="a local day of the client, inclusive")]
PARTS_LIMIT = 50  # parts a call by hand makes of one client's day
AS_OF_DAYS = 400  # how far from now a simulated instant may be


def _terms_body(row: Any) -> TermsBody:
    return TermsBody(**{**dict(row), "cut_off": row["cut_off"].strftime("%H:%M")})


def _as_of(body: NewRun) -> dt.datetime:
    now = dt.datetime.now(dt.UTC)
    if body.as_of is None:
        return now
    if body.mode != "test":
        raise fault("as_of", "is offered in test mode alone")
    try:
        at = body.as_of.astimezone(dt.UTC)
    except (OverflowError, ValueError) as error:
        raise fault("as_of", "is beyond the calendar") from error
    if abs((at - now).days) > AS_OF_DAYS:
        raise fault("as_of", f"must be within {AS_OF_DAYS} days of now")
    return at


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes about settlements."""
    _add_terms(routes, service)
    _add_run(routes, service, settings)  # before the paths that end in an id
    _add_reads(routes, service)


def _add_terms(routes: APIRouter, service: Service) -> None:
    @routes.get("/settlement-terms")
    async def list_terms(
        caller: Caller = Depends(service.verifier.needs("ledger:read")),
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        cursor: Cursor = "",
        limit: Limit = 50,
    ) -> TermsPage:
        """Settlement terms; a tenant sees its own."""
        own, own_mode = tenant_of(caller)
        async with seen_by(service, caller) as tx:
            rows = await storage.list_terms(
                tx,
                client_id=own or client_id,
                mode=own_mode or mode,
                after=cursor,
                limit=limit + 1,
            )
        items = [_terms_body(row) for row in rows[:limit]]
        return TermsPage(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    @routes.post("/settlement-terms", status_code=201)
    async def add_terms(
        body: NewTerms, caller: Caller = Depends(service.verifier.needs("ledger:write"))
    ) -> TermsBody:
        """Put terms in force from now or later; nothing is ever back-dated or changed."""
        operators_only(caller, "Settlement terms")
        actor = actor_of(caller)
        async with refusals(), service.database.transaction() as tx:
            row = await settling.add_terms(tx, body.terms(), body.effective_from, actor)
        return _terms_body(row)


def _add_run(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    rules = settling.Rules(
        settings.settlement_lines, dt.timedelta(seconds=settings.settlement_delay_seconds)
    )

    async def settle(key: settling.Key, at: dt.datetime, actor: str, run: RunBody) -> None:
        for _ in range(PARTS_LIMIT):
            try:
                async with service.database.transaction() as tx:
                    looked = await settling.settle_by_hand(tx, service.relay, key, at, rules, actor)
            except settling.NotSettled as error:
                run.failed.append(f"{'/'.join(key)}: {error.reason[:200]}")
                return
            if looked is not None and looked.settlement_id is not None:
                run.settlements.append(looked.settlement_id)
            if looked is None or not looked.more:
                return

    @routes.post("/settlements/run")
    async def run(
        body: NewRun, caller: Caller = Depends(service.verifier.needs("ledger:write"))
    ) -> RunBody:
        """Settle clients whose day has ended by an instant; a day is settled once."""
        operators_only(caller, "A run of settlements")
        actor, at = actor_of(caller), _as_of(body)
        only, (last, _, currency) = body.client_id or "", (body.cursor or "").rpartition("@")
        limit = settings.settlement_run_clients
        async with service.database.transaction() as tx:
            await storage.enrol(tx, limit, only)
            found = await storage.of_mode(tx, body.mode, only, (last, currency), limit + 1)
        keys = [(r["client_id"], r["currency"], r["mode"]) for r in found[:limit]]
        more = f"{keys[-1][0]}@{keys[-1][1]}" if len(found) > limit else None
        done = RunBody(
            as_of=at, looked_at=len(keys), settlements=[], reserves_released=0, failed=[],
            next_cursor=more,
        )  # fmt: skip
        for key in keys:
            await settle(key, at, actor, done)
        async with refusals(), service.database.transaction() as tx:
            done.reserves_released = await settling.release_reserves(
                tx, service.relay, at, limit, mode=body.mode, client_id=only
            )
        return done


def _add_reads(routes: APIRouter, service: Service) -> None:
    reader = service.verifier.needs("ledger:read")

    @routes.get("/settlements")
    async def settlements(
        caller: Caller = Depends(reader),
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        currency: Currency = "",
        since: Annotated[Day, Query(alias="from")] = None,
        until: Annotated[Day, Query(alias="to")] = None,
        cursor: Cursor = "",
        limit: Limit = 50,
    ) -> SettlementPage:
        """Settlements, newest first."""
        own, own_mode = tenant_of(caller)
        async with seen_by(service, caller) as tx:
            rows = await storage.page(
                tx,
                client_id=own or client_id,
                mode=own_mode or mode,
                currency=currency,
                since=since,
                until=until,
                before=cursor,
                limit=limit + 1,
            )
        items = [SettlementBody(**dict(row)) for row in rows[:limit]]
        return SettlementPage(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    @routes.get("/settlements/{settlement_id}")
    async def settlement(
        settlement_id: SettlementId, caller: Caller = Depends(reader)
    ) -> OneSettlement:
        """One settlement."""
        async with seen_by(service, caller) as tx:
            return OneSettlement(**dict(await found_or_404(tx, settlement_id, caller)))

    @routes.get("/settlements/{settlement_id}/lines")
    async def lines(
        settlement_id: SettlementId,
        caller: Caller = Depends(reader),
        cursor: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
        limit: Limit = 50,
    ) -> LinePage:
        """The journal entries a settlement settles, by number."""
        async with seen_by(service, caller) as tx:
            await found_or_404(tx, settlement_id, caller)
            rows = await storage.lines(tx, settlement_id, cursor, limit + 1)
        items = [LineBody(**dict(row)) for row in rows[:limit]]
        return LinePage(items=items, next_cursor=items[-1].number if len(rows) > limit else None)


async def found_or_404(tx: Tx, settlement_id: str, caller: Caller) -> Any:
    """Return a settlement the caller may see; raises Problem 404."""
    row = await storage.one(tx, settlement_id, *tenant_of(caller))
    if row is None:
        raise Problem(404, "settlement_missing", "There is no such settlement")
    return row
