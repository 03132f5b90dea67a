"""MTN's words in ours, and the committed OpenAPI document."""

import json
import uuid
from pathlib import Path

import pytest
from mospay_mtnmomo.app import create_app
from mospay_mtnmomo.domain.mtn import judge, reason_of, reference_id
from mospay_mtnmomo.domain.protocol import Order
from mospay_mtnmomo.settings import Settings


def test_the_reference_id_is_the_same_at_every_try_and_of_the_version_mtn_takes() -> None:
    made = reference_id("payment", "pay_1")
    assert made == reference_id("payment", "pay_1") == "44f0583a-9212-4853-83cb-3ceaf5514c0a"
    assert uuid.UUID(made).version == 4
    assert len({made, reference_id("refund", "pay_1"), reference_id("payment", "pay_2")}) == 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": None},
        {"status": "ONGOING"},
        {"status": ["SUCCESSFUL"]},
        {"status": "SUCCESSFUL", "externalId": "pay_2", "amount": "1"},
    ],
)
def test_what_mtn_does_not_document_or_says_of_another_payment_proves_nothing(
    body: dict[str, object],
) -> None:
    assert judge(Order("payment", "pay_1"), body, "handle").outcome == "unknown"


def test_a_success_names_the_providers_amount_and_never_ours() -> None:
    order = Order("payment", "pay_1", amount="1000", currency="RWF")
    told = judge(order, {"status": "SUCCESSFUL"}, "handle")
    assert (told.outcome, told.amount, told.currency) == ("succeeded", None, None)


@pytest.mark.parametrize("reason", [None, 7, [], {}, {"code": None}, {"code": ["EXPIRED"]}])
def test_a_reason_of_another_shape_is_a_plain_decline(reason: object) -> None:
    assert reason_of({"reason": reason}) == "declined"


def test_committed_openapi_document_is_current() -> None:
    committed = json.loads((Path(__file__).parents[2] / "openapi.json").read_text())
    assert create_app(Settings(http_port=0)).openapi() == committed
