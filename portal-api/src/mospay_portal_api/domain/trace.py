"""A payment's trace: what is missing by now, and what may be shown to whom."""

import datetime as dt
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

ENDED = frozenset({"succeeded", "failed", "expired", "cancelled"})
_SECRET = re.compile(r"password|secret|token|authorization|cookie|api_?key|^f00[78]$", re.I)
_PHONE = re.compile(r"phone|msisdn|^f005$", re.I)
# What of a hop's data a merchant may see: their own payment, never how the house is built.
_FOR_CLIENTS = frozenset(
    "app_id mode microservice service route amount_minor currency reference request_id url "
    "delivery_id http_status result enquiry version from to postings".split()
)
_RISK = "The risk rules looked at it, or a person did."
_RETRIED = {
    "retry": "This step failed and is tried again by itself.",
    "dead": "This step failed; the operator looks after it.",
}


class Step(Protocol):
    """What is read of a hop here."""

    @property
    def service(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...


def missing_steps(
    payment: Mapping[str, Any],
    hops: Sequence[Step],
    *,
    booked: bool,
    unavailable: Collection[str],
    now: dt.datetime,
    expected_seconds: float,
) -> list[dict[str, Any]]:
    """Return what should have been seen by now and was not, once a service.

    `payment` carries `status` and the aware instants `accepted_at`, `updated_at`; `booked` says
    that the ledger showed an entry. A service that could not be asked is never called missing.
    """
    status, accepted, updated = (payment[k] for k in ("status", "accepted_at", "updated_at"))
    services = {hop.service for hop in hops}
    messages = {(hop.service, hop.name) for hop in hops if hop.kind == "message"}
    news = f"payment.{status}.v1"
    expected: list[tuple[str, str, dt.datetime, bool]] = [
        ("gateway", "the request that made the payment", accepted, "gateway" in services),
        ("payment-router", "the command to process it", accepted, "payment-router" in services),
        ("reporter", "any news of the payment", accepted, "reporter" in services),
    ]
    if status in ENDED:
        expected += [
            (service, f"the event {news}", updated, (service, news) in messages)
            for service in ("gateway", "notifier", "reporter")
        ]
    if status == "succeeded":
        expected.append(("ledger", "the journal entry", updated, booked))
    found: dict[str, dict[str, Any]] = {}
    for service, what, since, seen in expected:
        waited = (now - since).total_seconds()
        if not seen and service not in unavailable and waited >= expected_seconds:
            gap = {"service": service, "what": what, "since_seconds": int(waited)}
            found.setdefault(service, gap)
    return list(found.values())


def redacted(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a hop's data with secrets gone and phone numbers masked, at any depth."""
    return None if data is None else {key: _safe(key, value) for key, value in data.items()}


def _safe(key: str, value: Any) -> Any:
    if _SECRET.search(key):
        return "[redacted]"
    if isinstance(value, Mapping):
        return {inner: _safe(inner, one) for inner, one in value.items()}
    if isinstance(value, list):
        return [_safe(key, one) for one in value]
    if isinstance(value, str) and _PHONE.search(key) and "*" not in value:
        return "*" * max(0, len(value) - 3) + value[-3:]
    return value


def for_client(kind: str, outcome: str, detail: str | None, data: Mapping[str, Any] | None) -> Any:
    """Return detail and data of a hop as a merchant may see them."""
    shown = redacted(data)
    kept = None if shown is None else {k: v for k, v in shown.items() if k in _FOR_CLIENTS}
    if data is not None and "risk" in data:  # who learns the rules learns how to stay below them
        return _RISK, kept or None
    # An exception's text in an inbox is about our insides; a provider's reason is about them.
    return (_RETRIED.get(outcome) if kind == "message" else detail), kept or None
