"""All SQL of the notifier."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import columns
from mospay_shared.contracts import InvoiceReminderV1, MailPayerV1, Outgoing

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
# Fair: each endpoint that has work is looked at by itself (an index skip scan), so a flood of one
# can't fill the view; then nobody gets more than its open calls leave, and first ones go first.
_CLAIM = """
with recursive held_endpoint as (select * from unnest($5::text[], $6::int[]) as h(id, n)),
held_client as (select * from unnest($7::text[], $8::int[]) as h(id, n)),
waiting as (
    (select endpoint_id as id from deliveries where state in ('pending', 'sending')
     order by endpoint_id limit 1)
    union all
    select (select d.endpoint_id from deliveries d
            where d.state in ('pending', 'sending') and d.endpoint_id > w.id
            order by d.endpoint_id limit 1)
    from waiting w where w.id is not null),
due as (
    select d.id, d.next_at, e.client_id
    from waiting w join endpoints e on e.id = w.id
    left join held_endpoint h on h.id = w.id
    cross join lateral (
        select id, next_at from deliveries
        where endpoint_id = w.id and state in ('pending', 'sending') and next_at <= now()
        order by next_at limit greatest($3 - coalesce(h.n, 0), 0)) d),
fair as materialized (
    select due.id, due.next_at, coalesce(h.n, 0)
        + row_number() over (partition by client_id order by next_at, due.id) as turn
    from due left join held_client h on h.id = due.client_id),
picked as (
    select d.id from (select id from fair where turn <= $4 order by turn, next_at) f
    cross join lateral (
        select id from deliveries where id = f.id and state in ('pending', 'sending')
            and next_at <= now() limit 1 for update skip locked) d
    limit $1)
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
    returning d.id, d.client_id, d.mode, u.number, u.attempted_at, u.status_code, u.error,
        u.duration_ms, u.response),
tried as (
    insert into delivery_attempts (delivery_id, number, client_id, mode, attempted_at, status_code,
        error, duration_ms, response)
    select id, number, client_id, mode, attempted_at, status_code, error, duration_ms, response
    from done on conflict do nothing)
insert into outbox (id, type, subject, command, body)
select o.id, o.type, o.subject, o.command, o.body
from unnest($11::text[], $12::text[], $13::text[], $14::bool[], $15::bytea[], $1::text[])
    as o(id, type, subject, command, body, delivery) join done on done.id = o.delivery"""
_DELIVERIES = """
select d.id, d.endpoint_id, e.url, d.event_type, d.event_id, d.state, d.created_at, d.attempts,
    d.attempts_before, case when d.state = 'pending' then d.next_at end as next_at,
    coalesce(array_agg(row(a.number, a.attempted_at, a.status_code, a.error, a.duration_ms)
        order by a.number) filter (where a.number is not null), '{}') as tries
from deliveries d join endpoints e on e.id = d.endpoint_id
left join delivery_attempts a on a.delivery_id = d.id
where ($1::text is null or d.payment_id = $1) and ($2::text is null or d.id = $2)
group by d.id, e.url order by d.created_at, d.id limit 200"""
# Its waiting deliveries become due: the sender ends each, with an attempt and an event that say so.
_DISABLE = """
with off as (
    update endpoints set active = false, disabled_reason = $2, version = version + 1
    where id = any($1::text[]) and active returning id)
update deliveries d set next_at = now() from off
where d.endpoint_id = off.id and d.state = 'pending'"""


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
    endpoint_id: str
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
    disable: bool = False  # the receiver said that it is gone


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
    tx: Tx,
    *,
    limit: int,
    lease_seconds: float,
    per_endpoint: int,
    per_client: int,
    endpoints: Mapping[str, int],
    clients: Mapping[str, int],
) -> list[asyncpg.Record]:
    """Lease due deliveries, oldest first, so that none has more open than it may.

    `endpoints` and `clients` say how many calls each has open in this process right now.
    """
    return await tx.fetch(
        _CLAIM,
        limit,
        lease_seconds,
        per_endpoint,
        per_client,
        list(endpoints.keys()),
        list(endpoints.values()),
        list(clients.keys()),
        list(clients.values()),
    )


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


async def disable_endpoints(tx: Tx, endpoint_ids: Sequence[str], reason: str) -> None:
    """Stop telling endpoints; those that are off already keep their reason."""
    await tx.run(_DISABLE, sorted(endpoint_ids), reason)


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


async def rotate_secret(tx: Tx, endpoint_id: str, secret: Any, overlap_seconds: int) -> None:
    """Replace an endpoint's secret; the old one signs as well for a while."""
    await tx.run(
        "update endpoints set previous_secret = secret, secret = $2, version = version + 1, "
        "previous_until = now() + make_interval(secs => $3) where id = $1",
        endpoint_id,
        secret,
        float(overlap_seconds),
    )


