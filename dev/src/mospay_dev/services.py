"""The six services as the stack sees them: package, prefix, database, and who talks to whom."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service by name; `database` names its database and the stem of its roles."""

    name: str
    package: str
    prefix: str
    database: str

    @property
    def folder(self) -> Path:
        """Where its sources are."""
        return ROOT / self.name


SERVICES = {
    spec.name: spec
    for spec in (
        ServiceSpec("portal-api", "mospay_portal_api", "PORTAL_", "mospay_portal"),
        ServiceSpec("gateway", "mospay_gateway", "GATEWAY_", "mospay_gateway"),
        ServiceSpec("payment-router", "mospay_payment_router", "ROUTER_", "mospay_router"),
        ServiceSpec("ledger", "mospay_ledger", "LEDGER_", "mospay_ledger"),
        ServiceSpec("notifier", "mospay_notifier", "NOTIFIER_", "mospay_notifier"),
        ServiceSpec("reporter", "mospay_reporter", "REPORTER_", "mospay_reporter"),
    )
}
