"""Risk: counters and histories in one statement a batch; decisions, reviews and what is held."""

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import asyncpg
import orjson
import structlog
from mospay_shared.chassis.database import DATABASE_DOWN, Tx, open_pool
from mospay_shared.contracts import ReviewPaymentV1

from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.risk import History, Span, Verdict, Window

log = structlog.get_logger()
KEEP_SECONDS = 5.0  # for connections to be made, off the path of payments
HISTORY_DAYS = 30  # of a client, what an anomaly is measured against
MINUTE_BUCKETS_KEPT = 2 * 60  # minutes; twice the longest window counted by the minute
HOUR_BUCKETS_KEPT = 32 * 24 * 60  # minutes; a day more than the longest window
CLIENT_DAYS_KEPT = 60
# Reads see what was there before this batch; its own payments are added by the caller, one by one.
# Rows are locked in the order of their keys, and for this one statement: no batch waits for long.
_GATHER = """
with c as (select * from unnest($4::bytea[], $5::int[], $6::text[], $7::smallint[], $8::text[],
        $9::text[], $10::bigint[], $11::text[])
    as c(key, bucket, currency, grain, client_id, mode, payments, amount_minor)),
counted as (insert into risk_velocity as v (key, bucket, currency, grain, client_id, mode, payments,
        amount_minor)
    select key, bucket, currency, grain, client_id, mode, payments, amount_minor::numeric from c
    order by key, bucket, currency
    on conflict (key, bucket, currency) do update set payments = v.payments + excluded.payments,
        amount_minor = v.amount_minor + excluded.amount_minor)
select 0 as what, w.n, v.currency, sum(v.payments)::bigint as payments,
    sum(v.amount_minor)::text as total, null::text as squares, null::text as largest
from unnest($1::int[], $2::bytea[], $3::int[], $20::int[]) as w(n, key, since, upto)
join risk_velocity v on v.key = w.key and v.bucket between w.since and w.upto
group by w.n, v.currency
union all
select 1, p.n, h.currency, h.payments, h.total_minor::text, h.squares::text, h.largest_minor::text
from unnest($12::int[], $13::bytea[], $14::text[]) as p(n, key, currency)
join risk_payers h on h.key = p.key and h.currency = p.currency
union all
select 2, q.n, q.currency, sum(d.payments)::bigint, sum(d.total_minor)::text,
    sum(d.squares)::text, max(d.largest_minor)::text
from unnest($15::int[], $16::text[], $17::text[], $18::text[]) as q(n, client_id, mode, currency)
join risk_client_days d on d.client_id = q.client_id and d.mode = q.mode
    and d.currency = q.currency and d.day > current_date - $19::int
group by q.n, q.currency"""
_LEARN_PAYERS = """
insert into risk_payers as p (key, currency, client_id, mode, payments, total_minor, squares,
    largest_minor)
select * from unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::numeric[],
    $7::numeric[], $8::numeric[]) as u(key, currency, client_id, mode, payments, total, squares,
    largest) order by key, currency
on conflict (key, currency) do update set payments = p.payments + excluded.payments,
    total_minor = p.total_minor + excluded.total_minor, squares = p.squares + excluded.squares,
    largest_minor = greatest(p.largest_minor, excluded.largest_minor),
    last_seen_at = clock_timestamp()"""
_LEARN_CLIENTS = """
insert into risk_client_days as d (client_id, mode, currency, day, payments, total_minor, squares,
    largest_minor)
select * from unnest($1::text[], $2::text[], $3::text[], $4::date[], $5::bigint[], $6::numeric[],
    $7::numeric[], $8::numeric[]) as u(client_id, mode, currency, day, payments, total, squares,
    largest) order by client_id, mode, currency, day
on conflict (client_id, mode, currency, day) do update set
    payments = d.payments + excluded.payments, total_minor = d.total_minor + excluded.total_minor,
    squares = d.squares + excluded.squares,
    largest_minor = greatest(d.largest_minor, excluded.largest_minor)"""
_DECIDE = """
insert into risk_decisions (payment_id, client_id, mode, decision, score, reasons, by_default,
    took_ms, rules_version)
select payment_id, client_id, mode, decision, score, reasons::jsonb, by_default, took_ms, version
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::bool[],
    $8::float8[], $9::bigint[]) as u(payment_id, client_id, mode, decision, score, reasons,
    by_default, took_ms, version) on conflict (payment_id) do nothing"""
_REVIEW = """
insert into risk_reviews (payment_id, version, by, client_id, mode, decision, note, applied,
    requested_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing returning payment_id"""
_RELEASE = """
update attempts set next_action_at = clock_timestamp()
where payment_id = $1 and state = 'ready'"""
_SENDABLE = """
select bool_and(state = 'ready' and payload is not null) from attempts where payment_id = $1"""
_HELD = """
select count(*), coalesce(extract(epoch from now() - min(created_at)), 0)
from payments where status = 'held'"""
_FORGET_VELOCITY = """
delete from risk_velocity where ctid = any(array(
    select ctid from risk_velocity where bucket < $1 and grain = $2 limit 20000))"""
