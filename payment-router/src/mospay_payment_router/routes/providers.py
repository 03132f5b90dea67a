"""Provider credentials, routing rules and the health of connectors, for the operator's people."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.problems import FieldProblem, Problem, ProblemBody
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from mospay_shared.ids import new_id
from pydantic import BaseModel, Field

from mospay_payment_router.domain.routing import RuleBody
from mospay_payment_router.storage import providers
from mospay_payment_router.usecases.providers import Providers

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,40}$")]
ClientId = Annotated[str, Path(min_length=1, max_length=80)]
Mode = Annotated[str, Path(pattern=r"^(live|test)$")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": ProblemBody, "description": words}
    for code, words in (
        (403, "The token does not speak for the operator"),
        (404, "There is no such thing"),
        (409, "It has changed since it was read"),
        (422, "Faults, each with its field"),
    )
}
PART_LIMIT, VALUE_LIMIT = 20, 4_096  # parts of a credential; characters of one


class HealthView(BaseModel):
    """A connector whose breaker has moved. `state` is closed, open or half_open."""

    microservice: str
    mode: str
    state: str
    reason: str
    failures: int
    calls: int
    changed_at: dt.datetime


class CredentialIn(BaseModel):
    """What a client has with a provider, by name: `api_key`, `client_secret`, …"""

    parts: dict[str, str] = Field(min_length=1, max_length=PART_LIMIT)


class CredentialView(BaseModel):
    """Which parts are there; what they are is never shown again."""

    client_id: str
    mode: str
    microservice: str
    names: list[str]
    version: int
    updated_by: str
    updated_at: dt.datetime


class RuleIn(BaseModel):
    """A routing rule to keep. `version` is the one that was read, 0 for a new rule."""

    client_id: str | None = Field(None, max_length=80)
    mode: str = Field(pattern=r"^(live|test)$")
    service_id: str | None = Field(None, max_length=80)
    priority: int = Field(100, ge=0, le=100_000)
    rule: RuleBody
    active: bool = True
    version: int = Field(0, ge=0)


class RuleView(RuleIn):
    """A routing rule as it is."""

    id: str
    updated_by: str
    updated_at: dt.datetime


def operator(caller: Caller) -> str:
    """Return who acts; raises Problem unless the token speaks for the operator."""
    if not caller.operator:
        raise Problem(403, "operator_only", "Only the operator's people may do this")
    return caller.actor or caller.issuer


def _moved() -> Problem:
    return Problem(409, "stale_version", "It has changed since it was read; read it again")


def add_routes(api: APIRouter, service: Service, known: Providers) -> None:
    """Add the routes."""
    database = service.database
    reads = Depends(service.verifier.needs("providers:read"))
    writes = Depends(service.verifier.needs("providers:write"))

    @api.get("/internal/v1/providers", responses=PROBLEMS)
    async def health(caller: Caller = reads) -> list[HealthView]:
        """Connectors whose breaker has ever moved."""
        operator(caller)
        async with database.request(operator=True) as tx:
            return [HealthView(**dict(row)) for row in await providers.shown_health(tx)]

    @api.get("/internal/v1/provider-credentials", responses=PROBLEMS)
    async def credentials(caller: Caller = reads) -> list[CredentialView]:
        """Which clients have credentials of their own, with which connectors."""
        operator(caller)
        async with database.request(operator=True) as tx:
            return [CredentialView(**dict(row)) for row in await providers.shown_credentials(tx)]

    path = "/internal/v1/provider-credentials/{client_id}/{mode}/{microservice}"

    @api.put(path, responses=PROBLEMS)
    async def put_credential(
        client_id: ClientId, mode: Mode, microservice: Name, body: CredentialIn,
        caller: Caller = writes,
    ) -> dict[str, int]:  # fmt: skip
        """Keep a client's credentials with a connector, sealed; return their version."""
        by = operator(caller)
        long = [n for n, v in body.parts.items() if len(n) > 80 or not 1 <= len(v) <= VALUE_LIMIT]
        if long:
            fault = FieldProblem(
                field="parts", code="length", message=f"1 to {VALUE_LIMIT} characters each"
            )
            raise Problem(422, "invalid_request", "The request is not valid", errors=[fault])
        return {"version": await known.put((client_id, mode, microservice), body.parts, by)}

    @api.delete(path, status_code=204, responses=PROBLEMS)
    async def drop_credential(
        client_id: ClientId, mode: Mode, microservice: Name, caller: Caller = writes
    ) -> None:
        """Erase a client's credentials with a connector."""
        by = operator(caller)
        async with database.transaction() as tx:
            if not await providers.drop_credential(tx, (client_id, mode, microservice), by):
                raise Problem(404, "not_found", "There are no such credentials")
            tx.after_commit(known.worker.wake)

    _add_rules(api, service, known)


def _add_rules(api: APIRouter, service: Service, known: Providers) -> None:
    database = service.database
    reads = Depends(service.verifier.needs("providers:read"))
    writes = Depends(service.verifier.needs("providers:write"))

    @api.get("/internal/v1/routing-rules", responses=PROBLEMS)
    async def rules(caller: Caller = reads) -> list[RuleView]:
        """Routing rules, in the order of their priority."""
        operator(caller)
        async with database.request(operator=True) as tx:
            return [RuleView(**dict(row)) for row in await providers.rules(tx)]

    @api.post("/internal/v1/routing-rules", status_code=201, responses=PROBLEMS)
    async def add_rule(body: RuleIn, caller: Caller = writes) -> dict[str, str | int]:
        """Add a routing rule; it holds for payments accepted from now on."""
        return await _put(new_id("rtr"), body, operator(caller), 0)

    @api.put("/internal/v1/routing-rules/{rule_id}", responses=PROBLEMS)
    async def change_rule(
        rule_id: ClientId, body: RuleIn, caller: Caller = writes
    ) -> dict[str, str | int]:
        """Replace a routing rule whose version was read."""
        return await _put(rule_id, body, operator(caller), max(1, body.version))

    async def _put(rule_id: str, body: RuleIn, by: str, expected: int) -> dict[str, str | int]:
        values = (rule_id, body.client_id, body.mode, body.service_id, body.priority,
                  body.rule.model_dump(), body.active)  # fmt: skip
        async with database.transaction() as tx:
            version = await providers.put_rule(tx, values, by, expected)
            if version is None:
                raise _moved()
            if expected and version == 1:
                raise Problem(404, "not_found", "There is no such rule")
            tx.after_commit(known.worker.wake)
        return {"id": rule_id, "version": version}

    @api.delete("/internal/v1/routing-rules/{rule_id}", status_code=204, responses=PROBLEMS)
    async def drop_rule(
        rule_id: ClientId, version: Annotated[int, Query(ge=1)], caller: Caller = writes
    ) -> None:
        """Delete a routing rule whose version was read."""
        by = operator(caller)
        async with database.transaction() as tx:
            if not await providers.drop_rule(tx, rule_id, version, by):
                raise _moved()
            tx.after_commit(known.worker.wake)
