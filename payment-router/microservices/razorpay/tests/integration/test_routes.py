"""The connector in a process of its own, between a router's requests and a fake Razorpay."""

import base64
import importlib.util
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_path = Path(__file__).parents[1] / "fake_razorpay.py"
_spec = importlib.util.spec_from_file_location("fake_razorpay", _path)
assert _spec is not None and _spec.loader is not None
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

ORDERS = "POST /v1/orders"
ENVIRONMENT = {
    "RAZORPAY_KEY_ID": fake.KEY_ID,
    "RAZORPAY_KEY_SECRET": fake.KEY_SECRET,
    "RAZORPAY_WEBHOOK_SECRET": fake.WEBHOOK_SECRET,
    "RAZORPAY_CHECKOUT_URL": "https://shop.example/pay?order={order_id}&key={key_id}",
}


def new_reference() -> str:
    return f"pay_{uuid.uuid4().hex}"


def new_attempt() -> str:
    return f"att_{uuid.uuid4().hex}"


def new_refund() -> str:
    return f"ref_{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def contract() -> Any:
    return fake.FakeRazorpay()


@pytest.fixture(scope="module")
def running(contract: Any, open_fake: Callable[..., Any]) -> Any:
    return open_fake(contract)


@pytest.fixture
def razorpay(running: Any, contract: Any) -> Any:
    running.reset()
    contract.reset()
    return running


@pytest.fixture(scope="module")
def process(running: Any, start_connector: Callable[..., Any]) -> Any:
    settings = {"RAZORPAY_BASE_URL": running.url, **ENVIRONMENT}
    return start_connector("mospay_razorpay", "RAZORPAY_", **settings)


@pytest.fixture
def connector(razorpay: Any, process: Any) -> Any:
    return process


