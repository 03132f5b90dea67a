"""Events of ledger, notifier, gateway's API log and security. Amounts are minor units."""

import datetime as dt

from pydantic import Field

from mospay_shared.contracts.envelope import Contract
from mospay_shared.contracts.payments import Currency, Id, Minor, Mode


class PostingV1(Contract):
    """One side of an entry: debit positive, credit negative; an entry sums to zero."""

    account: str = Field(max_length=200)
    amount_minor: int


class LedgerEntryPostedV1(Contract):
    """`ledger.entry_posted.v1`: a balanced journal entry was written."""

    entry_id: Id
    kind: str = Field(max_length=40)
    payment_id: Id
    attempt_id: str | None = Field(None, max_length=80)
    client_id: Id
    mode: Mode
    currency: Currency
    amount_minor: Minor
    fee_minor: Minor
    net_minor: int
    postings: list[PostingV1] = Field(max_length=50)
    posted_at: dt.datetime


class WebhookEventV1(Contract):
    """`webhook.delivered.v1`, `webhook.failed.v1`: one attempt to deliver to one endpoint ended.

    `final` says that no further attempt follows; `next_at` is when the next one starts.
    """

    delivery_id: Id
    endpoint_id: Id
    client_id: Id
    mode: Mode
    event_id: Id
    event_type: str = Field(max_length=80)
    payment_id: str | None = Field(None, max_length=80)
    attempt: int = Field(ge=1)
    status_code: int | None = None
    error: str | None = Field(None, max_length=300)
    duration_ms: int = Field(ge=0)
    final: bool
    next_at: dt.datetime | None = None
    attempted_at: dt.datetime


class ApiCalledV1(Contract):
    """`api.called.v1`: one HTTP call of a client app; bodies are redacted before they get here."""

    request_id: Id
    client_id: str | None = Field(None, max_length=80)
    mode: Mode | None = None
    method: str = Field(max_length=8)
    path: str = Field(max_length=300)
    status: int
    latency_ms: float = Field(ge=0)
    error_code: str | None = Field(None, max_length=80)
    payment_id: str | None = Field(None, max_length=80)
    ip: str | None = Field(None, max_length=64)
    request_body: str | None = Field(None, max_length=8_192)
    response_body: str | None = Field(None, max_length=8_192)
    called_at: dt.datetime


class SecurityEventV1(Contract):
    """`security.*.v1`: something about access that a person may want to see.

    `count` sums what happened within one window, so that a flood is one event. `credential` is the
    public part of what was offered (a key's prefix, a user name), never a secret.
    """

    event_id: Id
    client_id: str | None = Field(None, max_length=80)
    mode: Mode | None = None
    ip: str | None = Field(None, max_length=64)
    credential: str | None = Field(None, max_length=80)
    path: str | None = Field(None, max_length=300)
    reason: str = Field(max_length=300)
    count: int = Field(1, ge=1)
    first_at: dt.datetime
    last_at: dt.datetime


class SaleEventV1(Contract):
    """`sale.recorded.v1`: a sale event a merchant reported by the events API.

    `dedupe_key` is unique per (client, mode). `amount_minor` is null where the event has none.
    """

    sale_event_id: Id
    client_id: Id
    mode: Mode
    dedupe_key: str = Field(max_length=600)
    transaction_id: str = Field(max_length=255)
    kind: str = Field(pattern=r"^payment_(created|succeeded|failed|refunded)$")
    customer_id: str | None = Field(None, max_length=255)
    amount_minor: Minor | None = None
    fee_minor: Minor | None = None
    currency: Currency
    payment_method: str | None = Field(None, max_length=80)
    product_id: str | None = Field(None, max_length=255)
    product_name: str | None = Field(None, max_length=255)
    occurred_at: dt.datetime
    received_at: dt.datetime
