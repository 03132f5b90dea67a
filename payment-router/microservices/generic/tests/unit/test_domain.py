"""Descriptions that are refused, templates, paths into bodies, and the committed documents."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mospay_generic.app import create_app
from mospay_generic.clients.generic import read_description
from mospay_generic.domain.description import Description
from mospay_generic.domain.generic import dig, fill, fill_all, fill_headers, judge, values_of
from mospay_generic.domain.protocol import Order, UnsendableError
from mospay_generic.settings import Settings
from pydantic import ValidationError

FOLDER = Path(__file__).parents[2]
EXAMPLE = json.loads((FOLDER / "example.json").read_text())


def described(**changes: Any) -> Description:
    return Description.model_validate({**EXAMPLE, **changes})


def test_the_example_is_a_description() -> None:
    assert read_description(FOLDER / "example.json").callback is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "/x/{nonsense}"}, "there is no placeholder nonsense"),
        ({"path": "/x/{api_key}"}, "a secret in a path"),
        ({"path": "x"}, "path"),
        ({"path": "/x y"}, "path"),
        ({"http": {"500": "failed"}}, "http"),
        ({"http": {"404": "gone"}}, "http"),
        ({"method": "DELETE"}, "method"),
        ({"heades": {}}, "heades"),
    ],
)
def test_a_description_that_can_not_be_meant_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        described(payment={**EXAMPLE["payment"], **change})
    with pytest.raises(ValidationError, match="one of insufficient_funds"):
        described(reasons={"X": "no_such_reason"})


def test_values_can_not_break_out_of_a_path_or_a_body() -> None:
    values = {"reference": 'a/../b?c"d'}
    assert fill("/x/{reference}", values, path=True) == "/x/a%2F..%2Fb%3Fc%22d"
    assert json.loads(json.dumps(fill_all({"k": "-{reference}"}, values)))["k"] == '-a/../b?c"d'
    with pytest.raises(UnsendableError):
        fill("/x/{reference}", {"reference": ".."}, path=True)
    for wrong in ("a\r\nX-Other: 1", "é"):
        with pytest.raises(UnsendableError):
            fill_headers({"X": "{reason}"}, {"reason": wrong})


def test_only_a_lone_placeholder_that_is_no_secret_may_have_no_value() -> None:
    assert fill_all({"a": "{phone}", "b": ["{amount_minor}"]}, {"amount_minor": 7}) == {"b": [7]}
    for template in ("{api_key}", "Bearer {api_key}", "tel:{phone}"):
        with pytest.raises(UnsendableError):
            fill_all({"a": template}, {})


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("10.5", "USD", 1050), ("10", "HUF", 10), ("1.005", "KWD", 1005)],
)
def test_amounts_in_minor_units_go_out_and_come_back_exactly(
    amount: str, currency: str, minor: int
) -> None:
    description = described(amounts="minor")
    order = Order("payment", "pay_1", "att_1", amount, currency)
    assert values_of(order, description)["amount_minor"] == minor
    body = {"charge": {"state": "PAID", "amount": minor, "currency": currency}}
    told = judge(order, body, description.payment.answer, description)
    assert told.amount is not None and Decimal(told.amount) == Decimal(amount)


@pytest.mark.parametrize(("amount", "currency"), [("10.005", "USD"), ("10.5", "HUF")])
def test_an_amount_that_would_be_rounded_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(UnsendableError):
        values_of(Order("payment", "pay_1", "att_1", amount, currency), described())


@pytest.mark.parametrize("amount", [None, "x", "-1", "1.5", True, [1], "9" * 30])
def test_an_unreadable_amount_in_minor_units_is_no_amount(amount: object) -> None:
    description = described(amounts="minor")
    body = {"charge": {"state": "PAID", "amount": amount, "currency": "USD"}}
    told = judge(Order("payment", "pay_1"), body, description.payment.answer, description)
    assert (told.outcome, told.amount) == ("succeeded", None)


def test_paths_lead_through_objects_and_lists_and_nowhere_else() -> None:
    body = {"a": [{"b": 1}], "c": "text"}
    assert dig(body, "a.0.b") == 1
    for where in ("a.1.b", "a.x", "c.0", "a.0.b.c", "d", None):
        assert dig(body, where) is None


def test_a_link_that_is_not_https_is_not_shown_to_a_payer() -> None:
    description = described()
    for page, shown in (("https://x.example/1", True), ("javascript:alert(1)", False)):
        body = {"charge": {"state": "WAITING", "page": page}}
        told = judge(Order("payment", "pay_1"), body, description.payment.answer, description)
        assert (told.customer_action is not None) == shown


def test_committed_openapi_document_is_current() -> None:
    committed = json.loads((FOLDER / "openapi.json").read_text())
    assert create_app(Settings(http_port=0)).openapi() == committed
