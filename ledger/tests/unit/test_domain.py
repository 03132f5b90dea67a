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
    Books,
    Entry,
    Facts,
    FeePlan,
    FeePlanInvalid,
    FeePlans,
    NothingToPost,
    NotProven,
    Tier,
)
from mospay_shared.contracts import PaymentEventV1, PaymentStatus, RefundEventV1, RefundStatus

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


def booked(books: Books, body: PaymentEventV1, plan: FeePlan = TWO_PERCENT) -> Entry:
    """The entry of a payment that was not booked before."""
    entry = books.payment(body, plan)
    assert entry is not None
    return entry


def sides(entry: object) -> dict[str, int]:
    """The sides of an entry by account."""
    assert isinstance(entry, Entry)
    assert domain.is_balanced(entry.postings)
    return {side.account.id: side.amount_minor for side in entry.postings}


def test_capture_debits_the_provider_and_credits_client_and_fees() -> None:
    entry = booked(Books(Facts()), payment())
    assert sides(entry) == {
        "provider:momo:RWF:test:clearing": 1500,
        "client:cli_1:RWF:test:pending": -1470,
        "operator:RWF:test:fees": -30,
    }
    assert (entry.fee_minor, entry.effect_key) == (30, "att_1:capture")


def test_second_capture_is_owed_back_whole() -> None:
    books = Books(Facts())
    booked(books, payment())
    entry = booked(books, payment(attempt_id="att_2"))
    assert sides(entry) == {
        "provider:momo:RWF:test:clearing": 1500,
        "client:cli_1:RWF:test:refund_due": -1500,
    }
    assert (entry.kind, entry.fee_minor, entry.fee) == ("second_capture", 0, None)


@given(st.integers(1, AMOUNT_LIMIT_MINOR), st.integers(0, 10_000), st.integers(0, 10**20))
def test_every_capture_balances_and_has_no_empty_side(
    amount: int, basis_points: int, fixed: int
) -> None:
    entry = booked(Books(Facts()), payment(amount), FeePlan("p", 1, basis_points, fixed))
    assert len(sides(entry)) >= 2
    assert all(side.amount_minor for side in entry.postings)


def test_an_effect_without_an_attempt_is_keyed_by_its_payment() -> None:
    assert domain.capture_key(payment(attempt_id=None)) == "pay_1:capture"


def test_what_no_retry_can_make_postable_is_refused() -> None:
    told = "payment.succeeded.v1"
    with pytest.raises(NothingToPost):
        domain.check_postable(told, payment(0))
    with pytest.raises(NotProven):
        domain.check_postable(told, payment(status=PaymentStatus.UNKNOWN))
    with pytest.raises(AmountTooLarge):
        domain.check_postable(told, payment(AMOUNT_LIMIT_MINOR + 1))
    domain.check_postable(told, payment(AMOUNT_LIMIT_MINOR))
    with pytest.raises(NotProven):
        domain.check_postable("refund.succeeded.v1", refund(payment(), 5, "pending"))


def refund(of: PaymentEventV1, amount: int, status: str, refund_id: str = "ref_1") -> RefundEventV1:
    """News of a refund."""
    return RefundEventV1(
        refund_id=refund_id,
        amount_minor=amount,
        payment_amount_minor=of.amount_minor,
        refunded_minor=amount,
        status=RefundStatus(status),
        version=1,
        payment_accepted_at=NOW,
        requested_at=NOW,
        occurred_at=NOW,
        **of.model_dump(
            include={"payment_id", "client_id", "mode", "app_id", "service_id", "microservice",
                     "service", "currency"}
        ),
    )  # fmt: skip


# The worked examples of docs/ledger.md, in currencies of 0, 2 and 3 decimals.
TIERED = FeePlan(
    "t", 3, 0, tiers=(Tier(0, 350, 0), Tier(10_000, 250, 100)), min_minor=50, max_minor=5000,
    fee_on_refund="return", currency="KWD",
)  # fmt: skip


