"""A client sees the exceptions of reconciliation that are about its own payments.

One column more, which the version before this one leaves empty: what it opens beside this one is
the operator's alone, as it was.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = ("reconciliation_exceptions", "expected_lines")
STATEMENTS = [
    'alter table reconciliation_exceptions add column client_id text collate "C"',
    # The owner sees no rows under forced row-level security: it rests while old rows get whose
    # they are.
    *(f"alter table {table} no force row level security" for table in TABLES),
    """update reconciliation_exceptions x set client_id = coalesce(
        (select e.client_id from expected_lines e where e.entry_id = x.entry_id),
        (select e.client_id from expected_lines e where x.entry_id is null
            and e.payment_id = x.payment_id and e.mode = x.mode and e.client_id is not null
            limit 1))""",
    *(f"alter table {table} force row level security" for table in TABLES),
    """create index reconciliation_exceptions_client on reconciliation_exceptions
        (client_id, mode, id) where client_id is not null""",
    # Beside the operator's own policy. What a client is told of such a row is the route's to say.
    """create policy tenant on reconciliation_exceptions for select to mospay_ledger_app using (
        client_id = current_setting('mospay.client_id', true)
        and current_setting('mospay.mode', true) in (mode, ''))""",
]


def upgrade() -> None:
    """Say whose payment each exception is about, and let that client read it."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
