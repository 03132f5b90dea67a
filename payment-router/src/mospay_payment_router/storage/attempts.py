"""Attempts in motion: claiming what is ready, storing raw answers, leases that ran out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
from mospay_shared.chassis.database import Tx

from mospay_payment_router.domain.answers import Answer, Finding
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.storage.payments import PAYMENT_COLUMNS, payment_of


@dataclass(frozen=True, slots=True)
class Claimed:
    """An attempt this process owns under `fence` until its lease ends."""

    id: str
    fence: int
    url: str
    payload: bytes
    payload_sealed: bool
    payment: Payment


@dataclass(frozen=True, slots=True)
class Unjudged:
    """An attempt with what came back, not yet judged. `lapsed` when another owns it by now."""

    id: str
    payment: Payment
    answer: Answer


_P = ", ".join(f"p.{name.strip()}" for name in PAYMENT_COLUMNS.replace("\n", " ").split(","))
# The oldest of each client first: one client's thousand rows stand behind another's first one.
_CLAIM_READY = f"""
with due as (
    select a.id, row_number() over (partition by a.client_id order by a.next_action_at) as turn
    from attempts a
    where a.state = 'ready' and a.next_action_at <= now() and a.client_id <> all($3)
        and a.mode || '/' || a.provider <> all($4)),
locked as (
    select a.id from attempts a join payments p on p.id = a.payment_id
    where a.id in (select id from due order by turn, id limit $2) and a.state = 'ready'
        and p.status = 'processing' and p.send_before > clock_timestamp()
    order by a.id for update of a skip locked)
update attempts a set state = 'sending', owner = $1, fence = a.fence + 1,
    started_at = clock_timestamp(),
    lease_until = clock_timestamp() + make_interval(
        secs => (p.terms ->> 'timeout_seconds')::float8 + $5),
    next_action_at = clock_timestamp() + make_interval(
        secs => (p.terms ->> 'timeout_seconds')::float8 + $5)
from locked, payments p where a.id = locked.id and p.id = a.payment_id
returning a.id as attempt_id, a.fence, a.url, a.payload, a.payload_sealed, {_P}"""
_PUT_BACK = """
update attempts set state = 'ready', owner = null, lease_until = null, started_at = null,
    next_action_at = clock_timestamp() + make_interval(secs => $3)
where id = $1 and fence = $2 and state = 'sending' and answer is null"""
# Evidence is kept whoever owns the attempt by now; only the owner's answer moves its state.
_STORE = """
with u as (select * from unnest($1::text[], $2::int[], $3::int[], $4::bytea[], $5::text[])
               as u(id, fence, http_status, answer, error)),
locked as materialized (select id from attempts where id = any($1) order by id for update)
update attempts a set http_status = coalesce(u.http_status, a.http_status),
    answer = coalesce(u.answer, a.answer), answered_at = clock_timestamp(),
    reason_message = coalesce(u.error, a.reason_message),
    state = case when a.state = 'sending' and a.fence = u.fence and u.http_status is not null
                 then 'answered' else a.state end,
    next_action_at = case when a.state = 'sending' and a.fence = u.fence
        then clock_timestamp() + interval '15 s' else a.next_action_at end
from u join locked using (id) where a.id = u.id"""
# Payments first, attempts second: the order in which everybody else takes these locks.
_LOCK_LAPSED = """
select p.id from payments p where p.id in (
    select payment_id from attempts where state = 'sending' and next_action_at <= now()
    order by id limit $1)
order by p.id for update of p skip locked"""
_TAKE_LAPSED = """
update attempts a set state = 'unknown', fence = a.fence + 1,
    next_action_at = clock_timestamp() + interval '5 s'
where a.id in (select id from attempts where payment_id = any($1) and state = 'sending'
               and next_action_at <= now() order by id for update)
returning a.id, a.payment_id"""
# The attempt that never left ends; its successor waits to be claimed, under the same reference.
_SUCCEED = """
with ended as (
    update attempts set state = 'ended', result = 'never_sent', reason_code = $4,
        reason_message = $5, ended_at = clock_timestamp(), next_action_at = null,
        payload = case when payload_sealed then null else payload end
    where id = $2 and state <> 'ended' and payment_id = $1 and number = (
        select max(number) from attempts where payment_id = $1)
    returning number, payment_id, client_id, mode),
p as (
    update payments set terms = $6, fields = $7, attempts = attempts + 1,
        next_action_at = clock_timestamp() + interval '1 s', updated_at = clock_timestamp()
    from ended where payments.id = ended.payment_id returning payments.id)
insert into attempts (id, payment_id, client_id, mode, number, provider, state, url, payload,
    payload_sealed, next_action_at)
