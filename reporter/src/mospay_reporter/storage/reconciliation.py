"""Counts of reconciliation: added up as they are told, each event once (the inbox sees to it)."""

import datetime as dt
from collections.abc import Mapping

from mospay_shared.chassis.database import Tx

from mospay_reporter.storage.facts import storing

Key = tuple[str, str, str, str]  # microservice, mode, what, kind
_ADD = """
insert into reconciliation_counts as c (microservice, mode, what, kind, count, changed_at)
select u.*, $6 from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) as u
order by 1, 2, 3, 4
on conflict (microservice, mode, what, kind) do update
    set count = c.count + excluded.count,
        changed_at = greatest(c.changed_at, excluded.changed_at)"""
_OPEN = """
select mode, kind, sum(case what when 'opened' then count else -count end)::bigint as open
from reconciliation_counts where what in ('opened', 'resolved') group by mode, kind"""


async def add(tx: Tx, counts: Mapping[Key, int], at: dt.datetime) -> None:
    """Add counts; keys are locked in order. Raises Unstorable."""
    keys = sorted(counts)
    columns = [[key[n] for key in keys] for n in range(4)]
    async with storing():
        await tx.run(_ADD, *columns, [counts[key] for key in keys], at)


async def still_open(tx: Tx) -> list[tuple[str, str, int]]:
    """Return mode, kind and how many exceptions of it are open, as far as was told."""
    return [(row["mode"], row["kind"], row["open"]) for row in await tx.fetch(_OPEN)]
