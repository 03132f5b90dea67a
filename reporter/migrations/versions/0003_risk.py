"""What risk decided about payments it held, refused, or could not assess in time."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TENANT = """current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and (mode = current_setting('mospay.mode', true)
             or current_setting('mospay.mode', true) = ''))"""
STATEMENTS = [
    """create table risk_assessments (
        event_id text collate "C" primary key, payment_id text not null, client_id text not null,
        mode text not null check (mode in ('live', 'test')), decision text not null,
        score bigint not null, reasons jsonb not null, by_default boolean not null,
        assessed_at timestamptz not null)""",
    "create index risk_assessments_client on risk_assessments (client_id, mode, assessed_at)",
    "create index risk_assessments_payment on risk_assessments (payment_id)",
    "alter table risk_assessments enable row level security",
    "alter table risk_assessments force row level security",
    f"create policy tenant on risk_assessments for select to mospay_reporter_app using ({TENANT})",
    "grant select on risk_assessments to mospay_reporter_app",
    "grant select, insert, update, delete on risk_assessments to mospay_reporter_worker",
]


def upgrade() -> None:
    """Add the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
