"""In-flight slots: how many calls may be under way in all, per client and per provider."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Slots:
    """Counts calls in flight; whoever takes a slot gives it back in `finally`.

    A provider is named by its lane, mode and connector: a test that fails never stops what is live.
    `caps` are lanes with a cap of their own: 0 while a breaker is open, a few while it is tried.
    `waiting` are clients with ready attempts in the table: their newcomers queue behind those.
    `total`, `per_client` and `per_provider` are numbers of calls. The caps keep one client's flood
    or one slow provider from holding what the others need.
    """

    total: int
    per_client: int
    per_provider: int
    used: int = 0
    waiting: set[str] = field(default_factory=set)
    clients: Counter[str] = field(default_factory=Counter)
    providers: Counter[str] = field(default_factory=Counter)
    caps: dict[str, int] = field(default_factory=dict)

    @property
    def free(self) -> int:
        """How many calls may start now, leaving the caps aside."""
        return self.total - self.used

    def take(self, client: str, provider: str) -> bool:
        """Take a slot if one is free for this client and provider."""
        if (
            self.used >= self.total
            or self.clients[client] >= self.per_client
            or self.providers[provider] >= self.caps.get(provider, self.per_provider)
        ):
            return False
        self.used += 1
        self.clients[client] += 1
        self.providers[provider] += 1
        return True

    def cap(self, provider: str, calls: int | None) -> None:
        """Give a provider a cap of its own, or (None) the general one back."""
        self.caps.pop(provider, None)
        if calls is not None:
            self.caps[provider] = calls

    def give_back(self, client: str, provider: str) -> None:
        """Return a slot that was taken."""
        assert self.used > 0 and self.clients[client] > 0 and self.providers[provider] > 0
        self.used -= 1
        for counter, key in ((self.clients, client), (self.providers, provider)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def full_clients(self) -> list[str]:
        """Clients that may not start another call now."""
        return [c for c, n in self.clients.items() if n >= self.per_client]

    def full_providers(self) -> list[str]:
        """Providers that may not be called again now."""
        full = {p for p, n in self.providers.items() if n >= self.per_provider}
        return [*full.difference(self.caps)] + [
            p for p, cap in self.caps.items() if self.providers[p] >= cap
        ]
