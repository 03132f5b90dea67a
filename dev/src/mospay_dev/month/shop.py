"""A merchant's app: what it asks the gateway for, and what it was told became of each."""

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from mospay_dev.demo.seed import Merchant
from mospay_dev.infrastructure.processes import StartFailed

PAYMENT_ENDS = {"succeeded", "failed", "cancelled", "expired", "conflicted"}
REFUND_ENDS = {"succeeded", "failed"}
WAIT_SECONDS = 60.0
CURRENCY = "RWF"


def until(read: Any, fits: Any, what: str, seconds: float = WAIT_SECONDS) -> Any:
    """Wait until what is read fits and return it; StartFailed says what was waited for."""
    end = time.monotonic() + seconds
    while not fits(found := read()):
        if time.monotonic() > end:
            raise StartFailed(f"{what}: still {found!r} after {seconds:.0f} s")
        time.sleep(0.2)
    return found


@dataclass
class Sold:
    """A payment as its merchant's app knows it; minor units."""

    payment_id: str
    amount_minor: int
    phone: str
    awaited: str | None  # the end it must come to before the day is over; None: on a later day
    status: str = "processing"


@dataclass
class Shop:
    """One merchant's app in test mode, with its own books of what it was told."""

    gateway_url: str
    merchant: Merchant
    sold: list[Sold] = field(default_factory=list)
    refunds: dict[str, tuple[str, int]] = field(default_factory=dict)  # id → status, amount

    def __post_init__(self) -> None:
        """Open the app's connections."""
        self._http = httpx.Client(
            base_url=self.gateway_url, headers={"X-API-Key": self.merchant.api_key}, timeout=40
        )

    def sell(self, wanted: list[tuple[int, str, str | None]]) -> list[Sold]:
        """Take payments (amount, phone, the end it must come to today), some at a time."""

        def one(order: tuple[int, str, str | None]) -> Sold:
            amount_minor, phone, awaited = order
            wait = "wait=5" if awaited else "respond-async"
            body = {
                "service": "collection",
                "route": "payment",
                "amount_minor": amount_minor,
                "currency": CURRENCY,
                "phone": phone,
                "reference": f"order-{secrets.token_hex(6)}",
                "product_name": "Tea, 1 kg",
            }
            made = self._post("/v1/payments", body, Prefer=wait)
            return Sold(made["id"], amount_minor, phone, awaited)

        with ThreadPoolExecutor(6) as pool:
            fresh = list(pool.map(one, wanted))
        self.sold += fresh
        return fresh

    def refund(self, sold: Sold, amount_minor: int) -> None:
        """Give a part of a payment back."""
        body = {"amount_minor": amount_minor, "reason": "returned"}
        made = self._post(f"/v1/payments/{sold.payment_id}/refunds", body)
        self.refunds[made["id"]] = (made["status"], amount_minor)

    def end_the_day(self) -> None:
        """Ask what became of everything; what has to end today must have ended as awaited."""
        for sold in self.sold:
            if sold.status not in PAYMENT_ENDS or sold.status != sold.awaited:
                self._learn(sold)
        for refund_id, (status, amount_minor) in self.refunds.items():
            if status not in REFUND_ENDS:
                found = until(
                    lambda path=f"/v1/refunds/{refund_id}": self._get(path)["status"],
                    lambda status: status in REFUND_ENDS,
                    f"refund {refund_id}",
                )
                self.refunds[refund_id] = (found, amount_minor)

    def _learn(self, sold: Sold) -> None:
        path = f"/v1/payments/{sold.payment_id}"

        def status() -> str:
            return str(self._get(path)["status"])

        if sold.awaited is None:
            sold.status = status()
        else:
            sold.status = until(status, lambda s: s == sold.awaited, f"payment to {sold.phone}")

    def refunded_of(self) -> int:
        """What was given back, minor units."""
        return sum(amount for status, amount in self.refunds.values() if status == "succeeded")

    def captured(self) -> int:
        """What was taken, minor units."""
        return sum(sold.amount_minor for sold in self.sold if sold.status == "succeeded")

    def figures(self, first: str, last: str) -> list[dict[str, Any]]:
        """The reporter's days, as the merchant's dashboard shows them."""
        query = {"start_date": first, "end_date": last, "granularity": "daily"}
        days: list[dict[str, Any]] = self._get("/api/dashboard/analytics", **query)["data"]
        return days

    def _post(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        key = {"Idempotency-Key": secrets.token_hex(12)}
        return self._checked(self._http.post(path, json=body, headers=key | headers))

    def _get(self, path: str, **query: Any) -> Any:
        return self._checked(self._http.get(path, params=query))

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        if answer.is_error:
            raise StartFailed(f"{answer.request.url}: {answer.status_code} {answer.text[:400]}")
        return answer.json()
