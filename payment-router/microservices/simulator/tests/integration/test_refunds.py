"""Every refund scenario, what may be refunded, and the record of refunds, over HTTP."""

import hashlib
import hmac
import json
import queue
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import httpx
import pytest


class Receiver(Protocol):
    url: str
    received: "queue.Queue[tuple[dict[str, str], bytes]]"
    answers: list[int]


class Running(NamedTuple):
    client: httpx.Client
    process: Any


Eventually = Callable[..., Any]


def pay(client: httpx.Client, amount: str = "100000", scenario: int | None = None) -> str:
    """A payment that succeeds at once (or plays `scenario`) and leaves refunds to their amount."""
    reference = f"pay_{uuid.uuid4().hex}"
    phone = "+250781234567" if scenario is None else f"+25078000{scenario:04}"
    body = {"f004": amount, "f005": phone, "f010": reference}
    client.post("/collection/payment", json=body, timeout=20)
    return reference


def refund(
    client: httpx.Client,
    payment: str,
    amount: str = "500",
    *,
    refund_id: str | None = None,
    callback_url: str | None = None,
    attempt: str | None = None,
    timeout: float = 20,
    **fields: object,
) -> httpx.Response:
    headers = {} if callback_url is None else {"X-Callback-Url": callback_url}
    if attempt is not None:
        headers["X-Attempt-Id"] = attempt
    body = {
        "refund_id": refund_id or new_id(),
        "payment_reference": payment,
        "amount": amount,
        "currency": "RWF",
        "reason": "returned",
        **fields,
    }
    return client.post("/collection/refund", json=body, headers=headers, timeout=timeout)


def new_id() -> str:
    return f"ref_{uuid.uuid4().hex}"


def enquire(client: httpx.Client, refund_id: str) -> httpx.Response:
    return client.post("/collection/refundStatus", json={"refund_id": refund_id})


def effects(client: httpx.Client, refund_id: str) -> list[dict[str, Any]]:
    answer = client.get("/_effects/refunds", params={"reference": refund_id}).json()
    found: list[dict[str, Any]] = answer["effects"]
    return found


def next_callback(receiver: Receiver) -> tuple[dict[str, Any], bool]:
    """Decoded body, and whether the signature verifies."""
    headers, body = receiver.received.get(timeout=10)
    expected = hmac.new(b"callback-secret", body, hashlib.sha256).hexdigest()
    return json.loads(body), hmac.compare_digest(headers["X-Signature"], expected)


def test_refund_succeeds_once_and_is_found_by_enquiry(simulator: httpx.Client) -> None:
    payment, refund_id = pay(simulator), new_id()
    answer = refund(simulator, payment, refund_id=refund_id)
    told = answer.json()
    assert answer.status_code == 200
    assert told["provider_reference"].startswith("sim_r_")
    assert told == {
        "status": "200",
        "outcome": "succeeded",
        "reference": refund_id,
        "provider_reference": told["provider_reference"],
        "amount": "500",
        "currency": "RWF",
        "reason_code": None,
        "message": "Refund completed",
    }
    assert enquire(simulator, refund_id).json() == {**told, "found": True}
    (effect,) = effects(simulator, refund_id)
    assert effect.pop("at").endswith("+00:00")
    assert effect == {
        "refund_id": refund_id,
        "payment_reference": payment,
        "amount": "500",
        "currency": "RWF",
        "scenario": "success",
    }


def test_phone_of_the_payer_chooses_before_the_refund_amount(simulator: httpx.Client) -> None:
    payment = pay(simulator, scenario=101)
    assert refund(simulator, payment, "500").json()["reason_code"] == "refund_declined"
    always = pay(simulator, scenario=100)
    assert refund(simulator, always, "501").json()["outcome"] == "succeeded"


def test_minor_digits_of_the_amount_choose_in_the_refund_currency(simulator: httpx.Client) -> None:
    payment = pay(simulator)
    declined = refund(simulator, payment, "10.01", currency="USD")
    assert declined.json()["reason_code"] == "refund_declined"
    assert refund(simulator, payment, "10.00", currency="USD").json()["outcome"] == "succeeded"


def test_declined_refund_gives_nothing_back(simulator: httpx.Client) -> None:
    refund_id = new_id()
    answer = refund(simulator, pay(simulator), "501", refund_id=refund_id)
    assert (answer.status_code, answer.json()["outcome"]) == (400, "failed")
    assert enquire(simulator, refund_id).json()["outcome"] == "failed"
    assert effects(simulator, refund_id) == []


