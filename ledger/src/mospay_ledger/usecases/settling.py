"""Settling: a client's day becomes one batch with its lines, its postings and its news."""

import datetime as dt
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import structlog
from mospay_shared.chassis.database import DATABASE_DOWN, Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Outgoing, SettlementV1, outgoing
from mospay_shared.ids import new_id
from prometheus_client import Counter

from mospay_ledger.domain import ClientBooks, LedgerError, Movement
from mospay_ledger.domain.settling import (
    Terms,
    TermsInvalid,
    Totals,
    choose_terms,
    day_end,
    last_ended_day,
    reserve_of,
    worth_settling,
)
from mospay_ledger.storage import posting as journal
from mospay_ledger.storage import settlements as storage
from mospay_ledger.usecases import posting

log = structlog.get_logger()
SETTLED = Counter("mospay_ledger_settlements", "Settlements made", ["mode"])
BY_WORKER = "schedule"
_DAY = dt.timedelta(days=1)
Key = tuple[str, str, str]  # client, currency, mode


class NotSettled(Exception):
    """A schedule that could not be settled; it is tried again later, the others go on."""

    def __init__(self, key: Key, reason: str) -> None:
        super().__init__(reason)
        self.key, self.reason = key, reason


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at one client came to; `settlement_id` is None where it waits for more."""

    key: Key
    settlement_id: str | None
    more: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say: lines a part, and how long after a day's end it is looked at."""

    lines: int
    delay: dt.timedelta


def zone_of(client: Any) -> tuple[str, ZoneInfo]:
    """Return a client's time zone by name; UTC where it has none the world knows."""
    name = client["time_zone"] if client else None
    try:
        return str(name or "UTC"), ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):  # OSError: a name that is a folder of the database
        log.warning("time_zone_unknown", time_zone=str(name)[:64])
        return "UTC", ZoneInfo("UTC")


async def settle_next(tx: Tx, relay: Relay, now: dt.datetime, rules: Rules) -> Looked | None:
    """Settle the client whose day has ended for longest; None when nobody is due.

    Raises NotSettled for what stays in this client's way.
    """
    schedule = await storage.due(tx, now)
    if schedule is None:
        return None
    return await _settle(tx, relay, schedule, now, rules, BY_WORKER)


async def settle_by_hand(
    tx: Tx, relay: Relay, key: Key, at: dt.datetime, rules: Rules, actor: str
) -> Looked | None:
    """Settle one client as of an instant, whether or not it is due."""
    schedule = await storage.lock_schedule(tx, *key)
    if schedule is None:
        return None
    return await _settle(tx, relay, schedule, at, rules, actor)


async def put_off(tx: Tx, error: NotSettled, now: dt.datetime) -> None:
    """Try a client again later, ever less often."""
    await storage.failed(tx, error.key, error.reason[:300], now)
    client_id, currency, mode = error.key
    log.error(
        "settlement_failed", client_id=client_id, currency=currency, mode=mode, reason=error.reason
    )


async def _settle(
    tx: Tx, relay: Relay, schedule: Any, at: dt.datetime, rules: Rules, made_by: str
) -> Looked:
    key: Key = (schedule["client_id"], schedule["currency"], schedule["mode"])
    try:
        return await _settle_day(tx, relay, key, schedule, at, rules, made_by)
    except DATABASE_DOWN:
        raise
    except (LedgerError, asyncpg.PostgresError, AssertionError) as error:
        raise NotSettled(key, f"{type(error).__name__}: {error}") from error


async def _settle_day(
    tx: Tx,
    relay: Relay,
    key: Key,
    schedule: Any,
    at: dt.datetime,
    rules: Rules,
    made_by: str,
) -> Looked:
    client_id, currency, mode = key
    books = ClientBooks(client_id, currency, mode)
    zone_name, zone = zone_of(await storage.client(tx, client_id))
    found = await storage.terms_for(tx, mode, client_id, currency, at)
    terms = choose_terms(found, client_id, currency)
    day = last_ended_day(at, zone, terms.cut_off)
    pending = books.account("pending")
    # The gate: nothing of this client's moves until the commit, so what is counted is what is
    # posted.
    await journal.open_and_lock(tx, [pending])
    parts = await storage.parts_of(tx, key, day)
    made, full = None, False
    if parts == 0 or schedule["open_day"] == day:
        batch = storage.Batch(
            pending.id,
            schedule["settled_below"],
            day_end(day - terms.hold_days * _DAY, zone, terms.cut_off),
            books.account("receivable").id,
            rules.lines,
        )
        totals = await storage.totals(tx, batch)
        if worth_settling(totals, terms):
            full = totals.lines == rules.lines
            when = _When(day, parts + 1, zone_name, zone)
            made = await _write(tx, relay, books, terms, totals, batch, when, made_by)
    by_clock = made_by == BY_WORKER
    next_at = at if full else day_end(day + _DAY, zone, terms.cut_off) + rules.delay
    await storage.looked_at(
        tx,
        key,
        next_at=next_at if by_clock else None,
        open_day=day if full else None,
        account=pending.id,
    )
    return Looked(key, made["id"] if made else None, full)


