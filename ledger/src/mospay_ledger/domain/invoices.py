"""Rules of invoices: what a line comes to, which step may follow which, what is still open. Pure.

InvoiceError(LedgerError)
├── InvoiceInvalid   a field that can't be so; `faults` say which and why
├── InvoiceMissing   no such issuer, customer, invoice or credit note (or not theirs)
├── StaleVersion     somebody changed it since it was read
├── StepRefused      a step its state does not allow; `status` says which state
└── ReferenceTaken   another customer of the issuer has that reference
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from mospay_ledger.domain.errors import AMOUNT_LIMIT_MINOR, LedgerError
from mospay_ledger.domain.fees import BASIS, share

LINE_LIMIT = 500  # lines an invoice: a paper of about twenty pages
QUANTITY_UNIT = 10**6  # quantities have at most six decimals
QUANTITY_LIMIT = Decimal(10) ** 9
# A step to the same state is none. The database holds the same table (23M20).
STEPS: dict[str, frozenset[str]] = {
    "draft": frozenset({"issued"}),
    "issued": frozenset({"part_paid", "paid", "overdue", "void"}),
    "part_paid": frozenset({"paid", "overdue"}),
    "overdue": frozenset({"paid", "void"}),
    "paid": frozenset(),
    "void": frozenset(),
}
AGES = ("current", "days_1_30", "days_31_60", "days_61_90", "days_over_90")


class Row(Protocol):
    """What can be asked by name: a row of the database, or a dictionary."""

    def __getitem__(self, key: str, /) -> Any: ...


class InvoiceError(LedgerError):
    """Base of what invoicing refuses."""

    code = "invoice_error"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one field, such as `lines.2.quantity`."""

    field: str
    code: str
    message: str


class InvoiceInvalid(InvoiceError):
    """Fields that can't be so."""

    code = "invoice_invalid"

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(f"{fault.field} {fault.message}" for fault in faults[:5]))
        self.faults = faults


class InvoiceMissing(InvoiceError):
    """There is no such thing, or not for who asks."""

    code = "not_found"


class StaleVersion(InvoiceError):
    """Somebody changed it since it was read; `current` is its version now."""

    code = "stale_version"

    def __init__(self, current: int) -> None:
        super().__init__(f"it is at version {current}")
        self.current = current


class StepRefused(InvoiceError):
    """Its state does not allow that."""

    code = "step_refused"

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class ReferenceTaken(InvoiceError):
    """Another customer of the issuer has that reference."""

    code = "reference_taken"


def invalid(field: str, message: str, code: str = "invalid") -> InvoiceInvalid:
    """Return the refusal of one field."""
    return InvoiceInvalid(Fault(field, code, message))


