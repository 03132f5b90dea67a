"""Time into portal-api: the one look behind all open streams, and housekeeping."""

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker

from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.usecases import people
from mospay_portal_api.usecases.live import Feed


def stream_feed(feed: Feed, settings: PortalSettings) -> Worker:
    """Return the worker that looks for new stream rows while anybody listens."""
    return Worker("portal.feed", feed.turn, settings.stream_poll_seconds)


def housekeeping(database: Database, settings: PortalSettings) -> Worker:
    """Return the worker that drops ended sessions and old stream rows."""

    async def turn() -> int:
        async with database.transaction() as tx:
            await people.forget_old(tx, settings)
        return 0

    return Worker("portal.housekeeping", turn, idle_seconds=60)
