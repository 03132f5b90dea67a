"""Orders, payments, effects and callbacks, and the answers that tell about them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from mospay_simulator.domain.scenarios import CallbackPlan, Outcome, Scenario, choose_scenario

# Several callbacks of one payment are sent this far apart, so that their order is certain.
CALLBACK_SPACING: Final = timedelta(milliseconds=200)
# A receiver that is down gets a few more chances; after that only the enquiry tells.
CALLBACK_RETRY_SECONDS: Final = (1.0, 2.0, 4.0, 8.0)

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Order:
    """A well-formed payment request: decimal string amount, phone in clear only here."""

    service: str
    route: str
    reference: str
    amount: str
    phone: str | None
    attempt_id: str | None
    callback_url: str | None


@dataclass(frozen=True, slots=True)
class Payment:
    """The provider's record of one reference; `settles_at` is set while something is due."""

    reference: str
    provider_reference: str
    service: str
    route: str
    amount: str
    phone_masked: str | None
    scenario: Scenario
    outcome: Outcome
    callback_url: str | None
    accepted_at: datetime
    settles_at: datetime | None


@dataclass(frozen=True, slots=True)
class Effect:
    """Money that moved, as far as a simulator moves any. `at` is ISO 8601 UTC."""

    reference: str
    amount: str
    phone_masked: str | None
    scenario: str
    at: str


@dataclass(frozen=True, slots=True)
class Callback:
    """One callback to send: signed when it goes out, so no secret is stored with it."""

    id: int
    url: str
    body: bytes
    forged: bool
    tries: int


def mask_phone(phone: str | None) -> str | None:
    """Country prefix and the last two digits; the rest never leaves the request."""
    return None if phone is None else f"{phone[:4]}{'*' * (len(phone) - 6)}{phone[-2:]}"


def open_payment(order: Order, now: datetime, delays: Mapping[str, timedelta]) -> Payment:
    """The record of a first request; `delays` maps a scenario's `settles` to a duration."""
    scenario = choose_scenario(order.phone, order.amount)
    return Payment(
        reference=order.reference,
        provider_reference=f"sim_{uuid.uuid4().hex}",
        service=order.service,
        route=order.route,
        amount=order.amount,
        phone_masked=mask_phone(order.phone),
        scenario=scenario,
        outcome=scenario.first,
        callback_url=order.callback_url,
        accepted_at=now,
        settles_at=None if scenario.settles is None else now + delays[scenario.settles],
    )


def paid_amount(payment: Payment) -> str:
    """What the payer was charged, which one scenario makes differ from the order."""
    if payment.scenario.excess == 0:
        return payment.amount
    return str(Decimal(payment.amount) + payment.scenario.excess)


def effect_of(payment: Payment, now: datetime) -> Effect:
    """The effect that belongs to a succeeded payment."""
    return Effect(
        payment.reference,
        paid_amount(payment),
        payment.phone_masked,
        payment.scenario.name,
        now.isoformat(timespec="microseconds"),
    )


def planned_callbacks(payment: Payment, now: datetime) -> list[tuple[datetime, CallbackPlan]]:
    """When each callback of a payment that settles now is due; none without a callback URL."""
    if payment.callback_url is None:
        return []
    return [
        (now + position * CALLBACK_SPACING, plan)
        for position, plan in enumerate(payment.scenario.callbacks)
    ]


def callback_body(payment: Payment, outcome: Outcome) -> Json:
    """A repeated callback has the same `event_id`, as receivers dedupe on it."""
    return {
        "event_id": f"{payment.provider_reference}_{outcome}",
        "reference": payment.reference,
        "provider_reference": payment.provider_reference,
        "outcome": outcome,
        "amount": paid_amount(payment),
        "currency": None,
    }


_MESSAGES = {
    Outcome.SUCCEEDED: "Payment completed",
    Outcome.FAILED: "Payment declined",
    Outcome.PENDING: "Waiting for the payer",
}
_STATUSES = {Outcome.SUCCEEDED: 200, Outcome.FAILED: 400, Outcome.PENDING: 202}


def payment_answer(payment: Payment) -> tuple[int, Json]:
    """HTTP status and body that tell a payment's recorded outcome to the one who asked for it."""
    status = _STATUSES[payment.outcome]
    return status, _told(payment, status)


def enquiry_answer(payment: Payment | None, reference: str) -> tuple[int, Json]:
    """HTTP status and body of an enquiry; authoritative, so `found: false` means never paid."""
    if payment is None or payment.outcome is Outcome.UNKNOWN:
        return 404, {
            "status": "404",
            "outcome": Outcome.UNKNOWN,
            "found": False,
            "reference": reference,
            "message": "No payment has this reference",
        }
    return 200, {**_told(payment, 200), "found": True}


def _told(payment: Payment, status: int) -> dict[str, object]:
    told: dict[str, object] = {
        "status": str(status),
        "outcome": payment.outcome,
        "provider_reference": payment.provider_reference,
        "reference": payment.reference,
        "amount": paid_amount(payment),
        # The payload carries no currency: the service has one, and the caller knows it.
        "currency": None,
        "message": _MESSAGES[payment.outcome],
    }
    if payment.outcome is Outcome.FAILED:
        told["reason_code"] = payment.scenario.reason_code
    return told