async def find_endpoint(tx: Tx, endpoint_id: str) -> asyncpg.Record | None:
    """Return an endpoint's owner and whether it is active, or None where `tx` sees none."""
    return await tx.row(
        "select id, client_id, mode, active from endpoints where id = $1", endpoint_id
    )


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
    return await tx.fetch(_DELIVERIES, payment_id, None)


async def find_delivery(tx: Tx, delivery_id: str) -> asyncpg.Record | None:
    """Return a delivery with its attempts, or None where `tx` sees none."""
    return await tx.row(_DELIVERIES, None, delivery_id)


_INSERT_MAIL = """
insert into mails (id, invoice_id, kind, client_id, mode, body, next_at)
values ($1, $2, $3, $4, $5, $6, now()) on conflict (invoice_id, kind) do nothing"""
_INSERT_PAYER_MAIL = """
insert into payer_mails (id, kind, client_id, mode, body, next_at)
values ($1, $2, $3, $4, $5, now()) on conflict (id) do nothing"""
# The same of either table: mails about invoices, and those that carry a payer's link.
MAILS, PAYER_MAILS = "mails", "payer_mails"
_CLAIM_MAILS = """
update {table} m set state = 'sending', attempts = m.attempts + 1,
    next_at = now() + make_interval(secs => $1)
from (select id from {table} where next_at <= now() order by next_at limit $2
      for update skip locked) due
where m.id = due.id returning m.id, m.body, m.attempts"""
# Once it is over, whom it went to is nobody's business here any more.
_END_MAIL = """
update {table} set state = $3, error = $4, next_at = null, ended_at = now(),
    body = body - array['customer_email', 'customer_name']
where id = $1 and attempts = $2 and state = 'sending'"""
_PUT_OFF_MAIL = """
update {table} set state = 'pending', error = $4, next_at = now() + make_interval(secs => $3)
where id = $1 and attempts = $2 and state = 'sending'"""


async def insert_mail(tx: Tx, mail_id: str, told: InvoiceReminderV1) -> None:
    """Write a mail that is due, unless there is one of its invoice and kind."""
    await tx.run(
        _INSERT_MAIL,
        mail_id,
        told.invoice_id,
        told.kind,
        told.client_id,
        told.mode,
        told.model_dump(mode="json"),
    )


async def insert_payer_mail(tx: Tx, told: MailPayerV1) -> None:
    """Write a mail that is due and carries a payer's link, unless it is there already."""
    body = told.model_dump(mode="json")
    await tx.run(_INSERT_PAYER_MAIL, told.mail_id, told.kind, told.client_id, told.mode, body)


async def claim_mails(tx: Tx, table: str, lease_seconds: float, limit: int) -> list[asyncpg.Record]:
    """Claim mails of a table that are due; `attempts` fences whoever sends."""
    return await tx.fetch(_CLAIM_MAILS.format(table=table), lease_seconds, limit)


async def end_mail(
    tx: Tx, table: str, mail_id: str, attempts: int, state: str, error: str | None
) -> None:
    """Note how a mail ended: sent, dropped (nobody is to be told any more) or failed."""
    await tx.run(_END_MAIL.format(table=table), mail_id, attempts, state, error)


async def put_off_mail(
    tx: Tx, table: str, mail_id: str, attempts: int, wait_seconds: float, error: str
) -> None:
    """Make a mail due again later."""
    await tx.run(_PUT_OFF_MAIL.format(table=table), mail_id, attempts, wait_seconds, error)
