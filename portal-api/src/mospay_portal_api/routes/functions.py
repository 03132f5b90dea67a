"""Provider functions for the operator's people: versions, dry-runs, replays, what is live.

payment-router keeps and judges them; here is who may, and what the audit log keeps.
"""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from mospay_portal_api.domain.errors import NotFound
from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.routes.bodies import Body
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference, author
from mospay_portal_api.storage import audit

ROUTER = "payment-router"
FUNCTIONS, MAPPINGS = "/internal/v1/functions", "/internal/v1/mappings"
READ, WRITE = "functions:read", "functions:write"
VERSION_LIMIT, SOURCE_LIMIT = 1_000_000, 262_144
Number = Annotated[int, Path(ge=1, le=VERSION_LIMIT, description="the version")]
ModeQuery = Annotated[str | None, Query(pattern=r"^(live|test)$")]
IdQuery = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_]{1,80}$")]
Note = Annotated[str | None, Field(max_length=500)]
VersionRead = Annotated[int | None, Field(ge=1, le=VERSION_LIMIT)]


class FunctionVersion(BaseModel):
    """A version. `state` is draft, tested, live or retired; `origin` default, existing, person."""

    name: str
    version: int
    kind: str | None
    state: str
    origin: str
    author: str | None
    note: str | None
    reads_secrets: bool
    created_at: dt.datetime
    passed_at: dt.datetime | None
    tested_at: dt.datetime | None
    live_at: dt.datetime | None
    retired_at: dt.datetime | None
    previous: int | None


class FunctionSource(FunctionVersion):
    """A version with its source."""

    source: str | None
    changed_by_hand: bool


class ProviderFunction(BaseModel):
    """One of a mapping's functions with the versions in use."""

    kind: str
    name: str
    live_version: int | None
    versions: list[FunctionVersion]


class FunctionMapping(BaseModel):
    """Which functions serve a route of a client; null marks: as the connector has them."""

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
    version: int
    functions: list[ProviderFunction]


class FunctionMappings(BaseModel):
    """A page of mappings."""

    items: list[FunctionMapping]
    next_cursor: str | None


class NewFunctionVersion(Body):
    """A source: one `CREATE [OR REPLACE] FUNCTION` statement, as in an older MosPay."""

    source: str = Field(min_length=1, max_length=SOURCE_LIMIT)
    note: Note = None
    reads_secrets: bool | None = Field(None, description="null: as the source shows")


class FunctionReading(Body):
    """Whether a version gets f007 and f008 whatever its source shows."""

    reads_secrets: bool


class FunctionBeside(Body):
    """The partner's version to take along; null: the one that is live."""

    partner_version: VersionRead = None


class FunctionGoLive(FunctionBeside):
    """`live_version` is the one that was read."""

    live_version: VersionRead = None


class FunctionRollBack(Body):
    """`live_version` is the one that was read."""

    live_version: VersionRead = None


class FunctionPromotion(Body):
    """Why it is copied to the other mode."""

    note: Note = None


class FunctionMarks(Body):
    """What an answer without `outcome` means here; null: as the connector has it."""

    final_on_2xx: bool | None
    failed_statuses: list[Annotated[int, Field(ge=400, le=499)]] | None = Field(max_length=20)
    version: int = Field(ge=1, le=2_000_000_000, description="the version that was read")


class FunctionSample(Body):
    """What a version is tried with; f007 and f008 are fakes, whatever is given."""

    unique_id: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,80}$")
    fields: dict[str, Annotated[str, Field(max_length=2_000)]] = Field(
        default_factory=dict, max_length=60, examples=[{"f004": "1000"}]
    )
    code: int = Field(200, ge=100, le=599)
    answer: Any = None


class FunctionCallShown(BaseModel):
    """The call a function asks for."""

    url: str
    payload: str


class FunctionFinding(BaseModel):
    """What an answer proves."""

    evidence: str
    result: str
    provider_reference: str | None
    reason_code: str | None
    reason_message: str | None


class FunctionTrial(BaseModel):
    """What a version did with a sample; nothing was sent."""

    passed: bool
    call: FunctionCallShown | None
    finding: FunctionFinding | None
    fault: str | None
    results: dict[str, Any] | None
    secrets_replaced: bool
    secrets_undetected: bool
    milliseconds: float


class FunctionReplayIn(Body):
    """How many of the last recordings, and the partner's version (null: the live one)."""

    limit: int = Field(50, ge=1, le=200)
    partner_version: VersionRead = None


