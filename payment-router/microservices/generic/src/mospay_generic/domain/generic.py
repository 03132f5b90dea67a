"""Templates in, answers out: how a description's words become calls and outcomes."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from mospay_generic.domain.description import PLACEHOLDER, SECRETS, Body, Description
from mospay_generic.domain.protocol import (
    Answer,
    CustomerAction,
    Order,
    Outcome,
    UnsendableError,
    decimals,
    exact,
    text,
    unknown,
)

PROVIDER_REFERENCE_CHARACTERS_MAX: Final = 128
Values = Mapping[str, str | int | None]


def values_of(order: Order, description: Description) -> dict[str, str | int | None]:
    """Return what templates may name of an order; raises UnsendableError."""
    known = order.known or order.paid
    values: dict[str, str | int | None] = {
        "reference": order.reference,
        "attempt_id": order.attempt_id or None,
        "currency": order.currency or (known.currency if known else None),
        "phone": order.phone,
        "msisdn": order.phone.lstrip("+") if order.phone else None,
        "callback_url": order.callback_url,
        "reason": order.reason,
        "provider_reference": order.known.handle if order.known else None,
        "payment_reference": order.payment_reference,
        "payment_provider_reference": _paid_reference(order),
    }
    if order.amount:
        written = exact(order.amount, _places(order.currency, description))
        values["amount"], values["amount_minor"] = written, int(written.replace(".", ""))
    return values


def fill(template: str, values: Values, *, path: bool = False) -> str:
    """Fill a template in; raises UnsendableError for what has no value or can't be in a path."""

    def value_of(name: str) -> str:
        value = values.get(name)
        if value is None:
            raise UnsendableError(f"there is no {name} for this provider")
        if path and str(value) in (".", ".."):
            raise UnsendableError(f"{name} can't be part of an address")
        return quote(str(value), safe="") if path else str(value)

    return PLACEHOLDER.sub(lambda match: value_of(match[1]), template)


def fill_all(template: Any, values: Values) -> Any:
    """Fill a body in. What is one placeholder without a value is left out, but never a secret."""
    if isinstance(template, dict):
        filled = {key: fill_all(value, values) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not None}
    if isinstance(template, list):
        return [fill_all(value, values) for value in template]
    if not isinstance(template, str):
        return template
    alone = PLACEHOLDER.fullmatch(template)
    if alone is None or alone[1] in SECRETS:
        return fill(template, values)
    return values.get(alone[1])


def fill_headers(templates: Mapping[str, str], values: Values) -> dict[str, str]:
    """Fill headers in; raises UnsendableError for what a header can't hold."""
    filled = {name: str(value) for name, value in fill_all(dict(templates), values).items()}
    for name, value in filled.items():
        if not value.isascii() or not value.isprintable():
            raise UnsendableError(f"the value of header {name} can't be written")
    return filled


def dig(body: object, where: str | None) -> Any:
    """Return what is at `data.items.0.status` of a JSON body, or None."""
    if where is None:
        return None
    for step in where.split("."):
        if isinstance(body, dict):
            body = body.get(step)
        elif isinstance(body, list) and step.isdigit() and int(step) < len(body):
            body = body[int(step)]
        else:
            return None
    return body


def judge(order: Order, body: Mapping[str, Any], where: Body, description: Description) -> Answer:
    """Return what a body says, by the description; what it does not map proves nothing."""
    status = dig(body, where.status)
    outcome = where.outcomes.get(str(status).lower() if isinstance(status, bool) else str(status))
    if outcome is None:
        return unknown(order, "the answer has no status that is described")
    about = text(dig(body, where.reference))
    if about is not None and about != order.reference:
        return unknown(order, "the answer is about another reference")
    return tell(order, body, where, description, outcome)


def tell(
    order: Order,
    body: Mapping[str, Any],
    where: Body,
    description: Description,
    outcome: Outcome,
) -> Answer:
    """Return the answer of an outcome with what the body says beside it."""
    provider_reference = text(dig(body, where.provider_reference))
    if provider_reference is not None:
        provider_reference = provider_reference[:PROVIDER_REFERENCE_CHARACTERS_MAX]
    currency = text(dig(body, where.currency))
    action = text(dig(body, where.action_url)) if outcome == "pending" else None
    reason = text(dig(body, where.reason)) or ""
    return Answer(
        outcome=outcome,
        reference=order.reference,
        provider_reference=provider_reference,
        amount=_amount(dig(body, where.amount), currency, order, description),
        currency=currency,
        reason_code=description.reasons.get(reason, "declined") if outcome == "failed" else None,
        # Shown to a browser, so nothing but https is passed on.
        customer_action=CustomerAction(type="redirect", url=action)
        if action is not None and action.startswith("https://")
        else None,
        handle=provider_reference,
    )


def _amount(
    value: object, currency: str | None, order: Order, description: Description
) -> str | None:
    """Return the provider's amount as a decimal string; what can't be read is no amount."""
    if description.amounts == "decimal" or value is None:
        return text(value)
    known = currency or order.currency or (order.known.currency if order.known else "")
    written = text(value) or ""
    if not known or not written.isdigit() or len(written) > 18:
        return None
    places = _places(known, description)
    return exact(str(Decimal(written).scaleb(-places)), places)


def _places(currency: str, description: Description) -> int:
    return description.decimals.get(currency, decimals(currency))


def _paid_reference(order: Order) -> str | None:
    answer = order.paid.answer if order.paid is not None else None
    found = answer.provider_reference if answer is not None else None
    return order.provider_reference or found
