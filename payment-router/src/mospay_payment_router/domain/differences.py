"""What differs between two calls: by URL and, place by place, by payload."""

from collections.abc import Iterator
from typing import Any

import orjson

SHOWN_LIMIT = 50  # differences of one call; more say nothing more
VALUE_LIMIT = 200  # characters of a value
_ABSENT = object()


def payload_differences(before: bytes, after: bytes) -> list[dict[str, Any]]:
    """Return `{path, before, after}` for each place where two JSON payloads differ.

    A list of `{"i": n, "v": value}` is compared by its `i`. What is no JSON differs as a whole.
    """
    if before == after:
        return []
    try:
        pair = _by_position(orjson.loads(before)), _by_position(orjson.loads(after))
    except orjson.JSONDecodeError:
        pair = before.decode(errors="replace"), after.decode(errors="replace")
    found = []
    for path, old, new in _walk("", *pair):
        found.append({"path": path or "/", "before": _shown(old), "after": _shown(new)})
        if len(found) == SHOWN_LIMIT:
            break
    return found


def _by_position(value: Any) -> Any:
    """Return a positional list as an object by position, anything else as it is."""
    if not isinstance(value, list) or not value:
        return value
    positions = [v["i"] for v in value if isinstance(v, dict) and set(v) == {"i", "v"}]
    if len(positions) != len(value) or len({str(p) for p in positions}) != len(positions):
        return value
    return {f"i={item['i']}": item["v"] for item in value}


def _walk(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from _walk(f"{path}/{key}", old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            sides = (side[index] if index < len(side) else _ABSENT for side in (old, new))
            yield from _walk(f"{path}/{index}", *sides)
    elif old is _ABSENT or new is _ABSENT or type(old) is not type(new) or old != new:
        yield path, old, new


def _shown(value: Any) -> str | None:
    """Return a value as JSON text, cut; None where there is none."""
    if value is _ABSENT:
        return None
    return orjson.dumps(value).decode()[:VALUE_LIMIT]
