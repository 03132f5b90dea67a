"""SQL of the audit log: rows are written, never changed."""

from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.ids import new_id

from mospay_portal_api.domain.people import Author


async def write(
    tx: Tx,
    by: Author,
    action: str,
    subject: str | None = None,
    *,
    before: Any = None,
    after: Any = None,
) -> None:
    """Write down what a person did, in the transaction that did it; never a secret."""
    await tx.run(
        "insert into audit_log (id, actor, action, subject, before, after, ip, request_id) "
        "values ($1, $2, $3, $4, $5, $6, $7, $8)",
        new_id("aud"),
        by.actor,
        action,
        subject,
        before,
        after,
        by.ip,
        by.request_id,
    )
