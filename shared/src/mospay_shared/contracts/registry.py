"""Every wire type with its body model, its producer and its exchange: the message catalogue."""

from dataclasses import dataclass

from mospay_shared.contracts import (
    directory,
    invoices,
    others,
    payments,
    reconciliation,
    settlements,
)
from mospay_shared.contracts.envelope import Contract


@dataclass(frozen=True, slots=True)
class MessageType:
    """A wire type: body, the one service that publishes it, and whether it is a command."""

    name: str
    model: type[Contract]
    producer: str
    command: bool = False


def _payment_events() -> list[MessageType]:
    by_router = [s for s in payments.PaymentStatus if s is not payments.PaymentStatus.PROCESSING]
    return [
        MessageType("payment.accepted.v1", payments.PaymentEventV1, "gateway"),
        MessageType("payment.processing.v1", payments.PaymentEventV1, "payment-router"),
        *(
            MessageType(f"payment.{status}.v1", payments.PaymentEventV1, "payment-router")
            for status in by_router
        ),
    ]


_ALL = [
    MessageType("payments.process.v1", payments.ProcessPaymentV1, "gateway", command=True),
    MessageType("payments.callback.v1", payments.PaymentCallbackV1, "gateway", command=True),
    MessageType("payments.cancel.v1", payments.CancelPaymentV1, "gateway", command=True),
    MessageType("payments.refund.v1", payments.RefundPaymentV1, "gateway", command=True),
    # gateway for a client app's status call, portal-api for a person
    MessageType("payments.enquire.v1", payments.EnquirePaymentV1, "*", command=True),
    MessageType("payments.review.v1", payments.ReviewPaymentV1, "portal-api", command=True),
    MessageType("payments.resolve.v1", payments.ResolvePaymentV1, "portal-api", command=True),
    MessageType("refunds.resolve.v1", payments.ResolveRefundV1, "portal-api", command=True),
    *_payment_events(),
    MessageType("payment.risk_assessed.v1", payments.RiskAssessedV1, "payment-router"),
    *(
        MessageType(f"refund.{status}.v1", payments.RefundEventV1, "payment-router")
        for status in payments.RefundStatus
    ),
    MessageType("provider.health_changed.v1", payments.ProviderHealthV1, "payment-router"),
    MessageType("ledger.entry_posted.v1", others.LedgerEntryPostedV1, "ledger"),
    MessageType("settlement.processed.v1", settlements.SettlementV1, "ledger"),
    MessageType("settlement.reserve_released.v1", settlements.SettlementV1, "ledger"),
    *(
        MessageType(f"payout.{status}.v1", settlements.PayoutV1, "ledger")
        for status in settlements.PayoutStatus
    ),
    *(
        MessageType(f"invoice.{news}.v1", invoices.InvoiceEventV1, "ledger")
        for news in invoices.INVOICE_NEWS
    ),
    *(
        MessageType(f"customer.{news}.v1", invoices.CustomerEventV1, "ledger")
        for news in invoices.CUSTOMER_NEWS
    ),
    MessageType("invoice.reminder_due.v1", invoices.InvoiceReminderV1, "ledger"),
    MessageType("payers.mail.v1", invoices.MailPayerV1, "portal-api", command=True),
    MessageType(
        "reconciliation.import_finished.v1", reconciliation.ReconciliationImportFinishedV1, "ledger"
    ),
    *(
        MessageType(
            f"reconciliation.exception_{what}.v1",
            reconciliation.ReconciliationExceptionsV1,
            "ledger",
        )
        for what in ("opened", "resolved")
    ),
    MessageType("webhook.delivered.v1", others.WebhookEventV1, "notifier"),
    MessageType("webhook.failed.v1", others.WebhookEventV1, "notifier"),
    MessageType("api.called.v1", others.ApiCalledV1, "gateway"),
    *(
        MessageType(f"security.{kind}.v1", others.SecurityEventV1, "gateway")
        for kind in ("authentication_failed", "address_refused", "rate_limited")
    ),
    MessageType("sale.recorded.v1", others.SaleEventV1, "gateway"),
    MessageType("directory.company_changed.v1", directory.CompanyV1, "portal-api"),
    MessageType("directory.client_changed.v1", directory.ClientV1, "portal-api"),
    MessageType("directory.service_changed.v1", directory.ServiceV1, "portal-api"),
    MessageType("directory.assignment_changed.v1", directory.AssignmentV1, "portal-api"),
    MessageType("directory.ip_rule_changed.v1", directory.IpRuleV1, "portal-api"),
    MessageType("directory.snapshot_part.v1", directory.SnapshotPartV1, "portal-api"),
    MessageType(
        "directory.credential_changed.v1", directory.CredentialV1, "portal-api", command=True
    ),
    MessageType(
        "directory.credentials_part.v1", directory.CredentialsPartV1, "portal-api", command=True
    ),
    # any service may ask for a snapshot
    MessageType(
        "directory.snapshot_requested.v1", directory.SnapshotRequestedV1, "*", command=True
    ),
]

MESSAGES: dict[str, MessageType] = {message.name: message for message in _ALL}
