"""All SQL of the notifier."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import columns
from mospay_shared.contracts import Outgoing

_ENDPOINTS_OF = """
select id, client_id, mode, event_types from endpoints
where active and (client_id, mode) in (select * from unnest($1::text[], $2::text[]))"""
_INSERT = """
insert into deliveries (id, endpoint_id, client_id, mode, event_id, event_type, payment_id, body,
    state, next_at, correlation_id, traceparent)
select u.id, u.endpoint_id, u.client_id, u.mode, u.event_id, u.event_type, u.payment_id, u.body,
    'pending', now(), u.correlation_id, u.traceparent
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::bytea[], $9::text[], $10::text[]) as u(id, endpoint_id, client_id, mode, event_id,
    event_type, payment_id, body, correlation_id, traceparent)
on conflict (event_id, endpoint_id) do nothing"""
# Fair: at most `$3` due rows of one endpoint, and none of an endpoint whose slots are all taken.
_CLAIM = """
with fair as (
    select id, row_number() over (partition by endpoint_id order by next_at) as n from (
        select id, endpoint_id, next_at from deliveries
        where state in ('pending', 'sending') and next_at <= now()
          and not (endpoint_id = any($4::text[]))
        order by next_at limit 2000) due),
picked as (
    select d.id from deliveries d join fair f on f.id = d.id and f.n <= $3
    where d.state in ('pending', 'sending') and d.next_at <= now()
    order by d.next_at limit $1 for update of d skip locked)
update deliveries d set state = 'sending', lease = d.lease + 1, attempts = d.attempts + 1,
    next_at = now() + make_interval(secs => $2)
from picked, endpoints e where d.id = picked.id and e.id = d.endpoint_id
returning d.id, d.endpoint_id, d.client_id, d.mode, d.event_id, d.event_type, d.payment_id,
    d.body, d.attempts, d.attempts_before, d.lease, d.correlation_id, d.traceparent,
    e.url, e.secret,
    case when e.previous_until > now() then e.previous_secret end as previous_secret,
    e.active"""
_RESULTS = """
with u as (select * from unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[],
        $5::int[], $6::timestamptz[], $7::int[], $8::text[], $9::int[], $10::text[])
    as u(id, lease, state, next_at, number, attempted_at, status_code, error, duration_ms,
         response)),
done as (
    update deliveries d set state = u.state, next_at = u.next_at,
        ended_at = case when u.state in ('delivered', 'failed') then clock_timestamp() end
    from u where d.id = u.id and d.lease = u.lease and d.state = 'sending'
    returning d.id, d.client_id, d.mode),
tried as (
    insert into delivery_attempts (delivery_id, number, client_id, mode, attempted_at, status_code,
        error, duration_ms, response)
    select u.id, u.number, done.client_id, done.mode, u.attempted_at, u.status_code, u.error,
        u.duration_ms, u.response
    from u join done on done.id = u.id on conflict do nothing)
insert into outbox (id, type, subject, command, body)
select o.id, o.type, o.subject, o.command, o.body
from unnest($11::text[], $12::text[], $13::text[], $14::bool[], $15::bytea[], $1::text[])
    as o(id, type, subject, command, body, delivery) join done on done.id = o.delivery"""
_DELIVERIES = """
select d.id, d.endpoint_id, e.url, d.event_type, d.event_id, d.state, d.next_at, d.created_at,
    d.attempts, coalesce(array_agg(row(a.number, a.attempted_at, a.status_code, a.error,
        a.duration_ms) order by a.number) filter (where a.number is not null), '{}') as tries
