"""Settlements: terms, the batches with their lines and statements, and a run by hand."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from mospay_shared.ids import new_id
from pydantic import AwareDatetime, BaseModel, Field

from mospay_ledger.domain.settling import HOLD_DAYS_LIMIT, RESERVE_DAYS_LIMIT, Terms
from mospay_ledger.routes import files
from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    EXAMPLE_ENTRY,
    EXAMPLE_PAYMENT,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    PRINTABLE,
    AnyMode,
    ClientFilter,
    Limit,
    actor_of,
    operators_only,
    refusals,
    seen_by,
    tenant_of,
)
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import settlements as storage
from mospay_ledger.usecases import settling

EXAMPLE_SETTLEMENT = "set_019aa51c000070008000000000000021"
SettlementId = Annotated[str, Path(max_length=80, pattern=PRINTABLE)]
Currency = Annotated[str, Query(pattern="^([A-Z]{3}|)$")]
Cursor = Annotated[str, Query(max_length=200, pattern=MAYBE_PRINTABLE)]
Day = Annotated[dt.date | None, Query(description="a local day of the client, inclusive")]
CUT_OFF = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
PAGE = 1000  # lines read at a time for a file
PARTS_LIMIT = 50  # parts a call by hand makes of one client's day
AS_OF_DAYS = 400  # how far from now a simulated instant may be
LINE_COLUMNS = (
    "number", "occurred_at", "kind", "payment_id", "refund_id", "entry_id", "gross", "fee",
    "refund", "adjustment", "net", "currency",
)  # fmt: skip
_MINORS = ("gross_minor", "fee_minor", "refund_minor", "adjustment_minor", "net_minor")
KIND_WORDS = {
    "capture": "Payment",
    "refund_reserved": "Refund under way",
    "refund_released": "Refund failed, given back",
    "refund": "Refund",
    "over_refund": "Refund",
    "reversal": "Correction",
    "chargeback": "Chargeback",
}


class NewTerms(BaseModel):
    """How a client is settled from now or later; a null scope member means "any".

    Basis points (100 = 1 %) of each batch are kept back for `reserve_days`. A batch below
    `minimum_minor` waits. `cut_off` is when a day ends by the client's clock, `00:00` its midnight.
    """

    mode: Literal["live", "test"] = Field(examples=["test"])
    client_id: Annotated[str, Field(max_length=80, pattern=PRINTABLE)] | None = Field(
        None, examples=[EXAMPLE_CLIENT]
    )
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = Field(None, examples=["RWF"])
    hold_days: int = Field(ge=0, le=HOLD_DAYS_LIMIT, examples=[2])
    reserve_bps: int = Field(0, ge=0, le=10_000, examples=[500])
    reserve_days: int = Field(0, ge=0, le=RESERVE_DAYS_LIMIT, examples=[90])
    minimum_minor: int = Field(0, ge=0, le=2**62, examples=[10000])
    destination: str = Field(
        "", max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["Bank of Kigali …4410"],
        description="a label a person knows the account by; never its secrets",
    )  # fmt: skip
    cut_off: str = Field("00:00", pattern=CUT_OFF, examples=["00:00"])
    paused: bool = False
    effective_from: AwareDatetime | None = Field(None, examples=[EXAMPLE_TIME])

    def terms(self) -> Terms:
        """Return the domain's terms, with an id of their own."""
        given = self.model_dump(exclude={"cut_off", "effective_from"})
        return Terms(id=new_id("trm"), cut_off=dt.time.fromisoformat(self.cut_off), **given)


class TermsBody(NewTerms):
    """Terms as they stand; they are never changed."""

    id: str = Field(examples=["trm_019aa51c000070008000000000000020"])
    effective_from: dt.datetime = Field(examples=[EXAMPLE_TIME])
    created_by: str | None = Field(examples=["usr_a"])


class TermsPage(BaseModel):
    """A page of terms in id order; `next_cursor` is null at the end."""

    items: list[TermsBody]
    next_cursor: str | None = Field(examples=[None])


