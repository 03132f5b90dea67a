"""Fee plans: rows that are never changed."""

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain import FeePlan, FeePlanInvalid, FeePlans, NotStorable, Tier

_COLUMNS = """id, version, mode, client_id, service_id, currency, basis_points, fixed_minor,
    min_minor, max_minor, tiers, fee_on_refund, effective_from, effective_until"""
_FOR_BATCH = f"""
select {_COLUMNS} from fee_plans where client_id = any($1::text[])
union all select {_COLUMNS} from fee_plans where client_id is null"""
_LIST = f"""
select {_COLUMNS}, created_by, recorded_at from fee_plans
where ($1 = '' or client_id = $1) and ($2 = '' or mode = $2) and (id, version) > ($3, $4)
order by id, version limit $5"""
_INSERT = """
insert into fee_plans (id, version, mode, client_id, service_id, currency, basis_points,
    fixed_minor, min_minor, max_minor, tiers, fee_on_refund, effective_from, effective_until,
    created_by)
select $1, coalesce((select max(version) from fee_plans where id = $1), 0) + 1, $2, $3, $4, $5, $6,
    $7, $8, $9, $10, $11, coalesce($12, now()), $13, $14
returning id, version, effective_from"""
# What captures of a window paid, by amount: a plan prices an amount, so equal ones count once.
_SAMPLE = """
select currency, service_id is null as old, amount_minor, count(*) as payments,
    sum(fee_minor) as fee_minor
from journal_entries
where kind = 'capture' and posted_at >= $1 and posted_at < $2 and mode = $3
    and ($4::text is null or client_id = $4) and ($5::text is null or service_id = $5)
    and ($6::text is null or currency = $6)
group by 1, 2, 3 order by currency, amount_minor limit $7"""


def _plan(row: Any) -> FeePlan:
    return FeePlan(
        id=row["id"],
        version=row["version"],
        basis_points=row["basis_points"],
        fixed_minor=row["fixed_minor"],
        min_minor=row["min_minor"],
        max_minor=row["max_minor"],
        tiers=tuple(Tier(**tier) for tier in row["tiers"]),
        fee_on_refund=row["fee_on_refund"],
        mode=row["mode"],
        client_id=row["client_id"],
        service_id=row["service_id"],
        currency=row["currency"],
        effective_from=row["effective_from"],
        effective_until=row["effective_until"],
    )


async def fee_plans(tx: Tx, clients: Collection[str]) -> FeePlans:
    """Return every plan that may apply to payments of these clients.

    Raises NotStorable when a client's id is one the database can't even look for.
    """
    try:
        rows = await tx.fetch(_FOR_BATCH, sorted(set(clients)))
    except asyncpg.CharacterNotInRepertoireError as error:
        raise NotStorable("an id contains a NUL character") from error
    return FeePlans.of(_plan(row) for row in rows)


async def add_plan(
    tx: Tx, plan: FeePlan, effective_from: dt.datetime | None, created_by: str | None
) -> asyncpg.Record:
    """Write the next version of a plan, in force from `effective_from` or from this moment.

    Raises FeePlanInvalid when it would be back-dated, or meet another of its scope and instant.
    """
    tiers = [
        {"from_minor": t.from_minor, "basis_points": t.basis_points, "fixed_minor": t.fixed_minor}
        for t in plan.tiers
    ]
    try:
        row = await tx.row(
            _INSERT,
            plan.id,
            plan.mode,
            plan.client_id,
            plan.service_id,
            plan.currency,
            plan.basis_points,
            plan.fixed_minor,
            plan.min_minor,
            plan.max_minor,
            tiers,
            plan.fee_on_refund,
            effective_from,
            plan.effective_until,
            created_by,
        )
    except asyncpg.UniqueViolationError as error:
        message = "another plan of this scope starts at this instant"
        raise FeePlanInvalid("effective_from", message) from error
    except asyncpg.PostgresError as error:
        if error.sqlstate == "23M03":
            raise FeePlanInvalid("effective_from", "a plan starts now or later") from error
        raise
    assert row is not None
    return row


async def list_plans(
    tx: Tx, *, client_id: str, mode: str, after: tuple[str, int], limit: int
) -> Sequence[asyncpg.Record]:
    """Return plans in id and version order, those past `after`; an empty filter takes all."""
    return await tx.fetch(_LIST, client_id, mode, *after, limit)


async def sample(
    tx: Tx,
    *,
    since: dt.datetime,
    until: dt.datetime,
    mode: str,
    client_id: str | None,
    service_id: str | None,
    currency: str | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Return (currency, amount_minor, payments, fee_minor) of a window's captures by amount."""
    return await tx.fetch(_SAMPLE, since, until, mode, client_id, service_id, currency, limit)
