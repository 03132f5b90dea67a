"""Calls out: payment-router's word on a payment, reporter's figures, the counts Redis shares."""

import datetime as dt
from collections.abc import Sequence
from typing import TypeVar

import httpx
import redis.asyncio as redis
import structlog
from mospay_shared.chassis.http_out import Network, open_client
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentStatus, RefundStatus
from pydantic import BaseModel, ConfigDict, ValidationError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mospay_gateway.domain.limits import WINDOW_SECONDS, Change
from mospay_gateway.domain.payments import NeverSeen, News
from mospay_gateway.domain.refunds import Refund

log = structlog.get_logger()


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
