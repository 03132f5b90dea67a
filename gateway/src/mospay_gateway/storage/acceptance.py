"""Acceptance: idempotency record, reference, payment and outbox rows in one statement."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.outbox import columns
from mospay_shared.contracts import Outgoing, SealedSecrets

from mospay_gateway.domain.daily import Daily
from mospay_gateway.domain.errors import OverDailyLimit
from mospay_gateway.domain.payments import Payment

# A transaction by itself: one round trip. `fresh` sees what was committed before; a racer in
# another process makes one of the two inserts skip a row, for which `refuse_raced` fails the
# statement: a reference is never claimed without its payment, nor a key without its own. What does
# not fit a daily limit (`reserved`) leaves no trace.
_ACCEPT = """
with input as materialized (
    select * from unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::bigint[], $10::text[], $11::text[], $12::jsonb[], $13::jsonb[],
        $14::jsonb[], $15::text[], $16::text[], $17::text[], $18::bigint[], $19::text[],
        $20::text[], $21::timestamptz[], $22::timestamptz[], $23::timestamptz[],
        $24::bytea[], $25::bytea[], $26::text[], $27::text[], $34::text[], $35::text[],
        $36::text[], $37::text[], $38::jsonb[], $39::date[], $40::bytea[], $41::bigint[],
        $42::bigint[]) with ordinality
    as u(id, client_id, mode, app_id, service_id, microservice, service, route, amount_minor,
         currency, reference, fields, metadata, secrets, customer_id, product_id, product_name,
         directory_version, accepted_via, request_id, received_at, accepted_at, send_before,
         fingerprint, reference_hash, operation, key, retry_of, ip, device, masked, own_fields,
         limit_day, limit_phone, daily_minor, phone_minor, n)
), fresh as materialized (
    select * from input i
    where not exists (select 1 from payment_references r
                      where r.reference_hash = i.reference_hash)
      and not exists (select 1 from idempotency_keys k
                      where k.client_id = i.client_id and k.mode = i.mode
                        and k.operation = i.operation and k.key = i.key)
), reserved as materialized (
    select r.* from (
        select array_agg(id order by n) ids, array_agg(client_id order by n) clients,
            array_agg(mode order by n) modes, array_agg(service_id order by n) services,
            array_agg(limit_day order by n) days, array_agg(limit_phone order by n) phones,
            array_agg(amount_minor order by n) amounts, array_agg(daily_minor order by n) dailies,
            array_agg(phone_minor order by n) phone_dailies
        from fresh where limit_day is not null having count(*) > 0) a
    cross join lateral reserve_daily(a.ids, a.clients, a.modes, a.services, a.days, a.phones,
                                     a.amounts, a.dailies, a.phone_dailies) r
), fits as materialized (
    select f.* from fresh f where not exists (
        select 1 from reserved r where r.payment_id = f.id and r.refused_by is not null)
), referenced as (
    insert into payment_references (reference_hash, client_id, mode, fingerprint, payment_id)
    select reference_hash, client_id, mode, fingerprint, id from fits order by reference_hash
    on conflict do nothing returning payment_id
), keyed as (
    insert into idempotency_keys (client_id, mode, operation, key, fingerprint, payment_id,
                                  created_at)
    select client_id, mode, operation, key, fingerprint, id, accepted_at from fits
    where key is not null order by client_id, mode, operation, key
    on conflict do nothing returning payment_id
), accepted as (
    insert into payments (id, client_id, mode, app_id, service_id, microservice, service, route,
        amount_minor, currency, reference, fields, metadata, secrets, customer_id, product_id,
        product_name, directory_version, accepted_via, request_id, received_at, accepted_at,
        send_before, retry_of, ip, device, masked, limit_day, limit_phone, status, check_at)
    select id, client_id, mode, app_id, service_id, microservice, service, route, amount_minor,
        currency, reference, fields, metadata, secrets, customer_id, product_id, product_name,
        directory_version, accepted_via, request_id, received_at, accepted_at, send_before,
        retry_of, ip, device, string_to_array(masked, ','), limit_day, limit_phone, 'processing',
        accepted_at + $33::interval
    from fits returning id
), searchable as (
    insert into payment_fields (client_id, mode, code, value, payment_id)
    select f.client_id, f.mode, e.key, e.value, f.id from fits f
    cross join lateral jsonb_each_text(f.own_fields) e
), sent as (
    insert into outbox (id, type, subject, command, body)
    select o.id, o.type, o.subject, o.command, o.body
    from unnest($28::text[], $29::text[], $30::text[], $31::bool[], $32::bytea[])
        as o(id, type, subject, command, body)
    join accepted on accepted.id = o.subject
)
select f.id, r.refused_by, r.left_minor,
       case when r.refused_by is null
            and (not exists (select 1 from referenced r where r.payment_id = f.id)
                 or f.key is not null
                 and not exists (select 1 from keyed k where k.payment_id = f.id))
            then refuse_raced(f.id) end
