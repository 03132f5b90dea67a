"""The broker's dead-letter queue of a service, emptied into the inbox's dead rows.

The broker gives up on a message whose consumer crashed over it again and again. There it would be
seen by nobody who looks at the inbox: so it is moved, event by event, to where redrive works.
"""

from collections.abc import Sequence

import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError

from mospay_shared.chassis.broker import Broker
from mospay_shared.chassis.inbox import Inbox, Subscription, parse
from mospay_shared.chassis.workers import Worker

log = structlog.get_logger()
TURN_LIMIT = 50  # messages a turn
LOOK_SECONDS = 5.0


class DeadLetters:
    """Drains `<service>.dead`."""

    def __init__(
        self, service: str, broker: Broker, inbox: Inbox, subscriptions: Sequence[Subscription]
    ) -> None:
        self._queue, self._broker, self._inbox = f"{service}.dead", broker, inbox
        self._subscriptions = subscriptions
        self._channel: AbstractChannel | None = None
        self.worker = Worker("dead_letters", self._turn, LOOK_SECONDS)

    async def _turn(self) -> int:
        """Move what is there; the broker away means that there is nothing to move now."""
        try:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._broker.consume_channel(TURN_LIMIT)
            queue = await self._channel.get_queue(self._queue, ensure=False)
            for moved in range(TURN_LIMIT):
                message = await queue.get(fail=False, no_ack=False)
                if message is None:
                    return moved
                if not await self._bury(message):
                    return 0  # a person has to look; it stays where it is
        except (AMQPError, ConnectionError, TimeoutError, RuntimeError) as error:
            log.info("dead_letters_wait", reason=repr(error)[:200])
            self._channel = None
            return 0
        return TURN_LIMIT

    async def _bury(self, message: AbstractIncomingMessage) -> bool:
        name = str(message.headers.get("x-first-death-queue") or message.routing_key)
        known = {s.queue.name: s for s in self._subscriptions}
        if name in known:
            events = parse(message.body, known[name])
            reason = f"given up by the broker ({message.headers.get('x-first-death-reason')!s})"
            buried = await self._inbox.bury(name, events, reason)
            log.error("dead_letter_buried", queue=name, events=len(events), new=buried)
            await message.ack()
            return True
        log.error("dead_letter_of_an_unknown_queue", queue=name)
        await message.nack(requeue=True)
        return False
