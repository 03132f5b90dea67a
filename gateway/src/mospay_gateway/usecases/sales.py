"""Record sale events: one statement a batch, each event told once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.telemetry import current_traceparent
from mospay_shared.contracts import SaleEventV1, outgoing

from mospay_gateway.storage import sales


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a batch: ids of the new ones; all others were known already."""

    total: int
    new: frozenset[str]

    @property
    def duplicates(self) -> int:
        """How many were known, or came twice in the batch."""
        return self.total - len(self.new)


def _hash(event: SaleEventV1) -> bytes:
    return hashlib.sha256(event.dedupe_key.encode()).digest()


async def record_sales(
    database: Database, relay: Relay, events: Sequence[SaleEventV1], request_id: str
) -> Ingested:
    """Record a tenant's events (at least one) and tell of the new ones, in one transaction."""
    first: dict[bytes, SaleEventV1] = {}
    for event in events:
        first.setdefault(_hash(event), event)
    kept = list(first.values())
    messages = [
        outgoing(
            "sale.recorded.v1",
            event.sale_event_id,
            event,
            source="gateway",
            correlation_id=request_id,
            traceparent=current_traceparent(),
        )
        for event in kept
    ]
    tenant = kept[0]
    async with database.transaction() as tx:
        new = await sales.record(
            tx,
            tenant.client_id,
            tenant.mode,
            list(first),
            [event.sale_event_id for event in kept],
            messages,
            tenant.received_at,
        )
        tx.after_commit(relay.wake)
    return Ingested(len(events), frozenset(new))


async def known_sale(database: Database, event: SaleEventV1) -> str | None:
    """Return the id under which an event like this was recorded before."""
    async with database.request(client_id=event.client_id, mode=event.mode) as tx:
        return await sales.known(tx, event.client_id, event.mode, _hash(event))
