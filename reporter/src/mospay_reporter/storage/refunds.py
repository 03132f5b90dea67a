"""Facts of refunds, and the refunded amounts of their payments, which move the rollups."""

from collections.abc import Sequence
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import RefundEventV1

from mospay_reporter.domain.facts import month_of, storable
from mospay_reporter.domain.refunds import KnownRefund
from mospay_reporter.storage.facts import COUNTED, DELTA, INSERT_STUB, storing

_COLUMNS = (
    "refund_id, payment_id, client_id, mode, currency, amount_minor, status, version, changed_at, "
    "requested_at, provider_reference, reason, reason_code, reason_message, late, over_refund"
)
_STATE = [name for name in _COLUMNS.split(", ") if name != "refund_id"]

_LOCK = """
select refund_id, payment_id, client_id, mode, currency, version, changed_at, status
from refund_facts where refund_id = any($1::text[]) order by refund_id for update"""

# Two that tell of a new refund at once: the second waits for the first, then compares newness.
_PUT = f"""
insert into refund_facts as r ({_COLUMNS})
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
    $7::text[], $8::bigint[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[],
    $13::text[], $14::text[], $15::bool[], $16::bool[]) as u({_COLUMNS})
order by refund_id
on conflict (refund_id) do update set {", ".join(f"{n} = excluded.{n}" for n in _STATE)}
where (r.version, r.changed_at, r.status)
    < (excluded.version, excluded.changed_at, excluded.status)
    and (r.client_id, r.mode, r.currency, r.payment_id)
      = (excluded.client_id, excluded.mode, excluded.currency, excluded.payment_id)"""

# The payments are locked, so the sum over their refunds misses none that was told before.
_GIVE_BACK = f"""
with incoming as materialized (
    select u.accepted_month, u.payment_id,
        coalesce(sum(r.amount_minor) filter (where r.status = 'succeeded'), 0) as refunded_minor,
        coalesce(sum(r.amount_minor) filter (where r.status in ('pending', 'unknown')), 0)
            as refunds_open_minor
    from unnest($1::date[], $2::text[]) as u(accepted_month, payment_id)
    left join refund_facts r using (payment_id) group by 1, 2),
old as materialized (
    select f.* from payment_facts f join incoming i using (accepted_month, payment_id)
    where f.status is not null),
given as (
    update payment_facts f set refunded_minor = i.refunded_minor,
        refunds_open_minor = i.refunds_open_minor
    from incoming i
    where f.accepted_month = i.accepted_month and f.payment_id = i.payment_id
    returning f.*),
moves as (
    select -1 as sign, {COUNTED} from old
    union all select 1, {COUNTED} from given where status is not null),
{DELTA}"""

_OF_PAYMENT = """
select refund_id, amount_minor, currency, status, version, provider_reference, reason, reason_code,
    reason_message, late, over_refund, requested_at, changed_at
from refund_facts where payment_id = $1 order by requested_at, refund_id limit 100"""


async def lock(tx: Tx, refund_ids: Sequence[str]) -> dict[str, KnownRefund]:
    """Lock refunds until the transaction ends and return what is known of each."""
    async with storing():
        rows = await tx.fetch(_LOCK, list(refund_ids))
    return {
        row["refund_id"]: KnownRefund(
            (row["client_id"], row["mode"], row["currency"]),
            row["payment_id"],
            (row["version"], row["changed_at"], row["status"]),
        )
        for row in rows
    }


async def put(tx: Tx, events: Sequence[RefundEventV1]) -> None:
    """Bring refunds to a newer state."""
    rows = [
        (
            e.refund_id,
            e.payment_id,
            e.client_id,
            e.mode,
            e.currency,
            e.amount_minor,
            e.status.value,
            e.version,
            e.occurred_at,
            e.requested_at,
            storable(e.provider_reference),
            storable(e.reason),
            storable(e.reason_code),
            storable(e.reason_message),
            e.late,
            e.over_refund,
        )
        for e in events
    ]
    async with storing():
        await tx.run(_PUT, *(list(column) for column in zip(*rows, strict=True)))


async def insert_stubs(tx: Tx, events: Sequence[RefundEventV1]) -> None:
    """Make a row for payments whose refunds were told of first; no page or figure shows it."""
    async with storing():
        await tx.run(
            INSERT_STUB,
            [month_of(e.payment_id) for e in events],
            [e.payment_id for e in events],
            [e.client_id for e in events],
            [e.mode for e in events],
            [e.currency for e in events],
            [e.payment_amount_minor for e in events],
        )


async def give_back(tx: Tx, payment_ids: Sequence[str]) -> None:
    """Bring the refunded amounts of locked payments up to their refunds, and the rollups."""
    async with storing():
        await tx.run(_GIVE_BACK, [month_of(p) for p in payment_ids], list(payment_ids))


async def of_payment(tx: Tx, payment_id: str) -> list[dict[str, Any]]:
    """Return the refunds of a payment, the first hundred."""
    return [dict(row) for row in await tx.fetch(_OF_PAYMENT, payment_id)]
