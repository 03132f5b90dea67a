"""HTTP out of the notifier: one POST to one endpoint; no redirect, no resend, no inside address."""

import datetime as dt
import time
from dataclasses import dataclass

import aiohttp
from mospay_shared.chassis.http_out import AddressRefused

from mospay_notifier.domain import parse_retry_after

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
