"""Idempotency: the key header, the keyed fingerprint of a body, the keyed hash of a reference."""

import hmac
from typing import Any

import orjson

from mospay_gateway.domain.errors import InvalidKey

KEY_LIMIT = 255  # characters
# The same in the document: printable ASCII without spaces around it, and not the empty quotes.
KEY_PATTERN = r"^([!-~]|[!#-~][!-~]|[!-~][!#-~]|[!-~][ -~]{1,253}[!-~])$"


def read_key(header: str | None) -> str:
    """Return the Idempotency-Key, quoted or bare; raises InvalidKey."""
    if header is None:
        raise InvalidKey("Send an Idempotency-Key header: a fresh one for every new payment")
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key or len(key) > KEY_LIMIT or not key.isascii() or not key.isprintable():
        message = f"An Idempotency-Key has 1 to {KEY_LIMIT} printable ASCII characters"
        raise InvalidKey(message, "idempotency_key_invalid")
    return key


class Fingerprints:
    """Keyed hashes: whoever reads the table learns neither bodies nor references."""

    def __init__(self, pepper: bytes) -> None:
        self._body = hmac.digest(pepper, b"mospay/fingerprint/v1", "sha256")
        self._reference = hmac.digest(pepper, b"mospay/reference/v1", "sha256")
        self._phone = hmac.digest(pepper, b"mospay/phone/v1", "sha256")

    def of_body(self, body: dict[str, Any]) -> bytes:
        """Return the fingerprint of a parsed body; the caller leaves f007 and f008 out."""
        return hmac.digest(self._body, orjson.dumps(body, option=orjson.OPT_SORT_KEYS), "sha256")

    def of_phone(self, phone: str) -> bytes:
        """Return the hash under which one number's payments of a day are counted."""
        return hmac.digest(self._phone, phone.encode(), "sha256")

    def of_reference(self, app_id: str, mode: str, reference: str) -> bytes:
        """Return the hash under which (app_id, mode, f010) is unique for ever."""
        return hmac.digest(self._reference, f"{app_id}\0{mode}\0{reference}".encode(), "sha256")
