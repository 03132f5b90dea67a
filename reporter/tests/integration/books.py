"""What the tests compare: stored facts, rollups, and the group-by they must equal."""

from typing import Any

from mospay_reporter.domain.facts import STATUSES
from mospay_shared.chassis.service import Service

SUMS = ("payments", *STATUSES, "volume_minor", "fees_minor", "net_minor")
_KEY = "client_id, mode, currency, service_id, service"
_ALL = f"case when $1 = '' then '' else client_id end as {_KEY}"  # all clients as one: ''
_TRUTH = f"""
select {_ALL}, date_trunc($2, accepted_at, 'UTC') as bucket_at, count(*) as payments,
    {", ".join(f"count(*) filter (where status = '{s}') as {s}" for s in STATUSES)},
    coalesce(sum(amount_minor) filter (where status = 'succeeded'), 0) as volume_minor,
    coalesce(sum(fee_minor), 0) as fees_minor, coalesce(sum(net_minor), 0) as net_minor
from payment_facts where $1 in (client_id, '') and status is not null
group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6"""
_FACT = """
select to_jsonb(f) - 'recorded_at' as fact from payment_facts f
where client_id = $1 order by payment_id"""


async def facts(service: Service, client_id: str) -> list[dict[str, Any]]:
    """Every column of a client's facts, but for when they were written."""
    async with service.database.transaction() as tx:
        return [row["fact"] for row in await tx.fetch(_FACT, client_id)]


async def fact(service: Service, client_id: str) -> dict[str, Any]:
    """The one fact of a client."""
    (only,) = await facts(service, client_id)
    return only


async def rollups(service: Service, client_id: str, grain: str) -> list[dict[str, Any]]:
    """A client's rollups of a grain that say anything."""
    table = {"hour": "payment_rollups_hourly", "day": "payment_rollups_daily"}[grain]
    names = f"{_KEY}, bucket_at, {', '.join(SUMS)}"
    async with service.database.transaction() as tx:
        rows = await tx.fetch(
            f"select {names} from {table} where client_id = $1 order by {_KEY}, bucket_at",
            client_id,
        )
    return [dict(row) for row in rows if any(row[name] for name in SUMS)]


async def truth(service: Service, client_id: str, grain: str) -> list[dict[str, Any]]:
    """What the rollups of a grain must say: the group-by of the facts."""
    async with service.database.transaction() as tx:
        return [dict(row) for row in await tx.fetch(_TRUTH, client_id, grain)]


async def assert_rollups_are_true(service: Service, client_id: str) -> None:
    """Hourly and daily rollups equal the group-by of the facts."""
    for grain in ("hour", "day"):
        assert await rollups(service, client_id, grain) == await truth(service, client_id, grain)


async def inbox(service: Service, event_id: str) -> Any:
    """An event's inbox row."""
    async with service.database.transaction() as tx:
        return await tx.row("select * from inbox where event_id = $1", event_id)