class SettlementBody(BaseModel):
    """A client's day: net = gross - fee + refund + adjustment, minor units; lines make it up.

    Refund and adjustment (chargebacks, corrections, debts paid off) are signed. Of net,
    `reserve_minor` is kept back until `reserve_due_at`.
    """

    id: str = Field(examples=[EXAMPLE_SETTLEMENT])
    client_id: str = Field(examples=[EXAMPLE_CLIENT])
    mode: str = Field(examples=["test"])
    currency: str = Field(examples=["RWF"])
    local_day: dt.date = Field(examples=["2026-11-20"])
    part: int = Field(examples=[1])
    time_zone: str = Field(examples=["Africa/Kigali"])
    cut_off_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    terms_id: str = Field(examples=["trm_default_test"])
    entry_id: str = Field(examples=[EXAMPLE_ENTRY])
    line_count: int = Field(examples=[3])
    gross_minor: int = Field(examples=[3000])
    fee_minor: int = Field(examples=[60])
    refund_minor: int = Field(examples=[-500])
    adjustment_minor: int = Field(examples=[0])
    net_minor: int = Field(examples=[2440])
    reserve_minor: int = Field(examples=[0])
    reserve_due_at: dt.datetime | None = Field(examples=[None])
    reserve_released_at: dt.datetime | None = Field(examples=[None])
    settled_at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class OneSettlement(SettlementBody):
    """A settlement with the entry that took it back, if any."""

    reversed_by: str | None = Field(examples=[None])


class SettlementPage(BaseModel):
    """A page of settlements, newest first; `next_cursor` is null at the end."""

    items: list[SettlementBody]
    next_cursor: str | None = Field(examples=[None])


class LineBody(BaseModel):
    """A journal entry that a settlement settles; minor units."""

    number: int = Field(examples=[1])
    entry_id: str = Field(examples=[EXAMPLE_ENTRY])
    kind: str = Field(examples=["capture"])
    payment_id: str | None = Field(examples=[EXAMPLE_PAYMENT])
    refund_id: str | None = Field(examples=[None])
    occurred_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    gross_minor: int = Field(examples=[1500])
    fee_minor: int = Field(examples=[30])
    refund_minor: int = Field(examples=[0])
    adjustment_minor: int = Field(examples=[0])
    net_minor: int = Field(examples=[1470])


class LinePage(BaseModel):
    """A page of lines by number; `next_cursor` is null at the end."""

    items: list[LineBody]
    next_cursor: int | None = Field(examples=[None])


class NewRun(BaseModel):
    """Settle now, whether or not it is due; `as_of` (test mode alone) says which now is meant.

    Go on with `cursor` until the answer has none.
    """

    mode: Literal["live", "test"] = Field(examples=["test"])
    client_id: Annotated[str, Field(max_length=80, pattern=PRINTABLE)] | None = None
    as_of: AwareDatetime | None = Field(None, examples=[EXAMPLE_TIME])
    cursor: Annotated[str, Field(max_length=100, pattern=PRINTABLE)] | None = None


class RunBody(BaseModel):
    """What a run came to: clients looked at, settlements made, reserves given back, failures."""

    as_of: dt.datetime = Field(examples=[EXAMPLE_TIME])
    looked_at: int = Field(examples=[1])
    settlements: list[str] = Field(examples=[[EXAMPLE_SETTLEMENT]])
    reserves_released: int = Field(examples=[0])
    failed: list[str] = Field(examples=[[]])
    next_cursor: str | None = Field(examples=[None])


def _terms_body(row: Any) -> TermsBody:
    return TermsBody(**{**dict(row), "cut_off": row["cut_off"].strftime("%H:%M")})


