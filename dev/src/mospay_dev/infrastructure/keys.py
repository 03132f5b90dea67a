"""Passwords and keys of one installation, generated once and kept in a file for its owner."""

import base64
import secrets
from pathlib import Path

from mospay_dev.infrastructure.instances import new_password
from mospay_dev.infrastructure.processes import StateFile

_PASSWORDS = ("postgres", "rabbitmq", "redis", "owner", "app", "worker", "function")
_KEYS = (
    "portal_signing",
    "gateway_signing",
    "ledger_signing",
    "notifier_signing",
    "payment_secrets",
    "credential_pepper",
    "endpoint_secrets",
    "intent_secrets",
    "callback",
    "risk",
)


def new_keys() -> dict[str, str]:
    """Return fresh secrets for one installation: passwords, and 32-byte keys in base64."""
    passwords = {name: new_password() for name in _PASSWORDS}
    keys = {name: base64.b64encode(secrets.token_bytes(32)).decode() for name in _KEYS}
    return passwords | keys


def load_keys(folder: Path) -> dict[str, str]:
    """Return the secrets of the installation below `folder`, making those that don't exist yet."""
    file = StateFile(folder / "secrets.json")
    known = {k: str(v) for k, v in file.read().items()}
    merged = new_keys() | known
    if merged != known:
        file.write(merged)
    return merged
