"""Every scenario, every refusal and the inspection, over HTTP against a running simulator."""

import hashlib
import hmac
import json
import queue
import socket
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
    process: object


Eventually = Callable[..., Any]


def new_reference() -> str:
    return f"pay_{uuid.uuid4().hex}"


def payload(reference: str, scenario: int = 0, amount: str = "1000") -> list[dict[str, object]]:
    return [
        {"i": 0, "v": "simulator"},
        {"i": 1, "v": "collection"},
        {"i": 2, "v": "payment"},
        {"i": 3, "v": "app_1"},
        {"i": 4, "v": amount},
        {"i": 5, "v": f"+25078000{scenario:04}"},
        {"i": 9, "v": "device"},
        {"i": 10, "v": reference},
    ]


def pay(
    client: httpx.Client,
    reference: str,
    scenario: int = 0,
    callback_url: str | None = None,
    **options: Any,
) -> httpx.Response:
    headers = {} if callback_url is None else {"X-Callback-Url": callback_url}
    body = payload(reference, scenario)
    return client.post("/collection/payment", json=body, headers=headers, **options)


def enquire(client: httpx.Client, reference: str) -> httpx.Response:
    return client.post("/collection/paymentStatus", json=payload(reference))


def effects(client: httpx.Client, reference: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/_effects", params={"reference": reference}).json()[
        "effects"
    ]
    return found


def next_callback(receiver: Receiver) -> tuple[dict[str, str], dict[str, Any], bool]:
    """Headers, decoded body, and whether the signature verifies."""
    headers, body = receiver.received.get(timeout=10)
    expected = hmac.new(b"callback-secret", body, hashlib.sha256).hexdigest()
    return headers, json.loads(body), hmac.compare_digest(headers["X-Signature"], expected)


def test_success_is_paid_once_and_found_by_enquiry(simulator: httpx.Client) -> None:
    reference = new_reference()
    answer = pay(simulator, reference)
    assert answer.status_code == 200
    told = answer.json()
    assert told["provider_reference"].startswith("sim_")
    assert told == {
        "status": "200",
        "outcome": "succeeded",
        "provider_reference": told["provider_reference"],
        "reference": reference,
        "amount": "1000",
        "currency": None,
        "message": "Payment completed",
    }
    assert enquire(simulator, reference).json() == {**told, "found": True}
    (effect,) = effects(simulator, reference)
    assert effect.pop("at").endswith("+00:00")
    assert effect == {
        "reference": reference,
        "amount": "1000",
        "phone_masked": "+250*******00",
        "scenario": "success",
    }


@pytest.mark.parametrize(("scenario", "reason"), [(1, "insufficient_funds"), (2, "payer_rejected")])
def test_decline_names_its_reason_and_pays_nothing(
    simulator: httpx.Client, scenario: int, reason: str
) -> None:
    reference = new_reference()
    answer = pay(simulator, reference, scenario)
    assert answer.status_code == 400
    assert (answer.json()["outcome"], answer.json()["reason_code"]) == ("failed", reason)
    assert enquire(simulator, reference).json()["outcome"] == "failed"
    assert effects(simulator, reference) == []


def test_amount_chooses_where_the_phone_does_not(simulator: httpx.Client) -> None:
    body = {"f004": "2501.00", "f010": new_reference()}
    assert simulator.post("/collection/payment", json=body).status_code == 400
    body = {"f004": "2500", "f005": "+250781234567", "f010": new_reference()}
    assert simulator.post("/collection/payment", json=body).status_code == 200


def test_slow_payment_is_paid_before_it_is_answered(simulator: httpx.Client) -> None:
    reference = new_reference()
    started = time.monotonic()
    assert pay(simulator, reference, 3).json()["outcome"] == "succeeded"
    assert time.monotonic() - started >= 0.5
    assert len(effects(simulator, reference)) == 1


def test_timeout_that_paid_is_found_by_enquiry(simulator: httpx.Client) -> None:
    reference = new_reference()
    with pytest.raises(httpx.ReadTimeout):
        pay(simulator, reference, 4, timeout=0.5)
    assert enquire(simulator, reference).json()["outcome"] == "succeeded"
    assert len(effects(simulator, reference)) == 1


def test_timeout_that_did_not_pay_is_not_found(simulator: httpx.Client) -> None:
    reference = new_reference()
    with pytest.raises(httpx.ReadTimeout):
        pay(simulator, reference, 14, timeout=0.5)
    answer = enquire(simulator, reference)
    assert answer.status_code == 404
    assert (answer.json()["outcome"], answer.json()["found"]) == ("unknown", False)
    assert effects(simulator, reference) == []


