"""Reading a statement: bytes into lines of money, or faults that say where and what instead.

A record is one physical line; a quoted field does not go over its end. So one stray quote spoils
one line, never the rest of a file, and memory is bounded by a chunk.
"""

import csv
import datetime as dt
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

from mospay_shared.money import MAX_MINOR, MoneyError, exponent, parse_minor

from mospay_ledger.domain.errors import AMOUNT_LIMIT_MINOR
from mospay_ledger.domain.statement_mappings import StatementMapping

REFERENCE_LIMIT = 200  # characters a reference
LINE_LIMIT_BYTES = 64 * 1024  # no export has longer lines; more is a file of another kind
FIRST, LAST = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2000, 2100))
_UTF16 = {"utf-16-le": b"\n\x00", "utf-16-be": b"\x00\n"}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a line and column, and what to send instead. `line_no` counts from 1."""

    line_no: int
    column: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StatementLine:
    """A line of money: `amount_minor` is positive where the provider took money for us."""

    line_no: int
    fingerprint: bytes
    kind: str
    reference: str | None
    our_reference: str | None
    amount_minor: int
    currency: str
    fee_minor: int
    occurred_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Position:
    """Where a parser stands between two chunks: enough to go on in another process.

    `columns` are the header's places by name; None before the header. `skipping` says that the
    line under way was too long and its rest is to be passed over.
    """

    line_no: int = 0
    carry: bytes = b""
    columns: dict[str, int] | None = None
    skipping: bool = False


@dataclass(slots=True)
class Parsed:
    """What a chunk gave. `fatal` is set where the file can't be read at all."""

    position: Position
    lines: list[StatementLine] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    skipped: int = 0
    fatal: str | None = None


class _Bad(Exception):
    def __init__(self, column: str, code: str, message: str) -> None:
        super().__init__(message)
        self.column, self.code, self.message = column, code, message


def split(mapping: StatementMapping, data: bytes, *, last: bool) -> tuple[bytes, bytes]:
    """Return the whole lines of `data` and the rest, which belongs before the next chunk."""
    if last:
        return data, b""
    newline = _UTF16.get(mapping.encoding, b"\n")
    at = data.rfind(newline)
    while at >= 0 and len(newline) == 2 and at % 2:  # not a character of its own
        at = data.rfind(newline, 0, at + 1)
    end = at + len(newline) if at >= 0 else 0
    return data[:end], data[end:]


def parse_chunk(
    mapping: StatementMapping, position: Position, chunk: bytes, *, last: bool
) -> Parsed:
    """Parse the whole lines of a chunk and say where to go on; `last` closes the file."""
    data = position.carry + chunk
    whole, rest = split(mapping, data, last=last)
    skipping, number = position.skipping, position.line_no
    parsed = Parsed(position)
    texts = whole.decode(mapping.encoding, errors="replace").split("\n") if whole else []
    if texts and not last:
        texts.pop()  # behind the last line's end there is nothing
    if texts and skipping:
        texts, number, skipping = texts[1:], number + 1, False
    reader: _Reader | None = _Reader(mapping, position.columns) if position.columns else None
    for text in texts:
        number += 1
        line = text.removesuffix("\r")
        if number == 1:
            line = line.removeprefix("\ufeff")
        if reader is not None:
            reader.read(number, line, parsed)
        elif number > mapping.skip_lines and line.strip():
            header, parsed.fatal = _header(mapping, line)
            if parsed.fatal is not None:
                parsed.faults.append(Fault(number, "", "header", parsed.fatal))
                return parsed
            reader = _Reader(mapping, header)
    if len(rest) > LINE_LIMIT_BYTES:
        if not skipping:
            parsed.faults.append(_too_long(number + 1))
        # an odd byte of a two-byte encoding stays, so that characters keep their places
        odd = len(rest) % 2 if mapping.encoding in _UTF16 else 0
        rest, skipping = rest[len(rest) - odd :], True
    if last and reader is None and parsed.fatal is None:
        parsed.fatal = "the file has no header line"
        parsed.faults.append(Fault(max(number, 1), "", "header", parsed.fatal))
    columns = reader.columns if reader else None
    parsed.position = replace(
        position, line_no=number, carry=rest, columns=columns, skipping=skipping
    )
    return parsed


def _too_long(number: int) -> Fault:
    message = f"is longer than {LINE_LIMIT_BYTES} bytes: export one transaction a line"
    return Fault(number, "", "line_too_long", message)


