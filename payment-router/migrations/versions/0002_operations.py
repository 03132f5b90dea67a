"""Refunds, cancel requests, two-person resolutions, epochs of the database.

Works beside the version before it: new columns have defaults, nothing it uses goes away.
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SQL = Path(__file__).resolve().parents[2] / "sql"
TABLES = [
    # What is given back or reserved for it never exceeds what was captured; a late success of a
    # refund that had failed is money that moved all the same, so it widens the bound visibly.
    """alter table payments
        add column refund_open_minor bigint not null default 0 check (refund_open_minor >= 0),
        add column refunded_minor bigint not null default 0 check (refunded_minor >= 0),
        add column over_refunded_minor bigint not null default 0 check (over_refunded_minor >= 0),
        add column retry_of text,
        add constraint refunds_fit check (
            refund_open_minor + refunded_minor <= amount_minor + over_refunded_minor)""",
    # A refund has one attempt for ever: another try is another refund.
    """create table refunds (
        id text primary key, payment_id text not null references payments,
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        amount_minor bigint not null check (amount_minor > 0), currency char(3) not null,
        reason text,
        status text not null check (status in ('pending', 'succeeded', 'failed', 'unknown')),
        version int not null, late boolean not null default false,
        over_refund boolean not null default false, provider_reference text, reason_code text,
        reason_message text, attention text, requested_at timestamptz not null,
        attempt_id text not null unique, attempt_state text not null check (
            attempt_state in ('ready', 'sending', 'answered', 'unknown', 'ended')),
        url text, payload bytea, owner text, fence int not null default 0,
        lease_until timestamptz, started_at timestamptz, answered_at timestamptz,
        http_status int, answer bytea, enquiries int not null default 0,
        next_action_at timestamptz, correlation_id text, causation_id text, traceparent text,
        created_at timestamptz not null default clock_timestamp(),
        updated_at timestamptz not null default clock_timestamp(),
        check (attempt_state <> 'sending' or (lease_until is not null and owner is not null)),
        constraint somebody_wakes_it check (
            status in ('succeeded', 'failed') or next_action_at is not null))
        with (fillfactor = 80)""",
    "create index refunds_payment on refunds (payment_id)",
    "create index refunds_due on refunds (next_action_at) where next_action_at is not null",
    """create table refund_transitions (
        refund_id text not null, version int not null, payment_id text not null,
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        from_status text not null, to_status text not null, evidence text not null,
        source_id text, at timestamptz not null default clock_timestamp(),
        primary key (refund_id, version))""",
    "create index refund_transitions_payment on refund_transitions (payment_id)",
    """create table refund_enquiries (
        id text primary key, refund_id text not null, payment_id text not null,
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        number int not null, started_at timestamptz not null, ended_at timestamptz not null,
        http_status int, answer bytea, result text not null, reason_code text,
        reason_message text)""",
    "create index refund_enquiries_payment on refund_enquiries (payment_id)",
    # A wish to cancel, kept even where the payment has not been seen yet: a tombstone.
    """create table cancel_requests (
        payment_id text primary key, client_id text not null,
        mode text not null check (mode in ('live', 'test')), reason text,
        requested_at timestamptz not null,
        state text not null check (state in ('waiting', 'applied', 'too_late', 'unseen')),
        next_action_at timestamptz, ended_at timestamptz,
        constraint somebody_wakes_it check (state <> 'waiting' or next_action_at is not null))""",
    """create index cancel_requests_due on cancel_requests (next_action_at)
        where state = 'waiting'""",
    """create table resolutions (
        payment_id text not null references payments, version int not null,
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        outcome text not null check (outcome in ('succeeded', 'failed')),
        evidence text not null, proposed_by text not null, approved_by text not null,
        requested_at timestamptz not null, applied boolean not null,
        at timestamptz not null default clock_timestamp(),
        primary key (payment_id, version), check (proposed_by <> approved_by))""",
    "alter table callbacks add column method text not null default 'POST'",
    # A restored database has forgotten what it sent: what was accepted before the restore is only
    # ever asked about. The first epoch begins with the database itself.
    """create table epochs (
        number int generated always as identity primary key, started_at timestamptz not null,
        reason text not null, identity text)""",
    "insert into epochs (started_at, reason) values ('-infinity', 'first start')",
]
TENANT_TABLES = (
    "refunds",
    "refund_transitions",
    "refund_enquiries",
    "cancel_requests",
    "resolutions",
)
POLICY = """create policy tenant on {table} to mospay_router_app using (
    current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and (mode = current_setting('mospay.mode', true)
             or current_setting('mospay.mode', true) = '')))"""


def upgrade() -> None:
    """Add the tables and the maker of default refund functions."""
    for statement in TABLES:
        op.execute(statement)
    for table in TENANT_TABLES:
        op.execute(f"alter table {table} enable row level security")
        op.execute(f"alter table {table} force row level security")
        op.execute(POLICY.format(table=table))
        op.execute(f"grant select, insert, update on {table} to mospay_router_worker")
    op.execute("grant select on refunds to mospay_router_app")
    op.execute("grant select, insert, update on epochs to mospay_router_worker")
    op.execute("set role mospay_router_fx")
    connection = op.get_bind()
    for part in (SQL / "0002_create_refund_pair.sql").read_text().split("-- next\n"):
        connection.exec_driver_sql(part)
    connection.exec_driver_sql((SQL / "0002_create_default_pair.sql").read_text())
    op.execute("reset role")


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
