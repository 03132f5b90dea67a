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
    "payment_secrets",
    "credential_pepper",
    "endpoint_secrets",
    "callback",
)


def load_keys(folder: Path) -> dict[str, str]:
    """Return this installation's secrets, making those that don't exist yet."""
    file = StateFile(folder / "secrets.json")
    known = {k: str(v) for k, v in file.read().items()}
    fresh = {name: new_password() for name in _PASSWORDS if name not in known}
    fresh |= {
        name: base64.b64encode(secrets.token_bytes(32)).decode()
        for name in _KEYS
        if name not in known
    }
    if fresh:
        file.write(known | fresh)
    return known | fresh
