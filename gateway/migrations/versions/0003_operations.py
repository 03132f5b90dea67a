"""Refunds, cancels, retries, daily limits, sale events."""

from alembic import op
from mospay_shared.chassis import schema

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TENANT = """(client_id = current_setting('mospay.client_id', true)
    and current_setting('mospay.mode', true) in (mode, ''))
    or current_setting('mospay.operator', true) = 'on'"""

PAYMENTS = [
    # Nullable or with a constant default: no rewrite, and the version before this one still works.
    """alter table payments
        add column retry_of text, add column ip text, add column device text,
        add column masked text[] not null default '{}',
        add column cancel_requested_at timestamptz,
        add column refunded_minor bigint not null default 0 check (refunded_minor >= 0),
        add column refunds_open_minor bigint not null default 0 check (refunds_open_minor >= 0),
        add column limit_day date, add column limit_phone bytea,
        add column enquired_at timestamptz,
        add column announcements int not null default 0, add column announce_at timestamptz,
        add check (limit_phone is null or limit_day is not null)""",
    # what the client's own fields (f011…) say, so that a list can be narrowed to a value
    """create table payment_fields (
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        code text not null check (code ~ '^f[0-9]{3}$'), value text not null,
        payment_id text not null,
        primary key (client_id, mode, code, value, payment_id))""",
]

REFUNDS = [
    """create table refunds (
        id text primary key, payment_id text not null, client_id text not null,
        mode text not null check (mode in ('live', 'test')),
        amount_minor bigint not null check (amount_minor > 0), currency char(3) not null,
        reason text, status text not null
            check (status in ('pending', 'succeeded', 'failed', 'unknown')),
        version int not null default 0, provider_reference text, reason_code text,
        reason_message text, late boolean not null default false,
        over_refund boolean not null default false, request_id text,
        requested_at timestamptz not null, updated_at timestamptz)""",
    "create index refunds_of_client on refunds (client_id, mode, id desc)",
    "create index refunds_of_payment on refunds (payment_id, id desc)",
    "create index refunds_unseen on refunds (requested_at) where version = 0",
    # what a key did: made a payment, a refund of one, or asked for one to be cancelled
    "alter table idempotency_keys add column refund_id text",
]

SALES = [
    """create table sale_events (
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        dedupe_hash bytea not null, id text not null, received_at timestamptz not null,
        primary key (client_id, mode, dedupe_hash))""",
    "create index sale_events_age on sale_events using brin (received_at)",
]

KEYS = """input as (
            select * from unnest(client_ids, modes, service_ids, days, phones) with ordinality
                as i(client_id, mode, service_id, day, phone, n)
        ), keys as (
            select distinct client_id, mode, service_id, day, s.subject
            from input cross join lateral (values (''::bytea), (phone)) s(subject)
            where s.subject is not null
        )"""
LIMITS = [
    # `subject` is empty for all a client takes, else the keyed hash of one phone number
    """create table limit_counters (
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        service_id text not null, day date not null, subject bytea not null,
        used_minor numeric(40) not null,
        primary key (client_id, mode, service_id, day, subject))
        with (fillfactor = 50)""",
    "create index limit_counters_age on limit_counters (day)",
    # One call a batch. Counters are locked in key order, so batches never deadlock; each statement
    # in here sees what was committed before it started, so the sums are the newest. Rows are taken
    # in their own order, each if it fits beside those taken before it.
    """create function reserve_daily(
        ids text[], client_ids text[], modes text[], service_ids text[], days date[],
        phones bytea[], amounts bigint[], dailies bigint[], phone_dailies bigint[])
    returns table (payment_id text, refused_by text, left_minor numeric)
    language plpgsql set search_path = public, pg_temp as $$
    declare
        held numeric[]; client_at int[]; phone_at int[]; room numeric;
    begin
        with <keys>
        insert into limit_counters (client_id, mode, service_id, day, subject, used_minor)
        select client_id, mode, service_id, day, subject, 0 from keys
        order by client_id, mode, service_id, day, subject
        on conflict do nothing;

        with <keys>, locked as materialized (
            select c.* from limit_counters c
            join keys k using (client_id, mode, service_id, day, subject)
            order by c.client_id, c.mode, c.service_id, c.day, c.subject for update of c
        ), placed as (
            select l.*, row_number() over (
                order by client_id, mode, service_id, day, subject)::int as place from locked l
        )
        select (select array_agg(p.used_minor order by p.place) from placed p),
               (select array_agg(p.place order by i.n) from input i join placed p
                using (client_id, mode, service_id, day) where p.subject = ''),
               (select array_agg(p.place order by i.n) from input i left join placed p
                on (p.client_id, p.mode, p.service_id, p.day, p.subject)
                 = (i.client_id, i.mode, i.service_id, i.day, i.phone))
        into held, client_at, phone_at;

        for n in 1..cardinality(ids) loop
            payment_id := ids[n]; refused_by := null; left_minor := null;
            room := dailies[n] - held[client_at[n]];
            if amounts[n] > room then
                refused_by := 'daily'; left_minor := greatest(room, 0);
            elsif phone_at[n] is not null then
                room := phone_dailies[n] - held[phone_at[n]];
                if amounts[n] > room then
                    refused_by := 'phone'; left_minor := greatest(room, 0);
                end if;
            end if;
            if refused_by is null then
                held[client_at[n]] := held[client_at[n]] + amounts[n];
                if phone_at[n] is not null then
                    held[phone_at[n]] := held[phone_at[n]] + amounts[n];
                end if;
            end if;
            return next;
        end loop;

        with <keys>, placed as (
            select k.*, row_number() over (
                order by client_id, mode, service_id, day, subject) as place from keys k)
        update limit_counters c set used_minor = held[p.place] from placed p
        where (c.client_id, c.mode, c.service_id, c.day, c.subject)
            = (p.client_id, p.mode, p.service_id, p.day, p.subject)
          and c.used_minor <> held[p.place];
    end $$""".replace("<keys>", KEYS),
]

TENANT_TABLES = ("payment_fields", "refunds", "sale_events", "limit_counters")
ACCESS = [
    *(f"alter table {t} enable row level security" for t in TENANT_TABLES),
    *(f"alter table {t} force row level security" for t in TENANT_TABLES),
    *(
        f"create policy tenant on {t} for select to mospay_gateway_app using ({TENANT})"
        for t in TENANT_TABLES
    ),
    f"grant select on {', '.join(TENANT_TABLES)} to mospay_gateway_app",
    *schema.grants("mospay_gateway", ", ".join(TENANT_TABLES)),
    "revoke execute on function reserve_daily from public",
    "grant execute on function reserve_daily to mospay_gateway_worker",
]


def upgrade() -> None:
    """Widen payments; make what operations need."""
    for statement in [*PAYMENTS, *REFUNDS, *SALES, *LIMITS, *ACCESS]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
