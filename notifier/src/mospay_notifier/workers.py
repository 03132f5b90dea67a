"""Time into the notifier: the sender claims what is due, fairly, and sends once a lease."""

import asyncio
import datetime as dt
from collections import Counter as Tally
from collections.abc import Sequence
from typing import Any

import aiohttp
import structlog
from mospay_shared.chassis.batcher import Batcher
from mospay_shared.chassis.http_out import open_session
from mospay_shared.chassis.sealed import SealBroken, Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.workers import Worker
from mospay_shared.contracts import SealedSecrets
from prometheus_client import Counter, Gauge

from mospay_notifier import clients, storage, usecases
from mospay_notifier.domain import Verdict, judge, sign
from mospay_notifier.settings import NotifierSettings

log = structlog.get_logger()
ATTEMPTS = Counter("mospay_notifier_attempts", "Webhook attempts by result", ["result"])
IN_FLIGHT = Gauge("mospay_notifier_in_flight", "Open webhook calls")
RESULTS_BATCH = 200
SECRETS_KEPT = 10_000  # opened secrets in memory, by endpoint and version of the sealed value


class Sender:
    """Sends due deliveries; a slot is held from claim to stored result."""

    def __init__(self, service: Service, settings: NotifierSettings, sealer: Sealer) -> None:
        self._service, self._settings, self._sealer = service, settings, sealer
        self._session: aiohttp.ClientSession | None = None
        self._results: Batcher[storage.Attempt, None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: Tally[str] = Tally()
        self._secrets: dict[str, str] = {}
        self.worker = Worker("notifier.sender", self._turn, idle_seconds=0.5)

    async def open(self) -> None:
        """Open the session; called before the workers start."""
        self._session = open_session(
            self._settings.allow_private_networks,
            connections=self._settings.in_flight,
            timeout_seconds=self._settings.timeout_seconds,
        )
        self._results = Batcher(self._store, limit=RESULTS_BATCH)

    async def drain(self) -> None:
        """Wait for open calls and store their results."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.timeout_seconds + 2)
        if self._results is not None:
            await self._results.close()
        if self._session is not None:
            await self._session.close()

    async def _turn(self) -> int:
        free = self._settings.in_flight - len(self._tasks)
        if free <= 0:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED, timeout=1)
            return 0
        share = self._settings.in_flight_endpoint
        busy = [endpoint for endpoint, count in self._open.items() if count >= share]
        async with self._service.database.transaction() as tx:
            rows = await storage.claim_due(
                tx, min(free, RESULTS_BATCH), self._settings.lease_seconds, share, busy
            )
        for row in rows:
            self._open[row["endpoint_id"]] += 1
            task = asyncio.create_task(self._send(row))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        IN_FLIGHT.set(len(self._tasks))
        return len(rows)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("delivery_failed", exc_info=task.exception())

    def _secrets_of(self, row: Any) -> list[str]:
        opened = []
        for sealed in (row["secret"], row["previous_secret"]):
            if sealed is None:
                continue
            key = f"{row['endpoint_id']}:{sealed['nonce']}"
            if key not in self._secrets:
                if len(self._secrets) >= SECRETS_KEPT:
                    self._secrets.clear()
                values = self._sealer.open(SealedSecrets.model_validate(sealed), row["endpoint_id"])
                self._secrets[key] = values["secret"]
            opened.append(self._secrets[key])
        return opened

    async def _send(self, row: Any) -> None:
        try:
            at = dt.datetime.now(dt.UTC)
            answer = await self._attempt(row, int(at.timestamp()))
            number = row["attempts"] - row["attempts_before"]
            now = dt.datetime.now(dt.UTC)
            verdict = judge(
                number,
                answer.status_code,
                answer.retry_after_seconds,
                self._settings.schedule_seconds,
                now,
            )
            if not row["active"] and verdict.state == "pending":
                verdict = Verdict("failed", None)
            ATTEMPTS.labels(verdict.state).inc()
            event = usecases.attempt_event(row, verdict.state, answer, verdict.next_at, at)
            assert self._results is not None
            await self._results.submit(
                storage.Attempt(
                    delivery_id=row["id"],
                    lease=row["lease"],
                    state=verdict.state,
                    next_at=verdict.next_at,
                    number=row["attempts"],
                    attempted_at=at,
                    status_code=answer.status_code,
                    error=answer.error,
                    duration_ms=answer.duration_ms,
                    response=answer.response,
                    event=event,
                )
            )
            if verdict.disable:
                await self._disable(row["endpoint_id"])
        finally:
            self._open[row["endpoint_id"]] -= 1
            if not self._open[row["endpoint_id"]]:
                del self._open[row["endpoint_id"]]
            self.worker.wake()

    async def _attempt(self, row: Any, timestamp: int) -> clients.Answer:
        if not row["active"]:
            return clients.Answer(None, "the endpoint is disabled", 0)
        try:
            secrets = self._secrets_of(row)
        except SealBroken:
            log.error("endpoint_secret_unreadable", endpoint_id=row["endpoint_id"])
            return clients.Answer(None, "the endpoint's secret can't be opened", 0)
        headers = {
            "content-type": "application/json",
            "user-agent": "MosPay-Webhooks/1",
            "webhook-id": row["event_id"],
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secrets, row["event_id"], timestamp, row["body"]),
        }
        assert self._session is not None
        return await clients.deliver(
            self._session, row["url"], row["body"], headers, self._settings.timeout_seconds
        )

    async def _store(self, attempts: Sequence[storage.Attempt]) -> list[None]:
        async with self._service.database.transaction() as tx:
            await storage.store_attempts(tx, attempts)
            tx.after_commit(self._service.relay.wake)
        return [None] * len(attempts)

    async def _disable(self, endpoint_id: str) -> None:
        async with self._service.database.transaction() as tx:
            await storage.disable_endpoint(tx, endpoint_id, "it answered 410 Gone")
        log.warning("endpoint_disabled", endpoint_id=endpoint_id)
