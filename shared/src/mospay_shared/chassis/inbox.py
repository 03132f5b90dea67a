"""The inbox: dedupe, retry, dead letters and the hop of the trace, in the handler's transaction.

Packs are merged into one transaction. If that fails, its events run one by one; the failing one
becomes a `retry` or `dead` row with its body and reason, so a poisoned event never blocks its
pack. A handler may leave some events for later (`tx.put_off`) and handle the others. Redelivery of
anything seen is absorbed by (event id, queue).
"""

import asyncio
import datetime as dt
import hashlib
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import structlog
from pydantic import BaseModel, ValidationError

from mospay_shared.chassis import metrics, telemetry
from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import DATABASE_DOWN, LOCK_TAKEN, TRY_AGAIN, Database, Tx
from mospay_shared.contracts.envelope import PACK_LIMIT, Envelope, Event
from mospay_shared.contracts.registry import MESSAGES
from mospay_shared.ids import id_time

log = structlog.get_logger()
RETRY_SECONDS = (1, 5, 15, 60, 300, 900, 1800, 3600)
PAUSE_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)

Handler = Callable[[Tx, Sequence[Event[Any]]], Awaitable[None]]


class DatabaseAway(Exception):
    """The database was away for longer than messages may be held: nothing was handled."""


class Permanent(Exception):
    """A handler's word that trying again can't help: the message is dead at once."""


class PutOff(Exception):
    """A handler's word that an event that was tried again has to wait once more."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A queue and who handles each wire type; `*` takes every type as a bare envelope's data.

    `linger_seconds` lets a batch fill and belongs off the payer's path. `limit` events share one
    transaction at the most. An event with an enum value we don't know is parked among the dead;
    with `ignore_unknown` it is noted as done instead: a newer producer must not stop those to whom
    the news is not money.
    """

    queue: QueueSpec
    handlers: dict[str, Handler]
    linger_seconds: float = 0.0
    limit: int = 200
    runners: int = 1
    ignore_unknown: bool = False

    def model(self, wire_type: str) -> type[BaseModel] | None:
        """Return the body model of a wire type this subscription handles, else None."""
        if wire_type in self.handlers or "*" in self.handlers:
            message = MESSAGES.get(wire_type)
            return message.model if message else None
        return None

    def handler(self, wire_type: str) -> Handler:
        """Return who handles a wire type."""
        return self.handlers.get(wire_type) or self.handlers["*"]


@dataclass(frozen=True, slots=True)
class Received:
    """A parsed event, or what can be said of one that could not be parsed (`reason`)."""

    id: str
    type: str
    subject: str
    body: bytes
    event: Event[Any] | None = None
    reason: str | None = None
    ignored: bool = False
    received_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))


_INSERT = """
insert into inbox (event_day, event_id, queue, type, subject, causation_id, correlation_id, state,
                   published_at, received_at, handled_at, attempts)
select u.event_day, u.event_id, $2, u.type, u.subject, u.causation_id, u.correlation_id, 'done',
       u.published_at, u.received_at, clock_timestamp(), 1
from unnest($1::date[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::timestamptz[], $9::timestamptz[])
    as u(event_day, event_id, type, subject, causation_id, correlation_id, published_at,
         received_at)
on conflict do nothing returning event_id"""
_INSERT_FAILED = """
insert into inbox (event_day, event_id, queue, type, subject, causation_id, correlation_id, state,
                   published_at, received_at, attempts, next_at, reason, body)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $11, $12, $13)
on conflict do nothing"""
_CLAIM_RETRY = """
update inbox i set next_at = now() + interval '60 s', attempts = i.attempts + 1
from (select event_day, event_id, queue from inbox
      where queue = $1 and state = 'retry' and next_at <= now()
      order by next_at limit $2 for update skip locked) as due
where (i.event_day, i.event_id, i.queue) = (due.event_day, due.event_id, due.queue)
returning i.event_day, i.event_id, i.body, i.attempts"""
_PUT_OFF = """
update inbox set state = 'retry', next_at = $4, reason = $5, body = $6, handled_at = null
where event_day = $1 and event_id = $2 and queue = $3"""
_KNOWN = "select state from inbox where event_day = $1 and event_id = $2 and queue = $3"
_MARK = """
update inbox set state = $4, next_at = $5, reason = $6, body = case when $4 = 'done' then null
    else body end, handled_at = case when $4 = 'done' then clock_timestamp() end
where event_day = $1 and event_id = $2 and queue = $3"""


def event_day(event_id: str) -> dt.date:
    """Return the partition day of an event: written in its id, so a redelivery finds its twin."""
    return id_time(event_id).date()


