"""Rate limits of requests: counted in memory, told to the other processes by a worker."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.contracts import ServiceV1

from mospay_gateway.domain.addresses import limit_subject
from mospay_gateway.domain.catalogue import ClientApp
from mospay_gateway.domain.errors import TooMany
from mospay_gateway.domain.limits import (
    WINDOW_SECONDS,
    Change,
    Held,
    Windows,
    allows,
    limit_header,
    policy_header,
    retry_seconds,
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Calls a minute where the directory names none: of a client, and of an address by path."""

    client: int
    address: int
    callbacks: int
    tokens: int


class Limiter:
    """Counts a request against each limit it falls under; raises TooMany before it is counted."""

    def __init__(self, rates: Rates, *, capacity: int) -> None:
        self._rates = rates
        self._clients = Windows("client", capacity)
        self._keys = Windows("key", capacity)
        self._services = Windows("service", capacity)
        self._addresses = Windows("ip", capacity)
        self._callbacks = Windows("callbacks", capacity)
        self._tokens = Windows("tokens", capacity)
        self._all = (
            self._clients, self._keys, self._services, self._addresses, self._callbacks,
            self._tokens,
        )  # fmt: skip
        self._next = 0

    def address(self, address: str | None, path: str) -> None:
        """Count a call of an address, of which nothing else is known yet."""
        if path.startswith(("/v1/callbacks/", "/webhooks/")):
            windows, limit = self._callbacks, self._rates.callbacks
        elif path == "/api/v1/auth/token":
            windows, limit = self._tokens, self._rates.tokens
        else:
            windows, limit = self._addresses, self._rates.address
        minute, elapsed = _instant()
        window = windows.find("unknown" if address is None else limit_subject(address), minute)
        if not allows(limit, window, elapsed):
            raise TooMany(windows.policy, limit, retry_seconds(limit, window, elapsed))
        windows.count(window)

    def caller(self, caller: ClientApp, held: list[Held]) -> None:
        """Count a call of a client and its credential; `held` gets what it is held against."""
        minute, elapsed = _instant()
        client = caller.client
        limit = client.rate_per_minute or self._rates.client
        window = self._clients.find((client.client_id, caller.mode), minute)
        held.append(Held("client", limit, window))
        if not allows(limit, window, elapsed):
            raise TooMany("client", limit, retry_seconds(limit, window, elapsed))
        if caller.key_rate_per_minute is not None:
            limit = caller.key_rate_per_minute
            key = self._keys.find(caller.credential_id, minute)
            held.append(Held("key", limit, key))
            if not allows(limit, key, elapsed):
                raise TooMany("key", limit, retry_seconds(limit, key, elapsed))
            self._keys.count(key)
        self._clients.count(window)

    def service(self, service: ServiceV1, mode: str, held: list[Held]) -> None:
        """Count a payment of a service, whoever's, where the service has a limit."""
        limit = service.rate_per_minute
        if limit is None:
            return
        minute, elapsed = _instant()
        window = self._services.find((service.service_id, mode), minute)
        held.append(Held("service", limit, window))
        if not allows(limit, window, elapsed):
            raise TooMany("service", limit, retry_seconds(limit, window, elapsed))
        self._services.count(window)

    def take_changes(self, limit: int) -> list[tuple[Windows, list[Change]]]:
        """Return what is to be told, about `limit` changes; each policy is first in its turn."""
        self._next = (self._next + 1) % len(self._all)
        taken = []
        for windows in self._all[self._next :] + self._all[: self._next]:
            changes = windows.take_changes(limit)
            limit -= len(changes)
            if changes:
                taken.append((windows, changes))
        return taken

    def forget(self) -> int:
        """Drop what no longer counts; return how many windows."""
        minute, _ = _instant()
        return sum(windows.forget(minute) for windows in self._all)


def headers(held: Sequence[Held]) -> list[tuple[bytes, bytes]]:
    """Return the header fields that tell a caller of its limits."""
    policies = tuple([(one.policy, one.limit) for one in held])
    return [
        (b"ratelimit-policy", policy_header(policies)),
        (b"ratelimit", limit_header(held, _instant()[1])),
    ]


def _instant() -> tuple[int, float]:
    """Return the minute it is, for every process the same, and the seconds gone of it."""
    minute, elapsed = divmod(time.time(), WINDOW_SECONDS)
    return int(minute), elapsed
