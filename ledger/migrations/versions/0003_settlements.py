"""Settlements and payouts: terms, daily batches with their lines, reserve, maker and checker.

Only adds: the version before this one goes on unchanged beside it.
"""

from alembic import op
from mospay_shared.chassis import schema

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ENTRY_KINDS = """'capture', 'second_capture', 'refund_reserved', 'refund_released', 'refund',
    'over_refund', 'reversal', 'chargeback', 'settlement', 'payout', 'payout_returned',
    'reserve_kept', 'reserve_released', 'payout_paid', 'payout_bounced'"""
MODE = "mode text not null check (mode in ('live', 'test'))"

JOURNAL = [
    "alter table journal_entries drop constraint entries_kind",
    f"alter table journal_entries add constraint entries_kind check (kind in ({ENTRY_KINDS}))",
    # which clients have money that waits: what the settlement worker looks through
    "create index accounts_pending on accounts (id) where kind = 'pending'",
]

TERMS = [
    # Null in client or currency means "any". Versions are rows that are never changed.
    f"""create table settlement_terms (
        id text collate "C" primary key, {MODE}, client_id text, currency char(3),
        hold_days int not null check (hold_days between 0 and 180),
        reserve_bps int not null default 0 check (reserve_bps between 0 and 10000),
        reserve_days int not null default 0 check (reserve_days between 0 and 540),
        minimum_minor bigint not null default 0 check (minimum_minor >= 0),
        destination text not null default '', cut_off time not null default '00:00',
        paused boolean not null default false, effective_from timestamptz not null,
        created_by text, recorded_at timestamptz not null default now(),
        check (minimum_minor = 0 or currency is not null),
        check ((reserve_bps = 0) = (reserve_days = 0)),
        unique nulls not distinct (mode, client_id, currency, effective_from))""",
    # What holds where nobody said otherwise: a day's hold, no reserve, the day ends at midnight.
    """insert into settlement_terms (id, mode, hold_days, effective_from)
        select 'trm_default_' || mode, mode, 1, '2000-01-01T00:00:00Z'
        from unnest(array['live', 'test']) as mode""",
    "create index settlement_terms_scope on settlement_terms (mode, client_id, currency)",
    """create function refuse_terms_of_the_past() returns trigger language plpgsql as $$
    begin
        if new.effective_from < now() then
            raise exception 'settlement terms start now or later' using errcode = '23M03';
        end if;
        return new;
    end $$""",
    """create trigger settlement_terms_start_later before insert on settlement_terms
        for each row execute function refuse_terms_of_the_past()""",
]

SETTLEMENTS = [
    # One row for each client, currency and mode with money: when its next day is looked at, and up
    # to which version of its pending account everything is settled. `open_day`: a day of which only
    # some parts are made.
    f"""create table settlement_schedules (
        client_id text not null, currency char(3) not null, {MODE},
        next_at timestamptz not null default now(), settled_below bigint not null default 0,
        open_day date, failures int not null default 0, reason text,
        primary key (client_id, currency, mode))""",
    "create index settlement_schedules_due on settlement_schedules (next_at)",
    f"""create table settlements (
        id text collate "C" primary key, client_id text not null, {MODE}, currency char(3) not null,
        local_day date not null, part int not null check (part > 0), time_zone text not null,
        cut_off_at timestamptz not null, terms_id text not null references settlement_terms (id),
        entry_id text collate "C" not null unique, line_count int not null check (line_count > 0),
        gross_minor bigint not null check (gross_minor >= 0), fee_minor bigint not null,
        refund_minor bigint not null, adjustment_minor bigint not null,
        net_minor bigint not null check (net_minor > 0),
        reserve_minor bigint not null check (reserve_minor between 0 and net_minor),
        reserve_due_at timestamptz, reserve_released_at timestamptz,
        made_by text not null, settled_at timestamptz not null default now(),
        check (net_minor = gross_minor - fee_minor + refund_minor + adjustment_minor),
        check ((reserve_minor > 0) = (reserve_due_at is not null)),
        unique (client_id, currency, mode, local_day, part))""",
    "create index settlements_newest on settlements (id desc)",
    "create index settlements_client on settlements (client_id, mode, id desc)",
    """create index settlements_reserve on settlements (reserve_due_at)
        where reserve_minor > 0 and reserve_released_at is null""",
    # The journal entries a settlement settles; an entry is settled once, by the primary key.
    f"""create table settlement_lines (
        entry_id text collate "C" primary key,
        settlement_id text collate "C" not null references settlements (id),
        number int not null check (number > 0), client_id text not null, {MODE},
        currency char(3) not null, kind text not null, payment_id text, refund_id text,
        occurred_at timestamptz not null, gross_minor bigint not null, fee_minor bigint not null,
        refund_minor bigint not null, adjustment_minor bigint not null, net_minor bigint not null,
        check (net_minor = gross_minor - fee_minor + refund_minor + adjustment_minor),
        unique (settlement_id, number))""",
    # Whoever writes, at the end of the statement: a settlement is the sum of its lines (23M06).
    """create function check_settlements() returns trigger language plpgsql
        set search_path = public, pg_temp as $$
    declare bad text;
    begin
        select s.id into bad from settlements s
        join (select settlement_id, count(*) as lines, sum(gross_minor) as gross,
                sum(fee_minor) as fee, sum(refund_minor) as refund,
                sum(adjustment_minor) as adjustment, min(client_id || mode || currency) as owner,
                max(client_id || mode || currency) as other
              from settlement_lines
              where settlement_id in (select distinct settlement_id from fresh)
              group by settlement_id) l on l.settlement_id = s.id
        where (s.line_count, s.gross_minor, s.fee_minor, s.refund_minor, s.adjustment_minor)
                <> (l.lines, l.gross, l.fee, l.refund, l.adjustment)
            or l.owner <> s.client_id || s.mode || s.currency or l.other <> l.owner
        limit 1;
        if found then
            raise exception 'settlement % is not the sum of its lines', bad using errcode = '23M06';
        end if;
        return null;
    end $$""",
    """create trigger settlement_lines_sum after insert on settlement_lines
        referencing new table as fresh for each statement execute function check_settlements()""",
]

