"""What the rooms of reconciliation share: the desk that speaks to the ledger, and parameters.

The ledger reads, matches and posts; here is who may, and what the audit log keeps.
"""

from typing import Annotated, Any

from fastapi import Query, Request

from mospay_portal_api.domain.errors import NotFound
from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.routes.bodies import Body
from mospay_portal_api.routes.context import Context, author
from mospay_portal_api.storage import audit

LEDGER, BASE = "ledger", "/internal/v1/reconciliation"
READ, WRITE = "ledger:read", "ledger:write"
NAME = r"^[A-Za-z0-9_-]{1,80}$"
NameQuery = Annotated[str | None, Query(pattern=NAME)]
ModeQuery = Annotated[str | None, Query(pattern=r"^(live|test)$")]
Word = Annotated[str | None, Query(pattern=r"^[a-z_]{1,40}$")]
Cursor = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Limit = Annotated[int, Query(ge=1, le=200)]


class Desk:
    """A person's words to the ledger, and what is written down of them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, person: Person, path: str, query: dict[str, Any] | None = None) -> Any:
        """Read; raises NotFound."""
        me = asker(person, None)
        found = await self._context.house.find(LEDGER, BASE + path, READ, me, query)
        if found is None:
            raise NotFound("There is no such statement or exception")
        return found

    async def send(
        self, person: Person, request: Request, path: str, body: Body, action: str, subject: str
    ) -> Any:
        """Change, and write it down; raises NotFound, HouseError."""
        told = body.model_dump(mode="json", exclude_unset=True)
        me = asker(person, None)
        done = await self._context.house.send("POST", LEDGER, BASE + path, WRITE, me, told)
        await self.note(person, request, action, subject, told)
        return done

    async def note(
        self, person: Person, request: Request, action: str, subject: str, after: Any
    ) -> None:
        """Write down what a person did."""
        async with self._context.service.database.transaction() as tx:
            await audit.write(tx, author(person, request), action, subject, after=after)
