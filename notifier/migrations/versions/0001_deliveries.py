"""Endpoints, deliveries and their attempts."""

from alembic import op
from mospay_shared.chassis import schema

revision = "0001"
down_revision = None

TENANT = """(current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and current_setting('mospay.mode', true) in (mode, '')))"""
TABLES = ("endpoints", "deliveries", "delivery_attempts")

DELIVERIES = [
    """create table endpoints (
        id text primary key, client_id text not null,
        mode text not null check (mode in ('live', 'test')), url text not null,
        event_types text[] not null default '{}', secret jsonb not null, previous_secret jsonb,
        previous_until timestamptz, active boolean not null default true, disabled_reason text,
        version bigint not null default 1, created_at timestamptz not null default now())""",
    "create index endpoints_client on endpoints (client_id, mode) where active",
    """create table deliveries (
        id text primary key, endpoint_id text not null references endpoints,
        client_id text not null, mode text not null, event_id text not null,
        event_type text not null, payment_id text, body bytea not null,
        state text not null check (state in ('pending', 'sending', 'delivered', 'failed')),
        attempts int not null default 0, attempts_before int not null default 0,
        next_at timestamptz,
        lease bigint not null default 0, correlation_id text, traceparent text,
        created_at timestamptz not null default now(), ended_at timestamptz,
        unique (event_id, endpoint_id),
        check (state in ('delivered', 'failed') or next_at is not null))""",
    """create index deliveries_due on deliveries (next_at, endpoint_id)
        where state in ('pending', 'sending')""",
    "create index deliveries_payment on deliveries (payment_id)",
    """create table delivery_attempts (
        delivery_id text not null references deliveries, number int not null,
        client_id text not null, mode text not null, attempted_at timestamptz not null,
        status_code int, error text, duration_ms int not null, response text,
        primary key (delivery_id, number))""",
]


def upgrade() -> None:
    """Make everything; the database was empty."""
    access = [
        statement
        for table in TABLES
        for statement in (
            f"alter table {table} enable row level security",
            f"alter table {table} force row level security",
            f"create policy tenant on {table} for select to mospay_notifier_app using {TENANT}",
        )
    ]
    columns = "id, client_id, mode, url, event_types, active, disabled_reason, version, created_at"
    access += [
        f"grant select ({columns}) on endpoints to mospay_notifier_app",
        "grant select on deliveries, delivery_attempts to mospay_notifier_app",
        *schema.grants("mospay_notifier"),
    ]
    for statement in [
        *schema.OUTBOX_AND_INBOX_V1,
        *schema.PARTITIONS_V1,
        *DELIVERIES,
        *access,
    ]:
        op.execute(statement)
