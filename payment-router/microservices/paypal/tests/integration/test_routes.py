"""The connector in a process of its own, between a router's requests and a fake PayPal."""

import base64
import importlib.util
import json
import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

_path = Path(__file__).parents[1] / "fake_paypal.py"
_spec = importlib.util.spec_from_file_location("fake_paypal", _path)
assert _spec is not None and _spec.loader is not None
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

ENVIRONMENT = {
    "PAYPAL_CLIENT_ID": fake.CLIENT_ID,
    "PAYPAL_CLIENT_SECRET": fake.CLIENT_SECRET,
    "PAYPAL_WEBHOOK_ID": fake.WEBHOOK_ID,
}


def new_reference() -> str:
    return f"pay_{uuid.uuid4().hex}"


def new_attempt() -> str:
    return f"att_{uuid.uuid4().hex}"


def new_refund() -> str:
    return f"ref_{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def contract() -> Any:
    return fake.FakePaypal()


@pytest.fixture(scope="module")
def running(contract: Any, open_fake: Callable[..., Any]) -> Any:
    return open_fake(contract)


@pytest.fixture
def paypal(running: Any, contract: Any) -> Any:
    running.reset()
    contract.reset()
    return running


@pytest.fixture(scope="module")
def process(running: Any, start_connector: Callable[..., Any]) -> Any:
    settings = {"PAYPAL_BASE_URL": running.url, **ENVIRONMENT}
    return start_connector("mospay_paypal", "PAYPAL_", **settings)


@pytest.fixture
def connector(paypal: Any, process: Any) -> Any:
    return process


def captures(paypal: Any) -> list[Any]:
    return [s for s in paypal.calls("POST", fake.ORDERS) if s.path.endswith("/capture")]


def creations(paypal: Any) -> list[Any]:
    return [s for s in paypal.calls("POST", fake.ORDERS) if s.path == fake.ORDERS]


def paid(connector: Any, contract: Any, amount: str = "100") -> tuple[str, str]:
    """A captured payment: our reference and PayPal's capture id."""
    reference = new_reference()
    connector.pay(reference, amount=amount)
    contract.approve(reference)
    return reference, connector.enquire(reference).json()["provider_reference"]


