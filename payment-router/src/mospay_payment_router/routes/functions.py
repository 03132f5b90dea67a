"""Provider functions and their versions: listed, drafted, tested, live, rolled back, promoted."""

import base64
import binascii
import datetime as dt
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_payment_router.domain.functions import Key
from mospay_payment_router.domain.versions import names_of
from mospay_payment_router.routes.desk import (
    PROBLEMS,
    Desk,
    Name,
    Number,
    Part,
    Text,
    actor,
)
from mospay_payment_router.storage import versions as store
from mospay_payment_router.storage.functions import Mapping
from mospay_payment_router.usecases import versions
from mospay_payment_router.usecases.versions import Draft

Filter = Annotated[str | None, Query(max_length=80, pattern=r"^[^\x00]+$")]


class VersionView(BaseModel):
    """A version. `state` is draft, tested, live or retired; `origin` default, existing, person."""

    name: str = Field(examples=["akaliza_mtnmomorwa_collection"])
    version: int
    kind: str | None = Field(examples=["call"])
    state: str = Field(examples=["live"])
    origin: str
    author: str | None
    note: str | None
    reads_secrets: bool = Field(description="f007 and f008 are opened for it")
    created_at: dt.datetime
    passed_at: dt.datetime | None = Field(description="its last passing dry-run")
    tested_at: dt.datetime | None
    live_at: dt.datetime | None
    retired_at: dt.datetime | None
    previous: int | None = Field(description="what a roll back makes live again")


class VersionSource(VersionView):
    """A version with its source."""

    source: str | None
    changed_by_hand: bool = Field(description="replaced in schema fx since it was first seen")


class FunctionView(BaseModel):
    """One of a mapping's functions; `versions` are those in use, no retired ones."""

    kind: str
    name: str
    live_version: int | None = Field(description="null: there is no such function")
    versions: list[VersionView]


class MappingView(BaseModel):
    """Which functions serve a route of a client. The marks are null where the connector's hold."""

    app_id: str
    microservice: str
    service: str
    route: str
    client_id: str
    mode: str
    service_id: str
    refused: str | None
    final_on_2xx: bool | None
    failed_statuses: list[int] | None
    version: int = Field(description="counts the changes of the marks")
    functions: list[FunctionView]


class MappingPage(BaseModel):
    """A page of mappings, in the order of their keys."""

    items: list[MappingView]
    next_cursor: str | None


class NewVersion(BaseModel):
    """A source: one `CREATE [OR REPLACE] FUNCTION` statement, as in an older MosPay."""

    source: Text = Field(min_length=1, max_length=262_144)
    note: Text | None = Field(None, max_length=500)
    reads_secrets: bool | None = Field(None, description="null: as the source shows")


class Beside(BaseModel):
    """The partner's version to take along: of a RESPONSE_ function its call, and the reverse."""

    partner_version: int | None = Field(None, ge=1, le=1_000_000)


class GoLive(Beside):
    """`live_version` is the one that was read: 409 if another one is live by now."""

    live_version: int | None = Field(None, ge=1, le=1_000_000)


class RollBack(BaseModel):
    """`live_version` is the one that was read."""

    live_version: int | None = Field(None, ge=1, le=1_000_000)


class Promotion(BaseModel):
    """Why it is copied to the other mode."""

    note: Text | None = Field(None, max_length=500)


class Reading(BaseModel):
    """Whether the version gets f007 and f008 whatever its source shows."""

    reads_secrets: bool


class Marks(BaseModel):
    """A person's marks on a mapping; null leaves it to the connector. `version` was read."""

    final_on_2xx: bool | None
    failed_statuses: list[Annotated[int, Field(ge=400, le=499)]] | None = Field(max_length=20)
    version: int = Field(ge=1, le=2_000_000_000)


class MadeVersion(BaseModel):
    """What was made."""

    name: str
    version: int


class LiveVersions(BaseModel):
    """What is live now, by name, of what was changed."""

    live: dict[str, int]


def add_routes(api: APIRouter, desk: Desk) -> None:
    """Add the routes."""
    _add_reads(api, desk)
    _add_changes(api, desk)
    _add_steps(api, desk)
    _add_marks(api, desk)


