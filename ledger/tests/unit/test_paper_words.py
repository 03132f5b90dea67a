"""The languages of papers: no phrase is missing in any, none is unused, numbers are their own."""

import datetime as dt
import re
import string
from decimal import Decimal

import pytest
from mospay_ledger import papers
from mospay_ledger.domain import ENTRY_KINDS
from mospay_ledger.domain.invoices import AGES, STEPS
from mospay_ledger.papers.languages import ENGLISH, language_of, languages

CODES = ("en", "fr")
# words by a name of the books, or how numbers and days are written
LISTS = ("numbers", "days", "statuses", "sources", "ages", "kinds")
EN, FR = languages()["en"], languages()["fr"]


def phrases(code: str) -> dict[str, str]:
    """Every phrase of a language, `section.key`."""
    return {
        f"{section}.{key}": text
        for section, table in languages()[code].tables.items()
        for key, text in table.items()
        if isinstance(text, str)
    }


def blanks(text: str) -> set[str]:
    """The names that are filled in."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_language_has_a_test_here() -> None:
    assert set(languages()) == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_no_phrase_is_missing_in_any_language(code: str) -> None:
    own, english = phrases(code), phrases(ENGLISH)
    assert own.keys() == english.keys()
    for name, text in own.items():
        if name not in ("days.short",):  # a language may leave the month's name out
            assert blanks(text) == blanks(english[name]), name
        assert text, name
    for months in ("months", "short_months"):
        assert len(languages()[code].tables["days"][months]) == 12


def test_templates_name_words_there_are_and_all_of_them_are_named() -> None:
    templates = "".join(file.read_text() for file in papers.FOLDER.glob("*.typ"))
    sources = [*papers.FOLDER.parent.glob("routes/*.py"), *papers.FOLDER.parent.glob("*/*.py")]
    code = "".join(file.read_text() for file in sources)
    named = {f"{s}.{k}" for s, k in re.findall(r"words\.([a-z_]+)\.([a-z_]+)", templates)}
    assert named <= phrases(ENGLISH).keys()
    literal = re.findall(r'^#.*"[A-Z][a-z ]+"|\[[A-Z][a-z]+ ', templates, re.MULTILINE)
    assert all("families" in line for line in literal), "a template says words of its own"
    for name in phrases(ENGLISH):
        section, _, key = name.partition(".")
        if section in LISTS or name in named:
            continue
        summed = section == "settlement" and f'("{key}", ' in code
        assert f'"{name}"' in code or summed, f"nothing says {name}"


@pytest.mark.parametrize("code", CODES)
def test_what_the_books_name_has_a_word(code: str) -> None:
    tables = languages()[code].tables
    assert tables["statuses"].keys() == STEPS.keys()
    assert tables["ages"].keys() == set(AGES)
    assert tables["sources"].keys() == {"payment", "netted", "credit"}
    own = {"write_off", "suspense_in", "provider_fee"}  # on no client's account
    assert tables["kinds"].keys() == set(ENTRY_KINDS) - own
    assert languages()[code].known("kinds", "to_come") == "to_come"


@pytest.mark.parametrize(
    ("minor", "currency", "english", "french"),
    [
        (123456789, "RWF", "123,456,789", "123\u202f456\u202f789"),
        (-123456, "USD", "-1,234.56", "-1\u202f234,56"),
        (5, "KWD", "0.005", "0,005"),
        (-5, "USD", "-0.05", "-0,05"),
        (0, "RWF", "0", "0"),
        (1234567, "XXX", "1,234,567", "1\u202f234\u202f567"),  # a code the table lacks
    ],
)
def test_amounts_have_the_decimals_of_their_currency_and_the_marks_of_their_language(
    minor: int, currency: str, english: str, french: str
) -> None:
    assert EN.amount(minor, currency) == english
    assert FR.amount(minor, currency) == french


def test_shares_and_quantities_are_written_without_needless_zeros() -> None:
    assert [EN.percent(p) for p in (1850, 2000, 0)] == ["18.5 %", "20 %", "0 %"]
    assert [FR.percent(p) for p in (1850, 2000)] == ["18,5\u202f%", "20\u202f%"]
    assert [EN.quantity(Decimal(q)) for q in ("2.500000", "1200", "0.1")] == ["2.5", "1,200", "0.1"]
    assert FR.quantity(Decimal("1200.50")) == "1\u202f200,5"


def test_days_are_written_as_the_language_does() -> None:
    first, later = dt.date(2026, 2, 1), dt.date(2026, 11, 21)
    assert [EN.day(first), EN.day(later)] == ["1 February 2026", "21 November 2026"]
    assert [FR.day(first), FR.day(later)] == ["1er février 2026", "21 novembre 2026"]
    assert [EN.short_day(first), FR.short_day(first)] == ["01 Feb 2026", "01/02/2026"]
    at = dt.datetime(2026, 11, 21, 4, 5, tzinfo=dt.UTC)
    assert [EN.minute(at), FR.minute(at)] == ["21 Nov 2026 04:05", "21/11/2026 04:05"]


@pytest.mark.parametrize(
    ("locale", "code"), [("fr", "fr"), ("fr-RW", "fr"), ("rw", "en"), ("", "en"), (None, "en")]
)
def test_a_locale_without_a_file_is_english(locale: str | None, code: str) -> None:
    assert language_of(locale).code == code
