"""Time into the notifier: the sender claims what is due, fairly, and sends once a lease."""

import asyncio
import datetime as dt
import functools
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Sequence
from email.message import EmailMessage
from typing import Any

import aiohttp
import aiosmtplib
import httpx
import structlog
from mospay_shared.chassis.batcher import Batcher
from mospay_shared.chassis.http_out import open_session
from mospay_shared.chassis.sealed import SealBroken, Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.workers import Worker
from mospay_shared.contracts import InvoiceReminderV1, MailPayerV1, SealedSecrets
from prometheus_client import Counter, Gauge

from mospay_notifier import clients, storage, usecases
from mospay_notifier.domain import (
    Verdict,
    compose_mail,
    compose_payer_mail,
    judge,
    mail_wait,
    sign,
)
from mospay_notifier.settings import NotifierSettings

log = structlog.get_logger()
ATTEMPTS = Counter("mospay_notifier_attempts", "Webhook attempts by result", ["result"])
MAILS = Counter("mospay_notifier_mails", "Tries to send mails", ["state"])
IN_FLIGHT = Gauge("mospay_notifier_in_flight", "Open webhook calls")
RESULTS_BATCH = 200
PACE_SECONDS = 0.02  # between two claims, and for results to gather: each costs by itself
DRAIN_MARGIN_SECONDS = 2.0  # of the half of a shutdown we may take: to store what came back
Compose = Callable[[Any], Awaitable[EmailMessage]]
SECRETS_KEPT = 10_000  # opened secrets in memory, by endpoint and version of the sealed value


class OpenCalls:
    """How many calls are open, by endpoint and by client, in this process."""

    def __init__(self) -> None:
        self.endpoints: Tally[str] = Tally()
        self.clients: Tally[str] = Tally()

    def take(self, row: Any) -> None:
        """Count a call that starts."""
        self.endpoints[row["endpoint_id"]] += 1
        self.clients[row["client_id"]] += 1

    def release(self, row: Any) -> None:
        """Count a call that ended; who has none left is forgotten."""
        for tally, key in (
            (self.endpoints, row["endpoint_id"]),
            (self.clients, row["client_id"]),
        ):
            tally[key] -= 1
            if not tally[key]:
                del tally[key]


