"""Fees and posting templates, by arithmetic alone."""

import datetime as dt
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_ledger import domain
from mospay_ledger.domain import (
    AMOUNT_LIMIT_MINOR,
    AmountTooLarge,
    FeePlan,
    NothingToPost,
    NotProven,
)
from mospay_shared.contracts import PaymentEventV1, PaymentStatus

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TWO_PERCENT = FeePlan("p", 1, 200, 0)


def payment(amount_minor: int = 1500, **changes: object) -> PaymentEventV1:
    """A succeeded payment."""
    body = PaymentEventV1(
        payment_id="pay_1",
        client_id="cli_1",
        mode="test",
        app_id="app",
        service_id="svc",
        microservice="momo",
        service="collection",
        route="payment",
        amount_minor=amount_minor,
        currency="RWF",
        status=PaymentStatus.SUCCEEDED,
        version=2,
        reference="r",
        attempt_id="att_1",
        accepted_at=NOW,
        occurred_at=NOW,
    )
    return body.model_copy(update=changes)


@pytest.mark.parametrize(
    ("amount", "fee"),
    [
        (0, 0),
        (1, 0),
        (24, 0),
        (25, 0),
        (26, 1),
        (75, 2),
        (125, 2),
        (1500, 30),
        (10**15, 2 * 10**13),
    ],
)
def test_fee_is_rounded_half_to_even(amount: int, fee: int) -> None:
    assert TWO_PERCENT.fee(amount) == fee


@given(st.integers(0, AMOUNT_LIMIT_MINOR), st.integers(0, 10_000), st.integers(0, 10**6))
def test_fee_is_the_exact_share_rounded_and_never_more_than_the_amount(
    amount: int, basis_points: int, fixed: int
) -> None:
    exact = round(Fraction(amount * basis_points, 10_000)) + fixed  # Fraction rounds half to even
    assert FeePlan("p", 1, basis_points, fixed).fee(amount) == min(amount, exact)


def test_capture_debits_the_provider_and_credits_client_and_fees() -> None:
    entry = domain.capture("ent_1", payment(), TWO_PERCENT, NOW)
    assert {side.account.id: side.amount_minor for side in entry.postings} == {
        "provider:momo:RWF:test:clearing": 1500,
        "client:cli_1:RWF:test:pending": -1470,
        "operator:RWF:test:fees": -30,
    }
    assert (entry.net_minor, entry.effect_key) == (1470, "att_1:capture")


def test_second_capture_is_owed_back_whole() -> None:
    entry = domain.second_capture("ent_2", payment(attempt_id="att_2"), NOW)
    assert {side.account.id: side.amount_minor for side in entry.postings} == {
        "provider:momo:RWF:test:clearing": 1500,
        "client:cli_1:RWF:test:refund_due": -1500,
    }
    assert (entry.fee_minor, entry.plan) == (0, None)


@given(st.integers(1, AMOUNT_LIMIT_MINOR), st.integers(0, 10_000), st.integers(0, 10**20))
def test_every_capture_balances_and_has_no_empty_side(
    amount: int, basis_points: int, fixed: int
) -> None:
    entry = domain.capture("ent_1", payment(amount), FeePlan("p", 1, basis_points, fixed), NOW)
    assert domain.is_balanced(entry.postings)
    assert len(entry.postings) >= 2
    assert all(side.amount_minor for side in entry.postings)


def test_an_effect_without_an_attempt_is_keyed_by_its_payment() -> None:
    assert domain.effect_key(payment(attempt_id=None)) == "pay_1:capture"


def test_what_no_retry_can_make_postable_is_refused() -> None:
    with pytest.raises(NothingToPost):
        domain.check_postable(payment(0))
    with pytest.raises(NotProven):
        domain.check_postable(payment(status=PaymentStatus.UNKNOWN))
    with pytest.raises(AmountTooLarge):
        domain.check_postable(payment(AMOUNT_LIMIT_MINOR + 1))
    domain.check_postable(payment(AMOUNT_LIMIT_MINOR))
