"""Time into portal-api: what has ended is forgotten, what the gateway must know is told again."""

import contextlib
from typing import Any

import structlog
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker
from prometheus_client import Gauge

from mospay_portal_api.clients import House, HouseError, Refused
from mospay_portal_api.domain.people import Asker
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.usecases import confirming, live, people

log = structlog.get_logger()
UNCONFIRMED = Gauge(
    "mospay_portal_unconfirmed",
    "Changes of credentials and clients that the gateway has not acknowledged",
    ["kind"],
)


def workers(database: Database, settings: PortalSettings) -> list[Worker]:
    """Return the workers that drop ended sessions and live rows past their time."""

    async def forget() -> int:
        await people.forget_ended(database, settings)
        return 0

    async def prune() -> int:
        return await live.prune(database, settings)

    return [
        Worker("portal.sessions", forget, idle_seconds=60),
        Worker("portal.stream", prune, idle_seconds=30),
    ]


def confirmations(house: House, database: Database, settings: PortalSettings) -> Worker:
    """Return the worker that tells the gateway of credentials and clients beside the message.

    A revocation must reach it while the broker is away. Each is pushed until acknowledged; what is
    not is counted in a gauge and shown as `confirmed: false`.
    """
    asker = Asker("portal-api", None, None)

    async def push(kind: str) -> None:
        bodies = await confirming.claim(database, kind, settings.push_retry_seconds)
        if bodies:
            try:
                await tell(kind, bodies)
            except Refused:
                if len(bodies) == 1:
                    raise
                for body in bodies:  # one that it does not take must not hold up the others
                    with contextlib.suppress(Refused):
                        await tell(kind, [body])

    async def tell(kind: str, bodies: list[dict[str, Any]]) -> None:
        path, key = f"/internal/v1/{kind}s/changed", f"{kind}s"
        await house.post("gateway", path, "credentials:write", asker, {key: bodies})
        await confirming.confirm(database, kind, bodies)

    async def turn() -> int:
        waiting = await confirming.waiting(database)
        for kind, number in waiting.items():
            UNCONFIRMED.labels(kind).set(number)
            try:
                while number > 0:
                    await push(kind)
                    number -= confirming.PUSH_LIMIT
            except HouseError as error:
                log.warning("gateway_not_told", kind=kind, waiting=number, reason=str(error)[:200])
        return 0

    return Worker("portal.confirmations", turn, idle_seconds=settings.push_poll_seconds)
