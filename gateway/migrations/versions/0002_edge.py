"""Security events, address rules, rate limits: all in memory, the outbox and the replica."""

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: rules live in `directory_entity`, counts in memory and Redis."""


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
