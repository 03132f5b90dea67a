"""HTTP out: one POST a call, never repeated, and exact about whether a byte has left."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.payload import BytesPayload
from mospay_shared.chassis.http_out import Network, open_session

from mospay_payment_router.domain.answers import Answer

ANSWER_LIMIT_BYTES = 256 * 1024
CONNECT_SECONDS = 3.0
CONNECTIONS_TRIED = 3  # that turn out to be closed before the first byte
_CHUNK_BYTES = 64 * 1024
# Raised while a connection is made: nothing can have been written. A pooled connection that was
# dropped is not among them.
_BEFORE_THE_FIRST_BYTE = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
)


class LeaseLapsed(Exception):
    """The lease no longer covers the call: nothing was sent."""


class _ConnectionGone(Exception):
    """The connection was closed before the first byte: nothing was sent."""


class _LeasedBody(BytesPayload):
    """A body that looks at lease and connection once more, right before the request's first byte.

    The client library holds the headers back until then, so raising here sends nothing at all.
    """

    def __init__(self, value: bytes, may_send: Callable[[], bool]) -> None:
        super().__init__(value, content_type="application/json")
        self._may_send = may_send
        self.started = self.lapsed = self.gone = False

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        if not self._may_send():
            self.lapsed = True
            raise LeaseLapsed
        if writer.transport is None or writer.transport.is_closing():
            self.gone = True
            raise _ConnectionGone
        self.started = True
        await super().write_with_length(writer, content_length)


class Provider:
    """The session to every connector; addresses are checked where sockets are made."""

    def __init__(self, allowed: list[Network], connections: int) -> None:
        self._allowed, self._connections = allowed, connections
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the session."""
        self._session = open_session(self._allowed, connections=self._connections)

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def post(
        self,
        url: str,
        payload: bytes,
        headers: dict[str, str],
        timeout_seconds: float,
        may_send: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """POST once and return what came back; raises LeaseLapsed when nothing was sent.

        A connection that is found closed before the first byte is left for another one.
        """
        timeout = aiohttp.ClientTimeout(
            total=timeout_seconds, sock_connect=min(CONNECT_SECONDS, timeout_seconds)
        )
        for _ in range(CONNECTIONS_TRIED):
            body = _LeasedBody(payload, may_send)
            answer = await self._once(url, body, headers, timeout)
            if not body.gone:
                return answer
        words = "every connection was closed before the first byte"
        return Answer(None, None, words, never_sent=True)

    async def _once(
        self, url: str, body: _LeasedBody, headers: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> Answer:
        assert self._session is not None
        try:
            async with self._session.post(
                url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if body.lapsed:
                raise LeaseLapsed from error
            never = isinstance(error, _BEFORE_THE_FIRST_BYTE) and not body.started
            return Answer(None, None, _words(error, timeout.total or 0), never_sent=never)


async def _read(response: aiohttp.ClientResponse) -> Answer:
    parts, size = [], 0
    async for part in response.content.iter_chunked(_CHUNK_BYTES):
        size += len(part)
        if size > ANSWER_LIMIT_BYTES:
            return Answer(None, None, f"the answer is longer than {ANSWER_LIMIT_BYTES} bytes")
        parts.append(part)
    return Answer(response.status, b"".join(parts))


def _words(error: Exception, timeout_seconds: float) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection in time"
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {timeout_seconds:g} s"
    return f"{type(error).__name__}: {error}"[:300]
