"""The books: accounts, journal entries, postings; balanced and immutable by the database itself."""

from alembic import op
from mospay_shared.chassis import schema

revision = "0001"
down_revision = None

TENANT = """(current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and current_setting('mospay.mode', true) in (mode, '')))"""

BOOKS = [
    """create table accounts (
        id text primary key, kind text not null, owner text not null, client_id text,
        currency char(3) not null, mode text not null check (mode in ('live', 'test')),
        balance_minor bigint not null default 0, version bigint not null default 0,
        opened_at timestamptz not null default now(), unique (id, currency, mode))""",
    "create index accounts_client on accounts (client_id) where client_id is not null",
    """create table journal_entries (
        id text primary key, kind text not null, effect_key text not null unique,
        payment_id text not null, attempt_id text, client_id text not null,
        mode text not null check (mode in ('live', 'test')), currency char(3) not null,
        amount_minor bigint not null check (amount_minor > 0),
        fee_minor bigint not null check (fee_minor >= 0), plan_version text not null,
        late boolean not null, accepted_at timestamptz not null, occurred_at timestamptz not null,
        posted_at timestamptz not null default clock_timestamp(), unique (id, currency, mode))""",
    "create index journal_entries_payment on journal_entries (payment_id)",
    "create index journal_entries_client on journal_entries (client_id, mode, posted_at desc)",
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

# Whoever writes, at commit: every entry has postings and sums to zero (currency and mode are
# the entry's own by foreign key). SQLSTATE 23M01 = unbalanced, 23M02 = history is immutable.
RULES = [
    """create function check_entry() returns trigger language plpgsql as $$
    declare entry text; total numeric; sides int;
    begin
        if tg_table_name = 'postings' then entry := new.entry_id; else entry := new.id; end if;
        select coalesce(sum(amount_minor), 0), count(*) into total, sides
            from postings where entry_id = entry;
        if total <> 0 or sides < 2 then
            raise exception 'entry % does not balance: % over % postings', entry, total, sides
                using errcode = '23M01';
        end if;
        return null;
    end $$""",
    """create constraint trigger entry_balances after insert on journal_entries
        deferrable initially deferred for each row execute function check_entry()""",
    """create constraint trigger posting_balances after insert on postings
        deferrable initially deferred for each row execute function check_entry()""",
    """create function refuse_change() returns trigger language plpgsql as $$
    begin
        raise exception 'the journal is never changed: post a reversal' using errcode = '23M02';
    end $$""",
    *(
        f"create trigger {table}_immutable before update or delete or truncate on {table} "
        "for each statement execute function refuse_change()"
        for table in ("journal_entries", "postings")
    ),
]

ACCESS = [
    *(
        f"alter table {t} enable row level security"
        for t in ("accounts", "journal_entries", "postings")
    ),
    *(
        f"alter table {t} force row level security"
        for t in ("accounts", "journal_entries", "postings")
    ),
    *(
        f"create policy tenant on {t} for select to mospay_ledger_app using {TENANT}"
        for t in ("accounts", "journal_entries", "postings")
    ),
    "grant select on accounts, journal_entries, postings to mospay_ledger_app",
    *schema.grants("mospay_ledger"),
    "revoke update, delete, truncate on journal_entries, postings from mospay_ledger_worker",
    "revoke delete, truncate on accounts from mospay_ledger_worker",
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
