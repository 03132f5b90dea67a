"""Calls out: payment-router, reporter's figures, the ledger's books, the counts Redis shares."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import httpx
import redis.asyncio as redis
import structlog
from mospay_shared.chassis.http_out import Network, open_client
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentStatus, RefundStatus
from pydantic import BaseModel, ConfigDict, ValidationError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mospay_gateway.domain.errors import (
    BooksAway,
    Fault,
    GatewayError,
    InvalidRequest,
    NotFound,
    TooManyAtOnce,
)
from mospay_gateway.domain.limits import WINDOW_SECONDS, Change
from mospay_gateway.domain.payments import NeverSeen, News
from mospay_gateway.domain.refunds import Refund

log = structlog.get_logger()
_BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError)  # no answer, late or not HTTP
_FILES = ("application/pdf", "text/csv")
_TOO_MUCH = {  # what the ledger says of a question whose answer is too long, in our words
    "statement_too_long": "More entries than one file holds: choose a shorter period, or CSV",
    "paper_too_large": "More than one PDF holds: choose a shorter period, or CSV",
}


class CountsAway(Exception):
    """Redis did not answer: counts go on in memory alone."""


class _RouterPayment(BaseModel):
    """What we need of the router's answer; the rest is ignored."""

    model_config = ConfigDict(extra="ignore")
    id: str
    client_id: str
    mode: str
    status: PaymentStatus
    version: int
    provider_reference: str | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    late: bool = False
    updated_at: dt.datetime


class _RouterRefund(BaseModel):
    """As much of the router's answer about a refund."""

    model_config = ConfigDict(extra="ignore")
    id: str
    payment_id: str
    client_id: str
    mode: str
    amount_minor: int
    currency: str
    reason: str | None = None
    requested_at: dt.datetime
    status: RefundStatus
    version: int
    provider_reference: str | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    late: bool = False
    over_refund: bool = False
    updated_at: dt.datetime


Answer = TypeVar("Answer", bound=BaseModel)


class RouterClient:
    """Asks payment-router, briefly: no answer in time is no news."""

    def __init__(
        self, base_url: str, seed_base64: str, *, allowed: Sequence[Network], timeout_seconds: float
    ) -> None:
        self._base_url, self._allowed = base_url, allowed
        self._timeout_seconds = timeout_seconds
        self._signer = TokenSigner("gateway", seed_base64)
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def news(self, payment_id: str, client_id: str, mode: str) -> News | None:
        """Return the router's news of a payment; None when it has none or can't be asked."""
        found = await self.ask(payment_id, client_id, mode)
        return None if isinstance(found, NeverSeen) else found

    async def ask(self, payment_id: str, client_id: str, mode: str) -> News | NeverSeen | None:
        """Return the router's word on a payment; None when it can't be asked or understood."""
        path = f"/internal/v1/payments/{payment_id}"
        found = await self._read(path, client_id, mode, _RouterPayment)
        if not isinstance(found, _RouterPayment):
            return found
        return News(
            payment_id=found.id,
            client_id=found.client_id,
            mode=found.mode,
            status=found.status,
            version=found.version,
            provider_reference=found.provider_reference,
            reason_code=found.reason_code,
            reason_message=found.reason_message,
            late=found.late,
            occurred_at=found.updated_at,
        )

    async def ask_refund(
        self, refund_id: str, client_id: str, mode: str
    ) -> Refund | NeverSeen | None:
        """Return the router's word on a refund; None when it can't be asked or understood."""
        path = f"/internal/v1/refunds/{refund_id}"
        found = await self._read(path, client_id, mode, _RouterRefund)
        return Refund(**dict(found)) if isinstance(found, _RouterRefund) else found

    async def _read(
        self, path: str, client_id: str, mode: str, shape: type[Answer]
    ) -> Answer | NeverSeen | None:
        if self._http is None:
            self._http = open_client(
                self._base_url, allowed=self._allowed, timeout_seconds=self._timeout_seconds
            )
        token = self._signer.token(
            "payment-router", "payments:read", client_id=client_id, mode=mode
        )
        try:
            answer = await self._http.get(path, headers={"authorization": f"Bearer {token}"})
            if answer.status_code == 404:
                return NeverSeen()
            if answer.status_code != 200:
                return None
            return shape.model_validate_json(answer.content)
        except (httpx.HTTPError, OSError, ValidationError) as error:
            log.info("router_not_asked", path=path, reason=type(error).__name__)
            return None


