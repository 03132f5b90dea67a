"""Risk: rules, lists and thresholds for the operator's people; decisions for whose they are."""

import datetime as dt
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from mospay_shared.ids import new_id
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FutureDatetime,
    ValidationInfo,
    field_validator,
)

from mospay_payment_router.domain import errors
from mospay_payment_router.domain.risk import RuleBody, Thresholds
from mospay_payment_router.routes.providers import PROBLEMS, operator
from mospay_payment_router.storage import risk, risk_rules
from mospay_payment_router.usecases.risk_rules import NewEntry, RiskSettings, plain

Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,80}$")]
Mode = Annotated[str, Field(pattern=r"^(live|test)$")]
ClientId = Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_]{1,80}$")]
ModeQuery = Annotated[str | None, Query(pattern=r"^(live|test)$")]
IdQuery = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_]{1,80}$")]
Limit = Annotated[int, Query(ge=1, le=200)]
VERSION_LIMIT = 2**31 - 1
_STATUS = {
    errors.NoSuchThing: 404,
    errors.AlreadyThere: 409,
    errors.StaleVersion: 409,
    errors.TooMany: 409,
}


class RiskRuleIn(BaseModel):
    """A rule to keep. `version` is the one that was read, 0 for a new rule.

    A null client holds for all of them. Its points add up with those of the others; with
    `decision`, it holds or refuses by itself.
    """

    model_config = ConfigDict(extra="forbid")
    client_id: ClientId = None
    mode: Mode
    rule: RuleBody
    active: bool = True
    version: int = Field(0, ge=0, le=VERSION_LIMIT)


class RiskRuleView(BaseModel):
    """A rule as it is."""

    id: str = Field(examples=["rsk_0198c0ffee00700080000000000000aa"])
    client_id: str | None
    mode: str
    rule: RuleBody
    active: bool
    version: int
    updated_by: str
    updated_at: dt.datetime


