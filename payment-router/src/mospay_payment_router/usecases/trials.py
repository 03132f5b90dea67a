"""Trials of a version: with a sample, or over recorded traffic. Nothing is ever sent.

They run in a pool of their own, one at a time, so a draft that loops delays no payment. f007 and
f008 are fixed fakes; what a payer gave is never opened here.
"""

import asyncio
import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from mospay_shared.money import MoneyError, parse_minor

from mospay_payment_router.domain.answers import (
    Call,
    Finding,
    FunctionResult,
    function_fault,
    judge,
    read_call,
    read_results,
)
from mospay_payment_router.domain.differences import payload_differences
from mospay_payment_router.domain.errors import SourceRefused, VersionRefused
from mospay_payment_router.domain.functions import ENQUIRY, REFUND
from mospay_payment_router.domain.payments import Payment, Terms, function_input, mask_phone
from mospay_payment_router.domain.states import Evidence
from mospay_payment_router.domain.versions import FAKE_SECRETS, is_response
from mospay_payment_router.storage import functions as stored
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_payment_router.storage.recordings import Recording

CHUNK = 16  # recordings between two looks at the clock
WAIT_SECONDS = 5.0  # for another person's trial
SAMPLE_ID = "pay_00000000000070008000000000000000"
PHONE_DIGITS = 6  # fewer name nobody, and stand in other numbers too
SHOWN_LIMIT = 65_536  # characters of results or payload
_FAKES = tuple(FAKE_SECRETS.values())
_FAILED = ("function_failed", "host_not_registered", "output_without_outcome",
           "response_function_failed")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """What a person tries a version with; `code` and `answer` for RESPONSE_ functions."""

    unique_id: str
    fields: dict[str, str]
    code: int
    answer: Any


@dataclass(frozen=True, slots=True)
class Trial:
    """What a version did with a sample: the call it would make, or what it finds, or its fault."""

    passed: bool
    call: Call | None
    finding: Finding | None
    fault: str | None
    results: dict[str, Any] | None
    secrets_replaced: bool
    secrets_undetected: bool
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Bodies:
    """The bodies a replay compares, by what they are called in schema fx."""

    call: str
    response: str
    live_call: str
    live_response: str
    reads_secrets: bool
    enquiry: bool


@dataclass(slots=True)
class Replay:
    """What a replay found. `complete` is False when its time was up first."""

    recordings: int
    complete: bool = False
    replayed: int = 0
    same: int = 0
    counts: dict[str, int] = field(
        default_factory=lambda: {"url": 0, "payload": 0, "outcome": 0, "fault": 0}
    )
    rows: list[dict[str, Any]] = field(default_factory=list)


