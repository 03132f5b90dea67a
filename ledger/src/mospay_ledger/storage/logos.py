"""Logos of issuers: one each, as they were uploaded."""

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain.invoices import Row
from mospay_ledger.domain.logos import Logo

_COLUMNS = "issuer_id, format, width, height, octet_length(content) as bytes, digest, updated_at"
_FIND = f"select {_COLUMNS}, content from issuer_logos where issuer_id = $1"
_KEEP = f"""
insert into issuer_logos (issuer_id, client_id, mode, format, width, height, content)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (issuer_id) do update set format = excluded.format, width = excluded.width,
    height = excluded.height, content = excluded.content, updated_at = now()
returning {_COLUMNS}"""
_DROP = "delete from issuer_logos where issuer_id = $1 returning issuer_id"


async def find(tx: Tx, issuer_id: str) -> asyncpg.Record | None:
    """Return an issuer's logo with its content, where `tx` sees it."""
    return await tx.row(_FIND, issuer_id)


async def keep(tx: Tx, issuer: Row, logo: Logo) -> asyncpg.Record:
    """Make this the logo of an issuer; return it without its content."""
    row = await tx.row(
        _KEEP, issuer["id"], issuer["client_id"], issuer["mode"], logo.format, logo.width,
        logo.height, logo.content,
    )  # fmt: skip
    assert row is not None, issuer["id"]
    return row


async def drop(tx: Tx, issuer_id: str) -> bool:
    """Take an issuer's logo away; say whether there was one."""
    return await tx.row(_DROP, issuer_id) is not None
