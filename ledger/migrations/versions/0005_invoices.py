"""Issuers, customers, invoices with lines, credit notes, what was paid on them, fee invoices.

A sub-ledger: what customers owe a merchant is not money we hold, so nothing here posts.
Only new tables: the version before this one goes on beside it.
"""

from alembic import op

revision = "0005"
down_revision = "0002"
branch_labels = None
depends_on = None

MODE = "text not null check (mode in ('live', 'test'))"
OWNER = f"""client_id text collate "C", mode {MODE}"""
ID = 'text collate "C"'

PARTIES = [
    # One issuer a client and mode; the operator's own has no client. Prefixes are letters alone, so
    # that a number has one reading.
    f"""create table issuers (
        id {ID} primary key, kind text not null check (kind in ('operator', 'client')),
        {OWNER}, name text not null, address text, tax_id text, email text, phone text,
        colour text not null default '#1f4b99' check (colour ~ '^#[0-9a-f]{{6}}$'),
        time_zone text not null default 'UTC', locale text not null default 'en',
        payment_terms_days int not null default 14 check (payment_terms_days between 0 and 365),
        footer text, fee_tax_bps int not null default 0 check (fee_tax_bps between 0 and 10000),
        invoice_prefix text not null default 'INV' check (invoice_prefix ~ '^[A-Z]{{1,8}}$'),
        credit_prefix text not null default 'CRN' check (credit_prefix ~ '^[A-Z]{{1,8}}$'),
        version bigint not null default 1, created_at timestamptz not null default now(),
        check ((kind = 'operator') = (client_id is null)), check (invoice_prefix <> credit_prefix),
        unique nulls not distinct (client_id, mode), unique (id, mode))""",
    f"""create table customers (
        id {ID} primary key, issuer_id {ID} not null, {OWNER},
        recipient_client_id text collate "C", client_ref text collate "C",
        name text not null, email text, phone text, address text, tax_id text,
        locale text not null default 'en', active boolean not null default true,
        version bigint not null default 1, created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(),
        check (recipient_client_id is null or client_id is null),
        foreign key (issuer_id, mode) references issuers (id, mode),
        unique (id, issuer_id), unique (issuer_id, client_ref))""",
    "create index customers_issuer on customers (issuer_id, id desc)",
    "create index customers_client on customers (client_id, mode, id desc)",
    """create unique index customers_recipient on customers (issuer_id, recipient_client_id)
        where recipient_client_id is not null""",
]

