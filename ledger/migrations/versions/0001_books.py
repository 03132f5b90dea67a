"""The books: accounts, fee plans, journal entries, postings; balanced by the database itself."""

from alembic import op
from mospay_shared.chassis import schema

revision = "0001"
down_revision = None

TENANT = """(current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and current_setting('mospay.mode', true) in (mode, '')))"""

BOOKS = [
    """create table accounts (
        id text primary key, kind text not null
            check (kind in ('clearing', 'pending', 'fees', 'refund_due')),
        client_id text, currency char(3) not null,
        mode text not null check (mode in ('live', 'test')),
        balance_minor bigint not null default 0, version bigint not null default 0,
        opened_at timestamptz not null default now(),
        check ((client_id is not null) = (kind in ('pending', 'refund_due'))),
        unique (id, currency, mode))""",
    "create index accounts_client on accounts (client_id) where client_id is not null",
    # Null in client, service or currency means "any". A fixed part is an amount, so it needs a
    # currency.
    """create table fee_plans (
        id text not null, version int not null check (version > 0),
        mode text not null check (mode in ('live', 'test')),
        client_id text, service_id text, currency char(3),
        basis_points int not null check (basis_points between 0 and 10000),
        fixed_minor bigint not null default 0 check (fixed_minor >= 0),
        effective_from timestamptz not null, recorded_at timestamptz not null default now(),
        check (fixed_minor = 0 or currency is not null),
        primary key (id, version), unique (id, version, mode),
        unique nulls not distinct (mode, client_id, service_id, currency, effective_from))""",
    # The plan that applies where no other does: 2 %, from before the first payment.
    """insert into fee_plans (id, version, mode, basis_points, effective_from)
        select 'default_' || mode, 1, mode, 200, '2000-01-01T00:00:00Z'
        from unnest(array['live', 'test']) as mode""",
    # postings_count closes an entry: nothing can be added to it later, not even a balanced pair.
    """create table journal_entries (
        id text primary key, kind text not null check (kind in ('capture', 'second_capture')),
        effect_key text not null unique, payment_id text not null, attempt_id text,
        client_id text not null, mode text not null check (mode in ('live', 'test')),
        currency char(3) not null, amount_minor bigint not null check (amount_minor > 0),
        fee_minor bigint not null check (fee_minor between 0 and amount_minor),
        fee_plan_id text, fee_plan_version int,
        postings_count smallint not null check (postings_count >= 2),
        late boolean not null, accepted_at timestamptz not null, occurred_at timestamptz not null,
        posted_at timestamptz not null,
        check ((fee_plan_id is null) = (fee_plan_version is null)),
        check (fee_minor = 0 or fee_plan_id is not null),
        foreign key (fee_plan_id, fee_plan_version, mode) references fee_plans (id, version, mode),
        unique (id, currency, mode))""",
    # A payment is captured once; whatever comes after that is owed back.
    """create unique index journal_entries_capture on journal_entries (payment_id)
        where kind = 'capture'""",
    "create index journal_entries_payment on journal_entries (payment_id)",
    "create index journal_entries_client on journal_entries (client_id, mode, posted_at desc)",
    "create index journal_entries_posted on journal_entries using brin (posted_at)",
    """create table postings (
        entry_id text not null, account_id text not null, client_id text,
        currency char(3) not null, mode text not null,
        amount_minor bigint not null check (amount_minor <> 0),
        balance_minor bigint not null, account_version bigint not null,
        primary key (account_id, account_version),
        foreign key (entry_id, currency, mode) references journal_entries (id, currency, mode),
        foreign key (account_id, currency, mode) references accounts (id, currency, mode))""",
    "create index postings_entry on postings (entry_id)",
]

# Whoever writes, at commit: an entry has the postings it says and they sum to zero (currency and
# mode are the entry's own by foreign key). SQLSTATE 23M01 = unbalanced, 23M02 = history is
# immutable, 23M03 = a fee plan was back-dated. The search path is fixed so that no temporary table
# can stand in for the journal.
RULES = [
    """create function check_entry() returns trigger language plpgsql
        set search_path = public, pg_temp as $$
    declare entry text; declared int; total numeric; sides int;
    begin
        if tg_table_name = 'postings' then entry := new.entry_id; else entry := new.id; end if;
        select postings_count into declared from journal_entries where id = entry;
        select coalesce(sum(amount_minor), 0), count(*) into total, sides
            from postings where entry_id = entry;
        if total <> 0 or sides is distinct from declared then
            raise exception 'entry % does not balance: % over % of % postings',
                entry, total, sides, declared using errcode = '23M01';
        end if;
        return null;
    end $$""",
    """create constraint trigger entry_balances after insert on journal_entries
        deferrable initially deferred for each row execute function check_entry()""",
    """create constraint trigger posting_balances after insert on postings
        deferrable initially deferred for each row execute function check_entry()""",
    """create function refuse_change() returns trigger language plpgsql as $$
    begin
        raise exception '% is never changed: post a reversal or a new version', tg_table_name
            using errcode = '23M02';
    end $$""",
    *(
        f"create trigger {table}_immutable before update or delete or truncate on {table} "
        "for each statement execute function refuse_change()"
        for table in ("journal_entries", "postings", "fee_plans")
    ),
    """create function refuse_back_dating() returns trigger language plpgsql as $$
    begin
        if new.effective_from < now() then
            raise exception 'a fee plan starts now or later' using errcode = '23M03';
        end if;
        return new;
    end $$""",
    """create trigger fee_plans_start_later before insert on fee_plans
        for each row execute function refuse_back_dating()""",
]

TENANT_TABLES = ("accounts", "journal_entries", "postings", "fee_plans")
ACCESS = [
    *(f"alter table {table} enable row level security" for table in TENANT_TABLES),
    *(f"alter table {table} force row level security" for table in TENANT_TABLES),
    *(
        f"create policy tenant on {table} for select to mospay_ledger_app using {TENANT}"
        for table in TENANT_TABLES
    ),
    "grant select on accounts, journal_entries, postings to mospay_ledger_app",
    *schema.grants("mospay_ledger"),
    "revoke update, delete on journal_entries, postings, fee_plans from mospay_ledger_worker",
    "revoke update, delete on accounts from mospay_ledger_worker",
    "grant update (balance_minor, version) on accounts to mospay_ledger_worker",
]


def upgrade() -> None:
    """Make everything; the database was empty."""
    for statement in [
        *schema.OUTBOX_AND_INBOX_V1,
        *schema.PARTITIONS_V1,
        *BOOKS,
        *RULES,
        *ACCESS,
    ]:
        op.execute(statement)
