"""RabbitMQ: exchanges, quorum queues with a dead-letter backstop, two connections a service.

Queue arguments can never change under one name, so they are all decided here: nothing may depend
on redelivery counts, which differ between RabbitMQ 3.10 and 4.x.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, ExchangeType

log = structlog.get_logger()
COMMANDS, EVENTS, DEAD = "mospay.commands", "mospay.events", "mospay.dead"
COMMAND_QUEUE_LIMIT = 1_000_000  # messages; beyond it commands wait in the sender's outbox
DELIVERY_LIMIT = 20  # crashes of a consumer on one message before the broker sets it aside
CONNECT_SECONDS = 5.0
PREFETCH_PACKS = 20  # unacknowledged messages a consumer; each is a pack of up to 100 events


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue of this service: name `<service>.<purpose>`, and the wire types bound to it."""

    name: str
    events: Sequence[str] = ()
    commands: Sequence[str] = ()
    prefetch: int = PREFETCH_PACKS

    @property
    def arguments(self) -> dict[str, Any]:
        """What the broker is told; a full command queue refuses, an event queue never does."""
        limit = {"x-max-length": COMMAND_QUEUE_LIMIT} if self.commands else {}
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": self.name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            **limit,
        }


@dataclass
class Broker:
    """One connection for publishing and one for consuming, so that a blocked one stops no other.

    A lost connection is not repaired but replaced, by whoever needs a channel next: relay and
    consumers have their own loops, and a confirm that will never come must raise, not wait.
    """

    url: str
    name: str
    _connections: dict[str, AbstractConnection] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def _connection(self, purpose: str) -> AbstractConnection:
        async with self._lock:
            known = self._connections.get(purpose)
            if known is not None and self.connected(purpose):
                return known
            try:
                connection = await aio_pika.connect(
                    self.url,
                    timeout=CONNECT_SECONDS,
                    client_properties={"connection_name": f"{self.name}:{purpose}"},
                )
            except StopAsyncIteration as error:  # the library's word for a peer that hung up
                raise ConnectionError("the broker hung up while we connected") from error
            self._connections[purpose] = connection
            return connection

    async def publish_channel(self) -> AbstractChannel:
        """Open a channel with confirms; an unroutable message raises DeliveryError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await self._connection("publish")
            return await connection.channel(publisher_confirms=True, on_return_raises=True)

    async def consume_channel(self, prefetch: int) -> AbstractChannel:
        """Open a channel with a prefetch limit, counted in messages (packs)."""
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await self._connection("consume")
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=prefetch)
            return channel

    def connected(self, purpose: str) -> bool:
        """Say whether that connection stands right now."""
        known = self._connections.get(purpose)
        return known is not None and known.connected.is_set() and not known.is_closed

    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        """Declare the exchanges, these queues with their bindings, and the service's dead queue.

        Run before the first event is published (`migrate` does), so that no event can be without
        the queues of those who must not miss it.
        """
        connection = await aio_pika.connect(self.url, timeout=CONNECT_SECONDS)
        async with connection, connection.channel() as channel:
            exchanges = {
                name: await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
                for name in (COMMANDS, EVENTS, DEAD)
            }
            for spec in queues:
                queue = await channel.declare_queue(
                    spec.name, durable=True, arguments=spec.arguments
                )
                for key in spec.events:
                    await queue.bind(exchanges[EVENTS], key)
                for key in spec.commands:
                    await queue.bind(exchanges[COMMANDS], key)
            dead = await channel.declare_queue(
                f"{self.name}.dead", durable=True, arguments={"x-queue-type": "quorum"}
            )
            for spec in queues:
                await dead.bind(exchanges[DEAD], spec.name)

    async def close(self) -> None:
        """Close both connections."""
        for connection in self._connections.values():
            try:
                await asyncio.wait_for(connection.close(), 5)
            except Exception as error:
                log.warning("broker_close_failed", reason=repr(error)[:200])