INVOICES = [
    # issued_on and due_on are days of the issuer's own calendar. The parties are copied at issue:
    # a paper does not change when somebody moves.
    f"""create table invoices (
        id {ID} primary key, issuer_id {ID} not null, {OWNER},
        recipient_client_id text collate "C", customer_id {ID} not null,
        number text, currency char(3) not null,
        status text not null default 'draft'
            check (status in ('draft', 'issued', 'part_paid', 'paid', 'overdue', 'void')),
        total_minor bigint not null default 0 check (total_minor >= 0),
        tax_minor bigint not null default 0 check (tax_minor >= 0),
        discount_minor bigint not null default 0 check (discount_minor >= 0),
        paid_minor bigint not null default 0 check (paid_minor between 0 and total_minor),
        credited_minor bigint not null default 0 check (credited_minor between 0 and total_minor),
        open_minor bigint not null generated always as (case
            when status in ('draft', 'void') then 0
            else greatest(total_minor - paid_minor - credited_minor, 0) end) stored,
        allow_partial boolean not null default false, locked_by text,
        due_on date, issued_on date, issued_at timestamptz, notes text, reference text,
        issuer_snapshot jsonb, customer_snapshot jsonb,
        void_reason text, voided_at timestamptz, closed_at timestamptz,
        version bigint not null default 1, created_by text,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(),
        foreign key (customer_id, issuer_id) references customers (id, issuer_id),
        foreign key (issuer_id, mode) references issuers (id, mode),
        unique (issuer_id, mode, number),
        check (status = 'draft' or (number is not null and issued_at is not null
            and issued_on is not null and due_on is not null and issuer_snapshot is not null
            and customer_snapshot is not null)),
        check (status <> 'draft' or (number is null and paid_minor = 0 and credited_minor = 0)),
        check ((status = 'void') = (voided_at is not null)),
        check ((status = 'void') = (void_reason is not null)))""",
    "create index invoices_issuer on invoices (issuer_id, id desc)",
    "create index invoices_client on invoices (client_id, mode, id desc)",
    "create index invoices_customer on invoices (customer_id, id desc)",
    """create index invoices_recipient on invoices (recipient_client_id, mode, id desc)
        where recipient_client_id is not null""",
    "create index invoices_open on invoices (issuer_id, customer_id) where open_minor > 0",
    "create index invoices_closed on invoices (issuer_id, closed_at) where closed_at is not null",
    "create index invoices_due on invoices (due_on) where status in ('issued', 'part_paid')",
    f"""create table invoice_lines (
        invoice_id {ID} not null references invoices (id), line smallint not null check (line > 0),
        {OWNER}, recipient_client_id text collate "C", customer_id {ID} not null,
        description text not null, quantity numeric(18, 6) not null check (quantity > 0),
        unit_price_minor bigint not null,
        discount_bps int check (discount_bps between 0 and 10000),
        discount_minor bigint not null default 0 check (discount_minor >= 0),
        tax_rate_bps int not null default 0 check (tax_rate_bps between 0 and 10000),
        tax_inclusive boolean not null default false, service_id text,
        net_minor bigint not null, tax_minor bigint not null, total_minor bigint not null,
        check (total_minor = net_minor + tax_minor), primary key (invoice_id, line))""",
    f"""create table invoice_payments (
        payment_id {ID} primary key, invoice_id {ID} not null references invoices (id), {OWNER},
        recipient_client_id text collate "C", customer_id {ID} not null,
        source text not null check (source in ('payment', 'netted', 'credit')),
        amount_minor bigint not null check (amount_minor > 0),
        applied_minor bigint not null check (applied_minor between 0 and amount_minor),
        at timestamptz not null, recorded_at timestamptz not null default now())""",
    "create index invoice_payments_invoice on invoice_payments (invoice_id)",
    f"""create table credit_notes (
        id {ID} primary key, invoice_id {ID} not null references invoices (id),
        issuer_id {ID} not null, {OWNER}, recipient_client_id text collate "C",
        customer_id {ID} not null, number text not null, currency char(3) not null,
        total_minor bigint not null check (total_minor > 0),
        tax_minor bigint not null check (tax_minor between 0 and total_minor),
        applied_minor bigint not null check (applied_minor between 0 and total_minor),
        reason text not null, issued_on date not null, issued_at timestamptz not null,
        created_by text, unique (issuer_id, mode, number))""",
    "create index credit_notes_invoice on credit_notes (invoice_id)",
    # What customers have with their issuer: paid or credited beyond what was open (+), used (-).
    f"""create table customer_credits (
        id {ID} primary key, issuer_id {ID} not null, {OWNER},
        recipient_client_id text collate "C", customer_id {ID} not null references customers (id),
        currency char(3) not null, amount_minor bigint not null check (amount_minor <> 0),
        source text not null check (source in ('overpayment', 'credit_note', 'used')),
        reference text not null, invoice_id {ID} not null references invoices (id),
        at timestamptz not null, check ((source = 'used') = (amount_minor < 0)),
        unique (source, reference))""",
    "create index customer_credits_customer on customer_credits (customer_id, currency)",
    f"""create table number_series (
        issuer_id {ID} not null, mode {MODE}, prefix text not null, year int not null,
        kind text not null check (kind in ('invoice', 'credit_note')),
        next bigint not null check (next > 1), primary key (issuer_id, mode, prefix, year),
        foreign key (issuer_id, mode) references issuers (id, mode))""",
    # One row a client, currency and month, with or without an invoice; carried_minor is what a
    # month in which more was given back than taken leaves to the next (zero or less).
    f"""create table fee_invoices (
        client_id text collate "C" not null, mode {MODE}, currency char(3) not null,
        month date not null check (extract(day from month) = 1),
        taken_minor bigint not null, returned_minor bigint not null,
        brought_minor bigint not null check (brought_minor <= 0),
        carried_minor bigint not null check (carried_minor <= 0),
        invoice_id {ID} unique references invoices (id),
        invoiced_minor bigint not null check (invoiced_minor >= 0),
        made_at timestamptz not null default now(),
        check (invoiced_minor + carried_minor = taken_minor - returned_minor + brought_minor),
        check ((invoice_id is null) = (invoiced_minor = 0)),
        primary key (client_id, mode, currency, month))""",
]