def parse(body: bytes, subscription: Subscription) -> list[Received]:
    """Split a message into its events; what can't be read comes back with its reason."""
    try:
        items = orjson.loads(body)
        if not isinstance(items, list) or not 1 <= len(items) <= PACK_LIMIT:
            raise ValueError(f"a message is a JSON array of 1 to {PACK_LIMIT} events")
    except ValueError as error:
        return [_unreadable(body, "unreadable", f"not a pack: {error}")]
    return [_parse_one(item, subscription) for item in items]


def _unreadable(body: bytes, wire_type: str, reason: str) -> Received:
    digest = hashlib.sha256(body).hexdigest()[:32]
    return Received(f"raw_{digest}", wire_type, "", body, reason=reason[:500])


def _parse_one(item: Any, subscription: Subscription) -> Received:
    body = orjson.dumps(item)
    try:
        envelope = Envelope.model_validate(item)
    except ValidationError as error:
        return _unreadable(body, "malformed", f"not a CloudEvents 1.0 envelope: {_first(error)}")
    model = subscription.model(envelope.type)
    if model is None:
        reason = f"no handler for {envelope.type} on {subscription.queue.name}"
        return Received(envelope.id, envelope.type, envelope.subject, body, reason=reason)
    try:
        event: Event[Any] = Event(envelope, model.model_validate(envelope.data))
    except ValidationError as error:
        reason = f"body of {envelope.type} is invalid: {_first(error)}"
        unknown = all(fault["type"] == "enum" for fault in error.errors(include_url=False))
        return Received(
            envelope.id,
            envelope.type,
            envelope.subject,
            body,
            reason=reason[:500],
            ignored=unknown and subscription.ignore_unknown,
        )
    return Received(envelope.id, envelope.type, envelope.subject, body, event)


def _first(error: ValidationError) -> str:
    """Name the first faults by place and rule, never by value: values may be secrets."""
    faults = [
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)[:5]
    ]
    return "; ".join(faults)