_FORGET_PAYERS = """
delete from risk_payers where ctid = any(array(
    select ctid from risk_payers where last_seen_at < now() - make_interval(days => $1)
    limit 20000))"""
_FORGET_DAYS = "delete from risk_client_days where day < current_date - $1::int"
_DECISION = """
select d.payment_id, d.client_id, d.mode, d.decision, d.score, d.reasons, d.by_default, d.took_ms,
    d.rules_version, d.assessed_at, p.status, p.version, p.service, p.amount_minor, p.currency,
    p.phone_masked, p.reference, p.accepted_at, p.send_before
from risk_decisions d join payments p on p.id = d.payment_id"""
_PAGE = f"""{_DECISION}
where ($1::text is null or d.payment_id = $1) and ($2::text is null or d.decision = $2)
    and ($3::text is null or d.client_id = $3) and ($4::text is null or d.mode = $4)
    and ($5::text is null or d.payment_id < $5)
order by d.payment_id desc limit $6"""
_OPEN_PAGE = f"""{_DECISION}
where p.status = 'held' and ($1::text is null or d.payment_id = $1)
    and ($2::text is null or d.decision = $2)
    and ($3::text is null or d.client_id = $3) and ($4::text is null or d.mode = $4)
    and ($5::text is null or p.id < $5)
order by p.id desc limit $6"""
_REVIEWS = """
select payment_id, version, by, decision, note, applied, requested_at, at from risk_reviews
where payment_id = any($1) order by at"""


class Count(NamedTuple):
    """Payments to add to a bucket. `grain` is its length in minutes, `bucket` its start in them."""

    key: bytes
    bucket: int
    currency: str
    grain: int
    client_id: str
    mode: str


@dataclass(slots=True)
class Sum:
    """Amounts of several payments: how many, sum, sum of squares, largest."""

    payments: int = 0
    total: int = 0
    squares: int = 0
    largest: int = 0

    def add(self, amount: int) -> None:
        """Add one payment."""
        self.payments += 1
        self.total += amount
        self.squares += amount * amount
        self.largest = max(self.largest, amount)


@dataclass(slots=True)
class Questions:
    """What one statement asks and counts for a batch.

    `windows` are (key, span), `payers` (key, currency), `clients` (client, mode, currency); the
    answers come back under the same tuples.
    """

    windows: set[tuple[bytes, Span]] = field(default_factory=set)
    payers: set[tuple[bytes, str]] = field(default_factory=set)
    clients: set[tuple[str, str, str]] = field(default_factory=set)
    counts: dict[Count, Sum] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.windows or self.payers or self.clients or self.counts)


@dataclass(frozen=True, slots=True)
class Answers:
    """What was there before the batch."""

    windows: Mapping[tuple[bytes, Span], Window] = field(default_factory=dict)
    payers: Mapping[tuple[bytes, str], History] = field(default_factory=dict)
    clients: Mapping[tuple[str, str, str], History] = field(default_factory=dict)


class Counters:
    """A pool of its own, so that counting never waits behind payments, nor they behind it."""

    def __init__(self, url: str, name: str, size: int) -> None:
        self._url, self._name, self._size = url, f"{name}-risk", size
        self._pool: Any = None

    async def open(self) -> None:
        """Open the pool with all its connections: no payment has the time to wait for one."""
        self._pool = await open_pool(self._url, self._name, self._size)
        await self.keep()

    async def close(self) -> None:
        """Close it at once: what is lost is a count."""
        if self._pool is not None:
            self._pool.terminate()

    async def keep(self) -> None:
        """Have every connection open, warm and younger than the pool's idle limit."""
        held = []
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                for _ in range(self._size):
                    held.append(await self._pool.acquire())
                    await held[-1].fetch(_GATHER, *_arguments(Questions()))
        except (*DATABASE_DOWN, asyncpg.PostgresError) as error:
            log.warning("risk_connections_missing", reason=repr(error)[:200])
        finally:
            for connection in held:
                await self._pool.release(connection)

    async def gather(self, asked: Questions) -> Answers:
        """Count a batch and return what was there before it: one statement, one commit."""
        windows, payers, clients = list(asked.windows), list(asked.payers), list(asked.clients)
        rows = await self._pool.fetch(_GATHER, *_arguments(asked))
        found_windows: dict[tuple[bytes, Span], Window] = {}
        found_payers: dict[tuple[bytes, str], History] = {}
        found_clients: dict[tuple[str, str, str], History] = {}
        for what, n, currency, number, total, squares, largest in rows:
            if what == 0:
                before = found_windows.get(windows[n], Window())
                found_windows[windows[n]] = Window(
                    before.payments + number, {**before.amounts, currency: int(total)}
                )
                continue
            history = History(number, int(total), int(squares), int(largest))
            if what == 1:
                found_payers[payers[n]] = history
            else:
                found_clients[clients[n]] = history
        return Answers(found_windows, found_payers, found_clients)