from fresh f left join reserved r on r.payment_id = f.id"""


@dataclass(frozen=True, slots=True)
class Submission:
    """One payment on its way in. `key` is None where the reference alone dedupes.

    `own_fields` are those it can be found by; `daily` is what it has to fit in, if anything.
    """

    payment: Payment
    own_fields: dict[str, str]
    daily: Daily | None
    secrets: SealedSecrets | None
    operation: str
    key: str | None
    fingerprint: bytes
    reference_hash: bytes
    outgoing: tuple[Outgoing, ...]


async def accept(
    database: Database, submissions: Sequence[Submission], check_after: dt.timedelta
) -> dict[str, OverDailyLimit | None]:
    """Commit what is new; return by payment id None for accepted, or why it does not fit.

    What is missing from the answer met an earlier key or reference. Raises what the database
    raises where another process claims one of them meanwhile: nothing is written, look again.
    """
    payments = [s.payment for s in submissions]
    daily = [s.daily for s in submissions]
    rows = await database.fetch_by_index(
        _ACCEPT,
        *[[getattr(p, name) for p in payments] for name in _FIRST],
        [p.fields for p in payments],
        [p.metadata for p in payments],
        [None if s.secrets is None else s.secrets.model_dump() for s in submissions],
        *[[getattr(p, name) for p in payments] for name in _REST],
        [s.fingerprint for s in submissions],
        [s.reference_hash for s in submissions],
        [s.operation for s in submissions],
        [s.key for s in submissions],
        *columns([event for s in submissions for event in s.outgoing]),
        check_after,
        *[[getattr(p, name) for p in payments] for name in ("retry_of", "ip", "device")],
        [",".join(p.masked) for p in payments],
        [s.own_fields or None for s in submissions],
        *[[getattr(d, name, None) for d in daily] for name in _DAILY],
    )
    return {
        row["id"]: OverDailyLimit(row["refused_by"] == "phone", int(row["left_minor"]))
        if row["refused_by"]
        else None
        for row in rows
    }


_FIRST = (
    "id", "client_id", "mode", "app_id", "service_id", "microservice", "service", "route",
    "amount_minor", "currency", "reference",
)  # fmt: skip
_REST = (
    "customer_id", "product_id", "product_name", "directory_version", "accepted_via",
    "request_id", "received_at", "accepted_at", "send_before",
)  # fmt: skip
_DAILY = ("day", "phone_hash", "daily_minor", "phone_minor")

_EARLIER = """
select 'key' as found_by, fingerprint, payment_id from idempotency_keys
where client_id = $1 and mode = $2 and operation = $3 and key = $4
union all
select 'reference', fingerprint, payment_id from payment_references where reference_hash = $5"""
_REMEMBER = """
insert into idempotency_keys (client_id, mode, operation, key, fingerprint, payment_id, created_at)
values ($1, $2, $3, $4, $5, $6, clock_timestamp()) on conflict do nothing"""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A record of an earlier request with the same key or reference."""

    fingerprint: bytes
    payment_id: str


async def earlier(
    tx: Tx, client_id: str, mode: str, operation: str, key: str | None, reference_hash: bytes
) -> dict[str, Earlier]:
    """Return what is on record, by `key` and by `reference`."""
    rows = await tx.fetch(_EARLIER, client_id, mode, operation, key, reference_hash)
    return {row["found_by"]: Earlier(row["fingerprint"], row["payment_id"]) for row in rows}


async def remember_key(
    tx: Tx,
    client_id: str,
    mode: str,
    operation: str,
    key: str,
    fingerprint: bytes,
    payment_id: str,
) -> None:
    """Bind a further key to a payment that its reference already had."""
    await tx.run(_REMEMBER, client_id, mode, operation, key, fingerprint, payment_id)
