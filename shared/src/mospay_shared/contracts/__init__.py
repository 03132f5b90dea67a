"""Contracts between services: bodies, envelope, catalogue. No framework is imported here."""

from mospay_shared.contracts.directory import (
    AppV1,
    AssignmentV1,
    ClientV1,
    CompanyV1,
    CredentialsPartV1,
    CredentialV1,
    FieldDefinitionV1,
    LimitsV1,
    ServiceV1,
    SnapshotPartV1,
    SnapshotRequestedV1,
)
from mospay_shared.contracts.envelope import Contract, Envelope, Event, Outgoing, outgoing
from mospay_shared.contracts.others import (
    ApiCalledV1,
    LedgerEntryPostedV1,
    PostingV1,
    WebhookEventV1,
)
from mospay_shared.contracts.payments import (
    FINAL_STATUSES,
    PaymentCallbackV1,
    PaymentEventV1,
    PaymentStatus,
    ProcessPaymentV1,
    SealedSecrets,
)
from mospay_shared.contracts.registry import MESSAGES, MessageType

__all__ = [
    "FINAL_STATUSES",
    "MESSAGES",
    "ApiCalledV1",
    "AppV1",
    "AssignmentV1",
    "ClientV1",
    "CompanyV1",
    "Contract",
    "CredentialV1",
    "CredentialsPartV1",
    "Envelope",
    "Event",
    "FieldDefinitionV1",
    "LedgerEntryPostedV1",
    "LimitsV1",
    "MessageType",
    "Outgoing",
    "PaymentCallbackV1",
    "PaymentEventV1",
    "PaymentStatus",
    "PostingV1",
    "ProcessPaymentV1",
    "SealedSecrets",
    "ServiceV1",
    "SnapshotPartV1",
    "SnapshotRequestedV1",
    "WebhookEventV1",
    "outgoing",
]
