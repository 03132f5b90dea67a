"""Security events: what was refused at the door, summed over a window, sent by the outbox."""

import asyncio
import datetime as dt
from dataclasses import dataclass

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Outgoing, SecurityEventV1, outgoing
from mospay_shared.ids import new_id
from prometheus_client import Counter

BATCH_LIMIT = 500  # events a transaction
REFUSALS = Counter("mospay_gateway_refusals", "Calls refused at the door", ["kind"])
FOLDED = Counter("mospay_gateway_security_folded", "Refusals told without saying whose")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is summed up: refusals that agree in all of this. Never holds anything secret.

    `credential` is a prefix or user name that the directory knows, else None: what was typed may
    be a password in the wrong place.
    """

    kind: str
    reason: str
    ip: str | None
    credential: str | None = None
    client_id: str | None = None
    mode: str | None = None


@dataclass(slots=True)
class _Sum:
    count: int
    path: str | None
    first_at: dt.datetime
    last_at: dt.datetime


class SecurityLog:
    """Sums refusals in memory; at most `capacity` kinds of them, the rest without saying whose."""

    def __init__(self, database: Database, relay: Relay, *, capacity: int) -> None:
        self._database, self._relay, self._capacity = database, relay, capacity
        self._sums: dict[Refusal, _Sum] = {}
        self._turn = asyncio.Lock()

    def note(self, refusal: Refusal, path: str, now: dt.datetime) -> None:
        """Count a refusal."""
        REFUSALS.labels(refusal.kind).inc()
        self._add(refusal, _Sum(1, path[:300], now, now))

    def _add(self, refusal: Refusal, added: _Sum) -> None:
        known = self._sums.get(refusal)
        if known is None and len(self._sums) >= self._capacity:
            FOLDED.inc(added.count)
            refusal = Refusal(refusal.kind, "too_many_to_tell_apart", None)
            added.path = None
            known = self._sums.get(refusal)
        if known is None:
            self._sums[refusal] = added
            return
        known.count += added.count
        known.first_at = min(known.first_at, added.first_at)
        known.last_at = max(known.last_at, added.last_at)

    async def publish(self) -> int:
        """Write the events of the window that ends now into the outbox; return how many.

        Without a database they are kept and summed on.
        """
        async with self._turn:  # the last publish, at shutdown, must not overtake one that runs
            sums, self._sums = self._sums, {}
            waiting = list(sums.items())
            try:
                while waiting:
                    batch = waiting[:BATCH_LIMIT]
                    async with self._database.transaction() as tx:
                        await self._relay.enqueue(tx, [_event(r, s) for r, s in batch])
                    waiting = waiting[BATCH_LIMIT:]
            finally:
                for refusal, one in waiting:
                    self._add(refusal, one)
        return len(sums)


def _event(refusal: Refusal, one: _Sum) -> Outgoing:
    event_id = new_id("sec")
    body = SecurityEventV1(
        event_id=event_id,
        client_id=refusal.client_id,
        mode=refusal.mode,
        ip=refusal.ip,
        credential=refusal.credential,
        path=one.path,
        reason=refusal.reason,
        count=one.count,
        first_at=one.first_at,
        last_at=one.last_at,
    )
    return outgoing(f"security.{refusal.kind}.v1", event_id, body, source="gateway")
