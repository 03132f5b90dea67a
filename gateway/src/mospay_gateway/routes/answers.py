"""How errors become answers: problem+json, or the field API's own shape below /api/v1/."""

from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from mospay_shared.chassis.database import DATABASE_DOWN, TRY_AGAIN
from mospay_shared.chassis.problems import (
    BUSY,
    FieldProblem,
    Problem,
    ProblemBody,
    field_problems,
    problem_response,
)
from mospay_shared.ids import new_id
from starlette.exceptions import HTTPException
from starlette.routing import Match

from mospay_gateway.domain import errors
from mospay_gateway.domain.errors import GatewayError, InvalidRequest

log = structlog.get_logger()
FIELD_API = "/api/v1/"
_STATUSES: dict[type[GatewayError], int] = {
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.AddressRefused: 403,
    errors.NotFound: 404,
    errors.InvalidKey: 400,
    errors.NotJson: 400,
    errors.InvalidRequest: 422,
    errors.KeyReused: 422,
    errors.ReferenceReused: 422,
    errors.StillOpen: 409,
    errors.AlreadyFinal: 409,
    errors.NotRetryable: 422,
    errors.NotRefundable: 422,
    errors.TooMany: 429,
    errors.TooManyAtOnce: 429,
    errors.BooksAway: 503,
}
_HEADERS = {
    401: {"WWW-Authenticate": 'Basic realm="mospay", Bearer realm="mospay"'},
}
PROBLEM_DOCS: dict[int | str, dict[str, Any]] = {
    code: {
        "model": ProblemBody,
        "description": words,
        "content": {"application/problem+json": {}},
    }
    for code, words in (
        (400, "The body is not JSON, or a header is missing"),
        (401, "No credential, or one that is wrong, expired or revoked"),
        (403, "The client is not active, or not heard from this address"),
        (404, "No such thing among yours"),
        (409, "The first request with this key is still being accepted"),
        (422, "Faults, each with its field"),
        (429, "A rate limit is used up (Retry-After, RateLimit, RateLimit-Policy)"),
        (503, "Try again shortly (Retry-After)"),
    )
}


def json_response(
    body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return JSON; times as UTC with Z."""
    content = orjson.dumps(body, option=orjson.OPT_UTC_Z)
    return Response(content, status, headers, media_type="application/json")


def problem_of(error: GatewayError) -> Problem:
    """Return the problem an error of ours is told as."""
    status = next(s for kind, s in _STATUSES.items() if type(error) is kind)
    faults = error.faults[:50] if isinstance(error, InvalidRequest) else []
    headers = _HEADERS.get(status)
    if isinstance(error, (errors.StillOpen, errors.TooManyAtOnce)):
        headers = {"Retry-After": "1"}
    if isinstance(error, (errors.TooMany, errors.BooksAway)):
        headers = {"Retry-After": str(error.retry_seconds)}
    return Problem(
        status,
        error.code,
        error.message,
        errors=[
            FieldProblem(field=_shown(f.field), code=f.code, message=f.message) for f in faults
        ],
        headers=headers,
    )


def _shown(name: str) -> str:
    """Return a member's name as it may be repeated: short, and without half characters."""
    return name[:100].encode(errors="replace").decode()


def answer_problem(request: Request, problem: Problem) -> Response:
    """Render a problem in the shape of the API it happened in."""
    if not hasattr(request.state, "request_id"):
        request.state.request_id = new_id("req")
    if not request.url.path.startswith(FIELD_API):
        return problem_response(request, problem)
    faults = [fault.model_dump() for fault in problem.errors]
    named = "; ".join(f"{f['field']} {f['message']}" for f in faults[:10])
    body = {
        "status": str(problem.status),
        "type": "error",
        "message": f"{problem}: {named}" if named else str(problem),
        "version": "1.0",
        "action": "ERROR",
        "command": request.url.path.rpartition("/")[2],
        "code": problem.code,
        "errors": faults,
        "request_id": request.state.request_id,
    }
    return json_response(body, problem.status, problem.headers)


def install_answers(app: FastAPI) -> None:
    """Make every error an answer; replaces the chassis' handlers where the shape depends."""

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return answer_problem(request, problem_of(error))

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer_problem(request, error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = field_problems(error.errors())
        title = "The request is not valid"
        return answer_problem(request, Problem(422, "invalid_request", title, errors=faults))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request))
        problem = Problem(error.status_code, code, str(error.detail), headers=headers)
        return answer_problem(request, problem)

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(GatewayError, on_error)
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    for kind in DATABASE_DOWN:
        app.add_exception_handler(kind, _database_down)
    for busy in TRY_AGAIN:
        app.add_exception_handler(busy, _gave_way)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Return every method a path has; the framework's own answer names one route's."""
    found: set[str] = set()
    for route in app.router.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


async def _database_down(request: Request, error: Exception) -> Response:
    log.warning("database_away", reason=repr(error)[:200], path=request.url.path)
    title = "The gateway can't reach its database right now; send the same request again shortly"
    problem = Problem(503, "temporarily_unavailable", title, headers={"Retry-After": "2"})
    return answer_problem(request, problem)


async def _gave_way(request: Request, error: Exception) -> Response:
    log.warning("transaction_gave_way", reason=repr(error)[:200], path=request.url.path)
    problem = Problem(503, "temporarily_unavailable", BUSY, headers={"Retry-After": "1"})
    return answer_problem(request, problem)
