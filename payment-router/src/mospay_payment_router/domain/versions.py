"""Versions of provider functions: their kinds, the names of their bodies, the steps of their life.

draft → tested → live → retired; roll back makes the version before live again.
"""

import hashlib
from dataclasses import dataclass

from mospay_payment_router.domain.errors import VersionRefused
from mospay_payment_router.domain.functions import (
    ENQUIRY,
    NAME_LIMIT_BYTES,
    REFUND,
    Pair,
    refund_names,
)
from mospay_payment_router.domain.sources import CALL_TYPES, RESPONSE_TYPES

RESPONSE = "RESPONSE_"
KINDS = ("call", "response", "enquiry", "enquiry_response", "refund", "refund_response",
         "refund_enquiry", "refund_enquiry_response")  # fmt: skip
# What a function gets for f007 and f008 where nothing is sent: never a payer's own.
FAKE_SECRETS = {"f007": "fake-f007", "f008": "fake-f008"}
DRAFT, TESTED, LIVE, RETIRED = "draft", "tested", "live", "retired"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the function `name`; its body is `call_name` in schema `fx`."""

    name: str
    version: int
    call_name: str
    state: str
    origin: str
    passed: bool
    reads_secrets: bool
    previous: int | None
    act: str | None


def names_of(pair: Pair) -> dict[str, str]:
    """Return the eight functions of a mapping by kind."""
    return dict(zip(KINDS, (*pair.names, *refund_names(pair.call)), strict=True))


def kind_of(pair: Pair, name: str) -> str | None:
    """Return what a function is to a mapping, None when it is nothing."""
    return next((kind for kind, of in names_of(pair).items() if of == name), None)


def is_response(kind: str) -> bool:
    """Say whether a kind hears answers."""
    return kind.endswith("response")


def partner_kind(kind: str) -> str:
    """Return the other one of a pair."""
    if kind == "call":
        return "response"
    if kind == "response":
        return "call"
    return kind.removesuffix("_response") if is_response(kind) else kind + "_response"


def types_of(kind: str) -> tuple[str, ...]:
    """Return the types of a kind's arguments."""
    return RESPONSE_TYPES if is_response(kind) else CALL_TYPES


def stems(name: str) -> list[str]:
    """Return the call functions a name may belong to, the longest first."""
    stem = name.removeprefix(RESPONSE)
    found = [stem]
    for suffix in (ENQUIRY, REFUND, REFUND + ENQUIRY):
        if stem.endswith(suffix) and len(stem) > len(suffix):
            found.append(stem.removesuffix(suffix))
    return found


def body_name(name: str, version: int) -> str:
    """Return the identifier of a version's body, `name@v3`; too long a name is cut and hashed."""
    suffix = f"@v{version}"
    if len((name + suffix).encode()) <= NAME_LIMIT_BYTES:
        return name + suffix
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    kept = NAME_LIMIT_BYTES - len(suffix) - len(digest) - 1
    return f"{name.encode()[:kept].decode(errors='ignore')}~{digest}{suffix}"


def require_testable(one: Version, partner: Version) -> None:
    """Raise VersionRefused unless a version may be called tested beside its partner."""
    if one.state not in (DRAFT, TESTED):
        raise VersionRefused("not_a_draft", f"version {one.version} is {one.state}, not a draft")
    for version in (one, partner):
        if not version.passed:
            raise VersionRefused(
                "not_dry_run", f"{version.name} version {version.version} has passed no dry-run yet"
            )


def require_may_go_live(one: Version) -> None:
    """Raise VersionRefused unless a version may serve payments."""
    if one.state == LIVE:
        raise VersionRefused("already_live", f"version {one.version} is live already")
    if one.state == DRAFT:
        raise VersionRefused("not_tested", f"version {one.version} is a draft: test it first")


def require_previous(one: Version) -> int:
    """Return the version to go back to; raises VersionRefused where there is none."""
    if one.previous is None:
        raise VersionRefused("nothing_before", f"version {one.version} is the first that was live")
    return one.previous
