"""The hash chain over HTTP: does the journal still say what was sealed."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_ledger.routes.common import BIGINT, EXAMPLE_ENTRY, operators_only, seen_by
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.usecases import chain


class FaultBody(BaseModel):
    """The first thing that is not what was sealed.

    `what`: entry_changed, entry_missing, seals_changed, chain_broken or entry_not_sealed.
    """

    block_id: int | None = Field(examples=[7])
    entry_id: str | None = Field(examples=[EXAMPLE_ENTRY])
    what: str = Field(examples=["entry_changed"])


class VerifiedBody(BaseModel):
    """What was verified; go on with `?from=next_block` until that is null."""

    whole: bool = Field(examples=[True])
    first_block: int = Field(examples=[1])
    last_block: int = Field(examples=[500])
    entries: int = Field(examples=[12000])
    fault: FaultBody | None = Field(examples=[None])
    next_block: int | None = Field(examples=[None])
    head_hash: str | None = Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes about the chain."""
    reader = service.verifier.needs("ledger:read")

    @routes.get("/verify")
    async def verify(
        first: Annotated[int, Query(alias="from", ge=1, le=BIGINT - 1)] = 1,
        caller: Caller = Depends(reader),
    ) -> VerifiedBody:
        """Recompute blocks from one on and name the first row that is wrong."""
        operators_only(caller, "Verifying the journal")
        async with seen_by(service, caller) as tx:
            found = await chain.verify(tx, first, settings.verify_blocks)
        fault = found.fault
        return VerifiedBody(
            whole=fault is None,
            first_block=found.first_block,
            last_block=found.last_block,
            entries=found.entries,
            fault=FaultBody(block_id=fault.block_id, entry_id=fault.entry_id, what=fault.what)
            if fault
            else None,
            next_block=found.next_block,
            head_hash=found.head_hash,
        )
