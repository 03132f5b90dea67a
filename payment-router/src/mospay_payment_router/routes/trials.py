"""Dry-runs of versions and replays of recorded traffic: nothing is ever sent."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_payment_router.domain.answers import Finding
from mospay_payment_router.domain.payments import Terms
from mospay_payment_router.domain.versions import (
    Version,
    is_response,
    kind_of,
    names_of,
    partner_kind,
)
from mospay_payment_router.routes.desk import PROBLEMS, Desk, Name, Number, refusals
from mospay_payment_router.storage import recordings
from mospay_payment_router.storage import versions as store
from mospay_payment_router.storage.functions import Mapping
from mospay_payment_router.usecases import versions
from mospay_payment_router.usecases.trials import SAMPLE_ID, Bodies, Sample, Trial, sample_payment

REPLAY_LIMIT = 200  # recordings; more would keep a person waiting and say little more
FieldName = Annotated[str, Field(pattern=r"^f\d{3}$")]


class DryRun(BaseModel):
    """A sample. Fields that are not given get plain values; f007 and f008 are always fakes."""

    unique_id: str = Field(SAMPLE_ID, pattern=r"^[A-Za-z0-9_-]{1,80}$")
    fields: dict[FieldName, Annotated[str, Field(max_length=2_000)]] = Field(
        default_factory=dict, max_length=60, examples=[{"f004": "1000", "f005": "+250780000000"}]
    )
    code: int = Field(200, ge=100, le=599, description="HTTP status, for RESPONSE_ functions")
    answer: Any = Field(None, description="the provider's answer: JSON, or a text as it came")


class CallView(BaseModel):
    """The call a function asks for."""

    url: str
    payload: str = Field(description="JSON text")


class FindingView(BaseModel):
    """What an answer, or a function that makes no call, proves."""

    evidence: str = Field(examples=["succeeded"])
    result: str = Field(examples=["processed"])
    provider_reference: str | None
    reason_code: str | None
    reason_message: str | None


class DryRunResult(BaseModel):
    """What a version did with a sample; nothing was sent."""

    passed: bool
    call: CallView | None
    finding: FindingView | None
    fault: str | None
    results: dict[str, Any] | None = Field(description="null too when over 64 KiB")
    secrets_replaced: bool = Field(description="it read f007 or f008 and got fakes")
    secrets_undetected: bool = Field(
        description="it read them though its source does not show it: set `reads_secrets`"
    )
    milliseconds: float


class ReplayIn(BaseModel):
    """How many of the last recordings, and the partner's version (null: the live one)."""

    limit: int = Field(50, ge=1, le=REPLAY_LIMIT)
    partner_version: int | None = Field(None, ge=1, le=1_000_000)


class Change(BaseModel):
    """A place of a payload that differs; values are JSON text, null where there is none."""

    path: str
    before: str | None
    after: str | None


class Difference(BaseModel):
    """What a version does otherwise with one recording. Secrets are fakes, numbers masked."""

    recording_id: str
    payment_id: str
    compared_with: str = Field(examples=["recording", "live_version"])
    secrets_replaced: bool
    fault: str | None
    url: dict[str, str | None] | None
    payload: list[Change]
    outcome: dict[str, Any] | None


class ReplayResult(BaseModel):
    """A replay; `complete` is false when its time was up first. `rows` are those that differ."""

    recordings: int
    replayed: int
    complete: bool
    same: int
    differing: dict[str, int]
    rows: list[Difference]


