"""What is in force for risk: rules, lists and thresholds in memory, changed by people."""

import datetime as dt
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.workers import Worker
from mospay_shared.ids import new_id

from mospay_payment_router.domain.errors import AlreadyThere, NoSuchThing, StaleVersion, TooMany
from mospay_payment_router.domain.payments import mask_phone
from mospay_payment_router.domain.risk import (
    NO_THRESHOLDS,
    Entry,
    Lists,
    Policy,
    Rule,
    Thresholds,
)
from mospay_payment_router.storage import risk_rules as store

log = structlog.get_logger()
RELOAD_SECONDS = 1.0  # what a person changes holds within this


class Digests:
    """Keyed digests: what identifies a payer or a device is nowhere stored in clear."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # the same payers, devices and clients come again and again
        self.counted: Callable[[str, str, str, str], bytes] = lru_cache(10_000)(self._counted)

    def listed(self, kind: str, value: str) -> str:
        """Return the digest under which a phone or a device stands on a list."""
        return self._digest(f"list\0{kind}\0{plain(kind, value)}").hex()

    def _counted(self, client: str, mode: str, kind: str, value: str) -> bytes:
        """Return the digest under which a client's phone, device, address or payer is counted."""
        return self._digest(f"count\0{client}\0{mode}\0{kind}\0{plain(kind, value)}")

    def _digest(self, text: str) -> bytes:
        """A keyed BLAKE2b of 16 bytes, a MAC by its design: those tell enough apart."""
        return blake2b(text.encode(), key=self._key, digest_size=16).digest()


def plain(kind: str, value: str) -> str:
    """Return a value as it is compared: a phone is its digits."""
    if kind != "phone":
        return value.strip()
    return "".join(c for c in value if c in "0123456789").removeprefix("00")


