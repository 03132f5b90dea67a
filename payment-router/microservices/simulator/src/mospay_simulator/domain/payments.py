"""Orders, payments, effects and callbacks, and the answers that tell about them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from mospay_simulator.domain.scenarios import (
    CallbackPlan,
    Outcome,
    Scenario,
    Step,
    choose_scenario,
    refund_scenario_of_phone,
)

# Several callbacks of one payment are sent this far apart, so that their order is certain.
CALLBACK_SPACING: Final = timedelta(milliseconds=200)
# A receiver that is down gets a few more chances; after that only the enquiry tells.
CALLBACK_RETRY_SECONDS: Final = (1.0, 2.0, 4.0, 8.0)

Json = Mapping[str, object]
Delays = Mapping[str, timedelta]


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
    """The provider's record of one reference; `settles_at` is set while something is due.

    `step` counts the scenario's steps that were taken; `refund_scenario` is what the payer's phone
    chose for refunds.
    """

    reference: str
    provider_reference: str
    service: str
    route: str
    amount: str
    phone_masked: str | None
    scenario: Scenario
    outcome: Outcome
    reason_code: str | None
    callback_url: str | None
    accepted_at: datetime
    settles_at: datetime | None
    step: int
    refund_scenario: str | None


@dataclass(frozen=True, slots=True)
class Effect:
    """Money that moved, as far as a simulator moves any. `at` is ISO 8601 UTC."""

    reference: str
    amount: str
    phone_masked: str | None
    scenario: str
    at: str


@dataclass(frozen=True, slots=True)
class Moments:
    """When a step was due and when it was taken, both on the movable clock."""

    due: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Callback:
    """One callback to send: signed when it goes out, so no secret is stored with it."""

    id: int
    url: str
    body: bytes
    forged: bool
    tries: int


@dataclass(frozen=True, slots=True)
class DueCallback:
    """A callback that a step asks for: the body is still JSON, and it goes out at `due_at`."""

    url: str
    body: Json
    forged: bool
    due_at: datetime


def mask_phone(phone: str | None) -> str | None:
    """Country prefix and the last two digits; the rest never leaves the request."""
    return None if phone is None else f"{phone[:4]}{'*' * (len(phone) - 6)}{phone[-2:]}"


def open_payment(order: Order, now: datetime, delays: Delays) -> Payment:
    """The record of a first request; `delays` maps a step's `after` to a duration."""
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
        reason_code=scenario.reason_code,
        callback_url=order.callback_url,
        accepted_at=now,
        settles_at=next_step_at(scenario, 0, now, delays),
        step=0,
        refund_scenario=refund_scenario_of_phone(order.phone),
    )


def next_step_at(scenario: Scenario, step: int, since: datetime, delays: Delays) -> datetime | None:
    """When a scenario's step comes, counted from the one before; None after the last one."""
    return since + delays[scenario.steps[step].after] if step < len(scenario.steps) else None


def settle_payment(payment: Payment, delays: Delays) -> tuple[Payment, Step]:
    """The payment after its due step, and that step; the next one counts from the due time.

    A clock that jumps over several steps therefore takes them all, in order.
    """
    assert payment.settles_at is not None
    step = payment.scenario.steps[payment.step]
    done = payment.step + 1
    settled = replace(
        payment,
        outcome=step.outcome,
        reason_code=step.reason_code,
        step=done,
        settles_at=next_step_at(payment.scenario, done, payment.settles_at, delays),
    )
    return settled, step


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


def payment_callbacks(
    payment: Payment, step: Step, moments: Moments, delays: Delays
) -> list[DueCallback]:
    """The callbacks of a step that was taken; none without a callback URL."""
    if payment.callback_url is None:
        return []
    return [
        DueCallback(payment.callback_url, callback_body(payment, plan.outcome), plan.forged, due_at)
        for due_at, plan in spaced(step, moments, delays)
    ]


def spaced(step: Step, moments: Moments, delays: Delays) -> list[tuple[datetime, CallbackPlan]]:
    """When each callback of a step goes out: what a jump of the clock has made due, now."""
    planned = []
    for position, plan in enumerate(step.callbacks):
        wanted = moments.due if plan.after is None else moments.due + delays[plan.after]
        planned.append((max(wanted, moments.now) + position * CALLBACK_SPACING, plan))
    return planned


def callback_body(payment: Payment, outcome: Outcome) -> Json:
    """A repeated callback has the same `event_id`, as receivers dedupe on it."""
    return {
        "event_id": f"{payment.provider_reference}_{outcome}",
        "kind": "payment",
        "reference": payment.reference,
        "provider_reference": payment.provider_reference,
        "outcome": outcome,
        "amount": paid_amount(payment),
        "currency": None,
        "reason_code": payment.reason_code if outcome is payment.outcome else None,
    }


_MESSAGES = {
    Outcome.SUCCEEDED: "Payment completed",
    Outcome.FAILED: "Payment declined",
    Outcome.PENDING: "Waiting for the payer",
}
STATUSES: Final = {Outcome.SUCCEEDED: 200, Outcome.FAILED: 400, Outcome.PENDING: 202}


def payment_answer(payment: Payment) -> tuple[int, Json]:
    """HTTP status and body that tell a payment's recorded outcome to the one who asked for it."""
    status = STATUSES[payment.outcome]
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
        told["reason_code"] = payment.reason_code
    if payment.outcome is Outcome.PENDING and payment.scenario.customer_action:
        # Mobile money asks on the payer's phone, so there is no page to send them to.
        told["customer_action"] = {"type": "approve_on_phone", "url": None}
    return told