def test_slow_refund_is_made_before_it_is_answered(simulator: httpx.Client) -> None:
    refund_id, started = new_id(), time.monotonic()
    answer = refund(simulator, pay(simulator), "503", refund_id=refund_id)
    assert answer.json()["outcome"] == "succeeded"
    assert time.monotonic() - started >= 0.5
    assert len(effects(simulator, refund_id)) == 1


@pytest.mark.parametrize(("amount", "refunded"), [("504", True), ("514", False)])
def test_timed_out_refund_is_told_by_enquiry(
    simulator: httpx.Client, amount: str, refunded: bool
) -> None:
    refund_id, payment = new_id(), pay(simulator)
    with pytest.raises(httpx.ReadTimeout):
        refund(simulator, payment, amount, refund_id=refund_id, timeout=0.5)
    told = enquire(simulator, refund_id).json()
    assert told["found"] is refunded
    assert told["outcome"] == ("succeeded" if refunded else "unknown")
    assert len(effects(simulator, refund_id)) == int(refunded)


@pytest.mark.parametrize(("amount", "refunded"), [("507", True), ("508", False)])
def test_server_error_may_or_may_not_have_refunded(
    simulator: httpx.Client, amount: str, refunded: bool
) -> None:
    refund_id = new_id()
    answer = refund(simulator, pay(simulator), amount, refund_id=refund_id)
    assert (answer.status_code, answer.json()["code"]) == (500, "simulated_error")
    answer = enquire(simulator, refund_id)
    assert answer.status_code == (200 if refunded else 404)
    assert answer.json()["found"] is refunded
    assert len(effects(simulator, refund_id)) == int(refunded)


def test_cut_and_garbled_answers_had_refunded(simulator: httpx.Client) -> None:
    cut, garbled = new_id(), new_id()
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        refund(simulator, pay(simulator), "511", refund_id=cut)
    with pytest.raises(UnicodeDecodeError):
        refund(simulator, pay(simulator), "510", refund_id=garbled).json()
    assert [len(effects(simulator, one)) for one in (cut, garbled)] == [1, 1]


def test_pending_refund_succeeds_with_a_signed_callback(
    simulator: httpx.Client, receiver: Receiver
) -> None:
    payment, refund_id = pay(simulator), new_id()
    answer = refund(simulator, payment, "505", refund_id=refund_id, callback_url=receiver.url)
    assert (answer.status_code, answer.json()["outcome"]) == (202, "pending")
    body, genuine = next_callback(receiver)
    assert genuine
    provider_reference = answer.json()["provider_reference"]
    assert body == {
        "event_id": f"{provider_reference}_succeeded",
        "kind": "refund",
        "reference": refund_id,
        "payment_reference": payment,
        "provider_reference": provider_reference,
        "outcome": "succeeded",
        "amount": "505",
        "currency": "RWF",
        "reason_code": None,
    }
    assert enquire(simulator, refund_id).json()["outcome"] == "succeeded"
    assert len(effects(simulator, refund_id)) == 1


def test_lost_callback_leaves_it_to_the_enquiry(
    simulator: httpx.Client, receiver: Receiver, eventually: Eventually
) -> None:
    payment, refund_id, marker = pay(simulator), new_id(), new_id()
    refund(simulator, payment, "506", refund_id=refund_id, callback_url=receiver.url)
    eventually(lambda: enquire(simulator, refund_id).json()["outcome"] == "succeeded")
    # A later refund's callback arrives first, so the silent one has none on its way.
    refund(simulator, payment, "505", refund_id=marker, callback_url=receiver.url)
    assert next_callback(receiver)[0]["reference"] == marker


def test_pending_refund_may_be_declined(simulator: httpx.Client, receiver: Receiver) -> None:
    refund_id = new_id()
    payment = pay(simulator)
    refund(simulator, payment, "517", refund_id=refund_id, callback_url=receiver.url)
    body, genuine = next_callback(receiver)
    assert (body["outcome"], body["reason_code"], genuine) == ("failed", "refund_declined", True)
    assert enquire(simulator, refund_id).json()["outcome"] == "failed"
    assert effects(simulator, refund_id) == []


