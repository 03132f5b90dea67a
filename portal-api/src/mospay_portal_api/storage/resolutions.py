"""SQL of proposed resolutions: what of payments and of refunds two people end."""

from collections.abc import Mapping
from typing import Any

from mospay_shared.chassis.database import Tx

_SHARED = ("client_id", "mode", "version", "outcome", "evidence", "proposed_by")
_LATER = ("proposed_at", "state", "decided_by", "decided_at")


class Proposals:
    """The proposals about one kind of thing; `own` are its columns, what it is about first."""

    def __init__(self, table: str, *own: str) -> None:
        self.about = own[0]
        self._written = ("id", *own, *_SHARED)
        columns = ", ".join((*self._written, *_LATER))
        values = ", ".join(f"${n}" for n in range(1, len(self._written) + 1))
        self._insert = f"""
insert into {table} ({", ".join(self._written)}) values ({values})
on conflict do nothing returning {columns}"""
        self._find = f"select {columns} from {table} where id = $1 for update"
        self._decide = f"""
update {table} set state = $2, decided_by = $3, decided_at = now()
where id = $1 and state = 'open' returning {columns}"""
        self._page = f"""
select {columns} from {table}
where ($1::text is null or state = $1) and ($2::text is null or {self.about} = $2)
    and ($3::text is null or id < $3)
order by id desc limit $4"""

    async def insert(self, tx: Tx, values: Mapping[str, Any]) -> Any:
        """Insert a proposal; None when one is open for that version."""
        return await tx.row(self._insert, *(values[name] for name in self._written))

    async def find(self, tx: Tx, resolution_id: str) -> Any:
        """Return a proposal under its row lock, or None."""
        return await tx.row(self._find, resolution_id)

    async def decide(self, tx: Tx, resolution_id: str, state: str, by: str) -> Any:
        """Approve or reject an open proposal; return its row."""
        return await tx.row(self._decide, resolution_id, state, by)

    async def page(
        self, tx: Tx, state: str | None, about: str | None, before: str | None, limit: int
    ) -> list[Any]:
        """Return proposals, newest first."""
        return await tx.fetch(self._page, state, about, before, limit)


PAYMENTS = Proposals("resolutions", "payment_id")
REFUNDS = Proposals("refund_resolutions", "refund_id", "payment_id", "reason")