class FunctionDifference(BaseModel):
    """What a version does otherwise with one recording."""

    recording_id: str
    payment_id: str
    compared_with: str
    secrets_replaced: bool
    fault: str | None
    url: dict[str, str | None] | None
    payload: list[dict[str, str | None]]
    outcome: dict[str, Any] | None


class FunctionReplay(BaseModel):
    """A replay; `rows` are the recordings that differ."""

    recordings: int
    replayed: int
    complete: bool
    same: int
    differing: dict[str, int]
    rows: list[FunctionDifference]


class MadeFunctionVersion(BaseModel):
    """What was made."""

    name: str
    version: int


class LiveFunctions(BaseModel):
    """What is live now, by name, of what was changed."""

    live: dict[str, int]


class FunctionDesk:
    """A person's words to the router, and what is written down of them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, person: Person, path: str, query: dict[str, Any] | None = None) -> Any:
        """Read; raises NotFound."""
        me = asker(person, None)
        found = await self._context.house.find(ROUTER, path, READ, me, query)
        if found is None:
            raise NotFound("There is no such function or version")
        return found

    async def send(self, person: Person, method: str, path: str, body: Body) -> Any:
        """Change; raises NotFound, HouseError. Waits as long as a trial may take."""
        return await self._context.house.send(
            method, ROUTER, path, WRITE, asker(person, None),
            body.model_dump(mode="json", exclude_unset=True),
            timeout_seconds=self._context.settings.trial_seconds,
        )  # fmt: skip

    async def states(self, person: Person, name: str) -> dict[str, str]:
        """Return the state of each version of a function, for the audit log."""
        rows = await self.get(person, f"{FUNCTIONS}/{name}/versions")
        return {f"v{row['version']}": row["state"] for row in rows}

    async def note(
        self, person: Person, request: Request, action: str, what: str, *,
        before: Any = None, after: Any = None,
    ) -> None:  # fmt: skip
        """Write down what a person did."""
        async with self._context.service.database.transaction() as tx:
            await audit.write(tx, author(person, request), action, what, before=before, after=after)


def reads_router(context: Context) -> APIRouter:
    """Return the routes by which functions are read, tried and replayed."""
    routes = APIRouter(prefix="/bff/v1/functions", tags=["functions"], responses=PROBLEMS)
    desk, reads = FunctionDesk(context), Depends(context.needs(READ))
    writes = Depends(context.needs(WRITE))

    @routes.get("", response_model=FunctionMappings)
    async def mappings(
        client_id: IdQuery = None,
        mode: ModeQuery = None,
        service_id: IdQuery = None,
        q: IdQuery = None,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        person: Person = reads,
    ) -> object:
        """Mappings with their functions and the versions in use."""
        query = {"client_id": client_id, "mode": mode, "service_id": service_id, "q": q,
                 "cursor": cursor, "limit": limit}  # fmt: skip
        return await desk.get(person, FUNCTIONS, query)

    @routes.get("/{name}/versions", response_model=list[FunctionVersion])
    async def versions(name: Reference, person: Person = reads) -> object:
        """All versions of a function, the newest first."""
        return await desk.get(person, f"{FUNCTIONS}/{name}/versions")

    @routes.get("/{name}/versions/{version}", response_model=FunctionSource)
    async def version(name: Reference, version: Number, person: Person = reads) -> object:
        """A version with its source."""
        return await desk.get(person, f"{FUNCTIONS}/{name}/versions/{version}")

    @routes.post("/{name}/versions/{version}/dry-run", response_model=FunctionTrial)
    async def dry_run(
        name: Reference, version: Number, body: FunctionSample, person: Person = writes
    ) -> object:
        """Run a version with a sample and show what it would do."""
        return await desk.send(
            person, "POST", f"{FUNCTIONS}/{name}/versions/{version}/dry-run", body
        )

    @routes.post("/{name}/versions/{version}/replay", response_model=FunctionReplay)
    async def replay(
        name: Reference, version: Number, body: FunctionReplayIn, request: Request,
        person: Person = writes,
    ) -> object:  # fmt: skip
        """Run a version over the last recorded calls and show what it would do otherwise."""
        path = f"{FUNCTIONS}/{name}/versions/{version}/replay"
        found = await desk.send(person, "POST", path, body)
        counts = {key: found[key] for key in ("recordings", "replayed", "same", "differing")}
        shown = {"version": version, **counts}
        await desk.note(person, request, "function_replayed", name, after=shown)
        return found

    return routes


def changes_router(context: Context) -> APIRouter:
    """Return the routes by which versions come to life and go."""
    routes = APIRouter(prefix="/bff/v1/functions", tags=["functions"], responses=PROBLEMS)
    desk, writes = FunctionDesk(context), Depends(context.needs(WRITE))

    @routes.post("/{name}/versions", status_code=201)
    async def draft(
        name: Reference, body: NewFunctionVersion, request: Request, person: Person = writes
    ) -> MadeFunctionVersion:
        """Install a draft; payments don't see it."""
        made = await desk.send(person, "POST", f"{FUNCTIONS}/{name}/versions", body)
        after = body.model_dump() | {"version": made["version"]}
        await desk.note(person, request, "function_version_drafted", name, after=after)
        return MadeFunctionVersion(**made)

    @routes.patch("/{name}/versions/{version}")
    async def reading(
        name: Reference, version: Number, body: FunctionReading, request: Request,
        person: Person = writes,
    ) -> FunctionReading:  # fmt: skip
        """Force that a version gets f007 and f008, or leave it to its source again."""
        path = f"{FUNCTIONS}/{name}/versions/{version}"
        before = {
            "version": version,
            "reads_secrets": (await desk.get(person, path))["reads_secrets"],
        }
        done = await desk.send(person, "PATCH", path, body)
        after = {"version": version, **done}
        await desk.note(person, request, "function_secrets_set", name, before=before, after=after)
        return FunctionReading(**done)

    @routes.post("/{name}/versions/{version}/promote", status_code=201)
    async def promote(
        name: Reference, version: Number, body: FunctionPromotion, request: Request,
        person: Person = writes,
    ) -> MadeFunctionVersion:  # fmt: skip
        """Copy a tested version to the same route in the other mode, as a draft there."""
        path = f"{FUNCTIONS}/{name}/versions/{version}/promote"
        made = await desk.send(person, "POST", path, body)
        before, after = {"version": version}, {**made, "note": body.note}
        await desk.note(
            person, request, "function_version_promoted", name, before=before, after=after
        )
        return MadeFunctionVersion(**made)

    return routes


