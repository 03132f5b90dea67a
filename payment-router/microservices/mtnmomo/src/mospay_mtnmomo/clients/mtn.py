"""MTN's Collections (payments) and Disbursements (refunds)."""

import hashlib
import time
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from mospay_mtnmomo.clients.wire import Api, Reply
from mospay_mtnmomo.domain.mtn import REFUSED, judge, reason_of, reference_id
from mospay_mtnmomo.domain.protocol import (
    Answer,
    CallbackBody,
    Kind,
    Order,
    Told,
    UnsendableError,
    decimals,
    exact,
    text,
    unknown,
)
from mospay_mtnmomo.settings import Credentials, Settings
from mospay_mtnmomo.storage import Record

TOKEN_SPARE_SECONDS: Final = 60.0  # a token is not used in its last minute
TOKENS_MAX: Final = 1000  # clients with credentials of their own; beyond it all log in again
# The product and path of each kind of request.
_PATHS: Final[dict[Kind, str]] = {
    "payment": "collection/v1_0/requesttopay",
    "refund": "disbursement/v1_0/refund",
}


class Provider(Api):
    """MTN, as the router's protocol wants it: one call a method, plus a log-in now and then."""

    def __init__(self, settings: Settings, record: Record) -> None:
        super().__init__(str(settings.base_url), settings.timeout_seconds)
        self._settings, self._record = settings, record
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}

    async def pay(self, order: Order, credentials: Credentials) -> Answer:
        """Ask the payer to approve; MTN takes the request (202) and asks them on their phone."""
        if order.phone is None:
            raise UnsendableError("f005: MTN needs the payer's phone")
        body = {
            "amount": exact(order.amount, decimals(order.currency)),
            "currency": order.currency,
            "externalId": order.reference,
            "payer": {"partyIdType": "MSISDN", "partyId": order.phone.lstrip("+")},
            "payerMessage": self._settings.payer_message,
            "payeeNote": order.reference,
        }
        return await self._start(order, credentials, body)

    async def refund(self, order: Order, credentials: Credentials) -> Answer:
        """Give back (part of) a collection, by the reference id that its request had."""
        if order.payment_reference is None:
            raise UnsendableError("payment_reference: MTN refunds by it")
        body = {
            "amount": exact(order.amount, decimals(order.currency)),
            "currency": order.currency,
            "externalId": order.reference,
            "payerMessage": self._settings.payer_message,
            "payeeNote": order.reference,
            "referenceIdToRefund": reference_id("payment", order.payment_reference),
        }
        return await self._start(order, credentials, body)

    async def enquire(self, order: Order, credentials: Credentials) -> Answer:
        """Ask by the reference id, which needs no record: it is derived from our reference."""
        handle = reference_id(order.kind, order.reference)
        headers = await self._headers(order, credentials)
        reply = await self.call("GET", f"{_PATHS[order.kind]}/{handle}", headers=headers)
        if reply.status == 404 and reply.body.get("code") == "RESOURCE_NOT_FOUND":
            return unknown(order, "MTN has no such request", "not_found", found=False)
        if not reply.ok:
            self._forget_refused(reply)
            return unknown(order, reply.error)
        return judge(order, reply.body, handle)

    track = enquire

    async def read(self, callback: CallbackBody, credentials: Credentials) -> Told:
        """Translate a callback (PUT or POST). MTN signs nothing, so it is never `verified`."""
        body = callback.read_object()
        reference = text(body.get("externalId"))
        refund = await self._record.find("refund", reference)
        order = Order("refund" if refund else "payment", reference or "")
        answer = judge(order, body, reference_id(order.kind, order.reference))
        return Told(
            **answer.model_dump(include=set(Told.model_fields) - {"reference"}),
            verified=False,
            kind=order.kind,
            reference=reference,
            event_id=hashlib.sha256(callback.raw()).hexdigest(),
        )

    async def _start(
        self, order: Order, credentials: Credentials, body: Mapping[str, object]
    ) -> Answer:
        handle = reference_id(order.kind, order.reference)
        headers = {**await self._headers(order, credentials), "X-Reference-Id": handle}
        # MTN calls back to the host that was registered for the API user, over TLS alone.
        if order.callback_url is not None and order.callback_url.startswith("https://"):
            headers["X-Callback-Url"] = order.callback_url
        reply = await self.call("POST", _PATHS[order.kind], headers=headers, json=body)
        answer = _started(order, reply)
        self._forget_refused(reply)
        return answer.model_copy(update={"handle": handle, "provider_reference": handle})

    async def _headers(self, order: Order, credentials: Credentials) -> dict[str, str]:
        """Log in where needed; raises UnsendableError, as without a token nothing is sent."""
        refund = order.kind == "refund"
        product = "disbursement" if refund else "collection"
        user, key, subscription = _login(credentials, refund=refund)
        token = await self._token(product, user, key, subscription)
        return {
            "Authorization": f"Bearer {token}",
            "Ocp-Apim-Subscription-Key": subscription,
            "X-Target-Environment": self._settings.target_environment,
        }

    async def _token(self, product: str, user: str, key: str, subscription: str) -> str:
        owner = (product, user, key, subscription)
        token, until = self._tokens.get(owner, ("", 0.0))
        if time.monotonic() < until:
            return token
        headers = {"Ocp-Apim-Subscription-Key": subscription}
        asked_at = time.monotonic()
        reply = await self.call("POST", f"{product}/token/", auth=(user, key), headers=headers)
        token = text(reply.body.get("access_token")) or ""
        if not reply.ok or not token.isascii() or not token.isprintable() or not token:
            raise UnsendableError(f"no token from MTN, so nothing was asked: {reply.error}")
        seconds = text(reply.body.get("expires_in")) or "0"
        lives = float(seconds) if seconds.isdigit() else 0.0
        if len(self._tokens) >= TOKENS_MAX:
            self._tokens.clear()
        self._tokens[owner] = (token, asked_at + lives - TOKEN_SPARE_SECONDS)
        return token

    def _forget_refused(self, reply: Reply) -> None:
        if reply.status == 401:
            self._tokens.clear()  # one of them was withdrawn early; logging in again is cheap


def _started(order: Order, reply: Reply) -> Answer:
    """Return what the answer to a request proves; 5xx and silence prove nothing."""
    if reply.never_sent:
        raise UnsendableError(reply.error)
    if reply.status == 202:
        return Answer(outcome="pending", reference=order.reference, message="waiting for the payer")
    if reply.status == 409:
        return Answer(
            outcome="pending",
            reference=order.reference,
            reason_code="duplicate",
            message="MTN has this request already",
        )
    if reply.status in REFUSED:
        known = reason_of(reply.body)
        return Answer(
            outcome="failed",
            reference=order.reference,
            reason_code=REFUSED[reply.status] if known == "declined" else known,
            message=f"MTN refused the request: {reply.error}",
        )
    return unknown(order, reply.error, reason_of(reply.body) if reply.body.get("code") else None)


def _login(credentials: Credentials, *, refund: bool) -> tuple[str, str, str]:
    """Return user, key and subscription key of the product; raises UnsendableError."""
    prefix = "disbursement_" if refund else ""
    found = []
    for name in ("api_user", "api_key", "subscription_key"):
        value = getattr(credentials, prefix + name)
        if not value:
            raise UnsendableError(f"there is no {prefix}{name} for MTN")
        found.append(value.get_secret_value() if isinstance(value, SecretStr) else value)
    return found[0], found[1], found[2]
