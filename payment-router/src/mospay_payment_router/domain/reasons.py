"""Reason codes for mobile money and cards: may it be tried again, who acts, what to say.

The codes are stable; connectors translate their provider's own words into them. A code that is not
here is kept as it came, without advice. `docs/reason-codes.md` is generated from this table.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """What a code means. `actor` is payer, merchant, operator or provider.

    `retryable` says whether another payment, made after `actor` acted, may go through; it never
    means that this one is sent again.
    """

    code: str
    retryable: bool
    actor: str
    words: str


_ALL = (
    # the payer
    Reason("insufficient_funds", True, "payer", "Not enough money. Top up, then pay again."),
    Reason("payer_not_found", True, "payer", "This number has no account there. Check the number."),
    Reason("payer_rejected", True, "payer", "The payer said no on the phone. Ask, then try again."),
    Reason("expired", True, "payer", "The payer did not confirm in time. Try again."),
    Reason("authentication_required", True, "payer", "The payer must confirm with the bank."),
    Reason("authentication_failed", True, "payer", "Wrong PIN or code. Try again with care."),
    Reason("account_blocked", False, "payer", "The payer's account is blocked. Use another one."),
    Reason("limit_exceeded", True, "payer", "Over the payer's limit. Pay less, or tomorrow."),
    Reason("card_expired", True, "payer", "The card has expired. Use another card."),
    Reason("card_lost_or_stolen", False, "payer", "This card can't be used. Use another one."),
    Reason("invalid_card", True, "payer", "The card's details are wrong. Check them."),
    Reason("declined", True, "payer", "Declined without a reason. Ask the payer's bank or wallet."),
    Reason("suspected_fraud", False, "payer", "Refused as suspicious. Use another way to pay."),
    # the merchant
    Reason("duplicate", False, "merchant", "The provider has this reference already. Look it up."),
    Reason("invalid_currency", False, "merchant", "This service does not take that currency."),
    Reason("amount_not_expressible", False, "merchant", "The provider takes no such small change."),
    Reason("cancelled", True, "merchant", "Cancelled before anything was sent."),
    Reason("not_refundable", False, "merchant", "Only a payment that succeeded can be refunded."),
    Reason("refund_too_large", False, "merchant", "More than what is left of the payment."),
    Reason("refund_not_supported", False, "merchant", "This service can't give money back."),
    Reason("wrong_currency", False, "merchant", "A refund has the payment's currency."),
    # the operator
    Reason("risk_held", False, "operator", "Held for a look before it is sent. Please wait."),
    Reason("risk_refused", False, "operator", "Refused by the risk rules. Ask support."),
    Reason("refused_in_review", False, "operator", "Refused after a look. Ask support."),
    Reason("function_failed", True, "operator", "The service is set up wrong. Tell support."),
    Reason("payload_erased", True, "merchant", "Held too long: what was entered is erased."),
    Reason("refused_by_function", True, "operator", "The service refused it; see the message."),
    Reason("functions_refused", False, "operator", "The service is set up wrong. Tell support."),
    Reason("host_not_registered", False, "operator", "The service is set up wrong. Tell support."),
    Reason("service_unknown", False, "operator", "There is no such service. Tell support."),
    Reason("service_not_assigned", False, "operator", "The service is not yours. Tell support."),
    Reason("mode_not_offered", False, "operator", "The service has no such mode. Tell support."),
    Reason("simulator_in_live_mode", False, "operator", "A simulator takes no real money."),
    Reason("secrets_unreadable", True, "operator", "The password could not be read. Tell support."),
    Reason("amount_mismatch", False, "operator", "Another amount was paid. It is looked into."),
    Reason("resolved_failed", True, "operator", "Looked into: no money moved."),
    # the provider
    Reason("provider_unavailable", True, "provider", "The provider is away. Try again later."),
    Reason("internal_error", True, "provider", "The provider had a fault. Try again later."),
    Reason("never_sent", True, "provider", "Nothing reached the provider. Safe to try again."),
    Reason("send_before_passed", True, "provider", "Too late to send it. It is safe to try again."),
    Reason("no_answer", False, "provider", "No answer yet. Do not pay again; it is being asked."),
    Reason("lease_expired", False, "provider", "No answer yet. Do not pay again; it is asked."),
)
REASONS = {reason.code: reason for reason in _ALL}


def advice(code: str | None) -> Reason | None:
    """Return what is known of a code."""
    return REASONS.get(code) if code else None


def document() -> str:
    """Return the table as Markdown."""
    lines = [
        "# Reason codes",
        "",
        "Generated from `domain/reasons.py`. `retryable`: another payment may go through once",
        "who acts has acted; this one is never sent again.",
        "",
        "| code | retryable | who acts | words for a cashier |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{r.code}` | {'yes' if r.retryable else 'no'} | {r.actor} | {r.words} |" for r in _ALL
    ]
    return "\n".join(lines) + "\n"
