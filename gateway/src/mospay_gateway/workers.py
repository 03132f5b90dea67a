"""Time in: news that never came, payments nobody has seen, what is to be forgotten."""

import asyncio
import datetime as dt
import time
from dataclasses import dataclass

import structlog
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.workers import Worker
from prometheus_client import Counter, Gauge

from mospay_gateway.clients import CountsAway, RouterClient, SharedCounts
from mospay_gateway.domain.limits import Windows
from mospay_gateway.domain.payments import NeverSeen, News
from mospay_gateway.domain.refunds import Refund
from mospay_gateway.storage import counters, operations, payments, refunds, sales
from mospay_gateway.usecases.api_log import TURN_LIMIT, ApiLog
from mospay_gateway.usecases.limits import Limiter
from mospay_gateway.usecases.news import take_news, take_refund_news
from mospay_gateway.usecases.operations import announce_again, announce_refunds_again
from mospay_gateway.usecases.security import SecurityLog
from mospay_gateway.usecases.waiting import Waiters

log = structlog.get_logger()
UNSEEN = Gauge(
    "mospay_gateway_unseen_payments",
    "Payments accepted a while ago of which the router has said nothing",
)
LOST = Gauge(
    "mospay_gateway_lost_payments",
    "Open payments the router still did not know after the last announcement: a person must look",
)
UNSEEN_REFUNDS = Gauge(
    "mospay_gateway_unseen_refunds",
    "Refunds asked for over a minute ago of which the router has said nothing",
)
REANNOUNCED = Counter(
    "mospay_gateway_reannounced_payments", "Payments sent to the router again: it did not know them"
)
LOST_REFUNDS = Gauge(
    "mospay_gateway_lost_refunds",
    "Open refunds the router still did not know after the last announcement: a person must look",
)
REANNOUNCED_REFUNDS = Counter(
    "mospay_gateway_reannounced_refunds", "Refunds sent to the router again: it did not know them"
)
LIMITS_LOCAL = Gauge(
    "mospay_gateway_limits_local",
    "1 while rate limits are counted by this process alone because Redis is away, else 0",
)
LIMITS_TURN = 2_000  # windows a round trip
LIMITS_AWAY_SECONDS = 1.0  # how often an absent Redis is looked for
FORGET_SECONDS = 30.0
CHECK_LIMIT = 20  # payments a turn; they are asked for side by side


@dataclass(frozen=True, slots=True)
class Ages:
    """How old a thing gets before a worker looks at it."""

    unseen: dt.timedelta
    news_check: dt.timedelta
    secrets: dt.timedelta
    idempotency: dt.timedelta
    callbacks: dt.timedelta
    limit_counters: dt.timedelta
    sale_events: dt.timedelta
    reannounce: dt.timedelta
    last_refund_announcement: dt.timedelta


def workers(
    ages: Ages, database: Database, relay: Relay, router: RouterClient, waiters: Waiters
) -> list[Worker]:
    """Return the workers that any one process may run."""

    async def count_unseen() -> int:
        async with database.transaction() as tx:
            UNSEEN.set(await payments.count_unseen(tx, ages.unseen))
            LOST.set(await operations.count_given_up(tx))
            UNSEEN_REFUNDS.set(await refunds.count_unseen(tx))
            LOST_REFUNDS.set(await refunds.count_given_up(tx))
        return 0

    async def ask_for_news() -> int:
        """An event that got lost on the way to us is repaired by asking, a command by sending."""
        async with database.transaction() as tx:
            due = await payments.claim_checks(tx, ages.news_check, CHECK_LIMIT)
        found = await asyncio.gather(*(router.ask(*one) for one in due))
        lost = [one[0] for one, word in zip(due, found, strict=True) if isinstance(word, NeverSeen)]
        if lost:
            REANNOUNCED.inc(await announce_again(database, relay, lost, ages.reannounce))
        news = [one for one in found if isinstance(one, News)]
        if news:
            async with database.transaction() as tx:
                await take_news(tx, news, waiters)
        # a router that answers nothing is asked again after a pause, not at once about the next
        return len(due) if any(one is not None for one in found) else 0

    async def forget() -> int:
        """Erase secrets of payments that take too long; drop records past their time."""
        async with database.transaction() as tx:
            done = await payments.erase_secrets(tx, ages.secrets)
        async with database.transaction() as tx:
            done += await payments.forget_keys(tx, ages.idempotency)
        async with database.transaction() as tx:
            done += await payments.forget_callbacks(tx, ages.callbacks)
        async with database.transaction() as tx:
            done += await sales.forget(tx, ages.sale_events)
        today = dt.datetime.now(dt.UTC).date()
        async with database.transaction() as tx:
            done += await counters.forget_counters(tx, today - ages.limit_counters)
        return done

    return [
        Worker("gateway.unseen", count_unseen, idle_seconds=2.0),
        Worker("gateway.news", ask_for_news, idle_seconds=2.0),
        _refund_news_worker(ages, database, relay, router),
        Worker("gateway.forget", forget, idle_seconds=60.0),
    ]


