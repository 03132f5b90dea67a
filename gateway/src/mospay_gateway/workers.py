"""Time in: news that never came, payments nobody has seen, what is to be forgotten."""

import asyncio
import datetime as dt
from dataclasses import dataclass

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker
from prometheus_client import Gauge

from mospay_gateway.clients import RouterClient
from mospay_gateway.storage import payments
from mospay_gateway.usecases.api_log import TURN_LIMIT, ApiLog
from mospay_gateway.usecases.news import take_news
from mospay_gateway.usecases.waiting import Waiters

UNSEEN = Gauge(
    "mospay_gateway_unseen_payments",
    "Payments accepted a while ago of which the router has said nothing",
)
CHECK_LIMIT = 20  # payments a turn; they are asked for side by side


@dataclass(frozen=True, slots=True)
class Ages:
    """How old a thing gets before a worker looks at it."""

    unseen: dt.timedelta
    news_check: dt.timedelta
    secrets: dt.timedelta
    idempotency: dt.timedelta
    callbacks: dt.timedelta


def workers(ages: Ages, database: Database, router: RouterClient, waiters: Waiters) -> list[Worker]:
    """Return the workers that any one process may run."""

    async def count_unseen() -> int:
        async with database.transaction() as tx:
            UNSEEN.set(await payments.count_unseen(tx, ages.unseen))
        return 0

    async def ask_for_news() -> int:
        """An event that got lost on the way to us is repaired by asking."""
        async with database.transaction() as tx:
            due = await payments.claim_checks(tx, ages.news_check, CHECK_LIMIT)
        found = await asyncio.gather(*(router.news(*one) for one in due))
        news = [one for one in found if one is not None]
        if news:
            async with database.transaction() as tx:
                await take_news(tx, news, waiters)
        return len(due)

    async def forget() -> int:
        """Erase secrets of payments that take too long; drop records past their time."""
        async with database.transaction() as tx:
            done = await payments.erase_secrets(tx, ages.secrets)
        async with database.transaction() as tx:
            done += await payments.forget_keys(tx, ages.idempotency)
        async with database.transaction() as tx:
            done += await payments.forget_callbacks(tx, ages.callbacks)
        return done

    return [
        Worker("gateway.unseen", count_unseen, idle_seconds=2.0),
        Worker("gateway.news", ask_for_news, idle_seconds=2.0),
        Worker("gateway.forget", forget, idle_seconds=60.0),
    ]


def api_log_worker(api_log: ApiLog, flush_seconds: float) -> Worker:
    """Return the worker that publishes this process's own calls; every process runs it."""

    async def turn() -> int:
        sent = await api_log.publish()
        return sent if sent == TURN_LIMIT else 0  # only a full turn is followed at once

    return Worker("gateway.api_log", turn, idle_seconds=flush_seconds)
