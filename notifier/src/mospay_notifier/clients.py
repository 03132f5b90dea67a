"""Out of the notifier: webhooks, mails by SMTP, and the ledger that makes a mail's link.

A webhook is one POST to one endpoint: no redirect, no resend, no inside address.
"""

import datetime as dt
import ipaddress
import time
from dataclasses import dataclass
from email.message import EmailMessage

import aiohttp
import aiosmtplib
import httpx
from mospay_shared.chassis.http_out import AddressRefused, open_client
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import InvoiceReminderV1

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
    """The ledger makes no link: the invoice is paid, void or unknown, so nobody is written to."""


class LedgerClient:
    """Asks the ledger for the link of a mail that is being composed."""

    def __init__(self, base_url: str, seed_base64: str, *, timeout_seconds: float = 10.0) -> None:
        self._base_url, self._timeout_seconds = base_url, timeout_seconds
        self._signer = TokenSigner("notifier", seed_base64)
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def link(self, told: InvoiceReminderV1) -> str:
        """Return a new link's token; raises LinkRefused, httpx.HTTPError."""
        if self._http is None:  # the address is our own setting's, so it may be a private one
            self._http = open_client(
                self._base_url, allowed=_ANYWHERE, timeout_seconds=self._timeout_seconds
            )
        token = self._signer.token(
            "ledger", "invoices:share", client_id=told.client_id, mode=told.mode
        )
        answer = await self._http.post(
            f"/internal/v1/invoices/{told.invoice_id}/links",
            json={"purpose": "mailed"},
            headers={"authorization": f"Bearer {token}"},
        )
        if answer.status_code in (404, 409):
            raise LinkRefused(f"the ledger answered {answer.status_code}")
        answer.raise_for_status()
        return str(answer.json()["token"])


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