# SQLSTATE 23M02 = history is immutable (as in the journal), 23M20 = a step an invoice can't take,
# 23M21 = totals are not the sums of the lines, 23M22 = more credit used than there is.
RULES = [
    # What of an issued invoice may change; a column that comes later may not, unless named here.
    """create function invoice_frozen(row_of invoices) returns jsonb language sql stable
        set search_path = public, pg_temp as $$
        select to_jsonb(row_of) - array['status', 'paid_minor', 'credited_minor', 'open_minor',
            'locked_by', 'version', 'updated_at', 'closed_at', 'voided_at', 'void_reason'] $$""",
    """create function guard_invoice() returns trigger language plpgsql
        set search_path = public, pg_temp as $$
    declare sums record;
    begin
        if tg_op = 'DELETE' then
            if old.status <> 'draft' then
                raise exception 'invoice % was issued: void or credit it', old.id
                    using errcode = '23M02';
            end if;
            return old;
        end if;
        if tg_op = 'INSERT' then
            if new.status <> 'draft' then
                raise exception 'an invoice starts as a draft' using errcode = '23M20';
            end if;
            return new;
        end if;
        if (new.id, new.issuer_id, new.client_id, new.mode)
                is distinct from (old.id, old.issuer_id, old.client_id, old.mode) then
            raise exception 'invoice % keeps its owner', old.id using errcode = '23M02';
        end if;
        if new.status <> old.status and (old.status, new.status) not in (
                ('draft', 'issued'), ('issued', 'part_paid'), ('issued', 'paid'),
                ('issued', 'overdue'), ('issued', 'void'), ('part_paid', 'paid'),
                ('part_paid', 'overdue'), ('overdue', 'paid'), ('overdue', 'void')) then
            raise exception 'invoice % can not go from % to %', old.id, old.status, new.status
                using errcode = '23M20';
        end if;
        if old.status <> 'draft' then
            if invoice_frozen(new) is distinct from invoice_frozen(old)
                    or new.paid_minor < old.paid_minor or new.credited_minor < old.credited_minor
            then
                raise exception 'invoice % was issued and is not changed', old.id
                    using errcode = '23M02';
            end if;
        elsif new.status = 'issued' then
            if new.number is not null then
                raise exception 'the database numbers invoices' using errcode = '23M20';
            end if;
            select count(*) as lines, coalesce(sum(total_minor), 0) as total,
                    coalesce(sum(tax_minor), 0) as tax, coalesce(sum(discount_minor), 0) as discount
                into sums from invoice_lines where invoice_id = new.id;
            if sums.lines = 0 or (sums.total, sums.tax, sums.discount)
                    <> (new.total_minor, new.tax_minor, new.discount_minor) then
                raise exception 'the totals of invoice % are not those of its lines', new.id
                    using errcode = '23M21';
            end if;
        end if;
        return new;
    end $$""",
    """create trigger invoices_guard before insert or update or delete on invoices
        for each row execute function guard_invoice()""",
    # The share lock makes whoever issues wait for whoever still writes lines, and the reverse.
    """create function guard_line() returns trigger language plpgsql
        set search_path = public, pg_temp as $$
    declare found_status text; of_invoice text;
    begin
        if tg_op = 'DELETE' then of_invoice := old.invoice_id;
        else of_invoice := new.invoice_id; end if;
        select status into found_status from invoices where id = of_invoice for share;
        if found_status is distinct from 'draft' or tg_op = 'UPDATE' then
            raise exception 'lines of invoice % are not changed', of_invoice
                using errcode = '23M02';
        end if;
        if tg_op = 'DELETE' then return old; end if;
        return new;
    end $$""",
    """create trigger invoice_lines_guard before insert or update or delete on invoice_lines
        for each row execute function guard_line()""",
    # The only way to a number: nobody can call it, so none is ever taken without a paper. The row
    # of the series stays locked until the issuing transaction ends; if that fails, so does the
    # count.
    """create function next_number(
            of_issuer text, of_mode text, of_kind text, of_prefix text, of_year int)
        returns text language sql set search_path = public, pg_temp as $$
        insert into number_series as s (issuer_id, mode, kind, prefix, year, next)
            values (of_issuer, of_mode, of_kind, of_prefix, of_year, 2)
        on conflict (issuer_id, mode, prefix, year) do update set next = s.next + 1
            where s.kind = of_kind
        returning format('%s-%s-%s', of_prefix, of_year,
            lpad((next - 1)::text, greatest(6, length((next - 1)::text)), '0')) $$""",
    "revoke execute on function next_number(text, text, text, text, int) from public",
    """create function number_invoice() returns trigger language plpgsql security definer
        set search_path = public, pg_temp as $$
    begin
        new.number := next_number(new.issuer_id, new.mode, 'invoice',
            (select invoice_prefix from issuers where id = new.issuer_id),
            extract(year from new.issued_on)::int);
        return new;
    end $$""",
    """create trigger invoices_number before update on invoices for each row
        when (old.status = 'draft' and new.status = 'issued')
        execute function number_invoice()""",
    """create function number_credit_note() returns trigger language plpgsql security definer
        set search_path = public, pg_temp as $$
    begin
        new.number := next_number(new.issuer_id, new.mode, 'credit_note',
            (select credit_prefix from issuers where id = new.issuer_id),
            extract(year from new.issued_on)::int);
        return new;
    end $$""",
    """create trigger credit_notes_number before insert on credit_notes for each row
        execute function number_credit_note()""",
    """create function guard_credit() returns trigger language plpgsql
        set search_path = public, pg_temp as $$
    begin
        if new.amount_minor < 0 then
            perform from customers where id = new.customer_id for no key update;
            if (select coalesce(sum(amount_minor), 0) from customer_credits
                    where customer_id = new.customer_id and currency = new.currency)
                    + new.amount_minor < 0 then
                raise exception 'customer % has less credit than that', new.customer_id
                    using errcode = '23M22';
            end if;
        end if;
        return new;
    end $$""",
    """create trigger customer_credits_guard before insert on customer_credits
        for each row execute function guard_credit()""",
    *(
        f"create trigger {table}_immutable before update or delete or truncate on {table} "
        "for each statement execute function refuse_change()"
        for table in ("invoice_payments", "credit_notes", "customer_credits", "fee_invoices")
    ),
    *(
        f"create trigger {table}_stay before truncate on {table} "
        "for each statement execute function refuse_change()"
        for table in ("invoices", "invoice_lines", "number_series")
    ),
]

