"""Refunds, reversals, richer fee plans, hash chain, balances as of any time.

While this runs and until the new version is everywhere, the version before it can't write: its
postings lack what is required here. Its inbox keeps such events and tries them again, so nothing is
lost; nothing older than 0002 may be started afterwards.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JOURNAL = ("accounts", "journal_entries", "postings", "fee_plans")
CLIENT_KINDS = "'pending', 'available', 'payout', 'refund_due', 'reserve', 'receivable'"
ENTRY_KINDS = """'capture', 'second_capture', 'refund_reserved', 'refund_released', 'refund',
    'over_refund', 'reversal', 'chargeback', 'settlement', 'payout', 'payout_returned'"""

# The owner sees no rows under forced row-level security, and may not change history: both rest
# while the rows of before get what is new.
OPEN = [
    *(f"alter table {table} no force row level security" for table in JOURNAL),
    *(f"alter table {table} disable row level security" for table in JOURNAL),
    *(f"alter table {table} disable trigger {table}_immutable" for table in JOURNAL[1:]),
    "set constraints all immediate",
]
CLOSE = [
    *(f"alter table {table} enable trigger {table}_immutable" for table in JOURNAL[1:]),
    *(f"alter table {table} enable row level security" for table in JOURNAL),
    *(f"alter table {table} force row level security" for table in JOURNAL),
]

# The statement's own check (RULES) holds what the foreign keys held, for a tenth of the cost:
# neither entries nor accounts can ever go away or change.
POSTINGS_FREE = [
    "alter table postings drop constraint postings_entry_id_currency_mode_fkey",
    "alter table postings drop constraint postings_account_id_currency_mode_fkey",
    "alter table journal_entries drop constraint journal_entries_id_currency_mode_key",
    "alter table accounts drop constraint accounts_id_currency_mode_key",
]
# Ids are compared byte by byte: a locale's rules cost more than the rest of an index descent.
BYTEWISE = [
    f'alter table {table} alter column {column} type text collate "C"'
    for table, columns in {
        "accounts": ("id",),
        "journal_entries": ("id", "effect_key", "payment_id", "attempt_id"),
        "postings": ("entry_id", "account_id"),
    }.items()
    for column in columns
]
ACCOUNTS = [
    "alter table accounts drop constraint accounts_kind_check",
    "alter table accounts drop constraint accounts_check",
    f"""alter table accounts add constraint accounts_kind check
        (kind in ('clearing', 'fees', 'refunds', 'suspense', {CLIENT_KINDS}))""",
    f"""alter table accounts add constraint accounts_owner check
        ((client_id is not null) = (kind in ({CLIENT_KINDS})))""",
    # Credits are negative: what we owe a client never turns into a debt of theirs, which has an
    # account of its own (receivable), nor that into a credit.
    """alter table accounts add constraint accounts_sign check (case
        when kind in ('pending', 'available', 'payout', 'refund_due', 'reserve')
            then balance_minor <= 0
        when kind = 'receivable' then balance_minor >= 0 else true end)""",
    "alter table accounts add column last_posted_at timestamptz not null default '-infinity'",
    "create index accounts_mode on accounts (mode, currency, id)",
]

FEE_PLANS = [
    "alter table fee_plans add column min_minor bigint check (min_minor >= 0)",
    "alter table fee_plans add column max_minor bigint check (max_minor >= 0)",
    # [{from_minor, basis_points, fixed_minor}], ascending, the first from 0: whole amount, not
    # marginal.
    """alter table fee_plans add column tiers jsonb not null default '[]'
        check (jsonb_typeof(tiers) = 'array')""",
    """alter table fee_plans add column fee_on_refund text not null default 'keep'
        check (fee_on_refund in ('keep', 'return'))""",
    "alter table fee_plans add column effective_until timestamptz",
    "alter table fee_plans add column created_by text",
    """alter table fee_plans add constraint fee_plans_span
        check (effective_until is null or effective_until > effective_from)""",
    """alter table fee_plans add constraint fee_plans_range check (max_minor >= min_minor)""",
    """alter table fee_plans add constraint fee_plans_amounts_need_currency check (currency is not
        null or (min_minor is null and max_minor is null and tiers = '[]'))""",
    "create index fee_plans_client on fee_plans (client_id, mode)",
]

ENTRIES = [
    "alter table journal_entries drop constraint journal_entries_kind_check",
    f"alter table journal_entries add constraint entries_kind check (kind in ({ENTRY_KINDS}))",
    "alter table journal_entries alter payment_id drop not null",
    "alter table journal_entries alter accepted_at drop not null",
    'alter table journal_entries add column refund_id text collate "C"',
    "alter table journal_entries add column service_id text",
    "alter table journal_entries add column provider_reference text",
    "alter table journal_entries add column reason text",
    "alter table journal_entries add column resolved boolean not null default false",
    "alter table journal_entries add column fee_tier smallint",
    """alter table journal_entries add column fee_returned_minor bigint not null default 0
        check (fee_returned_minor between 0 and amount_minor)""",
    # Of a refund: the part the client bore, which is what its fee is given back for.
    """alter table journal_entries add column fee_base_minor bigint not null default 0
        check (fee_base_minor between 0 and amount_minor)""",
    'alter table journal_entries add column reverses text collate "C"',
    """create unique index journal_entries_reverses on journal_entries (reverses)
        where reverses is not null""",
    # Only a reversal reverses (in the same currency and mode: check_entries).
    """alter table journal_entries add constraint entries_reverses check
        ((reverses is not null) = (kind in ('reversal', 'chargeback')))""",
    """alter table journal_entries add constraint entries_subject check (case
        when kind in ('capture', 'second_capture') then payment_id is not null
        when kind in ('refund_reserved', 'refund_released', 'refund', 'over_refund')
            then payment_id is not null and refund_id is not null
        else true end)""",
    """create index journal_entries_refund on journal_entries (refund_id)
        where refund_id is not null""",
    # One index for both: entries of a payment, and a payment is captured once.
    """create unique index journal_entries_captured on journal_entries
        (payment_id, (case when kind = 'capture' then '' else id end))""",
    "drop index journal_entries_capture",
    "drop index journal_entries_payment",
]

POSTINGS = [
    "alter table postings add column line smallint",
    "alter table postings add column previous_minor bigint",
    "alter table postings add column posted_at timestamptz",
    """update postings p set line = n.line, previous_minor = p.balance_minor - p.amount_minor,
            posted_at = n.posted_at
        from (select account_id, account_version, row_number() over (partition by entry_id
                  order by account_id) as line,
                  -- a clock that went back must not make an account's past ambiguous
                  max(e.posted_at) over (partition by account_id order by account_version)
                      as posted_at
              from postings join journal_entries e on e.id = entry_id) n
        where (p.account_id, p.account_version) = (n.account_id, n.account_version)""",
    """update accounts a set last_posted_at = p.posted_at from postings p
        where p.account_id = a.id and p.account_version = a.version""",
    "alter table postings alter line set not null",
    "alter table postings alter previous_minor set not null",
    "alter table postings alter posted_at set not null",
    """alter table postings add constraint postings_running
        check (balance_minor = previous_minor + amount_minor)""",
    "drop index postings_entry",
    "create unique index postings_entry on postings (entry_id, line)",
    # A balance as of any instant is one descent of this index.
    "create index postings_at on postings (account_id, posted_at, account_version)",
]

# An effect that happened and moved nothing (a refund that failed before it was reserved).
VOID = [
    """create table void_effects (
        effect_key text collate "C" primary key, client_id text not null,
        mode text not null check (mode in ('live', 'test')), payment_id text not null,
        refund_id text not null, recorded_at timestamptz not null default now())""",
]

CHAIN = [
    """create table blocks (
        id bigint primary key, previous_hash bytea not null, hash bytea not null,
        entries int not null check (entries > 0), live_entries bigint not null,
        test_entries bigint not null, sealed_at timestamptz not null default clock_timestamp())""",
    # What waits for its block: written by the journal's own trigger, without an index so that a
    # posting hardly notices; the sealer takes rows out as it sees them, however late they commit.
    """create table unsealed_entries (entry_id text collate "C" not null)
        with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
            autovacuum_vacuum_cost_delay = 0)""",
    "insert into unsealed_entries (entry_id) select id from journal_entries",
    """create table journal_seals (
        block_id bigint not null, entry_id text collate "C" not null, digest bytea not null,
        primary key (block_id, entry_id))""",
    # What a block vouches for, byte for byte. A later shape of the journal gets entry_digest_v2.
    """create function entry_digest_v1(e journal_entries) returns bytea language sql stable
        set search_path = public, pg_temp as $$
        select sha256(convert_to(jsonb_build_array(e.id, e.kind, e.effect_key, e.payment_id,
            e.attempt_id, e.refund_id, e.client_id, e.mode, e.currency, e.amount_minor,
            e.fee_minor, e.fee_plan_id, e.fee_plan_version, e.fee_tier, e.fee_returned_minor,
            e.fee_base_minor, e.postings_count, e.late, e.resolved, e.service_id,
            e.provider_reference, e.reason, e.reverses,
            (extract(epoch from e.accepted_at) * 1000000)::bigint,
            (extract(epoch from e.occurred_at) * 1000000)::bigint,
            (extract(epoch from e.posted_at) * 1000000)::bigint,
            (select jsonb_agg(jsonb_build_array(p.line, p.account_id, p.client_id, p.currency,
                    p.mode, p.amount_minor, p.previous_minor, p.balance_minor, p.account_version,
                    (extract(epoch from p.posted_at) * 1000000)::bigint) order by p.line)
                from postings p where p.entry_id = e.id))::text, 'UTF8')) $$""",
    """create trigger journal_seals_immutable before update or delete or truncate on journal_seals
        for each statement execute function refuse_change()""",
    """create trigger blocks_immutable before update or delete or truncate on blocks
        for each statement execute function refuse_change()""",
    """create trigger void_effects_immutable before update or delete or truncate on void_effects
        for each statement execute function refuse_change()""",
    """create trigger accounts_stay before delete or truncate on accounts
        for each statement execute function refuse_change()""",
    """create trigger accounts_identity before update of id, kind, client_id, currency, mode
        on accounts for each statement execute function refuse_change()""",
]

# A plan that was cached while the journal was small would read it whole ever after.
INDEXED = [
    f"alter function {function}() set enable_{way} = off"
    for function in ("check_postings", "check_entries")
    for way in ("seqscan", "hashjoin", "mergejoin")
]
# Whoever writes, at the end of the very statement: SQLSTATE 23M01 = an entry is not whole or does
# not sum to zero, 23M04 = currencies, modes or owners mix, 23M05 = an account's running balance
# does not continue. Lines are 1 … postings_count and unique, so a whole entry can't grow later.
RULES = [
    "drop trigger entry_balances on journal_entries",
    "drop trigger posting_balances on postings",
    "drop function check_entry()",
    """create function check_postings() returns trigger language plpgsql
        set search_path = public, pg_temp as $$
    declare bad record;
    begin
        select f.*, e.postings_count, e.id is not null and (
            (f.currency, f.mode, f.posted_at) <> (e.currency, e.mode, e.posted_at)
            or (f.other_currency, f.other_mode, f.other_at)
                <> (f.currency, f.mode, f.posted_at)) as mixed
        into bad
        from (select entry_id, sum(amount_minor) as total, count(*) as sides,
                min(line) as first, max(line) as last, min(currency) as currency,
                max(currency) as other_currency, min(mode) as mode, max(mode) as other_mode,
                min(posted_at) as posted_at, max(posted_at) as other_at
              from fresh group by entry_id) f
        left join journal_entries e on e.id = f.entry_id
        where f.total <> 0 or f.sides is distinct from e.postings_count
            or f.first <> 1 or f.last <> f.sides
            or (f.currency, f.mode, f.posted_at) <> (e.currency, e.mode, e.posted_at)
            or (f.other_currency, f.other_mode, f.other_at)
                <> (f.currency, f.mode, f.posted_at)
        limit 1;
        if found and bad.mixed then
            raise exception 'entry % mixes currencies, modes or times', bad.entry_id
                using errcode = '23M04';
        elsif found then
            raise exception 'entry % does not balance: % over % of % postings',
                bad.entry_id, bad.total, bad.sides, bad.postings_count using errcode = '23M01';
        end if;
        with chained as materialized (
            select *, lag(account_version) over w as told_version,
                lag(balance_minor) over w as told_minor, lag(posted_at) over w as told_at,
                lag((currency, mode, client_id)) over w as told_owner,
                lead(account_version) over w is null as newest
            from fresh window w as (partition by account_id order by account_version)),
        wrong as (
            -- within the statement, before it, and what the account itself says after it
            select account_id, told_owner <> (currency, mode, client_id) as mixed from chained
                where told_version is not null and (account_version <> told_version + 1
                    or previous_minor <> told_minor or posted_at < told_at
                    or told_owner <> (currency, mode, client_id))
            union all
            select f.account_id, false from chained f left join postings b
                on b.account_id = f.account_id and b.account_version = f.account_version - 1
            where f.told_version is null
                and (f.account_version <> coalesce(b.account_version, 0) + 1
                    or f.previous_minor <> coalesce(b.balance_minor, 0)
                    or f.posted_at < coalesce(b.posted_at, '-infinity'))
            union all
            select f.account_id, (a.currency, a.mode, a.client_id)
                is distinct from (f.currency, f.mode, f.client_id)
            from chained f left join accounts a on a.id = f.account_id
            where f.newest and (a.id is null
                or (a.currency, a.mode, a.client_id)
                    is distinct from (f.currency, f.mode, f.client_id)
                or (a.version, a.balance_minor, a.last_posted_at)
                    <> (f.account_version, f.balance_minor, f.posted_at)))
        select account_id, mixed into bad from wrong order by mixed desc limit 1;
        if found and bad.mixed then
            raise exception 'a posting on % has another currency, mode or client', bad.account_id
                using errcode = '23M04';
        elsif found then
            raise exception 'the running balance of % does not continue', bad.account_id
                using errcode = '23M05';
        end if;
        return null;
    end $$""",
    """create trigger postings_balance after insert on postings referencing new table as fresh
        for each statement execute function check_postings()""",
    """create function check_entries() returns trigger language plpgsql
        set search_path = public, pg_temp as $$
    declare bad text;
    begin
        select f.id into bad from fresh f where not exists (
            select from postings p where p.entry_id = f.id and p.line = 1) limit 1;
        if found then
            raise exception 'entry % has no postings', bad using errcode = '23M01';
        end if;
        select f.id into bad from fresh f left join journal_entries e on e.id = f.reverses
            where f.reverses is not null and (e.id is null
                or (e.currency, e.mode, e.client_id) <> (f.currency, f.mode, f.client_id)) limit 1;
        if found then
            raise exception 'entry % reverses none of its currency, mode and client', bad
                using errcode = '23M04';
        end if;
        insert into unsealed_entries (entry_id) select id from fresh;
        return null;
    end $$""",
    """create trigger entries_whole after insert on journal_entries referencing new table as fresh
        for each statement execute function check_entries()""",
]

TENANT = """(current_setting('mospay.operator', true) = 'on'
    or (client_id = current_setting('mospay.client_id', true)
        and current_setting('mospay.mode', true) in (mode, '')))"""
OPERATOR = "(current_setting('mospay.operator', true) = 'on')"
ACCESS = [
    *(
        f"alter table {table} {way} row level security"
        for table in ("void_effects", "blocks", "journal_seals", "unsealed_entries")
        for way in ("enable", "force")
    ),
    f"create policy tenant on void_effects for select to mospay_ledger_app using {TENANT}",
    *(
        f"create policy operator on {table} for select to mospay_ledger_app using {OPERATOR}"
        for table in ("blocks", "journal_seals", "unsealed_entries")
    ),
    """grant select on void_effects, blocks, journal_seals, unsealed_entries, fee_plans
        to mospay_ledger_app""",
    "grant select, insert on void_effects, blocks, journal_seals to mospay_ledger_worker",
    "grant select, insert, delete on unsealed_entries to mospay_ledger_worker",
    "grant update (last_posted_at) on accounts to mospay_ledger_worker",
]


def upgrade() -> None:
    """Fill what is new for the rows of before, then let the database hold the new rules."""
    for statement in [
        *OPEN,
        *POSTINGS_FREE,
        *BYTEWISE,
        *ACCOUNTS,
        *FEE_PLANS,
        *ENTRIES,
        *POSTINGS,
        *VOID,
        *CHAIN,
        *RULES,
        *INDEXED,
        *CLOSE,
        *ACCESS,
    ]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
