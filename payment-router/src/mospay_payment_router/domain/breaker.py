"""Circuit breakers: a connector that keeps failing is left alone for a while, then tried.

Nothing is lost by one that is open: attempts stay `ready`, provably unsent, and either wait or, at
`send_before`, end `expired` with zero calls.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """A breaker changed its state; `calls` and `failures` are those of its window."""

    lane: str
    state: str
    previous: str
    reason: str
    failures: int
    calls: int


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens. Seconds, counts of calls, a share of failures between 0 and 1."""

    window_seconds: float = 30.0
    least_calls: int = 20
    failing_share: float = 0.8
    open_seconds: float = 5.0
    longest_open_seconds: float = 60.0
    probes: int = 3


@dataclass
class Breaker:
    """One lane's breaker: closed → open → half_open → closed, or open again for twice as long."""

    lane: str
    rules: BreakerRules
    state: str = "closed"
    calls: deque[tuple[float, bool]] = field(default_factory=deque)
    opened_at: float = 0.0
    open_seconds: float = 0.0
    failures: int = 0

    def record(self, now: float, ok: bool) -> Change | None:
        """Take a call's end into account; return the change it makes, if any."""
        if self.state == "half_open":
            return self._close() if ok else self._open(now, "a trial call failed")
        self.calls.append((now, ok))
        self.failures += not ok
        while self.calls and self.calls[0][0] < now - self.rules.window_seconds:
            self.failures -= not self.calls.popleft()[1]
        enough = len(self.calls) >= self.rules.least_calls
        failing = self.failures >= self.rules.failing_share * len(self.calls)
        if self.state == "closed" and enough and failing and not ok:
            return self._open(now, f"{self.failures} of {len(self.calls)} calls failed")
        return None

    def try_again(self, now: float) -> Change | None:
        """Let a few calls through once it has been open long enough."""
        if self.state == "open" and now >= self.opened_at + self.open_seconds:
            return self._move("half_open", f"tried again after {self.open_seconds:g} s")
        return None

    @property
    def success_share(self) -> float:
        """Return the share of calls in the window that were answered; 1.0 when there were none."""
        if not self.calls:
            return 1.0
        return 1 - self.failures / len(self.calls)

    def _open(self, now: float, reason: str) -> Change:
        again = self.state == "half_open"
        longer = min(self.open_seconds * 2, self.rules.longest_open_seconds)
        self.opened_at, self.open_seconds = now, longer if again else self.rules.open_seconds
        return self._move("open", reason)

    def _close(self) -> Change:
        change = self._move("closed", "a trial call was answered")
        self.calls.clear()
        self.failures = 0
        return change

    def _move(self, state: str, reason: str) -> Change:
        previous, self.state = self.state, state
        return Change(self.lane, state, previous, reason, self.failures, len(self.calls))


class Breakers:
    """All breakers of a process. `cap(lane, calls or None)` sets how many calls a lane may have."""

    def __init__(self, rules: BreakerRules, cap: Callable[[str, int | None], None]) -> None:
        self._rules, self._cap = rules, cap
        self._breakers: dict[str, Breaker] = {}
        self.changes: deque[Change] = deque(maxlen=1_000)  # not told of yet

    def record(self, lane: str, now: float, ok: bool) -> None:
        """Take a call's end into account."""
        breaker = self._breakers.get(lane)
        if breaker is None:
            if ok:
                return  # a lane that never failed needs no breaker
            breaker = self._breakers[lane] = Breaker(lane, self._rules)
        self._take(breaker.record(now, ok))

    def try_again(self, now: float) -> None:
        """Half-open what has been open long enough."""
        for breaker in self._breakers.values():
            self._take(breaker.try_again(now))

    def state(self, lane: str) -> str:
        """Return a lane's state."""
        breaker = self._breakers.get(lane)
        return "closed" if breaker is None else breaker.state

    def success_share(self, lane: str) -> float:
        """Return the share of a lane's recent calls that were answered."""
        breaker = self._breakers.get(lane)
        return 1.0 if breaker is None else breaker.success_share

    def _take(self, change: Change | None) -> None:
        if change is None:
            return
        caps = {"open": 0, "half_open": self._rules.probes, "closed": None}
        self._cap(change.lane, caps[change.state])
        self.changes.append(change)
