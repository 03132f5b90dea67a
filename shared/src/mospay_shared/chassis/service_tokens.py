"""Service-to-service trust: short-lived EdDSA JWTs, verified against a configured list of keys.

Claims: `iss` who calls, `aud` whom, `scope`, `act` the person behind it, and the tenant
(`client_id`, `customer_id`, `mode`) that row-level security is set from, never from a query.
"""

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fastapi import Request

from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.settings import decode_key

LIFETIME_SECONDS = 60
LEEWAY_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, for whom. `operator` may see every tenant; else `client_ids` bounds the view."""

    issuer: str
    scopes: frozenset[str]
    actor: str | None
    client_id: str | None
    customer_id: str | None
    mode: str | None

    @property
    def operator(self) -> bool:
        """Say whether the token speaks for the operator (no tenant in its claims)."""
        return self.client_id is None and self.customer_id is None


class TokenSigner:
    """Makes service tokens of one issuer."""

    def __init__(self, issuer: str, seed_base64: str) -> None:
        self._issuer = issuer
        self._key = Ed25519PrivateKey.from_private_bytes(decode_key(seed_base64))

    def token(
        self,
        audience: str,
        scope: str,
        *,
        actor: str | None = None,
        client_id: str | None = None,
        customer_id: str | None = None,
        mode: str | None = None,
    ) -> str:
        """Return a token for one service, valid for a minute."""
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": audience,
            "scope": scope,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        }
        claims |= {
            key: value
            for key, value in (
                ("act", actor),
                ("client_id", client_id),
                ("customer_id", customer_id),
                ("mode", mode),
            )
            if value is not None
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._issuer})


class TokenVerifier:
    """Verifies service tokens for one audience against `issuer=<base64 key>` entries."""

    def __init__(self, audience: str, trusted: Sequence[str]) -> None:
        self._audience = audience
        self._keys: dict[str, Ed25519PublicKey] = {}
        for entry in trusted:
            issuer, _, key = entry.partition("=")
            self._keys[issuer] = Ed25519PublicKey.from_public_bytes(decode_key(key))

    def verify(self, token: str) -> Caller:
        """Return the caller a token speaks for; raises Problem 401."""
        try:
            issuer = jwt.get_unverified_header(token).get("kid", "")
            claims = jwt.decode(
                token,
                self._keys[issuer],
                algorithms=["EdDSA"],
                audience=self._audience,
                issuer=issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss"]},
            )
        except (jwt.PyJWTError, KeyError) as error:
            raise Problem(
                401, "invalid_token", "The service token is missing, expired or not trusted here"
            ) from error
        return Caller(
            issuer=issuer,
            scopes=frozenset(str(claims.get("scope", "")).split()),
            actor=claims.get("act"),
            client_id=claims.get("client_id"),
            customer_id=claims.get("customer_id"),
            mode=claims.get("mode"),
        )

    def needs(self, scope: str) -> Callable[[Request], Caller]:
        """Return a FastAPI dependency that lets in callers who have `scope`."""

        def dependency(request: Request) -> Caller:
            kind, _, token = request.headers.get("authorization", "").partition(" ")
            caller = self.verify(token if kind.lower() == "bearer" else "")
            if scope not in caller.scopes:
                raise Problem(403, "missing_scope", f"The token lacks the scope {scope}")
            return caller

        return dependency


def public_key(seed_base64: str) -> str:
    """Return the base64 public key of a signing seed, as trust lists want it."""
    key = Ed25519PrivateKey.from_private_bytes(decode_key(seed_base64))
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()
