"""Money is exact: minor units, one currency, no float anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_shared.money import MAX_MINOR, Money, MoneyError, exponent, format_minor, parse_minor

CURRENCIES = st.sampled_from(["RWF", "UGX", "USD", "EUR", "KWD", "XOF"])
AMOUNTS = st.integers(min_value=0, max_value=MAX_MINOR)


@given(AMOUNTS, CURRENCIES)
def test_formatting_and_parsing_are_inverse(amount: int, currency: str) -> None:
    assert parse_minor(format_minor(amount, currency), currency) == amount


@given(st.lists(AMOUNTS.filter(lambda a: a < 2**50), max_size=20), CURRENCIES)
def test_sums_are_exact(amounts: list[int], currency: str) -> None:
    total = Money(0, currency)
    for amount in amounts:
        total = total + Money(amount, currency)
    assert total.amount_minor == sum(amounts)


@pytest.mark.parametrize(("currency", "places"), [("RWF", 0), ("USD", 2), ("KWD", 3)])
def test_exponents_follow_iso_4217(currency: str, places: int) -> None:
    assert exponent(currency) == places


@pytest.mark.parametrize(
    ("text", "currency", "code"),
    [
        ("10.5", "RWF", "too_precise"),
        ("1.001", "USD", "too_precise"),
        ("-1", "USD", "invalid_amount"),
        ("1e3", "USD", "invalid_amount"),
        ("", "USD", "invalid_amount"),
        (".", "USD", "invalid_amount"),
        ("1,000", "USD", "invalid_amount"),
        ("١٢", "USD", "invalid_amount"),
        ("NaN", "USD", "invalid_amount"),
        ("9" * 30, "USD", "amount_out_of_range"),
        ("1", "ZZZ", "unknown_currency"),
    ],
)
def test_what_is_no_exact_amount_is_refused_by_name(text: str, currency: str, code: str) -> None:
    with pytest.raises(MoneyError) as refused:
        parse_minor(text, currency)
    assert refused.value.code == code


def test_zero_decimals_beyond_the_exponent_are_exact() -> None:
    assert parse_minor("1000.00", "RWF") == 1000


def test_two_currencies_are_never_added() -> None:
    with pytest.raises(MoneyError):
        Money(1, "USD") + Money(1, "RWF")


@given(st.text(max_size=60))
def test_any_text_is_an_amount_or_a_clear_refusal(text: str) -> None:
    try:
        assert 0 <= parse_minor(text, "USD") <= MAX_MINOR
    except MoneyError as error:
        assert error.code in {"invalid_amount", "too_precise", "amount_out_of_range"}
