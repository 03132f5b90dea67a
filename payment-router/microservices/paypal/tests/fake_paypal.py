"""PayPal's Orders v2, Payments v2 and webhook verification as published.

developer.paypal.com/docs/api/orders/v2 (create, show, capture; `PayPal-Request-Id`; issues such as
ORDER_NOT_APPROVED, ORDER_ALREADY_CAPTURED, INSTRUMENT_DECLINED), /docs/api/payments/v2 (refund a
capture, show a refund), /docs/api/webhooks/v1 (verify-webhook-signature),
/reports/reference/supported-currencies (HUF, JPY and TWD take no decimals).
"""

import base64
import json
import uuid
import zlib
from typing import Any

CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID = "pp-client-1", "pp-client-secret-5e5e", "8PT597110X687430L"
ORDERS = "/v2/checkout/orders"


def new_id() -> str:
    return uuid.uuid4().hex[:17].upper()


def sign(raw: bytes) -> dict[str, str]:
    """The headers of a webhook; PayPal signs transmission id, time, webhook id and CRC32."""
    return {
        "paypal-auth-algo": "SHA256withRSA",
        "paypal-cert-url": "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
        "paypal-transmission-id": "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
        "paypal-transmission-time": "2026-02-18T20:01:35Z",
        "paypal-transmission-sig": f"sig{zlib.crc32(raw)}",
    }


class FakePaypal:
    """Orders and refunds by id; `decline` is the issue of the next captures."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.answered: dict[tuple[str, str], tuple[int, Any]] = {}
        self.tokens: set[str] = set()
        self.decline: str | None = None
        self.refuse: tuple[int, dict[str, Any]] | None = None
        self.capture_status = "COMPLETED"

    def reset(self) -> None:
        tokens = self.tokens
        self.__init__()  # type: ignore[misc]
        self.tokens = tokens

    def order_of(self, reference: str) -> dict[str, Any]:
        return next(
            o for o in self.orders.values() if o["purchase_units"][0]["custom_id"] == reference
        )

    def approve(self, reference: str) -> dict[str, Any]:
        """What a payer does on PayPal's page."""
        order = self.order_of(reference)
        order["status"] = "APPROVED"
        return order

    def event(self, name: str, resource: dict[str, Any]) -> bytes:
        """The raw body of a webhook."""
        body = {"id": f"WH-{new_id()}", "event_version": "1.0", "event_type": name}
        return json.dumps({**body, "resource": resource}, indent=1).encode()

    def __call__(self, seen: Any) -> tuple[int, Any]:
        if seen.path == "/v1/oauth2/token":
            basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
            if seen.headers["authorization"] != f"Basic {basic}":
                return 401, {"error": "invalid_client"}
            assert seen.raw == b"grant_type=client_credentials"
            token = f"A21AA{uuid.uuid4().hex}"
            self.tokens.add(token)
            return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 32400}
        if seen.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return 401, {"name": "AUTHENTICATION_FAILURE", "message": "bad token"}
        if seen.path == "/v1/notifications/verify-webhook-signature":
            return self._verify(seen)
        if seen.method == "GET":
            return self._show(seen.path)
        key = (seen.path, seen.headers.get("paypal-request-id", new_id()))
        if key not in self.answered:
            self.answered[key] = self._do(seen)
        return self.answered[key]

    def _do(self, seen: Any) -> tuple[int, Any]:
        if self.refuse is not None:
            return self.refuse
        match seen.path.strip("/").split("/"):
            case ["v2", "checkout", "orders"]:
                return self._create(seen.body)
            case ["v2", "checkout", "orders", order_id, "capture"]:
                return self._capture(self.orders[order_id])
            case ["v2", "payments", "captures", capture_id, "refund"]:
                return self._refund(capture_id, seen.body)
        return 404, {"name": "RESOURCE_NOT_FOUND"}

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        unit = body["purchase_units"][0]
        if ("." in unit["amount"]["value"]) == (
            unit["amount"]["currency_code"] in ("HUF", "JPY", "TWD")
        ):
            return _unprocessable("DECIMAL_PRECISION")
        order_id = new_id()
        page = f"https://www.sandbox.paypal.com/checkoutnow?token={order_id}"
        order = {
            "id": order_id,
            "intent": body["intent"],
            "status": "CREATED",
            "purchase_units": [{"reference_id": "default", **unit}],
            "links": [
                {"href": f"https://api/{order_id}", "rel": "self", "method": "GET"},
                {"href": page, "rel": "approve", "method": "GET"},
            ],
        }
        self.orders[order_id] = order
        return 201, order

    def _capture(self, order: dict[str, Any]) -> tuple[int, Any]:
        if order["status"] == "COMPLETED":
            return _unprocessable("ORDER_ALREADY_CAPTURED")
        if order["status"] != "APPROVED":
            return _unprocessable("ORDER_NOT_APPROVED")
        if self.decline is not None:
            return _unprocessable(self.decline)
        unit = order["purchase_units"][0]
        capture = {
            "id": new_id(),
            "status": self.capture_status,
            "amount": unit["amount"],
            "final_capture": True,
            "custom_id": unit["custom_id"],
            "invoice_id": unit["invoice_id"],
            "supplementary_data": {"related_ids": {"order_id": order["id"]}},
        }
        unit["payments"] = {"captures": [capture]}
        order["status"] = "COMPLETED"
        return 201, order

    def _refund(self, capture_id: str, body: dict[str, Any]) -> tuple[int, Any]:
        for order in self.orders.values():
            payments = order["purchase_units"][0].get("payments", {"captures": []})
            for capture in payments["captures"]:
                if capture["id"] != capture_id:
                    continue
                if float(body["amount"]["value"]) > float(capture["amount"]["value"]):
                    return _unprocessable("REFUND_AMOUNT_EXCEEDED")
                refund = {"id": new_id(), "status": "PENDING", **body}
                payments.setdefault("refunds", []).append(refund)
                self.refunds[refund["id"]] = refund
                return 201, refund
        return 404, {"name": "RESOURCE_NOT_FOUND"}

    def _show(self, path: str) -> tuple[int, Any]:
        found = {**self.orders, **self.refunds}.get(path.rpartition("/")[2])
        return (404, {"name": "RESOURCE_NOT_FOUND"}) if found is None else (200, found)

    def _verify(self, seen: Any) -> tuple[int, Any]:
        # The event as it came, not as this JSON library would write it.
        raw = seen.raw.partition(b'"webhook_event": ')[2][:-1]
        body, wanted = seen.body, sign(raw)
        right = body["webhook_id"] == WEBHOOK_ID and all(
            body[name.removeprefix("paypal-").replace("-", "_")] == value
            for name, value in wanted.items()
        )
        return 200, {"verification_status": "SUCCESS" if right else "FAILURE"}


def _unprocessable(issue: str) -> tuple[int, Any]:
    details = [{"issue": issue, "description": "-"}]
    return 422, {"name": "UNPROCESSABLE_ENTITY", "details": details, "debug_id": "1"}
