"""Razorpay's orders, payments and refunds as published.

razorpay.com/docs/api/orders (create, fetch by receipt, payments of an order), /docs/api/refunds
(create with X-Refund-Idempotency, fetch, list of a payment), /docs/webhooks/validate-test
(X-Razorpay-Signature: hex HMAC-SHA256 of the raw body; x-razorpay-event-id).
"""

import base64
import hashlib
import hmac
import json
import uuid
from typing import Any

KEY_ID, KEY_SECRET, WEBHOOK_SECRET = "rzp_test_1", "rzp-key-secret-77d1", "rzp-hook-secret-c0de"


def sign(raw: bytes, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    """The headers of a webhook, as the gateway passes them on."""
    return {
        "x-razorpay-signature": hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest(),
        "x-razorpay-event-id": "evt_" + hashlib.sha256(raw).hexdigest()[:14],
    }


class FakeRazorpay:
    """Orders by id, payments by order id, refunds by id; `refuse` is the next refusal."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.payments: dict[str, list[dict[str, Any]]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.refuse: tuple[int, dict[str, Any]] | None = None

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]

    def try_to_pay(self, reference: str, status: str, **extra: Any) -> dict[str, Any]:
        """What a payer does in Checkout; returns the payment entity."""
        order = next(o for o in self.orders.values() if o["receipt"] == reference)
        payment = {
            "id": f"pay_{uuid.uuid4().hex[:14]}",
            "entity": "payment",
            "amount": order["amount"],
            "currency": order["currency"],
            "status": status,
            "order_id": order["id"],
            "notes": {"reference": "chosen by the payer's browser"},
            **extra,
        }
        self.payments[order["id"]].append(payment)
        return payment

    def event(self, name: str, **entities: dict[str, Any]) -> bytes:
        """The raw body of a webhook."""
        payload = {kind: {"entity": entity} for kind, entity in entities.items()}
        body = {"entity": "event", "account_id": "acc_1", "event": name, "payload": payload}
        return json.dumps({**body, "contains": list(payload), "created_at": 1597078866}).encode()

    def __call__(self, seen: Any) -> tuple[int, Any]:
        wanted = base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
        if seen.headers.get("authorization") != f"Basic {wanted}":
            error = {"code": "BAD_REQUEST_ERROR", "description": "Authentication failed"}
            return 401, {"error": error}
        if seen.method == "POST" and self.refuse is not None:
            status, error = self.refuse
            return status, {"error": error}
        match [seen.method, *seen.path.strip("/").split("/")]:
            case ["POST", "v1", "orders"]:
                return self._order(seen.body)
            case ["GET", "v1", "orders"]:
                wanted = seen.query.get("receipt")
                return 200, _list([o for o in self.orders.values() if o["receipt"] == wanted])
            case ["GET", "v1", "orders", order_id, "payments"]:
                return 200, _list(self.payments.get(order_id, []))
            case ["POST", "v1", "payments", payment_id, "refund"]:
                return self._refund(payment_id, seen)
            case ["GET", "v1", "payments", payment_id, "refunds"]:
                found = [r for r in self.refunds.values() if r["payment_id"] == payment_id]
                return 200, _list(found)
            case ["GET", "v1", "refunds", refund_id] if refund_id in self.refunds:
                return 200, self.refunds[refund_id]
        return 400, {"error": {"code": "BAD_REQUEST_ERROR", "description": "no such id"}}

    def _order(self, body: dict[str, Any]) -> tuple[int, Any]:
        if type(body["amount"]) is not int or len(body["receipt"]) > 40:
            return 400, {"error": {"code": "BAD_REQUEST_ERROR", "description": "invalid"}}
        order = {
            "id": f"order_{uuid.uuid4().hex[:14]}",
            "entity": "order",
            "amount": body["amount"],
            "amount_paid": 0,
            "amount_due": body["amount"],
            "currency": body["currency"],
            "receipt": body["receipt"],
            "status": "created",
            "attempts": 0,
            "notes": body["notes"],
        }
        self.orders[order["id"]] = order
        self.payments[order["id"]] = []
        return 200, order

    def _refund(self, payment_id: str, seen: Any) -> tuple[int, Any]:
        key = seen.headers.get("x-refund-idempotency", "")
        if key in self.keys:
            return 200, self.refunds[self.keys[key]]
        paid = [p for tries in self.payments.values() for p in tries if p["id"] == payment_id]
        if not paid or paid[0]["status"] != "captured" or seen.body["amount"] > paid[0]["amount"]:
            return 400, {"error": {"code": "BAD_REQUEST_ERROR", "description": "not refundable"}}
        refund = {
            "id": f"rfnd_{uuid.uuid4().hex[:14]}",
            "entity": "refund",
            "amount": seen.body["amount"],
            "currency": paid[0]["currency"],
            "payment_id": payment_id,
            "notes": seen.body["notes"],
            "receipt": seen.body["receipt"],
            "status": "pending",
            "speed_requested": seen.body["speed"],
        }
        self.refunds[refund["id"]] = refund
        self.keys[key] = refund["id"]
        return 200, refund


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"entity": "collection", "count": len(items), "items": items}
