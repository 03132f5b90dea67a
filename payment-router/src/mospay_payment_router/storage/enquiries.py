"""Payments that are due a look, and the enquiries made about them."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mospay_shared.chassis.database import Tx

from mospay_payment_router.domain.answers import Answer, Finding
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.storage.payments import PAYMENT_COLUMNS, payment_of


@dataclass(frozen=True, slots=True)
class Due:
    """A payment whose time has come, with its last attempt. `sent_until` ends that one's lease."""

    payment: Payment
    attempt_id: str
    attempt_state: str
    announced: bool
    sent_until: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Enquiry:
    """An enquiry that was made: what came back, and what it proves."""

    id: str
    payment: Payment
    started_at: dt.datetime
    answer: Answer
    finding: Finding


_P = ", ".join(f"p.{name.strip()}" for name in PAYMENT_COLUMNS.replace("\n", " ").split(","))
# The oldest of each client first, so that one client's unknowns do not stand before all others.
_CLAIM = f"""
with due as (
    select id, row_number() over (partition by client_id order by next_action_at) as turn
    from payments where next_action_at <= now()),
locked as (
    select id from payments where id in (select id from due order by turn, id limit $1)
        and next_action_at <= now() order by id for update skip locked)
update payments p set next_action_at = clock_timestamp() + make_interval(
        secs => (p.terms ->> 'timeout_seconds')::float8 + $2)
from locked l join lateral (
    select id, state, lease_until from attempts where payment_id = l.id
    order by number desc limit 1) a on true
where p.id = l.id
returning a.id as attempt_id, a.state as attempt_state, a.lease_until as sent_until, p.announced,
    {_P}"""
_ANNOUNCE = """
with p as (update payments p set announced = true from unnest($1::text[]) as u(id)
           where p.id = u.id and p.status = 'processing' and p.version = 1 and not p.announced
           returning p.id)
insert into outbox (id, type, subject, command, body)
select e.id, e.type, e.subject, e.command, e.body
from unnest($2::text[], $3::text[], $4::text[], $5::bool[], $6::bytea[])
    as e(id, type, subject, command, body) join p on p.id = e.subject"""
_WAKE_AT = """
update payments p set next_action_at = clock_timestamp() + make_interval(secs => u.secs)
from unnest($1::text[], $2::float8[]) as u(id, secs)
where p.id = u.id and p.next_action_at is not null"""
_RECORD = """
with u as (select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::int[], $5::bytea[],
        $6::text[], $7::text[], $8::text[])
    as u(id, payment_id, started_at, http_status, answer, result, reason_code, reason_message)),
p as (update payments p set enquiries = p.enquiries + 1 from u where p.id = u.payment_id
      returning p.id, p.client_id, p.mode, p.enquiries)
insert into enquiries (id, payment_id, client_id, mode, number, started_at, ended_at, http_status,
    answer, result, reason_code, reason_message)
select u.id, p.id, p.client_id, p.mode, p.enquiries, u.started_at, clock_timestamp(), u.http_status,
    u.answer, u.result, u.reason_code, u.reason_message
from u join p on p.id = u.payment_id"""


async def claim_due(tx: Tx, limit: int, lease_extra_seconds: float) -> list[Due]:
    """Claim payments that are due a look; the claim lasts one HTTP time-out plus extra."""
    found = []
    for row in await tx.fetch(_CLAIM, limit, lease_extra_seconds):
        values: dict[str, Any] = dict(row)
        own = {k: values.pop(k) for k in ("attempt_id", "attempt_state", "sent_until", "announced")}
        found.append(Due(payment=payment_of(values), **own))
    return found


async def announce(tx: Tx, ids: Sequence[str], outbox_columns: tuple[list[Any], ...]) -> None:
    """Tell of payments that are still under way, once each."""
    await tx.run(_ANNOUNCE, list(ids), *outbox_columns)


async def wake_in(tx: Tx, seconds: dict[str, float]) -> None:
    """Set when somebody looks at these payments again, in seconds from now."""
    await tx.run(_WAKE_AT, list(seconds), list(seconds.values()))


async def record(tx: Tx, made: Sequence[Enquiry]) -> None:
    """Store enquiries with their raw answers."""
    made = sorted(made, key=lambda e: e.payment.id)
    await tx.run(
        _RECORD,
        [e.id for e in made],
        [e.payment.id for e in made],
        [e.started_at for e in made],
        [e.answer.status for e in made],
        [e.answer.body for e in made],
        [e.finding.result for e in made],
        [e.finding.reason_code for e in made],
        [e.finding.reason_message for e in made],
    )