def test_failed_refund_succeeds_late(simulator: httpx.Client, receiver: Receiver) -> None:
    refund_id = new_id()
    payment = pay(simulator)
    answer = refund(simulator, payment, "513", refund_id=refund_id, callback_url=receiver.url)
    assert (answer.status_code, answer.json()["outcome"]) == (400, "failed")
    assert next_callback(receiver)[0]["outcome"] == "succeeded"
    assert enquire(simulator, refund_id).json()["outcome"] == "succeeded"
    assert len(effects(simulator, refund_id)) == 1


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ("512", [("succeeded", True), ("succeeded", True)]),
        ("515", [("failed", False), ("succeeded", True)]),
        ("516", [("succeeded", True), ("pending", True)]),
        ("520", [("succeeded", True)]),
    ],
)
def test_refund_callbacks_are_doubled_forged_reordered_and_late(
    simulator: httpx.Client, receiver: Receiver, amount: str, told: list[tuple[str, bool]]
) -> None:
    refund(simulator, pay(simulator), amount, callback_url=receiver.url)
    heard = [next_callback(receiver) for _ in told]
    assert [(body["outcome"], genuine) for body, genuine in heard] == told
    if amount == "512":
        assert heard[0] == heard[1]


def test_sum_of_refunds_stays_within_the_captured_amount(simulator: httpx.Client) -> None:
    payment = pay(simulator, "1000")
    assert refund(simulator, payment, "600").json()["outcome"] == "succeeded"
    refused = refund(simulator, payment, "500").json()
    assert (refused["outcome"], refused["reason_code"]) == ("failed", "refund_too_large")
    assert refund(simulator, payment, "400").json()["outcome"] == "succeeded"
    report = simulator.get("/_effects/refunds", params={"payment_reference": payment}).json()
    assert [effect["amount"] for effect in report["effects"]] == ["600", "400"]


def test_pending_refund_holds_its_amount(start: Callable[..., Running]) -> None:
    client = start(SIMULATOR_ASYNC_SECONDS="3600").client
    payment = pay(client, "1000")
    assert refund(client, payment, "605").json()["outcome"] == "pending"
    assert refund(client, payment, "400").json()["reason_code"] == "refund_too_large"
    assert refund(client, payment, "395").json()["outcome"] == "succeeded"


def test_late_success_may_go_beyond_the_captured_amount(
    start: Callable[..., Running], eventually: Eventually
) -> None:
    client = start(SIMULATOR_LATE_SECONDS="3600").client
    payment, late = pay(client, "1000"), new_id()
    assert refund(client, payment, "613", refund_id=late).json()["outcome"] == "failed"
    assert refund(client, payment, "1000").json()["outcome"] == "succeeded"
    client.post("/_clock", json={"advance_seconds": 3600})
    eventually(lambda: enquire(client, late).json()["outcome"] == "succeeded")
    report = client.get("/_effects/refunds", params={"payment_reference": payment}).json()
    assert {effect["amount"] for effect in report["effects"]} == {"613", "1000"}


def test_concurrent_refunds_never_give_back_too_much(simulator: httpx.Client) -> None:
    payment = pay(simulator, "1000")
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: refund(simulator, payment, "300").json(), range(16)))
    assert sorted(answer["outcome"] for answer in answers) == ["failed"] * 13 + ["succeeded"] * 3


@pytest.mark.parametrize("scenario", [1, 8, 14])
def test_unpaid_payment_is_not_refunded(simulator: httpx.Client, scenario: int) -> None:
    reference = f"pay_{uuid.uuid4().hex}"
    body = {"f004": "1000", "f005": f"+25078000{scenario:04}", "f010": reference}
    try:
        simulator.post("/collection/payment", json=body, timeout=0.5)
    except httpx.ReadTimeout:
        assert scenario == 14
    refused = refund(simulator, reference).json()
    assert refused["outcome"] == "failed"
    assert refused["reason_code"] == ("not_refundable" if scenario == 1 else "not_found")


def test_unknown_payment_and_other_provider_reference_are_not_found(
    simulator: httpx.Client,
) -> None:
    unknown, mistaken = new_id(), new_id()
    assert refund(simulator, "pay_none", refund_id=unknown).json()["reason_code"] == "not_found"
    answer = refund(simulator, pay(simulator), refund_id=mistaken, provider_reference="sim_other")
    assert answer.json()["reason_code"] == "not_found"
    assert [effects(simulator, one) for one in (unknown, mistaken)] == [[], []]


