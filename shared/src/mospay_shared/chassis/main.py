"""The command line of every service: run, `migrate`, `openapi`, `asyncapi`."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import orjson
import uvicorn

from mospay_shared.chassis import asyncapi, logs, migrations, telemetry
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.settings import ServiceSettings

TICK_SECONDS = 1.0
_PLACEHOLDERS = {
    "database_url": "postgresql://none",
    "worker_database_url": "postgresql://none",
    "broker_url": "amqp://none",
    "http_port": "1",
}


class _Server(uvicorn.Server):
    """Tells the service first, so that waiting requests get their answer before the drain."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def main_loop(self) -> None:
        """Wait for the end: uvicorn looks ten times a second, which costs an idle house a lot."""
        ticks = 0
        while not await self.on_tick(ticks):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._service.stopping.wait(), TICK_SECONDS)
            if self._service.stopping.is_set():
                await asyncio.sleep(0.1)
            ticks += 10  # every tenth of uvicorn's own makes the Date header anew

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown on SIGTERM or SIGINT."""
        self._service.stopping.set()
        super().handle_exit(sig, frame)


def run(build: Callable[[], Service]) -> None:
    """Run the command named on the command line (nothing: serve until SIGTERM)."""
    command = sys.argv[1] if len(sys.argv) > 1 else "serve"
    if command == "serve":
        asyncio.set_event_loop_policy(_uvloop_policy())
        asyncio.run(_serve(build))
        return
    service = build()
    if command == "migrate":
        _migrate(service)
    elif command in ("openapi", "asyncapi"):
        document = service.app.openapi() if command == "openapi" else asyncapi.document(service)
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        sys.stdout.buffer.write(orjson.dumps(document, option=options))
    else:
        sys.exit(f"unknown command {command!r}: use serve, migrate, openapi or asyncapi")


def _uvloop_policy() -> asyncio.AbstractEventLoopPolicy:
    import uvloop

    policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
    return policy


async def _serve(build: Callable[[], Service]) -> None:
    service = build()
    settings = service.settings
    logs.configure_logs(service.name, settings.log_level)
    telemetry.configure_tracing(service.name)
    config = uvicorn.Config(
        service.app,
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # uvicorn would believe any local peer; services have a setting
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.shutdown_seconds),
        h11_max_incomplete_event_size=64 * 1024,
    )
    await _Server(config, service).serve()


def _migrate(service: Service) -> None:
    """Bring the database to the newest revision and declare this service's queues."""
    url = service.settings.migration_database_url
    if url is None:
        sys.exit("set the service's …_MIGRATION_DATABASE_URL: migrations run as the owner")
    migrations.migrate(service.migrations_folder, url.get_secret_value())
    if not service.broker.url.startswith("amqp://none"):
        asyncio.run(service.broker.declare([s.queue for s in service.subscriptions]))


def placeholder_environment(
    settings: type[ServiceSettings], extra: dict[str, str]
) -> dict[str, str]:
    """Return values that let a document command build the service without an environment."""
    prefix = settings.model_config.get("env_prefix", "")
    return {f"{prefix}{key.upper()}": value for key, value in (_PLACEHOLDERS | extra).items()}


def migrations_beside(package_file: str) -> Path:
    """Return the `migrations/` folder of the service whose package file this is."""
    return Path(package_file).resolve().parents[2] / "migrations" / "versions"
