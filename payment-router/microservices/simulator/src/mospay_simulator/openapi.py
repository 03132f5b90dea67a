"""The documented shapes of each route, as the routes read raw bodies for speed."""

from dataclasses import fields
from typing import Any, Final

from mospay_simulator.domain.payloads import (
    ADVANCE_SECONDS_MAX,
    REASON_CHARACTERS_MAX,
    REFERENCES_MAX,
)
from mospay_simulator.domain.scenarios import REFUND_SCENARIOS, SCENARIOS, Outcome
from mospay_simulator.storage import Summary

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
    "customer_action": _object({"type": _TEXT, "url": {"type": ["string", "null"]}}),
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
_REFUND_EFFECT: Final = _object(
    {
        "refund_id": _REFERENCE,
        "payment_reference": _REFERENCE,
        "amount": _TEXT,
        "currency": _TEXT,
        "scenario": {"enum": [scenario.name for scenario in REFUND_SCENARIOS]},
        "at": {"type": "string", "format": "date-time"},
    }
)
_OPTIONAL_TEXT: Final = {"type": ["string", "null"]}
_REFUND_PROPERTIES: Final[dict[str, Any]] = {
    "status": {"type": "string", "description": "The HTTP status as the field API writes it"},
    "outcome": {"enum": [str(outcome) for outcome in Outcome]},
    "reference": {**_REFERENCE, "description": "The refund id"},
    "provider_reference": _OPTIONAL_TEXT,
    "amount": _OPTIONAL_TEXT,
    "currency": _OPTIONAL_TEXT,
    "reason_code": _OPTIONAL_TEXT,
    "message": _TEXT,
    "found": {"type": "boolean", "description": "Enquiries only; authoritative"},
}
_REFUND_ANSWER: Final = _content(
    _object(_REFUND_PROPERTIES, [name for name in _REFUND_PROPERTIES if name != "found"])
)
_REFUND_ORDER: Final = _object(
    {
        "refund_id": _REFERENCE,
        "payment_reference": _REFERENCE,
        "provider_reference": {**_REFERENCE, "description": "The payment's, checked if given"},
        "amount": {"type": "string", "description": "Decimal, as exact as the currency"},
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "reason": {"type": ["string", "null"], "maxLength": REASON_CHARACTERS_MAX},
    },
    ["refund_id", "payment_reference", "amount", "currency"],
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
            "description": "`requests` = payment requests; `repeats` = those of a known reference;"
            " `refunds` = refund effects",
            **_content(_object(dict.fromkeys([field.name for field in fields(Summary)], _COUNT))),
        }
    },
}


def _effects_query(summary: str) -> dict[str, Any]:
    listed = {"type": "array", "maxItems": REFERENCES_MAX, "items": _REFERENCE}
    return {
        "summary": summary,
        "responses": {
            200: {
                "description": "Reference to count",
                **_content({"type": "object", "additionalProperties": _COUNT}),
            },
            **_REFUSED,
        },
        "openapi_extra": _body(_object({"references": listed})),
    }


def _effects_of(summary: str, effect: dict[str, Any], *names: str) -> dict[str, Any]:
    one = len(names) == 1
    return {
        "summary": summary,
        "responses": {
            200: {
                "description": "Empty and zero for an unknown reference",
                **_content(
                    _object({"effects": {"type": "array", "items": effect}, "repeats": _COUNT})
                ),
            },
            422: _REFUSED[422],
        },
        "openapi_extra": {
            "parameters": [
                {"in": "query", "name": name, "required": one, "schema": _REFERENCE}
                for name in names
            ]
        },
    }


EFFECTS_QUERY: Final = _effects_query("How many effects each reference had")
REFUND_EFFECTS_QUERY: Final = _effects_query("How many effects each refund id had")
EFFECTS: Final = _effects_of(
    "The effects of one reference and how often it was asked for again", _EFFECT, "reference"
)
REFUND_EFFECTS: Final = _effects_of(
    "The effects of one refund id, or all of one payment, and how often they were asked for again",
    _REFUND_EFFECT,
    "reference",
    "payment_reference",
)
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
REFUND: Final[dict[str, Any]] = {
    "summary": "Give a payment, or a part of it, back",
    "responses": {
        200: {"description": "Refunded", **_REFUND_ANSWER},
        202: {"description": "Pending", **_REFUND_ANSWER},
        400: {"description": "Not refunded, with `reason_code`", **_REFUND_ANSWER},
        409: {"description": "X-Attempt-Id belongs to something else", **_PROBLEM},
        500: {"description": "Only where the scenario asks for it", **_PROBLEM},
        **_REFUSED,
    },
    "openapi_extra": {
        **_body(_REFUND_ORDER),
        "parameters": [
            _path("service"),
            _header("X-Attempt-Id", "Deduped durably, as is the refund id"),
            _header("X-Callback-Url", "Where asynchronous scenarios report; http or https"),
        ],
    },
}
REFUND_STATUS: Final[dict[str, Any]] = {
    "summary": "What became of a refund",
    "responses": {
        200: {"description": "Found", **_REFUND_ANSWER},
        404: {"description": "No refund has this id: nothing was given back", **_REFUND_ANSWER},
        **_REFUSED,
    },
    "openapi_extra": {
        **_body(_object({"refund_id": _REFERENCE})),
        "parameters": [_path("service")],
    },
}
_CLOCK_ANSWER: Final = _content(
    _object(
        {
            "now": {"type": "string", "format": "date-time"},
            "offset_seconds": {"type": "number", "minimum": 0},
        }
    )
)
CLOCK: Final[dict[str, Any]] = {
    "summary": "The simulator's time and how far it is ahead",
    "responses": {200: {"description": "Aware UTC", **_CLOCK_ANSWER}},
}
CLOCK_ADVANCE: Final[dict[str, Any]] = {
    "summary": "Move the clock ahead; what that makes due happens at once",
    "responses": {200: {"description": "The new time", **_CLOCK_ANSWER}, **_REFUSED},
    "openapi_extra": _body(
        _object(
            {"advance_seconds": {"type": "number", "minimum": 0, "maximum": ADVANCE_SECONDS_MAX}}
        )
    ),
}
