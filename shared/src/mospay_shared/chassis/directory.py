"""The directory's replica: what a service keeps of it, in its database and at hand in memory.

Live events and snapshots apply by version per entity; tombstones stay, so nothing is resurrected.
A replica that is empty asks for a snapshot and is complete when the last part has been applied.
Other processes' changes are seen within `POLL_SECONDS` by a look at what changed lately.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.following import HORIZON, NEWER, read_to
from mospay_shared.chassis.inbox import Handler, Subscription
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.workers import Worker
from mospay_shared.contracts import (
    Contract,
    CredentialsPartV1,
    CredentialV1,
    Event,
    IpRuleV1,
    SnapshotPartV1,
    SnapshotRequestedV1,
    outgoing,
)
from mospay_shared.ids import new_id

log = structlog.get_logger()
POLL_SECONDS = 0.5  # a revocation is known everywhere within a second
ASK_AGAIN = dt.timedelta(seconds=5)
KINDS = ("company", "client", "service", "assignment", "credential", "ip_rule")
Change = Callable[[str, str, dict[str, Any] | None], None]

_UPSERT = """
insert into directory_entity (kind, entity_id, version, deleted, body)
select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bool[], $5::jsonb[])
    as u(kind, entity_id, version, deleted, body) order by kind, entity_id
on conflict (kind, entity_id) do update set version = excluded.version,
    deleted = excluded.deleted, body = excluded.body, changed_at = clock_timestamp()
where directory_entity.version < excluded.version"""
_CHANGED = f"""
select kind, entity_id, version, deleted, body, {HORIZON} from directory_entity
where {NEWER} order by changed_in, version"""  # noqa: S608 (two constants)
_DONE = """
update directory_snapshot set parts_done = parts_done or $2,
    credentials_done = credentials_done or $3, high_water = coalesce($4, high_water)
where request_id = $1"""
_COMPLETE = """
select exists (select 1 from directory_snapshot
               where parts_done and (credentials_done or not credentials))"""
_ASK = """
insert into directory_snapshot (request_id, credentials)
select $1, $2 where not exists (
    select 1 from directory_snapshot where requested_at > now() - $3::interval)
