"""The notifier in this process, over the real stack, and real receivers it delivers to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import httpx
import pytest
from aiohttp import web
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.pytest_plugin import ServiceEnv
from mospay_notifier import usecases
from mospay_notifier.app import create_service
from mospay_notifier.settings import NotifierSettings
from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentEventV1, RefundEventV1, outgoing
from mospay_shared.ids import new_id

WAIT_SECONDS = 15.0
# Somebody who listens, as the reporter does: an event nobody may miss is not published to nobody.
WEBHOOK_EVENTS = QueueSpec("tests.webhooks", events=("webhook.delivered.v1", "webhook.failed.v1"))
PREFIX = "NOTIFIER_"
SCOPES = "endpoints:write endpoints:read deliveries:read trace:read"


async def until(true: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Wait until `true()` gives something true, and return that."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not (found := await true()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None
    return found


@dataclass
class Receiver:
    """An HTTP server that answers as told, then 204, and keeps what came; `hold` keeps callers."""

    url: str = ""
    answers: list[web.Response] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    hold: asyncio.Event | None = None
    open: int = 0
    most_open: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        """Take one request."""
        self.paths.append(f"{request.method} {request.path}")
        self.got.append(({k.lower(): v for k, v in request.headers.items()}, await request.read()))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if self.hold is not None:
                await self.hold.wait()
        finally:
            self.open -= 1
        return self.answers.pop(0) if self.answers else web.Response(status=204)

    async def wait(self, count: int) -> None:
        """Wait until so many requests came."""

        async def came() -> bool:
            return len(self.got) >= count

        await until(came, f"{count} webhooks, only {len(self.got)}")


@dataclass
class Stage:
    """A notifier with one client of its own."""

    service: Service
    settings: NotifierSettings
    portal_seed: str
    client_id: str = field(default_factory=lambda: new_id("cli"))

    async def endpoint(
        self,
        url: str,
        types: list[str] | None = None,
        *,
        client_id: str | None = None,
        mode: str = "test",
    ) -> tuple[str, str]:
        """Make an endpoint; return its id and secret."""
        sealer = Sealer(self.settings.secrets_key.get_secret_value())
        async with self.service.database.transaction() as tx:
            return await usecases.create_endpoint(
                tx,
                sealer,
                client_id=client_id or self.client_id,
                mode=mode,
                url=url,
                event_types=types or [],
                limit=20,
            )

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """Read what is stored, across tenants."""
        async with self.service.database.transaction() as tx:
            return await tx.fetch(sql, *args)

    async def run(self, sql: str, *args: Any) -> None:
        """Change what is stored."""
        async with self.service.database.transaction() as tx:
            await tx.run(sql, *args)

    async def state(self, payment_id: str, wanted: str) -> None:
        """Wait until a payment has deliveries and all are in a state."""

        async def reached() -> bool:
            rows = await self.fetch("select state from deliveries where payment_id=$1", payment_id)
            return bool(rows) and all(row["state"] == wanted for row in rows)

        await until(reached, f"{payment_id} {wanted}")

    async def handled(self, event_id: str, state: str = "done") -> None:
        """Wait until the inbox holds an event in a state."""

        async def there() -> bool:
            rows = await self.fetch("select state from inbox where event_id=$1", event_id)
            return [row["state"] for row in rows] == [state]

        await until(there, f"{event_id} {state} in the inbox")

    async def attempts(self, payment_id: str) -> list[Any]:
        """The stored attempts of a payment's deliveries."""
        return await self.fetch(
            "select a.* from delivery_attempts a join deliveries d on d.id = a.delivery_id "
            "where d.payment_id = $1 order by a.number",
            payment_id,
        )

    async def publish(self, key: str, *events: bytes, exchange: str = "mospay.events") -> None:
        """Publish one pack of encoded events."""
        connection = await aio_pika.connect(self.service.broker.url)
        async with connection, connection.channel() as channel:
            target = await channel.get_exchange(exchange)
            await target.publish(aio_pika.Message(b"[" + b",".join(events) + b"]"), key)

    async def tell(self, *news: PaymentEventV1 | RefundEventV1) -> list[str]:
        """Publish events of payments and refunds, each as its status says; return their ids."""
        ids = []
        for body in news:
            kind = "refund" if isinstance(body, RefundEventV1) else "payment"
            key = f"{kind}.{body.status}.v1"
            event = outgoing(key, body.payment_id, body, source="payment-router")
            ids.append(event.id)
            await self.publish(key, event.body)
        return ids

    async def call(
        self, method: str, path: str, *, scope: str = SCOPES, json: Any = None, **tenant: str
    ) -> httpx.Response:
        """Call as portal-api would: for the operator, or for the tenant named."""
        token = TokenSigner("portal-api", self.portal_seed).token("notifier", scope, **tenant)
        transport = httpx.ASGITransport(app=self.service.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://notifier") as client:
            return await client.request(
                method, path, json=json, headers={"Authorization": f"Bearer {token}"}
            )


@asynccontextmanager
async def _served() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield made
    finally:
        if made.hold:
            made.hold.set()
        await runner.cleanup()


@pytest.fixture
async def receivers() -> AsyncIterator[Callable[[], Awaitable[Receiver]]]:
    """Makes receivers, each on a free port."""
    async with AsyncExitStack() as stack:

        async def make() -> Receiver:
            return await stack.enter_async_context(_served())

        yield make


@pytest.fixture
async def receiver(receivers: Callable[[], Awaitable[Receiver]]) -> Receiver:
    """One receiver."""
    return await receivers()


@pytest.fixture(scope="session")
def notifier_env(service_env: ServiceEnv) -> dict[str, str]:
    """The complete environment; attempts follow each other quickly, and few calls are open."""
    return service_env(
        "notifier",
        NOTIFIER_SCHEDULE_SECONDS="0,0.1,0.1,0.1",
        NOTIFIER_TIMEOUT_SECONDS="1.5",
        NOTIFIER_LEASE_SECONDS="2.5",
        NOTIFIER_IN_FLIGHT="8",
        NOTIFIER_IN_FLIGHT_ENDPOINT="3",
        NOTIFIER_IN_FLIGHT_CLIENT="5",
        NOTIFIER_ENDPOINTS_LIMIT="4",
    )


MakeStage = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def stages(notifier_env: dict[str, str], infrastructure: Cluster) -> AsyncIterator[MakeStage]:
    """Makes running notifiers; settings may be changed by name."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Stage:
            values = {k.removeprefix(PREFIX).lower(): v for k, v in notifier_env.items()}
            settings = NotifierSettings(**(values | changes))
            service = create_service(settings)
            await service.broker.declare([WEBHOOK_EVENTS])
            await stack.enter_async_context(service.app.router.lifespan_context(service.app))
            return Stage(service, settings, infrastructure.keys["portal_signing"])

        yield make


@pytest.fixture
async def stage(stages: MakeStage) -> Stage:
    """A whole notifier."""
    return await stages()


@pytest.fixture
async def quiet(stages: MakeStage) -> Stage:
    """A notifier that answers HTTP alone: nothing runs in its background."""
    return await stages(roles="http")