@pytest.mark.parametrize(
    ("currency", "amount", "plan", "fee", "tier"),
    [
        ("RWF", 1500, TWO_PERCENT, 30, None),
        ("USD", 1999, FeePlan("u", 1, 290, 30, currency="USD"), 88, None),
        ("KWD", 1000, TIERED, 50, 1),
        ("KWD", 12_345, TIERED, 409, 2),
        ("KWD", 900_000, TIERED, 5000, 2),
    ],
)
def test_examples_of_the_documentation_hold(
    currency: str, amount: int, plan: FeePlan, fee: int, tier: int | None
) -> None:
    entry = booked(Books(Facts()), payment(amount, currency=currency), plan)
    assert sides(entry)[f"client:cli_1:{currency}:test:pending"] == fee - amount
    assert entry.fee is not None
    assert (entry.fee.minor, entry.fee.plan_version, entry.fee.tier) == (fee, plan.version, tier)


def test_fee_goes_back_in_proportion_and_whole_with_the_whole_amount() -> None:
    books, paid = Books(Facts()), payment(12_345, currency="KWD")
    booked(books, paid, TIERED)
    back = []
    for number, part in enumerate((4115, 4115, 4115)):
        entry = books.refund(refund(paid, part, "succeeded", f"ref_{number}"))
        back.append(sides(entry).get("operator:KWD:test:refunds", 0))
    assert sum(back) == 409
    assert back == [136, 137, 136]


def test_fee_goes_back_with_a_refund_told_of_before_its_capture() -> None:
    books, paid = Books(Facts()), payment(12_345, currency="KWD")
    early = books.refund(refund(paid, 12_345, "succeeded"))
    assert sides(early)["client:cli_1:KWD:test:receivable"] == 12_345
    entry = booked(books, paid, TIERED)
    assert (entry.fee_minor, entry.fee_returned_minor) == (409, 409)
    assert sides(entry) == {
        "provider:momo:KWD:test:clearing": 12_345,
        "client:cli_1:KWD:test:receivable": -12_345,
        "operator:KWD:test:fees": -409,
        "operator:KWD:test:refunds": 409,
    }


def test_fee_is_kept_where_the_plan_keeps_it() -> None:
    books, paid = Books(Facts()), payment()
    booked(books, paid)
    entry = books.refund(refund(paid, 1500, "succeeded"))
    assert sides(entry) == {
        "provider:momo:RWF:test:clearing": -1500,
        "client:cli_1:RWF:test:pending": 1470,
        "client:cli_1:RWF:test:receivable": 30,
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"min_minor": 5}, "min_minor"),
        ({"fixed_minor": 5}, "fixed_minor"),
        ({"basis_points": 10_001}, "basis_points"),
        ({"min_minor": 6, "max_minor": 5, "currency": "RWF"}, "max_minor"),
        ({"tiers": (Tier(5, 1),), "currency": "RWF"}, "tiers"),
        ({"tiers": (Tier(0, 1), Tier(9, 1), Tier(9, 1)), "currency": "RWF"}, "tiers"),
        ({"tiers": (Tier(0, 10_001),), "currency": "RWF"}, "tiers"),
        ({"tiers": tuple(Tier(n, 1) for n in range(21)), "currency": "RWF"}, "tiers"),
        ({"effective_from": NOW, "effective_until": NOW}, "effective_until"),
    ],
)
def test_plan_that_contradicts_itself_names_the_member(
    changes: dict[str, object], field: str
) -> None:
    values: dict[str, object] = {"id": "p", "version": 1, "basis_points": 1}
    with pytest.raises(FeePlanInvalid) as refused:
        FeePlan(**(values | changes)).check()  # type: ignore[arg-type]
    assert refused.value.field == field


def test_plan_that_has_ended_gives_way_to_the_one_before_it() -> None:
    day = dt.timedelta(days=1)
    lasting = FeePlan("p", 1, 200, mode="test", effective_from=NOW - 9 * day)
    short = FeePlan("p", 2, 100, mode="test", effective_from=NOW - day, effective_until=NOW + day)
    plans = FeePlans.of([lasting, short])
    at = [NOW - 2 * day, NOW - day, NOW, NOW + day, NOW - 10 * day]
    chosen = [plans.choose(payment(accepted_at=time)) for time in at]
    assert [p and p.version for p in chosen] == [1, 2, 2, 1, None]
