"""Out of the notifier: webhooks, mails by SMTP, and who makes a mail's link.

A webhook is one POST to one endpoint: no redirect, no resend, no inside address.
"""

import datetime as dt
import ipaddress
import time
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

import aiohttp
import aiosmtplib
import httpx
from mospay_shared.chassis.http_out import AddressRefused, open_client
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import InvoiceReminderV1, MailPayerV1

from mospay_notifier.domain import parse_retry_after

_ANYWHERE = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
RESPONSE_LIMIT = 1024  # bytes of a response that are kept


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, or why nothing did (`error`)."""

    status_code: int | None
    error: str | None
    duration_ms: int
    response: str | None = None
    retry_after_seconds: float | None = None


REFUSED = "the address is not a public one, so it is never called"


async def deliver(
    session: aiohttp.ClientSession,
    url: str,
    body: bytes,
    headers: dict[str, str],
    timeout_seconds: float,
) -> Answer:
    """POST a signed webhook once. What went wrong is in the answer; nothing is raised.

    Only the head of a response is read, as it came: a receiver can't make us unpack a bomb.
    """
    started = time.monotonic()

    def spent() -> int:
        return int((time.monotonic() - started) * 1000)

    try:
        async with session.post(
            url,
            data=body,
            headers={"accept-encoding": "identity", **headers},
            allow_redirects=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        ) as answer:
            wait = parse_retry_after(answer.headers.get("Retry-After"), dt.datetime.now(dt.UTC))
            error = None if 200 <= answer.status < 300 else f"HTTP {answer.status}"
            return Answer(answer.status, error, spent(), await _excerpt(answer), wait)
    except TimeoutError:
        return Answer(None, f"no answer within {timeout_seconds:g} s", spent())
    except aiohttp.ClientConnectorError as error:
        refused = isinstance(error.os_error, AddressRefused)
        return Answer(None, REFUSED if refused else "could not connect", spent())
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(None, type(error).__name__[:200], spent())


async def _excerpt(answer: aiohttp.ClientResponse) -> str | None:
    """Return the head of a response as text. The status counts, whatever becomes of the body."""
    try:
        raw = await answer.content.read(RESPONSE_LIMIT)
    except (aiohttp.ClientError, OSError):  # a time-out is an OSError
        return None
    return raw.decode(errors="replace").replace("\x00", "")


class LinkRefused(Exception):
    """No link is made: the invoice is paid, the invitation over, so nobody is written to."""


class _Maker:
    """A service that makes the link of a mail that is being composed."""

    def __init__(self, service: str, base_url: str, seed: str, timeout_seconds: float) -> None:
        self._service, self._base_url, self._timeout_seconds = service, base_url, timeout_seconds
        self._signer = TokenSigner("notifier", seed)
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def _make(
        self, path: str, scope: str, body: dict[str, Any], **tenant: str | None
    ) -> dict[str, Any]:
        if self._http is None:  # the address is our own setting's, so it may be a private one
            self._http = open_client(
                self._base_url, allowed=_ANYWHERE, timeout_seconds=self._timeout_seconds
            )
        token = self._signer.token(self._service, scope, **tenant)
        headers = {"authorization": f"Bearer {token}"}
        answer = await self._http.post(f"/internal/v1/{path}", json=body, headers=headers)
        if answer.status_code in (404, 409):
            raise LinkRefused(f"{self._service} answered {answer.status_code}")
        answer.raise_for_status()
        made: dict[str, Any] = answer.json()
        return made


class LedgerClient(_Maker):
    """Asks the ledger for the link of a mail about an invoice."""

    def __init__(self, base_url: str, seed_base64: str, *, timeout_seconds: float = 10.0) -> None:
        super().__init__("ledger", base_url, seed_base64, timeout_seconds)

    async def link(self, told: InvoiceReminderV1) -> str:
        """Return where a new link leads (`/i/…`); raises LinkRefused, httpx.HTTPError."""
        path, tenant = f"invoices/{told.invoice_id}/links", {"client_id": told.client_id}
        made = await self._make(
            path, "invoices:share", {"purpose": "mailed"}, mode=told.mode, **tenant
        )
        return f"/i/{made['token']}"


class PortalClient(_Maker):
    """Asks portal-api for the link of a payer's mail."""

    def __init__(self, base_url: str, seed_base64: str, *, timeout_seconds: float = 10.0) -> None:
        super().__init__("portal-api", base_url, seed_base64, timeout_seconds)

    async def link(self, told: MailPayerV1) -> str:
        """Return where a fresh link leads (`/portal/…`); raises LinkRefused, httpx.HTTPError."""
        made = await self._make(f"payer-links/{told.mail_id}/token", "payers:link", {})
        return str(made["path"])


@dataclass(frozen=True, slots=True)
class Post:
    """The SMTP server that takes our mails; `tls` is start, implicit or none."""

    host: str
    port: int
    tls: str
    username: str
    password: str | None
    timeout_seconds: float

    async def send(self, mail: EmailMessage) -> None:
        """Hand one mail over; raises aiosmtplib.SMTPException, OSError."""
        await aiosmtplib.send(
            mail,
            hostname=self.host,
            port=self.port,
            username=self.username or None,
            password=self.password,
            start_tls=self.tls == "start",
            use_tls=self.tls == "implicit",
            timeout=self.timeout_seconds,
        )
