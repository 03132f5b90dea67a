"""Mails about invoices: one an invoice and kind, sent until it is taken, without any link in it.

Only a new table: the version before this one goes on beside it.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

MAILS = [
    # `body` is what the event said. The link is made while a mail is composed and never stored.
    """create table mails (
        id text primary key, invoice_id text not null, kind text not null, client_id text,
        mode text not null check (mode in ('live', 'test')), body jsonb not null,
        state text not null default 'pending'
            check (state in ('pending', 'sending', 'sent', 'dropped', 'failed')),
        attempts int not null default 0, next_at timestamptz, error text,
        created_at timestamptz not null default now(), ended_at timestamptz,
        unique (invoice_id, kind),
        check ((state in ('pending', 'sending')) = (next_at is not null)),
        check ((state in ('pending', 'sending')) = (ended_at is null)))""",
    "create index mails_due on mails (next_at) where next_at is not null",
    "alter table mails enable row level security",
    "alter table mails force row level security",
    "grant select, insert on mails to mospay_notifier_worker",
    "grant update (state, attempts, next_at, error, ended_at, body) on mails "
    "to mospay_notifier_worker",
]


def upgrade() -> None:
    """Make the table."""
    for statement in MAILS:
        op.execute(statement)
