"""PayPal's words in ours, and the committed OpenAPI document."""

import json
from pathlib import Path
from typing import Any

import pytest
from mospay_paypal.app import create_app
from mospay_paypal.domain.paypal import DECLINES, REASONS, issue_of, judge_order
from mospay_paypal.domain.protocol import Order
from mospay_paypal.settings import Settings

ORDER = Order("payment", "pay_1")


def order_with(*captures: Any, **body: Any) -> dict[str, Any]:
    unit = {"custom_id": "pay_1", "payments": {"captures": list(captures)}}
    return {"id": "5O190127TN364715T", "status": "COMPLETED", "purchase_units": [unit], **body}


def test_a_capture_that_took_money_counts_more_than_a_declined_one() -> None:
    taken = {"id": "C2", "status": "COMPLETED", "amount": {"value": "1.00", "currency_code": "USD"}}
    declined = {"id": "C1", "status": "DECLINED"}
    told = judge_order(ORDER, order_with(declined, taken))
    assert (told.outcome, told.provider_reference, told.amount) == ("succeeded", "C2", "1.00")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "../token", "status": "CREATED"},
        {"id": "1", "status": "COMPLETED"},
        {"id": "1", "status": "COMPLETED", "purchase_units": 7},
        order_with("x"),
        order_with({"id": "C1", "status": "NEW"}),
        order_with({"id": "C1", "status": "COMPLETED"}, purchase_units=[{"custom_id": "pay_2"}]),
    ],
)
def test_what_paypal_does_not_document_or_says_of_another_payment_proves_nothing(
    body: dict[str, Any],
) -> None:
    assert judge_order(ORDER, body).outcome == "unknown"


@pytest.mark.parametrize("details", [None, [], "x", [1], [{}], {"issue": "X"}])
def test_an_error_of_another_shape_is_known_by_its_name(details: object) -> None:
    assert issue_of({"name": "INVALID_REQUEST", "details": details}) == "INVALID_REQUEST"


def test_only_issues_with_a_reason_code_end_a_capture() -> None:
    assert set(REASONS) > DECLINES
    assert not DECLINES & {"DUPLICATE_INVOICE_ID", "PAYER_ACTION_REQUIRED"}


def test_committed_openapi_document_is_current() -> None:
    committed = json.loads((Path(__file__).parents[2] / "openapi.json").read_text())
    assert create_app(Settings(http_port=0)).openapi() == committed
