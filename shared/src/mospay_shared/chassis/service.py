"""A service: its pools, broker, relay, inbox, workers and HTTP app in one process, one plan.

`create_app(settings)` of each service makes one of these, adds subscriptions, workers and routes,
and returns `service.app`. Roles (`http,consume,relay,work`) say what this process does. Shutdown:
stop accepting, stop consuming, drain senders, flush the relay, close.
"""

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI

from mospay_shared.chassis import migrations, workers
from mospay_shared.chassis.broker import Broker
from mospay_shared.chassis.consumer import Consumer
from mospay_shared.chassis.database import DATABASE_DOWN, Database
from mospay_shared.chassis.dead_letters import DeadLetters
from mospay_shared.chassis.inbox import Inbox, Subscription
from mospay_shared.chassis.middleware import Edge
from mospay_shared.chassis.operations import TraceSource, operations_router
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.problems import install_problems
from mospay_shared.chassis.service_tokens import TokenVerifier
from mospay_shared.chassis.settings import ServiceSettings
from mospay_shared.chassis.workers import Worker

log = structlog.get_logger()
Step = Callable[[], Awaitable[None]]
LOOK_SECONDS = 0.5  # in which retries that are due are looked for once, for all queues


class Service:
    """What `app.py` wires. `name` is the service's name on the wire (`payment-router`)."""

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        *,
        migrations_folder: Path,
        serves_without_broker: bool = False,
        title: str = "",
        description: str = "",
    ) -> None:
        self.name, self.settings, self.migrations_folder = name, settings, migrations_folder
        self._serves_without_broker = serves_without_broker
        self.database = Database(name, settings)
        self.broker = Broker(settings.broker_url.get_secret_value(), name)
        self.relay = Relay(name, self.database, self.broker)
        self.inbox = Inbox(name, self.database, settings.inbox_attempts)
        self.verifier = TokenVerifier(name, settings.trusted_keys)
        self.subscriptions: list[Subscription] = []
        self.trace_sources: list[TraceSource] = []
        self.streamed: dict[str, int] = {}  # paths that take a file in pieces, with its limit
        self.stopping = asyncio.Event()
        self.broken = False  # a background loop has ended: nobody does its work any more
        self._workers: list[Worker] = []
        self._consumers: list[Consumer] = []
        self._opening: list[Step] = []
        self._draining: list[Step] = []
        self._closing: list[Step] = []
        self._migrated = False
        self.app = FastAPI(
            title=title or f"MosPay {name}",
            description=description,
            version="1.0.0",
            lifespan=self._lifespan,
            docs_url=None,
            redoc_url=None,
            # our own middleware does this; FastAPI would look for providers at every request
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )
        install_problems(self.app)
        self.app.add_middleware(
            Edge, body_limit_bytes=settings.body_limit_bytes, streamed=self.streamed
        )
        self.app.include_router(operations_router(self))

    def subscribe(self, *subscriptions: Subscription) -> None:
        """Add queues this service reads."""
        self.subscriptions.extend(subscriptions)

    def work(self, *added: Worker) -> None:
        """Add workers."""
        self._workers.extend(added)

    def on_open(self, step: Step) -> None:
        """Run a step after the pools are open and before anything starts."""
        self._opening.append(step)

    def on_drain(self, step: Step) -> None:
        """Run a step after consuming has stopped and before the relay's last flush."""
        self._draining.append(step)

    def on_close(self, step: Step) -> None:
        """Run a step at the very end, before the pools close."""
        self._closing.append(step)

    async def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether traffic may come, and the checks behind the answer."""
        roles = self.settings.roles
        detached = [
            s.queue.name
            for s, c in zip(self.subscriptions, self._consumers, strict=False)
            if not c.attached
        ]
        migrated = await self._is_migrated()
        broker = not detached and ("consume" in roles or self.broker.connected("publish"))
        ready = migrated and not self.broken and (broker or self._serves_without_broker)
        return ready, {
            "migrations": "done" if migrated else "missing",
            "broker": "up" if broker else "down",
            "detached": detached,
        }

    async def _is_migrated(self) -> bool:
        if not self._migrated:
            with contextlib.suppress(*DATABASE_DOWN, asyncpg.PostgresError):
                self._migrated = await migrations.at_head(self.database, self.migrations_folder)
        return self._migrated and await self.database.alive()

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        roles = set(self.settings.roles)
        await self.database.open()
        for step in self._opening:
            await step()
        background = self._start(roles)
        # What is here now stays: collections look at what requests made, and less often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        log.info("service_started", roles=sorted(roles))
        try:
            yield
        finally:
            await self._stop(background)

    def _start(self, roles: set[str]) -> dict[str, list[asyncio.Task[None]]]:
        tasks: dict[str, list[asyncio.Task[None]]] = {"consume": [], "work": [], "relay": []}
        if "consume" in roles:
            away_seconds = self.settings.consumer_away_seconds
            self._consumers = [
                Consumer(self.broker, self.inbox, s, away_seconds) for s in self.subscriptions
            ]
            tasks["consume"] = [asyncio.create_task(c.run()) for c in self._consumers]
        if "work" in roles:
            own = [
                workers.keep_partitions(self.database, self.settings.inbox_retention_days),
                workers.watch_queues(self.database, self.name),
                *self._retries(),
                DeadLetters(self.name, self.broker, self.inbox, self.subscriptions).worker,
            ]
            tasks["work"] = [asyncio.create_task(w.run()) for w in (*self._workers, *own)]
        if "relay" in roles:
            tasks["relay"] = [asyncio.create_task(self.relay.run())]
        for task in (task for group in tasks.values() for task in group):
            task.add_done_callback(self._ended)
        return tasks

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Take note of a loop that ended by itself: this process must be replaced."""
        if not task.cancelled() and not self.stopping.is_set():
            self.broken = True
            log.critical("background_task_ended", exc_info=task.exception())

    def _retries(self) -> list[Worker]:
        """Return a worker for the retries of each queue; whether any is due is asked for all."""
        queues = {s.queue.name: s for s in self.subscriptions}
        rows = "inbox where queue = '{}' and state = 'retry' and next_at <= now()"
        due = self.database.dues({queue: rows.format(queue) for queue in queues}, LOOK_SECONDS)
        return [
            Worker(f"retry:{queue}", functools.partial(self.inbox.retry_due, s), due=due[queue])
            for queue, s in queues.items()
        ]

    async def _stop(self, background: dict[str, list[asyncio.Task[None]]]) -> None:
        self.stopping.set()
        seconds = self.settings.shutdown_seconds
        await asyncio.gather(*(c.stop(seconds / 3) for c in self._consumers))
        await _cancel(background["consume"] + background["work"])
        for step in self._draining:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(step(), seconds / 2)
        await _cancel(background["relay"])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.relay.flush(), 5)
        for step in self._closing:
            await step()
        await self.broker.close()
        await self.database.close()
        log.info("service_stopped")


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: a library may swallow one cancellation on its way."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.5)
