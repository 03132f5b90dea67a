"""The connector in a process of its own, between a router's requests and a fake MTN."""

import base64
import importlib.util
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

_spec = importlib.util.spec_from_file_location(
    "fake_mtn", Path(__file__).parents[1] / "fake_mtn.py"
)
assert _spec is not None and _spec.loader is not None
fake_mtn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake_mtn)

PAY = "POST /collection/v1_0/requesttopay"
ENVIRONMENT = {
    "MTN_API_USER": fake_mtn.API_USER,
    "MTN_API_KEY": fake_mtn.API_KEY,
    "MTN_SUBSCRIPTION_KEY": fake_mtn.SUBSCRIPTION,
    "MTN_DISBURSEMENT_API_USER": fake_mtn.API_USER,
    "MTN_DISBURSEMENT_API_KEY": fake_mtn.API_KEY,
    "MTN_DISBURSEMENT_SUBSCRIPTION_KEY": fake_mtn.SUBSCRIPTION,
    "MTN_CURRENCY": "RWF",
}


def new_reference() -> str:
    return f"pay_{uuid.uuid4().hex}"


def new_attempt() -> str:
    return f"att_{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def contract() -> Any:
    return fake_mtn.FakeMtn()


@pytest.fixture(scope="module")
def running(contract: Any, open_fake: Callable[..., Any]) -> Any:
    return open_fake(contract)


@pytest.fixture
def mtn(running: Any, contract: Any) -> Any:
    running.reset()
    contract.results.clear()
    contract.refuse = None
    return running


@pytest.fixture(scope="module")
def process(running: Any, start_connector: Callable[..., Any]) -> Any:
    return start_connector("mospay_mtnmomo", "MTN_", MTN_BASE_URL=running.url, **ENVIRONMENT)


@pytest.fixture
def connector(mtn: Any, process: Any) -> Any:
    return process


def requests_to_pay(mtn: Any) -> list[Any]:
    found: list[Any] = mtn.calls("POST", "/collection/v1_0/requesttopay")
    return found


