"""Payments and attempts as rows: taking commands in, loading, settling what is believed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import columns
from mospay_shared.contracts import Outgoing, PaymentStatus

from mospay_payment_router.domain.payments import Payment, Terms


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """An attempt to insert with its payment. `lease_seconds` is set when it is claimed at once."""

    id: str
    state: str
    url: str | None = None
    payload: bytes | None = None
    payload_sealed: bool = False
    owner: str | None = None
    lease_seconds: float | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A payment to insert, as it is after its function ran. `event` is None while it is under way.

    `evidence` names what changed its state before anything was sent; `wake_seconds` is when
    somebody looks at it again, None when it has ended.
    """

    payment: Payment
    attempt: NewAttempt
    wake_seconds: float | None
    event: Outgoing | None = None
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A settled belief about a payment, to be written if its version is still `expected`.

    `bump` is 1 when the status changes (then `event` is set), else 0.
    """

    payment: Payment
    expected: int
    bump: int
    before: PaymentStatus
    evidence: str
    source_id: str | None
    attempt_state: str
    result: str
    wake_seconds: float | None
    event: Outgoing | None


_INSERT = """
with u as (select * from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::bigint[], $10::text[], $11::text[], $12::text[], $13::text[], $14::jsonb[], $15::jsonb[],
    $16::jsonb[], $17::timestamptz[], $18::timestamptz[], $19::text[], $20::text[], $21::text[],
    $22::text[], $23::int[], $24::int[], $25::text[], $26::text[], $27::text[], $28::text[],
    $29::float8[], $30::text[], $31::text[], $32::text[], $33::bytea[], $34::bool[], $35::text[],
    $36::float8[], $37::text[], $38::text[], $44::text[])
  as u(id, client_id, mode, app_id, service_id, microservice, service, route, amount_minor,
       currency, reference, phone_masked, fields, secrets, details, terms, accepted_at, send_before,
       correlation_id, causation_id, traceparent, status, version, attempts, provider_reference,
       reason_code, reason_message, attention, wake, attempt_id, attempt_state, url, payload,
       payload_sealed, owner, lease, result, evidence, retry_of)),
p as (insert into payments (id, client_id, mode, app_id, service_id, microservice, service, route,
        amount_minor, currency, reference, phone_masked, fields, secrets, details, terms,
        accepted_at, send_before, correlation_id, causation_id, traceparent, status, version,
        attempts, provider_reference, reason_code, reason_message, attention, retry_of,
        next_action_at)
    select id, client_id, mode, app_id, service_id, microservice, service, route, amount_minor,
        currency, reference, phone_masked, fields, secrets, details, terms, accepted_at,
        send_before, correlation_id, causation_id, traceparent, status, version, attempts,
        provider_reference, reason_code, reason_message, attention, retry_of,
        clock_timestamp() + make_interval(secs => wake)
    from u order by id on conflict (id) do nothing returning id),
a as (insert into attempts (id, payment_id, client_id, mode, number, provider, state, url, payload,
        payload_sealed, owner, fence, lease_until, started_at, ended_at, next_action_at, result,
        reason_code, reason_message)
    select u.attempt_id, u.id, u.client_id, u.mode, 1,
        coalesce(nullif(u.terms ->> 'provider', ''), u.microservice), u.attempt_state, u.url,
        u.payload, u.payload_sealed, u.owner, (u.lease is not null)::int,
        clock_timestamp() + make_interval(secs => u.lease),
        case when u.lease is not null then clock_timestamp() end,
        case when u.attempt_state = 'ended' then clock_timestamp() end,
        case when u.attempt_state = 'ended' then null
            when u.attempt_state = 'ready' and u.status <> 'held' then clock_timestamp()
            else clock_timestamp() + make_interval(secs => coalesce(u.lease, u.wake)) end,
        u.result, case when u.lease is null then u.reason_code end,
        case when u.lease is null then u.reason_message end
    from u where u.id = any(array(select id from p)) and u.attempt_id is not null),
