"""The life of provider function versions: draft, tested, live, rolled back, promoted.

Every verb takes a transaction and a mapping its caller may see; each is written under the row locks
of the functions it touches, so two people can't make two versions live.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.ids import new_id

from mospay_payment_router.domain.errors import NoSuchFunction, SourceRefused, VersionRefused
from mospay_payment_router.domain.functions import Key
from mospay_payment_router.domain.sources import read_source, renamed
from mospay_payment_router.domain.versions import (
    DRAFT,
    Version,
    body_name,
    kind_of,
    names_of,
    partner_kind,
    require_may_go_live,
    require_previous,
    require_testable,
    types_of,
)
from mospay_payment_router.storage import functions, versions
from mospay_payment_router.storage.functions import Mapping

log = structlog.get_logger()
_SECRETS = re.compile(r"f00[78]")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of a source, versions of a function."""

    source_bytes: int
    versions: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What a person posts. `reads_secrets` None: as the source shows."""

    source: str
    note: str | None
    reads_secrets: bool | None
    author: str


async def known(tx: Tx, mapping: Mapping) -> None:
    """Record first versions of what is in schema fx and has none yet, of all eight names."""
    kinds = names_of(mapping.pair)
    there = await versions.present(tx, list(kinds.values()))
    await functions.add_versions(
        tx,
        {kind: name for kind, name in kinds.items() if name in there},
        (),
        (mapping.client_id, mapping.mode),
    )


async def add_draft(tx: Tx, mapping: Mapping, name: str, draft: Draft, limits: Limits) -> int:
    """Install a posted source as the next version; return its number.

    Raises SourceRefused for what is no provider function of this name, VersionRefused at the limit.
    """
    kind = _kind(mapping, name)
    if len(draft.source.encode(errors="replace")) > limits.source_bytes:
        raise SourceRefused("too_long", f"is longer than {limits.source_bytes} bytes")
    made = read_source(draft.source, name, types_of(kind))
    await known(tx, mapping)
    before = await versions.lock(tx, [name])
    if len(before) >= limits.versions:
        raise VersionRefused("too_many_versions", f"{name} has {len(before)} versions already")
    number = max((version for _, version in before), default=1) + 1
    detected = _SECRETS.search(made.body) is not None
    one = Version(
        name=name,
        version=number,
        call_name=body_name(name, number),
        state=DRAFT,
        origin="person",
        passed=False,
        reads_secrets=detected or draft.reads_secrets is True,
        previous=None,
        act=None,
    )
    await versions.install(tx, one.call_name, made)
    owner = (mapping.client_id, mapping.mode)
    await versions.insert(tx, one, kind, owner, draft.source, draft.author, draft.note)
    log.info("function_version_drafted", function=name, version=number, author=draft.author)
    return number


async def mark_tested(
    tx: Tx, mapping: Mapping, name: str, version: int, partner_version: int | None
) -> None:
    """Make a draft tested, with its partner's draft; both must have passed a dry-run.

    Without `partner_version` the partner is the one that is live.
    """
    await known(tx, mapping)
    partner = _partner(mapping, name)
    locked = await versions.lock(tx, [name, partner])
    one, other = _get(locked, name, version), _beside(locked, partner, partner_version)
    require_testable(one, other)
    await versions.tested(tx, name, version)
    await versions.tested(tx, partner, other.version)
    log.info("function_version_tested", function=name, version=version, beside=other.version)


async def go_live(
    tx: Tx,
    mapping: Mapping,
    name: str,
    version: int,
    partner_version: int | None,
    expected: int | None,
) -> dict[str, int]:
    """Make a version live, and its partner's with it; return what is live now, by name.

    Payments that were accepted before keep the versions they were accepted with. `expected` is the
    live version that was read.
    """
    await known(tx, mapping)
    partner = _partner(mapping, name)
    locked = await versions.lock(tx, [name, partner])
    chosen = [_get(locked, name, version)]
    if partner_version is not None and _live(locked, partner).version != partner_version:
        chosen.append(_get(locked, partner, partner_version))
    _expect(_live(locked, name), expected)
    for one in chosen:
        require_may_go_live(one)
    act = new_id("act")
    for one in chosen:
        await versions.swap(
            tx, one.name, one.version, previous=_live(locked, one.name).version, act=act
        )
        log.info("function_version_live", function=one.name, version=one.version)
    return {one.name: one.version for one in chosen}


async def roll_back(tx: Tx, mapping: Mapping, name: str, expected: int | None) -> dict[str, int]:
    """Make the version before live again, with the partner's where both went live in one act."""
    await known(tx, mapping)
    partner = _partner(mapping, name)
    locked = await versions.lock(tx, [name, partner])
    now = _live(locked, name)
    _expect(now, expected)
    chosen = [now]
    beside = next((v for v in locked.values() if v.name == partner and v.state == "live"), None)
    if beside is not None and now.act is not None and beside.act == now.act:
        chosen.append(beside)
    back = {one.name: require_previous(one) for one in chosen}
    for of, version in back.items():
        await versions.swap(tx, of, version)
        log.warning("function_version_rolled_back", function=of, version=version)
    return back