def test_a_payment_is_pending_until_the_payer_approves_then_succeeded(
    connector: Any, mtn: Any, contract: Any
) -> None:
    reference = new_reference()
    hook = "https://pay.example/v1/callbacks/mtnmomorwa"
    told = connector.pay(reference, **{"X-Callback-Url": hook})
    assert told.status_code == 202 and told.json()["outcome"] == "pending"
    sent = requests_to_pay(mtn)[0]
    assert sent.headers["x-callback-url"] == hook
    assert sent.body == {
        "amount": "1000",
        "currency": "RWF",
        "externalId": reference,
        "payer": {"partyIdType": "MSISDN", "partyId": "250780000001"},
        "payerMessage": "Payment",
        "payeeNote": reference,
    }
    assert connector.enquire(reference).json()["outcome"] == "pending"
    contract.end(reference, "SUCCESSFUL")
    found = connector.enquire(reference)
    assert found.status_code == 200
    assert found.json() == {
        "outcome": "succeeded",
        "reference": reference,
        "provider_reference": "23503452",
        "amount": "1000",
        "currency": "RWF",
        "message": "MTN says SUCCESSFUL",
        "found": True,
    }
    assert len(requests_to_pay(mtn)) == 1


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("NOT_ENOUGH_FUNDS", "insufficient_funds"),
        ({"code": "PAYER_NOT_FOUND", "message": "-"}, "payer_not_found"),
        ("APPROVAL_REJECTED", "payer_rejected"),
        ("EXPIRED", "expired"),
        ("PAYER_LIMIT_REACHED", "limit_exceeded"),
        ("INTERNAL_PROCESSING_ERROR", "internal_error"),
        ("SOMETHING_NEW", "declined"),
    ],
)
def test_a_decline_is_told_in_our_reason_codes(
    connector: Any, contract: Any, reason: Any, code: str
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.end(reference, "FAILED", reason)
    found = connector.enquire(reference).json()
    assert (found["outcome"], found["reason_code"]) == ("failed", code)


def test_a_repeated_attempt_is_told_the_recorded_answer_without_a_call(
    connector: Any, mtn: Any
) -> None:
    reference = new_reference()
    attempt = new_attempt()
    first = connector.pay(reference, attempt=attempt)
    assert connector.pay(reference, attempt=attempt).json() == first.json()
    assert connector.pay(reference, attempt=new_attempt()).json() == first.json()
    connector.restart()
    assert connector.pay(reference, attempt=attempt).json() == first.json()
    assert len(requests_to_pay(mtn)) == 1


def test_an_attempt_that_was_killed_under_way_is_unknown_and_never_sent_again(
    connector: Any, mtn: Any, contract: Any, eventually: Callable[..., Any]
) -> None:
    reference, attempt = new_reference(), new_attempt()
    connector.pay(new_reference())  # the token is there
    mtn.reset()
    mtn.trouble[PAY] = "hang"
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(connector.pay, reference, attempt=attempt)
        eventually(lambda: requests_to_pay(mtn))
        connector.restart()  # kill -9 between the request and its answer
        with pytest.raises(httpx.HTTPError):
            cut.result()
    for name in (attempt, new_attempt()):
        told = connector.pay(reference, attempt=name)
        assert (told.status_code, told.json()["outcome"]) == (502, "unknown")
    assert connector.enquire(reference).json()["message"] == "the call is still under way"
    contract.end(reference, "SUCCESSFUL")
    found = eventually(lambda: (a := connector.enquire(reference)).status_code == 200 and a)
    assert found.json()["outcome"] == "succeeded"
    assert len(requests_to_pay(mtn)) == 1


def test_the_same_attempt_sent_at_once_from_many_sides_makes_one_call(
    connector: Any, mtn: Any
) -> None:
    reference, attempt = new_reference(), new_attempt()
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: connector.pay(reference, attempt=attempt), range(8)))
    assert {t.json()["outcome"] for t in told} <= {"pending", "unknown"}
    assert len(requests_to_pay(mtn)) == 1


def test_an_attempt_id_of_another_reference_is_refused_and_nothing_is_sent(
    connector: Any, mtn: Any
) -> None:
    attempt = new_attempt()
    connector.pay(new_reference(), attempt=attempt)
    assert connector.pay(new_reference(), attempt=attempt).status_code == 409
    assert len(requests_to_pay(mtn)) == 1


