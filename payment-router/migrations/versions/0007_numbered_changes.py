"""Changes of what the router keeps in memory are numbered by transaction, and read once."""

from alembic import op
from mospay_shared.chassis import schema
from mospay_shared.chassis.following import followed_v1

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FOLLOWED = ("provider_credentials", "provider_functions", "function_versions")
STATEMENTS = [
    *schema.DIRECTORY_V2,
    *(statement for table in FOLLOWED for statement in followed_v1(table)),
    "drop index provider_credentials_changed",
    "drop index provider_functions_changed",
    "drop index function_versions_live_changed",
]


def upgrade() -> None:
    """Add the numbers."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
