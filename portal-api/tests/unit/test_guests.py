"""Rules behind guest pages: colours stay readable, windows bounded, forms bound to a browser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_portal_api.domain import guests


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
    assert guests.told(problem, {"phone", "amount"}) == {
        "amount": "This was not accepted: it must be at least 1."
    }
    assert guests.told(problem, {"phone"}) == {
        "form": "The payment was not accepted: the amount must be at least 1."
    }
    assert "Nothing was taken" in guests.told({}, set())["form"]


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(1_250_000, "RWF", "RWF 1,250,000"), (123_450, "USD", "USD 1,234.50"),
     (1000, "KWD", "KWD 1.000"), (5, "USD", "USD 0.05")],
)  # fmt: skip
def test_money_is_written_with_its_own_decimals(minor: int, currency: str, text: str) -> None:
    assert guests.money(minor, currency) == text
