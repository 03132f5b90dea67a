"""`/v1/payments`: create with an Idempotency-Key, get one, list."""

from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from mospay_shared.contracts import PaymentStatus
from mospay_shared.ids import is_id
from mospay_shared.money import MAX_MINOR
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mospay_gateway.domain.drafts import BASE_CODES, CODE, Entry, text_faults
from mospay_gateway.domain.errors import Fault, InvalidRequest, NotFound
from mospay_gateway.domain.idempotency import KEY_PATTERN, read_key
from mospay_gateway.domain.payments import Payment
from mospay_gateway.domain.times import Instant
from mospay_gateway.routes.accepting import Incoming, accept
from mospay_gateway.routes.answers import PROBLEM_DOCS, json_response
from mospay_gateway.routes.parts import Parts, now, read_object, shape_faults, wait_seconds
from mospay_gateway.storage.payments import Filter
from mospay_gateway.usecases.reading import list_payments, read_payment

TAGS: list[str | Enum] = ["payments"]
OPERATION = "POST /v1/payments"
FIELD_FILTERS = 5  # in one list: each is an index probe
NAMES = {
    "f000": "microservice", "f001": "service", "f002": "route", "f004": "amount_minor",
    "f005": "phone", "f010": "reference", "*": "fields.{}",
}  # fmt: skip
_INSTEAD = {"f003": "the credentials' App ID", **{c: n for c, n in NAMES.items() if c != "*"}}
Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$")]


def header_parameter(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    """Describe a request header for the document."""
    schema: dict[str, Any] = {"type": "string", "maxLength": 255}
    if name == "Idempotency-Key":
        schema |= {"minLength": 1, "pattern": KEY_PATTERN}
    return {
        "name": name, "in": "header", "required": required, "description": description,
        "schema": schema,
    }  # fmt: skip


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Describe a request body for the document; it is read by hand, all faults at once."""
    schema = model.model_json_schema()
    return {"required": required, "content": {"application/json": {"schema": schema}}}


class CreatePayment(BaseModel):
    """A payment to be made. Amounts are integer minor units of the service's currency."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "service": "collection",
                    "route": "payment",
                    "amount_minor": 25000,
                    "currency": "RWF",
                    "phone": "+250780000000",
                    "reference": "order-10042",
                    "customer_id": "cust_7",
                    "product_name": "Tea, 1 kg",
                    "metadata": {"branch": "Kimironko"},
                }
            ]
        },
    )

    service: Name = Field(description="Name of a service assigned to you (f001)")
    microservice: Name | None = Field(
        None, description="Its microservice (f000); only needed when two services share a name"
    )
    route: str = Field(pattern=r"^[A-Za-z0-9_]{1,63}$", description="Operation (f002)")
    amount_minor: int = Field(gt=0, le=MAX_MINOR)
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 4217; the service's own")
    phone: str | None = Field(None, max_length=32, description="The payer, E.164 (f005)")
    reference: Text = Field(description="Your own id of this payment (f010); unique for ever")
    customer_id: Text | None = None
    product_id: Text | None = None
    product_name: Text | None = None
    fields: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=dict,
        max_length=60,
        description="Further fields by code: f006…f009 and those the service defines (f011…)",
    )
    metadata: dict[
        Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]*$")],
        Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")],
    ] = Field(default_factory=dict, max_length=50)


class PaymentObject(BaseModel):
    """A payment. `status` moves forward only; `version` rises with every change."""

    id: str = Field(examples=["pay_019aa6d4c0de7b3f8a5b0c1d2e3f4a5b"])
    object: str = "payment"
    status: PaymentStatus
    version: int
    mode: str
    app_id: str
    microservice: str
    service: str
    route: str
    amount_minor: int
    currency: str
    phone: str | None = Field(description="Masked to its last three digits")
    reference: str
    customer_id: str | None
    product_id: str | None
    product_name: str | None
    fields: dict[str, str] = Field(
        description="f006, f009 and those the service defines; secrets never, masked ones masked"
    )
    metadata: dict[str, str]
    provider_reference: str | None
    reason_code: str | None
    reason_message: str | None
    late: bool = Field(description="Succeeded after it had failed or expired")
    retry_of: str | None = Field(description="The payment this one is a retry of")
    refunded_minor: int = Field(description="Given back with proof")
    refunds_open_minor: int = Field(description="Asked to be given back and not decided yet")
    cancel_requested_at: AwareDatetime | None
    accepted_at: AwareDatetime
    updated_at: AwareDatetime


class PaymentPage(BaseModel):
    """Payments, newest first. `next_cursor` is null on the last page."""

    items: list[PaymentObject]
    next_cursor: str | None


class ListQuery(BaseModel):
    """What a list is narrowed to."""

    model_config = ConfigDict(extra="allow")  # `field.f011=…`; anything else is refused below
    status: str | None = Field(None, max_length=200, examples=["succeeded,failed"])
    service: Name | None = None
    reference: Text | None = None
    since: Instant | None = Field(None, alias="from", description="accepted at or after")
    until: Instant | None = Field(None, alias="to", description="accepted before")
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=60)


