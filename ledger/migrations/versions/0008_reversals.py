"""Reversals that one person proposes and another approves; the journal newest first.

Works beside the version before it: a new table, and an index that does what the one it replaces
did.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

REVERSALS = [
    """create table reversals (
        id text collate "C" primary key,
        entry_id text collate "C" not null references journal_entries (id),
        kind text not null check (kind in ('reversal', 'chargeback')), reason text not null,
        state text not null default 'open' check (state in ('open', 'approved', 'rejected')),
        proposed_by text not null, proposed_at timestamptz not null default now(),
        decided_by text, decided_at timestamptz, reversal_entry_id text collate "C",
        check ((state = 'open') = (decided_by is null)),
        check ((state = 'open') = (decided_at is null)),
        check ((state = 'approved') = (reversal_entry_id is not null)),
        -- a second person, whatever the service believes
        check (state <> 'approved' or decided_by <> proposed_by))""",
    "create unique index reversals_open on reversals (entry_id) where state = 'open'",
    "create index reversals_entry on reversals (entry_id, id desc)",
    # What was proposed stays, and is decided on once.
    """create trigger reversals_decided before update on reversals
        for each row when (old.state <> 'open') execute function refuse_change()""",
    """create trigger reversals_identity before update of id, entry_id, kind, reason, proposed_by,
        proposed_at on reversals for each statement execute function refuse_change()""",
    """create trigger reversals_immutable before delete or truncate on reversals
        for each statement execute function refuse_change()""",
]
JOURNAL = [
    # A page of the journal is one descent of this index; it grows at its end alone.
    "create index journal_entries_newest on journal_entries (posted_at, id)",
    "drop index journal_entries_posted",
]
ACCESS = [
    "alter table reversals enable row level security",
    "alter table reversals force row level security",
    """create policy operator on reversals for select to mospay_ledger_app
        using (current_setting('mospay.operator', true) = 'on')""",
    "grant select on reversals to mospay_ledger_app",
    """grant select, insert, update (state, decided_by, decided_at, reversal_entry_id)
        on reversals to mospay_ledger_worker""",
]


def upgrade() -> None:
    """Add table and index."""
    for statement in [*REVERSALS, *JOURNAL, *ACCESS]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
