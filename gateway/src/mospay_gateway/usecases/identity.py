"""Who calls: API keys, Basic and our own tokens, each re-checked in the directory as it is now."""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from mospay_shared.chassis.settings import decode_key
from mospay_shared.ids import new_id

from mospay_gateway.domain.catalogue import Catalogue, ClientApp
from mospay_gateway.domain.errors import NotAuthenticated

ISSUER, AUDIENCE = "mospay-gateway", "mospay-api"
_NEEDED = "Send X-API-Key, or Authorization with Basic or Bearer"


@dataclass(frozen=True, slots=True)
class _PublicKey:
    """A key that verifies our tokens; `x` and the thumbprint `kid` as RFC 8037 and 7638 say."""

    key: Ed25519PublicKey
    x: str
    kid: str


def _public_key(key: Ed25519PublicKey) -> _PublicKey:
    x = base64.urlsafe_b64encode(key.public_bytes_raw()).rstrip(b"=").decode()
    # RFC 7638: the thumbprint over the required members, in order
    digest = hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest()
    return _PublicKey(key, x, base64.urlsafe_b64encode(digest).rstrip(b"=").decode())


def offered_credential(api_key: str | None, authorization: str | None) -> tuple[str, str] | None:
    """Return kind and lookup of the key or Basic credential a request offers, if it looks so."""
    kind, _, value = (authorization or "").partition(" ")
    value = value.strip()
    key = api_key or (value if kind.lower() == "bearer" else "")
    if key:
        parts = key.split("_", 3)
        return ("api_key", parts[2]) if len(parts) == 4 and parts[0] == "mp" else None
    try:
        username, colon, _ = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return ("api_password", username) if colon and kind.lower() == "basic" else None


class Identity:
    """Authenticates client apps and issues their tokens (EdDSA).

    Tokens are signed with `signing_key`; `previous_keys` verify those made before a rotation.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        signing_key: str,
        previous_keys: Sequence[str] = (),
        pepper: bytes,
        token_seconds: int,
    ) -> None:
        self._catalogue, self._pepper = catalogue, pepper
        self.token_seconds = token_seconds
        made = [
            Ed25519PrivateKey.from_private_bytes(decode_key(key))
            for key in (signing_key, *previous_keys)
        ]
        public = [_public_key(key.public_key()) for key in made]
        self._key, self._kid = made[0], public[0].kid
        self._public = {one.kid: one for one in public}

    def jwks(self) -> dict[str, Any]:
        """Return the key set that verifies our tokens (RFC 7517), the signing key first."""
        keys = [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": one.x,
                "kid": one.kid,
                "use": "sig",
                "alg": "EdDSA",
            }
            for one in self._public.values()
        ]
        return {"keys": keys}

    def authenticate(
        self, *, api_key: str | None, authorization: str | None, app_id: str | None
    ) -> ClientApp:
        """Return who calls; raises NotAuthenticated or NotAllowed.

        `app_id` is the App-ID header: when it is there, it must be the credential's own.
        """
        now = dt.datetime.now(dt.UTC)
        if api_key is not None:
            caller = self._catalogue.by_api_key(api_key, now)
        else:
            kind, _, value = (authorization or "").partition(" ")
            match kind.lower():
                case "basic":
                    return self.by_basic(value, app_id)
                case "bearer" if value.strip().startswith("mp_"):
                    caller = self._catalogue.by_api_key(value.strip(), now)
                case "bearer":
                    caller = self._by_token(value.strip(), now)
                case _:
                    raise NotAuthenticated(_NEEDED)
        if app_id is not None and app_id != caller.app_id:
            raise NotAuthenticated("The App-ID header is not the one of these credentials")
        return caller

    def by_basic(self, value: str, app_id: str | None) -> ClientApp:
        """Return who a Basic credential speaks for."""
        try:
            text = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise NotAuthenticated("Basic credentials are base64 of username:password") from error
        username, colon, password = text.partition(":")
        if not colon:
            raise NotAuthenticated("Basic credentials are base64 of username:password")
        digest = hmac.digest(self._pepper, password.encode(), "sha256").hex()
        return self._catalogue.by_password(username, digest, app_id, dt.datetime.now(dt.UTC))

    def _by_token(self, token: str, now: dt.datetime) -> ClientApp:
        try:
            kid = jwt.get_unverified_header(token).get("kid", self._kid)
            if kid not in self._public:
                raise NotAuthenticated("The token is not one of ours")
            claims = jwt.decode(
                token,
                self._public[kid].key,
                algorithms=["EdDSA"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["exp", "iat", "aud", "iss", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise NotAuthenticated("The token has expired", "token_expired") from error
        except jwt.PyJWTError as error:
            raise NotAuthenticated("The token is not one of ours") from error
        return self._catalogue.by_claims(
            str(claims["sub"]),
            str(claims.get("app_id")),
            str(claims.get("mode")),
            str(claims.get("cid")),
            now,
        )

    def token(self, caller: ClientApp) -> str:
        """Return a token for a caller; what it claims is re-checked at every use."""
        now = int(time.time())
        offers = self._catalogue.offers(caller.client)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": caller.client_id,
            "app_id": caller.app_id,
            "mode": caller.mode,
            "services": sorted(
                f"{o.service.microservice}/{o.service.name}" for o in offers if o.active
            ),
            "cid": caller.credential_id,
            "jti": new_id("tok"),
            "iat": now,
            "exp": now + self.token_seconds,
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._kid})
