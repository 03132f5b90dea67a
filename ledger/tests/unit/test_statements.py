"""Reading statements: exact amounts, every encoding, faults by line and column, any chunking."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mospay_ledger.domain.entries import is_balanced
from mospay_ledger.domain.reconciliation import (
    Difference,
    NotAllowed,
    check_resolution,
    entries_of,
    limits_of,
    needs_two,
    taken_back,
)
from mospay_ledger.domain.statement_mappings import PRESETS, StatementMapping, preset_of
from mospay_ledger.domain.statements import (
    LINE_LIMIT_BYTES,
    Parsed,
    Position,
    packed,
    parse_chunk,
    unpacked,
)
from pydantic import ValidationError

BASE: dict[str, Any] = {
    "reference": "Id",
    "amount": "Amount",
    "currency": "Currency",
    "occurred_at": ["Date"],
}
HEADER = "Id,Amount,Currency,Date\n"


def mapping(**changes: Any) -> StatementMapping:
    """A mapping of four columns."""
    return StatementMapping.model_validate(BASE | changes)


def read(text: str | bytes, how: StatementMapping | None = None) -> Parsed:
    """Parse a whole file at once."""
    how = how or mapping()
    data = text if isinstance(text, bytes) else text.encode(how.encoding)
    return parse_chunk(how, Position(), data, last=True)


def one(cells: str, **changes: Any) -> Any:
    """Parse one line; the line of money, or the fault's (column, code)."""
    found = read(HEADER + cells + "\n", mapping(**changes))
    if found.faults:
        return found.faults[0].column, found.faults[0].code
    return found.lines[0]


@pytest.mark.parametrize(
    ("amount", "currency", "minor", "how"),
    [
        ("1500", "RWF", 1500, {}),
        ("19.99", "USD", 1999, {}),
        ("-19.9", "USD", -1990, {}),
        ("(19.90)", "USD", -1990, {}),
        ("12.345", "KWD", 12345, {}),
        ("1500.00", "RWF", 1500, {}),
        ('"1,234.50"', "USD", 123450, {"grouping": ","}),
        ('"12,34,567.00"', "INR", 123456700, {"grouping": ","}),
        ('"1.234,50"', "EUR", 123450, {"grouping": ".", "decimal_mark": ","}),
        ("1\u00a0234", "RWF", 1234, {"grouping": " "}),
        ("1234", "USD", 1234, {"unit": "minor"}),
        ("9007199254740993", "RWF", 9007199254740993, {}),
    ],
)
def test_amounts_are_read_exactly(amount: str, currency: str, minor: int, how: Any) -> None:
    line = one(f"r1,{amount},{currency},2026-11-01T10:00:00Z", **how)
    assert (line.amount_minor, line.currency) == (minor, currency)


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ("r1,19.999,USD,2026-11-01", ("Amount", "too_precise")),
        ("r1,0.5,RWF,2026-11-01", ("Amount", "too_precise")),
        ("r1,abc,USD,2026-11-01", ("Amount", "invalid_amount")),
        ("r1,=1+1,USD,2026-11-01", ("Amount", "invalid_amount")),
        ("r1,1e3,USD,2026-11-01", ("Amount", "invalid_amount")),
        ("r1,,USD,2026-11-01", ("Amount", "invalid_amount")),
        ("r1,0,USD,2026-11-01", ("Amount", "zero")),
        ("r1,99999999999999999999,USD,2026-11-01", ("Amount", "amount_out_of_range")),
        ("r1,9223372036854775807,RWF,2026-11-01", ("Amount", "amount_out_of_range")),
        ("r1,5,XXX,2026-11-01", ("Currency", "currency")),
        ("r1,5,USD,yesterday", ("Date", "time")),
        ("r1,5,USD,1970-01-01", ("Date", "time")),
        ("r1,5,USD,9999-12-31", ("Date", "time")),
        ("r1,5,USD", ("", "columns")),
        ("r1,5,USD,2026-11-01,,,", ("", "columns")),
        ('r1,"5,USD,2026-11-01', ("", "quotes")),
        ("r\x001,5,USD,2026-11-01", ("Id", "control_character")),
        ("r" * 201 + ",5,USD,2026-11-01", ("Id", "too_long")),
    ],
)
def test_a_malformed_line_is_reported_by_column(cells: str, fault: tuple[str, str]) -> None:
    assert one(cells) == fault


@pytest.mark.parametrize("text", ["1,23", "12,3456", "1,2,3", ",123", "1,234,56"])
def test_wrong_grouping_is_a_fault_not_another_amount(text: str) -> None:
    assert one(f'r1,"{text}",USD,2026-11-01', grouping=",") == ("Amount", "amount")


def test_good_lines_around_a_bad_one_are_read_and_the_bad_one_has_its_line_number() -> None:
    found = read(HEADER + "a,1,RWF,2026-11-01\nb,x,RWF,2026-11-01\n\nc,3,RWF,2026-11-01\r\n")
    assert [(line.line_no, line.reference) for line in found.lines] == [(2, "a"), (5, "c")]
    (fault,) = found.faults
    assert (fault.line_no, fault.column) == (3, "Amount")
    assert "1000 or 10.50" in fault.message


