"""Payers: an account a customer of the ledger, its login, and the links that are mailed to it.

Works beside the version before it: new tables, a column that may be null, and rules that only let
in more. A payer's login is a user of an audience that version never asks for.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APP, WORKER = "mospay_portal_app", "mospay_portal_worker"
OPERATOR = "current_setting('mospay.operator', true) = 'on'"
OWN = " or ".join((OPERATOR, "client_id in (select id from clients)"))
TABLES = [
    # What the ledger says of a customer, newest version; with whom the issuer was when it invited.
    # `confirmed_email`: an address the payer itself has proven, so that it keeps its password.
    """create table payer_accounts (
        customer_id text primary key, issuer_id text not null, client_id text,
        recipient_client_id text, mode text not null check (mode in ('live', 'test')),
        name text not null, email text, locale text not null, active boolean not null,
        portal_enabled boolean not null, version bigint not null, confirmed_email text,
        issuer_name text, issuer_email text, colour text,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now())""",
    "create index payer_accounts_email on payer_accounts (lower(email)) where email is not null",
    "alter table users drop constraint users_audience_check, alter password_hash drop not null, "
    "add column customer_id text unique references payer_accounts",
    "alter table users add constraint users_audience_check "
    "check (audience in ('admin', 'client', 'payer'))",
    """alter table users add constraint users_payer_check
        check ((audience = 'payer') = (customer_id is not null))""",
    # One address may be the contact of several customers, each with a login of its own.
    "drop index users_email",
    """create unique index users_email on users (audience, lower(email))
        where audience <> 'payer'""",
    "create index users_payer_email on users (lower(email)) where audience = 'payer'",
    # Of a token its hash alone, and that only once its mail is composed.
    """create table payer_links (
        id text primary key, customer_id text not null references payer_accounts,
        kind text not null check (kind in ('invite', 'reset', 'verify')), email text not null,
        token_hash text unique, created_by text, created_at timestamptz not null default now(),
        expires_at timestamptz not null, used_at timestamptz, revoked_at timestamptz)""",
    "create index payer_links_customer on payer_links (customer_id, created_at desc)",
    "create index payer_links_ended on payer_links (expires_at)",
    # Mails asked for in an hour, by hashed address and by IP.
    """create table payer_asks (
        key text not null, hour timestamptz not null, asked int not null,
        primary key (key, hour))""",
]
ACCESS = [
    "alter table payer_accounts enable row level security",
    "alter table payer_accounts force row level security",
    f"create policy tenant on payer_accounts for select to {APP} using ({OWN})",
    f"grant select on payer_accounts to {APP}",
    f"grant select, insert, update on payer_accounts to {WORKER}",
    f"grant select, insert, update, delete on payer_links, payer_asks to {WORKER}",
]


def upgrade() -> None:
    """Add them."""
    for statement in [*TABLES, *ACCESS]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