class Trials:
    """Runs versions without consequences. A replay ends after `seconds`, complete or not."""

    def __init__(self, functions: Functions, seconds: float) -> None:
        self._functions, self.seconds = functions, seconds
        self._turn = asyncio.Lock()

    async def dry_run(
        self, mapping: stored.Mapping, kind: str, body: str, terms: Terms, sample: Payment,
        given: Sample, *, reads_secrets: bool,
    ) -> Trial:  # fmt: skip
        """Run one version with a sample; SAMPLE_ID and fakes stand for what is secret."""
        route = _route(mapping.key.route, kind)
        data = function_input(sample, FAKE_SECRETS, route=route)
        if kind.startswith("refund"):
            data["mospay"] |= {"refund_id": given.unique_id, "refund_amount": data["f004"],
                               "provider_reference": "sample", "reason": "dry-run"}  # fmt: skip
        call = _function_call(given.unique_id, body, data)
        if is_response(kind):
            answer = given.answer if isinstance(given.answer, str) else _clean(given.answer)
            call = FunctionCall(
                call.uid, body, call.input, given.code, answer.encode(errors="replace")
            )
        started = time.monotonic()
        async with self._alone():
            (row,) = await self._functions.run([call])
        taken = (time.monotonic() - started) * 1000
        found: Call | Finding = (
            judge(given.code, row, sample, enquiry="enquiry" in kind)
            if is_response(kind)
            else read_call(row, sample)
        )
        return _trial(found, row, reads_secrets=reads_secrets, milliseconds=taken)

    async def replay(self, recordings: Sequence[Recording], bodies: Bodies) -> Replay:
        """Run versions over recordings; compare with what was called and found, or would be live.

        Stops when its time is up and says so.
        """
        found = Replay(len(recordings))
        until = time.monotonic() + self.seconds
        async with self._alone():
            for start in range(0, len(recordings), CHUNK):
                left = until - time.monotonic()
                part = recordings[start : start + CHUNK]
                try:
                    rows = await asyncio.wait_for(self._compare(part, bodies), max(left, 0.01))
                except TimeoutError:
                    return found
                for row in rows:
                    _count(found, row)
        found.complete = True
        return found

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._turn.acquire(), WAIT_SECONDS)
        except TimeoutError:
            raise VersionRefused("trial_running", "another trial is running; try again") from None
        try:
            yield
        finally:
            self._turn.release()

    async def _compare(
        self, recordings: Sequence[Recording], bodies: Bodies
    ) -> list[dict[str, Any]]:
        made = await self._calls(recordings, bodies, bodies.call)
        live: Sequence[Call | Finding | None] = [None] * len(recordings)
        if any(r.url is None or r.payload is None for r in recordings):
            live = await self._calls(recordings, bodies, bodies.live_call)
        heard = await self._findings(recordings, bodies, bodies.response)
        before: Sequence[Finding | None] = [None] * len(recordings)
        if bodies.enquiry:  # what was believed of those has been weighed since
            before = await self._findings(recordings, bodies, bodies.live_response)
        return [_row(r, made[i], live[i], heard[i], before[i]) for i, r in enumerate(recordings)]

    async def _calls(
        self, recordings: Sequence[Recording], bodies: Bodies, name: str
    ) -> list[Call | Finding]:
        calls = [_function_call(r.payment.id, name, _input(r, bodies)) for r in recordings]
        rows = await self._functions.run(calls)
        return [read_call(row, r.payment) for row, r in zip(rows, recordings, strict=True)]

    async def _findings(
        self, recordings: Sequence[Recording], bodies: Bodies, name: str
    ) -> list[Finding | None]:
        answered = [
            (i, r.http_status) for i, r in enumerate(recordings) if r.http_status is not None
        ]
        calls = [
            FunctionCall(r.payment.id, name, _dumps(_input(r, bodies)), code, r.answer)
            for r, code in ((recordings[i], code) for i, code in answered)
        ]
        rows = await self._functions.run(calls)
        found: list[Finding | None] = [None] * len(recordings)
        for (i, code), row in zip(answered, rows, strict=True):
            found[i] = judge(code, row, recordings[i].payment, enquiry=bodies.enquiry)
        return found


def sample_payment(
    mapping: stored.Mapping, kind: str, terms: Terms, currency: str, given: Sample
) -> Payment:
    """Return the payment a sample stands for; raises SourceRefused for an amount that is none."""
    key, now = mapping.key, dt.datetime.now(dt.UTC)
    fields = {
        "f000": key.microservice,
        "f001": key.service,
        "f002": _route(key.route, kind),
        "f003": key.app_id,
        "f004": "1000",
        "f005": "+250780000000",
        "f009": "dry-run",
        "f010": given.unique_id,
        **{name: value for name, value in given.fields.items() if name not in FAKE_SECRETS},
    }
    try:
        amount = parse_minor(fields["f004"], currency)
    except MoneyError as error:
        raise SourceRefused("amount", f"f004: {error}") from error
    return Payment(
        id=given.unique_id,
        client_id=mapping.client_id,
        mode=mapping.mode,
        app_id=key.app_id,
        service_id=mapping.service_id,
        microservice=key.microservice,
        service=key.service,
        route=key.route,
        amount_minor=amount,
        currency=currency,
        reference=fields["f010"],
        phone_masked=mask_phone(fields["f005"]),
        fields=fields,
        secrets=None,
        details={},
        terms=terms,
        accepted_at=now,
        send_before=now,
        correlation_id=None,
        causation_id=None,
        traceparent=None,
    )


def _route(route: str, kind: str) -> str:
    """Return f002 as a kind of function gets it."""
    ask = ENQUIRY if "enquiry" in kind else ""
    return route + (REFUND if kind.startswith("refund") else "") + ask