select $3, e.payment_id, e.client_id, e.mode, e.number + 1, $8, 'ready', $9, $10, $11,
    clock_timestamp()
from ended e join p on p.id = e.payment_id returning id"""
_LOCK_UNSENT = """
select payment_id from (
    select payment_id, state, fence, started_at from attempts where payment_id = any($1)
    order by id for update) a
group by payment_id having bool_and(state = 'ready')"""
_CLAIM_UNJUDGED = f"""
with due as (select id from attempts where state = 'answered' and next_action_at <= now()
             order by id limit $1 for update skip locked)
update attempts a set next_action_at = clock_timestamp() + interval '60 s'
from due, payments p where a.id = due.id and p.id = a.payment_id
returning a.id as attempt_id, a.http_status, a.answer, {_P}"""


def _split(row: asyncpg.Record, *own: str) -> tuple[dict[str, Any], Payment]:
    values = dict(row)
    return {name: values.pop(name) for name in own}, payment_of(values)


async def claim_ready(
    tx: Tx,
    owner: str,
    limit: int,
    full_clients: Sequence[str],
    full_lanes: Sequence[str],
    lease_extra_seconds: float,
) -> list[Claimed]:
    """Claim ready attempts into `sending`, fairly; the lease is the HTTP time-out plus extra."""
    rows = await tx.fetch(
        _CLAIM_READY, owner, limit, list(full_clients), list(full_lanes), lease_extra_seconds
    )
    claimed = []
    for row in rows:
        own, payment = _split(row, "attempt_id", "fence", "url", "payload", "payload_sealed")
        claimed.append(Claimed(own.pop("attempt_id"), payment=payment, **own))
    return claimed


async def put_back(tx: Tx, attempt_id: str, fence: int, wait_seconds: float = 0.0) -> None:
    """Make an attempt ready again that its owner has provably not sent, so much later."""
    await tx.run(_PUT_BACK, attempt_id, fence, wait_seconds)


async def store_answers(tx: Tx, answers: Sequence[tuple[str, int, Answer]]) -> None:
    """Store raw answers by attempt id and fence, before anything parses them."""
    answers = sorted(answers, key=lambda row: row[0])
    await tx.run(
        _STORE,
        [attempt for attempt, _, _ in answers],
        [fence for _, fence, _ in answers],
        [answer.status for _, _, answer in answers],
        [answer.body for _, _, answer in answers],
        [answer.error for _, _, answer in answers],
    )


async def claim_lapsed(tx: Tx, limit: int) -> list[tuple[str, str]]:
    """Take attempts whose lease ran out from their owner; return (attempt, payment) ids."""
    locked = [row["id"] for row in await tx.fetch(_LOCK_LAPSED, limit)]
    rows = await tx.fetch(_TAKE_LAPSED, locked) if locked else []
    return [(row["id"], row["payment_id"]) for row in rows]


async def succeed(
    tx: Tx,
    payment: Payment,
    attempt_id: str,
    successor_id: str,
    finding: Finding,
    url: str,
    payload: tuple[bytes, bool],
) -> bool:
    """End an attempt that was never sent and insert its successor; the payment's row is locked.

    `payment` has the successor's terms and fields; `payload` says whether it is sealed.
    """
    made = await tx.value(
        _SUCCEED,
        *(payment.id, attempt_id, successor_id, finding.reason_code, finding.reason_message),
        *(payment.terms.stored(), orjson.dumps(payment.fields).decode(), payment.provider),
        *(url, *payload),
    )
    return made is not None


async def lock_unsent(tx: Tx, payment_ids: Sequence[str]) -> set[str]:
    """Lock the attempts of payments; return those of which none has ever left `ready`.

    Until this transaction ends nobody can claim them, so they are provably unsent. The payments'
    rows are locked before.
    """
    rows = await tx.fetch(_LOCK_UNSENT, list(payment_ids))
    return {row["payment_id"] for row in rows}


async def claim_unjudged(tx: Tx, limit: int) -> list[Unjudged]:
    """Claim attempts whose answer is stored and whose RESPONSE function has not been heard."""
    found = []
    for row in await tx.fetch(_CLAIM_UNJUDGED, limit):
        own, payment = _split(row, "attempt_id", "http_status", "answer")
        answer = Answer(own["http_status"], own["answer"])
        found.append(Unjudged(own["attempt_id"], payment, answer))
    return found


async def last_id(tx: Tx, payment_id: str) -> str | None:
    """Return the id of a payment's last attempt."""
    found: str | None = await tx.value(
        "select id from attempts where payment_id = $1 order by number desc limit 1", payment_id
    )
    return found
