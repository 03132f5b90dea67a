"""Papers of invoicing: rows into what a template shows, in the words and numbers of a language.

A paper is made of what an invoice said when it was issued, not of what its parties are called now.
Its logo is the issuer's of now: it says nothing.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from mospay_ledger import papers
from mospay_ledger.domain.invoices import AGES, Row
from mospay_ledger.papers.languages import Language, language_of
from mospay_ledger.usecases import letter_heads

ENTRY_LIMIT = 5000  # rows of an ageing paper: about a hundred pages
STAMPED = ("draft", "void", "paid")  # what a reader must not overlook


def _line(row: Row, currency: str, language: Language) -> list[str]:
    amount = language.amount
    discount = amount(-row["discount_minor"], currency) if row["discount_minor"] else ""
    rate = language.percent(row["tax_rate_bps"]) if row["tax_rate_bps"] else ""
    if rate and row["tax_inclusive"]:
        rate = language.say("invoice.inclusive", rate=rate)
    return [
        row["description"],
        language.quantity(row["quantity"]),
        amount(row["unit_price_minor"], currency),
        discount,
        rate,
        amount(row["total_minor"], currency),
    ]


def _sums(invoice: Row, language: Language) -> list[list[str]]:
    """Return what the lines come to."""
    currency, say = invoice["currency"], language.say
    total, tax, discount = (invoice[f"{name}_minor"] for name in ("total", "tax", "discount"))
    sums = [
        [say("invoice.net"), language.amount(total - tax, currency)],
        [say("invoice.tax"), language.amount(tax, currency)],
    ]
    if discount:
        sums.insert(0, [say("invoice.discounts"), language.amount(-discount, currency)])
    total_words = say("invoice.total", currency=currency)
    return [*sums, [total_words, language.amount(total, currency)]]


def _after(
    invoice: Row, payments: Sequence[Row], notes: Sequence[Row], language: Language
) -> list[list[str]]:
    """Return what lowered the total since, and what is open; nothing where nothing did."""
    currency, say = invoice["currency"], language.say
    paid = [
        (
            say(
                "invoice.paid_on",
                source=language.known("sources", p["source"]),
                day=language.day(p["at"]),
            ),
            p["applied_minor"],
        )
        for p in payments
    ]
    credited = [(say("invoice.credited", number=n["number"]), n["applied_minor"]) for n in notes]
    after = [
        [words, language.amount(-minor, currency)] for words, minor in paid + credited if minor
    ]
    if after:
        open_words = say("invoice.open", currency=currency)
        after.append([open_words, language.amount(invoice["open_minor"], currency)])
    return after


def _day(day: dt.date | None, language: Language) -> str:
    return "" if day is None else language.day(day)


def invoice_data(
    invoice: Row,
    lines: Sequence[Row],
    payments: Sequence[Row],
    notes: Sequence[Row],
    issuer: Any,
    customer: Any,
    logo: Row | None,
    language: Language,
) -> dict[str, Any]:
    """Return what `invoice.typ` shows; a draft has the parties as they are now."""
    currency, status = invoice["currency"], invoice["status"]
    word = language.known("statuses", status)
    return {
        "issuer": letter_heads.head(issuer, logo, language),
        "customer": letter_heads.party(customer, language),
        "number": invoice["number"] or language.say("statuses.draft"),
        "issued_on": _day(invoice["issued_on"], language),
        "due_on": _day(invoice["due_on"], language),
        "reference": invoice["reference"],
        "currency": currency,
        "status": word,
        "stamp": word if status in STAMPED else None,
        "test": invoice["mode"] == "test",
        "lines": [_line(row, currency, language) for row in lines],
        "sums": _sums(invoice, language),
        "after": _after(invoice, payments, notes, language),
        "notes": invoice["notes"],
        "void_reason": invoice["void_reason"],
    }


def credit_note_data(
    note: Row, invoice: Row, logo: Row | None, language: Language
) -> dict[str, Any]:
    """Return what `credit_note.typ` shows."""
    currency, total, tax = note["currency"], note["total_minor"], note["tax_minor"]
    say = language.say

    def told(phrase: str, minor: int) -> str | None:
        shown = f"{language.amount(minor, currency)}\u00a0{currency}"
        return say(phrase, amount=shown) if minor else None

    return {
        "issuer": letter_heads.head(invoice["issuer_snapshot"], logo, language),
        "customer": letter_heads.party(invoice["customer_snapshot"], language),
        "number": note["number"],
        "invoice": invoice["number"],
        "issued_on": _day(note["issued_on"], language),
        "test": note["mode"] == "test",
        "reason": note["reason"],
        "sums": [
            [say("invoice.net"), language.amount(total - tax, currency)],
            [say("invoice.tax"), language.amount(tax, currency)],
            [say("credit_note.credited", currency=currency), language.amount(total, currency)],
        ],
        "applied": told("credit_note.applied", note["applied_minor"]),
        "kept": told("credit_note.kept", total - note["applied_minor"]),
    }


def ageing_data(
    issuer: Any,
    as_of: dt.date,
    totals: Sequence[Row],
    rows: Sequence[Row],
    customer: Any = None,
    invoices: Sequence[Row] = (),
    logo: Row | None = None,
) -> dict[str, Any]:
    """Return what `ageing.typ` shows: of all customers, or of one with the invoices behind it."""
    language = language_of(issuer["locale"])
    return {
        "issuer": letter_heads.head(issuer, logo, language),
        "customer": letter_heads.party(customer, language) if customer else None,
        "as_of": language.day(as_of),
        "test": issuer["mode"] == "test",
        "ages": [language.say(f"ages.{age}") for age in AGES],
        "currencies": [
            {
                "currency": total["currency"],
                "rows": [
                    [row["customer_name"], *_ages(row, language)]
                    for row in rows
                    if row["currency"] == total["currency"]
                ],
                "total": [language.say("ageing.total"), *_ages(total, language)],
                "invoices": [
                    _aged(row, language) for row in invoices if row["currency"] == total["currency"]
                ],
            }
            for total in totals
        ],
    }


def _aged(row: Row, language: Language) -> list[str]:
    return [
        row["number"],
        language.short_day(row["issued_on"]),
        language.short_day(row["due_on"]),
        str(max(row["days"], 0) or ""),
        language.amount(row["total_minor"], row["currency"]),
        language.amount(row["open_minor"], row["currency"]),
    ]


def _ages(row: Row, language: Language) -> list[str]:
    minors = [row[age] for age in AGES]
    shown = [language.amount(minor, row["currency"]) if minor else "" for minor in minors]
    return [*shown, language.amount(row["open_minor"], row["currency"])]


async def invoice(
    row: Row,
    lines: Sequence[Row],
    payments: Sequence[Row],
    notes: Sequence[Row],
    issuer: Any,
    customer: Any,
    logo: Row | None,
) -> bytes:
    """Return an invoice as PDF in its customer's language; raises papers.PaperError."""
    language = language_of(customer["locale"])
    data = invoice_data(row, lines, payments, notes, issuer, customer, logo, language)
    return await papers.render("invoice", data, language)


async def credit_note(note: Row, of_invoice: Row, logo: Row | None) -> bytes:
    """Return a credit note as PDF in its customer's language; raises papers.PaperError."""
    language = language_of(of_invoice["customer_snapshot"]["locale"])
    data = credit_note_data(note, of_invoice, logo, language)
    return await papers.render("credit_note", data, language)


async def ageing(issuer: Any, *parts: Any) -> bytes:
    """Return an ageing statement as PDF in its issuer's language; parts as of `ageing_data`.

    Raises papers.PaperError.
    """
    data = ageing_data(issuer, *parts)
    return await papers.render("ageing", data, language_of(issuer["locale"]))
