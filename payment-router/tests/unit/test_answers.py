"""The outcome table: what is believed of an answer, row by row."""

import datetime as dt
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_payment_router.domain.answers import (
    Answer,
    Call,
    Finding,
    FunctionResult,
    judge,
    judge_transport,
    read_call,
)
from mospay_payment_router.domain.payments import Payment, Terms
from mospay_payment_router.domain.states import Evidence

E = Evidence
TERMS = Terms("f", "RESPONSE_f", "fStatus", "RESPONSE_fStatus", 1, False, "http://p.example",
              ("p.example:80",), 10.0, True, 5.0)  # fmt: skip
NOW = dt.datetime.now(dt.UTC)
PAYMENT = Payment(
    id="pay_1", client_id="cli_1", mode="test", app_id="app", service_id="srv", microservice="m",
    service="s", route="r", amount_minor=1000, currency="RWF", reference="x", phone_masked=None,
    fields={}, secrets=None, details={}, terms=TERMS, accepted_at=NOW, send_before=NOW,
    correlation_id=None, causation_id=None, traceparent=None,
)  # fmt: skip


def row(results: Any) -> FunctionResult:
    return FunctionResult(orjson.dumps(results).decode(), None, None, None)


def paid(**changes: Any) -> dict[str, Any]:
    return {"outcome": "succeeded", "amount": "1000", "reference": "pay_1"} | changes


TABLE = [
    (200, paid(), E.SUCCEEDED),
    (200, paid(amount=1000), E.SUCCEEDED),
    (200, paid(amount=1000.0), E.SUCCEEDED),
    (200, paid(amount="1000.00"), E.SUCCEEDED),
    (200, paid(currency="RWF"), E.SUCCEEDED),
    (200, paid(reference=None), E.SUCCEEDED),
    (200, paid(amount="1001"), E.MISMATCH),
    (200, paid(amount="1000.5"), E.MISMATCH),
    (200, paid(currency="USD"), E.MISMATCH),
    (200, paid(amount=None), E.UNDEFINED),
    (200, paid(amount="a lot"), E.UNDEFINED),
    (200, paid(amount={"n": 1}), E.UNDEFINED),
    (200, paid(amount=True), E.UNDEFINED),
    (200, paid(reference="pay_2"), E.UNDEFINED),
    (500, paid(), E.UNDEFINED),
    (400, {"outcome": "failed", "reason_code": "insufficient_funds"}, E.DECLINED),
    (200, {"outcome": "failed"}, E.DECLINED),
    (202, {"outcome": "pending"}, E.PENDING),
    (200, {"outcome": "PENDING"}, E.PENDING),
    (200, {"outcome": "unknown"}, E.UNDEFINED),
    (200, {"outcome": "maybe"}, E.UNDEFINED),
    (200, {"outcome": 7}, E.UNDEFINED),
    (200, {"outcome": ["succeeded"]}, E.UNDEFINED),
    (200, {}, E.UNDEFINED),
    (200, {"status": "200", "message": "ok"}, E.UNDEFINED),
    (202, {}, E.PENDING),
    (302, {}, E.UNDEFINED),
    (400, {}, E.UNDEFINED),
    (404, {}, E.UNDEFINED),
    (409, {}, E.UNDEFINED),
    (500, {}, E.UNDEFINED),
    (503, {}, E.UNDEFINED),
    (200, [], E.UNDEFINED),
    (200, "text", E.UNDEFINED),
    (200, None, E.UNDEFINED),
]


@pytest.mark.parametrize(("code", "results", "wanted"), TABLE)
def test_row_of_the_outcome_table(code: int, results: Any, wanted: Evidence) -> None:
    assert judge(code, row(results), PAYMENT).evidence is wanted


def test_4xx_fails_only_where_the_connector_lists_it_and_409_never() -> None:
    terms = replace(TERMS, failed_statuses=(400, 409, 500))
    payment = replace(PAYMENT, terms=terms)
    assert judge(400, row({}), payment).evidence is E.DECLINED
    assert judge(402, row({}), payment).evidence is E.UNDEFINED
    assert judge(409, row({}), payment).evidence is E.UNDEFINED
    assert judge(500, row({}), payment).evidence is E.UNDEFINED