def test_a_stray_quote_spoils_one_line_alone() -> None:
    found = read(HEADER + 'a,1,RWF,2026-11-01\nb,"2,RWF,2026-11-01\nc,3,RWF,2026-11-01\n')
    assert [line.reference for line in found.lines] == ["a", "c"]
    assert [(f.line_no, f.code) for f in found.faults] == [(3, "quotes")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "windows-1252"])
def test_encodings_give_the_same_references(encoding: str) -> None:
    found = read(
        ("\ufeff" if encoding != "windows-1252" else "") + HEADER + "café,1,RWF,2026-11-01\n",
        mapping(encoding=encoding),
    )
    assert [line.reference for line in found.lines] == ["café"]


def test_a_line_of_another_encoding_is_a_fault_of_that_line() -> None:
    data = (HEADER + "caf\xe9,1,RWF,2026-11-01\nb,2,RWF,2026-11-01\n").encode("latin-1")
    found = read(data)
    assert [(f.line_no, f.code) for f in found.faults] == [(2, "encoding")]
    assert [line.reference for line in found.lines] == ["b"]


def test_a_header_without_a_column_says_what_it_has() -> None:
    found = read("Id,Betrag,Currency,Date\na,1,RWF,2026-11-01\n")
    assert found.fatal is not None
    assert "Amount" in found.fatal and "Betrag" in found.fatal
    assert read("").fatal == read("\n\n").fatal == "the file has no header line"


def test_a_column_that_occurs_twice_is_named_by_its_number() -> None:
    text = "Id,Amount,Currency,Fee,Currency,Date\na,5,USD,1.00,RWF,2026-11-01\n"
    assert read(text, mapping(currency="Currency#2")).lines[0].currency == "RWF"


def test_times_are_read_in_the_statements_zone() -> None:
    line = one(
        "a,5,RWF,01/11/2026 01:30:00", date_format="%d/%m/%Y %H:%M:%S", time_zone="Africa/Kigali"
    )
    assert line.occurred_at == dt.datetime(2026, 10, 31, 23, 30, tzinfo=dt.UTC)
    seconds = one("a,5,RWF,1793000000", date_format="unix_seconds")
    assert seconds.occurred_at == dt.datetime.fromtimestamp(1793000000, dt.UTC)


def test_a_line_that_is_too_long_is_a_fault_and_the_next_is_read_in_any_chunks() -> None:
    data = (HEADER + "x" * (LINE_LIMIT_BYTES * 3) + "\nb,2,RWF,2026-11-01\n").encode()
    for size in (len(data), 70_000, 1000):
        found = in_chunks(mapping(), data, size)
        assert [(f.line_no, f.code) for f in found.faults] == [(2, "line_too_long")]
        assert [(line.line_no, line.reference) for line in found.lines] == [(3, "b")]


def in_chunks(how: StatementMapping, data: bytes, size: int) -> Parsed:
    """Parse in pieces, each by a parser that knows of the others only what is stored."""
    position, whole = Position(), Parsed(Position())
    pieces = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    for number, piece in enumerate(pieces):
        found = parse_chunk(how, position, piece, last=number == len(pieces) - 1)
        position = unpacked(packed(found.position), found.position.carry)
        whole.lines += found.lines
        whole.faults += found.faults
    return whole


cells = st.text(st.characters(exclude_characters="\n\x00", codec="utf-8"), max_size=12)


