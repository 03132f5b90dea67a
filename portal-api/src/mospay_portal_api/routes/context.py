"""What every route shares: who asks, whether they may, and errors as problems."""

from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import Response
from mospay_shared.chassis.problems import FieldProblem, Problem, problem_response
from mospay_shared.chassis.service import Service

from mospay_portal_api import domain
from mospay_portal_api.clients import House, Refused, Unavailable
from mospay_portal_api.domain import Person
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.usecases import people
from mospay_portal_api.usecases.live import Feed

COOKIE = "mospay_session"
_STATUS = {
    domain.NotFound: 404,
    domain.Conflict: 409,
    domain.StaleVersion: 409,
    domain.NotSignedIn: 401,
    domain.WrongCredentials: 401,
    domain.Locked: 423,
}


@dataclass(frozen=True)
class Context:
    """The wiring that routes need."""

    service: Service
    settings: PortalSettings
    house: House
    feed: Feed

    async def person(self, request: Request) -> Person:
        """Return who asks; a change must carry the session's CSRF token."""
        found = await people.who(self.service.database, self.settings, request.cookies.get(COOKIE))
        changes = request.method not in ("GET", "HEAD")
        if changes and request.headers.get("x-csrf-token") != found.csrf_token:
            raise Problem(403, "csrf_failed", "The X-CSRF-Token header is missing or wrong")
        return found

    async def admin(self, request: Request) -> Person:
        """Return the operator's admin who asks; changes need the role `owner`."""
        found = await self.person(request)
        if found.audience != "admin":
            raise Problem(403, "forbidden", "This is for the operator's admins")
        if request.method not in ("GET", "HEAD") and not found.may_write:
            raise Problem(403, "forbidden", "Your role may look but not change; ask an owner")
        return found


def one_client(person: Person, client_id: str | None) -> str | None:
    """Return the client a read is about: a client user's own, or whom an admin named."""
    if person.client_ids is None:
        return client_id
    if client_id is None:
        if len(person.client_ids) == 1:
            return next(iter(person.client_ids))
        fault = FieldProblem(field="client_id", code="required", message="choose one of yours")
        raise Problem(422, "invalid_request", "Which client?", errors=[fault])
    if not person.sees(client_id):
        raise Problem(404, "not_found", "There is no such client")
    return client_id


def client_ip(request: Request) -> str | None:
    """Return the address of the connection."""
    return request.client.host if request.client else None


def install_errors(app: FastAPI) -> None:
    """Map this service's errors to problems."""

    async def on_refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, domain.PortalError)
        extra: dict[str, object] = {}
        if isinstance(error, domain.WrongCredentials) and error.attempts_left is not None:
            extra["attempts_left"] = error.attempts_left
        if isinstance(error, domain.Locked):
            extra["locked_until"] = error.until.isoformat().replace("+00:00", "Z")
        status = _STATUS.get(type(error), 422)
        return problem_response(request, Problem(status, error.code, str(error), extra=extra))

    async def on_unavailable(request: Request, error: Exception) -> Response:
        assert isinstance(error, Unavailable)
        title = f"{error.service} can't be reached right now; try again shortly"
        problem = Problem(
            503, "service_unavailable", title, detail=error.detail, headers={"Retry-After": "3"}
        )
        return problem_response(request, problem)

    async def on_refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        faults = [FieldProblem(**fault) for fault in error.problem.get("errors", [])]
        code = str(error.problem.get("code", "refused"))
        title = str(error.problem.get("title", "The request was refused"))
        return problem_response(request, Problem(error.status, code, title, errors=faults))

    app.add_exception_handler(domain.PortalError, on_refusal)
    app.add_exception_handler(Unavailable, on_unavailable)
    app.add_exception_handler(Refused, on_refused)