t as (insert into payment_transitions (payment_id, version, client_id, mode, from_status, to_status,
        evidence, source_id)
    select u.id, u.version, u.client_id, u.mode, 'processing', u.status, u.evidence, u.attempt_id
    from u where u.id = any(array(select id from p)) and u.evidence is not null),
o as (insert into outbox (id, type, subject, command, body)
    select e.id, e.type, e.subject, e.command, e.body
    from unnest($39::text[], $40::text[], $41::text[], $42::bool[], $43::bytea[])
        as e(id, type, subject, command, body) join p on p.id = e.subject)
select id from p"""
# Written so that no step compares each row of the batch with each: the planner takes a batch for
# a few rows. `locked` is read whole before anything is written.
_SETTLE = """
with u as (select * from unnest(
    $1::text[], $2::int[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bool[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::float8[])
  as u(id, expected, bump, before, status, evidence, source_id, late, provider_reference,
       reason_code, reason_message, attention, attempt_state, result, wake)),
locked as materialized (
    select p.id from payments p where p.id = any($1) order by p.id for update),
p as (update payments p set status = u.status, version = p.version + u.bump, late = u.late,
        provider_reference = u.provider_reference, reason_code = u.reason_code,
        reason_message = u.reason_message, attention = u.attention,
        secrets = case when u.wake is null then null else p.secrets end,
        next_action_at = clock_timestamp() + make_interval(secs => u.wake),
        updated_at = clock_timestamp()
    from u where p.id = u.id and p.version = u.expected and (select count(*) from locked) > 0
    returning p.id, p.client_id, p.mode, p.version, u.bump, u.before, p.status, u.evidence,
        u.source_id, u.reason_code, u.reason_message, u.attempt_state, u.result, u.wake),
a as (update attempts a set state = p.attempt_state,
        result = case when a.result is null or p.source_id = a.id then p.result else a.result end,
        reason_code = case when a.result is null or p.source_id = a.id
            then p.reason_code else a.reason_code end,
        reason_message = case when a.result is null or p.source_id = a.id
            then p.reason_message else a.reason_message end,
        payload = case when p.attempt_state = 'ended' and a.payload_sealed then null
                       else a.payload end,
        ended_at = case when p.attempt_state = 'ended' then clock_timestamp() end,
        next_action_at = case when p.attempt_state <> 'ended'
            then clock_timestamp() + make_interval(secs => coalesce(p.wake, 60)) end
    from p where a.payment_id = p.id and a.state <> 'ended' and p.attempt_state <> ''),
t as (insert into payment_transitions (payment_id, version, client_id, mode, from_status, to_status,
        evidence, source_id)
    select id, version, client_id, mode, before, status, evidence, source_id from p
    where bump = 1),
o as (insert into outbox (id, type, subject, command, body)
    select e.id, e.type, e.subject, e.command, e.body
    from unnest($16::text[], $17::text[], $18::text[], $19::bool[], $20::bytea[])
        as e(id, type, subject, command, body) join p on p.id = e.subject)
select id from p"""
PAYMENT_COLUMNS = """
id, client_id, mode, app_id, service_id, microservice, service, route, amount_minor, currency,
reference, phone_masked, fields, secrets, details, terms, accepted_at, send_before, correlation_id,
causation_id, traceparent, retry_of, status, version, attempts, enquiries, late,
provider_reference, reason_code, reason_message, attention, created_at as seen_at"""
_LOAD = f"select {PAYMENT_COLUMNS} from payments where id = any($1) order by id for update"
_KNOWN = "select id from payments where id = any($1)"
_DIRECT = """
client_id mode app_id service_id microservice service route amount_minor currency reference
phone_masked""".split()


def payment_of(values: dict[str, Any]) -> Payment:
    """Return the payment a row of PAYMENT_COLUMNS holds."""
    values["fields"] = orjson.loads(values["fields"])
    values["terms"] = Terms.read(values["terms"])
    values["status"] = PaymentStatus(values["status"])
    return Payment(**values)


async def known(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Return which of these payments the router has already."""
    return {row["id"] for row in await tx.fetch(_KNOWN, list(ids))}


async def load(tx: Tx, ids: Sequence[str]) -> dict[str, Payment]:
    """Return payments under their row locks, taken in the order of their ids."""
    return {row["id"]: payment_of(dict(row)) for row in await tx.fetch(_LOAD, sorted(set(ids)))}


async def owners(tx: Tx, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return client and mode of payments, by id."""
    rows = await tx.fetch("select id, client_id, mode from payments where id = any($1)", list(ids))
    return {row["id"]: (row["client_id"], row["mode"]) for row in rows}


async def insert(tx: Tx, taken: Sequence[Taken]) -> set[str]:
    """Insert payments with their attempts and events; return those that were not there yet."""
    ps, attempts = [t.payment for t in taken], [t.attempt for t in taken]
    rows = await tx.fetch(
        _INSERT,
        [p.id for p in ps],
        *[[getattr(p, name) for p in ps] for name in _DIRECT],
        [orjson.dumps(p.fields).decode() for p in ps],
        *[[getattr(p, name) for p in ps] for name in ("secrets", "details")],
        [p.terms.stored() for p in ps],
        *[
            [getattr(p, name) for p in ps]
            for name in (
                "accepted_at",
                "send_before",
                "correlation_id",
                "causation_id",
                "traceparent",
                "status",
                "version",
                "attempts",
                "provider_reference",
                "reason_code",
                "reason_message",
                "attention",
            )
        ],
        [t.wake_seconds for t in taken],
        *[
            [getattr(a, name) for a in attempts]
            for name in (
                "id",
                "state",
                "url",
                "payload",
                "payload_sealed",
                "owner",
                "lease_seconds",
                "result",
            )
        ],
        [t.evidence for t in taken],
        *columns([t.event for t in taken if t.event is not None]),
        [p.retry_of for p in ps],
    )
    return {row["id"] for row in rows}


async def settle(tx: Tx, changes: Sequence[Change]) -> set[str]:
    """Write changes whose version still holds, with attempts, transitions and events.

    Return the ids that were written; the others have moved on and must be looked at again.
    """
    changes = sorted(changes, key=lambda c: c.payment.id)
    ps = [c.payment for c in changes]
    rows = await tx.fetch(
        _SETTLE,
        [p.id for p in ps],
        [c.expected for c in changes],
        [c.bump for c in changes],
        [c.before for c in changes],
        [p.status for p in ps],
        [c.evidence for c in changes],
        [c.source_id for c in changes],
        [p.late for p in ps],
        [p.provider_reference for p in ps],
        [p.reason_code for p in ps],
        [p.reason_message for p in ps],
        [p.attention for p in ps],
        [c.attempt_state for c in changes],
        [c.result for c in changes],
        [c.wake_seconds for c in changes],
        *columns([c.event for c in changes if c.event is not None]),
    )
    return {row["id"] for row in rows}


_FORGET = """
update payments set secrets = null where id in (
    select id from payments where secrets is not null
        and created_at < now() - make_interval(secs => $1 * 3600) limit 500)
returning id"""
_FORGET_PAYLOADS = """
update attempts set payload = null where payment_id = any($1) and payload_sealed"""
_GAUGES = """
select count(*) filter (where attention is not null),
       coalesce(extract(epoch from now() - min(created_at) filter (where status = 'unknown')), 0),
       count(*) filter (where status = 'unknown')
from payments where next_action_at is not null or attention is not null"""


async def forget_secrets(tx: Tx, hours: float) -> int:
    """Erase sealed secrets older than this, whatever became of their payment."""
    rows = await tx.fetch(_FORGET, hours)
    if rows:
        await tx.run(_FORGET_PAYLOADS, [row["id"] for row in rows])
    return len(rows)


async def gauges(tx: Tx) -> tuple[int, float, int]:
    """Return payments a person must look at, age in seconds of the oldest unknown, unknowns."""
    row = await tx.row(_GAUGES)
    assert row is not None
    return int(row[0]), float(row[1]), int(row[2])
