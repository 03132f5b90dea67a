"""Sealing of secrets at rest and on the wire: a data key each, wrapped by a configured key.

AES-256-GCM throughout; the id of what the secret belongs to is the additional authenticated data,
so a sealed value can't be moved to another row.
"""

import base64
import secrets

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mospay_shared.chassis.settings import decode_key
from mospay_shared.contracts.payments import SealedSecrets


class SealBroken(Exception):
    """A sealed value that this key, or this owner, does not open."""


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class Sealer:
    """Seals and opens with the keys of a setting `kid:base64[,kid:base64]`; the first one seals."""

    def __init__(self, keys: str) -> None:
        self._keys: dict[str, bytes] = {}
        for entry in keys.split(","):
            key_id, _, value = entry.strip().partition(":")
            self._keys[key_id] = decode_key(value)
        self._current = next(iter(self._keys))

    def seal(self, values: dict[str, str], owner: str) -> SealedSecrets:
        """Seal a few named strings for `owner` (the id they belong to)."""
        data_key, nonce, wrap_nonce = (secrets.token_bytes(n) for n in (32, 12, 12))
        wrapped = AESGCM(self._keys[self._current]).encrypt(wrap_nonce, data_key, owner.encode())
        sealed = AESGCM(data_key).encrypt(nonce, orjson.dumps(values), owner.encode())
        return SealedSecrets(
            key_id=self._current,
            wrapped_key=_encode(wrap_nonce + wrapped),
            nonce=_encode(nonce),
            ciphertext=_encode(sealed),
        )

    def open(self, sealed: SealedSecrets, owner: str) -> dict[str, str]:
        """Open what was sealed for `owner`; raises SealBroken."""
        try:
            wrapped = base64.b64decode(sealed.wrapped_key)
            data_key = AESGCM(self._keys[sealed.key_id]).decrypt(
                wrapped[:12], wrapped[12:], owner.encode()
            )
            plain = AESGCM(data_key).decrypt(
                base64.b64decode(sealed.nonce), base64.b64decode(sealed.ciphertext), owner.encode()
            )
        except (KeyError, ValueError, InvalidTag) as error:
            raise SealBroken(f"sealed under {sealed.key_id!r}, which does not open it") from error
        values: dict[str, str] = orjson.loads(plain)
        return values
