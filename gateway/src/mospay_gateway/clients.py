"""HTTP out: payment-router's word on a payment that has not ended yet."""

import datetime as dt
from collections.abc import Sequence

import httpx
import structlog
from mospay_shared.chassis.http_out import Network, open_client
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentStatus
from pydantic import BaseModel, ConfigDict, ValidationError

from mospay_gateway.domain.payments import News

log = structlog.get_logger()


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
        if self._http is None:
            self._http = open_client(
                self._base_url, allowed=self._allowed, timeout_seconds=self._timeout_seconds
            )
        token = self._signer.token(
            "payment-router", "payments:read", client_id=client_id, mode=mode
        )
        try:
            answer = await self._http.get(
                f"/internal/v1/payments/{payment_id}",
                headers={"authorization": f"Bearer {token}"},
            )
            if answer.status_code != 200:
                return None
            found = _RouterPayment.model_validate_json(answer.content)
        except (httpx.HTTPError, OSError, ValidationError) as error:
            log.info("router_not_asked", payment_id=payment_id, reason=type(error).__name__)
            return None
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
