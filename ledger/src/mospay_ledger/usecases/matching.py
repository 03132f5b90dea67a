"""Matching a provider's lines with the books: by reference, then by amount and time; the rest is
an exception. Every batch is one transaction under the stream's lease; a run that dies is begun
again and finds what is left to do.
"""

import asyncio
import datetime as dt
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import ReconciliationExceptionsV1, outgoing
from mospay_shared.contracts.reconciliation import SHOWN_LIMIT
from mospay_shared.ids import new_id
from prometheus_client import Counter

from mospay_ledger.domain.reconciliation import NotAllowed, taken_back
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import exceptions, matching, reads
from mospay_ledger.storage.matching import Batch, Matched, Place, Stream
from mospay_ledger.usecases import importing, posting

log = structlog.get_logger()
OPENED = Counter("mospay_ledger_exceptions_opened", "Exceptions opened", ["kind", "mode"])
RESOLVED = Counter(
    "mospay_ledger_exceptions_resolved", "Exceptions resolved", ["kind", "resolution", "mode"]
)
MATCHED = Counter("mospay_ledger_lines_matched", "Lines of statements matched", ["by"])
ROUNDS = 20  # looks at one batch for references that several entries share
FIRST: Place = ("", 0)


class LostLease(Exception):
    """Another worker has the stream by now: this one was silent for too long."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When lines match and how long people have."""

    batch_lines: int
    lease_seconds: float
    window: dt.timedelta
    grace: dt.timedelta
    due: Mapping[str, dt.timedelta] = field(default_factory=dict)  # by kind of exception
    due_else: dt.timedelta = dt.timedelta(hours=48)
    nightly_hour: int = 2


def rules_of(settings: LedgerSettings) -> Rules:
    """Return when lines match and how long people have, as the settings say."""
    return Rules(
        batch_lines=settings.statement_batch_lines,
        lease_seconds=settings.statement_lease_seconds,
        window=dt.timedelta(hours=settings.match_window_hours),
        grace=dt.timedelta(hours=settings.match_grace_hours),
        due={"missing_there": dt.timedelta(hours=settings.exception_urgent_hours)},
        due_else=dt.timedelta(hours=settings.exception_hours),
        nightly_hour=settings.nightly_hour,
    )


async def work_off(database: Database, relay: Relay, rules: Rules) -> int:
    """Match the lines of one provider and mode that has work; 0 when none has."""
    token = new_id("run")
    async with database.transaction() as tx:
        stream = await matching.claim(tx, token, rules.lease_seconds, rules.nightly_hour)
    if stream is None:
        return 0
    try:
        await Run(database, relay, rules, stream).all()
    except BaseException:
        # Shielded, as a cancelled worker should not make the next one wait for the lease.
        await asyncio.shield(_let_go(database, stream))
        raise
    return 1


async def _let_go(database: Database, stream: Stream) -> None:
    async with database.transaction() as tx:
        await matching.release(tx, stream)


async def ask(tx: Tx, microservice: str, mode: str, as_of: dt.datetime | None) -> None:
    """Ask for a match by hand; another now than the clock's is for test mode. Raises NotAllowed."""
    if as_of is not None and mode != "test":
        raise NotAllowed("as_of", "is for test mode alone")
    await matching.ask(tx, microservice, mode, as_of)


async def waiting(tx: Tx) -> list[asyncpg.Record]:
    """Return how many exceptions are open and how many overdue, by mode and kind."""
    return await exceptions.waiting(tx)