class ReporterClient:
    """Asks reporter for a client's figures."""

    def __init__(
        self, base_url: str, seed_base64: str, *, allowed: Sequence[Network], timeout_seconds: float
    ) -> None:
        self._base_url, self._allowed = base_url, allowed
        self._timeout_seconds = timeout_seconds
        self._signer = TokenSigner("gateway", seed_base64)
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def dashboard(
        self, name: str, query: dict[str, str | int], client_id: str, mode: str, time_zone: str
    ) -> bytes | None:
        """Return reporter's JSON as it is; None when it can't answer.

        The tenant is in the token alone. `time_zone` says whose days are meant.
        """
        if self._http is None:
            self._http = open_client(
                self._base_url, allowed=self._allowed, timeout_seconds=self._timeout_seconds
            )
        token = self._signer.token("reporter", "dashboard:read", client_id=client_id, mode=mode)
        try:
            answer = await self._http.get(
                f"/internal/v1/dashboard/{name}",
                params={**query, "time_zone": time_zone},
                headers={"authorization": f"Bearer {token}"},
            )
        except (httpx.HTTPError, OSError) as error:
            log.info("reporter_not_asked", name=name, reason=type(error).__name__)
            return None
        if answer.status_code != 200:
            log.info("reporter_refused", name=name, status=answer.status_code)
            return None
        return answer.content


@dataclass(frozen=True, slots=True)
class File:
    """A file on its way through. `close` it whatever happens: it holds a place among the calls."""

    content: AsyncIterator[bytes]
    media_type: str
    disposition: str
    close: Callable[[], Awaitable[None]]


class FileCut(Exception):
    """A file broke off on its way from the ledger."""


class _Places:
    """How many calls run at once; how many of them, and of those that wait, are one client's."""

    def __init__(self, at_once: int, of_a_client: int) -> None:
        self._places, self._of_a_client = asyncio.Semaphore(at_once), of_a_client
        self._held: dict[str, int] = {}

    @asynccontextmanager
    async def one(self, client_id: str) -> AsyncIterator[None]:
        """Hold a place, waiting for one; raises TooManyAtOnce."""
        if self._held.get(client_id, 0) >= self._of_a_client:
            raise TooManyAtOnce(self._of_a_client)
        self._held[client_id] = self._held.get(client_id, 0) + 1
        try:
            async with self._places:
                yield
        finally:
            self._held[client_id] -= 1
            if not self._held[client_id]:
                del self._held[client_id]


class _ToldFault(BaseModel):
    field: str
    code: str
    message: str


class _Told(BaseModel):
    """What we need of a problem the ledger tells of a request."""

    code: str
    errors: list[_ToldFault] = []


@dataclass(frozen=True, slots=True)
class LedgerLimits:
    """How long the ledger is waited for (seconds), and how many calls there are at once."""

    read_seconds: float
    paper_seconds: float
    calls: int
    calls_of_client: int
    files: int
    files_of_client: int


