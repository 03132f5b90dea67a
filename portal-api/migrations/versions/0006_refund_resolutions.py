"""What one person proposes about a refund that stays unknown, and another approves or rejects."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = [
    """create table refund_resolutions (
        id text primary key, refund_id text not null, payment_id text not null,
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        version int not null, outcome text not null check (outcome in ('succeeded', 'failed')),
        reason text not null, evidence text not null,
        proposed_by text not null, proposed_at timestamptz not null default now(),
        state text not null default 'open' check (state in ('open', 'approved', 'rejected')),
        decided_by text, decided_at timestamptz,
        check ((state = 'open') = (decided_by is null)),
        check (state <> 'approved' or decided_by <> proposed_by))""",
    """create unique index refund_resolutions_open on refund_resolutions (refund_id, version)
        where state = 'open'""",
    "create index refund_resolutions_listed on refund_resolutions (state, id desc)",
    "create index refund_resolutions_refund on refund_resolutions (refund_id, id desc)",
    "alter table refund_resolutions enable row level security",
    "alter table refund_resolutions force row level security",
    """create policy operator on refund_resolutions for select to mospay_portal_app using (
        current_setting('mospay.operator', true) = 'on')""",
    "grant select on refund_resolutions to mospay_portal_app",
    "grant select, insert, update on refund_resolutions to mospay_portal_worker",
]


def upgrade() -> None:
    """Add the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
