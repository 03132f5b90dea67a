"""Refund orders, refunds and their effects, what may be refunded, and the answers about it."""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from mospay_simulator.domain.payments import (
    STATUSES,
    Delays,
    DueCallback,
    Json,
    Moments,
    Payment,
    next_step_at,
    paid_amount,
    spaced,
)
from mospay_simulator.domain.scenarios import (
    REFUND_SUCCESS,
    Outcome,
    Scenario,
    Step,
    choose_refund_scenario,
)

# ISO 4217: the currencies whose minor unit is not a hundredth.
_ZERO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND".split()
_EXPONENTS: Final = {**dict.fromkeys(_ZERO_DECIMALS, 0), **dict.fromkeys(_THREE_DECIMALS, 3)}

# What holds its part of the captured amount. A declined refund holds nothing, so one that succeeds
# late may go beyond it: that is how an over-refund is played.
HOLDING: Final = (Outcome.SUCCEEDED, Outcome.PENDING)


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """A well-formed refund request; `amount` is a decimal string of `currency`."""

    service: str
    refund_id: str
    payment_reference: str
    provider_reference: str | None
    amount: str
    currency: str
    attempt_id: str | None
    callback_url: str | None


@dataclass(frozen=True, slots=True)
class Refund:
    """The provider's record of one refund id; `settles_at` is set while something is due."""

    refund_id: str
    provider_reference: str
    service: str
    payment_reference: str
    amount: str
    currency: str
    scenario: Scenario
    outcome: Outcome
    reason_code: str | None
    callback_url: str | None
    accepted_at: datetime
    settles_at: datetime | None
    step: int


@dataclass(frozen=True, slots=True)
class RefundEffect:
    """Money that was given back, as far as a simulator gives any. `at` is ISO 8601 UTC."""

    refund_id: str
    payment_reference: str
    amount: str
    currency: str
    scenario: str
    at: str


def minor_units(amount: str, currency: str) -> int | None:
    """The amount in minor units of its currency, or None when it has more decimals than that."""
    scaled = Decimal(amount).scaleb(_EXPONENTS.get(currency, 2))
    return int(scaled) if scaled == scaled.to_integral_value() else None


def open_refund(
    order: RefundOrder,
    payment: Payment | None,
    others: list[Refund],
    now: datetime,
    delays: Delays,
) -> Refund:
    """The record of a first request; `others` are all refunds of the same payment."""
    amount_minor = minor_units(order.amount, order.currency)
    assert amount_minor is not None, "parsed before"
    refusal = _refusal(order, payment, others)
    scenario = REFUND_SUCCESS
    if refusal is None and payment is not None:
        scenario = choose_refund_scenario(payment.refund_scenario, amount_minor)
    return Refund(
        refund_id=order.refund_id,
        provider_reference=f"sim_r_{uuid.uuid4().hex}",
        service=order.service,
        payment_reference=order.payment_reference,
        amount=order.amount,
        currency=order.currency,
        scenario=scenario,
        outcome=scenario.first if refusal is None else Outcome.FAILED,
        reason_code=refusal or scenario.reason_code,
        callback_url=order.callback_url,
        accepted_at=now,
        settles_at=None if refusal else next_step_at(scenario, 0, now, delays),
        step=0,
    )


def _refusal(order: RefundOrder, payment: Payment | None, others: list[Refund]) -> str | None:
    """Why a refund can't even begin, as a reason code."""
    if payment is None or payment.outcome is Outcome.UNKNOWN:
        return "not_found"
    if order.provider_reference not in (None, payment.provider_reference):
        return "not_found"
    if payment.outcome is not Outcome.SUCCEEDED:
        return "not_refundable"
    holding = [refund for refund in others if refund.outcome in HOLDING]
    # The payment carries no currency, so the first refund names it.
    if any(refund.currency != order.currency for refund in holding):
        return "currency_mismatch"
    given = sum((Decimal(refund.amount) for refund in holding), Decimal(order.amount))
    return "refund_too_large" if given > Decimal(paid_amount(payment)) else None


def settle_refund(refund: Refund, delays: Delays) -> tuple[Refund, Step]:
    """The refund after its due step, and that step; the next one counts from the due time."""
    assert refund.settles_at is not None
    step = refund.scenario.steps[refund.step]
    done = refund.step + 1
    settled = replace(
        refund,
        outcome=step.outcome,
        reason_code=step.reason_code,
        step=done,
        settles_at=next_step_at(refund.scenario, done, refund.settles_at, delays),
    )
    return settled, step


def refund_effect_of(refund: Refund, now: datetime) -> RefundEffect:
    """The effect that belongs to a succeeded refund."""
    return RefundEffect(
        refund.refund_id,
        refund.payment_reference,
        refund.amount,
        refund.currency,
        refund.scenario.name,
        now.isoformat(timespec="microseconds"),
    )


def refund_callbacks(
    refund: Refund, step: Step, moments: Moments, delays: Delays
) -> list[DueCallback]:
    """The callbacks of a step that was taken; none without a callback URL."""
    if refund.callback_url is None:
        return []
    return [
        DueCallback(refund.callback_url, _callback_body(refund, plan.outcome), plan.forged, due_at)
        for due_at, plan in spaced(step, moments, delays)
    ]


def _callback_body(refund: Refund, outcome: Outcome) -> Json:
    return {
        "event_id": f"{refund.provider_reference}_{outcome}",
        "kind": "refund",
        "reference": refund.refund_id,
        "payment_reference": refund.payment_reference,
        "provider_reference": refund.provider_reference,
        "outcome": outcome,
        "amount": refund.amount,
        "currency": refund.currency,
        "reason_code": refund.reason_code if outcome is refund.outcome else None,
    }


_MESSAGES = {
    Outcome.SUCCEEDED: "Refund completed",
    Outcome.FAILED: "Refund declined",
    Outcome.PENDING: "Refund accepted, not completed yet",
}


def refund_answer(refund: Refund) -> tuple[int, Json]:
    """HTTP status and body that tell a refund's recorded outcome to the one who asked for it."""
    status = STATUSES[refund.outcome]
    return status, _told(refund, status)


def refund_enquiry_answer(refund: Refund | None, refund_id: str) -> tuple[int, Json]:
    """HTTP status and body of an enquiry; authoritative: `found: false` means never refunded."""
    if refund is None or refund.outcome is Outcome.UNKNOWN:
        return 404, {
            "status": "404",
            "outcome": Outcome.UNKNOWN,
            "found": False,
            "reference": refund_id,
            "provider_reference": None,
            "amount": None,
            "currency": None,
            "reason_code": None,
            "message": "No refund has this id",
        }
    return 200, {**_told(refund, 200), "found": True}


def _told(refund: Refund, status: int) -> dict[str, object]:
    return {
        "status": str(status),
        "outcome": refund.outcome,
        "reference": refund.refund_id,
        "provider_reference": refund.provider_reference,
        "amount": refund.amount,
        "currency": refund.currency,
        "reason_code": refund.reason_code if refund.outcome is Outcome.FAILED else None,
        "message": _MESSAGES[refund.outcome],
    }
