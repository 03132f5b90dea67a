"""The languages papers speak, a file each (`words/<code>.toml`): words, numbers, days.

Another language is another file with the keys of `words/en.toml`, nothing else.
"""

import datetime as dt
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Any

from mospay_shared.money import MoneyError, format_minor

ENGLISH = "en"  # for whoever speaks a language there is no file of
_FOLDER = resources.files(__package__) / "words"


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

    def known(self, section: str, key: str) -> str:
        """Return the word for one of the books' own names, the name itself where there is none."""
        return str(self.tables[section].get(key, key))

    def number(self, plain: str) -> str:
        """Return a plain decimal (`-1234.5`) with this language's groups and decimal mark."""
        marks = self.tables["numbers"]
        whole, point, rest = plain.lstrip("-").partition(".")
        grouped = f"{int(whole):,}".replace(",", marks["group"])
        return ("-" if plain.startswith("-") else "") + grouped + (point and marks["mark"]) + rest

    def amount(self, minor: int, currency: str) -> str:
        """Return an amount without its currency: 123456 USD is `1,234.56`, RWF `123,456`."""
        try:
            plain = format_minor(minor, currency)
        except MoneyError:  # booked under a code the exponent table lacks
            plain = str(minor)
        return self.number(plain)

    def percent(self, basis_points: int) -> str:
        """Return basis points as a percentage: 1850 is `18.5 %`."""
        number = self.number(f"{(Decimal(basis_points) / 100).normalize():f}")
        return self.say("numbers.percent", number=number)

    def quantity(self, value: Decimal) -> str:
        """Return a quantity without needless zeros: 2.500000 is `2.5`."""
        plain = f"{value:f}"
        return self.number(plain.rstrip("0").rstrip(".") if "." in plain else plain)

    def day(self, day: dt.date) -> str:
        """Return a day in full: `21 November 2026`."""
        return self.say("days.full", **self._parts(day))

    def short_day(self, day: dt.date) -> str:
        """Return a day for a column: `21 Nov 2026`."""
        return self.say("days.short", **self._parts(day))

    def month(self, day: dt.date) -> str:
        """Return a day's month: `November 2026`."""
        return self.say("days.month", **self._parts(day))

    def minute(self, at: dt.datetime) -> str:
        """Return an instant by the clock of its own zone: `21 Nov 2026 14:05`."""
        return f"{self.short_day(at)} {at:%H:%M}"

    def _parts(self, day: dt.date) -> dict[str, Any]:
        words = self.tables["days"]
        return {
            "day": words["first"] if day.day == 1 else day.day,
            "dd": f"{day.day:02}",
            "mm": f"{day.month:02}",
            "month": words["months"][day.month - 1],
            "mon": words["short_months"][day.month - 1],
            "year": f"{day.year:04}",
        }


@functools.cache
def languages() -> Mapping[str, Language]:
    """Return every language there is a file of, by its code; read once."""
    return {
        code: Language(code, tomllib.loads(file.read_text(encoding="utf-8")))
        for file in _FOLDER.iterdir()
        for code, _, ending in [file.name.partition(".")]
        if ending == "toml"
    }


def language_of(locale: str | None) -> Language:
    """Return the language of a locale (`fr`, `fr-RW`); English where there is no file of it."""
    known = languages()
    return known.get((locale or "").partition("-")[0], known[ENGLISH])
