"""Paying invoices: intents, guest links, the ways an issuer takes payments, reminders sent.

Only new tables: the version before this one goes on beside it.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = 'text collate "C"'
OWNER = f"""client_id {ID}, recipient_client_id {ID}, customer_id {ID} not null,
    mode text not null check (mode in ('live', 'test'))"""

TABLES = [
    # merchant_id is whose payment it is at the gateway: the invoice's client, or the operator's
    # own. The phone is sealed and kept only until the gateway has it. Nothing live is left that
    # nobody wakes (next_at), and an invoice has at most one live intent, whoever writes.
    f"""create table payment_intents (
        id {ID} primary key, invoice_id {ID} not null references invoices (id), {OWNER},
        merchant_id {ID} not null, invoice_number text, currency char(3) not null,
        amount_minor bigint not null check (amount_minor > 0),
        service text not null, microservice text, route text not null,
        phone_sealed jsonb, phone_masked text not null, link_id {ID},
        state text not null default 'open'
            check (state in ('open', 'posted', 'succeeded', 'failed', 'released')),
        payment_id {ID} unique, payment_status text,
        payment_version bigint not null default -1,
        reason_code text, reason_message text, tries int not null default 0,
        next_at timestamptz, not_after timestamptz not null,
        created_by text, created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(), ended_at timestamptz,
        check ((state in ('open', 'posted')) = (next_at is not null)),
        check ((state in ('open', 'posted')) = (ended_at is null)),
        check (state <> 'posted' or payment_id is not null),
        check ((state = 'open') = (phone_sealed is not null)))""",
    """create unique index payment_intents_live on payment_intents (invoice_id)
        where state in ('open', 'posted')""",
    "create index payment_intents_due on payment_intents (next_at) where next_at is not null",
    "create index payment_intents_invoice on payment_intents (invoice_id, id desc)",
    # Of a token its hash alone; it is shown once, when the link is made.
    f"""create table invoice_links (
        id {ID} primary key, token_hash bytea not null unique check (length(token_hash) = 32),
        invoice_id {ID} not null references invoices (id), {OWNER},
        purpose text not null default 'shared' check (purpose in ('shared', 'mailed')),
        expires_at timestamptz not null, revoked_at timestamptz,
        uses bigint not null default 0, last_used_at timestamptz,
        created_by text, created_at timestamptz not null default now())""",
    "create index invoice_links_invoice on invoice_links (invoice_id, id desc)",
    # What a payer may choose from, in order; a service of the merchant's each.
    f"""create table payment_methods (
        issuer_id {ID} not null references issuers (id), client_id {ID},
        mode text not null check (mode in ('live', 'test')), currency char(3) not null,
        service text not null, microservice text, route text not null, label text not null,
        place smallint not null check (place between 0 and 99), active boolean not null,
        updated_at timestamptz not null default now(),
        primary key (issuer_id, currency, service, route))""",
    # Each reminder goes out once, whatever runs twice.
    f"""create table invoice_reminders (
        invoice_id {ID} not null references invoices (id),
        kind text not null check (kind in ('issued', 'before_due', 'due', 'overdue')), {OWNER},
        published_at timestamptz not null default now(), primary key (invoice_id, kind))""",
]

# SQLSTATE 23M30 = an intent goes its way or not at all: what it asks for is never changed, an end
# is left only for a success.
RULES = [
    """create function guard_intent() returns trigger language plpgsql
        set search_path = public, pg_temp as $$
    begin
        if (new.id, new.invoice_id, new.amount_minor, new.currency, new.merchant_id, new.mode,
                new.service, new.microservice, new.route, new.not_after)
            is distinct from (old.id, old.invoice_id, old.amount_minor, old.currency,
                old.merchant_id, old.mode, old.service, old.microservice, old.route, old.not_after)
            or (old.payment_id is not null and new.payment_id is distinct from old.payment_id)
        then
            raise exception 'what intent % asks for is not changed', old.id
                using errcode = '23M30';
        end if;
        if new.state <> old.state and (old.state = 'succeeded' or (new.state <> 'succeeded'
                and (old.state in ('failed', 'released') or new.state = 'open'))) then
            raise exception 'intent % can not go from % to %', old.id, old.state, new.state
                using errcode = '23M30';
        end if;
        return new;
    end $$""",
    """create trigger payment_intents_guard before update on payment_intents
        for each row execute function guard_intent()""",
    *(
        f"create trigger {table}_stay before delete or truncate on {table} "
        "for each statement execute function refuse_change()"
        for table in ("payment_intents", "invoice_links", "invoice_reminders")
    ),
]

OPERATOR = "current_setting('mospay.operator', true) = 'on'"
TENANT = f"""({OPERATOR} or (
    current_setting('mospay.client_id', true) in (client_id, recipient_client_id)
    and current_setting('mospay.mode', true) in (mode, '')
    and coalesce(current_setting('mospay.customer_id', true), '') in ('', customer_id)))"""
PLAIN = f"""({OPERATOR} or (client_id = current_setting('mospay.client_id', true)
    and current_setting('mospay.mode', true) in (mode, '')))"""
POLICIES = {
    "payment_intents": TENANT,
    "invoice_links": TENANT,
    "invoice_reminders": TENANT,
    "payment_methods": PLAIN,
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
    # requests see neither the sealed phone nor a token's hash
    """grant select (id, invoice_id, client_id, recipient_client_id, customer_id, mode, merchant_id,
        invoice_number, currency, amount_minor, service, microservice, route, phone_masked, link_id,
        state, payment_id, payment_status, reason_code, reason_message, tries, next_at, not_after,
        created_by, created_at, updated_at, ended_at) on payment_intents to mospay_ledger_app""",
    """grant select (id, invoice_id, client_id, recipient_client_id, customer_id, mode, purpose,
        expires_at, revoked_at, uses, last_used_at, created_by, created_at)
        on invoice_links to mospay_ledger_app""",
    "grant select on payment_methods, invoice_reminders to mospay_ledger_app",
    """grant select, insert on payment_intents, invoice_links, payment_methods, invoice_reminders
        to mospay_ledger_worker""",
    """grant update (phone_sealed, state, payment_id, payment_status, payment_version, reason_code,
        reason_message, tries, next_at, updated_at, ended_at)
        on payment_intents to mospay_ledger_worker""",
    "grant update (revoked_at, uses, last_used_at) on invoice_links to mospay_ledger_worker",
    """grant update (microservice, label, place, active, updated_at)
        on payment_methods to mospay_ledger_worker""",
]


def upgrade() -> None:
    """Make the tables; nothing of before changes."""
    for statement in [*TABLES, *RULES, *ACCESS]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
