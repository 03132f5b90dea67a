"""The notifier in this process, and a real receiver it delivers to."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from mospay_notifier import usecases
from mospay_notifier.app import create_service
from mospay_notifier.settings import NotifierSettings
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.ids import new_id


@dataclass
class Receiver:
    """An HTTP server that answers as told and keeps what came."""

    url: str = ""
    answers: list[web.Response] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    hang: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.Response:
        """Take one POST."""
        self.got.append((dict(request.headers), await request.read()))
        if self.hang is not None:
            await self.hang.wait()
        return self.answers.pop(0) if self.answers else web.Response(status=204)

    async def wait(self, count: int) -> None:
        """Wait until so many POSTs came."""
        for _ in range(750):
            if len(self.got) >= count:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{len(self.got)} of {count} webhooks came")


@dataclass
class Stage:
    """The running notifier with one client, whose endpoint is the receiver."""

    service: Service
    settings: NotifierSettings
    client_id: str = field(default_factory=lambda: new_id("cli"))

    async def endpoint(self, url: str, types: list[str] | None = None) -> tuple[str, str]:
        """Make an endpoint of the client."""
        sealer = Sealer(self.settings.secrets_key.get_secret_value())
        async with self.service.database.transaction() as tx:
            return await usecases.create_endpoint(
                tx,
                sealer,
                client_id=self.client_id,
                mode="test",
                url=url,
                event_types=types or [],
                limit=20,
            )

    async def state(self, payment_id: str, wanted: str) -> None:
        """Wait until a payment's deliveries are all in a state."""
        for _ in range(750):
            async with self.service.database.transaction() as tx:
                rows = await tx.fetch(
                    "select state from deliveries where payment_id = $1", payment_id
                )
            if rows and all(row["state"] == wanted for row in rows):
                return
            await asyncio.sleep(0.02)
        raise AssertionError([row["state"] for row in rows])


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    made = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{port}/hook"
    yield made
    if made.hang:
        made.hang.set()
    await runner.cleanup()


@pytest.fixture(scope="session")
def notifier_env(service_env: Callable[..., dict[str, str]]) -> dict[str, str]:
    """The complete environment; attempts follow each other quickly."""
    return service_env(
        "notifier", NOTIFIER_SCHEDULE_SECONDS="0,0.1,0.1,0.1", NOTIFIER_TIMEOUT_SECONDS="2"
    )


@pytest.fixture
async def stage(
    notifier_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """A running notifier."""
    for name, value in notifier_env.items():
        monkeypatch.setitem(os.environ, name, value)
    settings = NotifierSettings()
    service = create_service(settings)
    async with service.app.router.lifespan_context(service.app):
        yield Stage(service, settings)