@given(
    rows=st.lists(st.one_of(st.integers(1, 10**6), cells), max_size=12),
    size=st.integers(1, 64),
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]),
)
@settings(max_examples=120, deadline=None)
def test_any_chunks_give_the_same_lines_and_faults(
    rows: list[Any], size: int, encoding: str
) -> None:
    text = HEADER + "".join(
        f"r{n},{row},RWF,2026-11-01\n" if isinstance(row, int) else f"{row}\n"
        for n, row in enumerate(rows)
    )
    how, data = mapping(encoding=encoding), text.encode(encoding)
    whole, pieces = in_chunks(how, data, len(data)), in_chunks(how, data, size)
    assert (whole.lines, whole.faults) == (pieces.lines, pieces.faults)
    assert len(whole.lines) >= sum(isinstance(row, int) for row in rows)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"amount": None}, "amount"),
        ({"credit": "In", "debit": "Out"}, "amount"),
        ({"default_currency": "USD"}, "currency"),
        ({"reference": None}, "reference"),
        ({"time_zone": "Mars/Base"}, "IANA"),
        ({"date_format": "%Q"}, "pattern"),
        ({"date_format": "%H:%M"}, "pattern"),
        ({"sign": "by_kind"}, "kind"),
        ({"grouping": "."}, "differ"),
        ({"surprise": 1}, "Extra"),
    ],
)
def test_a_mapping_that_contradicts_itself_is_refused(changes: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        mapping(**changes)


def test_credit_and_debit_columns_make_one_signed_amount() -> None:
    how = mapping(amount=None, credit="In", debit="Out")
    text = "Id,In,Out,Currency,Date\na,5.00,,USD,2026-11-01\nb,,2.50,USD,2026-11-01\n"
    assert [(x.kind, x.amount_minor) for x in read(text, how).lines] == [
        ("payment", 500),
        ("refund", -250),
    ]


PRESET_FILES = {
    "paypal": (
        '"Date","Time","TimeZone","Name","Type","Status","Currency","Gross","Fee","Net",'
        '"Transaction ID","Custom Number"\n'
        '"11/01/2026","10:00:00","PST","A","Express Checkout Payment","Completed","USD",'
        '"1,019.99","-29.88","990.11","8AB","pay_1"\n'
        '"11/01/2026","11:00:00","PST","A","Payment Refund","Completed","USD","-5.00","0.00",'
        '"-5.00","9CD","ref_1"\n'
        '"11/01/2026","12:00:00","PST","B","Website Payment","Pending","USD","1.00","0","1",'
        '"1EF",""\n',
        [("payment", 101999, 2988, "8AB"), ("refund", -500, 0, "9CD")],
    ),
    "razorpay": (
        "entity_id,type,debit,credit,amount,currency,fee,tax,created_at,order_receipt\n"
        "pay_A,payment,0,976.40,1000.00,INR,23.60,3.60,01/11/2026 10:00:00,att_1\n"
        "rfnd_B,refund,100.00,0,100.00,INR,0,0,01/11/2026 11:00:00,ref_1\n",
        [("payment", 100000, 2360, "pay_A"), ("refund", -10000, 0, "rfnd_B")],
    ),
    "mtnmomo": (
        "Id,External Transaction Id,Date,Status,Type,Amount,Currency,Fee,Currency\n"
        '77,pay_1,2026-11-01 10:00:00,Successful,Payment,"1,500",RWF,15,RWF\n'
        "78,pay_2,2026-11-01 10:00:00,Failed,Payment,1500,RWF,0,RWF\n",
        [("payment", 1500, 15, "77")],
    ),
    "simulator": (
        "provider_reference,reference,kind,amount,currency,fee,occurred_at\n"
        "sim_1,,payment,1500,RWF,0,2026-11-01T10:00:00Z\n",
        [("payment", 1500, 0, "sim_1")],
    ),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_read_their_exports(name: str) -> None:
    text, wanted = PRESET_FILES[name]
    found = read(text, PRESETS[name])
    assert found.faults == []
    assert [(x.kind, x.amount_minor, x.fee_minor, x.reference) for x in found.lines] == wanted


def test_a_preset_is_found_by_how_the_microservice_begins() -> None:
    assert (preset_of("mtnmomorwa"), preset_of("bank")) == ("mtnmomo", None)


def difference(kind: str, stated: int, expected: int = 0, other: str | None = None) -> Difference:
    """An exception in RWF."""
    at = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    return Difference("exc_1", kind, "m", "test", "RWF", stated, other, expected, None, None, at)


@given(
    stated=st.integers(-(2**40), 2**40),
    expected=st.integers(-(2**40), 2**40),
    other=st.sampled_from([None, "RWF", "USD"]),
    resolution=st.sampled_from(["write_off", "suspense_in", "confirm_fee"]),
)
def test_what_a_resolution_posts_balances_and_is_taken_back_whole(
    stated: int, expected: int, other: str | None, resolution: str
) -> None:
    entries = entries_of(difference("amount_differs", stated, expected, other), resolution, "why")
    back = taken_back(entries, "why", dt.datetime.now(dt.UTC))
    sums: dict[str, int] = {}
    for entry in entries:
        assert is_balanced(entry.postings)
        clearing = next(p for p in entry.postings if p.account.kind == "clearing")
        sums[entry.currency] = clearing.amount_minor
    if other in (None, "RWF"):
        assert sums.get("RWF", 0) == stated - expected
    else:
        assert (sums.get("RWF", 0), sums.get("USD", 0)) == (stated, -expected)
    left: dict[str, int] = {}
    for entry in [*entries, *back]:
        for side in entry.postings:
            left[side.account.id] = left.get(side.account.id, 0) + side.amount_minor
    assert not any(left.values())


def test_resolutions_fit_their_kind_and_two_people_are_asked_above_the_limit() -> None:
    with pytest.raises(NotAllowed, match="missing_here"):
        check_resolution(difference("missing_here", 5), "confirm_fee")
    with pytest.raises(NotAllowed, match="fee"):
        check_resolution(difference("amount_differs", 7, 5), "confirm_fee")
    limits = limits_of(["RWF=100"])
    assert not needs_two(difference("missing_here", 100), "suspense_in", limits)
    assert needs_two(difference("missing_here", 101), "suspense_in", limits)
    assert needs_two(difference("missing_here", 1, 1, "USD"), "suspense_in", limits)
    assert not needs_two(difference("duplicate", 500), "duplicate_dismiss", limits)
    for wrong in ("RWF", "RWF=-1", "rwf=1", "RWF=x"):
        with pytest.raises(ValueError, match="RWF=50000"):
            limits_of([wrong])
