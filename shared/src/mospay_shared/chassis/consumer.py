"""Consumers: deliveries are gathered, handled in one transaction, then acknowledged.

A delivery of a connection that has gone is handled all the same; its acknowledgement fails and
the redelivery is absorbed by the inbox. Nothing is acknowledged that is not committed. While the
database is away for long, messages go back to the broker once and are not asked for meanwhile: it
would take the silence for a consumer that hangs, and count every return as a failed delivery.
"""

import asyncio

import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError

from mospay_shared.chassis.broker import Broker
from mospay_shared.chassis.inbox import DatabaseAway, Inbox, Received, Subscription, parse

log = structlog.get_logger()


class Consumer:
    """Reads one queue into the inbox."""

    def __init__(
        self, broker: Broker, inbox: Inbox, subscription: Subscription, away_seconds: float
    ) -> None:
        self._broker, self._inbox, self._subscription = broker, inbox, subscription
        self._away_seconds, self._away = away_seconds, False
        self._deliveries: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._channel: AbstractChannel | None = None
        self._tag: str | None = None
        self._busy = 0

    @property
    def attached(self) -> bool:
        """Say whether the broker sends this consumer messages right now."""
        channel = self._channel
        return (
            self._tag is not None
            and channel is not None
            and not channel.is_closed
            and self._broker.connected("consume")
        )

    async def run(self) -> None:
        """Attach, come back when the connection is lost for good, and handle until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay_attached())
            for _ in range(self._subscription.runners):
                group.create_task(self._handle())

    async def stop(self, seconds: float) -> None:
        """Ask for no more messages and wait for those at hand to be handled."""
        if self._channel is not None and self._tag is not None:
            try:
                queue = await self._channel.get_queue(self._subscription.queue.name, ensure=False)
                await asyncio.wait_for(queue.cancel(self._tag), 3)
            except (AMQPError, ConnectionError, TimeoutError) as error:
                log.warning("consumer_cancel_failed", reason=repr(error)[:200])
        until = asyncio.get_running_loop().time() + seconds
        while (self._busy or not self._deliveries.empty()) and (
            asyncio.get_running_loop().time() < until
        ):
            await asyncio.sleep(0.02)

    async def _stay_attached(self) -> None:
        while True:
            try:
                if self._away:
                    self._away = not await self._inbox.database_alive()
                if not self.attached and not self._away:
                    await self._attach()
            except Exception as error:
                self._channel = self._tag = None
                log.warning("consumer_waits", queue=self._name, reason=repr(error)[:200])
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError  # opening a connection may have swallowed it
            await asyncio.sleep(0.5)

    @property
    def _name(self) -> str:
        return self._subscription.queue.name

    async def _attach(self) -> None:
        spec = self._subscription.queue
        channel = await self._broker.consume_channel(spec.prefetch)
        try:
            queue = await channel.get_queue(spec.name, ensure=True)
        except AMQPError:
            await self._broker.declare([spec])  # the broker lost it (a fresh one): make it again
            channel = await self._broker.consume_channel(spec.prefetch)
            queue = await channel.get_queue(spec.name, ensure=True)
        self._tag = await queue.consume(self._deliveries.put, no_ack=False)
        self._channel = channel
        log.info("consumer_attached", queue=spec.name)

    async def _gather(self) -> tuple[list[AbstractIncomingMessage], list[Received]]:
        subscription = self._subscription
        messages = [await self._deliveries.get()]
        self._busy += 1
        events = parse(messages[0].body, subscription)
        loop = asyncio.get_running_loop()
        until = loop.time() + subscription.linger_seconds
        while len(events) < subscription.limit and len(messages) < subscription.queue.prefetch:
            if self._deliveries.empty():
                left = until - loop.time()
                if left <= 0:
                    break
                try:
                    message = await asyncio.wait_for(self._deliveries.get(), left)
                except TimeoutError:
                    break
            else:
                message = self._deliveries.get_nowait()
            messages.append(message)
            events.extend(parse(message.body, subscription))
        return messages, events

    async def _handle(self) -> None:
        while True:
            messages, events = await self._gather()
            try:
                await self._inbox.process(self._subscription, events, self._away_seconds)
                for message in messages:
                    await message.ack()
            except DatabaseAway:
                await self._detach()
            except (AMQPError, ConnectionError, RuntimeError) as error:
                log.warning("ack_lost", queue=self._name, reason=repr(error)[:200])
            except Exception:
                log.exception("inbox_failed", queue=self._name)
                await self._give_back(messages)
            finally:
                self._busy -= 1

    async def _detach(self) -> None:
        """Close the channel, which returns all it holds, and stay away until the database is back.

        What was delivered and not begun is forgotten here; the broker delivers it again.
        """
        channel, self._channel, self._tag, self._away = self._channel, None, None, True
        while not self._deliveries.empty():
            self._deliveries.get_nowait()
        if channel is not None:
            log.warning("consumer_detached", queue=self._name, reason="the database is away")
            try:
                await asyncio.wait_for(channel.close(), 3)
            except (AMQPError, ConnectionError, TimeoutError, RuntimeError) as error:
                log.warning("channel_close_failed", queue=self._name, reason=repr(error)[:200])

    async def _give_back(self, messages: list[AbstractIncomingMessage]) -> None:
        """Return messages the inbox could not even set aside; the delivery limit ends a loop."""
        await asyncio.sleep(1)
        for message in messages:
            try:
                await message.nack(requeue=True)
            except (AMQPError, ConnectionError, RuntimeError):
                return
