"""Find due deliveries endpoint by endpoint, so that a flood of one hides nobody else's.

The version before reads the same table without the index it had: slower, not wrong.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Replace the index by time with one by endpoint and time."""
    op.execute(
        "create index deliveries_due_endpoint on deliveries (endpoint_id, next_at) "
        "where state in ('pending', 'sending')"
    )
    op.execute("drop index deliveries_due")
