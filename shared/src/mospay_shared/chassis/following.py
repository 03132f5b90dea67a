"""Following a table: who keeps its rows in memory reads each change once, however late it commits.

Times of change promise neither: a transaction may commit long after it took its time, and what
changed within the last look's tolerance is read anew for as long as nothing newer comes. So each
change carries the number of its transaction, and a look starts where no transaction was open at
the last one.
"""

from collections.abc import Sequence
from typing import Any

# Where the next look starts, by the snapshot of the statement it stands in.
HORIZON = "pg_snapshot_xmin(pg_current_snapshot())::text as horizon"
# What is to be read, $1 being where the last look ended ('0': everything). A restored database may
# hold numbers that its cluster has not reached: those are read the first time alone.
NEWER = """changed_in >= $1::text::xid8
    and ($1 = '0' or changed_in < pg_snapshot_xmax(pg_current_snapshot()))"""


def followed_v1(table: str) -> list[str]:
    """Return the statements that number the changes of a table, for a migration."""
    return [
        f"alter table {table} add column changed_in xid8 not null default pg_current_xact_id()",
        """create or replace function number_change() returns trigger language plpgsql as $$
        begin
            new.changed_in := pg_current_xact_id();
            return new;
        end $$""",
        f"create trigger {table}_changed_in before update on {table} "
        "for each row execute function number_change()",
        f"create index {table}_changed_in on {table} (changed_in)",
    ]


def read_to(rows: Sequence[Any], horizon: int) -> int:
    """Return where the next look starts after these rows, each with HORIZON; never further back."""
    return max(horizon, int(rows[0]["horizon"])) if rows else horizon
