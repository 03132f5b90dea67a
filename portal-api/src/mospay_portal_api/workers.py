"""Time into portal-api: what has ended is forgotten."""

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker

from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.usecases import live, people


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
