"""What two people know about refunds that stay unknown; those are found without a scan.

Works beside the version before it: the new column has a constant default, nothing goes away.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = [
    "alter table refunds add column resolved boolean not null default false",
    """create index refunds_open on refunds (status, id)
        where status in ('pending', 'unknown')""",
    "create index refunds_attention on refunds (id) where attention is not null",
    """create table refund_resolutions (
        refund_id text not null references refunds, version int not null,
        payment_id text not null, client_id text not null,
        mode text not null check (mode in ('live', 'test')),
        outcome text not null check (outcome in ('succeeded', 'failed')),
        reason text not null, evidence text not null,
        proposed_by text not null, approved_by text not null,
        requested_at timestamptz not null, applied boolean not null,
        at timestamptz not null default clock_timestamp(),
        primary key (refund_id, version), check (proposed_by <> approved_by))""",
    "create index refund_resolutions_payment on refund_resolutions (payment_id)",
    "alter table refund_resolutions enable row level security",
    "alter table refund_resolutions force row level security",
    """create policy tenant on refund_resolutions to mospay_router_app using (
        current_setting('mospay.operator', true) = 'on'
        or (client_id = current_setting('mospay.client_id', true)
            and (mode = current_setting('mospay.mode', true)
                 or current_setting('mospay.mode', true) = '')))""",
    "grant select, insert, update on refund_resolutions to mospay_router_worker",
]


def upgrade() -> None:
    """Add the column, the table and the indexes."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
