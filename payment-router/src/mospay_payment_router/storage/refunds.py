"""Refunds as rows: reserved with their insert, claimed when due, settled under two row locks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import RefundStatus

from mospay_payment_router.domain.answers import Answer, Finding
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.refunds import Purse, Refund
from mospay_payment_router.storage.payments import PAYMENT_COLUMNS, payment_of

COLUMNS = (
    "id payment_id client_id mode amount_minor currency reason requested_at attempt_id "
    "correlation_id causation_id traceparent status version late over_refund provider_reference "
    "reason_code reason_message attention attempt_state enquiries fence url payload lease_until "
    "http_status answer created_at"
).split()
_LIST = ", ".join(f"r.{name}" for name in COLUMNS)
_WRITTEN = (
    "id payment_id client_id mode amount_minor currency reason requested_at attempt_id "
    "correlation_id causation_id traceparent status version reason_code reason_message "
    "attempt_state url payload"
).split()
_INSERT = f"""
insert into refunds ({", ".join(_WRITTEN)}, next_action_at)
values ({", ".join(f"${n}" for n in range(1, len(_WRITTEN) + 1))},
        case when ${len(_WRITTEN) + 1}::float8 is not null
             then clock_timestamp() + make_interval(secs => ${len(_WRITTEN) + 1}) end)
on conflict (id) do nothing returning id"""
_PURSES = """
select id, refund_open_minor, refunded_minor, over_refunded_minor from payments
where id = any($1)"""
_PURSE = """
update payments set refund_open_minor = $2, refunded_minor = $3, over_refunded_minor = $4
where id = $1"""
_READ = f"select {PAYMENT_COLUMNS} from payments where id = any($1)"
# The oldest of each client first. A ready one is claimed into `sending` with its lease, one whose
# lease ran out is taken from its owner; every other is merely put off while it is asked about.
_CLAIM = f"""
with due as (
    select id, row_number() over (partition by client_id order by next_action_at) as turn
    from refunds where next_action_at <= now()),
locked as (
    select id, attempt_state as was from refunds
    where id in (select id from due order by turn, id limit $2) and next_action_at <= now()
    order by id for update skip locked)
update refunds r set
    attempt_state = case l.was when 'ready' then 'sending' when 'sending' then 'unknown'
                    else l.was end,
    owner = case when l.was = 'ready' then $1 else r.owner end,
    fence = r.fence + (l.was in ('ready', 'sending'))::int,
    started_at = case when l.was = 'ready' then clock_timestamp() else r.started_at end,
    lease_until = case when l.was = 'ready' then clock_timestamp() + make_interval(
        secs => (p.terms ->> 'timeout_seconds')::float8 + $3) else r.lease_until end,
    next_action_at = clock_timestamp() + make_interval(
        secs => (p.terms ->> 'timeout_seconds')::float8 + $3)
from locked l, payments p where r.id = l.id and p.id = r.payment_id
returning l.was, {_LIST}"""
_STORE = """
update refunds set http_status = coalesce($3, http_status), answer = coalesce($4, answer),
    answered_at = clock_timestamp(), reason_message = coalesce($5, reason_message),
    attempt_state = case when attempt_state = 'sending' and fence = $2 and $3::int is not null
                    then 'answered' else attempt_state end
where id = $1"""
_PUT_BACK = """
update refunds set attempt_state = 'ready', owner = null, lease_until = null, started_at = null,
    next_action_at = clock_timestamp() + make_interval(secs => $3)
where id = $1 and fence = $2 and attempt_state = 'sending' and answer is null"""
_LOCK = f"select {_LIST} from refunds r where id = any($1) order by id for update"
_SETTLE = """
update refunds set status = $2, version = $3, late = $4, over_refund = $5,
    provider_reference = $6, reason_code = $7, reason_message = $8, attention = $9,
    attempt_state = $10, enquiries = $11, updated_at = clock_timestamp(),
    payload = case when $10 = 'ended' then null else payload end,
    next_action_at = clock_timestamp() + make_interval(secs => $12)
