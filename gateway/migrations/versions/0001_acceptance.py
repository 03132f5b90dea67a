"""Accepted payments, idempotency records, references for ever, raw callbacks, the replica."""

from alembic import op
from mospay_shared.chassis import schema

revision = "0001"
down_revision = None

TENANT = """(client_id = current_setting('mospay.client_id', true)
    and current_setting('mospay.mode', true) in (mode, ''))
    or current_setting('mospay.operator', true) = 'on'"""

ACCEPTANCE = [
    """create table payments (
        id text primary key, client_id text not null,
        mode text not null check (mode in ('live', 'test')), app_id text not null,
        service_id text not null, microservice text not null, service text not null,
        route text not null, amount_minor bigint not null check (amount_minor > 0),
        currency char(3) not null, reference text not null, fields jsonb not null,
        metadata jsonb not null, secrets jsonb, customer_id text, product_id text,
        product_name text, directory_version bigint not null, accepted_via text not null,
        request_id text not null, received_at timestamptz not null,
        accepted_at timestamptz not null, send_before timestamptz not null,
        status text not null, version int not null default 0, provider_reference text,
        reason_code text, reason_message text, late boolean not null default false,
        updated_at timestamptz, settled_at timestamptz,
        check_at timestamptz not null default now(),
        check (not (fields ?| array['f007', 'f008'])),
        check (settled_at is null or secrets is null),
        check ((settled_at is not null)
               = (status in ('succeeded', 'failed', 'cancelled', 'expired'))))""",
    "create index payments_of_client on payments (client_id, mode, id desc)",
    # the sweeper, the eraser and the unseen gauge look at open payments alone: a short index
    "create index payments_open on payments (accepted_at) where settled_at is null",
    """create table payment_references (
        reference_hash bytea primary key, client_id text not null,
        mode text not null check (mode in ('live', 'test')), fingerprint bytea not null,
        payment_id text not null)""",
    """create table idempotency_keys (
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        operation text not null, key text not null, fingerprint bytea not null,
        payment_id text not null, created_at timestamptz not null,
        primary key (client_id, mode, operation, key))""",
    "create index idempotency_keys_age on idempotency_keys using brin (created_at)",
    """create table callbacks (
        id text primary key, microservice text not null, service_id text, method text not null,
        path text not null, headers jsonb not null, body bytea not null, ip text,
        received_at timestamptz not null)""",
    "create index callbacks_age on callbacks using brin (received_at)",
]

TENANT_TABLES = ("payments", "payment_references", "idempotency_keys")
ACCESS = [
    *(f"alter table {t} enable row level security" for t in TENANT_TABLES),
    *(f"alter table {t} force row level security" for t in TENANT_TABLES),
    *(
        f"create policy tenant on {t} for select to mospay_gateway_app using ({TENANT})"
        for t in TENANT_TABLES
    ),
    f"grant select on {', '.join(TENANT_TABLES)} to mospay_gateway_app",
    *schema.grants("mospay_gateway"),
]


def upgrade() -> None:
    """Make everything; the database was empty."""
    for statement in [
        *schema.OUTBOX_AND_INBOX_V1,
        *schema.PARTITIONS_V1,
        *schema.DIRECTORY_V1,
        *ACCEPTANCE,
        *ACCESS,
    ]:
        op.execute(statement)
