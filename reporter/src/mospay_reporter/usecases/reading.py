"""What the reporter answers: overviews of periods and summaries of filtered sets."""

import datetime as dt
from collections import Counter
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.operations import Hop

from mospay_reporter.domain.facts import STATUSES
from mospay_reporter.domain.pages import Filters, Summary
from mospay_reporter.domain.periods import FIRST, LAST, Bucket, buckets, local_midnight, pieces
from mospay_reporter.storage import figures, pages, refunds
from mospay_reporter.storage.figures import Figures

_REFUND_OUTCOMES = {"succeeded": "ok", "failed": "failed", "pending": "pending"}


@dataclass(frozen=True, slots=True)
class Ask:
    """What an overview is asked for; `currency` None means the one with the most payments."""

    mode: str
    since: dt.datetime
    until: dt.datetime
    granularity: str
    zone: ZoneInfo
    client_id: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """Figures of one currency over a period, its points, the period before, and today."""

    as_of: dt.datetime
    currency: str | None
    currencies: list[str]
    points: list[tuple[Bucket, Figures]]
    previous: Figures
    payments_today: int
    calls_today: int


async def overview(tx: Tx, ask: Ask, now: dt.datetime) -> Overview:
    """Read an overview; every figure is the exact group-by of the rows. Raises QueryError."""
    points = buckets(ask.since, ask.until, ask.granularity, ask.zone)
    length = ask.until - ask.since
    today = (local_midnight(now, ask.zone), now)
    spans = [*((b.since, b.until) for b in points), (ask.since - length, ask.since), today]
    found = await figures.payments(tx, pieces(spans), mode=ask.mode, client_id=ask.client_id)
    totals: Counter[str] = Counter()
    for figure in found:
        totals[figure.currency] += figure.counts["payments"] if figure.span < len(points) else 0
    currencies = sorted({figure.currency for figure in found})
    # the busiest of the period; the alphabet settles a tie
    busiest = min(currencies, key=lambda name: (-totals[name], name), default=None)
    currency = ask.currency or busiest
    by_span = {figure.span: figure for figure in found if figure.currency == currency}

    def of(span: int) -> Figures:
        return by_span.get(span) or figures.none(span, currency or "")

    return Overview(
        as_of=now,
        currency=currency,
        currencies=currencies,
        points=[(bucket, of(span)) for span, bucket in enumerate(points)],
        previous=of(len(points)),
        payments_today=of(len(points) + 1).counts["payments"],
        calls_today=await figures.api_calls(
            tx, pieces([today], days=False), mode=ask.mode, client_id=ask.client_id
        ),
    )


async def refund_hops(tx: Tx, subject: str) -> list[Hop]:
    """Return the refunds of a payment as hops of its trace, each as it stands."""
    return [
        Hop(
            id=row["refund_id"],
            service="reporter",
            kind="state",
            name=f"refund.{row['status']}",
            received_at=row["requested_at"],
            handled_at=row["changed_at"],
            outcome=_REFUND_OUTCOMES.get(row["status"], "unknown"),
            detail=row["reason_message"] or row["reason_code"],
            data={
                "refund_id": row["refund_id"],
                "amount_minor": row["amount_minor"],
                "currency": row["currency"],
                "version": row["version"],
                "late": row["late"],
                "over_refund": row["over_refund"],
            },
        )
        for row in await refunds.of_payment(tx, subject)
    ]


async def summarise(tx: Tx, filters: Filters) -> Summary:
    """Sum up a filtered set, exactly wherever that takes no long look.

    Rollups answer what they know at any size. Filters they don't know (amounts, text) are summed
    from the rows up to EXACT_COUNT; beyond, a sample is scaled to the planner's idea of how many
    of the rollups' payments pass the filter.
    """
    if filters.counted_by_rollups:
        return await _rolled_up(tx, filters)
    sample = await pages.summary(tx, filters)
    if sample.count_is_exact:
        return sample
    whole = replace(filters, min_minor=None, max_minor=None, text=None)
    all_of_it = await _rolled_up(tx, whole)
    estimate = round(all_of_it.count * await pages.share(tx, filters, whole))
    count = max(sample.count, min(estimate, all_of_it.count))
    return replace(
        sample,
        count=count,
        succeeded=sample.succeeded * count // sample.count,
        volume_minor=sample.volume_minor * count // sample.count if all_of_it.currency else 0,
        currency=all_of_it.currency,
    )


async def _rolled_up(tx: Tx, filters: Filters) -> Summary:
    found = await figures.payments(
        tx,
        pieces([(filters.since or FIRST, filters.until or LAST)]),
        mode=filters.mode,
        client_id=filters.client_id,
        services=filters.services,
    )
    statuses = filters.statuses or STATUSES
    wanted = [
        f
        for f in found
        if filters.currency in (None, f.currency) and any(f.counts[s] for s in statuses)
    ]
    counted = "succeeded" in statuses
    one = len(wanted) == 1
    return Summary(
        count=sum(f.counts[status] for f in wanted for status in statuses),
        count_is_exact=True,
        succeeded=sum(f.counts["succeeded"] for f in wanted) if counted else 0,
        volume_minor=wanted[0].volume_minor if one and counted else 0,
        currency=wanted[0].currency if one else None,
    )
