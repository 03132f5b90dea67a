"""Figures of periods: whole days and hours from the rollups, the edges from the rows, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.chassis.database import Tx

from mospay_reporter.domain.facts import EPOCH, STATUSES
from mospay_reporter.domain.periods import Piece

_SUMS = ("payments", *STATUSES, "volume_minor", "fees_minor", "net_minor", "refunded_minor")
_ROWS = ", ".join(
    [
        "1 as payments",
        *(f"(r.status = '{status}')::int as {status}" for status in STATUSES),
        "case when r.status = 'succeeded' then r.amount_minor else 0 end as volume_minor",
        "coalesce(r.fee_minor, 0) as fees_minor",
        "coalesce(r.net_minor, 0) as net_minor",
        "r.refunded_minor",
    ]
)
_SPANS = "unnest($1::int[], $2::text[], $3::timestamptz[], $4::timestamptz[])"


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts and sums of one span in one currency; `counts` has every status and `payments`."""

    span: int
    currency: str
    counts: dict[str, int]
    volume_minor: int
    fees_minor: int
    net_minor: int
    refunded_minor: int


def none(span: int, currency: str) -> Figures:
    """Return the figures of a span in which nothing happened."""
    return Figures(span, currency, dict.fromkeys(("payments", *STATUSES), 0), 0, 0, 0, 0)


def _statement(*, client: bool, services: bool) -> str:
    """Compose the statement: a condition that is not asked for is left out, so indexes serve.

    Rollups have rows of all clients together under client_id ''; rows of payments don't.
    """
    sums = ", ".join(f"sum({name}) as {name}" for name in _SUMS)
    scope = "r.mode = $5"
    if services:
        scope += " and r.service = any($7::text[])"
    parts = [
        f"""select s.span, r.currency, {sums} from spans s join {table} r
            on r.client_id = $6 and r.bucket_at >= s.since and r.bucket_at < s.until and {scope}
            where s.grain = '{grain}' group by 1, 2"""
        for grain, table in (("day", "payment_rollups_daily"), ("hour", "payment_rollups_hourly"))
    ]
    if client:
        scope += " and r.client_id = $6"
    parts.append(
        f"""select r.span, r.currency, {sums} from (
                select s.span, r.currency, {_ROWS} from spans s join payment_facts r
                on r.accepted_at >= s.since and r.accepted_at < s.until and {scope}
                and r.status is not null
                and (r.accepted_month between s.first_month and s.last_month
                     or r.accepted_month = '{EPOCH}')
                where s.grain = 'row') r group by 1, 2"""
    )
    return f"""
with spans as materialized (
    select *, date_trunc('month', since - interval '1 day')::date as first_month,
        date_trunc('month', until + interval '1 day')::date as last_month
    from {_SPANS} as u(span, grain, since, until)),
found as ({" union all ".join(parts)})
select span, currency, {sums} from found group by span, currency order by span, currency"""


async def payments(
    tx: Tx,
    pieces: Sequence[Piece],
    *,
    mode: str,
    client_id: str | None = None,
    services: Sequence[str] = (),
) -> list[Figures]:
    """Return the figures of every span and currency that has any payments."""
    names = [list(services)] if services else []
    rows = await tx.fetch(
        _statement(client=client_id is not None, services=bool(names)),
        [p.span for p in pieces],
        [p.grain for p in pieces],
        [p.since for p in pieces],
        [p.until for p in pieces],
        mode,
        client_id or "",
        *names,
    )
    return [
        Figures(
            row["span"],
            row["currency"],
            {name: int(row[name]) for name in ("payments", *STATUSES)},
            int(row["volume_minor"]),
            int(row["fees_minor"]),
            int(row["net_minor"]),
            int(row["refunded_minor"]),
        )
        for row in rows
        if row["payments"]
    ]


def _calls_statement(*, client: bool) -> str:
    scope = "r.mode = $5" + (" and r.client_id = $6" if client else "")
    return f"""
with spans as materialized (select * from {_SPANS} as u(span, grain, since, until))
select coalesce((select sum(r.calls) from spans s join api_calls_hourly r
           on r.bucket_at >= s.since and r.bucket_at < s.until and {scope}
           where s.grain = 'hour'), 0)
     + (select count(*) from spans s join api_calls r
           on r.called_at >= s.since and r.called_at < s.until and {scope}
           where s.grain = 'row')"""


async def api_calls(
    tx: Tx, pieces: Sequence[Piece], *, mode: str, client_id: str | None = None
) -> int:
    """Return how many calls client apps made in these pieces (hours and rows)."""
    scope = [client_id] if client_id is not None else []
    return int(
        await tx.value(
            _calls_statement(client=bool(scope)),
            [p.span for p in pieces],
            [p.grain for p in pieces],
            [p.since for p in pieces],
            [p.until for p in pieces],
            mode,
            *scope,
        )
    )