@dataclass(frozen=True, slots=True)
class Amounts:
    """What one line comes to, minor units; total = net + tax, gross is before the discount."""

    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    total_minor: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it was entered. The discount is a share (basis points) or an amount, not both.

    With `tax_inclusive` the price has its tax in it. Fee invoices alone have negative prices.
    """

    description: str
    quantity: Decimal
    unit_price_minor: int
    discount_bps: int | None = None
    discount_minor: int | None = None
    tax_rate_bps: int = 0
    tax_inclusive: bool = False
    service_id: str | None = None

    def amounts(self) -> Amounts:
        """Return the line's amounts: each is rounded once, half to even, from exact numbers.

        gross = quantity x price; discount of gross; tax of what is left (or, where the price has it
        in it, the tax within what is left). Invoices add up lines and round no more.
        """
        gross = share(self.unit_price_minor, int(self.quantity * QUANTITY_UNIT), QUANTITY_UNIT)
        discount = (
            share(gross, self.discount_bps, BASIS)
            if self.discount_bps is not None
            else self.discount_minor or 0
        )
        left = gross - discount
        if self.tax_inclusive:
            tax = share(left, self.tax_rate_bps, BASIS + self.tax_rate_bps)
            return Amounts(gross, discount, left - tax, tax, left)
        tax = share(left, self.tax_rate_bps, BASIS)
        return Amounts(gross, discount, left, tax, left + tax)

    def faults(self, place: str) -> list[Fault]:
        """Return what is wrong with the line; `place` is its field, such as `lines.0`."""
        found = []
        exact = self.quantity * QUANTITY_UNIT
        if not 0 < self.quantity <= QUANTITY_LIMIT or exact != exact.to_integral_value():
            message = f"must be above 0, at most {QUANTITY_LIMIT:f}, with at most 6 decimals"
            found.append(Fault(f"{place}.quantity", "out_of_range", message))
            return found
        if self.discount_bps is not None and self.discount_minor is not None:
            message = "give a share or an amount, not both"
            found.append(Fault(f"{place}.discount_minor", "ambiguous", message))
        amounts = self.amounts()
        if abs(amounts.gross_minor) > AMOUNT_LIMIT_MINOR or amounts.total_minor > (
            AMOUNT_LIMIT_MINOR
        ):
            message = f"quantity x price (with tax) must not be beyond {AMOUNT_LIMIT_MINOR}"
            found.append(Fault(f"{place}.unit_price_minor", "out_of_range", message))
        elif self.unit_price_minor >= 0 and amounts.discount_minor > amounts.gross_minor:
            message = f"must not be more than the line's {amounts.gross_minor}"
            found.append(Fault(f"{place}.discount_minor", "out_of_range", message))
        return found


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the lines of an invoice, minor units."""

    net_minor: int
    tax_minor: int
    discount_minor: int
    total_minor: int


def totals_of(lines: Sequence[Line]) -> Totals:
    """Return an invoice's totals; raises InvoiceInvalid naming the lines that can't be so."""
    if len(lines) > LINE_LIMIT:
        raise invalid("lines", f"at most {LINE_LIMIT} lines", "too_long")
    faults = [f for number, line in enumerate(lines) for f in line.faults(f"lines.{number}")]
    if faults:
        raise InvoiceInvalid(*faults[:100])
    amounts = [line.amounts() for line in lines]
    totals = Totals(
        sum(a.net_minor for a in amounts),
        sum(a.tax_minor for a in amounts),
        sum(a.discount_minor for a in amounts),
        sum(a.total_minor for a in amounts),
    )
    if not 0 <= totals.total_minor <= AMOUNT_LIMIT_MINOR:
        raise invalid("lines", f"come to more than {AMOUNT_LIMIT_MINOR}", "out_of_range")
    return totals


def open_balance(invoice: Row) -> int:
    """Return what of an invoice (a row, or its event) is still to be paid, minor units.

    Once nothing is open nothing opens again: what is paid or credited beyond is the customer's.
    """
    if invoice["status"] in ("draft", "void"):
        return 0
    owed: int = invoice["total_minor"] - invoice["paid_minor"] - invoice["credited_minor"]
    return max(0, owed)


def check_step(status: str, to: str) -> None:
    """Raise StepRefused where an invoice can't go from `status` to `to`."""
    if to not in STEPS[status]:
        raise StepRefused(status, f"an invoice that is {status} can't become {to}")


def status_after(invoice: Row, *, paid_minor: int, credited_minor: int) -> str:
    """Return an issued invoice's state once so much is paid and credited.

    An overdue invoice stays overdue until nothing is open, whatever part of it is paid.
    """
    if invoice["total_minor"] - paid_minor - credited_minor <= 0:
        return "paid"
    status: str = invoice["status"]
    return "part_paid" if status == "issued" and paid_minor else status


def credited_tax(invoice: Row, amount_minor: int, tax_before_minor: int) -> int:
    """Return the tax in the next credit of `amount_minor`.

    The share of all credited so far, half to even, less what earlier notes had: notes over the
    whole invoice have the whole tax.
    """
    credited = invoice["credited_minor"] + amount_minor
    return share(invoice["tax_minor"], credited, invoice["total_minor"]) - tax_before_minor


def age_of(due_on: dt.date, as_of: dt.date) -> str:
    """Return which of AGES an invoice due on a day is in: the due day itself is `current`."""
    days = (as_of - due_on).days
    if days <= 0:
        return "current"
    return AGES[min(4, 1 + (days - 1) // 30)]
