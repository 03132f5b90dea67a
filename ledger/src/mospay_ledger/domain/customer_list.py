"""Customers as a CSV list (RFC 4180, UTF-8): every fault by line and column, or all of its rows.

What a spreadsheet would take for a formula is written with an apostrophe before it, and read so.
"""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

from mospay_ledger.domain.invoices import Fault, InvoiceInvalid, Row

COLUMNS = (
    "client_ref", "name", "email", "phone", "address", "tax_id", "locale", "active",
    "portal_enabled",
)  # fmt: skip
NEEDED = ("client_ref", "name")
FAULT_LIMIT = 1000  # told at once; a list with more is the wrong file
FORMULA = ("=", "+", "-", "@", "\t", "\r")
EMAIL = r"^[^@\s\x00-\x1f]{1,64}@[A-Za-z0-9.-]{1,190}\.[A-Za-z0-9-]{2,63}$"
PHONE = r"^\+[1-9][0-9]{6,14}$"
LOCALE = r"^[a-z]{2,3}(-[A-Z]{2})?$"
REFERENCE = r"^[\x21-\x7e]{1,80}$"
_SHAPES = {
    "client_ref": (REFERENCE, "must be 1 to 80 printable characters without spaces"),
    "email": (EMAIL, "is no e-mail address"),
    "phone": (PHONE, "must be E.164, such as +250788123456"),
    "locale": (LOCALE, "must be a language such as en or fr-RW"),
}
_LENGTHS = {"name": 200, "address": 500, "tax_id": 60}
_WORDS = {"true": True, "1": True, "yes": True, "": True, "false": False, "0": False, "no": False}
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def guarded(value: str) -> str:
    """Return a cell no spreadsheet runs as a formula."""
    return f"'{value}" if value.startswith((*FORMULA, "'")) else value


def unguarded(cell: str) -> str:
    """Return what `guarded` was given."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*FORMULA, "'")) else cell


def written(rows: Iterable[Row], *, header: bool) -> str:
    """Return customers as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    if header:
        writer.writerow(COLUMNS)
    for row in rows:
        cells = (row[name] for name in COLUMNS)
        writer.writerow(
            [
                str(cell).lower() if isinstance(cell, bool) else guarded(str(cell or ""))
                for cell in cells
            ]
        )
    return out.getvalue()


def read(content: bytes, *, row_limit: int) -> list[dict[str, Any]]:
    """Return the customers of a list, or raise InvoiceInvalid with all that is wrong with it.

    A fault's field is `line 3, email`; line 1 is the header. Columns may come in any order.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvoiceInvalid(Fault(f"line {line}", "encoding", "is not UTF-8")) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    faults: list[Fault] = []
    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        _check_header(header)
        line = reader.line_num
        for cells in reader:
            first, line = line + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) >= row_limit:
                message = f"a list has at most {row_limit} customers: send it in parts"
                raise InvoiceInvalid(Fault(f"line {first}", "too_long", message))
            rows.append(_row(first, header, cells, seen, faults))
    except csv.Error as error:
        faults.append(Fault(f"line {reader.line_num}", "malformed", f"is no CSV: {error}"))
    if faults:
        raise InvoiceInvalid(*faults[:FAULT_LIMIT])
    return rows


def _check_header(header: list[str]) -> None:
    faults = [
        Fault(f"line 1, column {number}", "unknown_column", f"is none of {', '.join(COLUMNS)}")
        for number, name in enumerate(header, 1)
        if name not in COLUMNS
    ]
    faults += [
        Fault(f"line 1, {name}", "repeated_column", "is there twice")
        for name in COLUMNS
        if header.count(name) > 1
    ]
    faults += [
        Fault(f"line 1, {name}", "required", "is a column the list must have")
        for name in NEEDED
        if name not in header
    ]
    if faults:
        raise InvoiceInvalid(*faults[:FAULT_LIMIT])


def _row(
    line: int, header: list[str], cells: list[str], seen: dict[str, int], faults: list[Fault]
) -> dict[str, Any]:
    if len(cells) != len(header):
        message = f"has {len(cells)} cells where the header has {len(header)}"
        faults.append(Fault(f"line {line}", "cells", message))
        return {}
    given = {name: unguarded(cell.strip()) for name, cell in zip(header, cells, strict=True)}
    row: dict[str, Any] = {name: given.get(name) or None for name in COLUMNS}
    for name, value in given.items():
        if (wrong := _fault(name, value)) is not None:
            code = "required" if not value else "invalid"
            faults.append(Fault(f"line {line}, {name}", code, wrong))
    reference = given["client_ref"]
    if reference in seen:
        message = f"is on line {seen[reference]} already"
        faults.append(Fault(f"line {line}, client_ref", "repeated", message))
    seen.setdefault(reference, line)
    row["locale"] = row["locale"] or "en"
    row["active"] = _WORDS.get(given.get("active", "").lower(), True)
    # An empty cell leaves the portal as it is: a list must not end logins by saying nothing.
    portal = given.get("portal_enabled", "").lower()
    row["portal_enabled"] = _WORDS.get(portal) if portal else None
    return row


def _fault(name: str, value: str) -> str | None:
    if not value:
        return "is required" if name in NEEDED else None
    if name in _SHAPES:
        pattern, message = _SHAPES[name]
        return None if re.fullmatch(pattern, value) else message
    if name in ("active", "portal_enabled"):
        return None if value.lower() in _WORDS else "must be true or false"
    if len(value) > _LENGTHS[name]:
        return f"must have at most {_LENGTHS[name]} characters"
    return "has a control character" if _CONTROLS.search(value) else None
