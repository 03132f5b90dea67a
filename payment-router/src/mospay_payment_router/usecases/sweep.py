"""The minute's sweep: old secrets are erased, gauges of what waits for people are kept true."""

from mospay_shared.chassis.database import Database
from prometheus_client import Gauge

from mospay_payment_router.storage import payments, refunds

ATTENTION = Gauge("mospay_router_attention", "Payments a person must look at")
UNKNOWN = Gauge("mospay_router_unknown", "Payments that are unknown now")
UNKNOWN_AGE = Gauge("mospay_router_unknown_oldest_seconds", "Age of the oldest unknown payment")
REFUND_ATTENTION = Gauge("mospay_router_refund_attention", "Refunds a person must look at")
UNKNOWN_REFUNDS = Gauge("mospay_router_unknown_refunds", "Refunds that are unknown now")
UNKNOWN_REFUND_AGE = Gauge(
    "mospay_router_unknown_refunds_oldest_seconds", "Age of the oldest unknown refund"
)


async def sweep(database: Database, secrets_hours: float) -> int:
    """Erase f007 and f008 older than this, end state or not; return how many were erased."""
    async with database.transaction() as tx:
        erased = await payments.forget_secrets(tx, secrets_hours)
        attention, age, unknown = await payments.gauges(tx)
        refund_attention, refund_age, unknown_refunds = await refunds.gauges(tx)
    ATTENTION.set(attention)
    UNKNOWN.set(unknown)
    UNKNOWN_AGE.set(age)
    REFUND_ATTENTION.set(refund_attention)
    UNKNOWN_REFUNDS.set(unknown_refunds)
    UNKNOWN_REFUND_AGE.set(refund_age)
    return erased