def test_a_duplicate_reference_id_at_the_provider_means_ask_never_failed(
    connector: Any, mtn: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    connector.lose_record()
    again = connector.pay(reference)
    assert (again.status_code, again.json()["outcome"]) == (202, "pending")
    assert again.json()["reason_code"] == "duplicate"
    assert len(contract.results) == 1


@pytest.mark.parametrize("trouble", ["hang", "cut", "error", "garbage"])
def test_a_lost_answer_is_unknown_then_found_by_enquiry_and_never_sent_again(
    connector: Any, mtn: Any, contract: Any, trouble: str
) -> None:
    reference, attempt = new_reference(), new_attempt()
    mtn.trouble[PAY] = trouble
    told = connector.pay(reference, attempt=attempt)
    expected = "pending" if trouble == "garbage" else "unknown"  # 202 has no body to be read
    assert told.json()["outcome"] == expected
    assert connector.pay(reference, attempt=attempt).json()["outcome"] == expected
    connector.restart()
    assert connector.pay(reference, attempt=new_attempt()).json()["outcome"] == expected
    contract.end(reference, "SUCCESSFUL")
    assert connector.enquire(reference).json()["outcome"] == "succeeded"
    assert connector.pay(reference, attempt=attempt).json()["outcome"] == "succeeded"
    assert len(requests_to_pay(mtn)) == 1


def test_a_provider_that_is_down_was_never_sent_anything_and_a_new_attempt_may_try(
    connector: Any, mtn: Any, contract: Any
) -> None:
    connector.pay(new_reference())  # the token is there: it is the payment that can't connect
    contract.results.clear()
    reference, attempt = new_reference(), new_attempt()
    mtn.down()
    told = connector.pay(reference, attempt=attempt)
    assert (told.status_code, told.json()["reason_code"]) == (400, "never_sent")
    assert connector.enquire(reference).json()["outcome"] == "unknown"
    mtn.open()
    assert connector.pay(reference, attempt=attempt).json() == told.json()
    assert contract.results == {}
    assert connector.pay(reference, attempt=new_attempt()).json()["outcome"] == "pending"
    assert len(contract.results) == 1


def test_a_token_is_fetched_once_and_again_after_the_provider_refused_it(
    connector: Any, mtn: Any, contract: Any
) -> None:
    connector.pay(new_reference())
    mtn.reset()
    connector.pay(new_reference())
    assert mtn.calls("POST", "/collection/token/") == []
    contract.tokens.clear()
    refused = connector.pay(new_reference())
    assert (refused.status_code, refused.json()["reason_code"]) == (400, "provider_unavailable")
    assert connector.pay(new_reference()).json()["outcome"] == "pending"
    assert len(mtn.calls("POST", "/collection/token/")) == 1 and len(requests_to_pay(mtn)) == 3


def test_no_token_means_never_sent(mtn: Any, start_connector: Callable[..., Any]) -> None:
    wrong = {**ENVIRONMENT, "MTN_API_KEY": "wrong"}
    connector = start_connector("mospay_mtnmomo", "MTN_", MTN_BASE_URL=mtn.url, **wrong)
    told = connector.pay(new_reference()).json()
    assert (told["outcome"], told["reason_code"]) == ("failed", "never_sent")
    assert requests_to_pay(mtn) == []


def test_an_unknown_reference_is_authoritatively_not_found(connector: Any) -> None:
    found = connector.enquire(new_reference())
    assert found.status_code == 404
    assert (found.json()["outcome"], found.json()["found"]) == ("unknown", False)


@pytest.mark.parametrize("trouble", ["hang", "cut", "error", "garbage"])
def test_an_enquiry_without_an_answer_says_nothing(
    connector: Any, mtn: Any, contract: Any, trouble: str
) -> None:
    reference = new_reference()
    handle = connector.pay(reference).json()["provider_reference"]
    contract.end(reference, "FAILED", "EXPIRED")
    mtn.trouble[f"GET /collection/v1_0/requesttopay/{handle}"] = trouble
    found = connector.enquire(reference)
    assert found.status_code == 502 and "found" not in found.json()
    assert connector.enquire(reference).json()["reason_code"] == "expired"


@pytest.mark.parametrize(
    ("status", "code", "outcome", "reason"),
    [
        (400, "BAD_REQUEST", "failed", "internal_error"),
        (403, "FORBIDDEN_IP", "failed", "provider_unavailable"),
        (500, "PAYER_NOT_FOUND", "unknown", "payer_not_found"),
        (500, "INTERNAL_PROCESSING_ERROR", "unknown", "internal_error"),
        (404, "RESOURCE_NOT_FOUND", "unknown", "declined"),
        (429, "TOO_MANY", "unknown", "declined"),
    ],
)
def test_only_documented_refusals_fail_a_payment(
    connector: Any, contract: Any, status: int, code: str, outcome: str, reason: str
) -> None:
    contract.refuse = (status, code)
    told = connector.pay(new_reference()).json()
    assert (told["outcome"], told["reason_code"]) == (outcome, reason)


def test_an_amount_the_currency_can_not_hold_is_never_sent(connector: Any, mtn: Any) -> None:
    told = connector.pay(new_reference(), amount="10.50").json()
    assert told["reason_code"] == "never_sent" and requests_to_pay(mtn) == []
    assert connector.pay(new_reference(), amount="10.00").json()["outcome"] == "pending"
    assert connector.pay(new_reference(), "10.50", **{"X-Currency": "EUR"}).status_code == 202
    assert [s.body["amount"] for s in requests_to_pay(mtn)] == ["10", "10.50"]


def test_a_callback_is_translated_but_never_verified_and_a_replay_has_the_same_event(
    connector: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.end(reference, "SUCCESSFUL")
    raw = json.dumps(next(iter(contract.results.values()))).encode()
    told = connector.callback(raw, method="PUT").json()
    assert (told["verified"], told["kind"], told["outcome"]) == (False, "payment", "succeeded")
    assert (told["reference"], told["amount"]) == (reference, "1000")
    assert connector.callback(raw).json()["event_id"] == told["event_id"]


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff\x00", b"[" * 100_000])
def test_an_unreadable_callback_is_refused(connector: Any, raw: bytes) -> None:
    told = connector.callback(raw)
    assert told.status_code == 422
    assert told.json()["errors"][0]["field"] == "body_base64"


def test_a_refund_goes_through_disbursements_once(connector: Any, mtn: Any, contract: Any) -> None:
    payment, refund, attempt = new_reference(), f"ref_{uuid.uuid4().hex}", new_attempt()
    handle = connector.pay(payment).json()["provider_reference"]
    contract.end(payment, "SUCCESSFUL")
    body = {"payment_reference": payment, "amount": "400", "currency": "RWF", "reason": "broken"}
    told = connector.refund(refund, attempt=attempt, **body)
    assert (told.status_code, told.json()["reference"]) == (202, refund)
    assert connector.refund(refund, attempt=attempt, **body).json() == told.json()
    assert connector.refund_status(refund).json()["outcome"] == "pending"
    contract.end(refund, "SUCCESSFUL")
    found = connector.refund_status(refund).json()
    assert (found["outcome"], found["amount"], found["reference"]) == ("succeeded", "400", refund)
    (sent,) = mtn.calls("POST", "/disbursement/v1_0/refund")
    assert sent.body["referenceIdToRefund"] == handle
    raw = json.dumps({**contract.results[sent.headers["x-reference-id"]]}).encode()
    assert connector.callback(raw).json()["kind"] == "refund"


def test_a_lost_answer_to_a_refund_is_found_by_enquiry_and_not_sent_again(
    connector: Any, mtn: Any, contract: Any
) -> None:
    payment, refund, attempt = new_reference(), f"ref_{uuid.uuid4().hex}", new_attempt()
    connector.pay(payment)
    body = {"payment_reference": payment, "amount": "400", "currency": "RWF"}
    mtn.trouble["POST /disbursement/v1_0/refund"] = "cut"
    assert connector.refund(refund, attempt=attempt, **body).status_code == 502
    assert connector.refund(refund, attempt=attempt, **body).status_code == 502
    contract.end(refund, "SUCCESSFUL")
    assert connector.refund_status(refund).json()["outcome"] == "succeeded"
    assert len(mtn.calls("POST", "/disbursement/v1_0/refund")) == 1


def sealed(**credentials: str) -> dict[str, str]:
    raw = base64.b64encode(json.dumps(credentials).encode()).decode()
    return {"X-Provider-Credentials": raw}


def test_a_clients_own_credentials_override_the_environment(
    connector: Any, mtn: Any, contract: Any
) -> None:
    own = sealed(MTN_API_USER="user-2", api_key="other-key")
    assert connector.pay(new_reference(), **own).status_code == 202
    token = requests_to_pay(mtn)[0].headers["authorization"].removeprefix("Bearer ")
    assert contract.tokens[token] == "user-2"


@pytest.mark.parametrize(
    "header",
    [
        {"X-Provider-Credentials": "%%%"},
        {"X-Provider-Credentials": base64.b64encode(b"[1]").decode()},
        sealed(api_user="user-2", base_url="http://169.254.169.254/"),
        sealed(api_kye="other-key"),
        sealed(subscription_key="other-key\n"),
        sealed(subscription_key="other-key-é"),
    ],
)
def test_wrong_credentials_are_refused_not_replaced_by_ours(
    connector: Any, mtn: Any, header: dict[str, str]
) -> None:
    told = connector.pay(new_reference(), **header)
    assert (told.status_code, told.json()["reason_code"]) == (400, "never_sent")
    assert "X-Provider-Credentials" in told.json()["message"]
    asked = connector.enquire(new_reference(), **header)
    assert (asked.status_code, asked.json()["outcome"]) == (502, "unknown")
    told = connector.client.post(
        "/callbacks", json={"headers": {}, "body_base64": "e30="}, headers=header
    )
    assert told.json()["errors"][0]["field"] == "X-Provider-Credentials"
    assert mtn.seen == [] and "169.254" not in told.text and "other-key" not in told.text


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        ([{"i": 4, "v": "0"}, {"i": 10, "v": "pay_1"}], {"f004"}),
        (
            [{"i": 4, "v": 10.5}, {"i": 5, "v": "abc"}, {"i": 10, "v": "a b"}],
            {"f004", "f005", "f010"},
        ),
        ([{"i": 4, "v": "1"}, {"i": 4, "v": "2"}, {"i": 10, "v": "pay_1"}], {"f004"}),
        ({"f004": "1"}, {"f010"}),
    ],
)
def test_malformed_payments_name_their_fields(
    connector: Any, mtn: Any, payload: Any, fields: set[str]
) -> None:
    told = connector.client.post("/collection/payment", json=payload, headers={"X-Attempt-Id": "a"})
    assert told.status_code == 422
    assert {error["field"] for error in told.json()["errors"]} == fields
    assert mtn.seen == []


def test_bodies_that_are_no_json_too_long_or_without_attempt_are_refused(connector: Any) -> None:
    post = connector.client.post
    assert post("/collection/payment", content=b"{").status_code == 422
    assert post("/collection/payment", content=b" " * 600_000).status_code == 413
    assert post("/collection/payment", content=iter([b"{}"])).status_code == 413
    body = [{"i": 4, "v": "1"}, {"i": 10, "v": "pay_1"}]
    assert post("/collection/payment", json=body).json()["errors"][0]["field"] == "X-Attempt-Id"
    wrong = {"X-Attempt-Id": "a", "X-Callback-Url": "https://h/é"}
    refused = post(
        "/collection/payment", json=body, headers=[(k, v.encode()) for k, v in wrong.items()]
    )
    assert {e["field"] for e in refused.json()["errors"]} == {"header.X-Callback-Url"}
    assert connector.client.get("/nothing").json()["status"] == 404
    assert connector.client.get("/healthz").json() == {"status": "ok", "name": "mtnmomorwa"}


def test_no_secret_and_no_phone_reaches_the_log_or_the_record(
    connector: Any, mtn: Any, contract: Any
) -> None:
    reference = new_reference()
    mtn.trouble[PAY] = "cut"
    connector.pay(reference, **sealed(api_user="user-2", api_key="other-key"))
    connector.pay(new_reference())
    contract.refuse = (401, "UNAUTHORIZED")
    connector.pay(new_reference())
    connector.enquire(reference)
    connector.pay(new_reference(), **sealed(api_key="wrong-key-5521", nonsense="x"))
    written = connector.written()
    assert reference.encode() in written  # it does write, so silence is no proof
    secrets = [
        fake_mtn.API_KEY,
        fake_mtn.SUBSCRIPTION,
        "other-key",
        "250780000001",
        *contract.tokens,
    ]
    assert [secret for secret in secrets if secret.encode() in written] == []
