"""Letter heads: whose name, lines, colour and logo a paper bears, in which language."""

from typing import Any

from mospay_shared.chassis.database import Tx

from mospay_ledger.domain.invoices import Row
from mospay_ledger.papers.languages import Language, language_of
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import customers, logos


def _lines(of: Any, language: Language) -> list[str]:
    tax_id = language.say("letter.tax_id", number=of["tax_id"]) if of.get("tax_id") else ""
    found = [*str(of.get("address") or "").splitlines(), tax_id]
    return [line for line in (*found, of.get("email"), of.get("phone")) if line]


def head(issuer: Any, logo: Row | None, language: Language) -> dict[str, Any]:
    """Return an issuer (its row, or the copy an invoice has) as a letter head shows it."""
    shown = ("content", "format", "width", "height")
    return {
        "name": issuer["name"],
        "lines": _lines(issuer, language),
        "colour": issuer["colour"],
        "foot": issuer.get("footer") or issuer["name"],
        "logo": None if logo is None else {name: logo[name] for name in shown},
    }


def party(customer: Any, language: Language) -> list[str]:
    """Return whom a paper is for, a line each."""
    return [customer["name"], *_lines(customer, language)]


async def of_operator(
    tx: Tx, mode: str, settings: LedgerSettings
) -> tuple[dict[str, Any], Language]:
    """Return the operator's letter head in a mode, and the language of its papers.

    Its issuer's, where it has one; `tx` must see it. Else what the settings say, in English.
    """
    issuer = await customers.issuer_of(tx, None, mode)
    if issuer is not None:
        language = language_of(issuer["locale"])
        return head(issuer, await logos.find(tx, issuer["id"]), language), language
    lines = [line for line in settings.operator_address.split("\n") if line]
    named = {
        "name": settings.operator_name, "lines": lines, "colour": settings.operator_colour
    }  # fmt: skip
    return named, language_of(None)
