"""Customers that may have a login, and what such a payer sees: itself, its invoices, its issuer.

Works beside the version before it: one column with a default, and policies that only add rows for
tokens that name a customer.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

PAYER = "nullif(current_setting('mospay.customer_id', true), '')"
# A client's customers see theirs by the policies that are there; those of the operator's own
# issuer have no client in their rows, nor in their token.
OWN = f"""{{column}} = {PAYER} and client_id is null
    and coalesce(current_setting('mospay.client_id', true), '') = ''
    and mode = current_setting('mospay.mode', true)"""
ROWS = (
    "invoices", "invoice_lines", "invoice_payments", "credit_notes", "customer_credits",
    "payment_intents",
)  # fmt: skip
# The inner query is bounded by the policies of customers in turn: it finds the payer's own alone.
ISSUERS = "{column} in (select issuer_id from customers where id = {payer})"
POLICIES = {
    "customers": OWN.format(column="id"),
    **{table: OWN.format(column="customer_id") for table in ROWS},
    "issuers": ISSUERS.format(column="id", payer=PAYER),
    "issuer_logos": ISSUERS.format(column="issuer_id", payer=PAYER),
    "payment_methods": ISSUERS.format(column="issuer_id", payer=PAYER),
}
STATEMENTS = [
    "alter table customers add column portal_enabled boolean not null default false",
    "grant update (portal_enabled) on customers to mospay_ledger_worker",
    *(
        f"create policy payer on {table} for select to mospay_ledger_app using ({rows})"
        for table, rows in POLICIES.items()
    ),
]


def upgrade() -> None:
    """Add the column and the policies."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