class Inbox:
    """Runs handlers over received events of one service."""

    def __init__(self, service: str, database: Database, attempts: int) -> None:
        self._service, self._database, self._attempts = service, database, attempts

    async def database_alive(self) -> bool:
        """Say whether messages can be handled now."""
        return await self._database.alive()

    async def process(
        self,
        subscription: Subscription,
        received: Sequence[Received],
        away_seconds: float = math.inf,
    ) -> None:
        """Bring every event to an end that is in the database: done, retry or dead.

        Returns only then, so the caller may acknowledge. While the database is away it waits, and
        raises DatabaseAway after `away_seconds` of that.
        """
        pause, until = 0, asyncio.get_running_loop().time() + away_seconds
        while True:
            try:
                await self._process(subscription, received)
                return
            except DATABASE_DOWN as error:
                log.warning("inbox_waits", queue=subscription.queue.name, reason=repr(error)[:200])
                if asyncio.get_running_loop().time() > until:
                    raise DatabaseAway from error
                await asyncio.sleep(PAUSE_SECONDS[min(pause, len(PAUSE_SECONDS) - 1)])
                pause += 1

    async def _process(self, subscription: Subscription, received: Sequence[Received]) -> None:
        queue = subscription.queue.name
        good = list({r.id: r for r in received if r.event is not None}.values())
        for bad in (r for r in received if r.event is None):
            await self._fail(queue, bad, Permanent(bad.reason or "unreadable"))
        if not good:
            return
        try:
            await self._together(subscription, good)
            return
        except DATABASE_DOWN:
            raise
        except Exception as error:
            if len(good) > 1 or isinstance(error, TRY_AGAIN):
                log.warning("batch_rerun_singly", queue=queue, reason=repr(error)[:200])
        for one in good:
            await self._alone(subscription, one)

    async def _alone(self, subscription: Subscription, one: Received) -> None:
        for attempt in range(3):
            try:
                await self._together(subscription, [one])
                return
            except DATABASE_DOWN:
                raise
            except TRY_AGAIN as error:
                if attempt == 2 or isinstance(error, LOCK_TAKEN):  # waited for long enough
                    await self._fail(subscription.queue.name, one, error)
                    return
            except Exception as error:
                await self._fail(subscription.queue.name, one, error)
                return

    async def _together(self, subscription: Subscription, batch: Sequence[Received]) -> None:
        queue = subscription.queue.name
        async with self._database.transaction() as tx:
            envelopes = [r.event.envelope for r in batch if r.event is not None]
            rows = await tx.fetch(
                _INSERT,
                [event_day(e.id) for e in envelopes],
                queue,
                [e.id for e in envelopes],
                [e.type for e in envelopes],
                [e.subject for e in envelopes],
                [e.causation_id for e in envelopes],
                [e.correlation_id for e in envelopes],
                [e.time for e in envelopes],
                [r.received_at for r in batch],
            )
            new = {row["event_id"] for row in rows}
            events = [r.event for r in batch if r.event is not None and r.id in new]
            await self._dispatch(tx, subscription, events)
            late = [r for r in batch if r.id in tx.put_off]
            for one in late:
                await self._put_off(tx, queue, one)
        metrics.INBOX_EVENTS.labels(queue, "done").inc(len(new) - len(late))
        metrics.INBOX_EVENTS.labels(queue, "retry").inc(len(late))
        metrics.INBOX_EVENTS.labels(queue, "repeated").inc(len(batch) - len(new))
        metrics.INBOX_BATCH.labels(queue).observe(len(batch))

    async def _dispatch(
        self, tx: Tx, subscription: Subscription, events: Sequence[Event[Any]]
    ) -> None:
        """Hand events to their handlers, in runs of one handler so that order is kept."""
        start = 0
        while start < len(events):
            handler = subscription.handler(events[start].envelope.type)
            end = start
            while end < len(events) and subscription.handler(events[end].envelope.type) is handler:
                end += 1
            with telemetry.batch_span(subscription.queue.name, events[start:end]):
                await handler(tx, events[start:end])
            start = end

    async def _put_off(self, tx: Tx, queue: str, one: Received) -> None:
        """Leave an event for another try, in the transaction that handles the others."""
        reason = tx.put_off[one.id]
        next_at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=RETRY_SECONDS[0])
        key = (event_day(one.id), one.id, queue)
        await tx.run(_PUT_OFF, *key, next_at, reason[:500], one.body)
        log.warning("message_put_off", queue=queue, event_id=one.id, type=one.type, reason=reason)

    async def _fail(self, queue: str, one: Received, error: Exception) -> None:
        dead = isinstance(error, Permanent)
        envelope = one.event.envelope if one.event else None
        now = dt.datetime.now(dt.UTC)
        reason = str(error)[:500] if dead else f"{type(error).__name__}: {error}"[:500]
        async with self._database.transaction() as tx:
            await tx.run(
                _INSERT_FAILED,
                event_day(one.id),
                one.id,
                queue,
                one.type,
                one.subject,
                envelope.causation_id if envelope else None,
                envelope.correlation_id if envelope else None,
                "done" if one.ignored else "dead" if dead else "retry",
                envelope.time if envelope else None,
                one.received_at,
                None if dead else now + dt.timedelta(seconds=RETRY_SECONDS[0]),
                reason,
                None if one.ignored else one.body,
            )
        if one.ignored:
            metrics.INBOX_EVENTS.labels(queue, "ignored").inc()
            log.warning("message_ignored", queue=queue, event_id=one.id, type=one.type)
            return
        metrics.INBOX_EVENTS.labels(queue, "dead" if dead else "retry").inc()
        log.warning("message_failed", queue=queue, event_id=one.id, dead=dead, type=one.type)

    async def bury(self, queue: str, received: Sequence[Received], reason: str) -> int:
        """Set aside among the dead what the broker gave up delivering; return how many were new.

        What was handled or set aside before stays as it is.
        """
        buried = 0
        for one in received:
            async with self._database.transaction() as tx:
                known = await tx.value(_KNOWN, event_day(one.id), one.id, queue)
            if known is None:
                await self._fail(queue, one, Permanent(f"{reason}: {one.reason or 'no end'}"))
                buried += 1
        return buried

    async def retry_due(self, subscription: Subscription) -> int:
        """Run what is due for another try; return how many rows that was."""
        queue = subscription.queue.name
        async with self._database.transaction() as tx:
            rows = await tx.fetch(_CLAIM_RETRY, queue, 50)
        for row in rows:
            key = (row["event_day"], row["event_id"], queue)
            received = _parse_one(orjson.loads(row["body"]), subscription)
            try:
                if received.event is None:
                    raise Permanent(received.reason)
                async with self._database.transaction() as tx:
                    await tx.run(_MARK, *key, "done", None, None)
                    event = replace(received.event, tries=row["attempts"])
                    await self._dispatch(tx, subscription, [event])
                    if event.id in tx.put_off:
                        raise PutOff(tx.put_off[event.id])
                metrics.INBOX_EVENTS.labels(queue, "done").inc()
            except DATABASE_DOWN:
                raise
            except Exception as error:
                await self._again(key, row["attempts"], error)
        return len(rows)

    async def _again(self, key: tuple[Any, ...], attempts: int, error: Exception) -> None:
        dead = isinstance(error, Permanent) or attempts >= self._attempts
        wait = RETRY_SECONDS[min(attempts, len(RETRY_SECONDS)) - 1]
        next_at = None if dead else dt.datetime.now(dt.UTC) + dt.timedelta(seconds=wait)
        reason = f"{type(error).__name__}: {error}"[:500]
        async with self._database.transaction() as tx:
            await tx.run(_MARK, *key, "dead" if dead else "retry", next_at, reason)
        metrics.INBOX_EVENTS.labels(key[2], "dead" if dead else "retry").inc()
