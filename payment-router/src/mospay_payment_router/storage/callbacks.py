"""Callbacks of providers: stored raw, matched, applied once after verification."""

from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import PaymentCallbackV1


@dataclass(frozen=True, slots=True)
class Callback:
    """A stored callback that has not found its end yet."""

    id: str
    microservice: str
    method: str
    headers: dict[str, str]
    body: bytes
    tries: int


_INSERT = """
insert into callbacks (id, mode, microservice, received_at, headers, body, state, next_action_at,
    method)
select id, mode, microservice, received_at, headers, body, 'new', clock_timestamp(), method
from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::jsonb[], $6::bytea[],
            $7::text[])
    as u(id, mode, microservice, received_at, headers, body, method)
on conflict (id) do nothing"""
_CLAIM = """
update callbacks c set next_action_at = clock_timestamp() + interval '30 s', tries = c.tries + 1
where c.id in (select id from callbacks where state = 'new' and next_action_at <= now()
               order by next_action_at limit $1 for update skip locked)
returning c.id, c.microservice, c.method, c.headers, c.body, c.tries"""
_LATER = """
update callbacks set next_action_at = clock_timestamp() + make_interval(secs => $2)
where id = $1 and state = 'new'"""
_END = """
update callbacks c set state = $2, reason = $3, payment_id = p.id, client_id = p.client_id,
    mode = p.mode, next_action_at = null, ended_at = clock_timestamp()
from (select 1) one left join payments p on p.id = $4 where c.id = $1 and c.state = 'new'"""
_APPLIED = """
update callbacks c set state = 'applied', payment_id = p.id, client_id = p.client_id, mode = p.mode,
    credential = $3, event_key = $4, reason = $5, next_action_at = null,
    ended_at = clock_timestamp()
from payments p where c.id = $1 and c.state = 'new' and p.id = $2
    and not exists (select 1 from callbacks o where o.state = 'applied'
                    and o.credential = $3 and o.event_key = $4)
returning c.id"""
_ASK_NOW = """
update payments set next_action_at = clock_timestamp() where id = $1
    and (next_action_at is null or next_action_at > clock_timestamp())"""


async def insert(tx: Tx, callbacks: Sequence[tuple[PaymentCallbackV1, bytes]]) -> None:
    """Store raw callbacks, each once by its id."""
    await tx.run(
        _INSERT,
        [c.callback_id for c, _ in callbacks],
        [c.mode for c, _ in callbacks],
        [c.microservice for c, _ in callbacks],
        [c.received_at for c, _ in callbacks],
        [c.headers for c, _ in callbacks],
        [body for _, body in callbacks],
        [c.method for c, _ in callbacks],
    )


async def claim(tx: Tx, limit: int) -> list[Callback]:
    """Claim callbacks to be matched; a crash leaves them to be claimed again."""
    return [Callback(**dict(row)) for row in await tx.fetch(_CLAIM, limit)]


async def later(tx: Tx, callback_id: str, seconds: float) -> None:
    """Try to match a callback again in so many seconds."""
    await tx.run(_LATER, callback_id, seconds)


async def end(tx: Tx, callback_id: str, state: str, reason: str, payment_id: str | None) -> None:
    """End a callback without believing it: `asked`, `repeated` or `unmatched`."""
    await tx.run(_END, callback_id, state, reason, payment_id)


async def apply_once(
    tx: Tx, callback_id: str, payment_id: str, credential: str, event_key: str, reason: str
) -> bool:
    """Mark a verified callback applied; False when its event was applied before."""
    args = (callback_id, payment_id, credential, event_key, reason)
    return await tx.value(_APPLIED, *args) is not None


async def ask_now(tx: Tx, payment_id: str) -> None:
    """Let the provider be asked about a payment at once, whatever its state."""
    await tx.run(_ASK_NOW, payment_id)
