"""Facts of payments, and the rollups that move with them in the same transaction.

Order of locks, the same for every writer: facts by (month, id), then hourly, then daily rollups by
their key, those of all clients together (client_id '') last. A change is a delta: what the old
state of a fact counted is taken away, what the new one counts is added, so rollups are always the
exact group-by of the facts.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import PaymentEventV1

from mospay_reporter.domain.facts import STATUSES, Booking, Known, Unstorable, month_of, storable

_Value = Callable[[PaymentEventV1], Any]
# A column of the fact, its type, and where an event has it.
_COLUMNS: tuple[tuple[str, str, _Value], ...] = (
    ("accepted_month", "date", lambda e: month_of(e.payment_id)),
    ("payment_id", "text", lambda e: e.payment_id),
    ("client_id", "text", lambda e: e.client_id),
    ("mode", "text", lambda e: e.mode),
    ("currency", "text", lambda e: e.currency),
    ("amount_minor", "bigint", lambda e: e.amount_minor),
    ("status", "text", lambda e: e.status.value),
    ("version", "bigint", lambda e: e.version),
    ("changed_at", "timestamptz", lambda e: e.occurred_at),
    ("accepted_at", "timestamptz", lambda e: e.accepted_at),
    ("app_id", "text", lambda e: storable(e.app_id)),
    ("service_id", "text", lambda e: storable(e.service_id)),
    ("microservice", "text", lambda e: storable(e.microservice)),
    ("service", "text", lambda e: storable(e.service)),
    ("route", "text", lambda e: storable(e.route)),
    ("reference", "text", lambda e: storable(e.reference)),
    ("attempts", "bigint", lambda e: e.attempts),
    ("provider_reference", "text", lambda e: storable(e.provider_reference)),
    ("reason_code", "text", lambda e: storable(e.reason_code)),
    ("reason_message", "text", lambda e: storable(e.reason_message)),
    ("late", "bool", lambda e: e.late),
    ("customer_id", "text", lambda e: storable(e.customer_id)),
    ("product_id", "text", lambda e: storable(e.product_id)),
    ("product_name", "text", lambda e: storable(e.product_name)),
    ("retry_of", "text", lambda e: storable(e.retry_of)),
    ("metadata", "jsonb", lambda e: {storable(k): storable(v) for k, v in e.metadata.items()}),
)
_NAMES = ", ".join(name for name, _, _ in _COLUMNS)
_ARRAYS = ", ".join(f"${n}::{kind}[]" for n, (_, kind, _) in enumerate(_COLUMNS, 1))
_INCOMING = f"select * from unnest({_ARRAYS}) as u({_NAMES})"
# `fresh`: this transaction has inserted the payment.
_TOLD = f"select * from unnest({_ARRAYS}, ${len(_COLUMNS) + 1}::bool[]) as u({_NAMES}, fresh)"
_STATE = [name for name, _, _ in _COLUMNS if name not in ("accepted_month", "payment_id")]

# One row for each payment that may be a sale, with the name it has as one.
_NAMED = """
select f.client_id, f.mode, f.reference as name, f.payment_id, f.accepted_month
from payment_facts f join unnest($1::date[], $2::text[]) as u(accepted_month, payment_id)
    using (accepted_month, payment_id)
where f.status is not null"""

_INSERT = f"""
insert into payment_facts ({_NAMES})
select * from ({_INCOMING}) as incoming order by accepted_month, payment_id
on conflict do nothing returning payment_id"""

_LOCK = """
select f.payment_id, f.client_id, f.mode, f.currency, f.version, f.changed_at, f.status,
       f.entry_ids
from payment_facts f
join unnest($1::date[], $2::text[]) as u(accepted_month, payment_id)
    using (accepted_month, payment_id)
order by f.accepted_month, f.payment_id for update of f"""

_COUNTS = ", ".join(f"sum(d.sign) filter (where d.status = '{s}') as {s}" for s in STATUSES)
_SUMS = ("payments", *STATUSES, "volume_minor", "fees_minor", "net_minor", "refunded_minor")
_KEY = "client_id, mode, bucket_at, currency, service_id, service"
_ADDED = ", ".join(f"{name} = r.{name} + excluded.{name}" for name in _SUMS)
COUNTED = (
    "client_id, mode, currency, accepted_at, service_id, service, status, amount_minor, "
    "coalesce(fee_minor, 0) as fee_minor, coalesce(net_minor, 0) as net_minor, refunded_minor"
)


def _apply_to(table: str, grain: str) -> str:
    """Return the statement that adds `delta` to one rollup, row by row in the order of its key.

    Rows of all clients together come last: everyone needs them, so they are held shortest.
    """
    totals = ", ".join(f"coalesce(sum(d.{name}), 0)" for name in _SUMS)
    return f"""
insert into {table} as r ({_KEY}, {", ".join(_SUMS)})
select d.client_id, d.mode, date_trunc('{grain}', d.hour_at, 'UTC'), d.currency, d.service_id,
       d.service, {totals}