def test_a_payment_waits_for_the_approval_is_captured_by_the_enquiry_and_succeeds(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference, attempt = new_reference(), new_attempt()
    told = connector.pay(reference, amount="10.5", attempt=attempt)
    order = contract.order_of(reference)
    assert told.status_code == 202
    assert told.json() == {
        "outcome": "pending",
        "reference": reference,
        "provider_reference": order["id"],
        "message": "PayPal says CREATED",
        "customer_action": {
            "type": "redirect",
            "url": f"https://www.sandbox.paypal.com/checkoutnow?token={order['id']}",
        },
    }
    (sent,) = creations(paypal)
    assert sent.headers["paypal-request-id"] == attempt
    assert sent.body["purchase_units"][0]["amount"] == {"currency_code": "USD", "value": "10.50"}
    assert connector.enquire(reference).json()["outcome"] == "pending"
    assert captures(paypal) == []
    contract.approve(reference)
    found = connector.enquire(reference).json()
    assert (found["outcome"], found["amount"], found["currency"]) == ("succeeded", "10.50", "USD")
    assert connector.enquire(reference).json() == found
    assert connector.pay(reference, attempt=attempt).json()["outcome"] == "succeeded"
    (capture,) = captures(paypal)
    assert capture.headers["paypal-request-id"] == f"{attempt}-capture"
    assert len(creations(paypal)) == 1


@pytest.mark.parametrize(
    ("issue", "code"),
    [
        ("INSTRUMENT_DECLINED", "declined"),
        ("CARD_EXPIRED", "card_expired"),
        ("TRANSACTION_LIMIT_EXCEEDED", "limit_exceeded"),
        ("COMPLIANCE_VIOLATION", "suspected_fraud"),
    ],
)
def test_a_declined_capture_fails_and_is_not_tried_again(
    connector: Any, paypal: Any, contract: Any, issue: str, code: str
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.approve(reference)
    contract.decline = issue
    found = connector.enquire(reference).json()
    assert (found["outcome"], found["reason_code"]) == ("failed", code)
    contract.decline = None
    assert connector.enquire(reference).json()["outcome"] == "failed"
    assert len(captures(paypal)) == 1


@pytest.mark.parametrize("issue", ["DUPLICATE_INVOICE_ID", "SOMETHING_NEW"])
def test_a_refused_capture_that_proves_nothing_is_unknown(
    connector: Any, contract: Any, issue: str
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.approve(reference)
    contract.decline = issue
    assert connector.enquire(reference).json()["outcome"] == "unknown"


@pytest.mark.parametrize(
    ("status", "outcome"), [("PENDING", "pending"), ("DECLINED", "failed"), ("NEW", "unknown")]
)
def test_a_completed_order_is_judged_by_its_capture(
    connector: Any, contract: Any, status: str, outcome: str
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.approve(reference)
    contract.capture_status = status
    assert connector.enquire(reference).json()["outcome"] == outcome


@pytest.mark.parametrize("trouble", ["hang", "cut", "error", "garbage"])
def test_a_capture_whose_answer_was_lost_takes_the_money_once(
    connector: Any, paypal: Any, contract: Any, trouble: str
) -> None:
    reference = new_reference()
    order_id = connector.pay(reference).json()["provider_reference"]
    contract.approve(reference)
    paypal.trouble[f"POST {fake.ORDERS}/{order_id}/capture"] = trouble
    assert connector.enquire(reference).json()["outcome"] == "unknown"
    connector.restart()
    assert connector.enquire(reference).json()["outcome"] == "succeeded"
    assert len(captures(paypal)) == 1


def test_enquiries_at_once_capture_under_one_request_id(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.approve(reference)
    with ThreadPoolExecutor(4) as pool:
        outcomes = {r.json()["outcome"] for r in pool.map(connector.enquire, [reference] * 4)}
    assert outcomes == {"succeeded"}
    assert len({s.headers["paypal-request-id"] for s in captures(paypal)}) == 1
    assert len(contract.order_of(reference)["purchase_units"][0]["payments"]["captures"]) == 1


def test_a_repeated_attempt_is_told_the_recorded_answer_without_a_call(
    connector: Any, paypal: Any
) -> None:
    reference, attempt = new_reference(), new_attempt()
    first = connector.pay(reference, attempt=attempt)
    connector.restart()
    assert connector.pay(reference, attempt=attempt).json() == first.json()
    assert connector.pay(reference, attempt=new_attempt()).json() == first.json()
    assert connector.pay(new_reference(), attempt=attempt).status_code == 409
    assert len(creations(paypal)) == 1


@pytest.mark.parametrize("trouble", ["hang", "cut", "error", "garbage"])
def test_an_order_whose_answer_was_lost_can_not_be_paid_and_is_not_made_again(
    connector: Any, paypal: Any, trouble: str
) -> None:
    reference, attempt = new_reference(), new_attempt()
    paypal.trouble[f"POST {fake.ORDERS}"] = trouble
    told = connector.pay(reference, attempt=attempt)
    assert (told.status_code, told.json()["outcome"]) == (502, "unknown")
    assert connector.pay(reference, attempt=attempt).json() == told.json()
    assert connector.enquire(reference).json()["found"] is False
    assert len(creations(paypal)) == 1


def test_without_a_record_nothing_is_claimed(connector: Any, contract: Any) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.approve(reference)
    connector.lose_record()
    found = connector.enquire(reference)
    assert found.status_code == 502 and "found" not in found.json()


def test_a_provider_that_is_down_was_never_sent_anything(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference = new_reference()
    paypal.down()
    told = connector.pay(reference).json()
    assert (told["outcome"], told["reason_code"]) == ("failed", "never_sent")
    paypal.open()
    assert connector.pay(reference).json()["outcome"] == "pending"
    assert len(contract.orders) == 1


@pytest.mark.parametrize("trouble", ["hang", "cut", "error", "garbage"])
def test_an_enquiry_without_an_answer_says_nothing(
    connector: Any, paypal: Any, contract: Any, trouble: str
) -> None:
    reference = new_reference()
    order_id = connector.pay(reference).json()["provider_reference"]
    paypal.trouble[f"GET {fake.ORDERS}/{order_id}"] = trouble
    assert connector.enquire(reference).status_code == 502
    assert connector.enquire(reference).json()["outcome"] == "pending"


def backdate(connector: Any, reference: str) -> None:
    """Make a payment four hours old, which is past the default of three."""
    with sqlite3.connect(connector.folder / "record.sqlite3") as record:
        record.execute(
            "UPDATE calls SET taken_at = strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now', '-4 hours')"
            " WHERE reference = ?",
            (reference,),
        )


def test_an_approval_that_comes_too_late_is_not_captured_any_more(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    backdate(connector, reference)
    contract.approve(reference)
    for _ in range(2):
        found = connector.enquire(reference).json()
        assert (found["outcome"], found["reason_code"]) == ("failed", "expired")
    assert captures(paypal) == []


def test_an_order_that_paypal_has_dropped_is_expired_unless_a_capture_was_asked_for(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference, asked = new_reference(), new_reference()
    connector.pay(reference)
    order_id = connector.pay(asked).json()["provider_reference"]
    contract.approve(asked)
    paypal.trouble[f"POST {fake.ORDERS}/{order_id}/capture"] = "cut"
    connector.enquire(asked)
    contract.orders.clear()
    assert connector.enquire(reference).json()["reason_code"] == "expired"
    assert connector.enquire(asked).json()["outcome"] == "unknown"


@pytest.mark.parametrize(
    ("status", "body", "outcome", "reason"),
    [
        (
            422,
            {"name": "U", "details": [{"issue": "CURRENCY_NOT_SUPPORTED"}]},
            "failed",
            "invalid_currency",
        ),
        (400, {"name": "INVALID_REQUEST"}, "failed", "internal_error"),
        (403, {"name": "NOT_AUTHORIZED"}, "failed", "provider_unavailable"),
        (
            422,
            {"name": "U", "details": [{"issue": "DUPLICATE_INVOICE_ID"}]},
            "unknown",
            "duplicate",
        ),
        (422, {}, "unknown", None),
        (429, {"name": "RATE_LIMIT_REACHED"}, "unknown", None),
        (500, {"name": "INTERNAL_SERVER_ERROR"}, "unknown", None),
    ],
)
def test_only_documented_refusals_fail_a_payment(
    connector: Any, contract: Any, status: int, body: Any, outcome: str, reason: str | None
) -> None:
    contract.refuse = (status, body)
    told = connector.pay(new_reference()).json()
    assert (told["outcome"], told.get("reason_code")) == (outcome, reason)


@pytest.mark.parametrize(
    ("amount", "currency", "sent"),
    [
        ("100", "JPY", "100"),
        ("100.00", "TWD", "100"),
        ("100", "HUF", "100"),
        ("100.50", "TWD", None),
        ("0.5", "HUF", None),
        ("10.005", "EUR", None),
        ("10", "EUR", "10.00"),
    ],
)
def test_amounts_go_out_in_paypals_decimals_or_not_at_all(
    connector: Any, paypal: Any, amount: str, currency: str, sent: str | None
) -> None:
    told = connector.pay(new_reference(), amount=amount, **{"X-Currency": currency}).json()
    values = [s.body["purchase_units"][0]["amount"]["value"] for s in creations(paypal)]
    assert values == ([] if sent is None else [sent])
    assert told["outcome"] == ("failed" if sent is None else "pending")
    assert (told.get("reason_code") == "never_sent") == (sent is None)


def test_a_link_that_is_not_https_is_not_shown_to_a_payer(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.order_of(reference)["links"][1]["href"] = "javascript:alert(1)"
    assert "customer_action" not in connector.enquire(reference).json()


@pytest.mark.parametrize(
    ("event", "status", "outcome"),
    [
        ("PAYMENT.CAPTURE.COMPLETED", "COMPLETED", "succeeded"),
        ("PAYMENT.CAPTURE.DENIED", "DECLINED", "failed"),
        ("PAYMENT.CAPTURE.PENDING", "PENDING", "pending"),
        ("PAYMENT.CAPTURE.REVERSED", "COMPLETED", "unknown"),
    ],
)
def test_a_verified_webhook_is_translated_and_a_replay_has_the_same_event(
    connector: Any, contract: Any, event: str, status: str, outcome: str
) -> None:
    reference, _ = paid(connector, contract, "10")
    capture = contract.order_of(reference)["purchase_units"][0]["payments"]["captures"][0]
    raw = contract.event(event, {**capture, "status": status})
    told = connector.callback(raw, fake.sign(raw)).json()
    assert (told["verified"], told["kind"], told["outcome"]) == (True, "payment", outcome)
    assert told["reference"] == reference
    if outcome != "unknown":
        assert (told["amount"], told["currency"]) == ("10.00", "USD")
        assert told["provider_reference"] == capture["id"]
    assert connector.callback(raw, fake.sign(raw)).json()["event_id"] == told["event_id"]


def test_an_approval_webhook_is_pending_and_captures_nothing(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    raw = contract.event("CHECKOUT.ORDER.APPROVED", contract.approve(reference))
    told = connector.callback(raw, fake.sign(raw)).json()
    assert (told["verified"], told["outcome"], told["reason_code"]) == (True, "pending", "approved")
    assert (told["reference"], captures(paypal)) == (reference, [])


def test_a_webhook_that_paypal_does_not_confirm_is_not_verified(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference, _ = paid(connector, contract)
    capture = contract.order_of(reference)["purchase_units"][0]["payments"]["captures"][0]
    raw = contract.event("PAYMENT.CAPTURE.COMPLETED", capture)
    verify = "/v1/notifications/verify-webhook-signature"
    right = fake.sign(raw)
    assert connector.callback(raw, right).json()["verified"] is True
    for headers in ({}, fake.sign(raw + b" "), {**right, "paypal-transmission-sig": ""}):
        assert connector.callback(raw, headers).json()["verified"] is False
    assert len(paypal.calls("POST", verify)) == 2  # without all headers nobody is asked
    for trouble in ("cut", "error", "garbage"):
        paypal.trouble[f"POST {verify}"] = trouble
        assert connector.callback(raw, right).json()["verified"] is False
    paypal.down()
    assert connector.callback(raw, right).json()["verified"] is False


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"event_type": "X", "resource": 1, "id": "W"}']
)
def test_an_unreadable_webhook_is_refused(connector: Any, raw: bytes) -> None:
    assert connector.callback(raw, fake.sign(raw)).status_code == 422


def test_a_refund_is_made_once_and_found(connector: Any, paypal: Any, contract: Any) -> None:
    reference, capture_id = paid(connector, contract)
    refund, attempt = new_refund(), new_attempt()
    body = {"payment_reference": reference, "amount": "40", "currency": "USD"}
    told = connector.refund(refund, attempt=attempt, **body)
    assert (told.status_code, told.json()["reference"]) == (202, refund)
    assert connector.refund(refund, attempt=attempt, **body).json() == told.json()
    (sent,) = paypal.calls("POST", "/v2/payments")
    assert sent.path == f"/v2/payments/captures/{capture_id}/refund"
    assert sent.headers["paypal-request-id"] == attempt
    (entity,) = contract.refunds.values()
    entity["status"] = "COMPLETED"
    raw = contract.event("PAYMENT.CAPTURE.REFUNDED", entity)
    event = connector.callback(raw, fake.sign(raw)).json()
    assert (event["kind"], event["reference"], event["outcome"]) == ("refund", refund, "succeeded")
    found = connector.refund_status(refund).json()
    assert (found["outcome"], found["amount"]) == ("succeeded", "40.00")


def test_a_lost_answer_to_a_refund_is_found_in_the_order_and_not_sent_again(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference, capture_id = paid(connector, contract)
    refund, attempt = new_refund(), new_attempt()
    body = {"payment_reference": reference, "amount": "40", "currency": "USD"}
    assert connector.refund_status(refund, payment_reference=reference).json()["found"] is False
    paypal.trouble[f"POST /v2/payments/captures/{capture_id}/refund"] = "cut"
    assert connector.refund(refund, attempt=attempt, **body).status_code == 502
    assert connector.refund(refund, attempt=attempt, **body).status_code == 502
    found = connector.refund_status(refund, payment_reference=reference).json()
    assert (found["outcome"], found["reference"]) == ("pending", refund)
    assert len(paypal.calls("POST", "/v2/payments")) == 1
    assert connector.refund_status(new_refund()).json()["outcome"] == "unknown"


def test_a_refund_of_too_much_fails_and_one_of_nothing_captured_is_never_sent(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference, _ = paid(connector, contract, "10")
    body = {"payment_reference": reference, "amount": "11", "currency": "USD"}
    told = connector.refund(new_refund(), **body).json()
    assert (told["outcome"], told["reason_code"]) == ("failed", "limit_exceeded")
    open_reference = new_reference()
    order_id = connector.pay(open_reference).json()["provider_reference"]
    body = {"payment_reference": open_reference, "provider_reference": order_id}
    told = connector.refund(new_refund(), amount="1", currency="USD", **body).json()
    assert told["reason_code"] == "never_sent"
    assert len(paypal.calls("POST", "/v2/payments")) == 1


def test_no_secret_and_no_phone_reaches_the_log_or_the_record(
    connector: Any, paypal: Any, contract: Any
) -> None:
    reference = new_reference()
    own = {"client_id": "pp-client-9", "client_secret": "other-secret-7788"}
    header = base64.b64encode(json.dumps(own).encode()).decode()
    paypal.trouble[f"POST {fake.ORDERS}"] = "cut"
    connector.pay(reference)
    refused = connector.pay(new_reference(), **{"X-Provider-Credentials": header})
    assert refused.json()["reason_code"] == "never_sent"
    paid(connector, contract)
    connector.enquire(reference)
    written = connector.written()
    assert reference.encode() in written  # it does write, so silence is no proof
    secrets = [fake.CLIENT_SECRET, "other-secret-7788", "250780000001", *contract.tokens]
    assert [secret for secret in secrets if secret.encode() in written] == []
