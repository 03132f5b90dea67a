"""Importing a statement: upload, parse, keep aside, decide, take in. Each step resumes.

States: uploading → parsing → (staged → a person decides →) accepting → matching → finished; or
discarded, cancelled, failed, of which nothing goes in.
"""

import asyncio
import datetime as dt
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import ReconciliationImportFinishedV1, outgoing
from mospay_shared.ids import new_id
from prometheus_client import Counter

from mospay_ledger.domain.reconciliation import NotAllowed, NotNow, ReconciliationMissing
from mospay_ledger.domain.statement_mappings import PRESETS, StatementMapping, preset_of
from mospay_ledger.domain.statements import packed, parse_chunk, unpacked
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import imports

log = structlog.get_logger()
LINES = Counter("mospay_ledger_statement_lines", "Lines of statements read", ["outcome"])
IMPORTS = Counter("mospay_ledger_statement_imports", "Imports that ended", ["state"])
UPLOAD_LEASE_SECONDS = 600.0  # an upload without a chunk for so long has been given up


@dataclass(frozen=True, slots=True)
class Limits:
    """What one import may be; sizes in bytes."""

    chunk_bytes: int
    file_bytes: int
    faults: int  # written down for an import; the rest is counted
    batch_lines: int  # taken in a transaction
    lease_seconds: float  # a worker that is silent for longer has died


def limits_of(settings: LedgerSettings) -> Limits:
    """Return what one import may be, as the settings say."""
    return Limits(
        chunk_bytes=settings.statement_chunk_bytes,
        file_bytes=settings.statement_bytes,
        faults=settings.statement_faults,
        batch_lines=settings.statement_batch_lines,
        lease_seconds=settings.statement_lease_seconds,
    )


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way in: whose, how to read it, which period it covers."""

    microservice: str
    mode: str
    file_name: str
    mapping: StatementMapping
    mapping_version: int | None
    preset: str | None
    review: bool
    covers_from: dt.datetime | None
    covers_until: dt.datetime | None
    by: str


async def chosen_mapping(
    tx: Tx, microservice: str, version: int | None, preset: str | None
) -> tuple[StatementMapping, int | None, str | None]:
    """Return the mapping to read with: the version or preset named, else the newest, else ours.

    Raises ReconciliationMissing, NotAllowed.
    """
    if preset is not None:
        if preset not in PRESETS:
            raise NotAllowed("preset", f"must be one of: {', '.join(PRESETS)}")
        return PRESETS[preset], None, preset
    row = await imports.mapping(tx, microservice, version)
    if row is not None:
        return StatementMapping.model_validate(row["mapping"]), row["version"], None
    name = preset_of(microservice)
    if version is not None or name is None:
        raise ReconciliationMissing(
            f"{microservice} has no such mapping: add one, or name a preset"
        )
    return PRESETS[name], None, name


async def upload(
    database: Database, given: Upload, body: AsyncIterator[bytes], limits: Limits
) -> tuple[str, bool]:
    """Store a file as it comes; return its import and whether the same file was there before.

    Memory is one chunk. A caller who goes away leaves an import that is cancelled later. Raises
    NotAllowed for an empty or too large file, NotNow when it was cancelled meanwhile.
    """
    import_id, digest, number, size = new_id("imp"), hashlib.sha256(), 0, 0
    async with database.transaction() as tx:
        await imports.open_import(
            tx,
            import_id=import_id,
            microservice=given.microservice,
            mode=given.mode,
            file_name=given.file_name,
            mapping=given.mapping.model_dump(mode="json"),
            mapping_version=given.mapping_version,
            preset=given.preset,
            review=given.review,
            covers=(given.covers_from, given.covers_until),
            by=given.by,
            lease_seconds=UPLOAD_LEASE_SECONDS,
        )
    try:
        async for chunk in _chunks(body, limits.chunk_bytes):
            size += len(chunk)
            if size > limits.file_bytes:
                raise NotAllowed("body", f"is larger than {limits.file_bytes} bytes: split it")
            digest.update(chunk)
            async with database.transaction() as tx:
                if not await imports.add_chunk(tx, import_id, number, chunk, UPLOAD_LEASE_SECONDS):
                    raise NotNow("the import was cancelled")
            number += 1
        if size == 0:
            raise NotAllowed("body", "is empty: send the file's bytes")
        return await _received(database, given, import_id, digest.digest())
    except (NotAllowed, NotNow):
        async with database.transaction() as tx:
            await imports.decide(tx, import_id, "cancelled", given.by)
        raise


async def _received(
    database: Database, given: Upload, import_id: str, digest: bytes
) -> tuple[str, bool]:
    async with database.transaction() as tx:
        earlier = await imports.same_file(tx, given.microservice, given.mode, digest)
    if earlier is None:
        try:
            async with database.transaction() as tx:
                if not await imports.received(tx, import_id, digest):
                    raise NotNow("the import was cancelled")
            return import_id, False
        except asyncpg.UniqueViolationError:  # the same file, at the same moment
            async with database.transaction() as tx:
                earlier = await imports.same_file(tx, given.microservice, given.mode, digest)
    async with database.transaction() as tx:
        await imports.decide(tx, import_id, "cancelled", given.by)
    return earlier or import_id, True


async def _chunks(body: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Gather what the network gives into chunks of one size."""
    waiting = bytearray()
    async for part in body:
        waiting += part
        while len(waiting) >= size:
            yield bytes(waiting[:size])
            del waiting[:size]
    if waiting:
        yield bytes(waiting)


