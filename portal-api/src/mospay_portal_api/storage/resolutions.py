"""SQL of proposed resolutions."""

from typing import Any

from mospay_shared.chassis.database import Tx

_COLUMNS = """id, payment_id, client_id, mode, version, outcome, evidence, proposed_by, proposed_at,
    state, decided_by, decided_at"""
_INSERT = f"""
insert into resolutions (id, payment_id, client_id, mode, version, outcome, evidence, proposed_by)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing returning {_COLUMNS}"""
_DECIDE = f"""
update resolutions set state = $2, decided_by = $3, decided_at = now()
where id = $1 and state = 'open' returning {_COLUMNS}"""
_PAGE = f"""
select {_COLUMNS} from resolutions
where ($1::text is null or state = $1) and ($2::text is null or payment_id = $2)
    and ($3::text is null or id < $3)
order by id desc limit $4"""


async def insert(tx: Tx, values: tuple[Any, ...]) -> Any:
    """Insert a proposal; None when one is open for that version."""
    return await tx.row(_INSERT, *values)


async def find(tx: Tx, resolution_id: str) -> Any:
    """Return a proposal under its row lock, or None."""
    return await tx.row(
        f"select {_COLUMNS} from resolutions where id = $1 for update", resolution_id
    )


async def decide(tx: Tx, resolution_id: str, state: str, by: str) -> Any:
    """Approve or reject an open proposal; return its row."""
    return await tx.row(_DECIDE, resolution_id, state, by)


async def page(
    tx: Tx, state: str | None, payment_id: str | None, before: str | None, limit: int
) -> list[Any]:
    """Return proposals, newest first."""
    return await tx.fetch(_PAGE, state, payment_id, before, limit)