def _refund_news_worker(
    ages: Ages, database: Database, relay: Relay, router: RouterClient
) -> Worker:
    """Return the worker that does for open refunds what `gateway.news` does for payments."""

    async def turn() -> int:
        async with database.transaction() as tx:
            due = await refunds.claim_checks(tx, ages.news_check, CHECK_LIMIT)
        found = await asyncio.gather(*(router.ask_refund(*one) for one in due))
        lost = [one[0] for one, word in zip(due, found, strict=True) if isinstance(word, NeverSeen)]
        if lost:
            last_after = ages.last_refund_announcement
            REANNOUNCED_REFUNDS.inc(
                await announce_refunds_again(database, relay, lost, ages.reannounce, last_after)
            )
        news = [one for one in found if isinstance(one, Refund)]
        if news:
            async with database.transaction() as tx:
                await take_refund_news(tx, news)
        return len(due) if any(one is not None for one in found) else 0

    return Worker("gateway.refund_news", turn, idle_seconds=2.0)


def api_log_worker(api_log: ApiLog, flush_seconds: float) -> Worker:
    """Return the worker that publishes this process's own calls; every process runs it."""

    async def turn() -> int:
        sent = await api_log.publish()
        return sent if sent == TURN_LIMIT else 0  # only a full turn is followed at once

    return Worker("gateway.api_log", turn, idle_seconds=flush_seconds)


def limits_worker(limiter: Limiter, counts: SharedCounts | None, seconds: float) -> Worker:
    """Return the worker that tells Redis what was used here and hears what others used."""
    LIMITS_LOCAL.set(1 if counts is None else 0)
    again_at = forget_at = 0.0
    away = False

    async def turn() -> int:
        nonlocal again_at, forget_at, away
        now = time.monotonic()
        if now >= forget_at:
            limiter.forget()
            forget_at = now + FORGET_SECONDS
        if counts is None or now < again_at:
            return 0
        taken = limiter.take_changes(LIMITS_TURN)
        told = [change for _, changes in taken for change in changes]
        if not told and not away:
            return 0
        try:
            totals = await counts.tell(told)
        except CountsAway as error:
            for windows, changes in taken:
                windows.put_back(changes)
            if not away:
                log.warning("limits_local", reason=str(error))
            LIMITS_LOCAL.set(1)
            away, again_at = True, time.monotonic() + LIMITS_AWAY_SECONDS
            return 0
        LIMITS_LOCAL.set(0)
        away = False
        for change, total in zip(told, totals, strict=True):
            Windows.correct(change, total)
        return 0

    return Worker("gateway.limits", turn, idle_seconds=seconds)


def security_worker(security: SecurityLog, seconds: float) -> Worker:
    """Return the worker that tells of this process's refusals once a window."""

    async def turn() -> int:
        await security.publish()
        return 0

    return Worker("gateway.security", turn, idle_seconds=seconds)
