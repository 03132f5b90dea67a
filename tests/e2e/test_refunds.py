"""A refund, and a merchant's own sale event, through all services to webhook and dashboard."""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.conftest import LiveStack

SECONDS = 60.0  # every service works at its own pace; a healthy house needs a few


class Merchant:
    """A client app; of the demo's second merchant, as whom nobody else pays: its sums are ours."""

    def __init__(self, live: LiveStack, client: int = 1) -> None:
        self._live = live
        self._http = httpx.Client(
            base_url=live.seed.gateway_url,
            headers={"X-API-Key": live.seed.clients[client].api_key},
            timeout=30,
        )

    def post(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        answer = self._http.post(
            path, json=body, headers={"Idempotency-Key": secrets.token_hex(12), **headers}
        )
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json()

    def get(self, path: str, **params: Any) -> Any:
        answer = self._http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pay(self, amount_minor: int, phone: str) -> Any:
        body = {
            "service": "collection",
            "route": "payment",
            "amount_minor": amount_minor,
            "currency": "RWF",
            "phone": phone,
            "reference": f"e2e-{secrets.token_hex(8)}",
        }
        return self.post("/v1/payments", body, Prefer="wait=20")

    def refund(self, payment_id: str, amount_minor: int) -> str:
        body = {"amount_minor": amount_minor, "reason": "returned"}
        refund_id: str = self.post(f"/v1/payments/{payment_id}/refunds", body)["id"]
        return refund_id

    def provider_gave_back(self, refund_id: str) -> tuple[int, int]:
        """Effects and repeats in the provider's own record."""
        answer = httpx.get(
            f"{self._live.seed.simulator_url}/_effects/refunds", params={"reference": refund_id}
        ).json()
        return len(answer["effects"]), answer["repeats"]

    def webhooks(self, payment_id: str) -> list[tuple[str, int]]:
        """What came for a payment: type, and whether it verified."""
        url = f"{self._live.seed.webhook_receiver_url}/_received"
        rows = httpx.get(url, params={"payment_id": payment_id}).json()
        return [(row["type"], row["verified"]) for row in rows]


def until(read: Callable[[], Any], wanted: Any) -> None:
    """Wait until `read()` gives what is wanted."""
    end = time.monotonic() + SECONDS
    while (found := read()) != wanted:
        assert time.monotonic() < end, f"still {found!r}, not {wanted!r}"
        time.sleep(0.2)


async def test_refund_reaches_provider_merchant_and_dashboard_once(live_stack: LiveStack) -> None:
    await asyncio.to_thread(_refund_story, live_stack)


def _refund_story(live: LiveStack) -> None:
    merchant, product = Merchant(live), f"tea-{secrets.token_hex(4)}"
    before = merchant.get("/api/dashboard/overview", currency="RWF")["month"]
    # …01NN leaves the payment to its amount and plays refund scenario NN
    slow_news = merchant.pay(2000, "+250780000106")  # pending, the callback is lost
    unanswered = merchant.pay(3000, "+250780000107")  # refunded, answered 500
    declined = merchant.pay(4000, "+250780000101")
    refunds = {
        merchant.refund(slow_news["id"], 500): ("succeeded", 1),
        merchant.refund(unanswered["id"], 700): ("succeeded", 1),
        merchant.refund(declined["id"], 900): ("failed", 0),
    }
    for refund_id, (status, effects) in refunds.items():
        until(lambda r=refund_id: merchant.get(f"/v1/refunds/{r}")["status"], status)
        assert merchant.provider_gave_back(refund_id) == (effects, 0)
    assert merchant.get(f"/v1/payments/{slow_news['id']}")["refunded_minor"] == 500
    until(lambda: ("refund.succeeded", 1) in merchant.webhooks(slow_news["id"]), True)
    until(lambda: ("refund.failed", 1) in merchant.webhooks(declined["id"]), True)
    merchant.post(
        "/api/events/transaction",
        {
            "transaction_id": slow_news["id"],
            "event_type": "payment_succeeded",
            "amount": 9999,
            "currency": "RWF",
            "payment_method": "card",
            "product_id": product,
            "product_name": "Tea",
        },
    )

    def grown() -> tuple[int, Any]:
        month = merchant.get("/api/dashboard/overview", currency="RWF")["month"]
        return month["transactions"] - before["transactions"], month["revenue"] - before["revenue"]

    until(grown, (3, 9000))

    def tea() -> Any:
        products = merchant.get("/api/dashboard/top-products", currency="RWF", limit=100)
        return [p for p in products["products"] if p["product_id"] == product]

    until(
        tea,
        [{"product_id": product, "product_name": "Tea", "transactions": 1, "amount": 2000}],
    )
