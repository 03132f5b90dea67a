"""Payments, attempts, enquiries, callbacks, provider functions; schema fx with its dispatcher."""

from pathlib import Path

from alembic import op
from mospay_shared.chassis import schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQL = Path(__file__).resolve().parents[2] / "sql"
STATES = (
    "'processing', 'held', 'requires_customer_action', 'unknown', 'succeeded', 'failed', "
    "'cancelled', 'expired', 'conflicted'"
)
TABLES = [
    # The payment's id is the reference we mint for the provider: unique over every account.
    f"""create table payments (
        id text primary key, client_id text not null,
        mode text not null check (mode in ('live', 'test')),
        app_id text not null, service_id text not null, microservice text not null,
        service text not null, route text not null,
        amount_minor bigint not null check (amount_minor >= 0), currency char(3) not null,
        reference text not null, phone_masked text, fields text not null, secrets jsonb,
        details jsonb not null, terms jsonb not null,
        accepted_at timestamptz not null, send_before timestamptz not null,
        correlation_id text, causation_id text, traceparent text,
        status text not null check (status in ({STATES})), version int not null,
        attempts int not null, enquiries int not null default 0,
        announced boolean not null default false, late boolean not null default false,
        provider_reference text, reason_code text, reason_message text, attention text,
        next_action_at timestamptz,
        created_at timestamptz not null default clock_timestamp(),
        updated_at timestamptz not null default clock_timestamp(),
        constraint somebody_wakes_it check (
            status in ('succeeded', 'failed', 'cancelled', 'expired')
            or next_action_at is not null)) with (fillfactor = 80)""",
    "create index payments_due on payments (next_action_at) where next_action_at is not null",
    "create index payments_secrets on payments (created_at) where secrets is not null",
    "create index payments_attention on payments (updated_at) where attention is not null",
    """create table attempts (
        id text primary key, payment_id text not null references payments, client_id text not null,
        mode text not null check (mode in ('live', 'test')), number int not null,
        provider text not null,
        state text not null check (state in ('ready', 'sending', 'answered', 'unknown', 'ended')),
        url text, payload bytea, payload_sealed boolean not null default false,
        owner text, fence int not null default 0, lease_until timestamptz,
        next_action_at timestamptz,
        http_status int, answer bytea, result text, reason_code text, reason_message text,
        created_at timestamptz not null default clock_timestamp(),
        started_at timestamptz, answered_at timestamptz, ended_at timestamptz,
        unique (payment_id, number),
        check (state <> 'sending' or (lease_until is not null and owner is not null)),
        constraint somebody_wakes_it check (state = 'ended' or next_action_at is not null))
        with (fillfactor = 80)""",
    """create index attempts_due on attempts (state, next_action_at)
        where state in ('ready', 'sending', 'answered')""",
    """create table payment_transitions (
        payment_id text not null, version int not null,
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        from_status text not null, to_status text not null, evidence text not null,
        source_id text, at timestamptz not null default clock_timestamp(),
        primary key (payment_id, version))""",
    """create table enquiries (
        id text primary key, payment_id text not null, client_id text not null,
        mode text not null check (mode in ('live', 'test')), number int not null,
        started_at timestamptz not null, ended_at timestamptz not null,
        http_status int, answer bytea, result text not null, reason_code text,
        reason_message text)""",
    "create index enquiries_payment on enquiries (payment_id)",
    # Raw callbacks; the client is known once one is matched to its payment.
    """create table callbacks (
        id text primary key, client_id text, mode text check (mode in ('live', 'test')),
        microservice text not null, received_at timestamptz not null, headers jsonb not null,
        body bytea not null,
        state text not null check (state in ('new', 'applied', 'repeated', 'asked', 'unmatched')),
        payment_id text, credential text, event_key text, reason text, tries int not null default 0,
        next_action_at timestamptz, ended_at timestamptz,
        constraint somebody_wakes_it check (state <> 'new' or next_action_at is not null))""",
    "create index callbacks_due on callbacks (next_action_at) where state = 'new'",
    "create index callbacks_payment on callbacks (payment_id) where payment_id is not null",
    """create unique index callbacks_once on callbacks (credential, event_key)
        where state = 'applied'""",
    """create table provider_functions (
        app_id text not null, microservice text not null, service text not null,
        route text not null, client_id text not null,
        mode text not null check (mode in ('live', 'test')), service_id text not null,
        call_name text not null, response_name text not null, enquiry_name text not null,
        enquiry_response_name text not null, version int not null default 1, refused text,
        created_at timestamptz not null default clock_timestamp(),
        primary key (app_id, microservice, service, route))""",
    """create table function_versions (
        name text not null, version int not null,
        state text not null check (state in ('draft', 'tested', 'live', 'retired')),
        origin text not null, created_at timestamptz not null default clock_timestamp(),
        primary key (name, version))""",
    "create unique index function_versions_live on function_versions (name) where state = 'live'",
]
TENANT_TABLES = (
    "payments",
    "attempts",
    "payment_transitions",
    "enquiries",
    "callbacks",
    "provider_functions",
)
READ_BY_REQUESTS = ("payments", "attempts")
POLICY = """create policy tenant on {table} to mospay_router_app using (
    current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and (mode = current_setting('mospay.mode', true)
             or current_setting('mospay.mode', true) = '')))"""


def upgrade() -> None:
    """Make everything of the first release."""
    statements = [*schema.OUTBOX_AND_INBOX_V1, *schema.PARTITIONS_V1, *schema.DIRECTORY_V1, *TABLES]
    for statement in statements:
        op.execute(statement)
    for table in TENANT_TABLES:
        op.execute(f"alter table {table} enable row level security")
        op.execute(f"alter table {table} force row level security")
        op.execute(POLICY.format(table=table))
    for table in READ_BY_REQUESTS:
        op.execute(f"grant select on {table} to mospay_router_app")
    for statement in schema.grants("mospay_router"):
        op.execute(statement)
    op.execute("set role mospay_router_fx")
    for name in ("call", "call_response", "create_default_pair"):
        connection = op.get_bind()
        for part in split_statements((SQL / f"0001_{name}.sql").read_text()):
            connection.exec_driver_sql(part)
    op.execute("reset role")


def split_statements(text: str) -> list[str]:
    """Split a file at semicolons that end a line outside of dollar quotes (asyncpg takes one)."""
    parts, current, quoted = [], [], False
    for line in text.splitlines():
        if not current and (not line.strip() or line.startswith("--")):
            continue
        current.append(line)
        quoted ^= line.count("$dispatcher$") % 2 == 1 or line.count("$maker$") % 2 == 1
        if not quoted and line.rstrip().endswith(";"):
            parts.append("\n".join(current))
            current = []
    assert not current, "a statement without its end"
    return parts


def downgrade() -> None:
    """Not offered: a released ledger of payments is never dropped by a tool."""
    raise NotImplementedError
