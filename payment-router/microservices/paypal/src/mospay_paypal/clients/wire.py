"""HTTP out: one request, no retry, no redirect, exact about whether a byte can have left."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, Self

import httpx

from mospay_paypal.domain.protocol import parse_object

ANSWER_BYTES_MAX: Final = 256 * 1024
CONNECT_SECONDS: Final = 5.0
# Raised before a connection is there, so nothing can have been written.
_BEFORE_THE_FIRST_BYTE: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: `status` None means no answer; `body` is empty unless a JSON object came."""

    status: int | None
    body: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    never_sent: bool = False

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return self.status is not None and 200 <= self.status < 300


class Api:
    """A provider's API: the one place calls go to, no redirect, no proxy from the environment."""

    def __init__(self, base_url: str, timeout_seconds: float) -> None:
        self._base, self._seconds = base_url.rstrip("/"), timeout_seconds
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds)),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=20),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def call(
        self, method: str, path: str, *, auth: tuple[str, str] | None = None, **parts: Any
    ) -> Reply:
        """Send once and read the answer; `parts` are httpx's headers, json, params, content, …

        The time-out bounds it all, also an answer that drips in.
        """
        try:
            request = self._client.build_request(method, f"{self._base}/{path}", **parts)
            async with asyncio.timeout(self._seconds):
                response = await self._client.send(request, stream=True, auth=auth)
                try:
                    return await _read(response)
                finally:
                    await response.aclose()
        except _BEFORE_THE_FIRST_BYTE as error:
            return Reply(None, error=f"no connection: {type(error).__name__}", never_sent=True)
        except (httpx.HTTPError, TimeoutError) as error:
            return Reply(None, error=f"no answer: {type(error).__name__}")


async def _read(response: httpx.Response) -> Reply:
    raw = bytearray()
    async for part in response.aiter_bytes():
        raw += part
        if len(raw) > ANSWER_BYTES_MAX:
            return Reply(None, error=f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    body = parse_object(bytes(raw))
    words = f"HTTP {response.status_code}" + ("" if body is not None else ", no JSON object")
    return Reply(response.status_code, body or {}, words)