class EntryIn(BaseModel):
    """Something to put on a list: a phone, a device, an address or network, a customer id.

    Phones and devices are kept as keyed digests and can't be read again.
    """

    model_config = ConfigDict(extra="forbid")
    client_id: ClientId = None
    mode: Mode
    list: str = Field(pattern=r"^(block|allow)$")
    kind: str = Field(pattern=r"^(phone|device|ip|customer)$")
    value: str = Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]+$")
    reason: str = Field(min_length=3, max_length=300, pattern=r"^[^\x00]+$")
    expires_at: FutureDatetime | None = None

    @field_validator("value")
    @classmethod
    def _is_what_it_says(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("kind") == "ip":
            try:
                ipaddress.ip_network(value, strict=False)
            except ValueError as error:
                raise ValueError("must be an address or a network (CIDR)") from error
        if info.data.get("kind") == "phone" and not 6 <= len(plain("phone", value)) <= 15:
            raise ValueError("must be a phone number of 6 to 15 digits")
        return value

    @field_validator("expires_at")
    @classmethod
    def _has_an_offset(cls, value: dt.datetime | None) -> dt.datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("needs an offset")
        return value


class EntryView(BaseModel):
    """An entry of a list; `shown` is what may be seen of its value."""

    id: str
    client_id: str | None
    mode: str
    list: str
    kind: str
    shown: str
    reason: str
    expires_at: dt.datetime | None
    added_by: str
    added_at: dt.datetime


class ThresholdsIn(BaseModel):
    """From which score a payment is held, and refused. `version` as it was read, 0 for none yet."""

    model_config = ConfigDict(extra="forbid")
    hold_at: int = Field(ge=1, le=1_000_000)
    refuse_at: int = Field(ge=1, le=1_000_000)
    version: int = Field(0, ge=0, le=VERSION_LIMIT)

    @field_validator("refuse_at")
    @classmethod
    def _in_order(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("hold_at", 0):
            raise ValueError("must not be below hold_at")
        return value


class ThresholdsView(BaseModel):
    """Thresholds as they are; those of a null client hold for clients without their own."""

    client_id: str | None
    mode: str
    hold_at: int
    refuse_at: int
    version: int
    updated_by: str
    updated_at: dt.datetime


class ReasonView(BaseModel):
    """Why; `rule` is the id of a rule or of a list's entry."""

    rule: str
    points: int
    detail: str


class ReviewView(BaseModel):
    """What a person said about a held payment; `applied` is false where it had moved on."""

    version: int
    by: str
    decision: str
    note: str
    applied: bool
    requested_at: dt.datetime
    at: dt.datetime


class DecisionView(BaseModel):
    """What risk decided about a payment, why, and what people made of it."""

    payment_id: str
    client_id: str
    mode: str
    decision: str = Field(examples=["hold"])
    score: int
    reasons: list[ReasonView]
    by_default: bool = Field(description="Risk had no answer in time; the default applied")
    took_ms: float
    rules_version: int
    assessed_at: dt.datetime
    status: str = Field(description="Of the payment, now")
    version: int = Field(description="Of the payment, now: what a review is bound to")
    service: str
    amount_minor: int
    currency: str
    phone_masked: str | None
    reference: str
    accepted_at: dt.datetime
    send_before: dt.datetime = Field(description="Held until then, it expires unsent")
    reviews: list[ReviewView]


class DecisionPage(BaseModel):
    """A page, newest first; `next_before` continues it."""

    items: list[DecisionView]
    next_before: str | None


class EntryPage(BaseModel):
    """A page, newest first; `next_before` continues it."""

    items: list[EntryView]
    next_before: str | None


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what a use case refuses into a problem."""
    try:
        yield
    except errors.RouterError as error:
        if type(error) not in _STATUS:
            raise
        extra = {}
        if isinstance(error, errors.StaleVersion):
            extra["current_version"] = error.current
        words = str(error)
        title = words[:1].upper() + words[1:]
        raise Problem(_STATUS[type(error)], error.code, title, extra=extra) from error


def add_routes(api: APIRouter, service: Service, known: RiskSettings) -> None:
    """Add the routes."""
    _add_rules(api, service, known)
    _add_lists(api, service, known)
    _add_thresholds(api, service, known)
    _add_decisions(api, service)


def _add_rules(api: APIRouter, service: Service, known: RiskSettings) -> None:
    reads = Depends(service.verifier.needs("risk:read"))
    writes = Depends(service.verifier.needs("risk:write"))
    path = "/internal/v1/risk/rules"

    @api.get(path, responses=PROBLEMS)
    async def risk_rules_listed(
        client_id: IdQuery = None, mode: ModeQuery = None, caller: Caller = reads
    ) -> list[RiskRuleView]:
        """Rules, those that are not active too."""
        operator(caller)
        async with service.database.request(operator=True) as tx:
            rows = await risk_rules.rules(tx, client_id, mode)
        return [RiskRuleView(**row) for row in rows]

    async def put(rule_id: str, body: RiskRuleIn, by: str, expected: int) -> dict[str, str | int]:
        stored = body.rule.model_dump(exclude_none=True)
        with _refusals():
            version = await known.put_rule(
                rule_id, body.client_id, body.mode, stored, body.active, by, expected
            )
        return {"id": rule_id, "version": version}

    @api.post(path, status_code=201, responses=PROBLEMS)
    async def add_risk_rule(body: RiskRuleIn, caller: Caller = writes) -> dict[str, str | int]:
        """Add a rule; it holds for payments taken in from about a second later on."""
        return await put(new_id("rsk"), body, operator(caller), 0)

    @api.put(path + "/{rule_id}", responses=PROBLEMS)
    async def put_risk_rule(
        rule_id: Id, body: RiskRuleIn, caller: Caller = writes
    ) -> dict[str, str | int]:
        """Add a rule under an id of one's own (version 0), or replace the version that was read."""
        return await put(rule_id, body, operator(caller), body.version)

    @api.delete(path + "/{rule_id}", status_code=204, responses=PROBLEMS)
    async def drop_risk_rule(
        rule_id: Id,
        version: Annotated[int, Query(ge=1, le=VERSION_LIMIT)],
        caller: Caller = writes,
    ) -> None:
        """Delete a rule whose version was read."""
        by = operator(caller)
        with _refusals():
            await known.drop_rule(rule_id, by, version)


def _add_lists(api: APIRouter, service: Service, known: RiskSettings) -> None:
    reads = Depends(service.verifier.needs("risk:read"))
    writes = Depends(service.verifier.needs("risk:write"))
    path = "/internal/v1/risk/lists"

    @api.get(path, responses=PROBLEMS)
    async def risk_entries(
        name: Annotated[str | None, Query(alias="list", pattern=r"^(block|allow)$")] = None,
        kind: Annotated[str | None, Query(pattern=r"^(phone|device|ip|customer)$")] = None,
        client_id: IdQuery = None,
        mode: ModeQuery = None,
        before: IdQuery = None,
        limit: Limit = 50,
        caller: Caller = reads,
    ) -> EntryPage:
        """Entries of the block and allow lists, expired ones too, newest first."""
        operator(caller)
        async with service.database.request(operator=True) as tx:
            rows = await risk_rules.entries(tx, name, kind, client_id, mode, before, limit)
        last = rows[-1]["id"] if len(rows) == limit else None
        return EntryPage(items=[EntryView(**row) for row in rows], next_before=last)

    @api.post(path, status_code=201, responses=PROBLEMS)
    async def add_risk_entry(body: EntryIn, caller: Caller = writes) -> dict[str, str]:
        """Put a phone, device, address, network or customer on a list, for ever or until a time."""
        by = operator(caller)
        with _refusals():
            return {"id": await known.add_entry(NewEntry(**body.model_dump()), by)}

    @api.delete(path + "/{entry_id}", status_code=204, responses=PROBLEMS)
    async def drop_risk_entry(entry_id: Id, caller: Caller = writes) -> None:
        """Take an entry off its list."""
        by = operator(caller)
        with _refusals():
            await known.drop_entry(entry_id, by)


def _add_thresholds(api: APIRouter, service: Service, known: RiskSettings) -> None:
    reads = Depends(service.verifier.needs("risk:read"))
    writes = Depends(service.verifier.needs("risk:write"))
    path = "/internal/v1/risk/thresholds"

    @api.get(path, responses=PROBLEMS)
    async def risk_thresholds(caller: Caller = reads) -> list[ThresholdsView]:
        """Thresholds, those for all clients first."""
        operator(caller)
        async with service.database.request(operator=True) as tx:
            return [ThresholdsView(**row) for row in await risk_rules.thresholds(tx)]

    async def put(client_id: str | None, mode: str, body: ThresholdsIn, by: str) -> dict[str, int]:
        wanted = Thresholds(body.hold_at, body.refuse_at)
        with _refusals():
            version = await known.put_thresholds(client_id, mode, wanted, by, body.version)
        return {"version": version}

    @api.put(path + "/{mode}", responses=PROBLEMS)
    async def put_risk_thresholds(
        mode: Annotated[str, Path(pattern=r"^(live|test)$")],
        body: ThresholdsIn,
        client_id: IdQuery = None,
        caller: Caller = writes,
    ) -> dict[str, int]:
        """Set the thresholds of a client, or of all that have none (no `client_id`)."""
        return await put(client_id, mode, body, operator(caller))


def _add_decisions(api: APIRouter, service: Service) -> None:
    reads = Depends(service.verifier.needs("risk:read"))

    @api.get("/internal/v1/risk/decisions", responses=PROBLEMS)
    async def risk_decisions(
        payment_id: IdQuery = None,
        decision: Annotated[str | None, Query(pattern=r"^(allow|hold|refuse)$")] = None,
        only_open: Annotated[bool, Query(alias="open", description="held at this moment")] = False,
        client_id: IdQuery = None,
        mode: ModeQuery = None,
        before: IdQuery = None,
        limit: Limit = 50,
        caller: Caller = reads,
    ) -> DecisionPage:
        """Decisions of the caller's tenant, newest first. Allowed without a reason is not kept."""
        async with service.database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            rows: list[dict[str, Any]] = await risk.decisions(
                tx, payment_id, decision, client_id, mode, before, limit, only_open=only_open
            )
        last = rows[-1]["payment_id"] if len(rows) == limit else None
        return DecisionPage(items=[DecisionView(**row) for row in rows], next_before=last)
