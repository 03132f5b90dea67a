"""A payment's state in the words of a cashier: headline, cause, next action."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened, why, and what to do now; no jargon."""

    headline: str
    cause: str
    next_action: str


_STATES = {
    "processing": Explanation(
        "The payment is on its way",
        "We wait for the provider's answer.",
        "Wait. This page changes by itself as soon as there is news.",
    ),
    "succeeded": Explanation(
        "The payer has paid", "The provider has proven it.", "Nothing to do: hand over the goods."
    ),
    "failed": Explanation(
        "The payment did not happen",
        "The provider refused it; no money has moved.",
        "The payer may try again as a new payment.",
    ),
    "unknown": Explanation(
        "Nobody knows yet whether the payer has paid",
        "The provider took the payment but its answer did not arrive.",
        "Do not ask the payer to pay again. We keep asking the provider until it is proven.",
    ),
    "requires_customer_action": Explanation(
        "The payer has to confirm",
        "The provider waits for the payer, usually on the phone.",
        "Ask the payer to look at the phone and confirm.",
    ),
    "held": Explanation(
        "The payment is held for review",
        "A risk rule asked for a person to look at it; it has not been sent.",
        "Wait for the review. The operator decides.",
    ),
    "conflicted": Explanation(
        "The provider's amount differs from ours",
        "The provider names another amount or currency than was asked for.",
        "Do not hand over the goods yet. Two people of the operator resolve it.",
    ),
    "cancelled": Explanation(
        "The payment was cancelled", "It was stopped before it reached the provider.", "Nothing."
    ),
    "expired": Explanation(
        "The payment has expired",
        "It was not paid in the time it had; no money has moved.",
        "Start a new payment if the payer still wants to pay.",
    ),
}
# reason code → (cause, next action); the state's own words where one is empty.
_REASONS = {
    "insufficient_funds": (
        "The payer does not have enough money in the account.",
        "Ask the payer to top up or to pay in another way.",
    ),
    "payer_rejected": (
        "The payer refused the payment.",
        "Ask whether the payer still wants to pay; if so, start a new payment.",
    ),
    "payer_timeout": (
        "The payer did not confirm in time.",
        "Ask the payer to keep the phone at hand and start a new payment.",
    ),
    "never_sent": (
        "The provider could not be reached, so nothing was sent and no money has moved.",
        "Try again as a new payment.",
    ),
    "no_answer": ("The provider did not answer in time.", ""),
    "lease_expired": ("We were interrupted while the provider was working on it.", ""),
    "left_pending": ("The provider has neither made nor refused it for a long time.", ""),
    "not_found_yet": ("The provider does not know the payment yet.", ""),
    "enquiry_failed": ("The provider could not be asked how it ended.", ""),
    "not_found_unproven": (
        "The provider says it does not know the payment, but its word is not proof.",
        "Do not ask the payer to pay again. A person of the operator settles it.",
    ),
    "output_without_outcome": (
        "The provider function ended without saying whether the payer has paid.",
        "Do not ask the payer to pay again. A person of the operator settles it.",
    ),
    "reference_mismatch": ("The provider answered about another payment than ours.", ""),
    "contradictory_answer": ("The provider's answer contradicts itself.", ""),
    "amount_missing": ("The provider's answer does not name the amount.", ""),
    "amount_unreadable": ("The provider's answer names an amount that can't be read.", ""),
    "response_function_failed": (
        "The provider answered, but its answer could not be read.",
        "Do not ask the payer to pay again. The operator mends it; we keep asking the provider.",
    ),
    "mode_not_offered": ("The service has no provider for this mode.", "Ask the operator."),
    "service_not_assigned": ("The service is not switched on for you.", "Ask the operator."),
    "service_unknown": ("The service does not exist any more.", "Ask the operator."),
    "functions_refused": ("The service is not set up completely.", "Ask the operator."),
    "risk_refused": (
        "The risk rules refused it before anything was sent.",
        "Ask the operator, or use another way to pay.",
    ),
    "refused_in_review": (
        "The risk rules held it, and a person of the operator refused it. Nothing was sent.",
        "Ask the operator, or use another way to pay.",
    ),
    "payload_erased": (
        "It was held for so long that what the payer had entered was erased. Nothing was sent.",
        "Start a new payment if the payer still wants to pay.",
    ),
    "function_failed": ("The service is not set up correctly.", "Ask the operator."),
    "refused_by_function": ("The service's own rules refused it before it was sent.", ""),
    "secrets_unreadable": ("What the payer entered could not be opened.", "Ask the operator."),
}
_LATE = Explanation(
    "The payer has paid, later than we were told",
    "The provider first said it had not happened and then proved that it had.",
    "If the payer has paid again meanwhile, one of the two payments has to go back.",
)


def explain(
    status: str,
    reason_code: str | None,
    reason_message: str | None,
    *,
    late: bool,
    attempt: Mapping[str, object] | None = None,
    next_at: dt.datetime | None = None,
    now: dt.datetime | None = None,
) -> Explanation:
    """Say what a payment's state means.

    `attempt` is the latest one as payment-router shows it (`state`), `next_at` when the provider
    is asked next.
    """
    if status == "succeeded":
        return _LATE if late else _STATES[status]
    known = _STATES.get(status)
    if known is None:
        return Explanation(f"The payment is {status.replace('_', ' ')}", "", "Ask the operator.")
    cause, action = _REASONS.get(reason_code or "", ("", ""))
    cause = cause or (reason_message or "").strip() or known.cause
    if status == "processing" and attempt is not None:
        cause = _PROGRESS.get(str(attempt.get("state")), cause)
    if status == "unknown" and next_at is not None and now is not None and next_at > now:
        seconds = max(1, round((next_at - now).total_seconds()))
        cause = f"{cause} We ask again in {_duration(seconds)}."
    return Explanation(known.headline, cause, action or known.next_action)


_PROGRESS = {
    "ready": "It is about to be sent to the provider.",
    "sending": "It has been sent; we wait for the provider's answer.",
    "answered": "The provider has answered; its answer is being read.",
}


def _duration(seconds: int) -> str:
    if seconds < 90:
        return f"{seconds} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"