OPERATOR = "current_setting('mospay.operator', true) = 'on'"
# A client's own rows; or what the operator invoices it for. A payer sees its own alone.
TENANT = f"""({OPERATOR} or (
    current_setting('mospay.client_id', true) in (client_id, recipient_client_id)
    and current_setting('mospay.mode', true) in (mode, '')
    and coalesce(current_setting('mospay.customer_id', true), '') in ('', {{customer}})))"""
PLAIN = f"""({OPERATOR} or (client_id = current_setting('mospay.client_id', true)
    and current_setting('mospay.mode', true) in (mode, '')))"""
POLICIES = {
    "issuers": PLAIN,
    "fee_invoices": f"""({OPERATOR} or (client_id = current_setting('mospay.client_id', true)
        and current_setting('mospay.mode', true) in (mode, '')
        and coalesce(current_setting('mospay.customer_id', true), '') = ''))""",
    "customers": TENANT.format(customer="id"),
    **{
        table: TENANT.format(customer="customer_id")
        for table in (
            "invoices",
            "invoice_lines",
            "invoice_payments",
            "credit_notes",
            "customer_credits",
        )
    },
    "number_series": f"({OPERATOR})",
}
ACCESS = [
    *(
        f"alter table {table} {way} row level security"
        for table in POLICIES
        for way in ("enable", "force")
    ),
    *(
        f"create policy tenant on {table} for select to mospay_ledger_app using {using}"
        for table, using in POLICIES.items()
    ),
    # Numbering runs as the owner, whom forced row-level security would show nothing.
    "create policy numbering on issuers for select to current_user using (true)",
    "create policy numbering on number_series to current_user using (true) with check (true)",
    f"grant select on {', '.join(POLICIES)} to mospay_ledger_app",
    f"grant select on {', '.join(POLICIES)} to mospay_ledger_worker",
    """grant insert on issuers, customers, invoices, invoice_lines, invoice_payments, credit_notes,
        customer_credits, fee_invoices to mospay_ledger_worker""",
    "grant delete on invoices, invoice_lines to mospay_ledger_worker",  # drafts: guard_*
    """grant update (name, address, tax_id, email, phone, colour, time_zone, locale, footer,
        payment_terms_days, fee_tax_bps, invoice_prefix, credit_prefix, version)
        on issuers to mospay_ledger_worker""",
    """grant update (client_ref, name, email, phone, address, tax_id, locale, active, version,
        updated_at) on customers to mospay_ledger_worker""",
    """grant update (customer_id, currency, status, total_minor, tax_minor, discount_minor,
        paid_minor, credited_minor, allow_partial, locked_by, due_on, issued_on, issued_at, notes,
        reference, issuer_snapshot, customer_snapshot, void_reason, voided_at, closed_at, version,
        updated_at) on invoices to mospay_ledger_worker""",
]


def upgrade() -> None:
    """Make the tables; nothing of before changes."""
    for statement in [*PARTIES, *INVOICES, *RULES, *ACCESS]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