class Sender:
    """Sends due deliveries; a slot is held from claim to stored result."""

    def __init__(self, service: Service, settings: NotifierSettings, sealer: Sealer) -> None:
        self._service, self._settings, self._sealer = service, settings, sealer
        self._session: aiohttp.ClientSession | None = None
        self._results: Batcher[storage.Attempt, None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = OpenCalls()
        self._secrets: dict[str, str] = {}
        self.worker = Worker(
            "notifier.sender", self._turn, idle_seconds=0.5, pace_seconds=PACE_SECONDS
        )

    async def open(self) -> None:
        """Open the session; called before the workers start."""
        self._session = open_session(
            self._settings.allow_private_networks,
            connections=self._settings.in_flight,
            timeout_seconds=self._settings.timeout_seconds,
        )
        self._results = Batcher(self._store, limit=RESULTS_BATCH, linger_seconds=PACE_SECONDS)

    async def drain(self) -> None:
        """Wait for open calls and store their results; one that takes too long is made again."""
        if self._tasks:
            seconds = max(self._settings.shutdown_seconds / 2 - DRAIN_MARGIN_SECONDS, 0)
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
        if self._results is not None:
            await self._results.close()

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def _turn(self) -> int:
        free = self._settings.in_flight - len(self._tasks)
        if free <= 0:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED, timeout=1)
            return 0
        # Counted from before the claim: a process that was paused must not send on a lost lease.
        send_before = time.monotonic() + self._settings.lease_seconds
        send_before -= self._settings.timeout_seconds
        async with self._service.database.transaction() as tx:
            rows = await storage.claim_due(
                tx,
                limit=min(free, RESULTS_BATCH),
                lease_seconds=self._settings.lease_seconds,
                per_endpoint=self._settings.in_flight_endpoint,
                per_client=self._settings.in_flight_client,
                endpoints=self._open.endpoints,
                clients=self._open.clients,
            )
        for row in rows:
            self._open.take(row)
            task = asyncio.create_task(self._send(row, send_before))
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._finished, row))
        IN_FLIGHT.set(len(self._tasks))
        return len(rows)

    def _finished(self, row: Any, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._open.release(row)
        IN_FLIGHT.set(len(self._tasks))
        if not task.cancelled() and (error := task.exception()):
            log.error("delivery_not_stored", delivery_id=row["id"], exc_info=error)
        self.worker.wake()

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

    async def _send(self, row: Any, send_before: float) -> None:
        if time.monotonic() > send_before:
            log.warning("lease_too_old_to_send", delivery_id=row["id"])
            return
        at = dt.datetime.now(dt.UTC)
        answer = await self._attempt(row, int(at.timestamp()))
        verdict = judge(
            row["attempts"] - row["attempts_before"],
            answer.status_code,
            answer.retry_after_seconds,
            self._settings.schedule_seconds,
            dt.datetime.now(dt.UTC),
        )
        if not row["active"]:
            verdict = Verdict("failed", None)
        ATTEMPTS.labels(verdict.state).inc()
        assert self._results is not None
        await self._results.submit(
            storage.Attempt(
                delivery_id=row["id"],
                endpoint_id=row["endpoint_id"],
                lease=row["lease"],
                state=verdict.state,
                next_at=verdict.next_at,
                number=row["attempts"],
                attempted_at=at,
                status_code=answer.status_code,
                error=answer.error,
                duration_ms=answer.duration_ms,
                response=answer.response,
                event=usecases.attempt_event(row, verdict.state, answer, verdict.next_at, at),
                disable=verdict.disable,
            )
        )
        if verdict.disable:
            log.warning("endpoint_disabled", endpoint_id=row["endpoint_id"])

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
            await usecases.store_attempts(tx, attempts)
            tx.after_commit(self._service.relay.wake)
        return [None] * len(attempts)


class Mailer:
    """Sends the due mails of one table; a link is made with its mail and forgotten with it."""

    def __init__(
        self, service: Service, settings: NotifierSettings, table: str, compose: Compose
    ) -> None:
        self._database, self._settings = service.database, settings
        self._table, self._compose = table, compose
        password = settings.smtp_password
        self._post = clients.Post(
            settings.smtp_host,
            settings.smtp_port,
            settings.smtp_tls,
            settings.smtp_username,
            password.get_secret_value() if password is not None else None,
            settings.smtp_seconds,
        )
        due = self._database.due(f"{table} where next_at <= now()")
        name = f"notifier.{table}"
        self.worker = Worker(name, self._turn, settings.mail_poll_seconds, due)

    async def _turn(self) -> int:
        settings, table = self._settings, self._table
        async with self._database.transaction() as tx:
            rows = await storage.claim_mails(
                tx, table, settings.mail_lease_seconds, settings.mail_batch
            )
        await asyncio.gather(*(self._send(row) for row in rows))
        return len(rows)

    async def _send(self, row: Any) -> None:
        """Send one mail and note how that went. Killed in between, it goes out again: same id."""
        state, error = "sent", None
        try:
            if not self._post.host:
                raise ValueError("no SMTP server is configured")
            await self._post.send(await self._compose(row))
        except (clients.LinkRefused, ValueError) as refusal:
            state, error = "dropped", str(refusal)[:200]
        except aiosmtplib.SMTPRecipientsRefused:
            state, error = "failed", "the address was refused"
        except (aiosmtplib.SMTPException, httpx.HTTPError, OSError) as failure:
            # never its text: a server may repeat what it was sent
            state, error = "pending", type(failure).__name__
        if state == "pending" and row["attempts"] >= self._settings.mail_attempts:
            state = "failed"
        MAILS.labels(state).inc()
        key = (self._table, row["id"], row["attempts"])
        async with self._database.transaction() as tx:
            if state == "pending":
                await storage.put_off_mail(tx, *key, mail_wait(row["attempts"]), error or "")
            else:
                await storage.end_mail(tx, *key, state, error)
        log.info("mail_tried", mail_id=row["id"], state=state, reason=error)


def invoice_mailer(service: Service, settings: NotifierSettings) -> Mailer:
    """Return what sends mails about invoices."""
    ledger = clients.LedgerClient(settings.ledger_url, settings.signing_key.get_secret_value())
    service.on_close(ledger.close)

    async def compose(row: Any) -> EmailMessage:
        told = InvoiceReminderV1.model_validate(row["body"])
        link = settings.public_url.rstrip("/") + await ledger.link(told)
        return compose_mail(told, mail_id=row["id"], sender=settings.smtp_from, link=link)

    return Mailer(service, settings, storage.MAILS, compose)


def payer_mailer(service: Service, settings: NotifierSettings) -> Mailer:
    """Return what sends mails with payers' links."""
    portal = clients.PortalClient(settings.portal_url, settings.signing_key.get_secret_value())
    service.on_close(portal.close)

    async def compose(row: Any) -> EmailMessage:
        told = MailPayerV1.model_validate(row["body"])
        if told.valid_until <= dt.datetime.now(dt.UTC):
            raise clients.LinkRefused("its link would have ended")
        link = settings.public_url.rstrip("/") + await portal.link(told)
        return compose_payer_mail(told, sender=settings.smtp_from, link=link)

    return Mailer(service, settings, storage.PAYER_MAILS, compose)
