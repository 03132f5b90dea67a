"""What functions and providers say, and what may be believed of it (README: outcome table)."""

import json
from dataclasses import dataclass
from typing import Any

import orjson
from mospay_shared.money import MoneyError, exponent, parse_minor

from mospay_payment_router.domain.functions import place
from mospay_payment_router.domain.payments import (
    CODE_LIMIT,
    MESSAGE_LIMIT,
    REFERENCE_LIMIT,
    Payment,
    clip,
)
from mospay_payment_router.domain.states import Evidence

PAYLOAD_LIMIT_BYTES = 64 * 1024  # what connectors take
URL_LIMIT = 2_000  # characters
TIME_OUT = "57014"  # the SQLSTATE of a function that ran out of time
_PASSING = frozenset({TIME_OUT, "55P03", "40P01", "40001"})  # or met a lock, a deadlock


@dataclass(frozen=True, slots=True)
class FunctionResult:
    """A row of the dispatcher: `results` as JSON text, or the SQLSTATE of what went wrong."""

    results: str | None
    payload: str | None
    sqlstate: str | None
    message: str | None

    @property
    def timed_out(self) -> bool:
        """Say whether it had no end in time."""
        return self.sqlstate == TIME_OUT

    @property
    def may_pass(self) -> bool:
        """Say whether another time may bring a result: no end in time, a lock, a deadlock."""
        return self.sqlstate in _PASSING


@dataclass(frozen=True, slots=True)
class Finding:
    """A piece of evidence with what it says; `result` is its class in the field's words."""

    evidence: Evidence
    provider_reference: str | None = None
    reason_code: str | None = None
    reason_message: str | None = None

    @property
    def result(self) -> str:
        """The result class (conventions): processed, pending, declined, never_sent, undefined."""
        return _RESULTS.get(self.evidence, "undefined")


