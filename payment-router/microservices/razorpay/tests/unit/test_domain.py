"""Razorpay's words in ours, and the committed OpenAPI document."""

import json
from pathlib import Path

import pytest
from mospay_razorpay.app import create_app
from mospay_razorpay.domain.protocol import Order, UnsendableError
from mospay_razorpay.domain.razorpay import amount_of, judge_tries, units
from mospay_razorpay.settings import Settings

ORDER = Order("payment", "pay_1")


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [("299.5", "INR", 29950), ("295", "JPY", 295), ("99.99", "KWD", 99990), ("0.01", "USD", 1)],
)
def test_subunits_go_out_and_come_back_exactly(amount: str, currency: str, expected: int) -> None:
    made = units(amount, currency)
    assert made == expected
    back, _ = amount_of({"amount": made, "currency": currency})
    assert back is not None and units(back, currency) == expected


@pytest.mark.parametrize(
    ("amount", "currency"), [("1.005", "INR"), ("1.5", "JPY"), ("1.001", "BHD")]
)
def test_an_amount_that_would_be_rounded_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(UnsendableError):
        units(amount, currency)


@pytest.mark.parametrize("amount", [None, "100", 1.5, True, -1])
def test_an_amount_of_another_shape_is_no_amount(amount: object) -> None:
    assert amount_of({"amount": amount, "currency": "INR"})[0] is None


@pytest.mark.parametrize(
    "tries", [["x"], [{}], [{"id": "pay_1", "status": "new"}], [{"status": "captured"}]]
)
def test_tries_that_can_not_be_read_prove_nothing(tries: list[object]) -> None:
    told = judge_tries(ORDER, tries, tries_left=False)
    assert told is not None and told.outcome == "unknown"


def test_committed_openapi_document_is_current() -> None:
    committed = json.loads((Path(__file__).parents[2] / "openapi.json").read_text())
    assert create_app(Settings(http_port=0)).openapi() == committed
