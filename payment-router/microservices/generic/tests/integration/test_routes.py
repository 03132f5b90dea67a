"""The connector in a process of its own, with the example description and a provider like it."""

import base64
import importlib.util
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("fake_acme", FOLDER / "tests" / "fake_acme.py")
assert _spec is not None and _spec.loader is not None
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

ENVIRONMENT = {
    "GENERIC_DESCRIPTION_PATH": str(FOLDER / "example.json"),
    "GENERIC_API_KEY": fake.API_KEY,
    "GENERIC_MERCHANT_ID": "m-1",
    "GENERIC_WEBHOOK_SECRET": fake.WEBHOOK_SECRET,
    "GENERIC_CURRENCY": "RWF",
}


def new_reference() -> str:
    return f"pay_{uuid.uuid4().hex}"


def new_attempt() -> str:
    return f"att_{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def contract() -> Any:
    return fake.FakeAcme()


@pytest.fixture(scope="module")
def running(contract: Any, open_fake: Callable[..., Any]) -> Any:
    return open_fake(contract)


@pytest.fixture
def acme(running: Any, contract: Any) -> Any:
    running.reset()
    contract.reset()
    return running


@pytest.fixture(scope="module")
def process(running: Any, start_connector: Callable[..., Any]) -> Any:
    settings = {"GENERIC_BASE_URL": running.url, **ENVIRONMENT}
    return start_connector("mospay_generic", "GENERIC_", **settings)


@pytest.fixture
def connector(acme: Any, process: Any) -> Any:
    return process


def charges(acme: Any) -> list[Any]:
    return [s for s in acme.calls("POST", "/v1/charges") if s.path == "/v1/charges"]


def test_a_payment_goes_out_as_described_and_ends_by_enquiry(
    connector: Any, acme: Any, contract: Any
) -> None:
    reference, attempt = new_reference(), new_attempt()
    told = connector.pay(reference, attempt=attempt)
    assert (told.status_code, told.json()["outcome"]) == (202, "pending")
    assert told.json()["customer_action"]["url"] == "https://acme-pay.example/p/1"
    (sent,) = charges(acme)
    assert sent.headers["idempotency-key"] == attempt
    assert sent.body == {  # `notify` is left out: the router gave no callback URL
        "merchant": "m-1",
        "order": {"ref": reference, "amount": "1000", "currency": "RWF"},
        "payer": {"msisdn": "250780000001"},
    }
    contract.charges[reference]["state"] = "PAID"
    found = connector.enquire(reference).json()
    assert (found["outcome"], found["amount"], found["currency"]) == ("succeeded", "1000", "RWF")
    assert found["provider_reference"] == contract.charges[reference]["id"]
    assert len(charges(acme)) == 1


def test_a_payment_may_succeed_at_once(connector: Any, contract: Any) -> None:
    contract.first = "PAID"
    told = connector.pay(new_reference())
    assert (told.status_code, told.json()["outcome"], told.json()["amount"]) == (
        200,
        "succeeded",
        "1000",
    )


