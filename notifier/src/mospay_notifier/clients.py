"""HTTP out of the notifier: one POST to one endpoint; no redirect, no resend, no inside address."""

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


async def deliver(
    session: aiohttp.ClientSession,
    url: str,
    body: bytes,
    headers: dict[str, str],
    timeout_seconds: float,
) -> Answer:
    """POST a signed webhook once."""
    started = time.monotonic()

    def spent() -> int:
        return int((time.monotonic() - started) * 1000)

    try:
        async with session.post(
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        ) as answer:
            text = (await answer.content.read(RESPONSE_LIMIT)).decode(errors="replace")
            wait = parse_retry_after(answer.headers.get("Retry-After"))
            error = None if 200 <= answer.status < 300 else f"HTTP {answer.status}"
            return Answer(answer.status, error, spent(), text.replace("\x00", ""), wait)
    except TimeoutError:
        return Answer(None, f"no answer within {timeout_seconds:g} s", spent())
    except aiohttp.ClientConnectorError as error:
        refused = isinstance(error.os_error, AddressRefused)
        reason = str(error.os_error.strerror) if refused else "could not connect"
        return Answer(None, reason[:200], spent())
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(None, f"{type(error).__name__}"[:200], spent())
