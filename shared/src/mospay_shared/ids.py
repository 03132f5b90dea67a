"""Prefixed, time-ordered identifiers (`pay_…`): prefix, underscore, 32 hex digits of a UUIDv7."""

import datetime as dt
import re
import uuid

import uuid_utils

_ID = re.compile(r"^[a-z]{2,8}_[0-9a-f]{32}$")


def new_id(prefix: str) -> str:
    """Return a new id such as `pay_0198…`; ids made later sort later (RFC 9562, version 7)."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def is_id(value: str, prefix: str | None = None) -> bool:
    """Say whether `value` has the shape of an id (of that prefix, when one is given)."""
    return bool(_ID.match(value)) and (prefix is None or value.startswith(prefix + "_"))


def id_time(value: str) -> dt.datetime:
    """Return the instant an id was made, read from its UUIDv7; epoch when it carries none."""
    nothing = dt.datetime.fromtimestamp(0, dt.UTC)
    try:
        made = uuid.UUID(value.rpartition("_")[2])
        if made.version != 7:
            return nothing
        return dt.datetime.fromtimestamp((made.int >> 80) / 1000, dt.UTC)
    except (ValueError, OverflowError, OSError):  # no UUID, or an instant no calendar has
        return nothing
