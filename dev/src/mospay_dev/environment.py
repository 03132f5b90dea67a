"""The complete environment of every service on one stack: the contract of their settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mospay_shared.chassis.service_tokens import public_key

from mospay_dev.infrastructure.databases import database_url
from mospay_dev.services import SERVICES, ServiceSpec


@dataclass(frozen=True)
class Backing:
    """Where databases, broker and cache are, which keys hold, and which port each service has.

    `databases` maps a service to its database's name where it differs from the usual one (tests).
    """

    postgres_url: str
    broker_url: str
    redis_url: str
    keys: Mapping[str, str]
    ports: Mapping[str, int]
    databases: Mapping[str, str] = field(default_factory=dict)

    def url(self, service: str) -> str:
        """Return a service's HTTP address."""
        return f"http://127.0.0.1:{self.ports[service]}"


def service_environment(service: str, backing: Backing) -> dict[str, str]:
    """Return every variable a service reads, secrets included."""
    spec, keys = SERVICES[service], backing.keys
    name = backing.databases.get(service, spec.database)

    def url(role: str, password: str) -> str:
        return database_url(backing.postgres_url, name, f"{spec.database}_{role}", keys[password])

    common = {
        "DATABASE_URL": url("app", "app"),
        "WORKER_DATABASE_URL": url("worker", "worker"),
        "MIGRATION_DATABASE_URL": url("owner", "owner"),
        "BROKER_URL": backing.broker_url,
        "REDIS_URL": backing.redis_url,
        "HTTP_PORT": str(backing.ports[service]),
        "TRUSTED_KEYS": (
            f"portal-api={public_key(keys['portal_signing'])},"
            f"gateway={public_key(keys['gateway_signing'])},"
            f"ledger={public_key(keys['ledger_signing'])},"
            f"notifier={public_key(keys['notifier_signing'])}"
        ),
        "ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8",  # the demo's provider and receiver live here
    }
    own = _own_variables(spec, backing)
    if service == "payment-router":
        own["FUNCTION_DATABASE_URL"] = url("fn", "function")
    return {spec.prefix + key: value for key, value in (common | own).items()}


def _own_variables(spec: ServiceSpec, backing: Backing) -> dict[str, str]:
    keys = backing.keys
    payment_secrets = f"k1:{keys['payment_secrets']}"
    simulator = f"127.0.0.1:{backing.ports['simulator']}"
    match spec.name:
        case "gateway":
            return {
                "SIGNING_KEY": keys["gateway_signing"],
                "SECRETS_KEY": payment_secrets,
                "CREDENTIAL_PEPPER": keys["credential_pepper"],
                "ROUTER_URL": backing.url("payment-router"),
                "REPORTER_URL": backing.url("reporter"),
                "LEDGER_URL": backing.url("ledger"),
            }
        case "payment-router":
            return {
                "SECRETS_KEY": payment_secrets,
                "RISK_KEY": keys["risk"],
                "ALLOWED_HOSTS": simulator,
                "CALLBACK_URL": backing.url("gateway"),
                "CALLBACK_SECRET_SIMULATOR": keys["callback"],
            }
        case "ledger":
            return {
                "SIGNING_KEY": keys["ledger_signing"],
                "SECRETS_KEY": f"k1:{keys['intent_secrets']}",
                "GATEWAY_URL": backing.url("gateway"),
            }
        case "notifier":
            return {
                "SECRETS_KEY": f"k1:{keys['endpoint_secrets']}",
                "SIGNING_KEY": keys["notifier_signing"],
                "LEDGER_URL": backing.url("ledger"),
                "PORTAL_URL": backing.url("portal-api"),
                "PUBLIC_URL": backing.url("portal-api"),
            }
        case "portal-api":
            urls = {
                f"{SERVICES[name].prefix}URL": backing.url(name)
                for name in SERVICES
                if name != "portal-api"
            }
            return {
                "SIGNING_KEY": keys["portal_signing"],
                "CREDENTIAL_PEPPER": keys["credential_pepper"],
                "PUBLIC_URL": backing.url("portal-api"),
                **urls,
            }
    return {}