@pytest.mark.parametrize(
    ("code", "reason"), [("LOW_BALANCE", "insufficient_funds"), ("OTHER", "declined")]
)
def test_a_decline_is_told_in_our_reason_codes(
    connector: Any, contract: Any, code: str, reason: str
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.charges[reference] |= {"state": "REFUSED", "error": {"code": code}}
    found = connector.enquire(reference).json()
    assert (found["outcome"], found["reason_code"]) == ("failed", reason)


@pytest.mark.parametrize("trouble", ["hang", "cut", "error", "garbage"])
def test_a_lost_answer_is_unknown_then_found_by_enquiry_and_never_sent_again(
    connector: Any, acme: Any, contract: Any, trouble: str
) -> None:
    reference, attempt = new_reference(), new_attempt()
    acme.trouble["POST /v1/charges"] = trouble
    told = connector.pay(reference, attempt=attempt)
    assert (told.status_code, told.json()["outcome"]) == (502, "unknown")
    connector.restart()
    assert connector.pay(reference, attempt=attempt).json() == told.json()
    assert connector.pay(reference, attempt=new_attempt()).json() == told.json()
    contract.charges[reference]["state"] = "PAID"
    assert connector.enquire(reference).json()["outcome"] == "succeeded"
    assert len(charges(acme)) == 1


def test_a_duplicate_at_the_provider_means_what_the_description_says(
    connector: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    connector.lose_record()
    assert connector.pay(reference).json()["outcome"] == "pending"
    assert len(contract.charges) == 1


def test_a_provider_that_is_down_was_never_sent_anything(
    connector: Any, acme: Any, contract: Any
) -> None:
    reference = new_reference()
    acme.down()
    assert connector.pay(reference).json()["reason_code"] == "never_sent"
    assert connector.enquire(reference).status_code == 502
    acme.open()
    assert connector.pay(reference).json()["outcome"] == "pending"
    assert len(contract.charges) == 1


@pytest.mark.parametrize(
    ("refusal", "outcome"),
    [
        ((400, {"error": {"code": "TIMEOUT"}}), "failed"),
        ((401, {}), "unknown"),
        ((404, {}), "unknown"),
        ((500, {}), "unknown"),
        ((200, {"charge": {"state": "NEW"}}), "unknown"),
        ((200, {"charge": {"state": "PAID", "ref": "pay_other", "amount": "1000"}}), "unknown"),
        ((200, {"charge": ["PAID"]}), "unknown"),
        ((302, {}), "unknown"),
    ],
)
def test_only_what_is_described_has_a_meaning(
    connector: Any, contract: Any, refusal: Any, outcome: str
) -> None:
    contract.refuse = refusal
    told = connector.pay(new_reference()).json()
    assert told["outcome"] == outcome
    assert told.get("reason_code") == ("expired" if outcome == "failed" else None)


def test_an_unknown_reference_is_not_found_where_the_description_says_so(connector: Any) -> None:
    found = connector.enquire(new_reference())
    assert (found.status_code, found.json()["found"]) == (404, False)


def test_a_reference_can_not_name_another_address(connector: Any, acme: Any) -> None:
    assert connector.enquire("..").json()["outcome"] == "unknown"
    assert acme.seen == []


def test_a_refund_names_its_charge_in_the_path_quoted_and_is_made_once(
    connector: Any, acme: Any, contract: Any
) -> None:
    reference, refund, attempt = new_reference(), f"ref_{uuid.uuid4().hex}", new_attempt()
    contract.first = "PAID"
    charge = connector.pay(reference).json()["provider_reference"]
    body = {"payment_reference": reference, "amount": "400", "currency": "RWF", "reason": "broken"}
    told = connector.refund(refund, attempt=attempt, **body)
    assert (told.status_code, told.json()["reference"]) == (202, refund)
    assert connector.refund(refund, attempt=attempt, **body).json() == told.json()
    (sent,) = acme.calls("POST", "/v1/charges/")
    assert sent.path == f"/v1/charges/{charge.replace('/', '%2F')}/refunds"
    assert sent.body == {"ref": refund, "amount": "400", "note": "broken"}
    contract.refunds[refund]["state"] = "DONE"
    found = connector.refund_status(refund).json()
    assert (found["outcome"], found["amount"]) == ("succeeded", "400")
    raw = contract.event("refund", contract.refunds[refund])
    event = connector.callback(raw, fake.sign(raw)).json()
    assert (event["kind"], event["reference"], event["outcome"]) == ("refund", refund, "succeeded")


def test_a_signed_callback_is_verified_and_a_forged_one_is_not(
    connector: Any, contract: Any
) -> None:
    reference = new_reference()
    connector.pay(reference)
    contract.charges[reference]["state"] = "PAID"
    raw = contract.event("charge", contract.charges[reference])
    told = connector.callback(raw, fake.sign(raw)).json()
    assert (told["verified"], told["kind"], told["outcome"]) == (True, "payment", "succeeded")
    assert (told["reference"], told["amount"]) == (reference, "1000")
    assert connector.callback(raw, fake.sign(raw)).json()["event_id"] == told["event_id"]
    bare = {"x-acme-signature": fake.sign(raw)["x-acme-signature"].removeprefix("sha256=")}
    for headers in ({}, bare, fake.sign(raw, "wrong"), fake.sign(raw + b" ")):
        assert connector.callback(raw, headers).json()["verified"] is False


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff"])
def test_an_unreadable_callback_is_refused(connector: Any, raw: bytes) -> None:
    assert connector.callback(raw, fake.sign(raw)).status_code == 422


def test_no_secret_and_no_phone_reaches_the_log_or_the_record(connector: Any, acme: Any) -> None:
    reference = new_reference()
    own = base64.b64encode(json.dumps({"api_key": "other-key-9090"}).encode()).decode()
    acme.trouble["POST /v1/charges"] = "cut"
    connector.pay(reference)
    connector.pay(new_reference(), **{"X-Provider-Credentials": own})
    assert acme.seen[-1].headers["authorization"] == "Bearer other-key-9090"
    connector.enquire(reference)
    written = connector.written()
    assert reference.encode() in written  # it does write, so silence is no proof
    secrets = [fake.API_KEY, fake.WEBHOOK_SECRET, "other-key-9090", "250780000001"]
    assert [secret for secret in secrets if secret.encode() in written] == []


def test_a_missing_secret_sends_nothing(acme: Any, start_connector: Callable[..., Any]) -> None:
    without = {k: v for k, v in ENVIRONMENT.items() if k != "GENERIC_API_KEY"}
    settings = {"GENERIC_BASE_URL": acme.url, **without}
    connector = start_connector("mospay_generic", "GENERIC_", **settings)
    assert connector.pay(new_reference()).json()["reason_code"] == "never_sent"
    assert acme.seen == []


def test_without_a_description_it_does_not_start(tmp_path: Path) -> None:
    environment = {"GENERIC_HTTP_PORT": "0", "GENERIC_DATABASE_PATH": str(tmp_path / "record")}
    done = subprocess.run(
        [sys.executable, "-m", "mospay_generic"],
        env=environment,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0 and b"GENERIC_DESCRIPTION_PATH" in done.stderr