def _arguments(asked: Questions) -> list[Any]:
    """Return what the statement takes; sets keep their order as long as nothing is added."""
    windows, payers, clients = list(asked.windows), list(asked.payers), list(asked.clients)
    counts, sums = list(asked.counts), list(asked.counts.values())
    return [
        list(range(len(windows))),
        [key for key, _ in windows],
        [span.since for _, span in windows],
        [c.key for c in counts],
        [c.bucket for c in counts],
        [c.currency for c in counts],
        [c.grain for c in counts],
        [c.client_id for c in counts],
        [c.mode for c in counts],
        [s.payments for s in sums],
        [str(s.total) for s in sums],  # as text: numerics are slow to encode and to decode
        list(range(len(payers))),
        [key for key, _ in payers],
        [currency for _, currency in payers],
        list(range(len(clients))),
        *[[one[n] for one in clients] for n in range(3)],
        HISTORY_DAYS,
        [span.upto for _, span in windows],
    ]


async def learn(
    tx: Tx,
    payers: Mapping[tuple[bytes, str, str, str], Sum],
    clients: Mapping[tuple[str, str, str, dt.date], Sum],
) -> None:
    """Add allowed payments to histories.

    Payers by (key, currency, client, mode), clients by (client, mode, currency, day).
    """
    for sql, sums in ((_LEARN_PAYERS, payers), (_LEARN_CLIENTS, clients)):
        if not sums:
            continue
        keys, values = list(sums), list(sums.values())
        await tx.run(
            sql,
            *[[key[n] for key in keys] for n in range(4)],
            [s.payments for s in values],
            *[[Decimal(getattr(s, n)) for s in values] for n in ("total", "squares", "largest")],
        )


async def add_decisions(tx: Tx, decided: Sequence[tuple[Payment, Verdict]]) -> None:
    """Keep decisions beside their payments."""
    await tx.run(
        _DECIDE,
        [p.id for p, _ in decided],
        [p.client_id for p, _ in decided],
        [p.mode for p, _ in decided],
        [v.decision for _, v in decided],
        [v.score for _, v in decided],
        [orjson.dumps([r.model_dump() for r in v.reasons]).decode() for _, v in decided],
        [v.by_default for _, v in decided],
        [v.took_ms for _, v in decided],
        [v.rules_version for _, v in decided],
    )


async def add_review(tx: Tx, command: ReviewPaymentV1, applied: bool) -> bool:
    """Record what a person said about a payment's version; False when they had said it before."""
    return (
        await tx.value(
            _REVIEW,
            *(command.payment_id, command.version, command.by, command.client_id, command.mode),
            *(command.decision, command.note, applied, command.requested_at),
        )
        is not None
    )


async def sendable(tx: Tx, payment_id: str) -> bool:
    """Say whether a held payment still has all it takes to be sent (a payload may be erased)."""
    return bool(await tx.value(_SENDABLE, payment_id))


async def release(tx: Tx, payment_id: str) -> None:
    """Let the attempt of a held payment be claimed."""
    await tx.run(_RELEASE, payment_id)


async def held(tx: Tx) -> tuple[int, float]:
    """Return how many payments are held, and the age in seconds of the oldest."""
    row = await tx.row(_HELD)
    assert row is not None
    return int(row[0]), float(row[1])


async def forget_counts(tx: Tx, minute: int) -> int:
    """Drop buckets no window reaches, some at a time; `minute` is now, in minutes of the epoch."""
    dropped = 0
    for grain, kept in ((1, MINUTE_BUCKETS_KEPT), (60, HOUR_BUCKETS_KEPT)):
        tag = await tx.run(_FORGET_VELOCITY, minute - kept, grain)
        dropped += int(tag.rsplit(" ", 1)[-1])
    return dropped


async def forget_histories(tx: Tx, days: int) -> None:
    """Drop payers not seen for so many days, and days of clients beyond what is compared with."""
    await tx.run(_FORGET_PAYERS, days)
    await tx.run(_FORGET_DAYS, CLIENT_DAYS_KEPT)


async def decisions(
    tx: Tx,
    payment_id: str | None,
    decision: str | None,
    client_id: str | None,
    mode: str | None,
    before: str | None,
    limit: int,
    *,
    only_open: bool,
) -> list[dict[str, Any]]:
    """Return a page of decisions with their payments and reviews, newest first.

    `only_open` keeps those whose payment is held now; `before` is the last payment id seen.
    """
    sql = _OPEN_PAGE if only_open else _PAGE
    rows = await tx.fetch(sql, payment_id, decision, client_id, mode, before, limit)
    reviews: dict[str, list[dict[str, Any]]] = {}
    for row in await tx.fetch(_REVIEWS, [r["payment_id"] for r in rows]) if rows else []:
        values = dict(row)
        reviews.setdefault(values.pop("payment_id"), []).append(values)
    return [{**dict(row), "reviews": reviews.get(row["payment_id"], [])} for row in rows]