where id = $1"""
_TRANSITION = """
insert into refund_transitions (refund_id, version, payment_id, client_id, mode, from_status,
    to_status, evidence, source_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"""
_ENQUIRY = """
insert into refund_enquiries (id, refund_id, payment_id, client_id, mode, number, started_at,
    ended_at, http_status, answer, result, reason_code, reason_message)
values ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), $8, $9, $10, $11, $12)"""
_ASK_NOW = """
update refunds set next_action_at = clock_timestamp()
where id = $1 and attempt_state in ('unknown', 'ended')
    and (next_action_at is null or next_action_at > clock_timestamp())"""
_PAYMENT_OF = "select payment_id from refunds where id = $1"


@dataclass(frozen=True, slots=True)
class DueRefund:
    """A refund whose time has come; `was` is the state its attempt had before the claim."""

    refund: Refund
    was: str


def _refund(values: dict[str, Any]) -> Refund:
    values["status"] = RefundStatus(values["status"])
    return Refund(**values)


async def purses(tx: Tx, payment_ids: Sequence[str]) -> dict[str, Purse]:
    """Return the purses of payments (whose rows the caller has locked)."""
    rows = await tx.fetch(_PURSES, list(payment_ids))
    return {r["id"]: Purse(*(r[n] for n in list(r.keys())[1:])) for r in rows}


async def save_purse(tx: Tx, payment_id: str, purse: Purse) -> None:
    """Write a purse; the database refuses one that does not fit in what was captured."""
    await tx.run(_PURSE, payment_id, purse.open_minor, purse.refunded_minor, purse.over_minor)


async def insert(tx: Tx, refund: Refund, wake_seconds: float | None) -> bool:
    """Insert a refund; False when it is here already."""
    values = [getattr(refund, name) for name in _WRITTEN]
    return await tx.value(_INSERT, *values, wake_seconds) is not None


async def payments_of(tx: Tx, payment_ids: Sequence[str]) -> dict[str, Payment]:
    """Return payments without a lock: what refunds need of them never changes once captured."""
    rows = await tx.fetch(_READ, list(set(payment_ids)))
    return {row["id"]: payment_of(dict(row)) for row in rows}


async def claim_due(tx: Tx, owner: str, limit: int, lease_extra_seconds: float) -> list[DueRefund]:
    """Claim refunds that are due; the claim lasts one HTTP time-out plus extra."""
    found = []
    for row in await tx.fetch(_CLAIM, owner, limit, lease_extra_seconds):
        values = dict(row)
        was = values.pop("was")
        found.append(DueRefund(_refund(values), was))
    return found


async def store_answer(tx: Tx, refund_id: str, fence: int, answer: Answer) -> None:
    """Store a raw answer before anything parses it."""
    await tx.run(_STORE, refund_id, fence, answer.status, answer.body, answer.error)


async def put_back(tx: Tx, refund_id: str, fence: int, wait_seconds: float) -> None:
    """Make a refund ready again, after a while, that its owner has provably not sent."""
    await tx.run(_PUT_BACK, refund_id, fence, wait_seconds)


async def lock(tx: Tx, refund_ids: Sequence[str]) -> dict[str, Refund]:
    """Return refunds under their row locks; the payments' rows are locked before."""
    rows = await tx.fetch(_LOCK, list(refund_ids))
    return {row["id"]: _refund(dict(row)) for row in rows}


async def payment_id_of(tx: Tx, refund_id: str) -> str | None:
    """Return which payment a refund belongs to."""
    found: str | None = await tx.value(_PAYMENT_OF, refund_id)
    return found


async def settle(
    tx: Tx, before: Refund, now: Refund, finding: Finding, source_id: str, wake: float | None
) -> None:
    """Write what a finding made of a refund, and its transition when the status changed."""
    await tx.run(
        _SETTLE,
        *(now.id, now.status, now.version, now.late, now.over_refund, now.provider_reference),
        *(now.reason_code, now.reason_message, now.attention, now.attempt_state, now.enquiries),
        wake,
    )
    if now.version != before.version:
        await tx.run(
            _TRANSITION,
            *(now.id, now.version, now.payment_id, now.client_id, now.mode),
            *(before.status, now.status, finding.evidence, source_id),
        )


async def record_enquiry(
    tx: Tx, enquiry_id: str, refund: Refund, started_at: Any, answer: Answer, finding: Finding
) -> None:
    """Store an enquiry about a refund with its raw answer."""
    await tx.run(
        _ENQUIRY,
        *(enquiry_id, refund.id, refund.payment_id, refund.client_id, refund.mode),
        *(refund.enquiries, started_at, answer.status, answer.body, finding.result),
        *(finding.reason_code, finding.reason_message),
    )


async def ask_now(tx: Tx, refund_id: str) -> None:
    """Let the provider be asked about a refund at once, whatever its state."""
    await tx.run(_ASK_NOW, refund_id)