returning request_id"""


class DirectoryReplica:
    """The part of the directory this service keeps (`kinds`, of KINDS)."""

    def __init__(
        self, service: str, kinds: Iterable[str], database: Database, relay: Relay
    ) -> None:
        self._service, self._database, self._relay = service, database, relay
        self.kinds = frozenset(kinds)
        self._entities: dict[tuple[str, str], dict[str, Any]] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._horizon = 0  # transactions before this one have been read
        self._listeners: list[Change] = []
        self.complete = False
        self.version = 0  # the highest directory version seen
        self._worker = Worker(f"{service}.directory", self._refresh, POLL_SECONDS)

    def listen(self, listener: Change) -> None:
        """Call `listener(kind, id, body)` on every change; body is None for what was deleted."""
        self._listeners.append(listener)

    def get(self, kind: str, entity_id: str) -> dict[str, Any] | None:
        """Return an entity's body, or None when it is unknown or deleted."""
        return self._entities.get((kind, entity_id))

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return the bodies of all entities of a kind that are not deleted."""
        return [body for (of, _), body in self._entities.items() if of == kind]

    def workers(self) -> list[Worker]:
        """Return the worker that keeps memory true and asks for a snapshot when needed."""
        return [self._worker]

    def subscription(self) -> Subscription:
        """Return the subscription that feeds this replica; credentials come by a private queue."""
        wanted = {k: f"directory.{k}_changed.v1" for k in self.kinds if k != "credential"}
        commands = (
            ("directory.credential_changed.v1", "directory.credentials_part.v1")
            if "credential" in self.kinds
            else ()
        )
        queue = QueueSpec(
            f"{self._service}.directory",
            events=(*sorted(wanted.values()), "directory.snapshot_part.v1"),
            commands=commands,
        )
        handlers: dict[str, Handler] = dict.fromkeys(wanted.values(), self.on_changed)
        handlers["directory.snapshot_part.v1"] = self.on_snapshot_part
        if commands:
            handlers["directory.credential_changed.v1"] = self.on_changed
            handlers["directory.credentials_part.v1"] = self.on_credentials_part
        return Subscription(queue, handlers)

    async def on_changed(self, tx: Tx, events: Sequence[Event[Any]]) -> None:
        """Apply live changes."""
        await self._apply(tx, [event.data for event in events])

    async def on_snapshot_part(self, tx: Tx, events: Sequence[Event[SnapshotPartV1]]) -> None:
        """Apply parts of anybody's snapshot: versions make that safe."""
        for event in events:
            part = event.data
            await self._apply(
                tx,
                [
                    *part.companies,
                    *part.clients,
                    *part.services,
                    *part.assignments,
                    *part.ip_rules,
                ],
            )
            if part.last:
                await tx.run(_DONE, part.request_id, True, False, part.high_water)

    async def on_credentials_part(self, tx: Tx, events: Sequence[Event[CredentialsPartV1]]) -> None:
        """Apply the credentials of our own snapshot."""
        for event in events:
            await self._apply(tx, event.data.credentials)
            if event.data.last:
                await tx.run(_DONE, event.data.request_id, False, True, None)

    async def _apply(self, tx: Tx, bodies: Sequence[Contract]) -> None:
        newest: dict[tuple[str, str], Any] = {}
        for body in bodies:
            kind, entity_id = _identity(body)
            known = newest.get((kind, entity_id))
            if kind in self.kinds and (known is None or known.version < body.version):  # type: ignore[attr-defined]
                newest[kind, entity_id] = body
        if not newest:
            return
        await tx.run(
            _UPSERT,
            [kind for kind, _ in newest],
            [entity_id for _, entity_id in newest],
            [body.version for body in newest.values()],
            [getattr(body, "deleted", False) for body in newest.values()],
            [body.model_dump(mode="json") for body in newest.values()],
        )
        tx.after_commit(self._worker.wake)

    async def take(self, bodies: Sequence[Contract]) -> None:
        """Apply changes that came another way than by message; they hold here on return.

        The same upsert by version, so either way may be first. Raises what the database raises.
        """
        async with self._database.transaction() as tx:
            await self._apply(tx, bodies)
        await self.refresh()

    async def refresh(self) -> None:
        """Bring memory up to what the database holds."""
        # asked first: what is complete now is in the rows that are read after it
        complete = self.complete or bool((await self._database.fetch(_COMPLETE))[0][0])
        rows = await self._database.fetch(_CHANGED, str(self._horizon))
        self._horizon = read_to(rows, self._horizon)
        for row in rows:
            key = (row["kind"], row["entity_id"])
            if self._versions.get(key, 0) >= row["version"]:
                continue
            self._versions[key] = row["version"]
            self.version = max(self.version, row["version"])
            body = None if row["deleted"] else row["body"]
            if body is None:
                self._entities.pop(key, None)
            else:
                self._entities[key] = body
            for listener in self._listeners:
                listener(key[0], key[1], body)
        # Only now: while the commit was awaited, a caller would have been told it is nobody.
        self.complete = complete

    async def _refresh(self) -> int:
        await self.refresh()
        if not self.complete:
            await self._ask()
        return 0

    async def _ask(self) -> None:
        request_id, credentials = new_id("snp"), "credential" in self.kinds
        async with self._database.transaction() as tx:
            if await tx.value(_ASK, request_id, credentials, ASK_AGAIN):
                request = SnapshotRequestedV1(
                    request_id=request_id, requested_by=self._service, credentials=credentials
                )
                message = outgoing(
                    "directory.snapshot_requested.v1",
                    request_id,
                    request,
                    source=self._service,
                )
                await self._relay.enqueue(tx, [message])
                log.info("snapshot_requested", request_id=request_id)


def _identity(body: Contract) -> tuple[str, str]:
    """Return kind and id of a directory body."""
    if isinstance(body, CredentialV1):
        return "credential", body.credential_id
    if isinstance(body, IpRuleV1):
        return "ip_rule", body.ip_rule_id
    kind = type(body).__name__.removesuffix("V1").lower()
    return kind, str(getattr(body, f"{kind}_id"))
