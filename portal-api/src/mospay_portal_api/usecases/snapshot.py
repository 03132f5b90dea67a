"""A snapshot of the directory for a service that starts empty."""

from collections.abc import Sequence
from typing import Any

from mospay_shared.chassis import telemetry
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import (
    Contract,
    CredentialsPartV1,
    Event,
    Outgoing,
    SnapshotPartV1,
    SnapshotRequestedV1,
    outgoing,
)

from mospay_portal_api.storage import directory as store
from mospay_portal_api.usecases.bodies import BODIES

PART_ENTITIES = 100  # the contract's limit
PART_BYTES = 160 * 1024  # an event has at most 256 KiB
_LISTS = {"company": "companies", "client": "clients", "service": "services",
          "assignment": "assignments", "ip_rule": "ip_rules"}  # fmt: skip

Entity = tuple[str, Contract]


def parts_of(entities: Sequence[Entity]) -> list[list[Entity]]:
    """Split entities into parts of at most PART_ENTITIES and about PART_BYTES; at least one."""
    parts: list[list[Entity]] = [[]]
    size = 0
    for entity in entities:
        length = len(entity[1].model_dump_json())
        if parts[-1] and (len(parts[-1]) >= PART_ENTITIES or size + length > PART_BYTES):
            parts.append([])
            size = 0
        parts[-1].append(entity)
        size += length
    return parts


async def answer(tx: Tx, relay: Relay, event: Event[SnapshotRequestedV1]) -> int:
    """Publish the whole directory in parts, tombstones included; return the number of messages.

    The counter is held meanwhile, so the snapshot is of one instant: its high-water mark.
    """
    request, high_water = event.data, await store.current_version(tx)
    entities: list[Entity] = []
    for kind, table in _LISTS.items():
        rows = await store.everything(tx, table)
        entities += [(kind, BODIES[kind](row)) for row in rows]
    parts = parts_of(entities)
    messages = [
        _message(
            event,
            "directory.snapshot_part.v1",
            SnapshotPartV1(
                request_id=request.request_id,
                requested_by=request.requested_by,
                part=number,
                last=number == len(parts),
                high_water=high_water,
                **{
                    table: [body for of, body in part if of == kind]
                    for kind, table in _LISTS.items()
                },
            ),
        )
        for number, part in enumerate(parts, 1)
    ]
    if request.credentials:
        messages += await _credentials(tx, event)
    await relay.enqueue(tx, messages)
    return len(messages)


async def _credentials(tx: Tx, event: Event[SnapshotRequestedV1]) -> list[Outgoing]:
    rows = await store.all_credentials(tx)
    parts = parts_of([("credential", BODIES["credential"](row)) for row in rows])
    return [
        _message(
            event,
            "directory.credentials_part.v1",
            CredentialsPartV1(
                request_id=event.data.request_id,
                part=number,
                last=number == len(parts),
                credentials=[body for _, body in part],
            ),
        )
        for number, part in enumerate(parts, 1)
    ]


def _message(event: Event[Any], wire_type: str, body: Contract) -> Outgoing:
    return outgoing(
        wire_type,
        event.data.request_id,
        body,
        source="portal-api",
        causation_id=event.id,
        correlation_id=event.envelope.correlation_id,
        traceparent=telemetry.new_traceparent(event.envelope.traceparent),
    )
