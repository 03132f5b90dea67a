"""Rules of delivery: what is told, how it is signed, when it is tried again. Pure."""

import base64
import datetime as dt
import hmac
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

URL_LIMIT = 2000  # characters
RETRY_AFTER_LIMIT_SECONDS = 24 * 3600.0  # a receiver can't push us out further
JITTER = 0.1
# What is told unless an endpoint asks for more: news a merchant acts on.
DEFAULT_EVENTS = frozenset(
    f"payment.{status}"
    for status in (
        "succeeded", "failed", "cancelled", "expired", "conflicted", "unknown", "held",
        "requires_customer_action",
    )
)  # fmt: skip


class NotifierError(Exception):
    """Base of what the notifier refuses; `code` is stable."""

    code = "notifier_error"


class EndpointRefused(NotifierError):
    """An endpoint's address that can't be taken."""

    code = "invalid_url"


class TooManyEndpoints(NotifierError):
    """A client has as many endpoints as it may."""

    code = "too_many_endpoints"


def check_url(url: str, *, plain_allowed: bool) -> None:
    """Raise EndpointRefused unless a URL is one we may deliver to (the socket checks addresses)."""
    parts = urlsplit(url)
    if len(url) > URL_LIMIT:
        raise EndpointRefused(f"is longer than {URL_LIMIT} characters")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise EndpointRefused("must be an absolute https:// address")
    if parts.scheme == "http" and not plain_allowed:
        raise EndpointRefused("must be https://; plain http is for development only")
    if parts.username or parts.password:
        raise EndpointRefused("must carry no user name or password")
    if parts.fragment:
        raise EndpointRefused("must carry no fragment")


def new_secret() -> str:
    """Return a fresh endpoint secret, `whsec_…` (Standard Webhooks 1.0)."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def event_name(wire_type: str) -> str:
    """Return the public name of a wire type: `payment.succeeded.v1` → `payment.succeeded`."""
    return wire_type.rpartition(".v")[0]


def wants(event_types: Sequence[str], name: str) -> bool:
    """Say whether an endpoint is told of an event; an empty filter means the default news."""
    if not event_types:
        return name in DEFAULT_EVENTS
    return name in event_types


def sign(secret_list: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` header: one `v1,<base64>` a secret (Standard Webhooks)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()
        for secret in secret_list
    )


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one attempt means: the delivery's next state, when again, and what to do about it."""

    state: str  # delivered | pending | failed
    next_at: dt.datetime | None
    disable: bool = False


def judge(
    attempt: int,
    status_code: int | None,
    retry_after_seconds: float | None,
    schedule: Sequence[float],
    now: dt.datetime,
) -> Verdict:
    """Judge attempt number `attempt` (from 1). Only 2xx is success; 410 disables the endpoint.

    429 and 503 may ask for a longer wait, within a day. After the schedule's end it has failed.
    """
    if status_code is not None and 200 <= status_code < 300:
        return Verdict("delivered", None)
    if status_code == 410:
        return Verdict("failed", None, disable=True)
    if attempt >= len(schedule):
        return Verdict("failed", None)
    wait = schedule[attempt] * (1 + random.uniform(0, JITTER))
    if status_code in (429, 503) and retry_after_seconds is not None:
        wait = max(wait, min(retry_after_seconds, RETRY_AFTER_LIMIT_SECONDS))
    return Verdict("pending", now + dt.timedelta(seconds=wait))


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3); dates are not honoured."""
    return float(value) if value and value.isdigit() and len(value) < 8 else None
