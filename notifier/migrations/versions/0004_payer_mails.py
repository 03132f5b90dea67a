"""Mails that carry a payer's link: invitation, new password, new address. Without the link itself.

A table of its own: the version before this one goes on with its mails and never sees these.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

MAILS = [
    # `body` is what was asked; its link is made while the mail is composed and never stored.
    """create table payer_mails (
        id text primary key, kind text not null check (kind in ('invite', 'reset', 'verify')),
        client_id text, mode text not null check (mode in ('live', 'test')), body jsonb not null,
        state text not null default 'pending'
            check (state in ('pending', 'sending', 'sent', 'dropped', 'failed')),
        attempts int not null default 0, next_at timestamptz, error text,
        created_at timestamptz not null default now(), ended_at timestamptz,
        check ((state in ('pending', 'sending')) = (next_at is not null)),
        check ((state in ('pending', 'sending')) = (ended_at is null)))""",
    "create index payer_mails_due on payer_mails (next_at) where next_at is not null",
    "alter table payer_mails enable row level security",
    "alter table payer_mails force row level security",
    "grant select, insert on payer_mails to mospay_notifier_worker",
    "grant update (state, attempts, next_at, error, ended_at, body) on payer_mails "
    "to mospay_notifier_worker",
]


def upgrade() -> None:
    """Make the table."""
    for statement in MAILS:
        op.execute(statement)
