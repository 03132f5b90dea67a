"""RFC 9457 problems: every refusal says which field, why, and what to send instead."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from mospay_shared.chassis.database import DATABASE_DOWN, TRY_AGAIN

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
BASE = "https://mospay.dev/problems/"
BUSY = "Another call is changing the same thing right now; send the same request again shortly"


class FieldProblem(BaseModel):
    """One fault of one field."""

    field: str = Field(examples=["amount_minor"])
    code: str = Field(examples=["required"])
    message: str = Field(examples=["is required"])


class ProblemBody(BaseModel):
    """application/problem+json."""

    type: str = Field(examples=[BASE + "invalid_request"])
    title: str = Field(examples=["The request is not valid"])
    status: int = Field(examples=[422])
    detail: str | None = None
    instance: str | None = None
    code: str = Field(examples=["invalid_request"])
    errors: list[FieldProblem] = Field(default_factory=list)
    request_id: str | None = None


class Problem(Exception):
    """An answer that is a problem; `extra` are further members (RFC 9457, 3.2)."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        *,
        detail: str | None = None,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(title)
        self.status, self.code, self.title, self.detail = status, code, title, detail
        self.errors, self.headers, self.extra = list(errors), dict(headers or {}), dict(extra or {})


def problem_response(request: Request, problem: Problem) -> JSONResponse:
    """Render a problem for this request."""
    body = ProblemBody(
        type=BASE + problem.code,
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=request.url.path,
        code=problem.code,
        errors=problem.errors,
        request_id=getattr(request.state, "request_id", None),
    ).model_dump(exclude_none=True)
    return JSONResponse(
        {**body, **problem.extra}, problem.status, problem.headers, media_type=MEDIA_TYPE
    )


def field_problems(errors: Sequence[Any]) -> list[FieldProblem]:
    """Turn pydantic's faults into field problems; values are never repeated."""
    return [
        FieldProblem(
            field=".".join(str(p) for p in e["loc"] if p not in ("body", "query", "path", "header"))
            or "body",
            code="required" if e["type"] == "missing" else e["type"],
            message="is required" if e["type"] == "missing" else e["msg"],
        )
        for e in errors[:50]
    ]


def install_problems(app: FastAPI) -> None:
    """Make every error of an app a problem, also 404, 405, a missing database, a lock, a bug."""

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(request, error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = field_problems(error.errors())
        if any(e["type"] == "json_invalid" for e in error.errors()):
            title = "The body is not valid JSON"
            return problem_response(request, Problem(400, "invalid_json", title, errors=faults))
        title = "The request is not valid"
        return problem_response(request, Problem(422, "invalid_request", title, errors=faults))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        headers = dict(error.headers or {})
        return problem_response(
            request, Problem(error.status_code, code, str(error.detail), headers=headers)
        )

    async def on_database_down(request: Request, error: Exception) -> Response:
        log.warning("database_away", reason=repr(error)[:200], path=request.url.path)
        title = "The service can't reach its database right now; try again shortly"
        return problem_response(
            request, Problem(503, "temporarily_unavailable", title, headers={"Retry-After": "2"})
        )

    async def on_conflict(request: Request, error: Exception) -> Response:
        log.warning("transaction_gave_way", reason=repr(error)[:200], path=request.url.path)
        return problem_response(
            request, Problem(503, "temporarily_unavailable", BUSY, headers={"Retry-After": "1"})
        )

    async def on_text(request: Request, _: Exception) -> Response:
        """The net under every field's own rule: no text in PostgreSQL has a NUL."""
        title = "The request has text with a character that can't be kept (NUL)"
        return problem_response(request, Problem(422, "invalid_text", title))

    async def on_bug(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        title = "Something failed on our side; quote the request id"
        return problem_response(request, Problem(500, "internal_error", title))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(asyncpg.CharacterNotInRepertoireError, on_text)  # in text
    app.add_exception_handler(asyncpg.UntranslatableCharacterError, on_text)  # in jsonb
    for kind in DATABASE_DOWN:
        app.add_exception_handler(kind, on_database_down)
    for busy in TRY_AGAIN:
        app.add_exception_handler(busy, on_conflict)
    app.add_exception_handler(Exception, on_bug)
