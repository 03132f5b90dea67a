"""What every route shares: who asks, whether they may, and errors as problems."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response
from mospay_shared.chassis.problems import FieldProblem, Problem, ProblemBody, problem_response
from mospay_shared.chassis.service import Service
from pydantic import BeforeValidator, Field

from mospay_portal_api.clients import House, Refused, Unavailable
from mospay_portal_api.domain import errors
from mospay_portal_api.domain.people import Asker, Author, Person, asker
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.usecases import people
from mospay_portal_api.usecases.live import Feed
from mospay_portal_api.usecases.reading import Reader

COOKIE = "mospay_session"
_STATUS = {
    errors.NotSignedIn: 401,
    errors.WrongCredentials: 401,
    errors.Locked: 423,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.StaleVersion: 409,
    errors.SeveralAccounts: 409,
    errors.Invalid: 422,
    errors.LinkEnded: 410,
    errors.TooOften: 429,
}


class Refusal(ProblemBody):
    """application/problem+json, with what some refusals add."""

    attempts_left: int | None = Field(None, description="invalid_credentials: tries before a lock")
    locked_until: str | None = Field(None, description="locked: when the next try may be made")
    current_version: int | None = Field(None, description="stale_version: what it is now")
    permission: str | None = Field(None, description="forbidden: what an owner can grant")
    accounts: list[dict[str, str]] | None = Field(
        None, description="several_accounts: customer_id and name of each"
    )


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {"model": Refusal, "description": "A problem (RFC 9457)"}
}


def _is_reference(value: Any) -> Any:
    """An id that can't be one names nothing: the same answer as for an id that is not there."""
    if not isinstance(value, str) or not value.isascii() or not value.replace("_", "").isalnum():
        raise errors.NotFound("There is no such path")
    return value


Read = Annotated[int, Query(alias="version", ge=1, le=2**63 - 1, description="that was read")]
Reference = Annotated[str, Path(max_length=80), BeforeValidator(_is_reference)]
Mode = Annotated[str, Query(pattern="^(live|test)$")]
ClientId = Annotated[str | None, Query(max_length=80, pattern="^[A-Za-z0-9_]+$")]
Currency = Annotated[str | None, Query(pattern="^[A-Z]{3}$")]
Cursor = Annotated[str | None, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200)]


@dataclass(frozen=True)
class Context:
    """The wiring that routes need."""

    service: Service
    settings: PortalSettings
    house: House
    feed: Feed
    reader: Reader

    async def person(self, request: Request) -> Person:
        """Return who asks; a change must carry the session's CSRF token."""
        found = await people.who(self.service.database, self.settings, request.cookies.get(COOKIE))
        given = request.headers.get("x-csrf-token", "").encode()
        changes = request.method not in ("GET", "HEAD")
        if changes and not hmac.compare_digest(given, found.csrf_token.encode()):
            raise Problem(403, "csrf_failed", "The X-CSRF-Token header is missing or wrong")
        return found

    def needs(self, permission: str) -> Callable[[Request], Awaitable[Person]]:
        """Return a dependency that lets in whose role has a permission."""

        async def dependency(request: Request) -> Person:
            found = await self.person(request)
            found.require(permission)
            return found

        return dependency

    async def speaker(
        self, person: Person, client_id: str | None, mode: str | None = None
    ) -> tuple[Asker, str | None]:
        """Return whom the ledger hears, and the client asked about (None: all of an operator's).

        Raises Forbidden, NotFound for somebody else's client, Invalid where one has to be named.
        """
        if person.operator:
            person.require("ledger:read")
        about = await self.reader.about(person, client_id)
        only = about["id"] if about else None
        return asker(person, only, mode), only


def author(person: Person | None, request: Request) -> Author:
    """Return whom the audit log names for this request."""
    actor = None if person is None else person.user_id
    address = request.client.host if request.client else None
    return Author(actor, address, request.state.request_id)


def _refusal(error: errors.PortalError) -> Problem:
    extra: dict[str, Any] = {}
    headers: dict[str, str] = {}
    faults: list[FieldProblem] = []
    if isinstance(error, errors.WrongCredentials):
        extra["attempts_left"] = error.attempts_left
    elif isinstance(error, errors.Locked):
        extra["locked_until"] = error.until.isoformat().replace("+00:00", "Z")
    elif isinstance(error, errors.StaleVersion):
        extra["current_version"] = error.current
    elif isinstance(error, errors.Forbidden):
        extra["permission"] = error.permission
    elif isinstance(error, errors.SeveralAccounts):
        extra["accounts"] = [{"customer_id": one, "name": name} for one, name in error.accounts]
    elif isinstance(error, errors.TooOften):
        headers["Retry-After"] = str(error.seconds)
    elif isinstance(error, errors.Invalid):
        faults = [FieldProblem(field=f.field, code=f.code, message=f.message) for f in error.faults]
    status = _STATUS[type(error)]
    return Problem(status, error.code, str(error), errors=faults, extra=extra, headers=headers)


def install_errors(app: FastAPI) -> None:
    """Map this service's errors to problems."""

    async def on_refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.PortalError)
        return problem_response(request, _refusal(error))

    async def on_unavailable(request: Request, error: Exception) -> Response:
        assert isinstance(error, Unavailable)
        title = f"{error.service} can't be reached right now; try again shortly"
        problem = Problem(
            503, "service_unavailable", title, detail=error.detail, headers={"Retry-After": "3"}
        )
        return problem_response(request, problem)

    async def on_refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        told = error.problem.get("errors")
        faults = [
            FieldProblem(**{key: str(fault.get(key, "")) for key in ("field", "code", "message")})
            for fault in (told if isinstance(told, list) else [])
            if isinstance(fault, dict)
        ]
        code = str(error.problem.get("code", "refused"))
        title = str(error.problem.get("title", "The request was refused"))
        detail = error.problem.get("detail")
        problem = Problem(
            error.status, code, title, detail=str(detail)[:500] if detail else None, errors=faults
        )
        return problem_response(request, problem)

    app.add_exception_handler(errors.PortalError, on_refusal)
    app.add_exception_handler(Unavailable, on_unavailable)
    app.add_exception_handler(Refused, on_refused)


def problem_media(document: dict[str, Any]) -> dict[str, Any]:
    """Name the media type of problems in an OpenAPI document, which FastAPI takes for JSON."""
    for path in document.get("paths", {}).values():
        for operation in path.values():
            content = operation.get("responses", {}).get("default", {}).get("content", {})
            if "application/json" in content:
                content["application/problem+json"] = content.pop("application/json")
    return document
