"""Pages of payments: filters, orders that end in the id, and the cursor between two pages."""

import base64
import binascii
import datetime as dt
from dataclasses import dataclass
from typing import Any

import orjson

from mospay_reporter.domain.facts import BIGINT
from mospay_reporter.domain.periods import FIRST, LAST, QueryError

EXACT_COUNT = 10_000  # rows that are summed one by one; larger sets only as a sample


@dataclass(frozen=True, slots=True)
class Filters:
    """Which payments a list holds; empty or None means any. `text` is an id, or how a reference
    or a customer's id begins. `since` is inclusive, `until` exclusive; amounts in minor units.
    """

    mode: str
    client_id: str | None = None
    currency: str | None = None
    statuses: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    min_minor: int | None = None
    max_minor: int | None = None
    text: str | None = None

    @property
    def counted_by_rollups(self) -> bool:
        """Say whether rollups know these filters, so that their sums are exact at any size."""
        return self.min_minor is None and self.max_minor is None and self.text is None


@dataclass(frozen=True, slots=True)
class Summary:
    """A filtered set in figures. Sums of several currencies don't exist: `currency` is None and
    `volume_minor` 0 then.
    """

    count: int
    count_is_exact: bool
    succeeded: int
    volume_minor: int
    currency: str | None


ORDERS: dict[str, tuple[str, ...]] = {
    "accepted_at": ("accepted_at", "payment_id"),
    "amount": ("amount_minor", "payment_id"),
    "status": ("status", "accepted_at", "payment_id"),
    "service": ("service", "accepted_at", "payment_id"),
}
SORTS = tuple(sign + name for name in ORDERS for sign in ("-", ""))


def order(sort: str) -> tuple[tuple[str, ...], bool]:
    """Return the columns of a sort, ending in the id, and whether it descends."""
    return ORDERS[sort.removeprefix("-")], sort.startswith("-")


def encode_cursor(sort: str, row: dict[str, Any]) -> str:
    """Return the place after `row` under a sort, as opaque text."""
    place = [sort, *(row[column] for column in order(sort)[0])]
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def decode_cursor(sort: str, cursor: str) -> tuple[Any, ...]:
    """Return the values a cursor holds for the columns of `sort`; raises QueryError."""
    columns = order(sort)[0]
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(place, list) or len(place) != len(columns) + 1 or place[0] != sort:
            raise ValueError("belongs to another order")
        return tuple(
            _cursor_value(column, value) for column, value in zip(columns, place[1:], strict=True)
        )
    except (ValueError, TypeError, binascii.Error) as error:
        message = "is not one that this list gave under this order"
        raise QueryError("cursor", "invalid_cursor", message) from error


def _cursor_value(column: str, value: Any) -> Any:
    if column == "accepted_at":
        instant = dt.datetime.fromisoformat(value)
        if instant.tzinfo is None or not FIRST <= instant <= LAST:
            raise ValueError("no such time")
        return instant
    if column == "amount_minor":
        if type(value) is not int or not 0 <= value < BIGINT:
            raise ValueError("no such amount")
        return value
    if not isinstance(value, str) or not 0 < len(value) <= 80 or "\0" in value:
        raise ValueError("no such text")
    return value


def encode_time_cursor(at: dt.datetime, row_id: str) -> str:
    """Return the place after a row of a list that is ordered by time and id, as opaque text."""
    return base64.urlsafe_b64encode(orjson.dumps([at, row_id])).decode().rstrip("=")


def decode_time_cursor(cursor: str) -> tuple[dt.datetime, str]:
    """Return the time and the id a cursor holds; raises QueryError."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        at, row_id = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        return _cursor_value("accepted_at", at), _cursor_value("id", row_id)
    except (ValueError, TypeError, binascii.Error) as error:
        message = "is not one that this list gave"
        raise QueryError("cursor", "invalid_cursor", message) from error
