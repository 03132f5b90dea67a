"""Messages into the reporter; its queues are declared here."""

import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Handler, Permanent, Subscription
from mospay_shared.contracts import MESSAGES, Event, PaymentEventV1, RefundEventV1, SecurityEventV1
from prometheus_client import Histogram

from mospay_reporter.domain.facts import FactError
from mospay_reporter.usecases import reconciliation, recording

LAG = Histogram(
    "mospay_reporter_lag_seconds",
    "Age of a batch's oldest event when it was stored",
    ["queue"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600, 86_400),
)
PAYMENT_TYPES = tuple(name for name, m in MESSAGES.items() if m.model is PaymentEventV1)
REFUND_TYPES = tuple(name for name, m in MESSAGES.items() if m.model is RefundEventV1)
SECURITY_TYPES = tuple(name for name, m in MESSAGES.items() if m.model is SecurityEventV1)
RISK_TYPES = ("payment.risk_assessed.v1",)
HEALTH_TYPES = ("provider.health_changed.v1",)
SALE_TYPES = ("sale.recorded.v1",)
ENTRY_TYPES = ("ledger.entry_posted.v1",)
EXCEPTION_TYPES = ("reconciliation.exception_opened.v1", "reconciliation.exception_resolved.v1")
IMPORT_TYPES = ("reconciliation.import_finished.v1",)
CALL_TYPES = ("api.called.v1",)
WEBHOOK_TYPES = ("webhook.delivered.v1", "webhook.failed.v1")


def subscriptions(*, linger_seconds: float, limit: int) -> list[Subscription]:
    """Return what the reporter listens to. Types of a kind share a handler, so a batch is one."""

    def subscription(name: str, handlers: dict[str, Handler]) -> Subscription:
        queue = QueueSpec(name, events=tuple(handlers))
        return Subscription(
            queue, handlers, linger_seconds=linger_seconds, limit=limit, ignore_unknown=True
        )

    payments = _handler("reporter.payments", recording.record_payments)
    entries = _handler("reporter.ledger", recording.record_entries)
    calls = _handler("reporter.api", recording.record_calls)
    webhooks = _handler("reporter.api", recording.record_webhooks)
    refunds = _handler("reporter.refunds", recording.record_refunds)
    sales = _handler("reporter.sales", recording.record_sales)
    security = _handler("reporter.events", recording.record_security)
    risk = _handler("reporter.events", recording.record_risk)
    health = _handler("reporter.events", recording.record_health)
    exceptions = _handler("reporter.reconciliation", reconciliation.record_exceptions)
    imports = _handler("reporter.reconciliation", reconciliation.record_imports)
    return [
        subscription("reporter.payments", dict.fromkeys(PAYMENT_TYPES, payments)),
        subscription("reporter.ledger", dict.fromkeys(ENTRY_TYPES, entries)),
        subscription("reporter.refunds", dict.fromkeys(REFUND_TYPES, refunds)),
        subscription("reporter.sales", dict.fromkeys(SALE_TYPES, sales)),
        subscription(
            "reporter.reconciliation",
            dict.fromkeys(EXCEPTION_TYPES, exceptions) | dict.fromkeys(IMPORT_TYPES, imports),
        ),
        subscription(
            "reporter.events",
            dict.fromkeys(SECURITY_TYPES, security)
            | dict.fromkeys(HEALTH_TYPES, health)
            | dict.fromkeys(RISK_TYPES, risk),
        ),
        subscription(
            "reporter.api",
            dict.fromkeys(CALL_TYPES, calls) | dict.fromkeys(WEBHOOK_TYPES, webhooks),
        ),
    ]


def _handler(queue: str, record: Callable[[Tx, Sequence[Event[Any]]], Awaitable[None]]) -> Handler:
    async def on_events(tx: Tx, events: Sequence[Event[Any]]) -> None:
        if not events:
            return
        try:
            await record(tx, events)
        except FactError as error:
            raise Permanent(f"{error.code}: {error}") from error
        oldest = min(_aware(event.envelope.time) for event in events)
        tx.after_commit(lambda: LAG.labels(queue).observe(_age_seconds(oldest)))

    return on_events


def _aware(time: dt.datetime) -> dt.datetime:
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _age_seconds(time: dt.datetime) -> float:
    return max(0.0, (dt.datetime.now(dt.UTC) - time).total_seconds())