PAYOUTS = [
    f"""create table payouts (
        id text collate "C" primary key, client_id text not null, {MODE}, currency char(3) not null,
        amount_minor bigint not null check (amount_minor > 0), destination text not null,
        status text not null check (status in
            ('created', 'approved', 'rejected', 'paid', 'failed', 'returned')),
        version int not null default 1 check (version > 0), idempotency_key text not null,
        created_by text not null, decided_by text, reference text, reason text,
        created_at timestamptz not null default now(),
        changed_at timestamptz not null default now(),
        -- a second person, whatever the service believes
        check (decided_by is null or decided_by <> created_by),
        check ((status = 'created') = (decided_by is null)),
        check (status not in ('paid', 'returned') or reference is not null),
        unique (client_id, mode, idempotency_key))""",
    "create index payouts_newest on payouts (id desc)",
    "create index payouts_client on payouts (client_id, mode, id desc)",
    f"""create table payout_steps (
        payout_id text collate "C" not null references payouts (id), version int not null,
        client_id text not null, {MODE}, status text not null, actor text not null, reason text,
        reference text, entry_id text collate "C", at timestamptz not null default now(),
        primary key (payout_id, version))""",
    # What a payout is stays; only its life moves, a step at a time, and never back.
    """create function check_payout_step() returns trigger language plpgsql as $$
    begin
        if (new.id, new.client_id, new.mode, new.currency, new.amount_minor, new.destination,
                new.created_by, new.created_at, new.idempotency_key)
            is distinct from (old.id, old.client_id, old.mode, old.currency, old.amount_minor,
                old.destination, old.created_by, old.created_at, old.idempotency_key)
            or new.version <> old.version + 1
            or (old.decided_by is not null and new.decided_by is distinct from old.decided_by)
            or (old.status, new.status) not in (('created', 'approved'), ('created', 'rejected'),
                ('approved', 'paid'), ('approved', 'failed'), ('paid', 'returned')) then
            raise exception 'payout %: % to % is no step', old.id, old.status, new.status
                using errcode = '23M07';
        end if;
        return new;
    end $$""",
    """create trigger payouts_step before update on payouts
        for each row execute function check_payout_step()""",
]
IMMUTABLE = [
    f"create trigger {table}_immutable before {what} on {table} "
    "for each statement execute function refuse_change()"
    for table, what in {
        "settlement_terms": "update or delete or truncate",
        "settlement_lines": "update or delete or truncate",
        "payout_steps": "update or delete or truncate",
        "settlements": "delete or truncate",
        "payouts": "delete or truncate",
    }.items()
] + [
    """create trigger settlements_identity before update of id, client_id, mode, currency,
        local_day, part, entry_id, line_count, gross_minor, fee_minor, refund_minor,
        adjustment_minor, net_minor, reserve_minor, reserve_due_at, cut_off_at on settlements
        for each statement execute function refuse_change()""",
]

TENANT = """(current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and current_setting('mospay.mode', true) in (mode, '')))"""
OPERATOR = "(current_setting('mospay.operator', true) = 'on')"
# A client reads its own zone and name, nobody else's.
DIRECTORY = """(current_setting('mospay.operator', true) = 'on' or (kind = 'client'
    and entity_id = nullif(current_setting('mospay.client_id', true), '')))"""
POLICIES = {
    "settlement_terms": TENANT,
    "settlements": TENANT,
    "settlement_lines": TENANT,
    "payouts": TENANT,
    "payout_steps": TENANT,
    "settlement_schedules": OPERATOR,
    "directory_entity": DIRECTORY,
    "directory_snapshot": OPERATOR,
}
ACCESS = [
    *(
        f"alter table {table} {way} row level security"
        for table in POLICIES
        for way in ("enable", "force")
    ),
    *(
        f"create policy tenant on {table} for select to mospay_ledger_app using {condition}"
        for table, condition in POLICIES.items()
    ),
    f"grant select on {', '.join(POLICIES)} to mospay_ledger_app",
    "grant select, insert on settlement_terms, settlement_lines, payout_steps "
    "to mospay_ledger_worker",
    "grant select, insert, update on settlement_schedules, directory_entity, directory_snapshot "
    "to mospay_ledger_worker",
    "grant select, insert, update (reserve_released_at) on settlements to mospay_ledger_worker",
    """grant select, insert, update (status, version, decided_by, reference, reason, changed_at)
        on payouts to mospay_ledger_worker""",
]


def upgrade() -> None:
    """Add the tables."""
    for statement in [
        *schema.DIRECTORY_V1,
        *JOURNAL,
        *TERMS,
        *SETTLEMENTS,
        *PAYOUTS,
        *IMMUTABLE,
        *ACCESS,
    ]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
