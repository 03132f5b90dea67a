"""Settings that every service has; a service adds its own below its prefix (`LEDGER_…`)."""

import base64
import ipaddress
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _split(value: object) -> object:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


CommaList = Annotated[list[str], NoDecode, BeforeValidator(_split)]
Networks = Annotated[
    list[ipaddress.IPv4Network | ipaddress.IPv6Network], NoDecode, BeforeValidator(_split)
]
ROLES = ("http", "consume", "relay", "work")


class ServiceSettings(BaseSettings):
    """Typed environment. Secrets have no default; every limit says its unit."""

    model_config = SettingsConfigDict(extra="ignore")

    database_url: SecretStr  # role subject to row-level security: requests of people and clients
    worker_database_url: SecretStr  # role that crosses tenants: consumers, relay, workers
    migration_database_url: SecretStr | None = None  # owner; read by `migrate` alone
    broker_url: SecretStr
    redis_url: SecretStr | None = None  # only what may vanish lives there
    http_host: str = "127.0.0.1"
    http_port: int = Field(ge=1, le=65_535)
    roles: CommaList = Field(default_factory=lambda: list(ROLES))
    log_level: str = "info"
    trusted_keys: CommaList = Field(default_factory=list)  # issuer=<base64 ed25519 public key>
    allow_private_networks: Networks = Field(default_factory=list)  # outbound calls may go there

    pool_size: int = Field(8, ge=2, le=16)  # connections of the worker role (≤ 20 a process in all)
    request_pool_size: int = Field(4, ge=1, le=8)  # connections of the request role
    body_limit_bytes: int = Field(256 * 1024, ge=1024)  # larger requests are refused with 413
    shutdown_seconds: float = Field(25, gt=0, le=120)  # a drain takes no longer
    inbox_retention_days: int = Field(90, ge=1)  # longer than any redelivery or redrive
    # a database away for longer: messages go back to the broker, whose patience with one that is
    # not acknowledged (consumer_timeout) is 30 minutes
    consumer_away_seconds: float = Field(60, gt=0, le=900)
    inbox_attempts: int = Field(12, ge=1, le=100)  # a message is dead after so many


def decode_key(value: str, length: int = 32) -> bytes:
    """Decode a base64 key and insist on its length in bytes; ValueError says what was wrong."""
    raw = base64.b64decode(value, validate=True)
    if len(raw) != length:
        raise ValueError(f"a key must be {length} bytes in base64, this one has {len(raw)}")
    return raw
