"""The outbox: events are written with the state they tell of, and published by the relay.

One claim = delete, publish with confirms, commit (kernel, rule 2). A crash between confirm and
commit publishes twice; inboxes absorb it. A pack that is refused goes back with a delay, alone.
"""

import asyncio
import contextlib
import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aio_pika import Message
from aio_pika.abc import AbstractChannel, DeliveryMode
from aio_pika.exceptions import AMQPError, DeliveryError, PublishError

from mospay_shared.chassis import metrics
from mospay_shared.chassis.broker import COMMANDS, EVENTS, Broker
from mospay_shared.chassis.database import DATABASE_DOWN, Database, Tx
from mospay_shared.contracts.envelope import (
    CONTENT_TYPE,
    PACK_LIMIT,
    PACK_LIMIT_BYTES,
    Outgoing,
)

log = structlog.get_logger()
CLAIM_LIMIT = 500  # rows a claim
CONFIRM_SECONDS = 10.0
IDLE_SECONDS = 1.0  # the net under the wake-up
PACE_SECONDS = 0.01  # between two claims while commits keep coming: a claim costs by itself
BACKOFF_SECONDS = (1, 5, 15, 60, 300)
UNHEARD_ATTEMPTS = 15  # an event that no queue took for about an hour has no listeners

_CLAIM = """
delete from outbox where id = any(array(
    select id from outbox where not_before <= now() order by id limit $1 for update skip locked))
returning id, type, subject, command, body, attempts"""
_ENQUEUE = """
insert into outbox (id, type, subject, command, body)
select * from unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::bytea[])"""
_RETURN = """
insert into outbox (id, type, subject, command, body, attempts, not_before, reason)
select * from unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::bytea[], $6::int[],
    $7::timestamptz[], $8::text[])"""


def columns(events: Sequence[Outgoing]) -> tuple[list[Any], ...]:
    """Return the five column arrays of outgoing events, for a caller's own UNNEST statement."""
    return (
        [e.id for e in events],
        [e.type for e in events],
        [e.subject for e in events],
        [e.command for e in events],
        [e.body for e in events],
    )


@dataclass(frozen=True, slots=True)
class _Pack:
    rows: list[Any]
    exchange: str
    type: str
    body: bytes


def _packs(rows: Sequence[Any]) -> list[_Pack]:
    """Sort rows into packs of one type, at most 100 events and 1 MiB each."""
    by_type: dict[tuple[bool, str], list[Any]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: r["id"]):
        by_type[row["command"], row["type"]].append(row)
    packs: list[_Pack] = []
    for (command, wire_type), group in by_type.items():
        chunk: list[Any] = []
        size = 0
        for row in group:
            if chunk and (len(chunk) >= PACK_LIMIT or size + len(row["body"]) > PACK_LIMIT_BYTES):
                packs.append(_pack(chunk, command, wire_type))
                chunk, size = [], 0
            chunk.append(row)
            size += len(row["body"]) + 1
        packs.append(_pack(chunk, command, wire_type))
    return packs


def _pack(rows: list[Any], command: bool, wire_type: str) -> _Pack:
    body = b"[" + b",".join(row["body"] for row in rows) + b"]"
    return _Pack(rows, COMMANDS if command else EVENTS, wire_type, body)