def read_entry(body: dict[str, Any]) -> Entry:
    """Read the shape of a body; its faults are in the entry, and what is sound can be read on."""
    entry = Entry(values={}, names=NAMES)
    wrong: set[str] = set()
    try:
        sound = CreatePayment.model_validate(body)
    except ValidationError as error:
        entry.faults.extend(shape_faults(error))
        wrong = {str(fault["loc"][0]) for fault in error.errors(include_input=False)}
        rest = {k: v for k, v in body.items() if k not in wrong and k in CreatePayment.model_fields}
        sound = CreatePayment.model_construct(**rest)
    given = sound.__dict__
    for code, name in NAMES.items():
        value = given.get(name)
        if isinstance(value, str) and code != "*":
            entry.values[code] = value
    entry.amount_minor, entry.currency = given.get("amount_minor"), given.get("currency")
    entry.customer_id, entry.product_id = given.get("customer_id"), given.get("product_id")
    entry.product_name, entry.metadata = given.get("product_name"), given.get("metadata") or {}
    for code, value in (given.get("fields") or {}).items():
        if code in _INSTEAD:
            entry.fault_at(f"fields.{code}", "not_here", f"is taken from {_INSTEAD[code]}")
        elif not CODE.fullmatch(code):
            entry.fault_at(f"fields.{code}"[:100], "unknown_field", "is not a field code (f006…)")
        else:
            entry.values[code] = value
    return entry


def fingerprint_source(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body as its fingerprint sees it: nulls and f007/f008 left out."""
    kept = {key: value for key, value in body.items() if value is not None}
    fields = kept.get("fields")
    if isinstance(fields, dict):
        kept["fields"] = {k: v for k, v in fields.items() if k not in ("f007", "f008")}
    return kept


def answer(payment: Payment, *, replayed: bool = False) -> Response:
    """Return a payment: 200 when it has ended, else 202 with where to look and when."""
    headers = {"Location": f"/v1/payments/{payment.id}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    if not payment.final:
        headers["Retry-After"] = "1"
    return json_response(payment.view(), 200 if payment.final else 202, headers)


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""

    @routes.post(
        "/v1/payments",
        tags=TAGS,
        status_code=202,
        responses={
            200: {"model": PaymentObject, "description": "Ended while the request waited"},
            202: {"model": PaymentObject, "description": "Accepted; see Location"},
            **PROBLEM_DOCS,
        },
        openapi_extra={
            "parameters": [
                header_parameter(
                    "Idempotency-Key", "A fresh one for every new payment", required=True
                ),
                header_parameter("Prefer", "`wait=n`: hold the request up to n seconds (≤ 120)"),
            ],
            "requestBody": json_body(CreatePayment),
        },
    )
    async def create_payment(request: Request) -> Response:
        """Accept a payment.

        It is on record before the answer. The same key with the same body answers with the same
        payment (`Idempotent-Replayed: true`); with another body, or a reference that was used
        before with another body, 422.
        """
        received_at = now()
        caller = parts.identify(request)
        key = read_key(request.headers.get("idempotency-key"))
        body = await read_object(request)
        incoming = Incoming(
            caller,
            read_entry(body),
            OPERATION,
            key,
            parts.fingerprints.of_body(fingerprint_source(body)),
            received_at,
        )
        payment, replayed = await accept(parts, request, incoming, wait_seconds(request, 0.0))
        return answer(payment, replayed=replayed)

    @routes.get(
        "/v1/payments/{payment_id}", tags=TAGS, response_model=PaymentObject, responses=PROBLEM_DOCS
    )
    async def get_payment(payment_id: str, request: Request) -> Response:
        """One payment; while it has not ended, the router is asked for its latest word."""
        caller = parts.identify(request)
        if not is_id(payment_id, "pay"):
            raise NotFound("There is no such payment among yours")
        payment = await read_payment(parts.database, caller, payment_id)
        request.state.payment_id = payment.id
        return json_response((await parts.freshest(payment)).view())

    @routes.get("/v1/payments", tags=TAGS, response_model=PaymentPage, responses=PROBLEM_DOCS)
    async def get_payments(query: Annotated[ListQuery, Query()], request: Request) -> Response:
        """Your payments, newest first."""
        caller = parts.identify(request)
        wanted = _filter(parts, caller.app_id, caller.mode, query)
        items, cursor = await list_payments(parts.database, caller, wanted)
        return json_response({"items": [p.view() for p in items], "next_cursor": cursor})


def _filter(parts: Parts, app_id: str, mode: str, query: ListQuery) -> Filter:
    fields = _field_filter(query.model_extra or {})
    statuses = query.status.split(",") if query.status else None
    known = {status.value for status in PaymentStatus}
    if statuses and not known.issuperset(statuses):
        message = "must be of: " + ", ".join(sorted(known))
        raise InvalidRequest([Fault("status", "unknown_status", message)])
    if query.cursor is not None and not is_id(query.cursor, "pay"):
        raise InvalidRequest([Fault("cursor", "invalid_cursor", "is not a cursor of ours")])
    reference_hash = None
    if query.reference is not None:
        reference_hash = parts.fingerprints.of_reference(app_id, mode, query.reference)
    return Filter(
        before=query.cursor,
        statuses=statuses,
        service=query.service,
        since=query.since,
        until=query.until,
        reference_hash=reference_hash,
        fields=fields or None,
        limit=query.limit,
    )


def _field_filter(given: dict[str, Any]) -> dict[str, str]:
    """Read `field.f011=value`; every other parameter is a fault."""
    fields: dict[str, str] = {}
    faults: list[Fault] = []
    for name, value in given.items():
        code = name.removeprefix("field.")
        if code == name:
            message = "is not a parameter of this request"
            faults.append(Fault(name[:100], "extra_forbidden", message))
        elif not CODE.fullmatch(code) or code in BASE_CODES:
            message = "must be field.f011 or another field the service defines"
            faults.append(Fault(name[:100], "unknown_field", message))
        elif not isinstance(value, str) or not value or text_faults(code, value):
            message = "must be one value of 1 to 255 characters"
            faults.append(Fault(name, "invalid_value", message))
        else:
            fields[code] = value
    if faults or len(fields) > FIELD_FILTERS:
        too_many = Fault("field", "too_many_fields", f"at most {FIELD_FILTERS} field filters")
        raise InvalidRequest(faults or [too_many])
    return fields
