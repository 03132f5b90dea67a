"""Provider credentials per client (sealed), routing rules, health of connectors."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TENANT = """current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and (mode = current_setting('mospay.mode', true)
             or current_setting('mospay.mode', true) = ''))"""
STATEMENTS = [
    # What a client has with a provider; sealed, so that a reader of the table learns nothing.
    """create table provider_credentials (
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        microservice text not null, sealed jsonb not null, names text[] not null,
        version int not null, updated_by text not null,
        updated_at timestamptz not null default clock_timestamp(),
        deleted boolean not null default false,
        primary key (client_id, mode, microservice))""",
    "create index provider_credentials_changed on provider_credentials (updated_at)",
    # client_id and service_id are null where a rule holds for all of them.
    """create table routing_rules (
        id text primary key, client_id text, mode text not null check (mode in ('live', 'test')),
        service_id text, priority int not null, rule jsonb not null, active boolean not null,
        version int not null, updated_by text not null,
        updated_at timestamptz not null default clock_timestamp(),
        deleted boolean not null default false)""",
    "create index routing_rules_changed on routing_rules (updated_at)",
    """create table provider_health (
        microservice text not null, mode text not null check (mode in ('live', 'test')),
        state text not null check (state in ('closed', 'open', 'half_open')),
        reason text not null, failures int not null, calls int not null,
        changed_at timestamptz not null, primary key (microservice, mode))""",
    *(
        statement
        for table in ("provider_credentials", "routing_rules")
        for statement in (
            f"alter table {table} enable row level security",
            f"alter table {table} force row level security",
            f"create policy tenant on {table} to mospay_router_app using ({TENANT})",
        )
    ),
    """grant select (client_id, mode, microservice, names, version, updated_by, updated_at,
        deleted) on provider_credentials to mospay_router_app""",
    "grant select on routing_rules, provider_health to mospay_router_app",
    """grant select, insert, update on provider_credentials, routing_rules, provider_health
        to mospay_router_worker""",
]


def upgrade() -> None:
    """Add the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
