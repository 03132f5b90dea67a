"""Address rules, rate limits, limits of an assignment, what the gateway has acknowledged.

Works beside the version before it: every new column has a default or may be null. What is there
already counts as unconfirmed, so it is pushed once.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APP, WORKER = "mospay_portal_app", "mospay_portal_worker"
OPERATOR = "current_setting('mospay.operator', true) = 'on'"
OWN = " or ".join((OPERATOR, "client_id in (select id from clients)"))
PUSHED = ("clients", "credentials")

TABLES = [
    """create table ip_rules (
        id text primary key, client_id text references clients,
        kind text not null check (kind in ('allow', 'deny')), cidr text not null,
        expires_at timestamptz, note text, active boolean not null default true,
        version bigint not null, deleted boolean not null default false,
        created_at timestamptz not null default now(),
        check (kind = 'deny' or client_id is not null))""",
    "create index ip_rules_client on ip_rules (client_id, id) where not deleted",
    "alter table clients add column rate_per_minute int check (rate_per_minute > 0)",
    "alter table credentials add column rate_per_minute int check (rate_per_minute > 0)",
    """alter table assignments add column limits jsonb not null default '{}',
        add column answer_wait_seconds int check (answer_wait_seconds between 1 and 120)""",
    *(
        f"""alter table {table} add column confirmed_version bigint not null default 0,
        add column push_after timestamptz not null default now()"""
        for table in PUSHED
    ),
    *(
        f"create index {table}_unconfirmed on {table} (push_after) "
        "where confirmed_version < version"
        for table in PUSHED
    ),
]


def upgrade() -> None:
    """Add them; the request role sees what its policies show, and never a hash."""
    for statement in [
        *TABLES,
        "alter table ip_rules enable row level security",
        "alter table ip_rules force row level security",
        f"create policy tenant on ip_rules for select to {APP} using ({OWN})",
        f"grant select on ip_rules to {APP}",
        f"grant select (rate_per_minute, confirmed_version) on credentials to {APP}",
        f"grant select, insert, update, delete on ip_rules to {WORKER}",
    ]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