class Policies:
    """What is in force, in memory; `version` is the number a decision is made under."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rules: list[Rule] = []
        self._lists: dict[tuple[str | None, str], Lists] = {}
        self._thresholds: dict[tuple[str | None, str], Thresholds] = {}
        self._policies: dict[tuple[str, str], Policy] = {}
        self.version = 0
        self.worker = Worker("risk_rules", self._turn, RELOAD_SECONDS)

    async def open(self) -> None:
        """Load what there is."""
        await self._turn()

    def of(self, client_id: str, mode: str) -> Policy:
        """Return what holds for a client's payments of a mode."""
        found = self._policies.get((client_id, mode))
        if found is None:
            found = self._policies[client_id, mode] = self._compile(client_id, mode)
        return found

    async def _turn(self) -> int:
        async with self._database.transaction() as tx:
            version = await store.version(tx)
            if version == self.version:
                return 0
            rules, entries, thresholds = await store.in_force(tx)
        grouped: dict[tuple[str | None, str], list[Entry]] = {}
        for entry in entries:
            grouped.setdefault((entry.client_id, entry.mode), []).append(entry)
        self._rules, self._thresholds = rules, thresholds
        self._lists = {key: Lists(group) for key, group in grouped.items()}
        self._policies = {}
        self.version = version
        log.info("risk_rules_loaded", version=version, rules=len(rules), entries=len(entries))
        return 0

    def _compile(self, client_id: str, mode: str) -> Policy:
        places = [(None, mode), (client_id, mode)]
        rules = [r for r in self._rules if (r.client_id, r.mode) in places]
        lists = [self._lists[place] for place in places if place in self._lists]
        own = self._thresholds.get((client_id, mode))
        return Policy(rules, lists, own or self._thresholds.get((None, mode)) or NO_THRESHOLDS)


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to add. `value` is a phone, a device, an address or network, or a customer id."""

    client_id: str | None
    mode: str
    list: str
    kind: str
    value: str
    reason: str
    expires_at: dt.datetime | None


class RiskSettings:
    """What the operator's people change. Each change raises the version in its transaction."""

    def __init__(
        self,
        database: Database,
        digests: Digests,
        wake: Callable[[], None],
        rules_limit: int,
        entries_limit: int,
    ) -> None:
        self._database, self._digests, self._wake = database, digests, wake
        self._rules_limit, self._entries_limit = rules_limit, entries_limit

    async def _begin(self, tx: Tx) -> None:
        await store.bump(tx)
        tx.after_commit(self._wake)

    async def put_rule(
        self,
        rule_id: str,
        client_id: str | None,
        mode: str,
        body: dict[str, Any],
        active: bool,
        by: str,
        expected: int,
    ) -> int:
        """Add a rule (expected 0) or replace the version that was read; return its version.

        Raises AlreadyThere, NoSuchThing, StaleVersion, TooMany.
        """
        values = (rule_id, client_id, mode, body, active)
        async with self._database.transaction() as tx:
            await self._begin(tx)
            if not expected:
                if await store.count_rules(tx) >= self._rules_limit:
                    raise TooMany(f"there are {self._rules_limit} rules already")
                made = await store.add_rule(tx, values, by)
                if made is None:
                    raise AlreadyThere("there is, or was, a rule with this id")
                return made
            changed = await store.change_rule(tx, values, by, expected)
            if changed is None:
                await self._explain(tx, rule_id)
            assert changed is not None
            return changed

    async def drop_rule(self, rule_id: str, by: str, expected: int) -> None:
        """Delete a rule whose version was read; raises NoSuchThing, StaleVersion."""
        async with self._database.transaction() as tx:
            await self._begin(tx)
            if not await store.drop_rule(tx, rule_id, expected, by):
                await self._explain(tx, rule_id)

    async def _explain(self, tx: Tx, rule_id: str) -> None:
        current = await store.rule_version(tx, rule_id)
        if current is None:
            raise NoSuchThing("there is no such rule")
        raise StaleVersion(current)

    async def add_entry(self, new: NewEntry, by: str) -> str:
        """Put something on a list and return the entry's id; raises AlreadyThere, TooMany.

        A phone or a device is kept as a keyed digest, with what may be shown of it.
        """
        subject, shown = new.value, new.value
        if new.kind == "ip":
            subject = shown = str(ipaddress.ip_network(new.value, strict=False))
        elif new.kind in ("phone", "device"):
            subject = self._digests.listed(new.kind, new.value)
            shown = mask_phone(new.value) or ""
        entry = Entry(new_id("rle"), new.client_id, new.mode, new.list, new.kind, subject)
        async with self._database.transaction() as tx:
            await self._begin(tx)
            if await store.count_entries(tx) >= self._entries_limit:
                raise TooMany(f"the lists have {self._entries_limit} entries already")
            if not await store.add_entry(tx, entry, shown, new.reason, new.expires_at, by):
                raise AlreadyThere("it is on that list already")
        return entry.id

    async def drop_entry(self, entry_id: str, by: str) -> None:
        """Take an entry off its list; raises NoSuchThing."""
        async with self._database.transaction() as tx:
            await self._begin(tx)
            if not await store.drop_entry(tx, entry_id, by):
                raise NoSuchThing("there is no such entry")

    async def put_thresholds(
        self, client_id: str | None, mode: str, thresholds: Thresholds, by: str, expected: int
    ) -> int:
        """Set from which score payments are held and refused; return the version.

        Raises StaleVersion (0 where there are none).
        """
        hold, refuse = thresholds.hold_at, thresholds.refuse_at
        async with self._database.transaction() as tx:
            await self._begin(tx)
            made = await store.put_thresholds(tx, client_id, mode, hold, refuse, by, expected)
            if made is None:
                rows = await store.thresholds(tx)
                found = (
                    r["version"] for r in rows if (r["client_id"], r["mode"]) == (client_id, mode)
                )
                raise StaleVersion(next(found, 0))
        return made
