"""Razorpay's orders (payments) and refunds."""

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import Any, Final

from mospay_razorpay.clients.wire import Api, Reply
from mospay_razorpay.domain.protocol import (
    Answer,
    Call,
    CallbackBody,
    CustomerAction,
    MalformedError,
    Order,
    Outcome,
    Told,
    UnsendableError,
    text,
    unknown,
)
from mospay_razorpay.domain.razorpay import (
    ORDER_ID,
    PAYMENT_ID,
    RECEIPT_CHARACTERS_MAX,
    judge_payment,
    judge_refund,
    judge_tries,
    reason_of,
    refund_name,
    units,
)
from mospay_razorpay.settings import Credentials, Settings
from mospay_razorpay.storage import Record

PAGE_MAX: Final = 100  # refunds of one payment that Razorpay lists at once
# Captured within the shortest time Razorpay allows to name, in minutes; refunded after it.
CAPTURE: Final = {
    "capture": "automatic",
    "capture_options": {"automatic_expiry_period": 12, "refund_speed": "normal"},
}
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9_-]{10,128}")
_EVENTS: Final[dict[str, Outcome]] = {
    "payment.authorized": "pending",
    "payment.captured": "succeeded",
    "payment.failed": "failed",
    "order.paid": "succeeded",
    "refund.created": "pending",
    "refund.processed": "succeeded",
    "refund.failed": "failed",
}


class Provider(Api):
    """Razorpay, as the router's protocol wants it."""

    def __init__(self, settings: Settings, record: Record) -> None:
        super().__init__(str(settings.base_url), settings.timeout_seconds)
        self._settings, self._record = settings, record

    async def pay(self, order: Order, credentials: Credentials) -> Answer:
        """Make an order; the payer pays it in Checkout, which `customer_action` opens."""
        auth = _login(credentials)
        if len(order.reference) > RECEIPT_CHARACTERS_MAX:
            raise UnsendableError(f"f010: Razorpay takes {RECEIPT_CHARACTERS_MAX} characters")
        body = {
            "amount": units(order.amount, order.currency),
            "currency": order.currency,
            "receipt": order.reference,
            "notes": {"reference": order.reference},
            "payment": CAPTURE,
        }
        reply = await self.call("POST", "v1/orders", auth=auth, json=body)
        if not reply.ok:
            return _refused(order, reply)
        return self._to_pay(order, reply.body, credentials)

    async def refund(self, order: Order, credentials: Credentials) -> Answer:
        """Give back (part of) a captured payment."""
        auth = _login(credentials)
        key = order.attempt_id
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            key = hashlib.sha256(key.encode()).hexdigest()
        body = {
            "amount": units(order.amount, order.currency),
            "speed": "normal",
            "receipt": order.reference,
            "notes": {"refund_id": order.reference},
        }
        path = f"v1/payments/{_payment_id(order)}/refund"
        headers = {"X-Refund-Idempotency": key}
        reply = await self.call("POST", path, auth=auth, headers=headers, json=body)
        return judge_refund(order, reply.body) if reply.ok else _refused(order, reply)

    async def enquire(self, order: Order, credentials: Credentials) -> Answer:
        """Ask what was paid on the order; an order whose id was lost is found by its receipt."""
        auth = _login(credentials)
        handle = order.known.handle if order.known is not None else None
        if handle is None:
            found = await self._find_order(order, credentials)
            if found.handle is None:
                return found
            handle = found.handle
        reply = await self.call("GET", f"v1/orders/{handle}/payments", auth=auth)
        tries = reply.body.get("items")
        if not reply.ok or not isinstance(tries, list):
            return unknown(order, reply.error)
        answer = judge_tries(order, tries, tries_left=self._has_tries(order.known))
        if answer is None:
            return self._to_pay(order, {"id": handle}, credentials)
        return answer.model_copy(update={"handle": handle})

    async def track(self, order: Order, credentials: Credentials) -> Answer:
        """Ask what became of a refund; one whose id was lost is found by its receipt."""
        auth = _login(credentials)
        handle = order.known.handle if order.known is not None else None
        if handle is not None:
            reply = await self.call("GET", f"v1/refunds/{handle}", auth=auth)
            return judge_refund(order, reply.body) if reply.ok else unknown(order, reply.error)
        path = f"v1/payments/{_payment_id(order)}/refunds"
        reply = await self.call("GET", path, auth=auth, params={"count": PAGE_MAX})
        refunds = reply.body.get("items")
        if not reply.ok or not isinstance(refunds, list):
            return unknown(order, reply.error)
        for entity in refunds:
            if isinstance(entity, dict) and refund_name(entity) == order.reference:
                return judge_refund(order, entity)
        if len(refunds) >= PAGE_MAX:
            return unknown(order, "the payment has more refunds than Razorpay lists at once")
        return unknown(order, "Razorpay has no such refund", "not_found", found=False)

    async def read(self, callback: CallbackBody, credentials: Credentials) -> Told:
        """Verify `X-Razorpay-Signature` over the raw body, and translate the event."""
        raw, body = callback.raw(), callback.read_object()
        event, payload = body.get("event"), body.get("payload")
        if not isinstance(event, str) or not isinstance(payload, dict):
            raise MalformedError(body_base64="not an event of Razorpay")
        refund = event.startswith("refund.")
        entity = _entity(payload, "refund" if refund else "payment")
        if refund:
            known = await self._record.find_handle(text(entity.get("id")))
            reference = known.reference if known is not None else refund_name(entity)
            answer = judge_refund(Order("refund", reference or ""), entity)
        else:
            # By the order, which only the merchant's key can make; a payment's notes come from
            # the payer's browser.
            known = await self._record.find_handle(text(entity.get("order_id")))
            receipt = text(_entity(payload, "order").get("receipt"))
            reference = known.reference if known is not None else receipt
            order = Order("payment", reference or "")
            answer = judge_payment(order, entity, tries_left=self._has_tries(known))
        agrees = _EVENTS.get(event) == answer.outcome or answer.outcome == "pending"
        secret = credentials.webhook_secret
        given = callback.headers.get("x-razorpay-signature", "")
        return Told(
            **answer.model_dump(include=set(Told.model_fields) - {"reference", "outcome"}),
            verified=secret is not None and _is_signed(raw, given, secret.get_secret_value()),
            kind="refund" if refund else "payment",
            reference=reference,
            outcome=answer.outcome if agrees else "unknown",
            event_id=callback.headers.get("x-razorpay-event-id") or hashlib.sha256(raw).hexdigest(),
        )

    async def _find_order(self, order: Order, credentials: Credentials) -> Answer:
        """Look for the order by its receipt; the answer has its `handle` when there is one."""
        params = {"receipt": order.reference}
        reply = await self.call("GET", "v1/orders", auth=_login(credentials), params=params)
        items = reply.body.get("items")
        if not reply.ok or not isinstance(items, list):
            return unknown(order, reply.error)
        ours = [i for i in items if isinstance(i, dict) and i.get("receipt") == order.reference]
        if not ours:
            # An order whose id never reached anyone can't be paid either.
            return unknown(order, "Razorpay has no such order", "not_found", found=False)
        if len(ours) > 1:
            return unknown(order, "Razorpay has several orders with this receipt", "duplicate")
        return self._to_pay(order, ours[0], credentials)

    def _to_pay(self, order: Order, body: dict[str, Any], credentials: Credentials) -> Answer:
        handle = text(body.get("id")) or ""
        if not ORDER_ID.fullmatch(handle):
            return unknown(order, "the answer has no order id")
        key_id, page = credentials.key_id or "", self._settings.checkout_url
        url = None if page is None else page.replace("{order_id}", handle)
        return Answer(
            outcome="pending",
            reference=order.reference,
            provider_reference=handle,
            message="waiting for the payer in Checkout",
            customer_action=CustomerAction.model_validate(
                {
                    "type": "razorpay_checkout",
                    "url": None if url is None else url.replace("{key_id}", key_id),
                    "order_id": handle,
                    "key_id": key_id,
                }
            ),
            handle=handle,
        )

    def _has_tries(self, known: Call | None) -> bool:
        seconds = self._settings.tries_seconds
        return known is not None and (
            (datetime.now(UTC) - known.taken_at).total_seconds() < seconds
        )


