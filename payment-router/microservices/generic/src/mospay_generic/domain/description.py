"""What a provider's API looks like: the description file, checked when it is read."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
    model_validator,
)

from mospay_generic.domain.protocol import Outcome

SECRETS: Final = ("api_key", "api_secret", "password", "webhook_secret", "basic")
ACCOUNT: Final = (*SECRETS, "username", "merchant_id")
VALUES: Final = (
    "reference",
    "attempt_id",
    "amount",
    "amount_minor",
    "currency",
    "phone",
    "msisdn",
    "callback_url",
    "reason",
    "provider_reference",
    "payment_reference",
    "payment_provider_reference",
)
PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
REASON_CODES: Final = (
    "insufficient_funds payer_not_found payer_rejected expired limit_exceeded provider_unavailable"
    " duplicate invalid_currency declined authentication_required card_expired suspected_fraud"
    " internal_error"
).split()


def _is_reason(word: str) -> str:
    if word not in REASON_CODES:
        raise ValueError(f"one of {', '.join(REASON_CODES)}")
    return word


Reason = Annotated[str, AfterValidator(_is_reason)]
# `data.items.0.status`: keys and list positions, from the top of the JSON body.
Where = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
# 5xx and redirects prove nothing, so they can't be given a meaning.
HttpStatus = Annotated[str, StringConstraints(pattern=r"^[24][0-9]{2}$")]


class Part(BaseModel):
    """A part of the description; a misspelt key is an error, not a silent nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(Part):
    """Where in a JSON body things are; `outcomes` maps the status's values to ours."""

    status: Where
    outcomes: dict[str, Outcome]
    reference: Where | None = None
    provider_reference: Where | None = None
    amount: Where | None = None
    currency: Where | None = None
    reason: Where | None = None
    action_url: Where | None = None


class Operation(Part):
    """One call: what goes out, by templates, and what comes back.

    `http` gives a status code an outcome of its own, before the body is read: `{"409": "pending"}`;
    `not_found` (enquiries) says authoritatively that there is no such payment.
    """

    method: Literal["GET", "POST", "PUT"] = "POST"
    path: str = Field(pattern=r"^/[!-~]*$")
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    body: dict[str, Any] | None = None
    http: dict[HttpStatus, Outcome | Literal["not_found"]] = {}
    answer: Body

    @model_validator(mode="after")
    def _knows_its_placeholders(self) -> "Operation":
        texts = [self.path, *self.headers.values(), *self.query.values(), *leaves(self.body)]
        used = {name for text in texts for name in PLACEHOLDER.findall(text)}
        if unknown := used - {*VALUES, *ACCOUNT}:
            raise ValueError(f"there is no placeholder {', '.join(sorted(unknown))}")
        if kept := used & {*SECRETS} & {*PLACEHOLDER.findall(self.path)}:
            raise ValueError(f"a secret in a path ends up in logs: {', '.join(sorted(kept))}")
        return self


class Signature(Part):
    """HMAC of the raw body in a header; the secret is the credential `webhook_secret`."""

    header: Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z0-9-]+$")]
    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""


class Callback(Part):
    """A callback's body; without a `signature` it is never verified, and the router asks."""

    signature: Signature | None = None
    answer: Body
    event_id: Where | None = None
    # A callback is about a refund where this holds one of `refund_kinds`.
    kind: Where | None = None
    refund_kinds: list[str] = []


class Description(Part):
    """A provider's API. Without `refund` there are no refunds; `callback` needs a reference."""

    base_url: HttpUrl
    # How amounts are written: "10.50", or 1050 in the currency's smallest unit.
    amounts: Literal["decimal", "minor"] = "decimal"
    # Where the provider's decimals differ from ISO 4217.
    decimals: dict[str, Annotated[int, Field(ge=0, le=3)]] = {}
    reasons: dict[str, Reason] = {}
    payment: Operation
    enquiry: Operation
    refund: Operation | None = None
    refund_enquiry: Operation | None = None
    callback: Callback | None = None


def leaves(body: object) -> Iterator[str]:
    """Yield the strings in a body template."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, dict):
        for value in body.values():
            yield from leaves(value)
    elif isinstance(body, list):
        for value in body:
            yield from leaves(value)
