"""Periods: the points of a series, and the tables that answer each stretch exactly."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
FIRST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # nothing asked for may lie outside of these two
LAST = dt.datetime(2200, 1, 1, tzinfo=dt.UTC)
HOUR_BUCKETS, DAY_BUCKETS = 31 * 24 + 1, 400  # points of a series at the most


class QueryError(Exception):
    """A request that can't be answered; `field` is the parameter to change, `code` why."""

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(message)
        self.field, self.code = field, code


@dataclass(frozen=True, slots=True)
class Bucket:
    """A point of a series: where it starts on the clock, and the part of the period it covers."""

    at: dt.datetime
    since: dt.datetime
    until: dt.datetime


def _floor(instant: dt.datetime, granularity: str, zone: ZoneInfo) -> dt.datetime:
    if granularity == "hour":
        return instant.replace(minute=0, second=0, microsecond=0)
    return local_midnight(instant, zone)


def _midnight(date: dt.date, zone: ZoneInfo) -> dt.datetime:
    """Return when a local day begins; where a clock change skips midnight, the first instant."""
    return dt.datetime(date.year, date.month, date.day, tzinfo=zone).astimezone(dt.UTC)


def local_midnight(instant: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """Return the UTC instant at which the local day of `instant` began."""
    return _midnight(instant.astimezone(zone).date(), zone)


def buckets(
    since: dt.datetime, until: dt.datetime, granularity: str, zone: ZoneInfo
) -> list[Bucket]:
    """Cut [since, until) at UTC hours or at local midnights; the first and last may be partial.

    Raises QueryError for an empty period or one with too many points.
    """
    if until <= since:
        raise QueryError("to", "empty_period", "must be later than `from`")
    limit = HOUR_BUCKETS if granularity == "hour" else DAY_BUCKETS
    if (until - since) / (HOUR if granularity == "hour" else DAY) > limit:
        raise QueryError("from", "period_too_long", f"a series has at most {limit} points")
    found, at = [], _floor(since, granularity, zone)
    while at < until:
        if granularity == "hour":
            after = at + HOUR
        else:
            after = _midnight(at.astimezone(zone).date() + DAY, zone)
        found.append(Bucket(at, max(at, since), min(after, until)))
        at = after
    return found


Span = tuple[dt.datetime, dt.datetime]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a span that one table answers: whole days, whole hours, or rows."""

    span: int
    grain: str  # day | hour | row
    since: dt.datetime
    until: dt.datetime


def _ceil(instant: dt.datetime, step: dt.timedelta) -> dt.datetime:
    rest = (instant - FIRST) % step
    return instant + (step - rest if rest else dt.timedelta(0))


def pieces(spans: Sequence[Span], *, days: bool = True) -> list[Piece]:
    """Cut each span into whole UTC days, whole UTC hours and the rows at its edges, exactly.

    Without `days`, for what has no daily rollup, hours are the coarsest.
    """
    found: list[Piece] = []

    def cut(index: int, grain: str, since: dt.datetime, until: dt.datetime) -> None:
        if since >= until:
            return
        if grain == "row":
            found.append(Piece(index, grain, since, until))
            return
        step, finer = (DAY, "hour") if grain == "day" else (HOUR, "row")
        first = _ceil(since, step)
        last = until - (until - FIRST) % step
        if first >= last:
            cut(index, finer, since, until)
            return
        cut(index, finer, since, first)
        found.append(Piece(index, grain, first, last))
        cut(index, finer, last, until)

    for index, (since, until) in enumerate(spans):
        cut(index, "day" if days else "hour", since, until)
    return found


def months(since: dt.datetime, until: dt.datetime) -> tuple[dt.date, dt.date]:
    """Return the first and last month that ids of payments accepted in a period can carry.

    An id is made just before its payment is accepted; a day on both sides is more than enough.
    """
    return (since - DAY).date().replace(day=1), (until + DAY).date().replace(day=1)