async def decide(tx: Tx, import_id: str, what: str, by: str) -> asyncpg.Record:
    """Accept, discard or cancel an import; raises ReconciliationMissing, NotNow."""
    to = {"accept": "accepting", "discard": "discarded", "cancel": "cancelled"}[what]
    done = await imports.decide(tx, import_id, to, by)
    row = await imports.shown(tx, import_id)
    if row is None:
        raise ReconciliationMissing(f"there is no import {import_id}")
    if not done:
        raise NotNow(f"the import is {row['state']}")
    return row


async def work_off(database: Database, relay: Relay, limits: Limits) -> int:
    """Bring the oldest waiting import as far as it goes; return 1, or 0 when none waits."""
    token = new_id("run")
    async with database.transaction() as tx:
        row = await imports.claim(tx, token, limits.lease_seconds)
    if row is None:
        return 0
    work = Importer(database, relay, limits, row, token)
    steps = {"parsing": work.parse, "accepting": work.accept, "uploading": work.give_up}
    try:
        while (state := await work.state()) is not None:
            await steps.get(state, work.clean)()
            if work.done:
                break
    finally:
        async with database.transaction() as tx:
            await imports.release(tx, work.import_id, token)
    return 1


class Importer:
    """One worker's turn at one import. Every step is a transaction that asks for the lease."""

    def __init__(
        self, database: Database, relay: Relay, limits: Limits, row: asyncpg.Record, token: str
    ) -> None:
        self.import_id: str = row["id"]
        self.done = False
        self._database, self._relay, self._limits, self._token = database, relay, limits, token
        self._mapping = StatementMapping.model_validate(row["mapping"])

    async def state(self) -> str | None:
        """Return the import's state while there is work and it is ours."""
        states = ("uploading", "parsing", "accepting", "discarded", "cancelled", "failed")
        async with self._database.transaction() as tx:
            row = await self._hold(tx, *states)
        if row is None or row["cleaned"]:
            return None
        return str(row["state"])

    async def _hold(self, tx: Tx, *states: str) -> asyncpg.Record | None:
        seconds = self._limits.lease_seconds
        return await imports.hold(tx, self.import_id, self._token, seconds, *states)

    async def give_up(self) -> None:
        """Cancel an upload whose sender has gone."""
        async with self._database.transaction() as tx:
            if await self._hold(tx, "uploading") is not None:
                await imports.move_on(
                    tx, self.import_id, "cancelled", fault="upload_ended", ended=True
                )

    async def parse(self) -> None:
        """Parse the next chunk, or close the file after the last."""
        async with self._database.transaction() as tx:
            row = await self._hold(tx, "parsing")
            if row is None:
                return
            number, last = row["next_chunk"], row["next_chunk"] == row["chunks"] - 1
            if number >= row["chunks"]:
                await self._close(tx, row)
                return
            body = await imports.chunk(tx, self.import_id, number)
        assert body is not None, "a chunk of a stored file is missing"
        position = unpacked(row["parse_state"], row["carry"])
        # In a thread: parsing a chunk takes a tenth of a second, which messages must not wait for.
        found = await asyncio.to_thread(
            parse_chunk, self._mapping, position, bytes(body), last=last
        )
        async with self._database.transaction() as tx:
            bad = await imports.note_parsed(
                tx,
                self.import_id,
                self._token,
                number,
                size=len(body),
                carry=found.position.carry,
                state=packed(found.position),
                good=len(found.lines),
                bad=len(found.faults),
                skipped=found.skipped,
                lease_seconds=self._limits.lease_seconds,
            )
            if bad is None:  # cancelled, or another's by now
                return
            if found.lines:
                await imports.stage(tx, self.import_id, found.lines)
            room = max(0, self._limits.faults - (bad - len(found.faults)))
            if found.faults[:room]:
                await imports.add_faults(tx, self.import_id, found.faults[:room])
            if found.fatal is not None:
                await imports.move_on(
                    tx, self.import_id, "failed", fault=found.fatal[:500], ended=True
                )
            tx.after_commit(lambda: _count(found))

    async def _close(self, tx: Tx, row: asyncpg.Record) -> None:
        await imports.count_occurrences(tx, self.import_id)
        await imports.cover(tx, self.import_id, self._mapping.covers)
        await imports.drop_chunks(tx, self.import_id)
        waits = row["review"] or row["lines_bad"] > 0
        await imports.move_on(tx, self.import_id, "staged" if waits else "accepting")
        if row["lines_bad"]:
            log.warning(
                "statement_has_faults",
                import_id=self.import_id,
                microservice=row["microservice"],
                lines_bad=row["lines_bad"],
                lines_good=row["lines_good"],
            )

    async def accept(self) -> None:
        """Take in the next lines; after the last the matcher has the import."""
        async with self._database.transaction() as tx:
            row = await self._hold(tx, "accepting")
            if row is None:
                return
            _, _, self.done = await imports.accept(
                tx, self.import_id, row["microservice"], row["mode"], self._limits.batch_lines
            )

    async def clean(self) -> None:
        """Forget what was kept aside of an import that does not go in, and tell of its end."""
        limit = self._limits.batch_lines
        async with self._database.transaction() as tx:
            row = await self._hold(tx, "discarded", "cancelled", "failed")
            if row is None:
                return
            await imports.drop_chunks(tx, self.import_id)
            if await imports.drop_staged(tx, self.import_id, limit) == limit:
                return
            await imports.cleaned(tx, self.import_id)
            await tell_end(tx, self._relay, dict(row), matched=0, exceptions=0)
            self.done = True


