"""Generated credentials: what is stored of them, and what is shown once."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A generated credential: `lookup` and `secret_hash` are stored, `shown` is shown this once."""

    lookup: str
    secret_hash: str
    shown: Mapping[str, str]


def api_password(app_id: str, pepper: bytes) -> NewCredential:
    """Return a user name and a 192-bit password; stored as HMAC-SHA256 under the shared pepper."""
    username, password = f"{app_id}_{secrets.token_hex(4)}", secrets.token_urlsafe(24)
    stored = hmac.digest(pepper, password.encode(), "sha256").hex()
    return NewCredential(username, stored, {"username": username, "password": password})


def api_key(mode: str) -> NewCredential:
    """Return a key `mp_<mode>_<prefix>_<secret>`; the prefix is looked up, the secret hashed."""
    prefix = secrets.token_hex(6)
    secret = base64.b32encode(secrets.token_bytes(25)).decode().lower()
    stored = hashlib.sha256(secret.encode()).hexdigest()
    return NewCredential(prefix, stored, {"api_key": f"mp_{mode}_{prefix}_{secret}"})


def generated_password() -> str:
    """Return a password for a person: 24 characters, 144 bits."""
    return secrets.token_urlsafe(18)
