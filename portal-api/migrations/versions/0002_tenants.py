"""Row-level security under people's reads; counted unknown addresses; names freed by tombstones.

Works beside the version before it: new columns may be null, nothing it uses goes away.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

APP = "mospay_portal_app"
OPERATOR = "current_setting('mospay.operator', true) = 'on'"
OWN_COMPANY = "current_setting('mospay.company_id', true)"
# A table, and which of its rows a client user's company may see. What a policy's own query sees
# of `clients` is bounded by that table's policy in turn.
POLICIES = {
    "companies": f"id = {OWN_COMPANY}",
    "clients": f"company_id = {OWN_COMPANY}",
    **dict.fromkeys(
        ("client_apps", "assignments", "credentials", "stream_rows"),
        "client_id in (select id from clients)",
    ),
}

TABLES = [
    # Wrong passwords for addresses nobody has are counted as well, so that counting tells nothing.
    """create table unknown_logins (
        audience text not null, address_hash text not null, failed_attempts int not null,
        locked_until timestamptz, at timestamptz not null default now(),
        primary key (audience, address_hash))""",
    "alter table services drop constraint services_microservice_name_key",
    "create unique index services_name on services (microservice, name) where not deleted",
    "alter table assignments drop constraint assignments_client_id_service_id_key",
    """create unique index assignments_pair on assignments (client_id, service_id)
        where not deleted""",
    # The whole event too: a payment can be shown while the reporter is away.
    "alter table stream_rows add column payment_id text, add column event jsonb",
    """create index stream_rows_payment on stream_rows (payment_id, id desc)
        where payment_id is not null""",
    """create table stream_mark (
        single boolean primary key default true check (single),
        pruned_through bigint not null default 0)""",
    "insert into stream_mark (single) values (true)",
    "alter table audit_log add column request_id text",
    """create function refuse_change() returns trigger language plpgsql as $$
    begin
        raise exception 'the audit log is never changed' using errcode = '23M02';
    end $$""",
    """create trigger audit_log_immutable before update or delete or truncate on audit_log
        for each statement execute function refuse_change()""",
]


def upgrade() -> None:
    """Add the policies; the worker role bypasses them, the request role has nothing else."""
    for statement in [
        *TABLES,
        *(f"alter table {table} enable row level security" for table in POLICIES),
        *(f"alter table {table} force row level security" for table in POLICIES),
        *(
            f"create policy tenant on {table} for select to {APP} using ({OPERATOR} or {rows})"
            for table, rows in POLICIES.items()
        ),
        f"grant select on companies, clients, client_apps, services, assignments, stream_rows, "
        f"stream_mark to {APP}",
        # never the hash
        f"grant select (id, client_id, app_id, mode, kind, lookup, expires_at, revoked, version, "
        f"created_at, revoked_at) on credentials to {APP}",
        "grant select, insert, update, delete on unknown_logins, stream_mark "
        "to mospay_portal_worker",
    ]:
        op.execute(statement)