class Relay:
    """Publishes what the outbox holds; woken after a commit, with a poll as the net."""

    def __init__(self, service: str, database: Database, broker: Broker) -> None:
        self._service, self._database, self._broker = service, database, broker
        self._wake = asyncio.Event()
        self._due = database.due("outbox where not_before <= now()")
        self._channel: AbstractChannel | None = None

    def wake(self) -> None:
        """Say that rows were committed."""
        self._wake.set()

    async def enqueue(self, tx: Tx, events: Sequence[Outgoing]) -> None:
        """Write events into the outbox within `tx`; they are published after it commits."""
        if events:
            await tx.run(_ENQUEUE, *columns(events))
            tx.after_commit(self.wake)

    async def run(self) -> None:
        """Publish until cancelled; whatever fails, it waits and tries again.

        A relay that ended would keep every event of its service for ever, unnoticed.
        """
        loop, called = asyncio.get_running_loop(), True
        while True:
            self._wake.clear()
            claimed_at = loop.time()
            try:
                while (called or await self._due()) and await self.once() == CLAIM_LIMIT:
                    pass
                delay = IDLE_SECONDS
            except (AMQPError, ConnectionError, *DATABASE_DOWN) as error:
                metrics.RELAY_FAILURES.labels(self._service).inc()
                log.warning("relay_waits", reason=repr(error)[:200])
                self._channel, delay = None, IDLE_SECONDS
                await asyncio.sleep(0.5)
            except Exception:
                metrics.RELAY_FAILURES.labels(self._service).inc()
                log.exception("relay_failed")
                self._channel, delay = None, IDLE_SECONDS
                await asyncio.sleep(0.5)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), delay)
            called = self._wake.is_set()
            # What comes alone goes at once; of many, those of one pace share a claim and a pack.
            if called and (early := claimed_at + PACE_SECONDS - loop.time()) > 0:
                await asyncio.sleep(early)

    async def flush(self) -> None:
        """Publish what is there now (at shutdown); give up quietly when the broker is away."""
        try:
            while await self.once():
                pass
        except (AMQPError, ConnectionError, *DATABASE_DOWN) as error:
            log.warning("relay_flush_gave_up", reason=repr(error)[:200])

    async def once(self) -> int:
        """Publish one claim and return how many rows it held."""
        channel = await self._open()
        async with self._database.transaction() as tx:
            rows = await tx.fetch(_CLAIM, CLAIM_LIMIT)
            if not rows:
                return 0
            packs = _packs(rows)
            results = await asyncio.gather(
                *(self._publish(channel, pack) for pack in packs), return_exceptions=True
            )
            failed = [(p, r) for p, r in zip(packs, results, strict=True) if r is not None]
            for _, error in failed:
                if not isinstance(error, (DeliveryError, TimeoutError)):
                    raise error
            await self._put_back(tx, failed)
        sent = len(rows) - sum(len(pack.rows) for pack, _ in failed)
        metrics.RELAY_EVENTS.labels(self._service).inc(sent)
        metrics.RELAY_PACKS.labels(self._service).inc(len(packs) - len(failed))
        return len(rows)

    async def _open(self) -> AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._broker.publish_channel()
        return self._channel

    async def _publish(self, channel: AbstractChannel, pack: _Pack) -> None:
        exchange = await channel.get_exchange(pack.exchange, ensure=False)
        message = Message(
            pack.body,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=pack.rows[0]["id"],
            type=pack.type,
            app_id=self._service,
            content_type=CONTENT_TYPE,
            timestamp=dt.datetime.now(dt.UTC),
        )
        async with asyncio.timeout(CONFIRM_SECONDS):
            await exchange.publish(message, pack.type, mandatory=True)

    async def _put_back(self, tx: Tx, failed: Sequence[tuple[_Pack, BaseException]]) -> None:
        """Return rows of refused packs with a delay: a full or missing queue holds up itself.

        An event that nobody listens to is not kept for ever; a command always is.
        """
        rows = [(row, error) for pack, error in failed for row in pack.rows]
        unheard = [row for row, error in rows if _unheard(row, error)]
        if unheard:
            rows = [(row, error) for row, error in rows if not _unheard(row, error)]
            metrics.RELAY_UNHEARD.labels(self._service).inc(len(unheard))
            types = sorted({row["type"] for row in unheard})
            log.warning("events_unheard", events=len(unheard), types=types)
        if not rows:
            return
        now = dt.datetime.now(dt.UTC)
        delays = [BACKOFF_SECONDS[min(r["attempts"], len(BACKOFF_SECONDS) - 1)] for r, _ in rows]
        await tx.run(
            _RETURN,
            *[
                [row[key] for row, _ in rows]
                for key in ("id", "type", "subject", "command", "body")
            ],
            [row["attempts"] + 1 for row, _ in rows],
            [now + dt.timedelta(seconds=delay) for delay in delays],
            [repr(error)[:300] for _, error in rows],
        )
        metrics.RELAY_RETURNED.labels(self._service).inc(len(rows))
        log.warning("pack_refused", events=len(rows), reason=repr(rows[0][1])[:200])


def _unheard(row: Any, error: BaseException) -> bool:
    """Say whether no queue has taken this event for so long that there is none to wait for."""
    returned = isinstance(error, PublishError)
    return returned and not row["command"] and row["attempts"] >= UNHEARD_ATTEMPTS
