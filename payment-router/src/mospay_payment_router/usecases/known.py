"""Provider functions at hand in memory, followed by what changed: a look costs the same for all."""

import time
from dataclasses import dataclass

from mospay_shared.chassis.database import Tx

from mospay_payment_router.domain.functions import Key
from mospay_payment_router.domain.versions import names_of, stems
from mospay_payment_router.storage import functions
from mospay_payment_router.storage.functions import Live, Mapping

# Only PostgreSQL's own catalogue tells of functions that a person replaced by hand, and it has to
# be read from end to end: that takes at most this share of the time.
LOOK_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at schema fx found: by name, whether a function reads f007 or f008.

    `whole` says that these are all there are, else they are those made since the last look.
    """

    secrets: dict[str, bool]
    whole: bool
    horizon: str
    total: int


@dataclass(frozen=True, slots=True)
class News:
    """What was read and is not taken over yet; `seen` is None where schema fx was not looked at."""

    mapped: list[Mapping]
    lived: dict[str, Live]
    horizon: int
    seen: Seen | None
    next_look: float


class KnownFunctions:
    """Mappings by key, live versions by name, and what the functions of schema fx read."""

    def __init__(self) -> None:
        self.mappings: dict[Key, Mapping] = {}
        self._live: dict[str, Live] = {}
        self._secrets: dict[str, bool] = {}
        self._by_call: dict[str, set[Key]] = {}
        self._read_to = 0
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

    async def read(self, tx: Tx) -> News:
        """Read what is new in the tables and schema fx; memory stays as it is until `apply`.

        Mappings come first: what they need was committed with them, so what is read later has it.
        """
        horizon = await functions.horizon(tx)
        told = await functions.mappings_since(tx, self._read_to)
        mapped = [m for m in told if self.mappings.get(m.key) != m]
        found = await functions.live_since(tx, self._read_to)
        lived = {name: one for name, one in found.items() if self._moves(name, one)}
        seen: Seen | None = None
        next_look = self._next_look
        if mapped or lived or time.monotonic() >= next_look:
            seen, next_look = await self._look(tx)
        return News(mapped, lived, horizon, seen, next_look)

    def apply(self, news: News) -> set[Key]:
        """Take over what was read, all at once; return the keys that were touched.

        Nothing may be awaited between this and the renewal of what was made of these functions:
        a payment that came in between would be taken under half of them, and keep them.
        """
        for mapping in news.mapped:
            self.mappings[mapping.key] = mapping
            self._by_call.setdefault(mapping.pair.call, set()).add(mapping.key)
        touched = {mapping.key for mapping in news.mapped}
        for name, one in news.lived.items():
            touched |= self._keys(name)
            if _plain(name, one):
                self._live.pop(name, None)
            else:
                self._live[name] = one
        if news.seen is not None:
            touched |= self._apply_look(news.seen)
        self._read_to, self._next_look = news.horizon, news.next_look
        return touched

    def _apply_look(self, seen: Seen) -> set[Key]:
        told, known = seen.secrets, self._secrets
        names = {name for name, reads in told.items() if known.get(name) is not reads}
        if seen.whole:
            names |= known.keys() - told.keys()
            self._secrets = told
        else:
            known |= told
        self._horizon, self._total = seen.horizon, seen.total
        return {key for name in names for key in self._keys(name)}

    def _moves(self, name: str, one: Live) -> bool:
        """Say whether a live version is another one than is known here."""
        known = self._live.get(name)
        return known != one and not (known is None and _plain(name, one))

    async def _look(self, tx: Tx) -> tuple[Seen, float]:
        """See what was made or replaced by hand in schema fx, and say when to look again."""
        started = time.monotonic()
        first = self._horizon is None
        seen = await functions.look(tx, self._horizon)
        gone = seen.total < self._total or (not seen.fresh and seen.total != self._total)
        whole = first or gone
        secrets: dict[str, bool] = {}
        if whole or seen.fresh:
            secrets = await functions.reading(tx, None if whole else seen.fresh)
        ended = time.monotonic()
        found = Seen(secrets, whole, seen.horizon, seen.total)
        return found, ended + (ended - started) / LOOK_SHARE

    def _keys(self, name: str) -> set[Key]:
        """Return the keys that a function serves."""
        return {
            key
            for stem in stems(name)
            for key in self._by_call.get(stem, ())
            if name in names_of(self.mappings[key].pair).values()
        }


def _plain(name: str, one: Live) -> bool:
    """Say whether a live version says no more than its name, as most do: those are not kept."""
    return one.version == 1 and one.call_name == name and not one.reads_secrets
