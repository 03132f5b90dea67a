"""Facts and rollups of payments, calls of client apps, attempts of webhooks."""

from alembic import op
from mospay_shared.chassis import schema

revision = "0001"
down_revision = None

TENANT = """(current_setting('mospay.operator', true) = 'on'
    or (client_id = nullif(current_setting('mospay.client_id', true), '')
        and current_setting('mospay.mode', true) in (mode, '')))"""

# A payment's month is the one written in its id (UUIDv7), so every message about it, whatever it
# carries besides the id, finds the same row. Bytewise collation: keyset pages compare as bytes do.
# A row with status null is a payment whose books were told of before the payment itself.
FACTS = [
    """create table payment_facts (
        accepted_month date not null check (extract(day from accepted_month) = 1),
        payment_id text collate "C" not null,
        client_id text collate "C" not null,
        mode text not null check (mode in ('live', 'test')),
        currency char(3) not null,
        amount_minor bigint not null check (amount_minor >= 0),
        status text collate "C",
        version bigint not null default -1,
        changed_at timestamptz,
        accepted_at timestamptz,
        app_id text, service_id text, microservice text, service text collate "C", route text,
        reference text collate "C", attempts bigint, provider_reference text, reason_code text,
        reason_message text, late boolean not null default false,
        customer_id text collate "C", product_id text, product_name text, metadata jsonb,
        fee_minor bigint, net_minor bigint, entry_ids text[] not null default '{}',
        recorded_at timestamptz not null default clock_timestamp(),
        primary key (payment_id, accepted_month),
        check (status is null or (changed_at is not null and accepted_at is not null
            and app_id is not null and service_id is not null and service is not null
            and route is not null and reference is not null)),
        check ((status is null) = (version < 0)))
        partition by range (accepted_month)""",
    "create table payment_facts_default partition of payment_facts default",
    # every order of a list, for one client and for all of them
    *[
        f"create index payment_facts_{scope}_{order} on payment_facts ({columns})"
        for scope, key in (("client", "client_id, mode"), ("all", "mode"))
        for order, columns in (
            ("time", f"{key}, accepted_at, payment_id"),
            ("amount", f"{key}, amount_minor, payment_id"),
            ("status", f"{key}, status, accepted_at, payment_id"),
            ("service", f"{key}, service, accepted_at, payment_id"),
        )
    ],
    "create index payment_facts_reference on payment_facts (reference)",
    """create index payment_facts_customer on payment_facts (customer_id)
        where customer_id is not null""",
]


# One shape, two grains. Each client has its rows, and client_id '' those of all clients together:
# an operator's figures read as few rows as a client's. Sums are numeric: a day of absurd amounts
# must not overflow its row and so keep every later payment of that day out.
def rollup(name: str) -> list[str]:
    """Return the statements of a rollup table."""
    return [
        f"""create table {name} (
            client_id text collate "C" not null,
            mode text not null check (mode in ('live', 'test')),
            currency char(3) not null,
            bucket_at timestamptz not null,
            service_id text collate "C" not null,
            service text collate "C" not null,
            payments bigint not null, succeeded bigint not null, failed bigint not null,
            unknown bigint not null, processing bigint not null, held bigint not null,
            requires_customer_action bigint not null, cancelled bigint not null,
            expired bigint not null, conflicted bigint not null,
            volume_minor numeric not null, fees_minor numeric not null, net_minor numeric not null,
            primary key (client_id, mode, bucket_at, currency, service_id, service))
            with (fillfactor = 70)""",
    ]


CALLS = [
    """create table api_calls (
        called_at timestamptz not null, event_id text not null, request_id text not null,
        client_id text, mode text, method text not null, path text not null, status bigint not null,
        latency_ms double precision not null, error_code text, payment_id text, ip text,
        request_body text, response_body text,
        primary key (called_at, event_id)) partition by range (called_at)""",
    "create table api_calls_default partition of api_calls default",
    "create index api_calls_client on api_calls (client_id, mode, called_at)",
    "create index api_calls_payment on api_calls (payment_id) where payment_id is not null",
    # client_id and mode are empty for calls of nobody we know
    """create table api_calls_hourly (
        client_id text collate "C" not null, mode text not null, bucket_at timestamptz not null,
        calls bigint not null, refused bigint not null, failed bigint not null,
        latency_ms double precision not null,
        primary key (client_id, mode, bucket_at)) with (fillfactor = 70)""",
    "create index api_calls_hourly_all on api_calls_hourly (bucket_at)",
    """create table webhook_attempts (
        attempted_at timestamptz not null, delivery_id text not null, attempt bigint not null,
        event_id text not null, endpoint_id text not null, client_id text not null,
        mode text not null check (mode in ('live', 'test')), event_type text not null,
        payment_id text, delivered boolean not null, final boolean not null, status_code bigint,
        error text, duration_ms bigint not null, next_at timestamptz,
        primary key (attempted_at, delivery_id, attempt)) partition by range (attempted_at)""",
    "create table webhook_attempts_default partition of webhook_attempts default",
    """create index webhook_attempts_client
        on webhook_attempts (client_id, mode, attempted_at)""",
]

