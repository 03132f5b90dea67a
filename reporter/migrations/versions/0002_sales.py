"""Refunds in the facts, sale events and sales, security events, provider health, clients' zones."""

from alembic import op
from mospay_shared.chassis import schema

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TENANT = """(current_setting('mospay.operator', true) = 'on'
    or (client_id = nullif(current_setting('mospay.client_id', true), '')
        and current_setting('mospay.mode', true) in (mode, '')))"""

# What was given back stands beside a payment; a refund told of before its payment waits in the
# same row without status as its books do. Constant defaults: no table is rewritten.
FACTS = [
    """alter table payment_facts add column retry_of text,
        add column refunded_minor numeric not null default 0,
        add column refunds_open_minor numeric not null default 0""",
    *[
        f"alter table {table} add column refunded_minor numeric not null default 0"
        for table in ("payment_rollups_hourly", "payment_rollups_daily")
    ],
    """create table refund_facts (
        refund_id text collate "C" primary key,
        payment_id text collate "C" not null,
        client_id text collate "C" not null,
        mode text not null check (mode in ('live', 'test')),
        currency char(3) not null, amount_minor bigint not null check (amount_minor >= 0),
        status text not null, version bigint not null, changed_at timestamptz not null,
        requested_at timestamptz not null, provider_reference text, reason text, reason_code text,
        reason_message text, late boolean not null, over_refund boolean not null,
        recorded_at timestamptz not null default clock_timestamp())""",
    "create index refund_facts_payment on refund_facts (payment_id)",
    "create index refund_facts_client on refund_facts (client_id, mode, requested_at, refund_id)",
]

# A sale is a payment of ours or a transaction a merchant tells of, under one name: the payment's
# reference, or the transaction id. `sales` holds what of it the rollups count.
SALES = [
    """create table sale_events (
        client_id text collate "C" not null,
        mode text not null check (mode in ('live', 'test')),
        dedupe_key text collate "C" not null,
        sale_event_id text collate "C" not null,
        name text collate "C" not null, transaction_id text not null, kind text not null,
        currency char(3) not null, amount_minor bigint, fee_minor bigint,
        customer_id text, payment_method text, product_id text, product_name text,
        occurred_at timestamptz not null, received_at timestamptz not null,
        primary key (client_id, mode, dedupe_key))""",
    "create index sale_events_name on sale_events (client_id, mode, name)",
    """create table sales (
        client_id text collate "C" not null,
        mode text not null check (mode in ('live', 'test')),
        name text collate "C" not null,
        payment_id text collate "C", accepted_month date,
        outcome text check (outcome in ('open', 'succeeded', 'failed')),
        currency char(3), occurred_at timestamptz,
        amount_minor bigint not null default 0, fee_minor bigint not null default 0,
        refunded_minor numeric not null default 0,
        method text collate "C", product_id text collate "C", product_name text,
        customer_id text collate "C",
        primary key (client_id, mode, name),
        check (outcome is null or (currency is not null and occurred_at is not null)))
        with (fillfactor = 80)""",
    """create index sales_time on sales (client_id, mode, currency, occurred_at)
        where outcome is not null""",
    # distinct customers of a period, and a customer's first and last sale, from the index alone
    """create index sales_customer_time on sales
        (client_id, mode, currency, occurred_at, customer_id)
        where outcome = 'succeeded' and customer_id is not null""",
    """create index sales_customer on sales
        (client_id, mode, currency, customer_id, occurred_at)
        where outcome = 'succeeded' and customer_id is not null""",
    """create table sale_rollups_hourly (
        client_id text collate "C" not null,
        mode text not null check (mode in ('live', 'test')),
        currency char(3) not null, bucket_at timestamptz not null,
        transactions bigint not null, successful bigint not null, failed bigint not null,
        revenue_minor numeric not null, fees_minor numeric not null,
        refunded_minor numeric not null,
        primary key (client_id, mode, currency, bucket_at)) with (fillfactor = 70)""",
    *[
        f"""create table {table} (
            client_id text collate "C" not null,
            mode text not null check (mode in ('live', 'test')),
            currency char(3) not null, bucket_at timestamptz not null,
            {column} text collate "C" not null,
            successful bigint not null, revenue_minor numeric not null,
            primary key (client_id, mode, currency, bucket_at, {column}))
            with (fillfactor = 70)"""
        for table, column in (
            ("sale_methods_daily", "method"),
            ("sale_products_daily", "product_id"),
        )
    ],
    """create table sale_products (
        client_id text collate "C" not null,
        mode text not null check (mode in ('live', 'test')),
        product_id text collate "C" not null, product_name text not null,
        told_at timestamptz not null,
        primary key (client_id, mode, product_id))""",
    """create table sale_customers (
        client_id text collate "C" not null,
        mode text not null check (mode in ('live', 'test')),
        currency char(3) not null, customer_id text collate "C" not null,
        successful bigint not null default 0, spent_minor numeric not null default 0,
        first_at timestamptz, last_at timestamptz,
        primary key (client_id, mode, currency, customer_id)) with (fillfactor = 80)""",
    """create index sale_customers_spent on sale_customers
        (client_id, mode, currency, spent_minor desc, customer_id) include (successful)
        where successful > 0""",
    """create index sale_customers_first on sale_customers
        (client_id, mode, currency, first_at) where successful > 0""",
]

