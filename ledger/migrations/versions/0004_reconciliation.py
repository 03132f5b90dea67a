"""Statements of providers, what the books expect of them, exceptions and what became of them."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Kinds are added to whatever the constraint holds by now: other migrations add theirs.
ADD_KINDS = """do $$
declare found record;
begin
    for found in select conname, conrelid::regclass as place, pg_get_constraintdef(oid) as rule
        from pg_constraint where conname = '{name}'
    loop
        execute format('alter table %s drop constraint %I', found.place, found.conname);
        execute format('alter table %s add constraint %I %s', found.place, found.conname,
            replace(found.rule, 'ARRAY[', 'ARRAY[{kinds}, '));
    end loop;
end $$"""
BOOKS = [
    ADD_KINDS.format(name="accounts_kind", kinds="''provider_fees''::text, ''write_offs''::text"),
    ADD_KINDS.format(
        name="entries_kind",
        kinds="''write_off''::text, ''suspense_in''::text, ''provider_fee''::text",
    ),
    # What reconciliation posts is between the provider and the operator: no client's.
    "alter table journal_entries alter client_id drop not null",
    """alter table journal_entries add constraint entries_of_clients check (client_id is not null
        or kind not in ('capture', 'second_capture', 'refund_reserved', 'refund_released',
            'refund', 'over_refund', 'chargeback', 'settlement', 'payout', 'payout_returned',
            'payout_paid', 'payout_bounced', 'reserve_kept', 'reserve_released'))""",
]

IMPORTS = [
    """create table statement_mappings (
        microservice text not null, version int not null check (version > 0),
        mapping jsonb not null, created_by text not null,
        created_at timestamptz not null default now(), primary key (microservice, version))""",
    """create trigger statement_mappings_immutable before update or delete or truncate
        on statement_mappings for each statement execute function refuse_change()""",
    # `mapping` is pinned: a later version of it changes nothing that was imported. `carry` and
    # `parse_state` are where the parser stands between two chunks, so another process goes on.
    """create table statement_imports (
        id text collate "C" primary key, microservice text not null,
        mode text not null check (mode in ('live', 'test')), file_name text not null,
        file_sha256 bytea, size_bytes bigint not null default 0, chunks int not null default 0,
        mapping jsonb not null, mapping_version int, preset text,
        state text not null check (state in ('uploading', 'parsing', 'staged', 'accepting',
            'matching', 'finished', 'discarded', 'cancelled', 'failed')),
        review boolean not null, covers_from timestamptz, covers_until timestamptz,
        next_chunk int not null default 0, bytes_done bigint not null default 0,
        carry bytea not null default '', parse_state jsonb not null default '{}',
        lines_good bigint not null default 0, lines_bad bigint not null default 0,
        lines_skipped bigint not null default 0, lines_accepted bigint not null default 0,
        lines_repeated bigint not null default 0, fault text,
        uploaded_by text not null, decided_by text,
        lease_by text, lease_until timestamptz not null default '-infinity',
        told boolean not null default false, cleaned boolean not null default false,
        created_at timestamptz not null default now(), finished_at timestamptz,
        check (covers_until >= covers_from))""",
    # One file is imported once, unless nothing of it went in.
    """create unique index statement_imports_file on statement_imports
        (microservice, mode, file_sha256)
        where state not in ('uploading', 'discarded', 'cancelled', 'failed')""",
    """create index statement_imports_work on statement_imports (lease_until)
        where state in ('uploading', 'parsing', 'accepting')
            or (not cleaned and state in ('discarded', 'cancelled', 'failed'))""",
    """create index statement_imports_matching on statement_imports (microservice, mode)
        where state = 'matching' or (state <> 'uploading' and not told)""",
    """create table statement_chunks (
        import_id text collate "C" not null, number int not null, body bytea not null,
        primary key (import_id, number))""",
    "alter table statement_chunks alter body set storage external",  # read once, then dropped
    """create table statement_faults (
        import_id text collate "C" not null, line_no bigint not null, column_name text not null,
        code text not null, message text not null,
        primary key (import_id, line_no, column_name))""",
    # What was read and is not decided about; no constraint beyond its place in the file.
    """create table statement_staged (
        import_id text collate "C" not null, line_no bigint not null, fingerprint bytea not null,
        occurrence int not null default 1, kind text not null, reference text,
        our_reference text, amount_minor bigint not null, currency text not null,
        fee_minor bigint not null, occurred_at timestamptz not null,
        primary key (import_id, line_no))""",
    """create table statement_coverage (
        import_id text collate "C" not null, microservice text not null, mode text not null,
        currency text not null, kinds text[] not null, covers_from timestamptz not null,
        covers_until timestamptz not null, primary key (import_id, currency))""",
    """create index statement_coverage_period on statement_coverage
        (microservice, mode, currency, covers_until)""",
]

LINES = [
    # `occurrence` counts equal lines of one file, so the same line in another file is known.
    """create table statement_lines (
        import_id text collate "C" not null, line_no bigint not null, microservice text not null,
        mode text not null check (mode in ('live', 'test')), fingerprint bytea not null,
        occurrence int not null check (occurrence > 0),
        kind text not null check (kind in ('payment', 'refund', 'fee', 'payout', 'other')),
        reference text collate "C", our_reference text collate "C",
        amount_minor bigint not null check (amount_minor <> 0), currency char(3) not null,
        fee_minor bigint not null, occurred_at timestamptz not null,
        state text not null check (state in ('open', 'matched', 'missing_here', 'amount_differs',
            'currency_differs', 'duplicate', 'noted')),
        entry_id text collate "C", matched_by text check (matched_by in ('reference', 'amount')),
        check (kind <> 'payment' or amount_minor > 0), check (kind <> 'refund' or amount_minor < 0),
        check ((state in ('open', 'missing_here', 'noted')) = (entry_id is null)),
        primary key (import_id, line_no),
        unique (fingerprint, occurrence, microservice, mode))
        with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)""",
    """create index statement_lines_unmatched on statement_lines
        (microservice, mode, currency, amount_minor, occurred_at)
        where state in ('open', 'missing_here')""",
    # Of a stream as one value: so nobody takes this index to look for an amount.
    """create index statement_lines_waiting on statement_lines
        ((microservice || '/' || mode), state, import_id, line_no)
        where state in ('open', 'missing_here')""",
    # What the journal put on a clearing account, one row an entry: the other side of the table.
    """create table expected_lines (
        entry_id text collate "C" primary key, microservice text not null,
        mode text not null check (mode in ('live', 'test')), currency char(3) not null,
        kind text not null check (kind in ('payment', 'refund', 'adjustment')),
        amount_minor bigint not null check (amount_minor <> 0), client_id text, payment_id text
            collate "C", attempt_id text collate "C", refund_id text collate "C",
        provider_reference text collate "C", occurred_at timestamptz not null,
        posted_at timestamptz not null,
        state text not null check (state in ('open', 'matched', 'differs', 'missing_there',
            'withdrawn', 'adjusted')),
        import_id text collate "C", line_no bigint,
        check ((import_id is null) = (line_no is null)),
        check ((state in ('matched', 'differs')) = (import_id is not null)))
        with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)""",
    """create index expected_lines_provider on expected_lines (provider_reference)
        where provider_reference is not null""",
    "create index expected_lines_payment on expected_lines (payment_id)",
    "create index expected_lines_attempt on expected_lines (attempt_id)",
    "create index expected_lines_refund on expected_lines (refund_id)",
    """create index expected_lines_free on expected_lines
        (microservice, mode, currency, amount_minor, occurred_at)
        where state in ('open', 'missing_there')""",
    """create index expected_lines_open on expected_lines
        (microservice, mode, currency, occurred_at) where state = 'open'""",
    """create index expected_lines_adjusted on expected_lines (microservice, mode)
        where state = 'adjusted'""",
    # How far each clearing account was read: an account's versions have no gap and commit in order.
    """create table expected_cursors (
        account_id text collate "C" primary key, version bigint not null)""",
]

EXCEPTIONS = [
    # One row a provider and mode: who is at work there, and whether more was asked for than a
    # whole run has answered (a worker that dies in between has answered nothing).
    """create table reconciliation_streams (
        microservice text not null, mode text not null check (mode in ('live', 'test')),
        asked bigint not null default 1, answered bigint not null default 0,
        as_of timestamptz, nightly_on date,
        lease_by text, lease_until timestamptz not null default '-infinity',
        ran_at timestamptz, primary key (microservice, mode))""",
    # `delta_minor` is what the clearing account lacks to say what the provider says.
    """create table reconciliation_exceptions (
        id text collate "C" primary key, kind text not null check (kind in ('missing_here',
            'missing_there', 'amount_differs', 'currency_differs', 'duplicate', 'provider_fee')),
        microservice text not null, mode text not null check (mode in ('live', 'test')),
        currency char(3) not null, stated_minor bigint not null, expected_currency char(3),
        expected_minor bigint not null, delta_minor bigint not null,
        import_id text collate "C", line_no bigint, entry_id text collate "C",
        reference text, payment_id text, occurred_at timestamptz not null,
        state text not null check (state in ('open', 'proposed', 'resolved')),
        assignee text, due_at timestamptz not null, wait_until timestamptz,
        resolution text check (resolution in ('write_off', 'suspense_in', 'confirm_fee',
            'duplicate_dismiss', 'matched')),
        proposed_by text, approved_by text, opened_at timestamptz not null default now(),
        resolved_at timestamptz, version int not null default 1, told boolean not null default true,
        check ((state = 'resolved') = (resolved_at is not null)),
        check (state = 'open' or resolution is not null),
        check (approved_by <> proposed_by))""",
    """create unique index reconciliation_exceptions_line on reconciliation_exceptions
        (import_id, line_no) where line_no is not null""",
    """create unique index reconciliation_exceptions_entry on reconciliation_exceptions (entry_id)
        where kind = 'missing_there'""",
    """create unique index reconciliation_exceptions_fee on reconciliation_exceptions
        (import_id, currency) where kind = 'provider_fee'""",
    """create index reconciliation_exceptions_due on reconciliation_exceptions (due_at)
        where state <> 'resolved'""",
    """create index reconciliation_exceptions_state on reconciliation_exceptions
        (state, mode, microservice, id)""",
    """create index reconciliation_exceptions_import on reconciliation_exceptions (import_id)
        where import_id is not null""",
    # Who did what with an exception, for ever.
    """create table reconciliation_actions (
        id bigint generated always as identity primary key, exception_id text collate "C" not null,
        action text not null check (action in ('assigned', 'noted', 'waiting', 'proposed',
            'rejected', 'resolved', 'matched')),
        actor text not null, note text, entry_ids text[] not null default '{}',
        at timestamptz not null default now())""",
    "create index reconciliation_actions_of on reconciliation_actions (exception_id, id)",
    """create trigger reconciliation_actions_immutable before update or delete or truncate
        on reconciliation_actions for each statement execute function refuse_change()""",
]

OPERATOR = "(current_setting('mospay.operator', true) = 'on')"
READ = (
    "statement_mappings", "statement_imports", "statement_faults", "statement_lines",
    "statement_staged", "statement_coverage", "expected_lines", "reconciliation_streams",
    "reconciliation_exceptions", "reconciliation_actions",
)  # fmt: skip
HIDDEN = ("statement_chunks", "expected_cursors")  # the workers' own
ACCESS = [
    *(
        f"alter table {table} {way} row level security"
        for table in (*READ, *HIDDEN)
        for way in ("enable", "force")
    ),
    # A provider's statement is the operator's: it names the payments of all tenants.
    *(
        f"create policy operator on {table} for select to mospay_ledger_app using {OPERATOR}"
        for table in READ
    ),
    f"grant select on {', '.join(READ)} to mospay_ledger_app",
    """grant select, insert on statement_mappings, statement_faults, statement_coverage,
        reconciliation_actions to mospay_ledger_worker""",
    """grant select, insert, update on statement_imports, statement_lines, expected_lines,
        expected_cursors, reconciliation_streams, reconciliation_exceptions
        to mospay_ledger_worker""",
    """grant select, insert, update, delete on statement_chunks, statement_staged
        to mospay_ledger_worker""",
]


def upgrade() -> None:
    """Add the tables; what the books expect is read from the first posting on, by a worker."""
    for statement in [*BOOKS, *IMPORTS, *LINES, *EXCEPTIONS, *ACCESS]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
