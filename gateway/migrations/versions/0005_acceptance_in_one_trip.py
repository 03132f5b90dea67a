"""What fails the statement that accepts payments where another process claimed a key first."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = [
    """create function refuse_raced(payment text) returns boolean language plpgsql as $$
    begin
        raise exception 'another process claims the key or reference of %', payment
            using errcode = 'serialization_failure';
    end $$""",
    "grant execute on function refuse_raced(text) to mospay_gateway_worker",
]


def upgrade() -> None:
    """Add the function."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