def _as_of(body: NewRun) -> dt.datetime:
    now = dt.datetime.now(dt.UTC)
    if body.as_of is None:
        return now
    message = None
    if body.mode != "test":
        message = "is offered in test mode alone"
    else:
        try:
            at = body.as_of.astimezone(dt.UTC)
            if abs((at - now).days) > AS_OF_DAYS:
                message = f"must be within {AS_OF_DAYS} days of now"
        except (OverflowError, ValueError):
            message = "is beyond the calendar"
    if message is not None:
        fault = FieldProblem(field="as_of", code="invalid", message=message)
        raise Problem(422, "invalid_request", "The request is not valid", errors=[fault])
    return at


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes about settlements."""
    _add_terms(routes, service)
    _add_run(routes, service, settings)  # before the paths that end in an id
    _add_reads(routes, service)
    _add_files(routes, service, settings)


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
                    looked = await settling.settle_by_hand(
                        tx, service.relay, key, at, rules, actor
                    )
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
            await storage.enrol(tx, settings.settlement_run_clients)
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


def _add_files(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    reader = service.verifier.needs("ledger:read")

    async def pages(settlement_id: str, caller: Caller) -> AsyncIterator[list[Any]]:
        after = 0
        while True:  # each page is a transaction of its own: lines never change
            async with seen_by(service, caller) as tx:
                rows = await storage.lines(tx, settlement_id, after, PAGE)
            if rows:
                yield rows
            if len(rows) < PAGE:
                return
            after = rows[-1]["number"]

    async def csv_lines(row: Any, caller: Caller) -> AsyncIterator[bytes]:
        yield files.rows_of([LINE_COLUMNS])
        currency = row["currency"]
        async for found in pages(row["id"], caller):
            yield files.rows_of(
                [
                    line["number"], line["occurred_at"].isoformat(), line["kind"],
                    line["payment_id"], line["refund_id"], line["entry_id"],
                    *(files.amount(line[name], currency) for name in _MINORS), currency,
                ]
                for line in found
            )  # fmt: skip

    @routes.get("/settlements/{settlement_id}/statement.csv", response_class=Response)
    async def statement_csv(
        settlement_id: SettlementId, caller: Caller = Depends(reader)
    ) -> Response:
        """The settlement's lines as CSV: amounts are decimals of its currency, times are UTC."""
        async with seen_by(service, caller) as tx:
            row = await found_or_404(tx, settlement_id, caller)
        return files.csv_file(f"settlement-{row['local_day']}-{row['id']}", csv_lines(row, caller))

    @routes.get("/settlements/{settlement_id}/statement.pdf", response_class=Response)
    async def statement_pdf(
        settlement_id: SettlementId, caller: Caller = Depends(reader)
    ) -> Response:
        """The settlement as a paper; its first lines, where it has more than a paper lists."""
        listed: list[Any] = []
        async with seen_by(service, caller) as tx:
            row = await found_or_404(tx, settlement_id, caller)
            client = await storage.client(tx, row["client_id"])
            listed = await storage.lines(tx, settlement_id, 0, settings.paper_lines)
        data = paper_of(row, client, listed, settings)
        name = f"settlement-{row['local_day']}-{row['id']}"
        return await files.pdf_file(name, "settlement", data)


def paper_of(row: Any, client: Any, lines: list[Any], settings: LedgerSettings) -> dict[str, Any]:
    """Return what the paper of a settlement shows, every amount a text."""
    currency, zone = row["currency"], ZoneInfo(row["time_zone"])

    def money(name: str, of: Any = row) -> str:
        return files.amount(of[name], currency)

    return {
        "issuer": issuer_of(settings),
        "client": {"name": (client and client["name"]) or row["client_id"], "id": row["client_id"]},
        "id": row["id"],
        "day": row["local_day"].isoformat(),
        "part": row["part"],
        "mode": row["mode"],
        "currency": currency,
        "time_zone": row["time_zone"],
        "settled_at": f"{row['settled_at'].astimezone(zone):%Y-%m-%d %H:%M}",
        "reversed": row["reversed_by"],
        "line_count": row["line_count"],
        "sums": [
            ["Payments", money("gross_minor")],
            ["Fees", files.amount(-row["fee_minor"], currency)],
            ["Refunds", money("refund_minor")],
            ["Chargebacks and corrections", money("adjustment_minor")],
            [f"Settled ({currency})", money("net_minor")],
        ],
        "reserve": money("reserve_minor") if row["reserve_minor"] else None,
        "reserve_due": row["reserve_due_at"]
        and f"{row['reserve_due_at'].astimezone(zone):%Y-%m-%d}",
        "available": files.amount(row["net_minor"] - row["reserve_minor"], currency),
        "lines": [
            [
                f"{line['occurred_at'].astimezone(zone):%Y-%m-%d %H:%M}",
                KIND_WORDS.get(line["kind"], line["kind"]),
                line["refund_id"] or line["payment_id"] or line["entry_id"],
                money("gross_minor", line), files.amount(-line["fee_minor"], currency),
                files.amount(line["refund_minor"] + line["adjustment_minor"], currency),
                money("net_minor", line),
            ]
            for line in lines
        ],
    }  # fmt: skip


def issuer_of(settings: LedgerSettings) -> dict[str, Any]:
    """Return the operator as letter heads name it."""
    return {
        "name": settings.operator_name,
        "lines": [line for line in settings.operator_address.split("\n") if line],
        "colour": settings.operator_colour,
    }