_RESULTS = {
    Evidence.SUCCEEDED: "processed",
    Evidence.MISMATCH: "processed",
    Evidence.PENDING: "pending",
    Evidence.DECLINED: "declined",
    Evidence.NEVER_SENT: "never_sent",
    Evidence.NOT_FOUND: "never_sent",
    Evidence.REFUSED: "never_sent",
    Evidence.UNSENT_EXPIRED: "never_sent",
    Evidence.CANCELLED: "never_sent",
    Evidence.REFUSED_IN_REVIEW: "never_sent",
    Evidence.ACTION: "pending",
    Evidence.EXPIRED: "declined",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call to make: POST `payload` (JSON) to `url`."""

    url: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP, byte for byte; `error` names what came instead."""

    status: int | None
    body: bytes | None
    error: str | None = None
    never_sent: bool = False


def undefined(code: str, message: object = None) -> Finding:
    """Return the finding that anything may have happened, and why we don't know."""
    return Finding(Evidence.UNDEFINED, None, clip(code, CODE_LIMIT), clip(message, MESSAGE_LIMIT))


def refused(code: str, message: object) -> Finding:
    """Return the finding that no call was made."""
    return Finding(Evidence.REFUSED, None, clip(code, CODE_LIMIT), clip(message, MESSAGE_LIMIT))


def read_results(row: FunctionResult) -> dict[str, Any] | None:
    """Return the `results` object of a function, or None when it gave none that can be read."""
    if row.sqlstate is not None or row.results is None:
        return None
    try:
        results = orjson.loads(row.results)
    except orjson.JSONDecodeError:
        try:
            results = json.loads(row.results)  # lone surrogates: JSON to PostgreSQL, not to orjson
        except ValueError:
            return None
    return results if isinstance(results, dict) else None


def function_fault(row: FunctionResult) -> str:
    """Say in words why a function gave nothing usable."""
    if row.sqlstate is None:
        return "the function did not return a JSON object"
    words = {
        "42883": "the function does not exist",
        TIME_OUT: "the function exceeded its time limit",
        "P0002": "the function returned no row",
        "P0003": "the function returned more than one row",
    }
    return f"{words.get(row.sqlstate, 'the function failed')} ({row.sqlstate}: {row.message})"


def read_call(row: FunctionResult, payment: Payment) -> Call | Finding:
    """Return the call a function asks for, or the finding that there is none to make.

    Whatever is wrong here is provably unsent: `refused`. `OUTPUT` is finished without a call: its
    `outcome` is judged like an answer, and without one it never posts.
    """
    results = read_results(row)
    if results is None:
        return refused("function_failed", function_fault(row))
    action = str(results.get("action", "")).upper()
    if action == "ERROR":
        return refused("refused_by_function", results.get("message") or "refused without a reason")
    if action == "OUTPUT":
        if results.get("outcome") is None:
            return undefined("output_without_outcome", "the function ended without an outcome")
        return judge(200, row, payment)
    if action != "SERVICE":
        return refused("function_failed", f"unknown action {action[:40]!r}")
    if not expressible(payment):
        return Finding(
            Evidence.NEVER_SENT,
            None,
            "amount_not_expressible",
            f"the connector takes {payment.terms.exponent} decimals of {payment.currency}",
        )
    url = results.get("serviceurl")
    if not isinstance(url, str) or len(url) > URL_LIMIT or (target := place(url)) is None:
        return refused("function_failed", "serviceurl is not an http(s) URL")
    if target not in payment.terms.places:
        return refused(
            "host_not_registered", f"{target} is not registered for this service and mode"
        )
    payload = (row.payload or "").encode()
    if not payload or len(payload) > PAYLOAD_LIMIT_BYTES:
        return refused("function_failed", f"servicepayload has {len(payload)} bytes")
    return Call(url, payload)


def expressible(payment: Payment) -> bool:
    """Say whether the connector can take exactly this amount."""
    takes = payment.terms.exponent
    has = exponent(payment.currency)
    return takes is None or takes >= has or payment.amount_minor % 10 ** (has - takes) == 0


def judge(code: int, row: FunctionResult, payment: Payment, *, enquiry: bool = False) -> Finding:
    """Return what an answer proves, given its HTTP status and its RESPONSE function's results."""
    results = read_results(row)
    if results is None:
        return undefined("response_function_failed", function_fault(row))
    outcome = results.get("outcome")
    if outcome is None:
        return _derive(code, results, payment)
    return _outcome(str(outcome).lower(), code, results, payment, enquiry=enquiry)


def _outcome(
    outcome: str, code: int, results: dict[str, Any], payment: Payment, *, enquiry: bool
) -> Finding:
    reason = clip(results.get("reason_code"), CODE_LIMIT)
    message = clip(results.get("message"), MESSAGE_LIMIT)
    reference = clip(results.get("provider_reference"), REFERENCE_LIMIT)
    about = results.get("reference")
    if about is not None and about != payment.id:
        return undefined("reference_mismatch", "the answer is about another reference")
    match outcome:
        case "succeeded" if not 200 <= code < 300:
            return undefined("contradictory_answer", f"succeeded, but with HTTP {code}")
        case "succeeded":
            return _success(results, payment, reference, message)
        case "failed" if reason == "never_sent" and enquiry:  # the enquiry, not what it is about
            return undefined("enquiry_failed", message)
        case "failed" if reason == "never_sent":  # the connector proves that nothing left it
            return Finding(Evidence.NEVER_SENT, None, reason, message)
        case "failed" if reason == "expired":
            return Finding(Evidence.EXPIRED, reference, reason, message)
        case "failed":
            return Finding(Evidence.DECLINED, reference, reason or "declined", message)
        case "pending" if results.get("customer_action"):
            return Finding(Evidence.ACTION, reference, reason, message)
        case "pending":
            return Finding(Evidence.PENDING, reference, reason, message)
        case "unknown" if enquiry and results.get("found") is False:
            return Finding(Evidence.NOT_FOUND, None, "not_found", message)
    return undefined(reason or "unknown_outcome", message)


def _success(
    results: dict[str, Any], payment: Payment, reference: str | None, message: str | None
) -> Finding:
    """Believe a success only with our amount and currency (failure, rule 6)."""
    amount, currency = results.get("amount"), results.get("currency") or payment.currency
    if amount is None and not payment.terms.amount_optional:
        return undefined("amount_missing", "succeeded, but the answer names no amount")
    try:
        paid = (
            payment.amount_minor if amount is None else parse_minor(str(amount), payment.currency)
        )
    except MoneyError as error:
        if error.code != "too_precise":
            return undefined("amount_unreadable", "succeeded, but the amount can't be read")
        paid = -1
    if currency != payment.currency or paid != payment.amount_minor:
        said = f"{clip(amount, 40)} {clip(currency, 10)}"
        return Finding(
            Evidence.MISMATCH, reference, "amount_mismatch", f"the provider says {said} was paid"
        )
    return Finding(Evidence.SUCCEEDED, reference, None, message)


def _derive(code: int, results: dict[str, Any], payment: Payment) -> Finding:
    """Derive the outcome of a function that names none, as functions of older systems do."""
    reason = clip(results.get("reason_code"), CODE_LIMIT)
    message = clip(results.get("message"), MESSAGE_LIMIT)
    if code == 202:
        return Finding(Evidence.PENDING, None, reason, message)
    if 200 <= code < 300 and payment.terms.final_on_2xx:
        return Finding(Evidence.SUCCEEDED, None, None, message)
    if code in payment.terms.failed_statuses and 400 <= code < 500 and code != 409:
        return Finding(Evidence.DECLINED, None, reason or f"http_{code}", message)
    return undefined(reason or f"http_{code}_without_outcome", message)


def judge_transport(answer: Answer) -> Finding:
    """Return what a call without an HTTP answer proves."""
    if answer.never_sent:
        return Finding(
            Evidence.NEVER_SENT,
            None,
            "never_sent",
            clip(f"no byte left for the provider: {answer.error}", MESSAGE_LIMIT),
        )
    return undefined("no_answer", answer.error)