async def promote(
    tx: Tx, mapping: Mapping, name: str, version: int, draft: Draft, limits: Limits
) -> tuple[str, int]:
    """Copy a tested version to the same client's mapping in the other mode, as a draft there.

    Returns the other function's name and the draft's number. The text changes by its name alone.
    """
    kind = _kind(mapping, name)
    one = await versions.find(tx, name, version)
    if one is None:
        raise NoSuchFunction(f"{name} version {version}")
    if one.state == DRAFT:
        raise VersionRefused("not_tested", f"version {version} is a draft: test it first")
    others = await versions.siblings(tx, mapping)
    if len(others) != 1:
        words = "no mapping" if not others else "more than one mapping"
        raise VersionRefused("no_other_mode", f"there is {words} of this route in the other mode")
    text = await versions.source(tx, name, version) or await versions.definition(tx, one.call_name)
    if text is None:
        raise VersionRefused("no_source", f"version {version} has no source here")
    to = names_of(others[0].pair)[kind]
    source = renamed(text, read_source(text, name, types_of(kind)), to)
    copied = Draft(source, draft.note, draft.reads_secrets or one.reads_secrets, draft.author)
    return to, await add_draft(tx, others[0], to, copied, limits)


async def set_reads_secrets(
    tx: Tx, mapping: Mapping, name: str, version: int, *, forced: bool
) -> bool:
    """Say that a version reads f007 and f008, or leave that to its source; return what holds."""
    await known(tx, mapping)
    one = _get(await versions.lock(tx, [name]), name, version)
    text = await versions.definition(tx, one.call_name) or ""
    reads = forced or _SECRETS.search(text) is not None
    await versions.set_reads_secrets(tx, name, version, reads=reads)
    return reads


async def set_options(
    tx: Tx,
    key: Key,
    final_on_2xx: bool | None,
    failed_statuses: Sequence[int] | None,
    by: str,
    expected: int,
) -> int:
    """Keep a person's marks on a mapping; later payments pin them. Returns its version."""
    made = await versions.set_options(tx, key, final_on_2xx, failed_statuses, by, expected)
    if made is None:
        raise VersionRefused("stale_version", "it has changed since it was read; read it again")
    return made


async def details(tx: Tx, name: str, version: int) -> dict[str, Any]:
    """Return the source of a version and, for one kept outside of versions, whether it moved."""
    one = await versions.find(tx, name, version)
    if one is None:
        raise NoSuchFunction(f"{name} version {version}")
    kept = await versions.source(tx, name, version)
    if one.call_name != name:
        return {"source": kept, "changed_by_hand": False}
    now = await versions.definition(tx, name)
    return {"source": now, "changed_by_hand": kept is not None and kept != now}


def _kind(mapping: Mapping, name: str) -> str:
    kind = kind_of(mapping.pair, name)
    assert kind is not None, "the mapping was found by this name"
    return kind


def _partner(mapping: Mapping, name: str) -> str:
    return names_of(mapping.pair)[partner_kind(_kind(mapping, name))]


def _get(locked: dict[tuple[str, int], Version], name: str, version: int) -> Version:
    found = locked.get((name, version))
    if found is None:
        raise NoSuchFunction(f"{name} version {version}")
    return found


def _live(locked: dict[tuple[str, int], Version], name: str) -> Version:
    found = next((v for v in locked.values() if v.name == name and v.state == "live"), None)
    if found is None:
        raise VersionRefused("no_partner", f"there is no function {name}")
    return found


def _beside(locked: dict[tuple[str, int], Version], partner: str, version: int | None) -> Version:
    return _live(locked, partner) if version is None else _get(locked, partner, version)


def _expect(live: Version, expected: int | None) -> None:
    if expected is not None and live.version != expected:
        raise VersionRefused(
            "stale_version", f"version {live.version} is live now; read the versions again"
        )
