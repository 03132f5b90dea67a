"""Security events and the changes of providers' health, as they were told, each once."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import ProviderHealthV1, RiskAssessedV1, SecurityEventV1

from mospay_reporter.domain.facts import BIGINT, Unstorable, storable
from mospay_reporter.storage.facts import storing

_SECURITY = """
insert into security_events (event_id, kind, client_id, mode, ip, credential, path, reason, count,
    first_at, last_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::text[], $8::text[], $9::bigint[], $10::timestamptz[], $11::timestamptz[])
on conflict do nothing"""
_HEALTH = """
insert into provider_changes (event_id, microservice, mode, state, previous_state, reason, failures,
    calls, changed_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::bigint[], $8::bigint[], $9::timestamptz[])
on conflict do nothing"""
_RISK = """
insert into risk_assessments (event_id, payment_id, client_id, mode, decision, score, reasons,
    by_default, assessed_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
    $7::jsonb[], $8::bool[], $9::timestamptz[])
on conflict do nothing"""
# The place before which the next page starts is (last_at, event_id); null is the beginning.
_SECURITY_PAGE = """
select event_id, kind, client_id, mode, ip, credential, path, reason, count, first_at, last_at
from security_events
where ($1::timestamptz is null or (last_at, event_id) < ($1, $2))
  and ($3::text is null or client_id = $3) and ($4::text is null or kind = $4)
order by last_at desc, event_id desc limit $5"""
_HEALTH_NOW = """
select distinct on (microservice, mode) microservice, mode, state, previous_state, reason, failures,
    calls, changed_at
from provider_changes where mode = $1 order by microservice, mode, changed_at desc, event_id desc"""


def _aware(*times: dt.datetime) -> None:
    if any(time.tzinfo is None for time in times):
        raise Unstorable("times need a time zone")


async def add_security(tx: Tx, events: Sequence[tuple[str, SecurityEventV1]]) -> None:
    """Store security events, each with its kind; raises Unstorable."""
    for _, body in events:
        _aware(body.first_at, body.last_at)
    bodies = [body for _, body in events]
    async with storing():
        await tx.run(
            _SECURITY,
            [b.event_id for b in bodies],
            [kind for kind, _ in events],
            [b.client_id for b in bodies],
            [b.mode for b in bodies],
            [storable(b.ip) for b in bodies],
            [storable(b.credential) for b in bodies],
            [storable(b.path) for b in bodies],
            [storable(b.reason) for b in bodies],
            [b.count for b in bodies],
            [b.first_at for b in bodies],
            [b.last_at for b in bodies],
        )


async def add_health(tx: Tx, events: Sequence[tuple[str, ProviderHealthV1]]) -> None:
    """Store changes of providers' health, each with its event's id; raises Unstorable."""
    for _, body in events:
        _aware(body.changed_at)
        if max(body.failures, body.calls) >= BIGINT:
            raise Unstorable("failures or calls is beyond 64 bits")
    bodies = [body for _, body in events]
    async with storing():
        await tx.run(
            _HEALTH,
            [event_id for event_id, _ in events],
            [b.microservice for b in bodies],
            [b.mode for b in bodies],
            [b.state for b in bodies],
            [b.previous_state for b in bodies],
            [storable(b.reason) for b in bodies],
            [b.failures for b in bodies],
            [b.calls for b in bodies],
            [b.changed_at for b in bodies],
        )


async def add_risk(tx: Tx, events: Sequence[tuple[str, RiskAssessedV1]]) -> None:
    """Store what risk decided, each with its event's id; raises Unstorable."""
    for _, body in events:
        _aware(body.assessed_at)
        if abs(body.score) >= BIGINT:
            raise Unstorable("score is beyond 64 bits")
    bodies = [body for _, body in events]
    async with storing():
        await tx.run(
            _RISK,
            [event_id for event_id, _ in events],
            [b.payment_id for b in bodies],
            [b.client_id for b in bodies],
            [b.mode for b in bodies],
            [b.decision for b in bodies],
            [b.score for b in bodies],
            [[reason.model_dump() for reason in b.reasons] for b in bodies],
            [b.by_default for b in bodies],
            [b.assessed_at for b in bodies],
        )


async def security_page(
    tx: Tx,
    *,
    before: tuple[dt.datetime, str] | None,
    client_id: str | None,
    kind: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return security events, the newest first."""
    at, event_id = before or (None, None)
    return [
        dict(row) for row in await tx.fetch(_SECURITY_PAGE, at, event_id, client_id, kind, limit)
    ]


async def health_now(tx: Tx, mode: str) -> list[dict[str, Any]]:
    """Return each connector's newest state."""
    return [dict(row) for row in await tx.fetch(_HEALTH_NOW, mode)]
