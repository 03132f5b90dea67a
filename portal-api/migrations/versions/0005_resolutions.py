"""What one person proposes about a payment, and another approves or rejects."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = [
    """create table resolutions (
        id text primary key, payment_id text not null, client_id text not null,
        mode text not null check (mode in ('live', 'test')), version int not null,
        outcome text not null check (outcome in ('succeeded', 'failed')), evidence text not null,
        proposed_by text not null, proposed_at timestamptz not null default now(),
        state text not null default 'open' check (state in ('open', 'approved', 'rejected')),
        decided_by text, decided_at timestamptz,
        check ((state = 'open') = (decided_by is null)),
        check (state <> 'approved' or decided_by <> proposed_by))""",
    """create unique index resolutions_open on resolutions (payment_id, version)
        where state = 'open'""",
    "create index resolutions_listed on resolutions (state, id desc)",
    "alter table resolutions enable row level security",
    "alter table resolutions force row level security",
    """create policy operator on resolutions for select to mospay_portal_app using (
        current_setting('mospay.operator', true) = 'on')""",
    "grant select on resolutions to mospay_portal_app",
    "grant select, insert, update on resolutions to mospay_portal_worker",
]


def upgrade() -> None:
    """Add the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