def steps_router(context: Context) -> APIRouter:
    """Return the routes that decide which version serves payments."""
    routes = APIRouter(prefix="/bff/v1", tags=["functions"], responses=PROBLEMS)
    desk, writes = FunctionDesk(context), Depends(context.needs(WRITE))

    async def step(
        person: Person, request: Request, action: str, name: str, path: str, body: Body
    ) -> Any:
        before = await desk.states(person, name)
        done = await desk.send(person, "POST", f"{FUNCTIONS}/{name}/{path}", body)
        after = {**await desk.states(person, name), **body.model_dump(exclude_none=True), **done}
        await desk.note(person, request, action, name, before=before, after=after)
        return done

    @routes.post(
        "/functions/{name}/versions/{version}/tested", status_code=204, response_class=Response
    )
    async def tested(
        name: Reference, version: Number, body: FunctionBeside, request: Request,
        person: Person = writes,
    ) -> Response:  # fmt: skip
        """Call a draft tested: it and its partner have passed a dry-run."""
        path = f"versions/{version}/tested"
        await step(person, request, "function_version_tested", name, path, body)
        return Response(status_code=204)

    @routes.post("/functions/{name}/versions/{version}/live")
    async def live(
        name: Reference, version: Number, body: FunctionGoLive, request: Request,
        person: Person = writes,
    ) -> LiveFunctions:  # fmt: skip
        """Make a tested version serve the payments accepted from now on."""
        path = f"versions/{version}/live"
        done = await step(person, request, "function_version_live", name, path, body)
        return LiveFunctions(**done)

    @routes.post("/functions/{name}/roll-back")
    async def roll_back(
        name: Reference, body: FunctionRollBack, request: Request, person: Person = writes
    ) -> LiveFunctions:
        """Make the version before live again, and the partner's that went live with it."""
        done = await step(person, request, "function_rolled_back", name, "roll-back", body)
        return LiveFunctions(**done)

    @routes.put("/function-mappings/{app_id}/{microservice}/{service}/{route}/marks")
    async def marks(
        app_id: Reference, microservice: Reference, service: Reference, route: Reference,
        body: FunctionMarks, request: Request, person: Person = writes,
    ) -> FunctionMarks:  # fmt: skip
        """Say what an answer without `outcome` means on this mapping; later payments pin it."""
        key = f"{app_id}/{microservice}/{service}/{route}"
        before = await desk.get(person, f"{MAPPINGS}/{key}/marks")
        done = await desk.send(person, "PUT", f"{MAPPINGS}/{key}/marks", body)
        await desk.note(person, request, "function_marks_set", key, before=before, after=done)
        return FunctionMarks(**done)

    return routes
