"""Calls of client apps with their hourly counts, attempts of webhooks, and the partitions."""

import datetime as dt
from collections.abc import Sequence

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import ApiCalledV1, WebhookEventV1

from mospay_reporter.domain.facts import Unstorable, storable

MONTHS_AHEAD, DAYS_AHEAD = 3, 3  # partitions that stand ready, this month and today included
LATENCY_LIMIT_MS = 1e9  # so that no call can overflow the sum of its hour

_CALLS = """
with stored as (
    insert into api_calls (event_id, called_at, request_id, client_id, mode, method, path, status,
        latency_ms, error_code, payment_id, ip, request_body, response_body)
    select * from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[],
        $6::text[], $7::text[], $8::bigint[], $9::float8[], $10::text[], $11::text[], $12::text[],
        $13::text[], $14::text[])
    on conflict do nothing returning client_id, mode, called_at, status, latency_ms)
insert into api_calls_hourly as r
    (client_id, mode, bucket_at, calls, refused, failed, latency_ms)
select coalesce(client_id, ''), coalesce(mode, ''), date_trunc('hour', called_at, 'UTC'),
       count(*), count(*) filter (where status between 400 and 499),
       count(*) filter (where status >= 500), sum(latency_ms)
from stored group by 1, 2, 3 order by 1, 2, 3
on conflict (client_id, mode, bucket_at) do update set calls = r.calls + excluded.calls,
    refused = r.refused + excluded.refused, failed = r.failed + excluded.failed,
    latency_ms = r.latency_ms + excluded.latency_ms"""

_WEBHOOKS = """
insert into webhook_attempts (attempted_at, delivery_id, attempt, event_id, endpoint_id, client_id,
    mode, event_type, payment_id, delivered, final, status_code, error, duration_ms, next_at)
select * from unnest($1::timestamptz[], $2::text[], $3::bigint[], $4::text[], $5::text[],
    $6::text[], $7::text[], $8::text[], $9::text[], $10::bool[], $11::bool[], $12::bigint[],
    $13::text[], $14::bigint[], $15::timestamptz[])
on conflict do nothing"""


async def add_calls(tx: Tx, calls: Sequence[tuple[str, ApiCalledV1]]) -> None:
    """Store calls, each with its event's id, and count them by hour; raises Unstorable."""
    bodies = [body for _, body in calls]
    try:
        await tx.run(
            _CALLS,
            [event_id for event_id, _ in calls],
            [b.called_at for b in bodies],
            [b.request_id for b in bodies],
            [b.client_id for b in bodies],
            [b.mode for b in bodies],
            [storable(b.method) for b in bodies],
            [storable(b.path) for b in bodies],
            [b.status for b in bodies],
            [min(b.latency_ms, LATENCY_LIMIT_MS) for b in bodies],
            [storable(b.error_code) for b in bodies],
            [storable(b.payment_id) for b in bodies],
            [storable(b.ip) for b in bodies],
            [storable(b.request_body) for b in bodies],
            [storable(b.response_body) for b in bodies],
        )
    except asyncpg.DataError as error:
        raise Unstorable(f"{type(error).__name__}: {error}"[:300]) from error


async def add_webhook_attempts(tx: Tx, attempts: Sequence[tuple[bool, WebhookEventV1]]) -> None:
    """Store attempts, each with whether it delivered; raises Unstorable."""
    bodies = [body for _, body in attempts]
    try:
        await tx.run(
            _WEBHOOKS,
            [b.attempted_at for b in bodies],
            [b.delivery_id for b in bodies],
            [b.attempt for b in bodies],
            [b.event_id for b in bodies],
            [b.endpoint_id for b in bodies],
            [b.client_id for b in bodies],
            [b.mode for b in bodies],
            [b.event_type for b in bodies],
            [b.payment_id for b in bodies],
            [delivered for delivered, _ in attempts],
            [b.final for b in bodies],
            [b.status_code for b in bodies],
            [storable(b.error) for b in bodies],
            [b.duration_ms for b in bodies],
            [b.next_at for b in bodies],
        )
    except asyncpg.DataError as error:
        raise Unstorable(f"{type(error).__name__}: {error}"[:300]) from error


async def keep_partitions(tx: Tx, today: dt.date, retention_days: int) -> int:
    """Make the partitions that are due, drop days past retention; return how many were made."""
    made: int = await tx.value(
        "select reporter_keep_partitions($1, $2, $3, $4)",
        today,
        MONTHS_AHEAD,
        DAYS_AHEAD,
        today - dt.timedelta(days=retention_days),
    )
    return made