def test_held_connection_is_reset_in_the_end(start: Callable[..., Running]) -> None:
    client = start(SIMULATOR_HANG_SECONDS="0.2").client
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        pay(client, new_reference(), 4)


def test_async_payment_is_pending_until_it_settles(start: Callable[..., Running]) -> None:
    client = start(SIMULATOR_ASYNC_SECONDS="3600").client
    reference = new_reference()
    answer = pay(client, reference, 5)
    assert (answer.status_code, answer.json()["outcome"]) == (202, "pending")
    assert enquire(client, reference).json()["outcome"] == "pending"
    assert effects(client, reference) == []


def test_async_payment_settles_with_a_signed_callback(
    simulator: httpx.Client, receiver: Receiver
) -> None:
    reference = new_reference()
    answer = pay(simulator, reference, 5, receiver.url)
    headers, body, genuine = next_callback(receiver)
    assert genuine
    assert headers["Content-Type"] == "application/json"
    assert (body["reference"], body["outcome"], body["amount"]) == (reference, "succeeded", "1000")
    assert body["provider_reference"] == answer.json()["provider_reference"]
    assert enquire(simulator, reference).json()["outcome"] == "succeeded"
    assert len(effects(simulator, reference)) == 1


def test_silent_payment_settles_without_a_callback(
    simulator: httpx.Client, receiver: Receiver, eventually: Eventually
) -> None:
    reference = new_reference()
    assert pay(simulator, reference, 6, receiver.url).status_code == 202
    eventually(lambda: enquire(simulator, reference).json()["outcome"] == "succeeded")
    # A later payment's callback arrives first, so the silent one has none on its way.
    marker = new_reference()
    pay(simulator, marker, 5, receiver.url)
    assert next_callback(receiver)[1]["reference"] == marker


def test_server_error_may_or_may_not_have_paid(simulator: httpx.Client) -> None:
    paid, unpaid = new_reference(), new_reference()
    for reference, scenario in ((paid, 7), (unpaid, 8)):
        answer = pay(simulator, reference, scenario)
        assert answer.status_code == 500
        assert answer.json()["code"] == "simulated_error"
    assert enquire(simulator, paid).json()["outcome"] == "succeeded"
    assert enquire(simulator, unpaid).status_code == 404
    assert (len(effects(simulator, paid)), len(effects(simulator, unpaid))) == (1, 0)


def test_wrong_amount_is_told_everywhere(simulator: httpx.Client) -> None:
    reference = new_reference()
    assert pay(simulator, reference, 9).json()["amount"] == "1001"
    assert enquire(simulator, reference).json()["amount"] == "1001"
    assert effects(simulator, reference)[0]["amount"] == "1001"


def test_garbage_answer_is_no_json_although_paid(simulator: httpx.Client) -> None:
    reference = new_reference()
    answer = pay(simulator, reference, 10)
    assert answer.status_code == 200
    with pytest.raises(UnicodeDecodeError):
        answer.json()
    assert len(effects(simulator, reference)) == 1


def test_cut_connection_had_paid(simulator: httpx.Client) -> None:
    reference = new_reference()
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        pay(simulator, reference, 11)
    assert enquire(simulator, reference).json()["outcome"] == "succeeded"
    assert len(effects(simulator, reference)) == 1


def test_duplicate_callback_has_the_same_event_id(
    simulator: httpx.Client, receiver: Receiver
) -> None:
    pay(simulator, new_reference(), 12, receiver.url)
    first, second = next_callback(receiver), next_callback(receiver)
    assert first[1] == second[1]
    assert first[2] and second[2]


def test_late_success_contradicts_the_decline(simulator: httpx.Client, receiver: Receiver) -> None:
    reference = new_reference()
    answer = pay(simulator, reference, 13, receiver.url)
    assert (answer.status_code, answer.json()["reason_code"]) == (400, "payer_timeout")
    assert next_callback(receiver)[1]["outcome"] == "succeeded"
    told = enquire(simulator, reference).json()
    assert told["outcome"] == "succeeded"
    assert "reason_code" not in told
    assert len(effects(simulator, reference)) == 1


def test_late_success_is_failed_until_then(start: Callable[..., Running]) -> None:
    client = start(SIMULATOR_LATE_SECONDS="3600").client
    reference = new_reference()
    pay(client, reference, 13)
    assert enquire(client, reference).json()["outcome"] == "failed"
    assert effects(client, reference) == []


