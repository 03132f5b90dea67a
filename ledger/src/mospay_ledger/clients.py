"""HTTP out of the ledger: the gateway, asked to accept an invoice's payment or to say what it has.

Never sent twice by this client: whoever sends an intent again does it with its key, on purpose.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
import structlog
from mospay_shared.chassis.http_out import Network, open_client
from mospay_shared.chassis.service_tokens import TokenSigner
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mospay_ledger.domain.paying import (
    Absent,
    Accepted,
    Answer,
    Fault,
    Intent,
    Refused,
    Unclear,
)

log = structlog.get_logger()
PATH = "/internal/v1/payments"
_REUSED = frozenset({"idempotency_key_reused", "reference_reused"})
_WORDS = "The payment was refused"


class _Payment(BaseModel):
    """What we need of the gateway's answer; the rest is ignored."""

    model_config = ConfigDict(extra="ignore")
    id: str
    status: str
    version: int
    amount_minor: int
    updated_at: AwareDatetime
    reason_code: str | None = None
    reason_message: str | None = None


class GatewayClient:
    """Speaks to the gateway for one client and mode at a time, as its token says."""

    def __init__(
        self, base_url: str, seed_base64: str, *, allowed: Sequence[Network], timeout_seconds: float
    ) -> None:
        self._base_url, self._allowed = base_url, allowed
        self._timeout_seconds = timeout_seconds
        self._signer = TokenSigner("ledger", seed_base64)
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def pay(self, intent: Intent, phone: str) -> Answer:
        """Ask for an intent's payment; its id is the key, the same at every sending."""
        body = {
            "client_id": intent.merchant_id,
            "mode": intent.mode,
            "idempotency_key": intent.id,
            "not_after": intent.not_after.isoformat(),
            "service": intent.service,
            "microservice": intent.microservice,
            "route": intent.route,
            "amount_minor": intent.amount_minor,
            "currency": intent.currency,
            "phone": phone,
            "reference": intent.id,
            "customer_id": intent.customer_id,
            "product_name": f"Invoice {intent.invoice_number}",
            "metadata": {"invoice_id": intent.invoice_id},
        }
        return await self._ask("POST", PATH, intent, "payments:create", body)

    async def look(self, intent: Intent) -> Answer:
        """Ask what an intent's key was used for."""
        key = quote(intent.id, safe="")
        path = f"{PATH}/by-key/{quote(intent.merchant_id, safe='')}/{intent.mode}/{key}"
        return await self._ask("GET", path, intent, "payments:read", None)

    async def _ask(
        self, method: str, path: str, intent: Intent, scope: str, body: dict[str, Any] | None
    ) -> Answer:
        if self._http is None:
            self._http = open_client(
                self._base_url, allowed=self._allowed, timeout_seconds=self._timeout_seconds
            )
        token = self._signer.token("gateway", scope, client_id=intent.merchant_id, mode=intent.mode)
        try:
            answer = await self._http.request(
                method, path, json=body, headers={"authorization": f"Bearer {token}"}
            )
            return _read(method, answer)
        except (httpx.HTTPError, OSError, ValueError, ValidationError) as error:
            log.info("gateway_not_asked", intent_id=intent.id, reason=type(error).__name__)
            return Unclear(type(error).__name__)


def _read(method: str, answer: httpx.Response) -> Answer:
    """Say what an answer proves. Only 403 and 422 of a POST prove that nothing was accepted."""
    if answer.status_code in (200, 202):
        found = _Payment.model_validate_json(answer.content)
        return Accepted(
            found.id,
            found.status,
            found.version,
            found.amount_minor,
            found.updated_at,
            found.reason_code,
            found.reason_message,
        )
    if method == "GET" and answer.status_code == 404:
        return Absent()
    told = answer.json() if answer.content else {}
    code = str(told.get("code", answer.status_code))[:80]
    if method == "POST" and answer.status_code in (403, 422) and code in _PROOF:
        faults = tuple(
            Fault(*(str(one.get(key, ""))[:300] for key in ("field", "code", "message")))
            for one in told.get("errors") or ()
        )
        if any(fault.code == "too_late" for fault in faults):
            return Unclear("too_late")  # an earlier sending may still be on its way in
        return Refused(code, str(told.get("title") or _WORDS)[:300], faults)
    if code in _REUSED:  # not by us: an intent's body never changes
        log.error("intent_key_taken", code=code)
    return Unclear(code)


# What the gateway says once it has looked for an earlier payment under the key and found none; a
# 403 about our own token (`missing_scope`) proves nothing.
_PROOF = frozenset(
    {
        "client_inactive", "invalid_request", "invalid_text", "daily_limit_exceeded",
        "daily_phone_limit_exceeded",
    }
)  # fmt: skip