class LedgerClient:
    """Asks the ledger for what is a client's own. Whose it is, is in the token alone."""

    def __init__(
        self, base_url: str, seed_base64: str, *, allowed: Sequence[Network], limits: LedgerLimits
    ) -> None:
        self._base_url, self._allowed, self._limits = base_url, allowed, limits
        self._signer = TokenSigner("gateway", seed_base64)
        self._calls = _Places(limits.calls, limits.calls_of_client)
        self._files = _Places(limits.files, limits.files_of_client)
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def read(
        self, path: str, query: Mapping[str, Any], scope: str, client_id: str, mode: str
    ) -> bytes:
        """Return the ledger's JSON of a path below `/internal/v1`.

        Raises NotFound, InvalidRequest (with the fields as the ledger names them), TooManyAtOnce,
        BooksAway.
        """
        limit = self._limits.read_seconds
        try:
            async with asyncio.timeout(limit), self._calls.one(client_id):
                request = self._request(path, query, scope, client_id, mode, limit)
                answer = await self._open().send(request)
        except _BROKEN as error:
            raise _away(path, type(error).__name__) from error
        if answer.status_code == 200:
            return answer.content
        raise _refusal(path, answer)

    async def file(
        self, path: str, query: Mapping[str, Any], scope: str, client_id: str, mode: str
    ) -> File:
        """Return a PDF or CSV file as it comes; raises as `read` does, until it begins."""
        limit = self._limits.paper_seconds
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(limit):
                    await stack.enter_async_context(self._files.one(client_id))
                    request = self._request(path, query, scope, client_id, mode, limit)
                    answer = await self._open().send(request, stream=True)
                    stack.push_async_callback(answer.aclose)
                    kind = answer.headers.get("content-type", "").partition(";")[0]
                    if answer.status_code == 200 and kind in _FILES:
                        disposition = answer.headers.get("content-disposition", "attachment")
                        return File(_pieces(answer), kind, disposition, stack.pop_all().aclose)
                    await answer.aread()
            except _BROKEN as error:
                raise _away(path, type(error).__name__) from error
        raise _refusal(path, answer)

    def _open(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = open_client(
                self._base_url, allowed=self._allowed, timeout_seconds=self._limits.read_seconds
            )
        return self._http

    def _request(
        self, path: str, query: Mapping[str, Any], scope: str, client_id: str, mode: str,
        timeout_seconds: float,
    ) -> httpx.Request:  # fmt: skip
        token = self._signer.token("ledger", scope, client_id=client_id, mode=mode)
        return self._open().build_request(
            "GET",
            f"/internal/v1{path}",
            params=dict(query),
            headers={"authorization": f"Bearer {token}"},
            timeout=timeout_seconds,
        )


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    except _BROKEN as error:
        raise FileCut(type(error).__name__) from error


def _away(path: str, reason: str, retry_seconds: int = 5) -> BooksAway:
    log.warning("ledger_not_asked", path=path, reason=reason)
    return BooksAway(retry_seconds)


def _refusal(path: str, answer: httpx.Response) -> GatewayError:
    """Return what an answer of the ledger without success is to our caller."""
    if answer.status_code == 404:
        return NotFound("There is no such thing among yours")
    if answer.status_code == 422:
        try:
            told = _Told.model_validate_json(answer.content)
        except ValidationError:
            return _away(path, "422 that says nothing")
        if told.code in _TOO_MUCH:
            return InvalidRequest([], _TOO_MUCH[told.code], told.code)
        faults = [Fault(f.field, f.code, f.message) for f in told.errors]
        return InvalidRequest(faults)
    wait = answer.headers.get("retry-after", "")
    seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 3 else 5
    return _away(path, str(answer.status_code), max(1, seconds))


class SharedCounts:
    """What all gateway processes used of their limits, kept in Redis: it may vanish at any time.

    Keys are `mospay:limits:<policy>:<subject>:<minute>` and expire when they no longer count.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),  # the next turn is the retry
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def tell(self, changes: Sequence[Change]) -> list[int]:
        """Add what was used in one round trip (at least a ping); return the totals.

        Raises CountsAway: then it is not known whether anything was added.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for change in changes:
            key = f"mospay:limits:{change.window.name}:{change.minute}"
            if change.used:
                pipeline.incrby(key, change.used)
                pipeline.expire(key, 3 * WINDOW_SECONDS)
            else:
                pipeline.get(key)
        if not changes:
            pipeline.ping()
        try:
            answers = iter(await pipeline.execute())
            totals = []
            for change in changes:
                totals.append(int(next(answers) or 0))
                if change.used:
                    next(answers)
        except (redis.RedisError, OSError, TimeoutError, ValueError) as error:
            raise CountsAway(type(error).__name__) from error
        return totals
