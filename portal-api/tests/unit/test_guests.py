"""Rules behind guest pages: colours stay readable, windows bounded, forms bound to a browser."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_portal_api.domain import guests
from mospay_portal_api.routes.plain_pages import languages

ENGLISH, FRENCH = languages()["en"], languages()["fr"]


@given(st.from_regex(r"\A#[0-9a-f]{6}\Z"), st.sampled_from([guests.LIGHT, guests.DARK]))
def test_any_brand_is_readable_on_both_themes(colour: str, surface: str) -> None:
    made = guests.readable(colour, surface)
    assert guests.contrast(made, surface) >= guests.CONTRAST
    assert guests.contrast(guests.on(made), made) >= 3


@pytest.mark.parametrize("wrong", ["red", "#12345", "#GGGGGG", "#fff;}", ""])
def test_what_is_no_colour_is_the_house_blue(wrong: str) -> None:
    assert guests.readable(wrong, guests.LIGHT) == guests.DEFAULT_COLOUR


def test_windows_count_by_minute_and_never_grow_beyond_their_capacity() -> None:
    windows = guests.Windows(capacity=3)
    assert [windows.allows("a", 2, 60.0) for _ in range(3)] == [True, True, False]
    assert windows.allows("a", 2, 120.0)
    for n in range(1000):
        windows.allows(str(n), 10, 120.0)
    assert len(windows._counts) <= 4
    assert not windows.allows("newcomer", 10, 120.0), "newcomers share one window then"


def test_a_form_holds_for_its_browser_and_link_alone() -> None:
    key = b"k" * 32
    made = guests.form_token(key, "cookie", "digest")
    assert guests.form_holds(key, "cookie", "digest", made)
    for cookie, digest, given_token in (
        ("other", "digest", made), ("cookie", "other", made), ("cookie", "digest", "x"),
        (None, "digest", made), ("", "digest", made),
    ):  # fmt: skip
        assert not guests.form_holds(key, cookie, digest, given_token)


def test_a_refusal_of_a_field_the_page_does_not_show_is_said_above_it() -> None:
    fault = {"field": "amount_minor", "code": "amount_too_small", "message": "must be at least 1"}
    problem = {"errors": [fault, {"field": "reference", "message": "x"}]}
    assert guests.told(problem, {"phone", "amount"}, ENGLISH) == {
        "amount": "This was not accepted: it must be at least 1."
    }
    assert guests.told(problem, {"phone"}, ENGLISH) == {
        "form": "The payment was not accepted: the amount must be at least 1."
    }
    assert "Nothing was taken" in guests.told({}, set(), ENGLISH)["form"]
    assert guests.told(problem, {"phone", "amount"}, FRENCH) == {
        "amount": "Ceci n’a pas été accepté\u00a0: "
        "le montant est trop petit pour ce moyen de paiement."
    }


def test_another_language_never_shows_the_houses_english() -> None:
    odd = {"errors": [{"field": "phone", "code": "new_code", "message": "is English"}]}
    assert guests.told(odd, {"phone"}, FRENCH) == {"phone": FRENCH.say("form.not_accepted")}
    failed: dict[str, Any] = {"reason_code": "insufficient_funds", "reason_message": "Not enough."}
    assert guests.reason(failed, ENGLISH) == "Not enough."
    assert guests.reason(failed, FRENCH) == "Il n’y a pas assez d’argent sur le compte."
    assert guests.reason(failed | {"reason_code": "new_code"}, FRENCH) == ""
    assert guests.reason(None, ENGLISH) == guests.reason({"reason_message": None}, ENGLISH) == ""


@pytest.mark.parametrize(
    ("typed", "language", "minor"),
    [
        ("1234.5", "en", 123450), ("1,234.50", "en", 123450), ("1 234.50", "en", 123450),
        ("2,5", "en", None), ("12,34.5", "en", None), ("1234,5", "en", None),
        ("1234,5", "fr", 123450), ("1 234,50", "fr", 123450), ("1\u202f234,50", "fr", 123450),
        ("1234.5", "fr", 123450), ("2,5", "fr", 250), ("1.234,5", "fr", None),
        ("1,234", "fr", None), ("١٢", "fr", None),
    ],
    ids=str,
)  # fmt: skip
def test_an_amount_is_read_as_its_language_writes_it_or_refused(
    typed: str, language: str, minor: int | None
) -> None:
    invoice = {
        "methods": [{"service": "s", "label": "S"}], "allow_partial": True, "currency": "USD",
        "open_minor": 10**9,
    }  # fmt: skip
    form = {"phone": "+250780000000", "amount": typed}
    wanted = guests.read_form(form, invoice, languages()[language])
    assert wanted.body.get("amount_minor") == minor
    assert ("amount" in wanted.faults) == (minor is None)
