"""What the reads answer with. Amounts are integer minor units of the row's currency."""

import datetime as dt
from typing import Any

from mospay_shared.chassis.operations import Hop
from pydantic import BaseModel


class PaymentRow(BaseModel):
    """A payment in a list."""

    id: str
    client_id: str
    client_name: str
    app_id: str
    mode: str
    service: str
    route: str
    status: str
    amount_minor: int
    currency: str
    fee_minor: int | None = None
    net_minor: int | None = None
    reference: str
    provider_reference: str | None = None
    customer_id: str | None = None
    product_name: str | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    late: bool
    accepted_at: dt.datetime
    updated_at: dt.datetime
    version: int


class Summary(BaseModel):
    """Figures of the whole filtered set."""

    count: int
    count_is_exact: bool
    succeeded: int
    volume_minor: int
    currency: str | None


class PaymentPage(BaseModel):
    """A page of payments."""

    items: list[PaymentRow]
    next_cursor: str | None
    summary: Summary


class Attempt(BaseModel):
    """One call to the provider."""

    id: str
    number: int
    state: str
    route: str
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    http_status: int | None
    result: str | None
    reason: str | None


class Payment(PaymentRow):
    """A payment with its attempts."""

    metadata: dict[str, Any]
    attempts: list[Attempt]


class Kpis(BaseModel):
    """The figures on the cards."""

    payments_today: int
    payments: int
    succeeded: int
    failed: int
    unknown: int
    processing: int
    success_rate: float | None
    volume_minor: int
    fees_minor: int
    net_minor: int
    active_services: int
    active_clients: int
    api_calls_today: int
    payments_growth: float | None
    volume_growth: float | None


class VolumePoint(BaseModel):
    """One hour or day of the chart."""

    at: dt.datetime
    payments: int
    succeeded: int
    failed: int
    unknown: int
    volume_minor: int


class Dashboard(BaseModel):
    """The dashboard of one window and currency."""

    as_of: dt.datetime
    mode: str
    range: str
    granularity: str
    time_zone: str
    currency: str | None
    currencies: list[str]
    kpis: Kpis
    volume: list[VolumePoint]
    recent: list[PaymentRow]


class Explanation(BaseModel):
    """A payment's state in a cashier's words."""

    headline: str
    cause: str
    next_action: str


class Posting(BaseModel):
    """One side of an entry."""

    account: str
    amount_minor: int


class Entry(BaseModel):
    """A journal entry of the payment."""

    entry_id: str
    kind: str
    posted_at: dt.datetime
    currency: str
    postings: list[Posting]


class DeliveryAttempt(BaseModel):
    """One attempt to deliver a webhook."""

    number: int
    at: dt.datetime
    status_code: int | None
    error: str | None
    duration_ms: int


class Delivery(BaseModel):
    """A webhook to one endpoint."""

    delivery_id: str
    endpoint_id: str
    url: str
    event_type: str
    state: str
    attempts: list[DeliveryAttempt]
    next_at: dt.datetime | None


class Missing(BaseModel):
    """A service that should have been seen by now."""

    service: str
    what: str
    since_seconds: int


class Gap(BaseModel):
    """A service that could not be asked."""

    service: str
    detail: str


class PaymentTrace(BaseModel):
    """A payment's way through the house."""

    payment: PaymentRow
    explanation: Explanation
    as_of: dt.datetime
    hops: list[Hop]
    entries: list[Entry]
    deliveries: list[Delivery]
    missing: list[Missing]
    unavailable: list[Gap]