from deliveries d join endpoints e on e.id = d.endpoint_id
left join delivery_attempts a on a.delivery_id = d.id
where d.payment_id = $1 group by d.id, e.url order by d.created_at, d.id limit 200"""


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to be written; `body` is what will be sent, byte for byte, each time."""

    id: str
    endpoint_id: str
    client_id: str
    mode: str
    event_id: str
    event_type: str
    payment_id: str | None
    body: bytes
    correlation_id: str | None
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended, and the event that tells of it."""

    delivery_id: str
    lease: int
    state: str
    next_at: dt.datetime | None
    number: int
    attempted_at: dt.datetime
    status_code: int | None
    error: str | None
    duration_ms: int
    response: str | None
    event: Outgoing


async def endpoints_of(tx: Tx, owners: Sequence[tuple[str, str]]) -> list[asyncpg.Record]:
    """Return the active endpoints of these (client, mode) pairs."""
    return await tx.fetch(_ENDPOINTS_OF, [c for c, _ in owners], [m for _, m in owners])


async def insert_deliveries(tx: Tx, new: Sequence[NewDelivery]) -> None:
    """Write deliveries; one that exists for its event and endpoint stays as it is."""
    keys = (
        "id", "endpoint_id", "client_id", "mode", "event_id", "event_type", "payment_id", "body",
        "correlation_id", "traceparent",
    )  # fmt: skip
    await tx.run(_INSERT, *([getattr(d, key) for d in new] for key in keys))


async def claim_due(
    tx: Tx, limit: int, lease_seconds: float, share: int, busy: Sequence[str]
) -> list[asyncpg.Record]:
    """Lease due deliveries, at most `share` of one endpoint, none of the `busy` ones."""
    return await tx.fetch(_CLAIM, limit, lease_seconds, share, list(busy))


async def store_attempts(tx: Tx, attempts: Sequence[Attempt]) -> None:
    """Store results of attempts whose lease still holds, with their events."""
    keys = (
        "delivery_id", "lease", "state", "next_at", "number", "attempted_at", "status_code",
        "error", "duration_ms", "response",
    )  # fmt: skip
    await tx.run(
        _RESULTS,
        *([getattr(a, key) for a in attempts] for key in keys),
        *columns([a.event for a in attempts]),
    )


async def disable_endpoint(tx: Tx, endpoint_id: str, reason: str) -> None:
    """Stop telling an endpoint; its waiting deliveries end as failed."""
    await tx.run(
        "update endpoints set active = false, disabled_reason = $2, version = version + 1 "
        "where id = $1 and active",
        endpoint_id,
        reason,
    )
    await tx.run(
        "update deliveries set state = 'failed', next_at = null, ended_at = now() "
        "where endpoint_id = $1 and state = 'pending'",
        endpoint_id,
    )


async def count_endpoints(tx: Tx, client_id: str, mode: str) -> int:
    """Return how many active endpoints a client has, holding others off meanwhile."""
    await tx.run("select pg_advisory_xact_lock(hashtext($1))", f"endpoints:{client_id}:{mode}")
    return int(
        await tx.value(
            "select count(*) from endpoints where client_id = $1 and mode = $2 and active",
            client_id,
            mode,
        )
    )


async def insert_endpoint(
    tx: Tx, endpoint_id: str, client_id: str, mode: str, url: str, types: list[str], secret: Any
) -> None:
    """Write an endpoint; `secret` is sealed."""
    await tx.run(
        "insert into endpoints (id, client_id, mode, url, event_types, secret) "
        "values ($1, $2, $3, $4, $5, $6)",
        endpoint_id,
        client_id,
        mode,
        url,
        types,
        secret,
    )


async def rotate_secret(tx: Tx, endpoint_id: str, secret: Any, overlap_seconds: int) -> bool:
    """Replace an endpoint's secret; the old one signs as well for a while. False: no such one."""
    tag = await tx.run(
        "update endpoints set previous_secret = secret, secret = $2, version = version + 1, "
        "previous_until = now() + make_interval(secs => $3) where id = $1",
        endpoint_id,
        secret,
        float(overlap_seconds),
    )
    return tag != "UPDATE 0"


async def list_endpoints(tx: Tx, client_id: str, mode: str) -> list[asyncpg.Record]:
    """Return a client's endpoints without their secrets; every mode when `mode` is empty."""
    return await tx.fetch(
        "select id, client_id, mode, url, event_types, active, disabled_reason, version, "
        "created_at from endpoints where client_id = $1 and ($2 = '' or mode = $2) "
        "order by created_at, id limit 200",
        client_id,
        mode,
    )


async def replay(tx: Tx, delivery_id: str) -> bool:
    """Make an ended delivery due again under the same webhook id. False: none that has ended."""
    tag = await tx.run(
        "update deliveries set state = 'pending', next_at = now(), ended_at = null, "
        "attempts_before = attempts "
        "where id = $1 and state in ('delivered', 'failed') and exists "
        "(select 1 from endpoints e where e.id = endpoint_id and e.active)",
        delivery_id,
    )
    return tag != "UPDATE 0"


async def deliveries_of(tx: Tx, payment_id: str) -> list[asyncpg.Record]:
    """Return a payment's deliveries with their attempts, oldest first."""
    return await tx.fetch(_DELIVERIES, payment_id)
