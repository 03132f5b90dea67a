"""Papers of invoicing: rows into what a template shows. Amounts are text in the currency's own way.

A paper is made of what an invoice said when it was issued, not of what its parties are called now.
"""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from mospay_shared.money import MoneyError, format_minor

from mospay_ledger import papers
from mospay_ledger.domain.invoices import Row

ENTRY_LIMIT = 5000  # rows of an ageing paper: about a hundred pages
SOURCES = {
    "payment": "Payment",
    "netted": "Netted from settlement",
    "credit": "From your credit",
}
AGE_NAMES = {
    "current": "Not due",
    "days_1_30": "1-30 days",
    "days_31_60": "31-60 days",
    "days_61_90": "61-90 days",
    "days_over_90": "Over 90 days",
}


def amount(minor: int, currency: str) -> str:
    """Return an amount with groups of three: 123456789 RWF is `123,456,789`."""
    try:
        plain = format_minor(minor, currency)
    except MoneyError:  # booked under a code the exponent table lacks
        plain = str(minor)
    whole, point, rest = plain.lstrip("-").partition(".")
    return ("-" if minor < 0 else "") + f"{int(whole):,}" + point + rest


def percent(basis_points: int) -> str:
    """Return basis points as a percentage: 1850 is `18.5 %`."""
    return f"{(Decimal(basis_points) / 100).normalize():f} %"


def _lines_of(party: Any) -> list[str]:
    tax_id = f"Tax id {party['tax_id']}" if party.get("tax_id") else ""
    found = [*str(party.get("address") or "").splitlines(), tax_id]
    return [line for line in (*found, party.get("email"), party.get("phone")) if line]


def _head(issuer: Any) -> dict[str, Any]:
    return {
        "name": issuer["name"],
        "lines": _lines_of(issuer),
        "colour": issuer["colour"],
        "foot": issuer.get("footer") or issuer["name"],
    }


def _party(customer: Any) -> list[str]:
    return [customer["name"], *_lines_of(customer)]


def _quantity(value: Decimal) -> str:
    plain = f"{value:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _line(row: Row, currency: str) -> list[str]:
    discount = amount(-row["discount_minor"], currency) if row["discount_minor"] else ""
    rate = percent(row["tax_rate_bps"]) if row["tax_rate_bps"] else ""
    return [
        row["description"],
        _quantity(row["quantity"]),
        amount(row["unit_price_minor"], currency),
        discount,
        rate + (" incl." if rate and row["tax_inclusive"] else ""),
        amount(row["total_minor"], currency),
    ]


def invoice_data(
    invoice: Row,
    lines: Sequence[Row],
    payments: Sequence[Row],
    notes: Sequence[Row],
    issuer: Any,
    customer: Any,
) -> dict[str, Any]:
    """Return what `invoice.typ` shows; a draft has the parties as they are now."""
    currency, status = invoice["currency"], invoice["status"]
    total, tax, discount = (invoice[f"{name}_minor"] for name in ("total", "tax", "discount"))
    sums = [["Net", amount(total - tax, currency)], ["Tax", amount(tax, currency)]]
    if discount:
        sums.insert(0, ["Discounts (in the lines)", amount(-discount, currency)])
    sums.append([f"Total {currency}", amount(total, currency)])
    after = [
        [f"{SOURCES[p['source']]}, {p['at']:%Y-%m-%d}", amount(-p["applied_minor"], currency)]
        for p in payments
        if p["applied_minor"]
    ]
    after += [
        [f"Credit note {n['number']}", amount(-n["applied_minor"], currency)]
        for n in notes
        if n["applied_minor"]
    ]
    if after:
        after.append([f"Open {currency}", amount(invoice["open_minor"], currency)])
    return {
        "issuer": _head(issuer),
        "customer": _party(customer),
        "number": invoice["number"] or "Draft",
        "issued_on": str(invoice["issued_on"] or ""),
        "due_on": str(invoice["due_on"] or ""),
        "reference": invoice["reference"],
        "currency": currency,
        "status": status.replace("_", " "),
        "stamp": {"draft": "Draft", "void": "Void", "paid": "Paid"}.get(status),
        "test": invoice["mode"] == "test",
        "lines": [_line(row, currency) for row in lines],
        "sums": sums,
        "after": after,
        "notes": invoice["notes"],
        "void_reason": invoice["void_reason"],
    }


def credit_note_data(note: Row, invoice: Row) -> dict[str, Any]:
    """Return what `credit_note.typ` shows."""
    currency, total, tax = note["currency"], note["total_minor"], note["tax_minor"]
    kept = total - note["applied_minor"]
    return {
        "issuer": _head(invoice["issuer_snapshot"]),
        "customer": _party(invoice["customer_snapshot"]),
        "number": note["number"],
        "invoice": invoice["number"],
        "issued_on": str(note["issued_on"]),
        "currency": currency,
        "test": note["mode"] == "test",
        "reason": note["reason"],
        "sums": [
            ["Net", amount(total - tax, currency)],
            ["Tax", amount(tax, currency)],
            [f"Credited {currency}", amount(total, currency)],
        ],
        "applied": amount(note["applied_minor"], currency),
        "kept": amount(kept, currency) if kept else None,
    }


def ageing_data(
    issuer: Any,
    as_of: dt.date,
    totals: Sequence[Row],
    rows: Sequence[Row],
    customer: Any = None,
    invoices: Sequence[Row] = (),
) -> dict[str, Any]:
    """Return what `ageing.typ` shows: of all customers, or of one with the invoices behind it."""
    return {
        "issuer": _head(issuer),
        "customer": _party(customer) if customer else None,
        "as_of": str(as_of),
        "test": issuer["mode"] == "test",
        "ages": list(AGE_NAMES.values()),
        "currencies": [
            {
                "currency": total["currency"],
                "rows": [
                    [row["customer_name"], *_ages(row), amount(row["open_minor"], row["currency"])]
                    for row in rows
                    if row["currency"] == total["currency"]
                ],
                "total": ["Total", *_ages(total), amount(total["open_minor"], total["currency"])],
                "invoices": [
                    [
                        row["number"],
                        str(row["issued_on"]),
                        str(row["due_on"]),
                        str(max(row["days"], 0) or ""),
                        amount(row["total_minor"], row["currency"]),
                        amount(row["open_minor"], row["currency"]),
                    ]
                    for row in invoices
                    if row["currency"] == total["currency"]
                ],
            }
            for total in totals
        ],
    }


def _ages(row: Row) -> list[str]:
    return [amount(row[age], row["currency"]) if row[age] else "" for age in AGE_NAMES]


async def invoice(*parts: Any) -> bytes:
    """Return an invoice as PDF; parts as of `invoice_data`. Raises papers.PaperError."""
    return await papers.render("invoice", invoice_data(*parts))


async def credit_note(note: Row, of_invoice: Row) -> bytes:
    """Return a credit note as PDF; raises papers.PaperError."""
    return await papers.render("credit_note", credit_note_data(note, of_invoice))


async def ageing(*parts: Any) -> bytes:
    """Return an ageing statement as PDF; parts as of `ageing_data`. Raises papers.PaperError."""
    return await papers.render("ageing", ageing_data(*parts))