def _add_reads(api: APIRouter, desk: Desk) -> None:
    reads = Depends(desk.service.verifier.needs("functions:read"))

    @api.get("/internal/v1/functions", responses=PROBLEMS)
    async def mappings(
        client_id: Filter = None,
        mode: Annotated[str | None, Query(pattern=r"^(live|test)$")] = None,
        service_id: Filter = None,
        q: Filter = None,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        caller: Caller = reads,
    ) -> MappingPage:
        """Mappings with their functions and the versions in use."""
        after = _read_cursor(cursor)
        async with desk.seen_by(caller) as tx:
            found = await store.page(tx, (client_id, mode, service_id, q), after, limit + 1)
            names = [n for m in found[:limit] for n in names_of(m.pair).values()]
            rows = await store.in_use(tx, names)
        by_name: dict[str, list[VersionView]] = {}
        for row in rows:
            by_name.setdefault(row["name"], []).append(VersionView(**row))
        more = _cursor(found[limit - 1].key) if len(found) > limit else None
        return MappingPage(items=[_view(m, by_name) for m in found[:limit]], next_cursor=more)

    @api.get("/internal/v1/functions/{name}/versions", responses=PROBLEMS)
    async def listed(name: Name, caller: Caller = reads) -> list[VersionView]:
        """All versions of a function, the newest first."""
        mapping = await desk.mapping(caller, name)
        async with desk.service.database.transaction() as tx:
            await versions.known(tx, mapping)
        async with desk.seen_by(caller) as tx:
            return [VersionView(**row) for row in await store.shown(tx, name)]

    @api.get("/internal/v1/functions/{name}/versions/{version}", responses=PROBLEMS)
    async def one(name: Name, version: Number, caller: Caller = reads) -> VersionSource:
        """A version with its source."""
        mapping = await desk.mapping(caller, name)
        async with desk.changing() as tx:
            await versions.known(tx, mapping)
            details = await versions.details(tx, name, version)
            (row,) = [r for r in await store.shown(tx, name) if r["version"] == version]
        return VersionSource(**row, **details)


def _add_changes(api: APIRouter, desk: Desk) -> None:
    writes = Depends(desk.service.verifier.needs("functions:write"))

    @api.post("/internal/v1/functions/{name}/versions", status_code=201, responses=PROBLEMS)
    async def draft(name: Name, body: NewVersion, caller: Caller = writes) -> MadeVersion:
        """Install a draft under a name of its own; payments don't see it."""
        mapping = await desk.mapping(caller, name)
        posted = Draft(body.source, body.note, body.reads_secrets, actor(caller))
        async with desk.changing() as tx:
            version = await versions.add_draft(tx, mapping, name, posted, desk.limits)
        return MadeVersion(name=name, version=version)

    @api.patch("/internal/v1/functions/{name}/versions/{version}", responses=PROBLEMS)
    async def reading(
        name: Name, version: Number, body: Reading, caller: Caller = writes
    ) -> Reading:
        """Force that a version gets f007 and f008, or leave it to its source again."""
        mapping = await desk.mapping(caller, name)
        async with desk.changing() as tx:
            reads = await versions.set_reads_secrets(
                tx, mapping, name, version, forced=body.reads_secrets
            )
        return Reading(reads_secrets=reads)

    @api.post(
        "/internal/v1/functions/{name}/versions/{version}/promote",
        status_code=201,
        responses=PROBLEMS,
    )
    async def promote(
        name: Name, version: Number, body: Promotion, caller: Caller = writes
    ) -> MadeVersion:
        """Copy a tested version to the same route in the other mode, as a draft there."""
        mapping = await desk.mapping(caller, name)
        if caller.mode is not None:
            raise Problem(409, "one_mode", "The token speaks for one mode alone")
        copied = Draft("", body.note, None, actor(caller))
        async with desk.changing() as tx:
            to, made = await versions.promote(tx, mapping, name, version, copied, desk.limits)
        return MadeVersion(name=to, version=made)


