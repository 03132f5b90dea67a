"""Limits: the stricter one of service and assignment, and the day a payment counts in."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mospay_shared.contracts import LimitsV1


def stricter(limits: Iterable[LimitsV1]) -> LimitsV1:
    """Return the limits under which all of these hold: the highest least, the lowest most."""
    given = list(limits)

    def lowest(name: str) -> int | None:
        found = [value for one in given if (value := getattr(one, name)) is not None]
        return min(found, default=None)

    least = [one.min_minor for one in given if one.min_minor is not None]
    return LimitsV1(
        min_minor=max(least, default=None),
        max_minor=lowest("max_minor"),
        daily_minor=lowest("daily_minor"),
        daily_phone_minor=lowest("daily_phone_minor"),
    )


@dataclass(frozen=True, slots=True)
class Daily:
    """What a payment has to fit in on `day`, the client's own date; minor units, None is no limit.

    `phone_hash` is the keyed hash under which one number's payments are counted.
    """

    day: dt.date
    daily_minor: int | None
    phone_minor: int | None
    phone_hash: bytes | None


def local_day(instant: dt.datetime, time_zone: str) -> dt.date:
    """Return the date of an instant where the client is; UTC where the zone is not known."""
    return instant.astimezone(_zone(time_zone)).date()


@lru_cache(maxsize=512)
def _zone(name: str) -> dt.tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return dt.UTC
