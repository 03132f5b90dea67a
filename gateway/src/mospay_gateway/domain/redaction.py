"""What the API log keeps of a body: never a secret, phones masked, nothing that is not JSON."""

import re
from collections.abc import Set
from functools import lru_cache
from typing import Any

import orjson

from mospay_gateway.domain.fields import mask_phone

BODY_LIMIT = 8_192  # characters kept; a larger body is left out
_SECRET = re.compile(
    r"pass|pwd|secret|token|authorization|api_?key|credential|signature|\bpin\b|cvv|cvc|card", re.I
)
_PHONE = re.compile(r"phone|msisdn|mobile", re.I)
REDACTED = "[redacted]"


def redact(raw: bytes, secret_codes: Set[str], masked_codes: Set[str]) -> str | None:
    """Return a JSON body without secrets and with masked phones; None for anything else."""
    if not raw or len(raw) > BODY_LIMIT:
        return None
    try:
        value = orjson.loads(raw)
        text = orjson.dumps(_clean(value, secret_codes, masked_codes)).decode()
    except (orjson.JSONDecodeError, RecursionError, TypeError):
        return None
    return text if len(text) <= BODY_LIMIT else None


def _clean(value: Any, secret: Set[str], masked: Set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _member(key, item, secret, masked) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, secret, masked) for item in value]
    return value


def _member(key: str, value: Any, secret: Set[str], masked: Set[str]) -> Any:
    kind = _kind(key)
    if key in secret or kind == "secret":
        return REDACTED
    if key in masked or kind == "phone":
        return mask_phone(value) if isinstance(value, str) else REDACTED
    return _clean(value, secret, masked)


@lru_cache(maxsize=2048)
def _kind(key: str) -> str:
    """Say what a member's name gives away about its value."""
    if _SECRET.search(key):
        return "secret"
    return "phone" if _PHONE.search(key) else "plain"