# Payments from before this migration become sales bit by bit, by a worker; this is how far it is.
BACKLOG = [
    """create table sales_backlog (
        id int primary key check (id = 1), accepted_month date not null,
        payment_id text collate "C" not null, done boolean not null)""",
    "insert into sales_backlog values (1, date '1900-01-01', '', false)",
]

EVENTS = [
    """create table security_events (
        event_id text collate "C" primary key, kind text not null, client_id text, mode text,
        ip text, credential text, path text, reason text not null, count bigint not null,
        first_at timestamptz not null, last_at timestamptz not null)""",
    "create index security_events_time on security_events (last_at, event_id)",
    """create index security_events_client on security_events (client_id, mode, last_at, event_id)
        where client_id is not null""",
    # every change of a connector's breaker; nobody's tenant data
    """create table provider_changes (
        event_id text collate "C" primary key, microservice text not null,
        mode text not null check (mode in ('live', 'test')), state text not null,
        previous_state text not null, reason text not null, failures bigint not null,
        calls bigint not null, changed_at timestamptz not null)""",
    """create index provider_changes_time on provider_changes
        (microservice, mode, changed_at, event_id)""",
]

TENANT_TABLES = (
    "refund_facts",
    "sale_events",
    "sales",
    "sale_rollups_hourly",
    "sale_methods_daily",
    "sale_products_daily",
    "sale_products",
    "sale_customers",
    "security_events",
)


def protect(table: str, condition: str = TENANT) -> list[str]:
    """Let the request role see one tenant's rows alone."""
    return [
        f"alter table {table} enable row level security",
        f"alter table {table} force row level security",
        f"create policy tenant on {table} for select to mospay_reporter_app using ({condition})",
        f"grant select on {table} to mospay_reporter_app",
    ]


STATEMENTS = [
    *schema.DIRECTORY_V1,
    *FACTS,
    *SALES,
    *BACKLOG,
    *EVENTS,
    *[statement for table in TENANT_TABLES for statement in protect(table)],
    # a client reads its own zone and currency, nobody else's
    *protect(
        "directory_entity",
        """current_setting('mospay.operator', true) = 'on' or (kind = 'client'
            and entity_id = nullif(current_setting('mospay.client_id', true), ''))""",
    ),
    *protect("provider_changes", "current_setting('mospay.operator', true) = 'on'"),
    *schema.grants("mospay_reporter"),
]


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