def test_forged_callback_does_not_verify(simulator: httpx.Client, receiver: Receiver) -> None:
    pay(simulator, new_reference(), 15, receiver.url)
    told = [(body["outcome"], genuine) for _, body, genuine in map(next_callback, [receiver] * 2)]
    assert told == [("failed", False), ("succeeded", True)]


def test_reordered_callbacks_end_with_pending(simulator: httpx.Client, receiver: Receiver) -> None:
    pay(simulator, new_reference(), 16, receiver.url)
    told = [(body["outcome"], genuine) for _, body, genuine in map(next_callback, [receiver] * 2)]
    assert told == [("succeeded", True), ("pending", True)]


def test_refused_callback_is_sent_again(simulator: httpx.Client, receiver: Receiver) -> None:
    receiver.answers.extend([500, 302])
    pay(simulator, new_reference(), 5, receiver.url)
    told = [next_callback(receiver)[1] for _ in range(3)]
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("scenario", [0, 4, 7, 9, 10, 11])
def test_repeated_reference_pays_once_and_is_counted(
    simulator: httpx.Client, scenario: int
) -> None:
    reference = new_reference()
    try:
        pay(simulator, reference, scenario, timeout=0.5)
    except httpx.TransportError:
        assert scenario in (4, 11)
    answer = pay(simulator, reference, scenario)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "succeeded")
    report = simulator.get("/_effects", params={"reference": reference}).json()
    assert (len(report["effects"]), report["repeats"]) == (1, 1)


def test_repeat_with_another_amount_is_told_the_first_amount(simulator: httpx.Client) -> None:
    reference = new_reference()
    pay(simulator, reference)
    answer = simulator.post("/collection/payment", json=payload(reference, amount="9900"))
    assert answer.json()["amount"] == "1000"
    assert [effect["amount"] for effect in effects(simulator, reference)] == ["1000"]


def test_concurrent_requests_for_one_reference_pay_once(simulator: httpx.Client) -> None:
    reference = new_reference()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: pay(simulator, reference).json(), range(24)))
    assert len({answer["provider_reference"] for answer in answers}) == 1
    report = simulator.get("/_effects", params={"reference": reference}).json()
    assert (len(report["effects"]), report["repeats"]) == (1, 23)


def test_attempt_id_of_another_reference_has_no_effect(simulator: httpx.Client) -> None:
    first, second = new_reference(), new_reference()
    headers = {"X-Attempt-Id": f"att_{first}"}
    simulator.post("/collection/payment", json=payload(first), headers=headers)
    answer = simulator.post("/collection/payment", json=payload(second), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "attempt_reused")
    assert effects(simulator, second) == []
    assert enquire(simulator, second).status_code == 404


def test_audit_counts_effects_of_many_references(simulator: httpx.Client) -> None:
    paid, declined, never = new_reference(), new_reference(), new_reference()
    before = simulator.get("/_effects/summary").json()
    pay(simulator, paid)
    pay(simulator, paid)
    pay(simulator, declined, 1)
    after = simulator.get("/_effects/summary").json()
    assert {name: after[name] - before[name] for name in after} == {
        "effects": 1,
        "references": 2,
        "doubled": 0,
        "repeats": 1,
        "requests": 3,
        "refunds": 0,
        "refund_references": 0,
        "refund_doubled": 0,
        "refund_repeats": 0,
        "refund_requests": 0,
    }
    wanted = {"references": [paid, declined, never, paid]}
    counted = simulator.post("/_effects/query", json=wanted).json()
    assert counted == {paid: 1, declined: 0, never: 0}


def test_thousand_references_fit_into_one_audit_query(simulator: httpx.Client) -> None:
    references = [new_reference() for _ in range(1000)]
    answer = simulator.post("/_effects/query", json={"references": references})
    assert answer.json() == dict.fromkeys(references, 0)


