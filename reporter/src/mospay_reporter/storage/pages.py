"""Pages of payments and their summaries, composed from the filters that were asked for."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from mospay_shared.chassis.database import Tx
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    Select,
    Text,
    and_,
    any_,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from mospay_reporter.domain.facts import EPOCH, month_of
from mospay_reporter.domain.pages import EXACT_COUNT, Filters, Summary, order
from mospay_reporter.domain.periods import FIRST, LAST, months
from mospay_reporter.tables import payment_facts as fact

_BEYOND = "\U0010ffff"  # sorts after every character, byte by byte
_ROW = (
    fact.c.payment_id,
    fact.c.client_id,
    fact.c.app_id,
    fact.c.mode,
    fact.c.service,
    fact.c.route,
    fact.c.status,
    fact.c.amount_minor,
    fact.c.currency,
    fact.c.fee_minor,
    fact.c.net_minor,
    fact.c.refunded_minor,
    fact.c.refunds_open_minor,
    fact.c.retry_of,
    fact.c.reference,
    fact.c.provider_reference,
    fact.c.customer_id,
    fact.c.product_name,
    fact.c.reason_code,
    fact.c.reason_message,
    fact.c.late,
    fact.c.accepted_at,
    fact.c.changed_at,
    fact.c.version,
)


class _Explain(Executable, ClauseElement):
    """The planner's view of a query, without running it."""

    inherit_cache = False

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement


@compiles(_Explain)
def _compile_explain(element: _Explain, compiler: SQLCompiler, **options: Any) -> str:
    return "EXPLAIN (FORMAT JSON) " + compiler.process(element.statement, **options)


def _any_of(column: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
    return column == any_(literal(list(values), ARRAY(Text)))


def _begins(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """A prefix as a range: an index serves it whatever the text is, which LIKE can't promise."""
    return and_(column >= text, column < text + _BEYOND)


def _month_condition(since: dt.datetime | None, until: dt.datetime | None) -> ColumnElement[bool]:
    first, last = months(since or FIRST, until or LAST)
    return or_(
        and_(fact.c.accepted_month >= first, fact.c.accepted_month <= last),
        fact.c.accepted_month == EPOCH,
    )


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [fact.c.status.is_not(None), fact.c.mode == filters.mode]
    if filters.client_id is not None:
        found.append(fact.c.client_id == filters.client_id)
    if filters.currency is not None:
        found.append(fact.c.currency == filters.currency)
    if filters.statuses:
        found.append(_any_of(fact.c.status, filters.statuses))
    if filters.services:
        found.append(_any_of(fact.c.service, filters.services))
    if filters.since is not None or filters.until is not None:
        found.append(_month_condition(filters.since, filters.until))
    if filters.since is not None:
        found.append(fact.c.accepted_at >= filters.since)
    if filters.until is not None:
        found.append(fact.c.accepted_at < filters.until)
    if filters.min_minor is not None:
        found.append(fact.c.amount_minor >= filters.min_minor)
    if filters.max_minor is not None:
        found.append(fact.c.amount_minor <= filters.max_minor)
    if filters.text is not None:
        found.append(
            or_(
                and_(
                    fact.c.accepted_month == month_of(filters.text),
                    fact.c.payment_id == filters.text,
                ),
                _begins(fact.c.reference, filters.text),
                _begins(fact.c.customer_id, filters.text),
            )
        )
    return found


async def page(
    tx: Tx, filters: Filters, *, sort: str, after: Sequence[Any] | None, limit: int
) -> list[dict[str, Any]]:
    """Return at most `limit` rows of a list, from the place `after` on."""
    names, descending = order(sort)
    columns = [fact.c[name] for name in names]
    statement = select(*_ROW).where(*_conditions(filters))
    if after is not None:
        place = tuple_(*(literal(v, c.type) for v, c in zip(after, columns, strict=True)))
        here = tuple_(*columns)
        statement = statement.where(here < place if descending else here > place)
    statement = statement.order_by(*(c.desc() if descending else c.asc() for c in columns))
    return [dict(row) for row in await tx.select(statement.limit(limit))]


async def payment(tx: Tx, payment_id: str) -> dict[str, Any] | None:
    """Return one payment with its metadata, or None when there is none to be seen."""
    statement = select(*_ROW, fact.c.metadata).where(
        fact.c.accepted_month == month_of(payment_id),
        fact.c.payment_id == payment_id,
        fact.c.status.is_not(None),
    )
    rows = await tx.select(statement)
    return dict(rows[0]) if rows else None


async def summary(tx: Tx, filters: Filters) -> Summary:
    """Sum up the first EXACT_COUNT + 1 payments of a filtered set, in no order.

    `count_is_exact` is false when there may be more: then it is a sample.
    """
    seen = (
        select(fact.c.status, fact.c.amount_minor, fact.c.currency)
        .where(*_conditions(filters))
        .limit(EXACT_COUNT + 1)
        .subquery()
    )
    succeeded = seen.c.status == "succeeded"
    totals = select(
        func.count().label("count"),
        func.count().filter(succeeded).label("succeeded"),
        func.coalesce(func.sum(seen.c.amount_minor).filter(succeeded), 0).label("volume_minor"),
        func.min(seen.c.currency).label("first_currency"),
        func.max(seen.c.currency).label("last_currency"),
    ).select_from(seen)
    row = (await tx.select(totals))[0]
    one = row["first_currency"] == row["last_currency"]
    return Summary(
        count=row["count"],
        count_is_exact=row["count"] <= EXACT_COUNT,
        succeeded=row["succeeded"],
        volume_minor=int(row["volume_minor"]) if one else 0,
        currency=row["first_currency"] if one else None,
    )


async def share(tx: Tx, part: Filters, whole: Filters) -> float:
    """Return which part of one set the planner takes another to be, without reading either.

    Its estimates are too low by what row-level security looks like to it; their ratio is not.
    """
    rows = [await _estimate(tx, filters) for filters in (part, whole)]
    return min(1.0, rows[0] / max(rows[1], 1))


async def _estimate(tx: Tx, filters: Filters) -> int:
    statement = select(literal(1)).select_from(fact).where(*_conditions(filters))
    plan = (await tx.select(_Explain(statement)))[0][0]
    return int(plan[0]["Plan"]["Plan Rows"])