async def tell_end(
    tx: Tx, relay: Relay, row: dict[str, Any], *, matched: int, exceptions: int
) -> None:
    """Tell that an import has ended, in its state."""
    body = ReconciliationImportFinishedV1(
        import_id=row["id"],
        microservice=row["microservice"],
        mode=row["mode"],
        state=row["state"],
        lines_accepted=row["lines_accepted"],
        lines_matched=matched,
        lines_repeated=row["lines_repeated"],
        lines_bad=row["lines_bad"],
        exceptions=exceptions,
        finished_at=dt.datetime.now(dt.UTC),
    )
    await relay.enqueue(
        tx, [outgoing("reconciliation.import_finished.v1", row["id"], body, source="ledger")]
    )
    tx.after_commit(lambda: IMPORTS.labels(row["state"]).inc())
    log.info(
        "statement_import_ended",
        import_id=row["id"],
        state=row["state"],
        lines_accepted=row["lines_accepted"],
        lines_matched=matched,
        exceptions=exceptions,
    )


def _count(found: Any) -> None:
    LINES.labels("good").inc(len(found.lines))
    LINES.labels("bad").inc(len(found.faults))
    LINES.labels("skipped").inc(found.skipped)


async def add_mapping(
    tx: Tx, microservice: str, mapping: dict[str, Any], by: str
) -> asyncpg.Record:
    """Add the next version of a microservice's mapping; two at once wait for each other."""
    await imports.lock_mappings(tx, microservice)
    return await imports.add_mapping(tx, microservice, mapping, by)
