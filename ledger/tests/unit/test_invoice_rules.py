"""Lines, totals, rounding, steps, ages, customer lists: rules without I/O."""

import datetime as dt
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_ledger.domain import customer_list
from mospay_ledger.domain.invoices import (
    AGES,
    STEPS,
    InvoiceInvalid,
    Line,
    StepRefused,
    age_of,
    check_step,
    credited_tax,
    open_balance,
    status_after,
    totals_of,
)
from mospay_ledger.papers.languages import language_of
from mospay_ledger.usecases.fee_invoices import fee_lines, month_of, span_of

QUANTITIES = st.decimals("0.000001", "100000", places=6)
PRICES = st.integers(0, 10**10)
POINTS = st.integers(0, 10_000)


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """A line with a share, an amount or nothing off, tax in its price or on top."""
    quantity, price = draw(QUANTITIES), draw(PRICES)
    off = draw(st.sampled_from(["none", "share", "amount"]))
    gross = Line("x", quantity, price).amounts().gross_minor
    return Line(
        "x",
        quantity,
        price,
        discount_bps=draw(POINTS) if off == "share" else None,
        discount_minor=draw(st.integers(0, gross)) if off == "amount" else None,
        tax_rate_bps=draw(POINTS),
        tax_inclusive=draw(st.booleans()),
    )


def half_even(value: Decimal) -> int:
    return int(value.quantize(Decimal(1), ROUND_HALF_EVEN))


@given(st.lists(lines(), max_size=20))
def test_totals_are_the_sums_of_lines_to_the_unit(found: list[Line]) -> None:
    totals, parts = totals_of(found), [line.amounts() for line in found]
    assert totals.total_minor == sum(p.total_minor for p in parts)
    assert totals.total_minor == totals.net_minor + totals.tax_minor
    for part in parts:
        assert part.total_minor == part.net_minor + part.tax_minor
        assert 0 <= part.discount_minor <= part.gross_minor
        assert min(part.net_minor, part.tax_minor) >= 0


@given(lines())
def test_each_amount_of_a_line_is_rounded_once_half_to_even(line: Line) -> None:
    """Told another way: exact decimals, each rounded once. Currencies have no part in it."""
    found = line.amounts()
    gross = half_even(line.quantity * line.unit_price_minor)
    assert found.gross_minor == gross
    if line.discount_bps is not None:
        assert found.discount_minor == half_even(Decimal(gross) * line.discount_bps / 10_000)
    left = Decimal(gross - found.discount_minor)
    whole = 10_000 + line.tax_rate_bps if line.tax_inclusive else 10_000
    exact = left * line.tax_rate_bps / whole
    assert abs(found.tax_minor - exact) <= Decimal("0.5")
    assert found.total_minor == left + (0 if line.tax_inclusive else found.tax_minor)


@pytest.mark.parametrize(
    ("line", "total", "tax"),
    [
        # RWF, no decimals: 2.5 x 1500 less 10 % is 3375; 18 % of it is 607.5 → 608 (even)
        (Line("rwf", Decimal("2.5"), 1500, discount_bps=1000, tax_rate_bps=1800), 3983, 608),
        # USD, two: 3 x 19.99 with 20 % in it: 59.97 x 20 / 120 = 9.995 → 10.00
        (Line("usd", Decimal(3), 1999, tax_rate_bps=2000, tax_inclusive=True), 5997, 1000),
        # KWD, three: 12.345 less 0.345; 5 % of 12.000 is 0.600
        (Line("kwd", Decimal(1), 12345, discount_minor=345, tax_rate_bps=500), 12600, 600),
        (Line("half", Decimal("0.5"), 1), 0, 0),
        (Line("half", Decimal("1.5"), 1), 2, 0),
    ],
)
def test_worked_examples(line: Line, total: int, tax: int) -> None:
    found = line.amounts()
    assert (found.total_minor, found.tax_minor) == (total, tax)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (Line("x", Decimal(0), 1), "lines.0.quantity"),
        (Line("x", Decimal("0.0000001"), 1), "lines.0.quantity"),
        (Line("x", Decimal(10) ** 12, 1), "lines.0.quantity"),
        (Line("x", Decimal(1), 5, discount_minor=6), "lines.0.discount_minor"),
        (Line("x", Decimal(1), 5, discount_bps=1, discount_minor=1), "lines.0.discount_minor"),
        (Line("x", Decimal(10) ** 9, 2**53), "lines.0.unit_price_minor"),
    ],
)
def test_impossible_line_is_refused_by_its_field(line: Line, field: str) -> None:
    with pytest.raises(InvoiceInvalid) as refused:
        totals_of([line])
    assert refused.value.faults[0].field == field


def test_lines_beyond_what_an_amount_holds_are_refused() -> None:
    many = [Line("x", Decimal(1), 2**53)] * 2
    assert totals_of(many[:1]).total_minor == 2**53
    with pytest.raises(InvoiceInvalid):
        totals_of(many)


@pytest.mark.parametrize("status", STEPS)
@pytest.mark.parametrize("to", STEPS)
def test_only_listed_steps_are_taken(status: str, to: str) -> None:
    allowed = {
        ("draft", "issued"), ("issued", "part_paid"), ("issued", "paid"), ("issued", "overdue"),
        ("issued", "void"), ("part_paid", "paid"), ("part_paid", "overdue"), ("overdue", "paid"),
        ("overdue", "void"),
    }  # fmt: skip
    if (status, to) in allowed:
        check_step(status, to)
    else:
        with pytest.raises(StepRefused):
            check_step(status, to)


