"""What is asked of an accepted payment: cancel, enquire, announce again; and the keys of it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, fields

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import SealedSecrets

from mospay_gateway.domain.payments import Payment
from mospay_gateway.storage.payments import payment_of

_COLUMNS = ", ".join(f.name for f in fields(Payment))
_LOCK = f"""
select {_COLUMNS} from payments where id = $1 and client_id = $2 and mode = $3 for update"""
_CANCEL = f"""
update payments set cancel_requested_at = $2 where id = $1 returning {_COLUMNS}"""
_ENQUIRE = """
update payments set enquired_at = clock_timestamp()
where id = $1 and client_id = $2 and mode = $3 and settled_at is null
  and (enquired_at is null or enquired_at <= clock_timestamp() - $4::interval)
returning id"""
# Twice as long after each, an hour at most; the one after `send_before` is the last: by it the
# router learns of the payment all the same, and ends it without a call.
_ANNOUNCE = f"""
update payments set announcements = announcements + 1,
    announce_at = case when send_before <= now() then 'infinity'::timestamptz
        else now() + least(interval '1 hour', $2::interval * power(2, announcements)) end
where id = any(array(
    select id from payments where id = any($1) and settled_at is null
        and accepted_at <= now() - $2::interval and (announce_at is null or announce_at <= now())
    order by id for update))
returning {_COLUMNS}, secrets"""
_GIVEN_UP = """
select count(*) from (select 1 from payments
    where settled_at is null and announce_at = 'infinity' limit 100000) u"""

_CLAIM_KEY = "select pg_try_advisory_xact_lock(hashtextextended($1, 0))"
_RECORDED = """
select fingerprint, payment_id, refund_id from idempotency_keys
where client_id = $1 and mode = $2 and operation = $3 and key = $4"""
_RECORD = """
insert into idempotency_keys (client_id, mode, operation, key, fingerprint, payment_id, refund_id,
                              created_at)
values ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())"""


@dataclass(frozen=True, slots=True)
class Key:
    """An Idempotency-Key in its scope: client, mode, method and path."""

    client_id: str
    mode: str
    operation: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a key did."""

    fingerprint: bytes
    payment_id: str
    refund_id: str | None


async def claim_key(tx: Tx, key: Key) -> bool:
    """Hold a key until this transaction ends; False: another one holds it."""
    scope = "\n".join((key.client_id, key.mode, key.operation, key.key))  # none has a line feed
    return bool(await tx.value(_CLAIM_KEY, scope))


async def recorded(tx: Tx, key: Key) -> Recorded | None:
    """Return what is on record of a key."""
    row = await tx.row(_RECORDED, key.client_id, key.mode, key.operation, key.key)
    return None if row is None else Recorded(**dict(row))


async def record(tx: Tx, key: Key, payment_id: str, refund_id: str | None = None) -> None:
    """Bind a key to what it did."""
    await tx.run(
        _RECORD,
        key.client_id,
        key.mode,
        key.operation,
        key.key,
        key.fingerprint,
        payment_id,
        refund_id,
    )


async def lock(tx: Tx, payment_id: str, client_id: str, mode: str) -> Payment | None:
    """Lock a tenant's payment and return it as it is."""
    row = await tx.row(_LOCK, payment_id, client_id, mode)
    return None if row is None else payment_of(row)


async def note_cancel(tx: Tx, payment_id: str, at: dt.datetime) -> Payment:
    """Note that a payment is to be cancelled; the caller holds its lock."""
    row = await tx.row(_CANCEL, payment_id, at)
    assert row is not None, "the caller holds the payment's row lock"
    return payment_of(row)


async def note_enquiry(tx: Tx, payment: Payment, every: dt.timedelta) -> bool:
    """Say whether an enquiry of an open payment is due, and note it."""
    noted = await tx.value(_ENQUIRE, payment.id, payment.client_id, payment.mode, every)
    return noted is not None


async def claim_announcements(
    tx: Tx, ids: Sequence[str], after: dt.timedelta
) -> list[tuple[Payment, SealedSecrets | None]]:
    """Claim those of these payments that are to be announced again, with secrets as stored."""
    rows = [dict(row) for row in await tx.fetch(_ANNOUNCE, list(ids), after)]
    secrets = [row.pop("secrets") for row in rows]
    return [
        (payment_of(row), None if sealed is None else SealedSecrets.model_validate(sealed))
        for row, sealed in zip(rows, secrets, strict=True)
    ]


async def count_given_up(tx: Tx) -> int:
    """Count open payments that the router did not know even after the last announcement."""
    return int(await tx.value(_GIVEN_UP))
