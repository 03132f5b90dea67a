"""Rate limits: what a subject has used of its minute, counted here and corrected from outside.

A window slides: what was used in the minute before counts by the share of it that still lies within
the last 60 s. Counting is a few dictionary look-ups, never a wait; other processes' counts arrive
by `Windows.correct`. Header fields: draft-ietf-httpapi-ratelimit-headers.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

WINDOW_SECONDS = 60
_NEVER = -2  # a minute that neither is nor precedes any other


class Window:
    """What one subject used this minute (`current`) and the minute before (`previous`).

    `own` is this process's part of `current`; `unsent` the part of it nobody else knows yet.
    """

    __slots__ = ("current", "minute", "name", "own", "previous", "unsent")

    def __init__(self, name: str) -> None:
        self.name, self.minute = name, _NEVER
        self.current = self.previous = self.own = self.unsent = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What a window's subject used in a minute since it was last told; 0 asks for the total."""

    window: Window
    minute: int
    used: int


class Held(NamedTuple):
    """A limit that a request was counted against: calls a minute, and the subject's window."""

    policy: str
    limit: int
    window: Window


class Windows:
    """The windows of one policy; when there are too many, the one that came first is forgotten."""

    def __init__(self, policy: str, capacity: int) -> None:
        self.policy, self._capacity = policy, capacity
        self._by_subject: dict[Hashable, Window] = {}
        self._changed: list[Window] = []
        self._late: list[Change] = []

    def __len__(self) -> int:
        return len(self._by_subject)

    def find(self, subject: Hashable, minute: int) -> Window:
        """Return a subject's window, moved on to this minute."""
        window = self._by_subject.get(subject)
        if window is None:
            if len(self._by_subject) >= self._capacity:
                del self._by_subject[next(iter(self._by_subject))]
            text = ":".join(subject) if isinstance(subject, tuple) else str(subject)
            window = self._by_subject[subject] = Window(f"{self.policy}:{text}")
        if minute > window.minute:
            self._roll(window, minute)
        return window

    def _roll(self, window: Window, minute: int) -> None:
        if window.unsent:
            self._late.append(Change(window, window.minute, window.unsent))
        elif window.minute < minute - 1:  # others may have used the minute before: ask
            self._late.append(Change(window, minute - 1, 0))
        window.previous = window.current if window.minute == minute - 1 else 0
        window.minute, window.current, window.own, window.unsent = minute, 0, 0, 0

    def count(self, window: Window) -> None:
        """Count one call."""
        if not window.unsent:
            self._changed.append(window)
        window.unsent += 1
        window.own += 1
        window.current += 1

    def take_changes(self, limit: int) -> list[Change]:
        """Return what nobody else knows yet, at most `limit` changes; they count as told."""
        late, self._late = self._late[:limit], self._late[limit:]
        room = limit - len(late)
        now, self._changed = self._changed[:room], self._changed[room:]
        changes = late + [Change(w, w.minute, w.unsent) for w in now if w.unsent]
        for window in now:
            window.unsent = 0
        return changes

    def put_back(self, changes: Sequence[Change]) -> None:
        """Take back changes that could not be told; what is older than a minute is let go."""
        for change in changes:
            window = change.window
            if not change.used:
                continue
            if change.minute == window.minute:
                if not window.unsent:
                    self._changed.append(window)
                window.unsent += change.used
            elif change.minute == window.minute - 1:
                self._late.append(change)

    @staticmethod
    def correct(change: Change, total: int) -> None:
        """Take over what all processes together used; never less than this one knows of itself."""
        window = change.window
        if change.minute == window.minute:
            window.current = max(total + window.unsent, window.own)
        elif change.minute == window.minute - 1:
            window.previous = max(total, window.previous)

    def forget(self, minute: int) -> int:
        """Drop windows that no longer count; return how many."""
        old = [s for s, w in self._by_subject.items() if w.minute < minute - 1 and not w.unsent]
        for subject in old:
            del self._by_subject[subject]
        return len(old)


def allows(limit: int, window: Window, elapsed: float) -> bool:
    """Say whether one more call fits, `elapsed` seconds into the window's minute."""
    used = window.current + window.previous * (1 - elapsed / WINDOW_SECONDS)
    return used + 1 <= limit


def retry_seconds(limit: int, window: Window, elapsed: float) -> int:
    """Return in how many whole seconds a call fits again if nobody calls meanwhile."""
    room = limit - 1
    if window.current <= room:  # the minute before must fade until the rest fits
        share = (room - window.current) / window.previous if window.previous else 1.0
        wait = WINDOW_SECONDS * (1 - share) - elapsed
    else:  # this minute must end and then fade in its turn
        wait = WINDOW_SECONDS - elapsed + WINDOW_SECONDS * (1 - room / window.current)
    return max(1, math.ceil(wait))


@lru_cache(maxsize=1024)
def policy_header(limits: tuple[tuple[str, int], ...]) -> bytes:
    """Return the value of `RateLimit-Policy` for policies and their calls a minute."""
    return ", ".join(
        f'"{policy}";q={limit};w={WINDOW_SECONDS}' for policy, limit in limits
    ).encode()


def limit_header(held: Sequence[Held], elapsed: float) -> bytes:
    """Return the value of `RateLimit`: calls left, and seconds until this minute ends."""
    left = WINDOW_SECONDS - int(elapsed)
    share = 1 - elapsed / WINDOW_SECONDS
    parts = []
    for policy, limit, window in held:
        rest = int(limit - window.current - window.previous * share)
        parts.append(f'"{policy}";r={rest if rest > 0 else 0};t={left}')
    return ", ".join(parts).encode()
