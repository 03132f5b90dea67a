"""What is told of reconciliation, added up for the people who run the system."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import (
    Event,
    ReconciliationExceptionsV1,
    ReconciliationImportFinishedV1,
)

from mospay_reporter.domain.facts import BIGINT, Unstorable, storable
from mospay_reporter.storage import reconciliation
from mospay_reporter.storage.reconciliation import Key


async def record_exceptions(tx: Tx, events: Sequence[Event[ReconciliationExceptionsV1]]) -> None:
    """Count exceptions that were opened or resolved; raises FactError."""
    counts: Counter[Key] = Counter()
    for event in events:
        what = event.envelope.type.split(".")[1].removeprefix("exception_")
        body = event.data
        counts[_name(body.microservice), body.mode, what, _name(body.kind)] += body.count
    await _add(tx, counts)


async def record_imports(tx: Tx, events: Sequence[Event[ReconciliationImportFinishedV1]]) -> None:
    """Count imports that ended, and the lines they took in; raises FactError."""
    counts: Counter[Key] = Counter()
    for event in events:
        body = event.data
        name = _name(body.microservice)
        counts[name, body.mode, "imports", body.state] += 1
        counts[name, body.mode, "lines", body.state] += body.lines_accepted
    await _add(tx, counts)


async def still_open(tx: Tx) -> list[tuple[str, str, int]]:
    """Return mode, kind and how many exceptions are open, as far as was told."""
    return await reconciliation.still_open(tx)


def _name(text: str) -> str:
    return storable(text) or ""


async def _add(tx: Tx, counts: Counter[Key]) -> None:
    if any(count >= BIGINT for count in counts.values()):
        raise Unstorable("a count is beyond 64 bits")
    await reconciliation.add(tx, counts, dt.datetime.now(dt.UTC))
