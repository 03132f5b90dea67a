"""Exceptions of reconciliation as a client sees them: about its own payments, both sides of them.

Whose work they are, what was resolved how and by whom, and the provider's file stay the operator's.
"""

import datetime as dt
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_ledger.domain.reconciliation import EXCEPTION_KINDS
from mospay_ledger.routes.common import (
    EXAMPLE_ENTRY,
    EXAMPLE_PAYMENT,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    Limit,
    seen_by,
    tenant_of,
)
from mospay_ledger.routes.exceptions import EXAMPLE_EXCEPTION
from mospay_ledger.storage import exceptions

Filter = Annotated[str, Query(max_length=80, pattern=MAYBE_PRINTABLE)]


class ClientException(BaseModel):
    """What provider and books say differently of a payment; minor units, money in is positive.

    `stated_minor` of `currency` is what the provider's statement says (0: nothing),
    `expected_minor` what the books say, of `expected_currency` where that is another.
    """

    id: str = Field(examples=[EXAMPLE_EXCEPTION])
    kind: str = Field(examples=["amount_differs"])
    microservice: str = Field(examples=["mtnmomorwa"])
    mode: str = Field(examples=["live"])
    currency: str = Field(examples=["RWF"])
    stated_minor: int = Field(examples=[1400])
    expected_currency: str | None = Field(examples=[None])
    expected_minor: int = Field(examples=[1500])
    payment_id: str | None = Field(examples=[EXAMPLE_PAYMENT])
    refund_id: str | None = Field(examples=[None])
    entry_id: str | None = Field(examples=[EXAMPLE_ENTRY])
    state: Literal["open", "resolved"] = Field(examples=["open"])
    occurred_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    opened_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    resolved_at: dt.datetime | None = Field(examples=[None])


class ClientExceptions(BaseModel):
    """A page of exceptions, newest first; `next_cursor` is null at the end."""

    items: list[ClientException]
    next_cursor: str | None = Field(examples=[None])


def add(routes: APIRouter, service: Service) -> None:
    """Add the route."""

    @routes.get("/client-exceptions")
    async def client_exceptions(
        state: Annotated[str, Query(pattern="^(open|resolved|)$")] = "",
        kind: Annotated[str, Query(pattern=f"^({'|'.join(EXCEPTION_KINDS)}|)$")] = "",
        currency: Annotated[str, Query(pattern="^([A-Z]{3}|)$")] = "",
        payment_id: Filter = "",
        cursor: Filter = "",
        limit: Limit = 50,
        caller: Caller = Depends(service.verifier.needs("ledger:read")),
    ) -> ClientExceptions:
        """Exceptions about the payments of the client the token names, newest first."""
        own, mode = tenant_of(caller)
        if not (own and mode):
            raise Problem(403, "clients_only", "The token must name a client and a mode")
        async with seen_by(service, caller) as tx:
            rows = await exceptions.of_client(
                tx,
                own,
                mode,
                state=state,
                kind=kind,
                currency=currency,
                payment_id=payment_id,
                before=cursor,
                limit=limit + 1,
            )
        items = [ClientException(**dict(row)) for row in rows[:limit]]
        return ClientExceptions(
            items=items, next_cursor=items[-1].id if len(rows) > limit else None
        )
