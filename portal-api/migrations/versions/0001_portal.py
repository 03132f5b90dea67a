"""The directory with its version counter, people, sessions, audit, and rows of the live stream."""

from alembic import op
from mospay_shared.chassis import schema

revision = "0001"
down_revision = None

VERSIONED = "version bigint not null, deleted boolean not null default false"
TABLES = [
    # one counter for the whole directory: versions of different entities compare (ADR 0005)
    """create table directory_counter (
        single boolean primary key default true check (single), value bigint not null)""",
    "insert into directory_counter (value) values (0)",
    f"""create table companies (
        id text primary key, name text not null, {VERSIONED},
        created_at timestamptz not null default now())""",
    f"""create table clients (
        id text primary key, company_id text not null references companies, name text not null,
        currency char(3) not null, time_zone text not null, answer_wait_seconds int not null,
        active boolean not null default true, {VERSIONED},
        created_at timestamptz not null default now())""",
    """create table client_apps (
        app_id text primary key, client_id text not null references clients,
        mode text not null check (mode in ('live', 'test')), unique (client_id, mode))""",
    f"""create table services (
        id text primary key, microservice text not null, name text not null, body jsonb not null,
        active boolean not null default true, {VERSIONED},
        created_at timestamptz not null default now(), unique (microservice, name))""",
    f"""create table assignments (
        id text primary key, client_id text not null references clients,
        service_id text not null references services, active boolean not null default true,
        {VERSIONED}, created_at timestamptz not null default now(),
        unique (client_id, service_id))""",
    """create table credentials (
        id text primary key, client_id text not null references clients, app_id text not null,
        mode text not null, kind text not null check (kind in ('api_password', 'api_key')),
        lookup text not null unique, secret_hash text not null, expires_at timestamptz,
        revoked boolean not null default false, version bigint not null,
        created_at timestamptz not null default now(), revoked_at timestamptz)""",
    "create index credentials_client on credentials (client_id, created_at desc)",
    """create table users (
        id text primary key, audience text not null check (audience in ('admin', 'client')),
        company_id text references companies, name text not null, email text not null,
        role text not null, password_hash text not null, active boolean not null default true,
        last_login_at timestamptz, failed_attempts int not null default 0,
        locked_until timestamptz, created_at timestamptz not null default now(),
        check ((audience = 'client') = (company_id is not null)))""",
    "create unique index users_email on users (audience, lower(email))",
    """create table sessions (
        token_hash text primary key, user_id text not null references users,
        csrf_token text not null, created_at timestamptz not null default now(),
        seen_at timestamptz not null default now(), expires_at timestamptz not null, ip text)""",
    "create index sessions_user on sessions (user_id)",
    """create table audit_log (
        id text primary key, at timestamptz not null default clock_timestamp(), actor text,
        action text not null, subject text, before jsonb, after jsonb, ip text)""",
    "create index audit_log_at on audit_log (at desc)",
    """create table stream_rows (
        id bigint generated always as identity primary key, topic text not null,
        client_id text not null, mode text not null, payload jsonb not null,
        at timestamptz not null default clock_timestamp())""",
    "create index stream_rows_at on stream_rows (at)",
]


def upgrade() -> None:
    """Make everything; the database was empty. Only the worker role reaches these tables."""
    for statement in [
        *schema.OUTBOX_AND_INBOX_V1,
        *schema.PARTITIONS_V1,
        *TABLES,
        *schema.grants("mospay_portal"),
        "revoke update, delete, truncate on audit_log from mospay_portal_worker",
    ]:
        op.execute(statement)
