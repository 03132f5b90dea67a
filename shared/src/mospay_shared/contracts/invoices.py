"""Events of invoices and of those who are invoiced. Amounts are minor units of one currency."""

import datetime as dt
from enum import StrEnum

from pydantic import Field

from mospay_shared.contracts.envelope import Contract
from mospay_shared.contracts.payments import Currency, Id, Minor, Mode


class InvoiceStatus(StrEnum):
    """The states of an invoice. `overdue` says it of a partly paid one too; `paid`: none is open.

    A draft has no event: until it is issued nobody else knows of it.
    """

    DRAFT = "draft"
    ISSUED = "issued"
    PART_PAID = "part_paid"
    PAID = "paid"
    OVERDUE = "overdue"
    VOID = "void"


class InvoiceEventV1(Contract):
    """Body of every `invoice.*.v1` event: the invoice as it is after the change.

    `client_id` is whose invoice it is (null: the operator's), `recipient_client_id` the client the
    operator invoices. `open_minor` = total - paid - credited, never below zero. `amount_minor` is
    what was paid or credited by this change, `excess_minor` the part of it that was beyond what was
    open and became the customer's credit. `version` rises with each change.
    """

    invoice_id: Id
    issuer_id: Id
    client_id: str | None = Field(None, max_length=80)
    recipient_client_id: str | None = Field(None, max_length=80)
    mode: Mode
    customer_id: Id
    number: str = Field(max_length=40)
    currency: Currency
    status: InvoiceStatus
    total_minor: Minor
    tax_minor: Minor
    discount_minor: Minor
    paid_minor: Minor
    credited_minor: Minor
    open_minor: Minor
    due_on: dt.date
    issued_at: dt.datetime
    payment_id: str | None = Field(None, max_length=80)
    credit_note_id: str | None = Field(None, max_length=80)
    credit_note_number: str | None = Field(None, max_length=40)
    amount_minor: Minor | None = None
    excess_minor: Minor = 0
    reason: str | None = Field(None, max_length=300)
    version: int = Field(ge=1, le=2**63 - 1)
    occurred_at: dt.datetime


class CustomerEventV1(Contract):
    """Body of every `customer.*.v1` event: the customer as it is after the change.

    `client_ref` is the issuer's own name for it. `recipient_client_id` names the client that is
    the operator's customer. `portal_enabled`: it may have a login of its own (a payer's).
    """

    customer_id: Id
    issuer_id: Id
    client_id: str | None = Field(None, max_length=80)
    recipient_client_id: str | None = Field(None, max_length=80)
    mode: Mode
    client_ref: str | None = Field(None, max_length=80)
    name: str = Field(max_length=200)
    email: str | None = Field(None, max_length=254)
    phone: str | None = Field(None, max_length=32)
    address: str | None = Field(None, max_length=500)
    tax_id: str | None = Field(None, max_length=60)
    locale: str = Field(max_length=12)
    active: bool
    portal_enabled: bool = False
    version: int = Field(ge=1, le=2**63 - 1)
    occurred_at: dt.datetime


class InvoiceReminderV1(Contract):
    """`invoice.reminder_due.v1`: a customer is to be told of an invoice by mail, once a kind.

    `issued`: its first mail. It carries what a mail says, never a link: who sends the mail asks for
    one and forgets it (ADR 0014).
    """

    invoice_id: Id
    client_id: str | None = Field(None, max_length=80)
    recipient_client_id: str | None = Field(None, max_length=80)
    mode: Mode
    customer_id: Id
    kind: str = Field(pattern=r"^(issued|before_due|due|overdue)$")
    number: str = Field(max_length=40)
    currency: Currency
    total_minor: Minor
    open_minor: Minor
    due_on: dt.date
    customer_name: str = Field(max_length=200)
    customer_email: str = Field(max_length=254)
    issuer_name: str = Field(max_length=200)
    issuer_email: str | None = Field(None, max_length=254)
    colour: str = Field(max_length=7)
    occurred_at: dt.datetime


class MailPayerV1(Contract):
    """`payers.mail.v1`: a payer is to get a link by mail, for what it asked or was invited to.

    It carries what a mail says, never the link: who sends the mail asks portal-api for one with
    `mail_id` and forgets it (ADR 0014). `valid_until`: after that nothing is sent.
    """

    mail_id: Id
    kind: str = Field(pattern=r"^(invite|reset|verify)$")
    customer_id: Id
    client_id: str | None = Field(None, max_length=80)
    mode: Mode
    customer_name: str = Field(max_length=200)
    customer_email: str = Field(max_length=254)
    locale: str = Field(max_length=12)
    issuer_name: str = Field(max_length=200)
    issuer_email: str | None = Field(None, max_length=254)
    colour: str = Field(max_length=7)
    valid_until: dt.datetime
    occurred_at: dt.datetime


INVOICE_NEWS = ("issued", "part_paid", "paid", "overdue", "voided", "credited")
CUSTOMER_NEWS = ("created", "updated", "deactivated")
