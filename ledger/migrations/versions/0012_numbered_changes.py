"""Changes of the directory's replica are numbered by transaction, and read once."""

from alembic import op
from mospay_shared.chassis import schema

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the numbers."""
    for statement in schema.DIRECTORY_V2:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
