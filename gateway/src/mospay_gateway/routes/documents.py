"""Completes the OpenAPI document: an example of every request, success and error there is."""

from typing import Any

from fastapi import FastAPI
from mospay_shared.chassis.problems import BASE, MEDIA_TYPE, ProblemBody

from mospay_gateway.routes.answers import FIELD_API
from mospay_gateway.routes.book_examples import BOOKS
from mospay_gateway.routes.examples import OPERATIONS, PROBLEMS, REQUEST_ID, Operation
from mospay_gateway.routes.field_api import FieldError

KNOWN = OPERATIONS | BOOKS
_SCHEMAS = "#/components/schemas/"
_SECURITY_SCHEMES = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Basic": {"type": "http", "scheme": "basic", "description": "API user name and password"},
    "Bearer": {
        "type": "http", "scheme": "bearer",
        "description": "A token of `POST /api/v1/auth/token`, or an API key",
    },
    "ServiceToken": {
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "Of a house service; never given to client apps",
    },
}  # fmt: skip
_WORDS = {
    400: "What was sent can't be read, or a header is missing",
    401: "No credential, or one that is wrong, expired or revoked",
    403: "A good credential that may not do this",
    404: "No such thing among yours",
    408: "The body took too long to arrive",
    409: "Not now, or not any more",
    413: "The body is too large",
    422: "Faults, each with its field",
    429: "A rate limit is used up",
    503: "Try again shortly (Retry-After)",
}


def install_document(app: FastAPI) -> None:
    """Make `app.openapi()` return the completed document."""
    made = app.openapi

    def complete() -> dict[str, Any]:
        first = app.openapi_schema is None
        document: dict[str, Any] = made()
        if first:
            _complete(document)
        return document

    app.openapi = complete  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for model in (ProblemBody, FieldError):
        schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            known = KNOWN.get(f"{method.upper()} {path}")
            if known is not None:
                _complete_operation(operation, known, path)


def _complete_operation(operation: dict[str, Any], known: Operation, path: str) -> None:
    generated = operation["responses"]
    operation["responses"] = {
        **_successes(generated, known),
        **_errors(known, path),
    }
    operation["security"] = [{name: []} for name in known.security]
    body = operation.get("requestBody")
    if body is not None and known.request is not None:
        for content in body["content"].values():
            content["example"] = known.request


def _successes(generated: dict[str, Any], known: Operation) -> dict[str, Any]:
    """Keep the schemas that were generated (one for all successes) and add the examples."""
    shown = next(one for code, one in generated.items() if code.startswith("2"))
    found = {}
    for status, example in known.success.items():
        response = generated.get(str(status), shown)
        schema = (response.get("content") or {}).get("application/json", {}).get("schema", {})
        content = {known.media: {"schema": schema or {"type": known.schema}, "example": example}}
        for media, begins in known.files.items():
            content[media] = {"schema": {"type": "string", "format": "binary"}, "example": begins}
        found[str(status)] = {
            "description": response["description"],
            "content": content,
            **({"headers": known.headers} if known.headers else {}),
        }
    return found


def _errors(known: Operation, path: str) -> dict[str, Any]:
    field_api = path.startswith(FIELD_API)
    media = "application/json" if field_api else MEDIA_TYPE
    model = FieldError if field_api else ProblemBody
    found: dict[str, Any] = {}
    for code in known.errors:
        status, title, errors = PROBLEMS[code]
        value = _field_error if field_api else _problem
        response = found.setdefault(
            str(status),
            {
                "description": _WORDS[status],
                "content": {media: {"schema": {"$ref": _SCHEMAS + model.__name__}, "examples": {}}},
            },
        )
        response["content"][media]["examples"][code] = {
            "value": value(code, status, title, errors, path)
        }
    return dict(sorted(found.items()))


def _problem(
    code: str, status: int, title: str, errors: list[dict[str, str]], path: str
) -> dict[str, Any]:
    body = {
        "type": BASE + code, "title": title, "status": status, "instance": path, "code": code,
        "errors": errors, "request_id": REQUEST_ID,
    }  # fmt: skip
    if code == "body_too_large":  # said before there is a request id
        body = {k: v for k, v in body.items() if k not in ("instance", "errors", "request_id")}
    return body


def _field_error(
    code: str, status: int, title: str, errors: list[dict[str, str]], path: str
) -> dict[str, Any]:
    named = "; ".join(f"{fault['field']} {fault['message']}" for fault in errors)
    return {
        "status": str(status), "type": "error", "message": f"{title}: {named}" if named else title,
        "version": "1.0", "action": "ERROR", "command": path.rpartition("/")[2], "code": code,
        "errors": errors, "request_id": REQUEST_ID,
    }  # fmt: skip