def add_routes(api: APIRouter, desk: Desk) -> None:
    """Add the routes."""
    writes = Depends(desk.service.verifier.needs("functions:write"))
    path = "/internal/v1/functions/{name}/versions/{version}"

    @api.post(path + "/dry-run", responses=PROBLEMS)
    async def dry_run(
        name: Name, version: Number, body: DryRun, caller: Caller = writes
    ) -> DryRunResult:
        """Run a version with a sample and show what it would do."""
        mapping = await desk.mapping(caller, name)
        kind = _kind(mapping, name)
        one = await _version(desk, mapping, name, version)
        terms = _terms(desk, mapping)
        given = Sample(body.unique_id, body.fields, body.code, body.answer)
        currency = desk.catalogue.currency_of(mapping.service_id) or ""
        async with refusals(field="fields.f004"):
            sample = sample_payment(mapping, kind, terms, currency, given)
            trial = await desk.trials.dry_run(
                mapping, kind, one.call_name, terms, sample, given,
                reads_secrets=one.reads_secrets,
            )  # fmt: skip
        if trial.passed:
            async with desk.changing() as tx:
                await store.passed(tx, name, version)
        return _shown(trial)

    @api.post(path + "/replay", responses=PROBLEMS)
    async def replay(
        name: Name, version: Number, body: ReplayIn, caller: Caller = writes
    ) -> ReplayResult:
        """Run a version over the last recorded calls and show what it would do otherwise."""
        mapping = await desk.mapping(caller, name)
        bodies = await _bodies(desk, mapping, name, version, body.partner_version)
        read = recordings.enquiries if bodies.enquiry else recordings.calls
        async with desk.service.database.transaction() as tx:
            recorded = await read(tx, mapping.key, body.limit)
        async with refusals(field="limit"):
            found = await desk.trials.replay(recorded, bodies)
        return ReplayResult(
            recordings=found.recordings,
            replayed=found.replayed,
            complete=found.complete,
            same=found.same,
            differing=found.counts,
            rows=[Difference(**row) for row in found.rows],
        )


def _kind(mapping: Mapping, name: str) -> str:
    kind = kind_of(mapping.pair, name)
    assert kind is not None, "the mapping was found by this name"
    return kind


def _terms(desk: Desk, mapping: Mapping) -> Terms:
    terms = desk.catalogue.trial_terms(mapping)
    if isinstance(terms, Finding):
        raise Problem(409, str(terms.reason_code), str(terms.reason_message))
    return terms


async def _version(desk: Desk, mapping: Mapping, name: str, version: int | None) -> Version:
    """Return a version, or the live one; raises Problem 404."""
    async with desk.changing() as tx:
        await versions.known(tx, mapping)
        found = await (store.live(tx, name) if version is None else store.find(tx, name, version))
    if found is None:
        raise Problem(404, "not_found", f"There is no such version of {name}")
    return found


async def _bodies(
    desk: Desk, mapping: Mapping, name: str, version: int, partner_version: int | None
) -> Bodies:
    kind = _kind(mapping, name)
    if kind.startswith("refund"):
        raise Problem(409, "no_recordings", "Refund functions can't be replayed; dry-run them")
    partner = names_of(mapping.pair)[partner_kind(kind)]
    one = await _version(desk, mapping, name, version)
    other = await _version(desk, mapping, partner, partner_version)
    now = await _version(desk, mapping, name, None)
    beside = await _version(desk, mapping, partner, None)
    call, response = (other, one) if is_response(kind) else (one, other)
    live_call, live_response = (beside, now) if is_response(kind) else (now, beside)
    return Bodies(
        call=call.call_name,
        response=response.call_name,
        live_call=live_call.call_name,
        live_response=live_response.call_name,
        reads_secrets=any(v.reads_secrets for v in (one, other, now, beside)),
        enquiry="enquiry" in kind,
    )


def _shown(trial: Trial) -> DryRunResult:
    call, finding = trial.call, trial.finding
    return DryRunResult(
        passed=trial.passed,
        call=None if call is None else CallView(url=call.url, payload=call.payload.decode()),
        finding=None
        if finding is None
        else FindingView(
            evidence=finding.evidence,
            result=finding.result,
            provider_reference=finding.provider_reference,
            reason_code=finding.reason_code,
            reason_message=finding.reason_message,
        ),
        fault=trial.fault,
        results=trial.results,
        secrets_replaced=trial.secrets_replaced,
        secrets_undetected=trial.secrets_undetected,
        milliseconds=trial.milliseconds,
    )