def _add_steps(api: APIRouter, desk: Desk) -> None:
    writes = Depends(desk.service.verifier.needs("functions:write"))

    @api.post(
        "/internal/v1/functions/{name}/versions/{version}/tested",
        status_code=204,
        responses=PROBLEMS,
    )
    async def tested(name: Name, version: Number, body: Beside, caller: Caller = writes) -> None:
        """Call a draft tested: it and its partner have passed a dry-run."""
        mapping = await desk.mapping(caller, name)
        async with desk.changing() as tx:
            await versions.mark_tested(tx, mapping, name, version, body.partner_version)

    @api.post("/internal/v1/functions/{name}/versions/{version}/live", responses=PROBLEMS)
    async def live(
        name: Name, version: Number, body: GoLive, caller: Caller = writes
    ) -> LiveVersions:
        """Make a tested version serve the payments accepted from now on."""
        mapping = await desk.mapping(caller, name)
        async with desk.changing() as tx:
            now = await versions.go_live(
                tx, mapping, name, version, body.partner_version, body.live_version
            )
        return LiveVersions(live=now)

    @api.post("/internal/v1/functions/{name}/roll-back", responses=PROBLEMS)
    async def roll_back(name: Name, body: RollBack, caller: Caller = writes) -> LiveVersions:
        """Make the version before live again, and the partner's that went live with it."""
        mapping = await desk.mapping(caller, name)
        async with desk.changing() as tx:
            now = await versions.roll_back(tx, mapping, name, body.live_version)
        return LiveVersions(live=now)


def _add_marks(api: APIRouter, desk: Desk) -> None:
    reads = Depends(desk.service.verifier.needs("functions:read"))
    writes = Depends(desk.service.verifier.needs("functions:write"))
    path = "/internal/v1/mappings/{app_id}/{microservice}/{service}/{route}/marks"

    @api.get(path, responses=PROBLEMS)
    async def marked(
        app_id: Part, microservice: Part, service: Part, route: Part, caller: Caller = reads
    ) -> Marks:
        """The marks of a mapping."""
        found = await desk.mapping_of(caller, Key(app_id, microservice, service, route))
        statuses = found.failed_statuses
        return Marks(
            final_on_2xx=found.final_on_2xx,
            failed_statuses=None if statuses is None else list(statuses),
            version=found.version,
        )

    @api.put(path, responses=PROBLEMS)
    async def marks(
        app_id: Part, microservice: Part, service: Part, route: Part, body: Marks,
        caller: Caller = writes,
    ) -> Marks:  # fmt: skip
        """Say what an answer without `outcome` means on this mapping; later payments pin it."""
        if 409 in (body.failed_statuses or ()):
            fault = FieldProblem(
                field="failed_statuses", code="conflict", message="409 never means failed: enquire"
            )
            raise Problem(422, "invalid_request", "The request is not valid", errors=[fault])
        mapping = await desk.mapping_of(caller, Key(app_id, microservice, service, route))
        async with desk.changing() as tx:
            version = await versions.set_options(
                tx,
                mapping.key,
                body.final_on_2xx,
                body.failed_statuses,
                actor(caller),
                body.version,
            )
        return body.model_copy(update={"version": version})


def _view(mapping: Mapping, by_name: dict[str, list[VersionView]]) -> MappingView:
    key, shown = mapping.key, []
    for kind, name in names_of(mapping.pair).items():
        rows = by_name.get(name, [])
        live = next((v.version for v in rows if v.state == "live"), None)
        shown.append(FunctionView(kind=kind, name=name, live_version=live, versions=rows))
    statuses: Any = mapping.failed_statuses
    return MappingView(
        app_id=key.app_id,
        microservice=key.microservice,
        service=key.service,
        route=key.route,
        client_id=mapping.client_id,
        mode=mapping.mode,
        service_id=mapping.service_id,
        refused=mapping.refused,
        final_on_2xx=mapping.final_on_2xx,
        failed_statuses=None if statuses is None else list(statuses),
        version=mapping.version,
        functions=shown,
    )


def _cursor(key: Key) -> str:
    parts = orjson.dumps([key.app_id, key.microservice, key.service, key.route])
    return base64.urlsafe_b64encode(parts).decode()


def _read_cursor(cursor: str | None) -> tuple[str, ...] | None:
    if cursor is None:
        return None
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor))
        if len(parts) == 4 and all(isinstance(p, str) and "\x00" not in p for p in parts):
            return tuple(parts)
    except (binascii.Error, ValueError, TypeError):
        pass
    fault = FieldProblem(field="cursor", code="invalid", message="is not one of ours")
    raise Problem(422, "invalid_request", "The request is not valid", errors=[fault])
