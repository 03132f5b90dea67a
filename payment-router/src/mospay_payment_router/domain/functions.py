"""Names of provider functions, and where a function may send a payment."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

NAME_LIMIT_BYTES = 63  # PostgreSQL cuts longer identifiers silently
ENQUIRY = "Status"  # `{route}Status` is the enquiry twin of a route
REFUND = "Refund"  # `{route}Refund` gives back, `{route}RefundStatus` asks about that
# Tries of a command whose function runs out of time, before that is held to be its own fault and
# not that of a busy database or of a lock it waited for.
TRIES = 3
_WORD = re.compile(r"^[A-Za-z0-9_]+$")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Key:
    """What the mapping table is keyed by: App ID, f000, f001, f002."""

    app_id: str
    microservice: str
    service: str
    route: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A function and its RESPONSE_ function, with those of the enquiry twin."""

    call: str
    response: str
    enquiry: str
    enquiry_response: str

    @property
    def names(self) -> tuple[str, str, str, str]:
        """All four, in the order the mapping table has them."""
        return self.call, self.response, self.enquiry, self.enquiry_response


def pair_named(app_id: str, microservice: str, word: str) -> Pair:
    """Return the default names for a route (or, in older installations, a service)."""
    stem = f"{app_id}_{microservice}_{word}"
    return Pair(stem, f"RESPONSE_{stem}", stem + ENQUIRY, f"RESPONSE_{stem}{ENQUIRY}")


def refund_names(call: str) -> tuple[str, str, str, str]:
    """Return the four names of the functions that give a payment of `call` back."""
    ask = call + REFUND
    return ask, f"RESPONSE_{ask}", ask + ENQUIRY, f"RESPONSE_{ask}{ENQUIRY}"


def choose_pair(key: Key, foreign: Collection[str]) -> tuple[Pair, str | None]:
    """Return the pair of a key and, when there can be none, why it is refused.

    The route's name holds; the service's name does where only that function exists among the
    `foreign` ones (not made from our template). Two candidates are refused, never guessed; so is a
    name PostgreSQL would cut.
    """
    by_route = pair_named(key.app_id, key.microservice, key.route)
    by_service = pair_named(key.app_id, key.microservice, key.service)
    pair = by_route
    if key.route != key.service and by_service.call in foreign:
        if by_route.call in foreign:
            return by_route, f"two candidates: {by_route.call} and {by_service.call}"
        pair = by_service
    if not _WORD.match(pair.call):
        return pair, "names hold letters, digits and underscores only"
    longest = max(len(name.encode()) for name in pair.names)
    if longest > NAME_LIMIT_BYTES:
        return pair, f"a function name would have {longest} bytes, the limit is {NAME_LIMIT_BYTES}"
    return pair, None


def place(url: str) -> str | None:
    """Return `host:port` of an http(s) URL, else None (no user info, no other scheme)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or parts.username or parts.password:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port or _PORTS[parts.scheme]}".lower()
