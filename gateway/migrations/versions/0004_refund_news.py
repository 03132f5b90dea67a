"""Refunds whose news is missing: when it is asked for next, how often they were announced."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = [
    # Constant or stable defaults: no rewrite, and the version before this one still works.
    """alter table refunds
        add column check_at timestamptz not null default now(),
        add column announcements int not null default 0, add column announce_at timestamptz""",
    """create index refunds_open on refunds (requested_at)
        where status in ('pending', 'unknown')""",
]


def upgrade() -> None:
    """Widen refunds."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
