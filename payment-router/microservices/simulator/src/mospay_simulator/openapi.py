"""The documented shapes of each route, as the routes read raw bodies for speed."""

from typing import Any, Final

from mospay_simulator.domain.payloads import REFERENCES_MAX
from mospay_simulator.domain.scenarios import SCENARIOS, Outcome

_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_REFERENCE: Final = {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}


def _content(schema: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {"content": {media_type: {"schema": schema}}}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names}


_PROBLEM: Final = _content(
    _object(
        {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "instance": _TEXT,
            "code": _TEXT,
            "errors": {
                "type": "array",
                "items": _object({"field": _TEXT, "code": _TEXT, "message": _TEXT}),
            },
        }
    ),
    "application/problem+json",
)
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    413: {"description": "The body is longer than 64 KiB", **_PROBLEM},
    422: {"description": "Malformed; `errors` names each wrong field", **_PROBLEM},
}
_PROPERTIES: Final[dict[str, Any]] = {
    "status": {"type": "string", "description": "The HTTP status as the field API writes it"},
    "outcome": {"enum": [str(outcome) for outcome in Outcome]},
    "provider_reference": _TEXT,
    "reference": _REFERENCE,
    "amount": {"type": "string", "description": "What the payer was charged, decimal"},
    "currency": {"type": "null"},
    "message": _TEXT,
    "reason_code": _TEXT,
    "found": {"type": "boolean", "description": "Enquiries only; authoritative"},
}
_ANSWER: Final = _content(_object(_PROPERTIES, ["status", "outcome", "reference", "message"]))
_PAYLOAD: Final = {
    "oneOf": [
        {
            "type": "array",
            "items": _object({"i": {"type": "integer", "minimum": 0, "maximum": 999}, "v": {}}),
        },
        _object({"f004": _TEXT, "f005": _TEXT, "f010": _REFERENCE}, ["f010"]),
    ],
    "example": [
        {"i": 4, "v": "1000"},
        {"i": 5, "v": "+250780000000"},
        {"i": 10, "v": "pay_0192f0c1"},
    ],
}
_EFFECT: Final = _object(
    {
        "reference": _REFERENCE,
        "amount": _TEXT,
        "phone_masked": {"type": ["string", "null"]},
        "scenario": {"enum": [scenario.name for scenario in SCENARIOS]},
        "at": {"type": "string", "format": "date-time"},
    }
)


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, **_content(schema)}}


def _path(name: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"}
    return {"in": "path", "name": name, "required": True, "schema": schema}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"in": "header", "name": name, "description": description, "schema": _TEXT}


HEALTH: Final[dict[str, Any]] = {
    "summary": "Alive, with its background work running",
    "responses": {
        200: {"description": "Well", **_content(_object({"status": _TEXT}))},
        503: {"description": "A background loop ended", **_content(_object({"status": _TEXT}))},
    },
}
SUMMARY: Final[dict[str, Any]] = {
    "summary": "Counts over the whole record",
    "responses": {
        200: {
            "description": "`requests` = payment requests; `repeats` = those of a known reference",
            **_content(
                _object(
                    dict.fromkeys(
                        ["effects", "references", "doubled", "repeats", "requests"], _COUNT
                    )
                )
            ),
        }
    },
}
EFFECTS_QUERY: Final[dict[str, Any]] = {
    "summary": "How many effects each reference had",
    "responses": {
        200: {
            "description": "Reference to count",
            **_content({"type": "object", "additionalProperties": _COUNT}),
        },
        **_REFUSED,
    },
    "openapi_extra": _body(
        _object({"references": {"type": "array", "maxItems": REFERENCES_MAX, "items": _REFERENCE}})
    ),
}
EFFECTS: Final[dict[str, Any]] = {
    "summary": "The effects of one reference and how often it was asked for again",
    "responses": {
        200: {
            "description": "Empty and zero for an unknown reference",
            **_content(
                _object({"effects": {"type": "array", "items": _EFFECT}, "repeats": _COUNT})
            ),
        },
        422: _REFUSED[422],
    },
    "openapi_extra": {
        "parameters": [{"in": "query", "name": "reference", "required": True, "schema": _REFERENCE}]
    },
}
PAYMENT: Final[dict[str, Any]] = {
    "summary": "Ask for a payment, or with a route that ends in `Status`, what became of it",
    "responses": {
        200: {"description": "Paid; or, for an enquiry, found", **_ANSWER},
        202: {"description": "Pending", **_ANSWER},
        400: {"description": "Declined, with `reason_code`", **_ANSWER},
        404: {"description": "Enquiry only: no payment has this reference", **_ANSWER},
        409: {"description": "X-Attempt-Id belongs to another reference", **_PROBLEM},
        500: {"description": "Only where the scenario asks for it", **_PROBLEM},
        **_REFUSED,
    },
    "openapi_extra": {
        **_body(_PAYLOAD),
        "parameters": [
            _path("service"),
            _path("route"),
            _header("X-Attempt-Id", "Deduped durably, as is the reference (field 10)"),
            _header("X-Callback-Url", "Where asynchronous scenarios report; http or https"),
        ],
    },
}