def problem_fields(answer: httpx.Response) -> list[str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return [error["field"] for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", ["body"]),
        (b"{", ["body"]),
        (b"\xff\xfe", ["body"]),
        (b"[" * 30_000, ["body"]),
        (b'"text"', ["body"]),
        (b"null", ["body"]),
        (b"[]", ["f010", "f004"]),
        (b"{}", ["f010", "f004"]),
        (b'[1, {"v": 1}, {"i": true, "v": 1}]', ["[0].i", "[1].i", "[2].i"]),
        (b'[{"i": -1, "v": 1}, {"i": 4}]', ["[0].i", "[1].v"]),
        (b'[{"i": 4, "v": "1"}, {"i": 4, "v": "2"}]', ["f004"]),
        (b'{"f010": "r", "f004": 10.5}', ["f004"]),
        (b'{"f010": "r", "f004": "-1"}', ["f004"]),
        (b'{"f010": "r", "f004": "0.00"}', ["f004"]),
        (b'{"f010": "r", "f004": "1e3"}', ["f004"]),
        (b'{"f010": "r", "f004": "NaN"}', ["f004"]),
        (b'{"f010": "r", "f004": true}', ["f004"]),
        ('{"f010": "r", "f004": "١٠"}'.encode(), ["f004"]),
        (b'{"f010": "a b", "f004": "1"}', ["f010"]),
        (b'{"f010": "a\\u0000", "f004": "1"}', ["f010"]),
        (b'{"f010": 7, "f004": "1", "f005": 250}', ["f010", "f005"]),
        (b'{"f010": "r", "f004": "1", "f005": "+25O78"}', ["f005"]),
    ],
)
def test_malformed_payment_names_its_fields(
    simulator: httpx.Client, body: bytes, fields: list[str]
) -> None:
    answer = simulator.post("/collection/payment", content=body)
    assert answer.status_code == 422
    assert problem_fields(answer) == fields


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Attempt-Id", "a b"),
        ("X-Attempt-Id", "x" * 129),
        ("X-Callback-Url", "ftp://host/x"),
        ("X-Callback-Url", "http:///x"),
        ("X-Callback-Url", "http://[::1/x"),
        ("X-Callback-Url", "http://host:99999/x"),
        ("X-Callback-Url", "/relative"),
    ],
)
def test_malformed_header_is_named_and_pays_nothing(
    simulator: httpx.Client, header: str, value: str
) -> None:
    reference = new_reference()
    answer = simulator.post("/collection/payment", json=payload(reference), headers={header: value})
    assert (answer.status_code, problem_fields(answer)) == (422, [header])
    assert effects(simulator, reference) == []


def test_enquiry_reads_nothing_but_the_reference(simulator: httpx.Client) -> None:
    reference = new_reference()
    pay(simulator, reference)
    body = {"f010": reference, "f004": "nonsense", "f005": 7}
    assert simulator.post("/collection/paymentStatus", json=body).json()["found"] is True
    answer = simulator.post("/collection/paymentStatus", json={"f004": "1"})
    assert (answer.status_code, problem_fields(answer)) == (422, ["f010"])


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["references"]),
        ([], ["references"]),
        ({"references": "pay_1"}, ["references"]),
        ({"references": ["r", 1, "a b"]}, ["references[1]", "references[2]"]),
        ({"references": ["r"] * 1001}, ["references"]),
    ],
)
def test_malformed_audit_query_names_its_fields(
    simulator: httpx.Client, body: object, fields: list[str]
) -> None:
    answer = simulator.post("/_effects/query", json=body)
    assert (answer.status_code, problem_fields(answer)) == (422, fields)


def test_effects_without_a_reference_is_malformed(simulator: httpx.Client) -> None:
    answer = simulator.get("/_effects")
    assert (answer.status_code, problem_fields(answer)) == (422, ["reference"])


def test_oversize_body_is_refused(simulator: httpx.Client) -> None:
    reference = new_reference()
    body = [*payload(reference), {"i": 11, "v": "x" * 65_536}]
    answer = simulator.post("/collection/payment", json=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert effects(simulator, reference) == []


def test_unknown_path_and_method_are_problems(simulator: httpx.Client) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("POST", "/bad.name/payment", 404),
        ("POST", "/_effects/summary", 404),
        ("GET", "/collection/payment", 405),
        ("DELETE", "/_effects", 405),
    ):
        answer = simulator.request(method, path, json=payload(new_reference()))
        assert (answer.status_code, problem_fields(answer)) == (status, []), path


def test_healthz_is_ok(simulator: httpx.Client) -> None:
    assert simulator.get("/healthz").json() == {"status": "ok"}


def test_fixed_delay_comes_before_every_answer(start: Callable[..., Running]) -> None:
    client = start(SIMULATOR_DELAY_MS="300", SIMULATOR_RECORD="memory").client
    started = time.monotonic()
    pay(client, new_reference())
    assert time.monotonic() - started >= 0.3


def test_caller_that_goes_away_leaves_the_effect(
    simulator: httpx.Client, eventually: Eventually
) -> None:
    reference = new_reference()
    body = json.dumps(payload(reference, 3)).encode()
    address = (str(simulator.base_url.host), int(simulator.base_url.port or 0))
    with socket.create_connection(address) as connection:
        connection.sendall(
            b"POST /collection/payment HTTP/1.1\r\nHost: simulator\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    eventually(lambda: len(effects(simulator, reference)) == 1)
