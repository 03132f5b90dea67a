"""Provider functions at hand in memory, followed by what changed: a look costs the same for all."""

import time
from collections.abc import Iterable

from mospay_shared.chassis.database import Tx

from mospay_payment_router.domain.functions import Key
from mospay_payment_router.domain.versions import names_of, stems
from mospay_payment_router.storage import functions
from mospay_payment_router.storage.functions import EPOCH, Live, Mapping

# Only PostgreSQL's own catalogue tells of functions that a person replaced by hand, and it has to
# be read from end to end: that takes at most this share of the time.
LOOK_SHARE = 0.01


class KnownFunctions:
    """Mappings by key, live versions by name, and what the functions of schema fx read."""

    def __init__(self) -> None:
        self.mappings: dict[Key, Mapping] = {}
        self._live: dict[str, Live] = {}
        self._secrets: dict[str, bool] = {}
        self._by_call: dict[str, set[Key]] = {}
        self._mapped_at = self._lived_at = EPOCH
        self._horizon: str | None = None
        self._total, self._next_look = 0, 0.0

    @property
    def refused(self) -> int:
        """How many mappings have no functions."""
        return sum(1 for mapping in self.mappings.values() if mapping.refused)

    def exists(self, name: str) -> bool:
        """Say whether a function is in schema fx."""
        return name in self._secrets

    def body(self, name: str) -> str:
        """Return the function to call for a name: that of its live version."""
        live = self._live.get(name)
        return name if live is None else live.call_name

    def version(self, name: str) -> int:
        """Return the live version of a function."""
        live = self._live.get(name)
        return 1 if live is None else live.version

    def reads_secrets(self, name: str) -> bool:
        """Say whether the live version of a function reads f007 or f008."""
        live = self._live.get(name)
        if live is not None and (live.reads_secrets or live.call_name != name):
            return live.reads_secrets
        return self._secrets.get(name, False)

    async def load(self, tx: Tx) -> set[Key]:
        """Bring memory up to the tables and schema fx; return the keys that were touched."""
        touched = await self._load_mappings(tx)
        live, self._lived_at = await functions.live_since(tx, self._lived_at)
        for name, one in live.items():
            plain = one.version == 1 and one.call_name == name and not one.reads_secrets
            known = self._live.get(name)
            if known != one and not (plain and known is None):
                touched |= self._keys(name)
            if plain:
                self._live.pop(name, None)
            else:
                self._live[name] = one
        if touched or time.monotonic() >= self._next_look:
            touched |= await self._look(tx)
        return touched

    async def _load_mappings(self, tx: Tx) -> set[Key]:
        found, at = await functions.mappings_since(tx, self._mapped_at)
        unknown = sum(1 for mapping in found if mapping.key not in self.mappings)
        if await functions.count_mappings(tx) > len(self.mappings) + unknown:  # a late commit
            found, at = await functions.mappings_since(tx, EPOCH)
        self._mapped_at = at
        changed = [m for m in found if self.mappings.get(m.key) != m]
        for mapping in changed:
            self.mappings[mapping.key] = mapping
            self._by_call.setdefault(mapping.pair.call, set()).add(mapping.key)
        return {mapping.key for mapping in changed}

    async def _look(self, tx: Tx) -> set[Key]:
        """See what was made or replaced by hand in schema fx."""
        started = time.monotonic()
        first = self._horizon is None
        seen = await functions.look(tx, self._horizon)
        gone = seen.total < self._total or (not seen.fresh and seen.total != self._total)
        touched: set[Key] = set()
        if first or gone:
            before, self._secrets = self._secrets, await functions.reading(tx, None)
            names: Iterable[str] = {
                n for n in before.keys() | self._secrets if before.get(n) != self._secrets.get(n)
            }
        else:
            fresh = await functions.reading(tx, seen.fresh) if seen.fresh else {}
            names = [n for n, reads in fresh.items() if self._secrets.get(n) is not reads]
            self._secrets |= fresh
        for name in names:
            touched |= self._keys(name)
        self._horizon, self._total = seen.horizon, seen.total
        ended = time.monotonic()
        self._next_look = ended + (ended - started) / LOOK_SHARE
        return touched

    def _keys(self, name: str) -> set[Key]:
        """Return the keys that a function serves."""
        return {
            key
            for stem in stems(name)
            for key in self._by_call.get(stem, ())
            if name in names_of(self.mappings[key].pair).values()
        }
