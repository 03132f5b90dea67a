"""Risk before the first attempt: rules, lists, thresholds, counters, decisions and their reviews.

Works beside the version before it: nothing that one uses changes.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MODE = "mode text not null check (mode in ('live', 'test'))"
TABLES = [
    # One number that rises with every change of rules, lists and thresholds: what is in memory is
    # told apart from what is stored by it, and a decision says under which number it was made.
    """create table risk_version (
        single boolean primary key default true check (single), version bigint not null)""",
    "insert into risk_version (version) values (1)",
    # client_id is null where a row holds for all clients.
    f"""create table risk_rules (
        id text primary key, client_id text, {MODE}, body jsonb not null, active boolean not null,
        version int not null, updated_by text not null,
        updated_at timestamptz not null default clock_timestamp(),
        deleted boolean not null default false)""",
    # subject: a keyed digest (phone, device), a network (ip) or a customer id. `shown` is what a
    # person may see of it.
    f"""create table risk_entries (
        id text primary key, client_id text, {MODE},
        list text not null check (list in ('block', 'allow')),
        kind text not null check (kind in ('phone', 'device', 'ip', 'customer')),
        subject text not null, shown text not null, reason text not null, expires_at timestamptz,
        added_by text not null, added_at timestamptz not null default clock_timestamp(),
        deleted_by text, deleted_at timestamptz)""",
    """create unique index risk_entries_once
        on risk_entries (coalesce(client_id, ''), mode, list, kind, subject)
        where deleted_at is null""",
    f"""create table risk_thresholds (
        client_id text, {MODE}, hold_at int not null check (hold_at > 0),
        refuse_at int not null check (refuse_at >= hold_at), version int not null,
        updated_by text not null, updated_at timestamptz not null default clock_timestamp())""",
    "create unique index risk_thresholds_once on risk_thresholds (coalesce(client_id, ''), mode)",
    # Counted while a rule asks for it, by the minute and by the hour (grain, in minutes). Unlogged:
    # a crash of the database empties it, which forgets one window and never a payment.
    f"""create unlogged table risk_velocity (
        key bytea not null, bucket int not null, currency char(3) not null, grain smallint not null,
        client_id text not null, {MODE}, payments bigint not null, amount_minor numeric not null,
        primary key (key, bucket, currency)) with (fillfactor = 70)""",
    "create index risk_velocity_bucket on risk_velocity using brin (bucket)",
    # What was allowed before: of a payer (keyed digest), and of a client by the day.
    f"""create table risk_payers (
        key bytea not null, currency char(3) not null, client_id text not null, {MODE},
        payments bigint not null, total_minor numeric not null, squares numeric not null,
        largest_minor numeric not null,
        first_seen_at timestamptz not null default clock_timestamp(),
        last_seen_at timestamptz not null default clock_timestamp(),
        primary key (key, currency)) with (fillfactor = 80)""",
    f"""create table risk_client_days (
        client_id text not null, {MODE}, currency char(3) not null, day date not null,
        payments bigint not null, total_minor numeric not null, squares numeric not null,
        largest_minor numeric not null, primary key (client_id, mode, currency, day))
        with (fillfactor = 70)""",
    f"""create table risk_decisions (
        payment_id text primary key references payments, client_id text not null, {MODE},
        decision text not null check (decision in ('allow', 'hold', 'refuse')),
        score int not null, reasons jsonb not null, by_default boolean not null,
        took_ms double precision not null, rules_version bigint not null,
        assessed_at timestamptz not null default clock_timestamp())""",
    # Every review that was asked for, also what came too late. By the person, so that a message
    # that comes twice is known, and a second person's word on the same version is kept.
    f"""create table risk_reviews (
        payment_id text not null references payments, version int not null, by text not null,
        client_id text not null, {MODE},
        decision text not null check (decision in ('release', 'refuse')), note text not null,
        applied boolean not null, requested_at timestamptz not null,
        at timestamptz not null default clock_timestamp(),
        primary key (payment_id, version, by))""",
    "create index payments_held on payments (id) where status = 'held'",
]
TENANT_TABLES = (
    "risk_rules",
    "risk_entries",
    "risk_thresholds",
    "risk_velocity",
    "risk_payers",
    "risk_client_days",
    "risk_decisions",
    "risk_reviews",
)
POLICY = """create policy tenant on {table} to mospay_router_app using (
    current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and (mode = current_setting('mospay.mode', true)
             or current_setting('mospay.mode', true) = '')))"""
WORKER = "mospay_router_worker"
GRANTS = [
    """grant select on risk_rules, risk_thresholds, risk_decisions, risk_reviews
        to mospay_router_app""",
    """grant select (id, client_id, mode, list, kind, shown, reason, expires_at, added_by, added_at,
        deleted_at) on risk_entries to mospay_router_app""",
    f"grant select, update on risk_version to {WORKER}",
    f"grant select, insert, update on risk_rules, risk_entries, risk_thresholds to {WORKER}",
    f"grant select, insert on risk_decisions, risk_reviews to {WORKER}",
    f"""grant select, insert, update, delete on risk_velocity, risk_payers, risk_client_days
        to {WORKER}""",
]
# Defaults for live payments, far above what an honest payer or shop does. Test mode has none: load
# tests and demos pay from one number. No amounts: those depend on the currency.
SEEDS = [
    """insert into risk_rules (id, mode, body, active, version, updated_by)
    select 'rsk_default_' || name, 'live', body::jsonb, true, 1, 'migration 0004' from (values
        ('phone_10_min', '{"kind": "velocity", "scope": "phone", "window_minutes": 10,
            "max_payments": 30, "points": 60}'),
        ('phone_day', '{"kind": "velocity", "scope": "phone", "window_minutes": 1440,
            "max_payments": 200, "points": 60}'),
        ('device_10_min', '{"kind": "velocity", "scope": "device", "window_minutes": 10,
            "max_payments": 600, "points": 40}'),
        ('ip_10_min', '{"kind": "velocity", "scope": "ip", "window_minutes": 10,
            "max_payments": 6000, "points": 40}'),
        ('client_minute', '{"kind": "velocity", "scope": "client", "window_minutes": 1,
            "max_payments": 12000, "points": 20}'),
        ('payer_amount', '{"kind": "anomaly_amount", "against": "payer", "least_payments": 10,
            "times_max_percent": 1000, "points": 30}'),
        ('client_amount', '{"kind": "anomaly_amount", "against": "client", "least_payments": 500,
            "sigmas": 20, "points": 30}')) as seeds(name, body)""",
    """insert into risk_thresholds (mode, hold_at, refuse_at, version, updated_by)
    select mode, 60, 100, 1, 'migration 0004' from (values ('live'), ('test')) as modes(mode)""",
]


def upgrade() -> None:
    """Add the tables with their defaults, then the policies: the owner is subject to them too."""
    for statement in (*TABLES, *SEEDS):
        op.execute(statement)
    for table in TENANT_TABLES:
        op.execute(f"alter table {table} enable row level security")
        op.execute(f"alter table {table} force row level security")
        op.execute(POLICY.format(table=table))
    for statement in GRANTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