def _login(credentials: Credentials) -> tuple[str, str]:
    if not credentials.key_id or not credentials.key_secret:
        raise UnsendableError("there is no key_id or key_secret for Razorpay")
    return credentials.key_id, credentials.key_secret.get_secret_value()


def _payment_id(order: Order) -> str:
    """Return Razorpay's id of the payment that a refund belongs to; raises UnsendableError."""
    answer = order.paid.answer if order.paid is not None else None
    for found in (answer.provider_reference if answer else None, order.provider_reference):
        if found is not None and PAYMENT_ID.fullmatch(found):
            return found
    raise UnsendableError("provider_reference: not known which payment of Razorpay it is")


def _refused(order: Order, reply: Reply) -> Answer:
    """Return what an answer that is not a 2xx proves; 5xx and silence prove nothing."""
    if reply.never_sent:
        raise UnsendableError(reply.error)
    found = reply.body.get("error")
    error = found if isinstance(found, dict) else {}
    if reply.status == 409:
        return Answer(
            outcome="pending",
            reference=order.reference,
            reason_code="duplicate",
            message="Razorpay works on this request already",
        )
    # A receipt that is taken belongs to an order of ours, which may be paid.
    if reply.status == 400 and error.get("code") and error.get("field") != "receipt":
        return Answer(
            outcome="failed",
            reference=order.reference,
            reason_code=reason_of(error),
            message=f"Razorpay refused the request: {reply.error}",
        )
    if reply.status == 401:
        return Answer(
            outcome="failed",
            reference=order.reference,
            reason_code="provider_unavailable",
            message="Razorpay refused our key",
        )
    return unknown(order, reply.error)


def _entity(payload: dict[str, Any], name: str) -> dict[str, Any]:
    found = payload.get(name)
    entity = found.get("entity") if isinstance(found, dict) else None
    return entity if isinstance(entity, dict) else {}


def _is_signed(raw: bytes, given: str, secret: str) -> bool:
    wanted = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), given.encode())