def test_an_order_is_to_be_paid_in_checkout_and_succeeds_once_captured(
    connector: Any, razorpay: Any, contract: Any
) -> None:
    reference = new_reference()
    told = connector.pay(reference, amount="299.50")
    (order,) = contract.orders.values()
    assert told.status_code == 202
    assert told.json() == {
        "outcome": "pending",
        "reference": reference,
        "provider_reference": order["id"],
        "message": "waiting for the payer in Checkout",
        "customer_action": {
            "type": "razorpay_checkout",
            "url": f"https://shop.example/pay?order={order['id']}&key={fake.KEY_ID}",
            "order_id": order["id"],
            "key_id": fake.KEY_ID,
        },
    }
    (sent,) = razorpay.calls("POST", "/v1/orders")
    assert (sent.body["amount"], sent.body["currency"]) == (29950, "INR")
    assert connector.enquire(reference).json()["customer_action"] == told.json()["customer_action"]
    contract.try_to_pay(reference, "authorized")
    assert connector.enquire(reference).json()["outcome"] == "pending"
    payment = contract.payments[order["id"]][0]
    payment["status"] = "captured"
    found = connector.enquire(reference).json()
    assert (found["outcome"], found["amount"], found["currency"]) == ("succeeded", "299.50", "INR")
    assert found["provider_reference"] == payment["id"] and "customer_action" not in found
    assert len(razorpay.calls("POST", "/v1/orders")) == 1


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("insufficient_funds", "insufficient_funds"),
        ("payment_timed_out", "expired"),
        ("payment_cancelled", "payer_rejected"),
        ("incorrect_otp", "authentication_required"),
        ("card_expired", "card_expired"),
        ("payment_risk_check_failed", "suspected_fraud"),
        ("something_new", "declined"),
    ],
)
def test_a_decline_is_told_in_our_reason_codes(
    connector: Any, contract: Any, reason: str, code: str
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.try_to_pay(reference, "failed", error_reason=reason)
    found = connector.enquire(reference).json()
    assert (found["outcome"], found["reason_code"]) == ("failed", code)


def test_a_second_try_on_the_order_that_is_captured_counts_more_than_the_failed_one(
    connector: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.try_to_pay(reference, "captured")
    contract.try_to_pay(reference, "failed", error_reason="payment_timed_out")
    assert connector.enquire(reference).json()["outcome"] == "succeeded"


def test_while_checkout_allows_tries_a_failed_one_ends_nothing(
    razorpay: Any, contract: Any, start_connector: Callable[..., Any]
) -> None:
    settings = {"RAZORPAY_BASE_URL": razorpay.url, "RAZORPAY_TRIES_SECONDS": "600"}
    connector = start_connector("mospay_razorpay", "RAZORPAY_", **ENVIRONMENT, **settings)
    reference = new_reference()
    connector.pay(reference)
    payment = contract.try_to_pay(reference, "failed", error_reason="incorrect_otp")
    found = connector.enquire(reference).json()
    assert (found["outcome"], found["reason_code"]) == ("pending", "authentication_required")
    raw = contract.event("payment.failed", payment=payment)
    assert connector.callback(raw, fake.sign(raw)).json()["outcome"] == "pending"


def test_a_repeated_attempt_is_told_the_recorded_answer_without_a_call(
    connector: Any, razorpay: Any
) -> None:
    reference, attempt = new_reference(), new_attempt()
    first = connector.pay(reference, attempt=attempt)
    connector.restart()
    assert connector.pay(reference, attempt=attempt).json() == first.json()
    assert connector.pay(reference, attempt=new_attempt()).json() == first.json()
    assert connector.pay(new_reference(), attempt=attempt).status_code == 409
    assert len(razorpay.calls("POST", "/v1/orders")) == 1


@pytest.mark.parametrize("trouble", ["hang", "cut", "error", "garbage"])
def test_an_order_whose_answer_was_lost_is_found_by_its_receipt_and_not_made_again(
    connector: Any, razorpay: Any, contract: Any, trouble: str
) -> None:
    reference, attempt = new_reference(), new_attempt()
    razorpay.trouble[ORDERS] = trouble
    told = connector.pay(reference, attempt=attempt)
    assert (told.status_code, told.json()["outcome"]) == (502, "unknown")
    assert connector.pay(reference, attempt=attempt).json() == told.json()
    found = connector.enquire(reference).json()
    (order,) = contract.orders.values()
    assert (found["outcome"], found["customer_action"]["order_id"]) == ("pending", order["id"])
    payment = contract.try_to_pay(reference, "captured")
    raw = contract.event("payment.captured", payment=payment)
    assert connector.callback(raw, fake.sign(raw)).json()["reference"] == reference
    assert connector.enquire(reference).json()["outcome"] == "succeeded"
    assert len(razorpay.calls("POST", "/v1/orders")) == 1


def test_an_order_nobody_has_is_authoritatively_not_found(connector: Any) -> None:
    found = connector.enquire(new_reference())
    assert (found.status_code, found.json()["found"]) == (404, False)


def test_two_orders_with_our_receipt_are_a_matter_for_a_person(
    connector: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    connector.lose_record()
    connector.pay(reference)
    connector.lose_record()
    assert len(contract.orders) == 2
    found = connector.enquire(reference).json()
    assert (found["outcome"], found["reason_code"]) == ("unknown", "duplicate")


def test_a_provider_that_is_down_was_never_sent_anything(
    connector: Any, razorpay: Any, contract: Any
) -> None:
    reference = new_reference()
    razorpay.down()
    told = connector.pay(reference).json()
    assert (told["outcome"], told["reason_code"]) == ("failed", "never_sent")
    assert connector.enquire(reference).status_code == 502
    razorpay.open()
    assert connector.pay(reference).json()["outcome"] == "pending"
    assert len(contract.orders) == 1


@pytest.mark.parametrize("trouble", ["hang", "cut", "error", "garbage"])
def test_an_enquiry_without_an_answer_says_nothing(
    connector: Any, razorpay: Any, contract: Any, trouble: str
) -> None:
    reference = new_reference()
    order_id = connector.pay(reference).json()["provider_reference"]
    contract.try_to_pay(reference, "captured")
    razorpay.trouble[f"GET /v1/orders/{order_id}/payments"] = trouble
    assert connector.enquire(reference).status_code == 502
    assert connector.enquire(reference).json()["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("status", "error", "outcome", "reason"),
    [
        (
            400,
            {"code": "BAD_REQUEST_ERROR", "reason": "invalid_currency"},
            "failed",
            "invalid_currency",
        ),
        (400, {"code": "BAD_REQUEST_ERROR", "field": "receipt"}, "unknown", None),
        (400, {}, "unknown", None),
        (409, {"code": "BAD_REQUEST_ERROR"}, "pending", "duplicate"),
        (429, {"code": "BAD_REQUEST_ERROR"}, "unknown", None),
        (500, {"code": "SERVER_ERROR"}, "unknown", None),
        (502, {"code": "GATEWAY_ERROR"}, "unknown", None),
    ],
)
def test_only_documented_refusals_fail_a_payment(
    connector: Any, contract: Any, status: int, error: Any, outcome: str, reason: str | None
) -> None:
    contract.refuse = (status, error)
    told = connector.pay(new_reference()).json()
    assert (told["outcome"], told.get("reason_code")) == (outcome, reason)


@pytest.mark.parametrize(
    ("amount", "currency", "sent"),
    [
        ("295", "JPY", 295),
        ("295.5", "JPY", None),
        ("99.990", "KWD", 99990),
        ("99.991", "KWD", None),
        ("1.005", "INR", None),
    ],
)
def test_amounts_go_out_in_exact_subunits_or_not_at_all(
    connector: Any, razorpay: Any, amount: str, currency: str, sent: int | None
) -> None:
    told = connector.pay(new_reference(), amount=amount, **{"X-Currency": currency}).json()
    assert [s.body["amount"] for s in razorpay.calls("POST", "/v1/orders")] == (
        [] if sent is None else [sent]
    )
    assert (told.get("reason_code") == "never_sent") == (sent is None)


@pytest.mark.parametrize(
    ("event", "status", "outcome"),
    [
        ("payment.captured", "captured", "succeeded"),
        ("order.paid", "captured", "succeeded"),
        ("payment.failed", "failed", "failed"),
        ("payment.authorized", "authorized", "pending"),
        ("payment.dispute.lost", "captured", "unknown"),
        ("payment.captured", "failed", "unknown"),
    ],
)
def test_a_signed_webhook_is_verified_and_translated(
    connector: Any, contract: Any, event: str, status: str, outcome: str
) -> None:
    reference = new_reference()
    connector.pay(reference, amount="10")
    payment = contract.try_to_pay(reference, status, error_reason="card_expired")
    raw = contract.event(event, payment=payment, order=next(iter(contract.orders.values())))
    told = connector.callback(raw, fake.sign(raw)).json()
    assert (told["verified"], told["kind"], told["outcome"]) == (True, "payment", outcome)
    assert (told["reference"], told["provider_reference"]) == (reference, payment["id"])
    assert (told["amount"], told["currency"]) == ("10.00", "INR")
    assert connector.callback(raw, fake.sign(raw)).json()["event_id"] == told["event_id"]


def test_a_webhook_with_a_wrong_or_no_signature_is_not_verified(
    connector: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    payment = contract.try_to_pay(reference, "captured")
    raw = contract.event("payment.captured", payment=payment)
    for headers in (
        {},
        fake.sign(raw, "wrong"),
        fake.sign(raw + b" "),
        {"x-razorpay-signature": "é"},
    ):
        assert connector.callback(raw, headers).json()["verified"] is False
    own = base64.b64encode(json.dumps({"webhook_secret": "wrong"}).encode()).decode()
    body = {
        "headers": fake.sign(raw, "wrong"),
        "body_base64": base64.b64encode(raw).decode(),
        "method": "POST",
    }
    sent = {"X-Provider-Credentials": own}
    assert connector.client.post("/callbacks", json=body, headers=sent).json()["verified"] is True


def test_what_the_payers_browser_notes_on_a_payment_names_no_other_payment(
    connector: Any, contract: Any
) -> None:
    victim, reference = new_reference(), new_reference()
    connector.pay(victim)
    connector.pay(reference)
    payment = contract.try_to_pay(reference, "captured", notes={"reference": victim})
    raw = contract.event("payment.captured", payment=payment)
    assert connector.callback(raw, fake.sign(raw)).json()["reference"] == reference


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"event": 7, "payload": {}}', b"\xff"])
def test_an_unreadable_webhook_is_refused(connector: Any, raw: bytes) -> None:
    assert connector.callback(raw, fake.sign(raw)).status_code == 422


def test_a_refund_is_made_once_and_found(connector: Any, razorpay: Any, contract: Any) -> None:
    reference, refund, attempt = new_reference(), new_refund(), new_attempt()
    connector.pay(reference, amount="100")
    payment = contract.try_to_pay(reference, "captured")
    body = {
        "payment_reference": reference,
        "provider_reference": payment["id"],
        "amount": "40",
        "currency": "INR",
    }
    told = connector.refund(refund, attempt=attempt, **body)
    assert (told.status_code, told.json()["reference"]) == (202, refund)
    assert connector.refund(refund, attempt=attempt, **body).json() == told.json()
    (sent,) = razorpay.calls("POST", "/v1/payments")
    assert (sent.body["amount"], sent.headers["x-refund-idempotency"]) == (4000, attempt)
    (entity,) = contract.refunds.values()
    entity["status"] = "processed"
    raw = contract.event("refund.processed", refund=entity, payment=payment)
    event = connector.callback(raw, fake.sign(raw)).json()
    assert (event["kind"], event["reference"], event["outcome"]) == ("refund", refund, "succeeded")
    found = connector.refund_status(refund).json()
    assert (found["outcome"], found["amount"]) == ("succeeded", "40.00")
    entity["status"] = "failed"
    raw = contract.event("refund.failed", refund=entity)
    assert connector.callback(raw, fake.sign(raw)).json()["outcome"] == "failed"


def test_a_lost_answer_to_a_refund_is_found_in_the_payments_list_and_not_sent_again(
    connector: Any, razorpay: Any, contract: Any
) -> None:
    reference, refund, attempt = new_reference(), new_refund(), new_attempt()
    connector.pay(reference)
    payment = contract.try_to_pay(reference, "captured")
    connector.enquire(reference)  # so that the record names the payment
    body = {"payment_reference": reference, "amount": "40", "currency": "INR"}
    assert connector.refund_status(refund, payment_reference=reference).json()["found"] is False
    razorpay.trouble[f"POST /v1/payments/{payment['id']}/refund"] = "cut"
    assert connector.refund(refund, attempt=attempt, **body).status_code == 502
    assert connector.refund(refund, attempt=attempt, **body).status_code == 502
    found = connector.refund_status(refund, payment_reference=reference).json()
    assert (found["outcome"], found["reference"]) == ("pending", refund)
    assert len(razorpay.calls("POST", "/v1/payments")) == 1


@pytest.mark.parametrize("wrong", ["../orders", "order_1", "pay_1/refund", "pay_é"])
def test_a_payment_id_that_is_none_goes_into_no_path(
    connector: Any, razorpay: Any, wrong: str
) -> None:
    told = connector.refund(new_refund(), provider_reference=wrong, amount="1", currency="INR")
    assert told.status_code == 422 or told.json()["reason_code"] == "never_sent"
    assert razorpay.seen == []


def test_a_refused_refund_has_failed(connector: Any, contract: Any) -> None:
    reference = new_reference()
    connector.pay(reference, amount="10")
    payment = contract.try_to_pay(reference, "captured")
    body = {"provider_reference": payment["id"], "amount": "11", "currency": "INR"}
    told = connector.refund(new_refund(), **body)
    assert (told.status_code, told.json()["outcome"]) == (400, "failed")


def test_no_secret_and_no_phone_reaches_the_log_or_the_record(
    connector: Any, razorpay: Any, contract: Any
) -> None:
    reference = new_reference()
    own = {"key_id": "rzp_live_9", "key_secret": "other-key-secret-4411"}
    header = base64.b64encode(json.dumps(own).encode()).decode()
    razorpay.trouble[ORDERS] = "cut"
    connector.pay(reference)
    refused = connector.pay(new_reference(), **{"X-Provider-Credentials": header})
    assert refused.json()["reason_code"] == "provider_unavailable"
    raw = contract.event("payment.captured", payment={"id": "pay_1", "order_id": "order_1"})
    connector.callback(raw, fake.sign(raw))
    connector.enquire(reference)
    written = connector.written()
    assert reference.encode() in written  # it does write, so silence is no proof
    secrets = [fake.KEY_SECRET, fake.WEBHOOK_SECRET, "other-key-secret-4411", "250780000001"]
    assert [secret for secret in secrets if secret.encode() in written] == []
