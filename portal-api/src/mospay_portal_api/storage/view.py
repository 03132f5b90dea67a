"""Reads as a person: row-level security set from who is signed in, for one transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mospay_shared.chassis.database import Database, Tx

from mospay_portal_api.domain.people import Person


@asynccontextmanager
async def seen_by(database: Database, person: Person) -> AsyncIterator[Tx]:
    """A transaction of the request role that shows this person's company, or an admin everything.

    The setting is local to the transaction; a company that is not set sees no rows.
    """
    async with database.request(operator=person.operator) as tx:
        company = "" if person.operator else person.company_id or ""
        await tx.run("select set_config('mospay.company_id', $1, true)", company)
        yield tx
