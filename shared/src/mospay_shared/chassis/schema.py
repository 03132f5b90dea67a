"""The tables the chassis needs in every service's database, as statements for its migrations.

A statement list never changes once released; a later shape gets a new function (`…_v2`).
"""

import datetime as dt

from mospay_shared.chassis.following import followed_v1

OUTBOX_AND_INBOX_V1 = [
    """create table outbox (
        id text primary key, type text not null, subject text not null, command boolean not null,
        body bytea not null, attempts int not null default 0,
        not_before timestamptz not null default now(), reason text)
        with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)""",
    """create table inbox (
        event_day date not null, event_id text not null, queue text not null, type text not null,
        subject text not null, causation_id text, correlation_id text, state text not null
            check (state in ('done', 'retry', 'dead')),
        published_at timestamptz, received_at timestamptz not null,
        handled_at timestamptz, attempts int not null, next_at timestamptz, reason text, body bytea,
        check (state <> 'retry' or next_at is not null),
        primary key (event_day, event_id, queue)) partition by range (event_day)""",
    "create table inbox_default partition of inbox default",
    "create index inbox_subject on inbox (subject) where subject <> ''",
    "create index inbox_waiting on inbox (queue, next_at) where state = 'retry'",
    "create index inbox_dead on inbox (received_at) where state = 'dead'",
]


def grants(database: str, tables: str = "all tables in schema public") -> list[str]:
    """Return the grants of a service's two application roles; the owner keeps ownership."""
    return [
        f"grant usage on schema public to {database}_app, {database}_worker",
        f"grant select, insert, update, delete on {tables} to {database}_worker",
        f"grant usage, select on all sequences in schema public to {database}_app",
        f"grant usage, select on all sequences in schema public to {database}_worker",
    ]


# Partitions are made by the owner's function, so that workers need not own tables.
PARTITIONS_V1 = [
    """create function inbox_keep_partitions(first date, days int, drop_before date)
    returns void language plpgsql security definer set search_path = public, pg_temp as $$
    declare day date; name text; old record;
    begin
        for n in 0..days - 1 loop
            day := first + n; name := 'inbox_' || to_char(day, 'YYYYMMDD');
            if to_regclass(name) is null
               and not exists (select 1 from inbox_default where event_day = day) then
                execute format('create table %I partition of inbox for values from (%L) to (%L)',
                               name, day, day + 1);
            end if;
        end loop;
        for old in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
                   where i.inhparent = 'inbox'::regclass and c.relname ~ '^inbox_[0-9]{8}$'
                     and to_date(right(c.relname, 8), 'YYYYMMDD') < drop_before loop
            execute format('drop table %I', old.relname);
        end loop;
    end $$""",
]


def partition_calls(today: dt.date, retention_days: int) -> tuple[dt.date, int, dt.date]:
    """Return first day, number of days and drop limit for `inbox_keep_partitions`."""
    return today, 3, today - dt.timedelta(days=retention_days)


DIRECTORY_V1 = [
    """create table directory_entity (
        kind text not null, entity_id text not null, version bigint not null,
        deleted boolean not null, body jsonb not null,
        changed_at timestamptz not null default clock_timestamp(),
        primary key (kind, entity_id))""",
    "create index directory_entity_changed on directory_entity (changed_at)",
    """create table directory_snapshot (
        request_id text primary key, requested_at timestamptz not null default now(),
        credentials boolean not null, parts_done boolean not null default false,
        credentials_done boolean not null default false, high_water bigint)""",
]

# After DIRECTORY_V1.
DIRECTORY_V2 = [*followed_v1("directory_entity"), "drop index directory_entity_changed"]
