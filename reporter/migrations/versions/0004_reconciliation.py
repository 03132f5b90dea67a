"""How many exceptions of reconciliation were opened and resolved, and imports ended."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = [
    # `what`: opened, resolved (of a kind of exception), or imports, lines (by state of the import)
    """create table reconciliation_counts (
        microservice text not null, mode text not null check (mode in ('live', 'test')),
        what text not null check (what in ('opened', 'resolved', 'imports', 'lines')),
        kind text not null, count bigint not null, changed_at timestamptz not null,
        primary key (microservice, mode, what, kind))""",
    "alter table reconciliation_counts enable row level security",
    "alter table reconciliation_counts force row level security",
    """create policy operator on reconciliation_counts for select to mospay_reporter_app
        using (current_setting('mospay.operator', true) = 'on')""",
    "grant select on reconciliation_counts to mospay_reporter_app",
    "grant select, insert, update on reconciliation_counts to mospay_reporter_worker",
]


def upgrade() -> None:
    """Add the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
