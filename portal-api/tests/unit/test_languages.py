"""The languages of guest pages: no phrase is missing in any, none is unused, and each is text."""

import re
import string
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from mospay_portal_api.domain.languages import ENGLISH, chosen, preferred
from mospay_portal_api.routes.plain_pages import languages

PACKAGE = Path(str(resources.files("mospay_portal_api")))
CODES = ("en", "fr")
HOUSE = ("reasons", "refusals")  # what the house says in English itself
DATA = ("numbers", "days")


def phrases(code: str) -> dict[str, str]:
    """Every phrase of a language, `section.key`."""
    return {
        f"{section}.{key}": text
        for section, table in languages()[code].tables.items()
        if section not in HOUSE
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
    assert len(languages()[code].tables["days"]["months"]) == 12
    for name, text in own.items():
        assert blanks(text) == blanks(english[name]), name
        assert text and "<" not in text and "&" not in text, f"{name} is text, not HTML"


def test_every_phrase_is_said_somewhere() -> None:
    files = [*(PACKAGE / "routes/pages").glob("*.html"), PACKAGE / "routes/guests.py",
             *(PACKAGE / "routes").glob("payer_*.py"),
             PACKAGE / "domain/guests.py", PACKAGE / "domain/languages.py"]  # fmt: skip
    said = "".join(file.read_text() for file in files)
    for name in phrases(ENGLISH):
        section, _, key = name.partition(".")
        if section in DATA:
            continue
        built = f'"{section}." +' in said  # states and sorry are named by what they are about
        assert built or f'"{name}"' in said, f"nothing says {name}"
    for section, key in re.findall(r'say\("([a-z]+)\.([a-z_]+)"', said):
        assert f"{section}.{key}" in phrases(ENGLISH)


def test_other_languages_say_what_a_payer_can_mend() -> None:
    text = (PACKAGE.parents[2] / "payment-router/docs/reason-codes.md").read_text()
    payers = set(re.findall(r"^\| `(\w+)` \| \w+ \| payer \|", text, re.MULTILINE))
    every = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    refusals = languages()["fr"].tables["refusals"].keys()
    for code in set(CODES) - {ENGLISH}:
        tables = languages()[code].tables
        assert payers <= tables["reasons"].keys() <= every
        assert tables["refusals"].keys() == refusals


@pytest.mark.parametrize(
    ("code", "minor", "currency", "money", "amount"),
    [
        ("en", 1_250_000, "RWF", "RWF 1,250,000", "1,250,000"),
        ("en", 123_450, "USD", "USD 1,234.50", "1,234.50"),
        ("en", 1000, "KWD", "KWD 1.000", "1.000"),
        ("en", 5, "USD", "USD 0.05", "0.05"),
        ("fr", 1_250_000, "RWF", "1\u202f250\u202f000\u00a0RWF", "1\u202f250\u202f000"),
        ("fr", 123_456, "USD", "1\u202f234,56\u00a0USD", "1\u202f234,56"),
        ("fr", -5, "KWD", "-0,005\u00a0KWD", "-0,005"),
    ],
)
def test_money_is_written_as_its_language_and_currency_do(
    code: str, minor: int, currency: str, money: str, amount: str
) -> None:
    language = languages()[code]
    assert language.money(minor, currency) == money
    assert language.amount(minor, currency) == amount


def test_days_are_written_out() -> None:
    english, french = (languages()[code] for code in CODES)
    assert english.day("2026-12-05") == "5 December 2026"
    assert english.day("2026-02-01") == "1 February 2026"
    assert french.day("2026-12-05") == "5 décembre 2026"
    assert french.day("2026-02-01") == "1er février 2026"


@pytest.mark.parametrize(
    ("locale", "code"), [("fr", "fr"), ("fr-RW", "fr"), ("rw", "en"), ("", "en"), (None, "en")]
)
def test_a_locale_without_a_file_is_english(locale: str | None, code: str) -> None:
    assert chosen(languages(), locale).code == code


@pytest.mark.parametrize(
    ("accepted", "code"),
    [
        ("fr-RW,fr;q=0.9,en;q=0.8", "fr"), ("en;q=0.5,fr;q=0.6", "fr"), ("rw,fr;q=0.2", "fr"),
        ("en,fr", "en"), ("fr;q=0", "en"), ("", "en"), ("*", "en"), (";;,q=", "en"),
        ("de", "en"), ("fr;q=nan", "fr"), ("x" * 10_000, "en"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_the_browser_says_the_language_of_a_page_without_an_invoice(
    accepted: str, code: Any
) -> None:
    assert preferred(languages(), accepted).code == code