def test_second_currency_of_one_payment_is_refused(simulator: httpx.Client) -> None:
    payment = pay(simulator)
    refund(simulator, payment, "500")
    answer = refund(simulator, payment, "5.00", currency="USD").json()
    assert (answer["outcome"], answer["reason_code"]) == ("failed", "currency_mismatch")


@pytest.mark.parametrize("amount", ["500", "504", "507", "510", "511", "505", "501"])
def test_repeated_refund_id_has_one_effect_and_is_counted(
    simulator: httpx.Client, eventually: Eventually, amount: str
) -> None:
    payment, refund_id = pay(simulator), new_id()
    try:
        refund(simulator, payment, amount, refund_id=refund_id, attempt=new_id(), timeout=0.5)
    except httpx.TransportError:
        assert amount in ("504", "511")
    again = refund(simulator, payment, "999", refund_id=refund_id, attempt=new_id()).json()
    assert (again["amount"], again["reference"]) == (amount, refund_id)
    wanted = 0 if amount == "501" else 1
    eventually(lambda: len(effects(simulator, refund_id)) >= wanted)
    report = simulator.get("/_effects/refunds", params={"reference": refund_id}).json()
    assert (len(report["effects"]), report["repeats"]) == (wanted, 1)


def test_attempt_id_belongs_to_one_refund_or_payment(simulator: httpx.Client) -> None:
    payment, attempt, other = pay(simulator), new_id(), new_id()
    refund(simulator, payment, attempt=attempt)
    answer = refund(simulator, payment, refund_id=other, attempt=attempt)
    assert (answer.status_code, answer.json()["code"]) == (409, "attempt_reused")
    body = {"f004": "1000", "f010": f"pay_{attempt}"}
    answer = simulator.post("/collection/payment", json=body, headers={"X-Attempt-Id": attempt})
    assert answer.status_code == 409
    assert enquire(simulator, other).json()["found"] is False


def test_audit_counts_refund_effects_and_repeats(simulator: httpx.Client) -> None:
    payment, given, declined = pay(simulator), new_id(), new_id()
    before = simulator.get("/_effects/summary").json()
    refund(simulator, payment, refund_id=given)
    refund(simulator, payment, refund_id=given)
    refund(simulator, payment, "501", refund_id=declined)
    after = simulator.get("/_effects/summary").json()
    assert {k: after[k] - before[k] for k in after if k.startswith("refund")} == {
        "refunds": 1,
        "refund_references": 2,
        "refund_doubled": 0,
        "refund_repeats": 1,
        "refund_requests": 3,
    }
    wanted = {"references": [given, declined, "ref_none", given]}
    counted = simulator.post("/_effects/refunds/query", json=wanted).json()
    assert counted == {given: 1, declined: 0, "ref_none": 0}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", ["body"]),
        (b"[]", ["body"]),
        (b'"x"', ["body"]),
        (b"{}", ["refund_id", "payment_reference", "amount", "currency"]),
        (
            b'{"refund_id": 1, "payment_reference": "a b", "amount": 1.5, "currency": "rwf"}',
            ["refund_id", "payment_reference", "amount", "currency"],
        ),
        (
            b'{"refund_id": "r", "payment_reference": "p", "amount": "1.5", "currency": "RWF"}',
            ["amount"],
        ),
        (
            b'{"refund_id": "r", "payment_reference": "p", "amount": "0", "currency": "RWF",'
            b' "provider_reference": "", "reason": 7}',
            ["provider_reference", "amount", "reason"],
        ),
    ],
)
def test_malformed_refund_names_its_fields(
    simulator: httpx.Client, body: bytes, fields: list[str]
) -> None:
    answer = simulator.post("/collection/refund", content=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == fields


def test_malformed_refund_enquiry_and_inspection_name_the_field(simulator: httpx.Client) -> None:
    for answer, field in (
        (simulator.post("/collection/refundStatus", json={"refund_id": 7}), "refund_id"),
        (simulator.get("/_effects/refunds"), "reference"),
        (
            simulator.get("/_effects/refunds", params={"payment_reference": "a b"}),
            "payment_reference",
        ),
        (simulator.post("/_effects/refunds/query", json={}), "references"),
    ):
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]