# Partitions are made by the owner, so that the worker role owns nothing. A partition that is made
# late takes over the rows that wait in the default one; the lock holds off whoever would write
# there meanwhile.
PARTITIONS = [
    """create function reporter_add_partition(parent text, suffix text, key text,
        first text, beyond text) returns boolean language plpgsql
        set search_path = public, pg_temp as $$
    declare name text := parent || '_' || suffix; moved text := parent || '_default';
    begin
        if to_regclass(name) is not null then return false; end if;
        -- room on each page for the row's next version
        execute format('create table %I (like %I including all) with (fillfactor = 80)', name,
                       parent);
        execute format('lock table %I in access exclusive mode', moved);
        execute format('with taken as (delete from %1$I where %2$I >= %4$L and %2$I < %5$L
            returning *) insert into %3$I select * from taken', moved, key, name, first, beyond);
        execute format('alter table %I attach partition %I for values from (%L) to (%L)',
                       parent, name, first, beyond);
        return true;
    end $$""",
    """create function reporter_keep_partitions(today date, months int, days int, drop_before date)
        returns int language plpgsql security definer set search_path = public, pg_temp as $$
    declare made int := 0; month date; day date; parent text; key text; old record;
    begin
        for month in
            select (date_trunc('month', today) + make_interval(months => n))::date
                from generate_series(0, months - 1) n
            union select distinct accepted_month from payment_facts_default
                where accepted_month >= date '2000-01-01' and accepted_month <= today
            order by 1 limit 36
        loop
            made := made + reporter_add_partition('payment_facts', to_char(month, 'YYYYMM'),
                'accepted_month', month::text, (month + interval '1 month')::date::text)::int;
        end loop;
        foreach parent in array array['api_calls', 'webhook_attempts'] loop
            key := case parent when 'api_calls' then 'called_at' else 'attempted_at' end;
            for n in 0..days - 1 loop
                day := today + n;
                made := made + reporter_add_partition(parent, to_char(day, 'YYYYMMDD'), key,
                    day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00')::int;
            end loop;
            for old in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
                       where i.inhparent = to_regclass(parent)
                         and c.relname ~ ('^' || parent || '_[0-9]{8}$')
                         and to_date(right(c.relname, 8), 'YYYYMMDD') < drop_before loop
                execute format('drop table %I', old.relname);
            end loop;
            execute format('delete from %I where %I < %L', parent || '_default', key,
                           drop_before::text || ' 00:00:00+00');
        end loop;
        return made;
    end $$""",
    "revoke execute on function reporter_add_partition(text, text, text, text, text) from public",
    "revoke execute on function reporter_keep_partitions(date, int, int, date) from public",
    """grant execute on function reporter_keep_partitions(date, int, int, date)
        to mospay_reporter_worker""",
]

TENANT_TABLES = (
    "payment_facts",
    "payment_rollups_hourly",
    "payment_rollups_daily",
    "api_calls",
    "api_calls_hourly",
    "webhook_attempts",
)


def protect(table: str) -> list[str]:
    """Let the request role see one tenant's rows alone."""
    return [
        f"alter table {table} enable row level security",
        f"alter table {table} force row level security",
        f"create policy tenant on {table} for select to mospay_reporter_app using {TENANT}",
    ]


STATEMENTS = [
    *schema.OUTBOX_AND_INBOX_V1,
    *schema.PARTITIONS_V1,
    *FACTS,
    *rollup("payment_rollups_hourly"),
    *rollup("payment_rollups_daily"),
    *CALLS,
    *PARTITIONS,
    *[statement for table in TENANT_TABLES for statement in protect(table)],
    *schema.grants("mospay_reporter"),
    """grant select on payment_facts, payment_rollups_hourly, payment_rollups_daily, api_calls,
        api_calls_hourly to mospay_reporter_app""",
    "select reporter_keep_partitions((now() at time zone 'UTC')::date, 3, 3, date '2000-01-01')",
]


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
