"""How the pages of guests speak: a language's words, numbers and days. Pure.

A language is a file of `routes/pages/words`; another one is another file with the same keys.
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mospay_shared.money import MoneyError, format_minor

ENGLISH = "en"  # for whoever speaks a language there is no file of; what the house itself says


@dataclass(frozen=True, slots=True)
class Language:
    """One language: `tables` are those of its file, by section and key."""

    code: str
    tables: Mapping[str, Mapping[str, Any]]

    def say(self, phrase: str, **values: Any) -> str:
        """Return a phrase (`section.key`), its {…} filled in; KeyError where there is none."""
        section, _, key = phrase.partition(".")
        text: str = self.tables[section][key]
        return text.format(**values) if values else text

    def translated(self, section: str, code: str | None) -> str | None:
        """Return the words for a code of the house, None where this language has none."""
        found: str | None = self.tables.get(section, {}).get(code or "")
        return found

    def number(self, plain: str) -> str:
        """Return a plain decimal (`-1234.5`) with this language's groups and decimal mark."""
        marks = self.tables["numbers"]
        whole, point, rest = plain.lstrip("-").partition(".")
        grouped = f"{int(whole):,}".replace(",", marks["group"])
        return ("-" if plain.startswith("-") else "") + grouped + (point and marks["mark"]) + rest

    def plain(self, typed: str) -> str:
        """Return the plain decimal of a number as somebody typed it; what is none stays as it is.

        Groups must be whole, so that `2,5` is never taken for 25.
        """
        marks = self.tables["numbers"]
        text = re.sub(r"\s", " ", typed.strip())  # narrow and no-break spaces too
        group = "[ " + ("" if marks["group"].isspace() else re.escape(marks["group"])) + "]"
        mark = "[." + re.escape(marks["mark"]) + "]"
        if re.fullmatch(rf"[0-9]{{1,3}}({group}[0-9]{{3}})+({mark}[0-9]+)?", text, re.ASCII):
            text = re.sub(group, "", text)
        return text.replace(marks["mark"], ".")

    def amount(self, minor: int, currency: str) -> str:
        """Return an amount without its currency: 123456 USD is `1,234.56`."""
        try:
            return self.number(format_minor(minor, currency))
        except MoneyError:  # a code the exponent table lacks
            return self.say("numbers.minor_units", number=self.number(str(minor)))

    def money(self, minor: int, currency: str) -> str:
        """Return an amount as people read it: `RWF 5,000`, `USD 1,234.50`."""
        return self.say("numbers.money", number=self.amount(minor, currency), currency=currency)

    def day(self, value: str) -> str:
        """Return a date (ISO 8601) as `5 December 2026`."""
        found, words = dt.date.fromisoformat(value), self.tables["days"]
        return self.say(
            "days.full",
            day=words["first"] if found.day == 1 else found.day,
            month=words["months"][found.month - 1],
            year=found.year,
        )


def chosen(known: Mapping[str, Language], locale: str | None) -> Language:
    """Return the language of a locale (`fr`, `fr-RW`); English where there is none."""
    return known.get((locale or "").partition("-")[0], known[ENGLISH])


def preferred(known: Mapping[str, Language], accepted: str) -> Language:
    """Return the language a browser likes most of those there are (RFC 9110, Accept-Language)."""
    wishes: list[tuple[float, str]] = []
    for wish in accepted[:500].split(","):
        tag, _, quality = wish.strip().partition(";")
        given = re.fullmatch(r"\s*q=([01](?:\.[0-9]{0,3})?)\s*", quality, re.ASCII)
        wishes.append((float(given[1]) if given else 1.0, tag.lower().partition("-")[0]))
    wishes.sort(key=lambda wish: -wish[0])  # stable: the earlier of equals comes first
    found = (known[tag] for weight, tag in wishes if weight > 0 and tag in known)
    return next(found, known[ENGLISH])