def row(**changes: Any) -> dict[str, Any]:
    values = {"status": "issued", "total_minor": 100, "tax_minor": 18, "paid_minor": 0,
              "credited_minor": 0}  # fmt: skip
    return values | changes


@pytest.mark.parametrize(
    ("invoice", "is_open"),
    [
        (row(), 100),
        (row(paid_minor=60, credited_minor=10), 30),
        (row(paid_minor=80, credited_minor=50), 0),
        (row(status="draft"), 0),
        (row(status="void"), 0),
    ],
)
def test_open_balance_is_never_negative(invoice: dict[str, Any], is_open: int) -> None:
    assert open_balance(invoice) == is_open


def test_overdue_invoice_stays_overdue_until_nothing_is_open() -> None:
    assert status_after(row(), paid_minor=1, credited_minor=0) == "part_paid"
    assert status_after(row(), paid_minor=0, credited_minor=99) == "issued"
    assert status_after(row(status="overdue"), paid_minor=99, credited_minor=0) == "overdue"
    assert status_after(row(status="overdue"), paid_minor=99, credited_minor=1) == "paid"


@given(st.integers(1, 10**6), st.data())
def test_credit_notes_over_a_whole_invoice_have_its_whole_tax(total: int, data: Any) -> None:
    tax = data.draw(st.integers(0, total))
    given_back = credited = 0
    while credited < total:
        part = data.draw(st.integers(1, total - credited))
        invoice = row(total_minor=total, tax_minor=tax, credited_minor=credited)
        part_tax = credited_tax(invoice, part, given_back)
        assert 0 <= part_tax <= part
        given_back, credited = given_back + part_tax, credited + part
        if part < total // 8:
            credited_rest = total - credited
            invoice = row(total_minor=total, tax_minor=tax, credited_minor=credited)
            if credited_rest:
                given_back += credited_tax(invoice, credited_rest, given_back)
            break
    assert given_back == tax


@pytest.mark.parametrize(
    ("days", "age"), [(-5, 0), (0, 0), (1, 1), (30, 1), (31, 2), (60, 2), (61, 3), (90, 3), (91, 4)]
)
def test_ages_change_after_30_60_and_90_days(days: int, age: int) -> None:
    due = dt.date(2026, 3, 1)
    assert age_of(due, due + dt.timedelta(days=days)) == AGES[age]


def test_months_follow_the_calendar_and_the_clock_of_the_issuer() -> None:
    assert month_of(dt.date(2026, 1, 31), 1) == dt.date(2025, 12, 1)
    start, end = span_of(dt.date(2026, 3, 1), "Europe/Berlin")
    assert start == dt.datetime(2026, 2, 28, 23, tzinfo=dt.UTC)
    assert end == dt.datetime(2026, 3, 31, 22, tzinfo=dt.UTC)  # summer time by then


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=8),
    st.integers(-1000, 0),
    POINTS,
)
def test_fee_lines_come_to_what_the_journal_says(
    services: list[tuple[int, int]], brought: int, tax_bps: int
) -> None:
    rows = [
        {"service_id": f"svc_{n}", "payments": 2, "refunds": 1, "taken_minor": taken,
         "returned_minor": back}
        for n, (taken, back) in enumerate(services)
    ]  # fmt: skip
    net = sum(taken - back for taken, back in services) + brought
    if net <= 0:
        return
    totals = totals_of(fee_lines(rows, brought, "RWF", tax_bps, language_of("fr")))
    assert totals.total_minor == net
    assert totals.tax_minor >= 0


HEADER = "client_ref,name,email,phone\r\n"


def faults(text: str | bytes, limit: int = 100) -> list[tuple[str, str]]:
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(InvoiceInvalid) as refused:
        customer_list.read(content, row_limit=limit)
    return [(fault.field, fault.code) for fault in refused.value.faults]


def test_every_fault_of_a_list_is_told_by_line_and_column() -> None:
    text = (
        HEADER
        + "C 1,Ann,,\r\n"
        + 'C-2,"Two\nlines",not an address,0788\r\n'
        + "C-3,,,+250788123456\r\n"
        + "C-3,Eve,,\r\n"
        + "C-5,Eve\r\n"
    )
    assert faults(text) == [
        ("line 2, client_ref", "invalid"),
        ("line 3, email", "invalid"),
        ("line 3, phone", "invalid"),
        ("line 5, name", "required"),
        ("line 6, client_ref", "repeated"),
        ("line 7", "cells"),
    ]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"client_ref,name\r\nC-1,\xff\r\n", "line 2"),
        ("", "line 1, client_ref"),
        ("name,colour\r\n", "line 1, column 2"),
        ("client_ref,name,name\r\n", "line 1, name"),
        (HEADER + '"open', "line 2"),
        (HEADER + "C-1,nul\x00,,\r\n", "line 2, name"),
        (HEADER + "C-1,a,,\r\nC-2,b,,\r\nC-3,c,,\r\n", "line 4"),
    ],
)
def test_unreadable_list_is_refused(content: str | bytes, field: str) -> None:
    assert faults(content, limit=2)[0][0] == field


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1,
                max_size=30).filter(lambda name: name == name.strip())  # fmt: skip


@given(st.lists(NAMES, max_size=5), st.booleans())
def test_written_list_reads_back_as_it_was(names: list[str], active: bool) -> None:
    rows = [
        {"client_ref": f"C-{n}", "name": name, "email": None, "phone": "+250788123456",
         "address": None, "tax_id": "=1+1", "locale": "en", "active": active,
         "portal_enabled": None if n % 2 else active}
        for n, name in enumerate(names)
    ]  # fmt: skip
    text = customer_list.written(rows, header=True)
    assert ",=1+1" not in text
    assert customer_list.read(text.encode(), row_limit=10) == rows
