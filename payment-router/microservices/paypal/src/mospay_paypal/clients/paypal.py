"""PayPal's orders (payments), refunds and webhook verification."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from mospay_paypal.clients.wire import Api, Reply
from mospay_paypal.domain.paypal import (
    DECLINES,
    PAYPAL_ID,
    REASONS,
    issue_of,
    judge_capture,
    judge_order,
    judge_refund,
    payments_of,
    places,
    units_of,
)
from mospay_paypal.domain.protocol import (
    Answer,
    CallbackBody,
    MalformedError,
    Order,
    Told,
    UnsendableError,
    exact,
    text,
    unknown,
)
from mospay_paypal.settings import Credentials, Settings
from mospay_paypal.storage import Record

TOKEN_SPARE_SECONDS: Final = 60.0  # a token is not used in its last minute
TOKENS_MAX: Final = 1000  # clients with credentials of their own; beyond it all log in again
ORDERS: Final = "v2/checkout/orders"
_SIGNATURE: Final = ("auth_algo", "cert_url", "transmission_id", "transmission_sig")


class Provider(Api):
    """PayPal, as the router's protocol wants it."""

    def __init__(self, settings: Settings, record: Record) -> None:
        super().__init__(str(settings.base_url), settings.timeout_seconds)
        self._settings, self._record = settings, record
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}

    async def pay(self, order: Order, credentials: Credentials) -> Answer:
        """Make an order; no money moves until the payer approved it and we captured it."""
        unit = {
            "custom_id": order.reference,
            "invoice_id": order.reference,  # PayPal refuses to capture one invoice twice
            "amount": _money(order),
        }
        body: dict[str, object] = {"intent": "CAPTURE", "purchase_units": [unit]}
        if self._settings.return_url is not None:
            back = self._settings.cancel_url or self._settings.return_url
            context = {
                "user_action": "PAY_NOW",
                "return_url": str(self._settings.return_url),
                "cancel_url": str(back),
            }
            body["payment_source"] = {"paypal": {"experience_context": context}}
        headers = await self._headers(credentials, order.attempt_id)
        reply = await self.call("POST", ORDERS, headers=headers, json=body)
        return judge_order(order, reply.body) if reply.ok else self._refused(order, reply)

    async def refund(self, order: Order, credentials: Credentials) -> Answer:
        """Give back (part of) a capture."""
        body = {"amount": _money(order), "invoice_id": order.reference}
        path = f"v2/payments/captures/{_capture_id(order)}/refund"
        headers = await self._headers(credentials, order.attempt_id)
        reply = await self.call("POST", path, headers=headers, json=body)
        return judge_refund(order, reply.body) if reply.ok else self._refused(order, reply)

    async def enquire(self, order: Order, credentials: Credentials) -> Answer:
        """Ask what became of the order, and capture it when the payer has approved it."""
        known = order.known
        if known is None:
            return unknown(order, "there is no record of this payment here")
        if known.handle is None:
            # The approval link was never told to anyone, so nobody can have paid.
            return unknown(order, "PayPal gave no order for it", "not_found", found=False)
        headers = await self._headers(credentials)
        reply = await self.call("GET", f"{ORDERS}/{known.handle}", headers=headers)
        gone = reply.status == 404 and reply.body.get("name") == "RESOURCE_NOT_FOUND"
        if not reply.ok and not gone:
            self._forget_refused(reply)
            return unknown(order, reply.error)
        answer = unknown(order, reply.error) if gone else judge_order(order, reply.body)
        waits = gone or (answer.outcome == "pending" and answer.provider_reference == known.handle)
        if waits and known.answer is not None and known.answer.outcome == "failed":
            return known.answer  # told before, so it is captured no more
        age = (datetime.now(UTC) - known.taken_at).total_seconds()
        if waits and (gone or age > self._settings.capture_seconds):
            # Nothing is taken without our capture, so where none was asked for nothing was paid.
            if await self._record.find("capture", order.reference) is None:
                return _expired(order)
            return unknown(order, "a capture was asked for, yet the order says nothing of it")
        if answer.reason_code == "approved":
            return await self._capture(order, credentials)
        return answer

    async def track(self, order: Order, credentials: Credentials) -> Answer:
        """Ask what became of a refund; one whose id was lost is found in its payment's order."""
        headers = await self._headers(credentials)
        handle = order.known.handle if order.known is not None else None
        if handle is not None:
            reply = await self.call("GET", f"v2/payments/refunds/{handle}", headers=headers)
            return judge_refund(order, reply.body) if reply.ok else unknown(order, reply.error)
        if order.paid is None or order.paid.handle is None:
            return unknown(order, "not known which order of PayPal it belongs to")
        reply = await self.call("GET", f"{ORDERS}/{order.paid.handle}", headers=headers)
        if not reply.ok:
            return unknown(order, reply.error)
        if not payments_of(reply.body, "captures"):
            return unknown(order, "the order names no capture")
        for refund in payments_of(reply.body, "refunds"):
            if refund.get("invoice_id") == order.reference:
                return judge_refund(order, refund)
        return unknown(order, "PayPal has no such refund", "not_found", found=False)

    async def read(self, callback: CallbackBody, credentials: Credentials) -> Told:
        """Have PayPal verify the signature, and translate the event."""
        body = callback.read_object()
        event, resource, event_id = body.get("event_type"), body.get("resource"), body.get("id")
        if not isinstance(event, str) or not isinstance(resource, dict) or not text(event_id):
            raise MalformedError(body_base64="not an event of PayPal")
        refund = event == "PAYMENT.CAPTURE.REFUNDED"
        reference = await self._reference(event, resource)
        order = Order("refund" if refund else "payment", reference or "")
        match event:
            case "CHECKOUT.ORDER.APPROVED":
                answer = judge_order(order, resource)
            case "PAYMENT.CAPTURE.REFUNDED":
                answer = judge_refund(order, resource)
            case (
                "PAYMENT.CAPTURE.COMPLETED"
                | "PAYMENT.CAPTURE.DENIED"
                | "PAYMENT.CAPTURE.DECLINED"
                | "PAYMENT.CAPTURE.PENDING"
            ):
                answer = judge_capture(order, resource)
            case _:
                answer = unknown(order, "an event that says nothing of an outcome")
        return Told(
            **answer.model_dump(include=set(Told.model_fields) - {"reference"}),
            verified=await self._is_signed(callback, credentials),
            kind="refund" if refund else "payment",
            reference=reference,
            event_id=str(event_id),
        )

    async def _capture(self, order: Order, credentials: Credentials) -> Answer:
        """Take the money that the payer approved, written down first; safe to repeat.

        PayPal dedupes on the request id, captures an order once and an invoice once.
        """
        known = order.known
        assert known is not None and known.handle is not None, "enquire() looked"
        request_id = f"{known.attempt_id}-capture"
        await self._record.take(replace(order, kind="capture", attempt_id=request_id))
        headers = await self._headers(credentials, request_id)
        reply = await self.call("POST", f"{ORDERS}/{known.handle}/capture", headers=headers)
        if reply.ok:
            return judge_order(order, reply.body)
        self._forget_refused(reply)
        issue = issue_of(reply.body)
        if reply.status == 422 and issue in DECLINES:
            return Answer(
                outcome="failed",
                reference=order.reference,
                provider_reference=known.handle,
                reason_code=REASONS[issue],
                message=f"PayPal refused the capture: {issue[:80]}",
            )
        return unknown(order, reply.error)

    async def _reference(self, event: str, resource: Mapping[str, Any]) -> str | None:
        """Return our reference in an event: what we gave PayPal, or whose id it carries."""
        if event.startswith("CHECKOUT."):
            unit = next(units_of(resource), {})
            known = await self._record.find_handle(text(resource.get("id")))
            return known.reference if known else text(unit.get("custom_id"))
        if event == "PAYMENT.CAPTURE.REFUNDED":
            refund = await self._record.find("refund", text(resource.get("invoice_id")))
            refund = refund or await self._record.find_handle(text(resource.get("id")))
            return None if refund is None else refund.reference
        return text(resource.get("custom_id")) or text(resource.get("invoice_id"))

    async def _is_signed(self, callback: CallbackBody, credentials: Credentials) -> bool:
        """Ask PayPal; whoever can't be asked has not verified, and the router enquires instead."""
        given = {
            name: callback.headers.get(f"paypal-{name.replace('_', '-')}")
            for name in (*_SIGNATURE, "transmission_time")
        }
        if credentials.webhook_id is None or not all(given.values()):
            return False
        # The event goes back byte for byte: written anew, its signature would no longer fit.
        fields = json.dumps({**given, "webhook_id": credentials.webhook_id})
        content = fields[:-1].encode() + b', "webhook_event": ' + callback.raw() + b"}"
        try:
            headers = await self._headers(credentials)
        except UnsendableError:
            return False
        path = "v1/notifications/verify-webhook-signature"
        reply = await self.call("POST", path, headers=headers, content=content)
        return reply.ok and reply.body.get("verification_status") == "SUCCESS"

    async def _headers(self, credentials: Credentials, request_id: str = "") -> dict[str, str]:
        """Log in where needed; raises UnsendableError, as without a token nothing is sent."""
        headers = {
            "Authorization": f"Bearer {await self._token(credentials)}",
            "Content-Type": "application/json",
            "Prefer": "return=representation",
        }
        return {**headers, "PayPal-Request-Id": request_id} if request_id else headers

    async def _token(self, credentials: Credentials) -> str:
        if not credentials.client_id or not credentials.client_secret:
            raise UnsendableError("there is no client_id or client_secret for PayPal")
        owner = (credentials.client_id, credentials.client_secret.get_secret_value())
        token, until = self._tokens.get(owner, ("", 0.0))
        if time.monotonic() < until:
            return token
        asked_at = time.monotonic()
        form = {"grant_type": "client_credentials"}
        reply = await self.call("POST", "v1/oauth2/token", auth=owner, data=form)
        token = text(reply.body.get("access_token")) or ""
        if not reply.ok or not token.isascii() or not token.isprintable() or not token:
            raise UnsendableError(f"no token from PayPal, so nothing was asked: {reply.error}")
        seconds = text(reply.body.get("expires_in")) or "0"
        lives = float(seconds) if seconds.isdigit() else 0.0
        if len(self._tokens) >= TOKENS_MAX:
            self._tokens.clear()
        self._tokens[owner] = (token, asked_at + lives - TOKEN_SPARE_SECONDS)
        return token

    def _forget_refused(self, reply: Reply) -> None:
        if reply.status == 401:
            self._tokens.clear()  # one of them was withdrawn early; logging in again is cheap

    def _refused(self, order: Order, reply: Reply) -> Answer:
        """Return what an answer that is not a 2xx proves; 5xx and silence prove nothing."""
        if reply.never_sent:
            raise UnsendableError(reply.error)
        self._forget_refused(reply)
        issue = issue_of(reply.body)
        if issue == "DUPLICATE_INVOICE_ID":
            return unknown(order, "PayPal has this invoice already", "duplicate")
        if reply.status in (401, 403):
            reason = "provider_unavailable"
        elif reply.status in (400, 422) and reply.body.get("name"):
            reason = REASONS.get(issue, "declined" if reply.status == 422 else "internal_error")
        else:
            return unknown(order, reply.error)
        return Answer(
            outcome="failed",
            reference=order.reference,
            reason_code=reason,
            message=f"PayPal refused the request: {issue[:80]}",
        )


def _money(order: Order) -> dict[str, str]:
    return {
        "currency_code": order.currency,
        "value": exact(order.amount, places(order.currency)),
    }


def _capture_id(order: Order) -> str:
    """Return PayPal's id of the capture that a refund belongs to; raises UnsendableError."""
    paid = order.paid
    if paid is not None and paid.answer is not None and paid.answer.outcome == "succeeded":
        found = paid.answer.provider_reference
    else:
        found = order.provider_reference
    # A payment that is not captured yet is known by its order, which has nothing to give back.
    if found is None or not PAYPAL_ID.fullmatch(found) or (paid and found == paid.handle):
        raise UnsendableError("provider_reference: not known which capture of PayPal it is")
    return found


def _expired(order: Order) -> Answer:
    return Answer(
        outcome="failed",
        reference=order.reference,
        reason_code="expired",
        message="not approved in time; without our capture no money moves",
    )