from delta d group by 1, 2, 3, 4, 5, 6 order by d.client_id = '', 1, 2, 3, 4, 5, 6
on conflict ({_KEY}) do update set {_ADDED}"""


# `moves` has one row for what each old state counted (sign -1) and each new one counts (sign 1).
DELTA = f"""
delta as materialized (
    select * from (
        select coalesce(d.client_id, '') as client_id, d.mode, d.currency, d.hour_at, d.service_id,
               d.service, sum(d.sign) as payments, {_COUNTS},
               sum(d.sign * d.amount_minor::numeric) filter (where d.status = 'succeeded')
                   as volume_minor,
               sum(d.sign * d.fee_minor::numeric) as fees_minor,
               sum(d.sign * d.net_minor::numeric) as net_minor,
               sum(d.sign * d.refunded_minor) as refunded_minor
        from (select *, date_trunc('hour', accepted_at, 'UTC') as hour_at from moves) d
        group by grouping sets (
            (d.client_id, d.mode, d.currency, d.hour_at, d.service_id, d.service),
            (d.mode, d.currency, d.hour_at, d.service_id, d.service))) as summed
    where row({", ".join(f"coalesce({name}, 0)" for name in _SUMS)})
        is distinct from row({", ".join("0" for _ in _SUMS)})),
hourly as ({_apply_to("payment_rollups_hourly", "hour")})
{_apply_to("payment_rollups_daily", "day")}"""

_CHANGE = f"""
with incoming as materialized ({_TOLD}),
old as materialized (
    select f.* from payment_facts f join incoming i using (accepted_month, payment_id)
    where f.status is not null and not i.fresh),
changed as (
    update payment_facts f set {", ".join(f"{name} = i.{name}" for name in _STATE)}
    from incoming i
    where f.accepted_month = i.accepted_month and f.payment_id = i.payment_id and not i.fresh
    returning f.*),
moves as (
    select -1 as sign, {COUNTED} from old
    union all select 1, {COUNTED} from changed
    union all select 1, {COUNTED} from (
        select *, 0 as fee_minor, 0 as net_minor, 0 as refunded_minor from incoming
        where fresh) as inserted),
{DELTA}"""

INSERT_STUB = """
insert into payment_facts (accepted_month, payment_id, client_id, mode, currency, amount_minor)
select * from unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    as u(accepted_month, payment_id) order by accepted_month, payment_id
on conflict do nothing"""

_BOOK = f"""
with incoming as materialized (
    select * from unnest($1::date[], $2::text[], $3::bigint[], $4::bigint[], $5::jsonb[])
        as u(accepted_month, payment_id, fee_minor, net_minor, entry_ids)),
old as materialized (
    select f.* from payment_facts f join incoming i using (accepted_month, payment_id)
    where f.status is not null),
booked as (
    update payment_facts f set
        fee_minor = coalesce(f.fee_minor, 0) + i.fee_minor,
        net_minor = coalesce(f.net_minor, 0) + i.net_minor,
        entry_ids = f.entry_ids || array(select jsonb_array_elements_text(i.entry_ids -> 'ids'))
    from incoming i
    where f.accepted_month = i.accepted_month and f.payment_id = i.payment_id
    returning f.*),
moves as (
    select -1 as sign, {COUNTED} from old
    union all select 1, {COUNTED} from booked where status is not null),
{DELTA}"""


@asynccontextmanager
async def storing() -> AsyncIterator[None]:
    """Turn a value that no column takes into Unstorable: another try would meet it again."""
    try:
        yield
    except asyncpg.DataError as error:
        raise Unstorable(f"{type(error).__name__}: {error}"[:300]) from error


def _arrays(events: Sequence[PaymentEventV1]) -> list[list[Any]]:
    return [[value(event) for event in events] for _, _, value in _COLUMNS]


async def insert(tx: Tx, events: Sequence[PaymentEventV1]) -> set[str]:
    """Insert payments nobody told of yet; return their ids (they are not in the rollups yet)."""
    async with storing():
        rows = await tx.fetch(_INSERT, *_arrays(events))
    return {row["payment_id"] for row in rows}


async def lock(tx: Tx, payment_ids: Sequence[str]) -> dict[str, Known]:
    """Lock payments until the transaction ends and return what is known of each."""
    async with storing():
        rows = await tx.fetch(_LOCK, [month_of(p) for p in payment_ids], list(payment_ids))
    return {
        row["payment_id"]: Known(
            (row["client_id"], row["mode"], row["currency"]),
            (row["version"], row["changed_at"], row["status"]) if row["status"] else None,
            frozenset(row["entry_ids"]),
        )
        for row in rows
    }


async def change(tx: Tx, events: Sequence[PaymentEventV1], inserted: set[str]) -> None:
    """Bring locked payments to a newer state, and the rollups with them.

    `inserted` names those of `events` that `insert` has just written: they count as new.
    """
    async with storing():
        await tx.run(_CHANGE, *_arrays(events), [e.payment_id in inserted for e in events])


async def insert_stubs(tx: Tx, bookings: Sequence[Booking]) -> None:
    """Make a row for payments whose books were told of first; no page or figure shows it."""
    async with storing():
        await tx.run(
            INSERT_STUB,
            [month_of(b.payment_id) for b in bookings],
            [b.payment_id for b in bookings],
            [b.entry.client_id for b in bookings],
            [b.entry.mode for b in bookings],
            [b.entry.currency for b in bookings],
            [b.entry.amount_minor for b in bookings],
        )


async def book(tx: Tx, bookings: Sequence[Booking]) -> None:
    """Add fees and net amounts to locked payments, and to the rollups."""
    async with storing():
        await tx.run(
            _BOOK,
            [month_of(b.payment_id) for b in bookings],
            [b.payment_id for b in bookings],
            [b.fee_minor for b in bookings],
            [b.net_minor for b in bookings],
            [{"ids": b.entry_ids} for b in bookings],  # the driver takes a list as an array's row
        )


async def named(tx: Tx, payment_ids: Sequence[str]) -> list[asyncpg.Record]:
    """Return client, mode, name (its reference), id and month of payments that are known."""
    async with storing():
        return await tx.fetch(_NAMED, [month_of(p) for p in payment_ids], list(payment_ids))