def _header(mapping: StatementMapping, line: str) -> tuple[dict[str, int], str | None]:
    """Return the places of the columns, or what is wrong with the header."""
    try:
        names = _fields(line, mapping.delimiter)
    except csv.Error:
        return {}, "the header's quotes do not close"
    found: dict[str, int] = {}
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        plain = name.strip().casefold()
        seen[plain] = seen.get(plain, 0) + 1
        found[plain if seen[plain] == 1 else f"{plain}#{seen[plain]}"] = place
    missing = [name for name in mapping.headers() if name.strip().casefold() not in found]
    if missing:
        shown = ", ".join(_CONTROL.sub("?", name.strip()[:40]) for name in names[:30])
        return {}, f"has no column {', '.join(missing)}; it has: {shown}"
    columns = {name: found[name.strip().casefold()] for name in mapping.headers()}
    return columns | {"": len(names)}, None


def _fields(line: str, delimiter: str) -> list[str]:
    if '"' not in line:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter, strict=True))


class _Reader:
    """Reads lines by a mapping whose columns are known."""

    def __init__(self, mapping: StatementMapping, columns: dict[str, int]) -> None:
        self.columns = columns
        self._mapping = mapping
        self._width = max(place for name, place in columns.items() if name) + 1
        self._at = instants(mapping)
        self._number = amounts(mapping)

    def read(self, number: int, line: str, into: Parsed) -> None:
        """Read one line into a line of money, a fault, or nothing."""
        if not line.strip():
            return
        try:
            if len(line) > LINE_LIMIT_BYTES:
                into.faults.append(_too_long(number))
                return
            found = self._line(number, line)
        except _Bad as bad:
            into.faults.append(Fault(number, bad.column, bad.code, bad.message))
            return
        if found is None:
            into.skipped += 1
        else:
            into.lines.append(found)

    def _line(self, number: int, line: str) -> StatementLine | None:
        mapping = self._mapping
        if "\ufffd" in line:
            say = f"is not {mapping.encoding}: export as UTF-8, or set the mapping's encoding"
            raise _Bad("", "encoding", say)
        try:
            cells = _fields(line, mapping.delimiter)
        except csv.Error as error:
            say = "has a quote that does not close on its line: write quotes in a field twice"
            raise _Bad("", "quotes", say) from error
        if len(cells) < self._width or len(cells) > self.columns[""] + 1:
            say = f"has {len(cells)} columns, the header has {self.columns['']}"
            raise _Bad("", "columns", say)
        for name, values in mapping.only.items():
            if cells[self.columns[name]].strip() not in values:
                return None
        currency = self._currency(cells)
        kind, amount = self._money(cells, currency)
        fee = self._fee(cells, currency)
        if mapping.amount_is == "net":
            amount += fee
        self._check(kind, amount)
        occurred_at = self._when(cells)
        reference = self._text(cells, mapping.reference)
        ours = self._text(cells, mapping.our_reference)
        said = (reference or "", ours or "", kind, str(amount), currency, occurred_at.isoformat())
        digest = hashlib.blake2b("\x1f".join(said).encode(), digest_size=16).digest()
        return StatementLine(
            number, digest, kind, reference, ours, amount, currency, fee, occurred_at
        )

    def _cell(self, cells: Sequence[str], name: str) -> str:
        return cells[self.columns[name]].strip()

    def _text(self, cells: Sequence[str], name: str | None) -> str | None:
        if name is None:
            return None
        text = self._cell(cells, name)
        if len(text) > REFERENCE_LIMIT:
            raise _Bad(name, "too_long", f"must be at most {REFERENCE_LIMIT} characters")
        if _CONTROL.search(text):
            raise _Bad(name, "control_character", "has a control character: remove it")
        return text or None

    def _currency(self, cells: Sequence[str]) -> str:
        name = self._mapping.currency
        if name is None:
            assert self._mapping.default_currency is not None
            return self._mapping.default_currency
        code = self._cell(cells, name).upper()
        try:
            exponent(code)
        except MoneyError as error:
            raise _Bad(name, "currency", "must be an ISO 4217 code such as RWF") from error
        return code

    def _kind(self, cells: Sequence[str]) -> str | None:
        mapping = self._mapping
        if mapping.kind is None:
            return None
        said = self._cell(cells, mapping.kind)
        kind = mapping.kinds.get(said, mapping.other_kinds)
        if kind is None:
            known = ", ".join(list(mapping.kinds)[:20])
            raise _Bad(mapping.kind, "kind", f"must be one of: {known}")
        return kind

    def _money(self, cells: Sequence[str], currency: str) -> tuple[str, int]:
        mapping, kind = self._mapping, self._kind(cells)
        if mapping.amount is not None:
            amount = self._number(self._cell(cells, mapping.amount), currency, mapping.amount)
        else:
            assert mapping.credit is not None and mapping.debit is not None
            credit, debit = (
                self._number(self._cell(cells, name) or "0", currency, name)
                for name in (mapping.credit, mapping.debit)
            )
            amount = abs(credit) - abs(debit)
        if mapping.sign == "inverted":
            amount = -amount
        elif mapping.sign == "by_kind":
            amount = -abs(amount) if kind in ("refund", "fee", "payout") else abs(amount)
        return kind or ("payment" if amount > 0 else "refund"), amount

    def _fee(self, cells: Sequence[str], currency: str) -> int:
        return sum(
            abs(self._number(self._cell(cells, name) or "0", currency, name))
            for name in self._mapping.fees
        )

    def _check(self, kind: str, amount: int) -> None:
        name = self._mapping.amount or self._mapping.credit or ""
        if amount == 0:
            raise _Bad(name, "zero", "must not be zero: leave such lines out")
        if abs(amount) > AMOUNT_LIMIT_MINOR:
            raise _Bad(name, "amount_out_of_range", "is larger than this system can hold")
        if (kind == "payment" and amount < 0) or (kind == "refund" and amount > 0):
            say = f"has the wrong sign for a {kind}: see the mapping's sign"
            raise _Bad(name, "sign", say)

    def _when(self, cells: Sequence[str]) -> dt.datetime:
        names = self._mapping.occurred_at
        text = " ".join(self._cell(cells, name) for name in names)
        try:
            found = self._at(text)
        except (ValueError, OverflowError, OSError) as error:
            say = f"must be a time such as the mapping says ({self._mapping.date_format})"
            raise _Bad(names[0], "time", say) from error
        if not FIRST <= found < LAST:
            raise _Bad(names[0], "time", "must be between the years 2000 and 2100")
        return found


