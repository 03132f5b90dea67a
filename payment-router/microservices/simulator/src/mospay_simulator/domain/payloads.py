"""Requests on the wire: decoded JSON and headers become orders, or name the wrong fields."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

from mospay_simulator.domain.errors import FieldError, MalformedError
from mospay_simulator.domain.payments import Order
from mospay_simulator.domain.refunds import RefundOrder, minor_units

# A payment is about 1 KiB; 64 KiB also holds 1000 references of an audit query.
BODY_BYTES_MAX: Final = 64 * 1024
REFERENCES_MAX: Final = 1000
CALLBACK_URL_CHARACTERS_MAX: Final = 2048

_IDENTIFIER = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_IDENTIFIER_RULE = "1 to 128 letters, digits or . _ : -"
_PATH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# ISO 4217 has no currency with more than three decimals in use for payments.
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,3})?")
_PHONE = re.compile(r"\+?[0-9]{6,15}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_ENQUIRY_SUFFIX = "Status"
REASON_CHARACTERS_MAX: Final = 500
# The clock moves by at most a year at a time: a wrong unit shall not jump a century.
ADVANCE_SECONDS_MAX: Final = 366 * 86_400


def is_path_name(text: str) -> bool:
    """Whether a path segment may name a service or a route."""
    return _PATH_NAME.fullmatch(text) is not None


def is_enquiry(route: str) -> bool:
    """`paymentStatus` is the enquiry twin of `payment`."""
    return route.endswith(_ENQUIRY_SUFFIX) and route != _ENQUIRY_SUFFIX


def parse_order(service: str, route: str, body: object, headers: Mapping[str, str]) -> Order:
    """A payment request from its decoded JSON body and headers; raises MalformedError."""
    fields = _fields_of(body)
    errors: list[FieldError] = []
    reference = _identifier(fields, "f010", errors)
    amount = _decimal(fields.get("f004"), "f004", errors)
    phone = _phone(fields, errors)
    attempt_id, callback_url = _headers(headers, errors)
    if errors:
        raise MalformedError(*errors)
    return Order(service, route, reference, amount, phone, attempt_id, callback_url)


def parse_refund(service: str, body: object, headers: Mapping[str, str]) -> RefundOrder:
    """A refund request from its decoded JSON object and headers; raises MalformedError."""
    fields = _object_of(body)
    errors: list[FieldError] = []
    refund_id = _identifier(fields, "refund_id", errors)
    payment_reference = _identifier(fields, "payment_reference", errors)
    provider_reference = None
    if fields.get("provider_reference") is not None:
        provider_reference = _identifier(fields, "provider_reference", errors)
    amount = _decimal(fields.get("amount"), "amount", errors)
    currency = fields.get("currency")
    if not isinstance(currency, str) or _CURRENCY.fullmatch(currency) is None:
        errors.append(FieldError("currency", "invalid", "An ISO 4217 code"))
        currency = ""
    elif amount and minor_units(amount, currency) is None:
        errors.append(FieldError("amount", "too_precise", f"More decimals than {currency} has"))
    reason = fields.get("reason")
    if reason is not None and not (
        isinstance(reason, str) and len(reason) <= REASON_CHARACTERS_MAX
    ):
        errors.append(
            FieldError("reason", "invalid", f"At most {REASON_CHARACTERS_MAX} characters")
        )
    attempt_id, callback_url = _headers(headers, errors)
    if errors:
        raise MalformedError(*errors)
    return RefundOrder(
        service,
        refund_id,
        payment_reference,
        provider_reference,
        amount,
        currency,
        attempt_id,
        callback_url,
    )


def parse_refund_enquiry(body: object) -> str:
    """The refund id of an enquiry `{"refund_id": …}`; nothing else is read."""
    errors: list[FieldError] = []
    refund_id = _identifier(_object_of(body), "refund_id", errors)
    if errors:
        raise MalformedError(*errors)
    return refund_id


def parse_advance(body: object) -> float:
    """How many seconds the clock moves ahead `{"advance_seconds": …}`; raises MalformedError."""
    seconds = _object_of(body).get("advance_seconds")
    # bool is an int in Python, but not on the wire.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        seconds = -1
    if not 0 <= seconds <= ADVANCE_SECONDS_MAX:
        rule = f"A number from 0 to {ADVANCE_SECONDS_MAX}: the clock never moves back"
        raise MalformedError(FieldError("advance_seconds", "invalid", rule))
    return float(seconds)


def parse_enquiry(body: object) -> str:
    """The reference of an enquiry; nothing else is read, so a known payment is always found."""
    errors: list[FieldError] = []
    reference = _identifier(_fields_of(body), "f010", errors)
    if errors:
        raise MalformedError(*errors)
    return reference


def parse_reference(value: object, name: str = "reference") -> str:
    """The reference of an inspection; raises MalformedError."""
    if not isinstance(value, str) or _IDENTIFIER.fullmatch(value) is None:
        raise MalformedError(FieldError(name, "invalid", _IDENTIFIER_RULE))
    return value


def parse_references(body: object) -> list[str]:
    """The references of an audit query `{"references": [...]}`; raises MalformedError."""
    references = body.get("references") if isinstance(body, dict) else None
    if not isinstance(references, list):
        raise MalformedError(FieldError("references", "required", "A list of references"))
    if len(references) > REFERENCES_MAX:
        raise MalformedError(FieldError("references", "too_many", f"At most {REFERENCES_MAX}"))
    errors = [
        FieldError(f"references[{position}]", "invalid", _IDENTIFIER_RULE)
        for position, reference in enumerate(references)
        if not isinstance(reference, str) or _IDENTIFIER.fullmatch(reference) is None
    ]
    if errors:
        raise MalformedError(*errors)
    return references


def _object_of(body: object) -> dict[str, object]:
    if not isinstance(body, dict):
        raise MalformedError(FieldError("body", "invalid", "A JSON object"))
    return body


def _headers(headers: Mapping[str, str], errors: list[FieldError]) -> tuple[str | None, str | None]:
    attempt_id = headers.get("x-attempt-id")
    if attempt_id is not None and _IDENTIFIER.fullmatch(attempt_id) is None:
        errors.append(FieldError("X-Attempt-Id", "invalid", _IDENTIFIER_RULE))
    callback_url = headers.get("x-callback-url")
    if callback_url is not None and not _is_callback_url(callback_url):
        errors.append(FieldError("X-Callback-Url", "invalid", "An http or https URL with a host"))
    return attempt_id, callback_url


def _fields_of(body: object) -> dict[str, object]:
    """`[{"i": 4, "v": …}]` and `{"f004": …}` as one shape; unknown fields are left out."""
    if isinstance(body, dict):
        return body
    if not isinstance(body, list):
        raise MalformedError(FieldError("body", "invalid", "A list of {i, v} or an object"))
    return _listed_fields(body)


def _listed_fields(items: Sequence[object]) -> dict[str, object]:
    fields: dict[str, object] = {}
    errors: list[FieldError] = []
    for position, item in enumerate(items):
        index = item.get("i") if isinstance(item, dict) else None
        # bool is an int in Python, but not on the wire.
        if not isinstance(item, dict) or type(index) is not int or not 0 <= index <= 999:
            errors.append(FieldError(f"[{position}].i", "invalid", "An integer from 0 to 999"))
        elif "v" not in item:
            errors.append(FieldError(f"[{position}].v", "required", "The value of the field"))
        elif (name := f"f{index:03}") in fields:
            errors.append(FieldError(name, "duplicate", "The field appears twice"))
        else:
            fields[name] = item["v"]
    if errors:
        raise MalformedError(*errors)
    return fields


def _identifier(fields: Mapping[str, object], name: str, errors: list[FieldError]) -> str:
    value = fields.get(name)
    if value is None or value == "":
        errors.append(FieldError(name, "required", _IDENTIFIER_RULE))
    elif not isinstance(value, str) or _IDENTIFIER.fullmatch(value) is None:
        errors.append(FieldError(name, "invalid", _IDENTIFIER_RULE))
    else:
        return value
    return ""


def _decimal(value: object, name: str, errors: list[FieldError]) -> str:
    text = str(value) if type(value) is int else value
    if value is None or value == "":
        errors.append(FieldError(name, "required", "The amount as a decimal string"))
    elif not isinstance(text, str) or _AMOUNT.fullmatch(text) is None or not Decimal(text):
        errors.append(FieldError(name, "invalid", "A positive decimal string, never a float"))
    else:
        return text
    return ""


def _phone(fields: Mapping[str, object], errors: list[FieldError]) -> str | None:
    value = fields.get("f005")
    if value is None or value == "":
        return None
    if not isinstance(value, str) or _PHONE.fullmatch(value) is None:
        errors.append(FieldError("f005", "invalid", "6 to 15 digits, with or without +"))
        return None
    return value


def _is_callback_url(url: str) -> bool:
    if len(url) > CALLBACK_URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