def _trial(
    found: Call | Finding, row: FunctionResult, *, reads_secrets: bool, milliseconds: float
) -> Trial:
    results = read_results(row)
    text = _clean(results)
    call = found if isinstance(found, Call) else None
    finding = found if isinstance(found, Finding) else None
    failed = finding is not None and finding.reason_code in _FAILED
    refused = finding is not None and finding.evidence is Evidence.REFUSED
    fault = None
    if results is None:
        fault = function_fault(row)
    elif failed and finding is not None:
        fault = finding.reason_message
    seen = any(fake in text for fake in _FAKES)
    return Trial(
        passed=not failed and not refused,
        call=call,
        finding=finding,
        fault=fault,
        results=orjson.loads(text) if len(text) <= SHOWN_LIMIT else None,
        secrets_replaced=reads_secrets or seen,
        secrets_undetected=seen and not reads_secrets,
        milliseconds=round(milliseconds, 1),
    )


def _function_call(uid: str, name: str, data: Mapping[str, Any]) -> FunctionCall:
    return FunctionCall(uid, name, _dumps(data))


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def _clean(value: Any) -> str:
    """Return JSON text without lone surrogates, which a function or a person may have given."""
    return json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()


def _input(one: Recording, bodies: Bodies) -> dict[str, Any]:
    """Return the input a recording had, with fakes where there were secrets."""
    secret = one.secret or one.payment.terms.needs_secrets or bodies.reads_secrets
    route = one.payment.route + ENQUIRY if bodies.enquiry else None
    return function_input(one.payment, FAKE_SECRETS if secret else {}, route=route)


def _row(
    one: Recording,
    made: Call | Finding,
    live: Call | Finding | None,
    heard: Finding | None,
    before: Finding | None,
) -> dict[str, Any]:
    """Return what a version does otherwise with one recording."""
    recorded = one.url is not None and one.payload is not None
    then: Call | Finding | None = live
    if one.url is not None and one.payload is not None:
        then = Call(one.url, one.payload)
    row: dict[str, Any] = {
        "recording_id": one.id,
        "payment_id": one.payment.id,
        "compared_with": "recording" if recorded else "live_version",
        "secrets_replaced": one.secret,
        "fault": None,
        "url": None,
        "payload": [],
        "outcome": None,
    }
    if isinstance(made, Finding) and made.evidence is Evidence.REFUSED:
        row["fault"] = made.reason_message
    _compare_calls(row, then, made)
    _compare_outcomes(row, one, before, heard)
    return _masked(row, one.payment)


def _compare_calls(row: dict[str, Any], then: Call | Finding | None, made: Call | Finding) -> None:
    urls = [c.url if isinstance(c, Call) else None for c in (then, made)]
    if urls[0] != urls[1]:
        row["url"] = {"before": urls[0], "after": urls[1]}
    if isinstance(then, Call) and isinstance(made, Call):
        row["payload"] = payload_differences(then.payload, made.payload)


def _compare_outcomes(
    row: dict[str, Any], one: Recording, before: Finding | None, heard: Finding | None
) -> None:
    if heard is None:
        return
    if before is None:
        then = {"result": one.result, "reason_code": one.reason_code}
    else:
        then = {"result": before.result, "reason_code": before.reason_code}
    now = {"result": heard.result, "reason_code": heard.reason_code}
    if then != now:
        row["outcome"] = {"before": then, "after": now, "message": heard.reason_message}
    if heard.reason_code == "response_function_failed":
        row["fault"] = heard.reason_message


def _masked(row: dict[str, Any], payment: Payment) -> dict[str, Any]:
    """Take the payer's number out of what is shown."""
    phone = payment.fields.get("f005", "")
    digits, masked = phone.lstrip("+"), mask_phone(phone) or ""
    if len(digits) < PHONE_DIGITS or not (row["url"] or row["payload"] or row["fault"]):
        return row
    text = _dumps(row).replace(phone, masked).replace(digits, masked)
    cleaned: dict[str, Any] = orjson.loads(text)
    return cleaned


def _count(found: Replay, row: dict[str, Any]) -> None:
    differs = [key for key in found.counts if row[key]]
    for key in differs:
        found.counts[key] += 1
    found.replayed += 1
    found.same += not differs
    if differs:
        found.rows.append(row)