def instants(mapping: StatementMapping) -> Callable[[str], dt.datetime]:
    """Return what reads a time as this mapping writes it; it raises ValueError or OverflowError."""
    zone, pattern = ZoneInfo(mapping.time_zone), mapping.date_format
    if pattern in ("unix_seconds", "unix_milliseconds"):
        scale = 1 if pattern == "unix_seconds" else 1000

        def unix(text: str) -> dt.datetime:
            if not text.isascii() or not text.isdigit():
                raise ValueError("must be digits")
            whole, rest = divmod(int(text), scale)
            start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
            return start + dt.timedelta(seconds=whole, milliseconds=rest)

        return unix

    def read(text: str) -> dt.datetime:
        if pattern == "iso":
            found = dt.datetime.fromisoformat(text)
        else:
            found = dt.datetime.strptime(text, pattern)  # noqa: DTZ007 - the zone is set below
        if found.tzinfo is None:
            found = found.replace(tzinfo=zone)
        return found.astimezone(dt.UTC)

    return read


def amounts(mapping: StatementMapping) -> Callable[[str, str, str], int]:
    """Return what reads (text, currency, column) exactly into minor units, with its sign."""
    mark, group = mapping.decimal_mark, mapping.grouping
    # groups of three; of two above that in India: 12,34,567.00
    shape = re.compile(rf"^\d{{1,3}}(?:{re.escape(group)}\d{{2,3}})*{re.escape(group)}\d{{3}}$")

    def read(text: str, currency: str, column: str) -> int:
        plain = text.replace("\u00a0", " ").replace("\u202f", " ").strip()
        negative = plain[:1] in ("-", "\u2212")
        if plain[:1] in ("+", "-", "\u2212"):
            plain = plain[1:].strip()
        elif plain[:1] == "(" and plain[-1:] == ")":
            plain, negative = plain[1:-1].strip(), True
        whole, found, decimals = plain.partition(mark)
        if group and group in whole:
            if not shape.match(whole):
                raise _Bad(column, "amount", "has its digits grouped wrongly")
            whole = whole.replace(group, "")
        try:
            if mapping.unit == "minor":
                if found or not whole.isascii() or not whole.isdigit() or len(whole) > 19:
                    raise _Bad(column, "amount", "must be whole minor units such as 1050")
                minor = int(whole)
                if minor > MAX_MINOR:
                    raise MoneyError("amount_out_of_range", "is larger than this system can hold")
            else:
                minor = parse_minor(f"{whole}.{decimals}" if found else whole, currency)
        except MoneyError as error:
            raise _Bad(column, error.code, str(error)) from error
        return -minor if negative else minor

    return read


def packed(position: Position) -> dict[str, Any]:
    """Return a position's members but `carry`, for a jsonb column."""
    return {
        "line_no": position.line_no,
        "columns": position.columns,
        "skipping": position.skipping,
    }


def unpacked(stored: dict[str, Any], carry: bytes) -> Position:
    """Return the position that `packed` kept."""
    return Position(
        int(stored.get("line_no", 0)), carry, stored.get("columns"), bool(stored.get("skipping"))
    )
