"""Logos of issuers, as they were uploaded: a PNG or JPEG each.

Only a new table: the version before this one goes on beside it, with papers without a logo.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ID = 'text collate "C"'

TABLES = [
    # Client and mode are the issuer's, for the policy. The digest is made of the content by the
    # database, so that a cached copy is known by what it is.
    f"""create table issuer_logos (
        issuer_id {ID} primary key, client_id {ID},
        mode text not null check (mode in ('live', 'test')),
        format text not null check (format in ('png', 'jpg')),
        width int not null check (width between 1 and 2000),
        height int not null check (height between 1 and 2000),
        content bytea not null check (octet_length(content) between 1 and 262144),
        digest text not null generated always as (encode(sha256(content), 'hex')) stored,
        updated_at timestamptz not null default now(),
        foreign key (issuer_id, mode) references issuers (id, mode))""",
    # Images are compressed already.
    "alter table issuer_logos alter column content set storage external",
]

ACCESS = [
    "alter table issuer_logos enable row level security",
    "alter table issuer_logos force row level security",
    """create policy tenant on issuer_logos for select to mospay_ledger_app using (
        (current_setting('mospay.operator', true) = 'on'
        or (client_id = current_setting('mospay.client_id', true)
            and current_setting('mospay.mode', true) in (mode, ''))))""",
    "grant select on issuer_logos to mospay_ledger_app",
    "grant select, insert, delete on issuer_logos to mospay_ledger_worker",
    """grant update (format, width, height, content, updated_at)
        on issuer_logos to mospay_ledger_worker""",
]


def upgrade() -> None:
    """Make the table; nothing of before changes."""
    for statement in [*TABLES, *ACCESS]:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