def test_2xx_without_outcome_succeeds_only_where_a_person_marked_it_final() -> None:
    payment = replace(PAYMENT, terms=replace(TERMS, final_on_2xx=True))
    assert judge(200, row({"status": "200"}), payment).evidence is E.SUCCEEDED
    assert judge(202, row({}), payment).evidence is E.PENDING
    assert judge(200, row({}), PAYMENT).evidence is E.UNDEFINED


def test_not_found_counts_in_enquiries_alone() -> None:
    told = {"outcome": "unknown", "found": False}
    assert judge(404, row(told), PAYMENT, enquiry=True).evidence is E.NOT_FOUND
    assert judge(404, row(told), PAYMENT).evidence is E.UNDEFINED


@pytest.mark.parametrize("state", ["42883", "57014", "P0002", "P0003", "P0001", "22P02"])
def test_response_function_that_fails_proves_nothing(state: str) -> None:
    finding = judge(200, FunctionResult(None, None, state, "boom"), PAYMENT)
    assert finding.evidence is E.UNDEFINED
    assert state in (finding.reason_message or "")


def call_row(results: Any) -> FunctionResult:
    payload = orjson.dumps(results.get("servicepayload")).decode()
    return FunctionResult(orjson.dumps(results).decode(), payload, None, None)


SERVICE = {"action": "SERVICE", "serviceurl": "http://p.example/c/p", "servicepayload": [{"i": 1}]}


def test_service_action_is_a_call() -> None:
    assert read_call(call_row(SERVICE), PAYMENT) == Call("http://p.example/c/p", b'[{"i":1}]')


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"action": "ERROR", "message": "number barred"}, "refused_by_function"),
        ({"action": "NONSENSE"}, "function_failed"),
        ({"serviceurl": "http://other.example/"}, "host_not_registered"),
        ({"serviceurl": "http://p.example:81/"}, "host_not_registered"),
        ({"serviceurl": "http://p.example@evil.example/"}, "function_failed"),
        ({"serviceurl": "gopher://p.example/"}, "function_failed"),
        ({"serviceurl": None}, "function_failed"),
        ({"serviceurl": "http://p.example/" + "x" * 2000}, "function_failed"),
        ({"servicepayload": "x" * 70_000}, "function_failed"),
    ],
)
def test_function_that_makes_no_call_is_refused_unsent(changes: Any, code: str) -> None:
    finding = read_call(call_row(SERVICE | changes), PAYMENT)
    assert isinstance(finding, Finding)
    assert (finding.evidence, finding.reason_code) == (E.REFUSED, code)
    assert finding.result == "never_sent"


def test_output_without_outcome_never_posts() -> None:
    finding = read_call(call_row({"action": "OUTPUT", "status": "200"}), PAYMENT)
    assert isinstance(finding, Finding)
    assert (finding.evidence, finding.reason_code) == (E.UNDEFINED, "output_without_outcome")


def test_output_with_outcome_is_judged_like_an_answer() -> None:
    finding = read_call(call_row({"action": "OUTPUT"} | paid()), PAYMENT)
    assert isinstance(finding, Finding)
    assert finding.evidence is E.SUCCEEDED


def test_transport_proves_never_sent_or_nothing() -> None:
    assert judge_transport(Answer(None, None, "refused", True)).evidence is E.NEVER_SENT
    assert judge_transport(Answer(None, None, "timeout")).evidence is E.UNDEFINED


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["outcome", "amount", "currency", "reference", "status", "action", "x"]),
        inner, max_size=5,
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.integers(100, 599), anything)
def test_no_answer_makes_judging_raise_and_success_needs_our_amount(
    code: int, results: Any
) -> None:
    finding = judge(code, row(results), PAYMENT)
    if finding.evidence is E.SUCCEEDED:
        assert isinstance(results, dict)
        assert results["outcome"].lower() == "succeeded"
        assert float(results["amount"]) == 1000
    read_call(FunctionResult(orjson.dumps(results).decode(), None, None, None), PAYMENT)