@dataclass(frozen=True, slots=True)
class _When:
    day: dt.date
    part: int
    zone_name: str
    zone: ZoneInfo


async def _write(
    tx: Tx,
    relay: Relay,
    books: ClientBooks,
    terms: Terms,
    totals: Totals,
    batch: storage.Batch,
    when: _When,
    made_by: str,
) -> Any:
    """Post a batch and write it with its lines; the totals, the lines and the posting are one."""
    settlement_id, net = new_id("set"), totals.net_minor
    cut_off_at = day_end(when.day, when.zone, terms.cut_off)
    reserve = reserve_of(net, terms)
    reserve_due = (
        day_end(when.day + terms.reserve_days * _DAY, when.zone, terms.cut_off) if reserve else None
    )

    def movement(kind: str, minor: int) -> Movement:
        return Movement(
            settlement_id, kind, books.client_id, books.mode, books.currency, minor, cut_off_at,
            f"{when.day.isoformat()}, part {when.part}",
        )  # fmt: skip

    moves = [movement("settlement", net)]
    if reserve:
        moves.append(movement("reserve_kept", reserve))
    entry, *_ = await posting.post_movements(tx, moves)
    row = await storage.write(
        tx,
        (
            settlement_id, books.client_id, books.mode, books.currency, when.day, when.part,
            when.zone_name, cut_off_at, terms.id, entry.id, totals.lines, totals.gross_minor,
            totals.fee_minor, totals.refund_minor, totals.adjustment_minor, net, reserve,
            reserve_due, made_by,
        ),
        batch,
    )  # fmt: skip
    await relay.enqueue(tx, [_told("settlement.processed.v1", row, 1)])
    tx.after_commit(lambda: SETTLED.labels(books.mode).inc())
    log.info(
        "settlement_made",
        settlement_id=settlement_id,
        client_id=books.client_id,
        currency=books.currency,
        mode=books.mode,
        local_day=when.day.isoformat(),
        net_minor=net,
        lines=totals.lines,
    )
    return row


async def release_reserves(
    tx: Tx, relay: Relay, at: dt.datetime, limit: int, *, mode: str = "", client_id: str = ""
) -> int:
    """Give back reserves whose time is over; return how many."""
    rows = await storage.due_reserves(tx, at, limit, mode=mode, client_id=client_id)
    if not rows:
        return 0
    await posting.post_movements(
        tx,
        [
            Movement(
                row["id"], "reserve_released", row["client_id"], row["mode"], row["currency"],
                row["reserve_minor"], at,
            )
            for row in rows
        ],
    )  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    await storage.released(tx, [row["id"] for row in rows], now)
    told = [
        _told("settlement.reserve_released.v1", {**dict(row), "reserve_released_at": now}, 2)
        for row in rows
    ]
    await relay.enqueue(tx, told)
    return len(rows)


async def add_terms(
    tx: Tx, terms: Terms, effective_from: dt.datetime | None, created_by: str
) -> asyncpg.Record:
    """Put terms in force from now or later; raises TermsInvalid."""
    terms.check()
    if effective_from is not None and effective_from.year > 2100:
        raise TermsInvalid("effective_from", "is beyond the calendar")
    return await storage.add_terms(tx, terms, effective_from, created_by)


def _told(wire_type: str, row: Any, version: int) -> Outgoing:
    body = SettlementV1(
        settlement_id=row["id"],
        lines=row["line_count"],
        version=version,
        occurred_at=row["reserve_released_at"] or row["settled_at"],
        **{name: row[name] for name in _SAME},
    )
    return outgoing(wire_type, row["id"], body, source="ledger")


_SAME = (
    "client_id", "mode", "currency", "local_day", "part", "time_zone", "cut_off_at", "gross_minor",
    "fee_minor", "refund_minor", "adjustment_minor", "net_minor", "reserve_minor",
    "reserve_due_at", "reserve_released_at",
)  # fmt: skip