class Run:
    """One run over a stream."""

    def __init__(self, database: Database, relay: Relay, rules: Rules, stream: Stream) -> None:
        self._database, self._relay, self._rules, self._stream = database, relay, rules, stream
        self._id = stream.token
        self._imports: list[str] = []
        self._now = stream.as_of or dt.datetime.now(dt.UTC)

    async def all(self) -> None:
        """Do everything that is to do."""
        async with self._transaction() as tx:
            self._imports = await matching.begin(tx, self._stream)
        if len(self._imports) == 1:
            self._id = self._imports[0]
        await self.gather()
        for state in ("open", "missing_here"):
            await self.match(state, by_amount=False)
        await self.differing()
        await self.duplicates()
        for state in ("open", "missing_here"):
            await self.match(state, by_amount=True)
        await self.missing_here()
        await self.missing_there()
        for import_id in self._imports:
            await self.finish(import_id)
        async with self._transaction() as tx:
            await matching.end(tx, self._stream)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Tx]:
        async with self._database.transaction() as tx:
            if not await matching.hold(tx, self._stream, self._rules.lease_seconds):
                raise LostLease(f"{self._stream.microservice} {self._stream.mode}")
            yield tx

    async def gather(self) -> None:
        """Read what the journal put on the provider's clearing accounts since the last run."""
        async with self._transaction() as tx:
            accounts = await matching.clearing_accounts(tx, self._stream)
        limit = self._rules.batch_lines
        for account in accounts:
            while True:
                async with self._transaction() as tx:
                    if await matching.gather(tx, self._stream, account, limit) < limit:
                        break
        async with self._transaction() as tx:
            withdrawn = await matching.withdraw(tx, self._stream)
            if withdrawn:
                await self._close_late(tx, [], withdrawn)

    async def _next(self, tx: Tx, state: str, after: Place) -> Batch | None:
        limit = self._rules.batch_lines
        return await matching.batch(tx, self._stream, state, self._imports, after, limit)

    async def match(self, state: str, *, by_amount: bool) -> None:
        """Match the lines in a state; those found late close their exceptions."""
        after: Place = FIRST
        while True:
            async with self._transaction() as tx:
                batch = await self._next(tx, state, after)
                if batch is None:
                    return
                for _ in range(ROUNDS):
                    found = await self._round(tx, batch, by_amount)
                    if not found.lost or not found.lines:
                        break
            after = batch.until

    async def _round(self, tx: Tx, batch: Batch, by_amount: bool) -> Matched:
        if by_amount:
            found = await matching.match_by_amount(tx, self._stream, batch, self._rules.window)
        else:
            found = await matching.match_exact(tx, self._stream, batch)
        late = found.lines if batch.state == "missing_here" else []
        if late or found.late_entries:
            await self._close_late(tx, late, found.late_entries)
        count, by = len(found.lines), "amount" if by_amount else "reference"
        tx.after_commit(lambda: MATCHED.labels(by).inc(count))
        return found

    async def _close_late(self, tx: Tx, lines: Sequence[Place], entries: Sequence[str]) -> None:
        """Resolve what the match explains; what a resolution posted meanwhile is taken back."""
        rows = await exceptions.late(tx, lines, entries)
        ids = [row["id"] for row in rows]
        if not ids:
            return
        closed = await exceptions.close_matched(tx, ids)
        undo = [
            reads.rebuilt(found)
            for entry_id in await exceptions.posted(tx, ids)
            if (found := await reads.entry(tx, entry_id)) is not None
        ]
        made = await posting.post_entries(tx, taken_back(undo, "matched after all", self._now))
        await exceptions.act(tx, ids, "matched", "matcher", None, [entry.id for entry in made])
        if made:
            log.warning("resolution_taken_back", exceptions=len(ids), entries=len(made))
        await self._tell("resolved", tx, closed, "matched")

    async def differing(self) -> None:
        """Open an exception for each reference whose amount or currency is another."""
        after: Place = FIRST
        while True:
            async with self._transaction() as tx:
                batch = await self._next(tx, "open", after)
                if batch is None:
                    return
                rows = await matching.find_differing(tx, self._stream, batch)
                await self._open(tx, rows)
                late = [row["entry_id"] for row in rows if row["was"] == "missing_there"]
                if late:
                    await self._close_late(tx, [], late)
            after = batch.until

    async def duplicates(self) -> None:
        """Open an exception for each line whose entry another line has."""
        after: Place = FIRST
        while True:
            async with self._transaction() as tx:
                batch = await self._next(tx, "open", after)
                if batch is None:
                    return
                await self._open(tx, await matching.find_duplicates(tx, self._stream, batch))
            after = batch.until

    async def missing_here(self) -> None:
        """Open an exception for each line that is left."""
        while True:
            async with self._transaction() as tx:
                batch = await self._next(tx, "open", FIRST)
                if batch is None:
                    return
                await self._open(tx, await matching.find_missing_here(tx, self._stream, batch))

    async def missing_there(self) -> None:
        """Open an exception for each entry that a statement should name and does not."""
        limit, grace = self._rules.batch_lines, self._rules.grace
        while True:
            async with self._transaction() as tx:
                rows = await matching.find_missing_there(tx, self._stream, self._now, grace, limit)
                await self._open(tx, rows)
            if len(rows) < limit:
                return

    async def finish(self, import_id: str) -> None:
        """End an import: what the provider took as fees waits for a person, the rest is told."""
        async with self._transaction() as tx:
            ended = await matching.finish(tx, import_id)
            if ended is None:
                return
            row, matched, found = ended
            charged = await matching.fees(tx, import_id)
            await self._open(
                tx,
                [
                    {
                        "kind": "provider_fee",
                        "currency": fee["currency"],
                        "amount_minor": -int(fee["fee_minor"]),
                        "expected_currency": None,
                        "expected_minor": 0,
                        "import_id": import_id,
                        "line_no": None,
                        "entry_id": None,
                        "reference": None,
                        "payment_id": None,
                        "occurred_at": fee["occurred_at"],
                    }
                    for fee in charged
                ],
            )
            told = len(charged) + found
            await importing.tell_end(tx, self._relay, dict(row), matched=matched, exceptions=told)

    async def _open(self, tx: Tx, rows: Sequence[Any]) -> None:
        if not rows:
            return
        due = self._rules.due
        wanted = [
            {
                **dict(row),
                "id": new_id("exc"),
                "due_at": self._now + due.get(row["kind"], self._rules.due_else),
            }
            for row in rows
        ]
        mode = self._stream.mode
        made = await exceptions.open_exceptions(tx, self._stream.microservice, mode, wanted)
        await self._tell("opened", tx, made, None)

    async def _tell(self, what: str, tx: Tx, rows: Sequence[Any], resolution: str | None) -> None:
        by_kind: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            by_kind[row["kind"]].append(row)
        for kind, group in by_kind.items():
            due = min(row["due_at"] for row in group) if what == "opened" else None
            ids = sorted(row["id"] for row in group)
            await tell(
                tx, self._relay, what, self._id, self._stream.microservice, self._stream.mode,
                kind, ids, resolution=resolution, due_at=due,
            )  # fmt: skip


async def tell(
    tx: Tx,
    relay: Relay,
    what: str,
    batch_id: str,
    microservice: str,
    mode: str,
    kind: str,
    ids: Sequence[str],
    *,
    resolution: str | None = None,
    due_at: dt.datetime | None = None,
) -> None:
    """Tell of exceptions of one kind that were `opened` or `resolved` together."""
    body = ReconciliationExceptionsV1(
        batch_id=batch_id,
        microservice=microservice,
        mode=mode,
        kind=kind,
        resolution=resolution,
        count=len(ids),
        exception_ids=list(ids[:SHOWN_LIMIT]),
        due_at=due_at,
        happened_at=dt.datetime.now(dt.UTC),
    )
    await relay.enqueue(
        tx,
        [outgoing(f"reconciliation.exception_{what}.v1", batch_id, body, source="ledger")],
    )
    counter = (
        OPENED.labels(kind, mode)
        if what == "opened"
        else RESOLVED.labels(kind, resolution or "", mode)
    )
    tx.after_commit(lambda: counter.inc(len(ids)))
    log.info(
        f"exceptions_{what}", kind=kind, count=len(ids), microservice=microservice, mode=mode,
        batch_id=batch_id, resolution=resolution,
    )  # fmt: skip
