"""When to ask again: back-off with jitter, without an end but with an alarm."""

import random
from collections.abc import Sequence

JITTER = 0.2  # of the delay, so that a provider's outage does not end in a thundering herd


def delay_seconds(schedule: Sequence[float], done: int) -> float:
    """Return seconds until the next enquiry after `done` of them; the last step repeats."""
    base = schedule[min(done, len(schedule) - 1)]
    return base * (1 + random.uniform(-JITTER, JITTER))
