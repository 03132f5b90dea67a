"""Paying invoices over HTTP: start a payment, look at its intents, make and end links, methods."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from mospay_shared.ids import is_id
from mospay_shared.money import MAX_MINOR
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from mospay_ledger.domain.invoices import InvoiceError
from mospay_ledger.domain.paying import (
    Intent,
    LinkMissing,
    Method,
    NoMethod,
    PayingError,
    PaymentRefused,
    Tenant,
    UnderWay,
    Wish,
    WrongAmount,
)
from mospay_ledger.routes.billing import READ, WRITE, Cursor, Id, seen_by, view_of
from mospay_ledger.routes.common import EXAMPLE_TIME, Limit
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import intents
from mospay_ledger.storage import links as link_rows
from mospay_ledger.usecases import links
from mospay_ledger.usecases.paying import Till

_TAIL = "019aa51c0000700080000000000000"
EXAMPLE_INVOICE, EXAMPLE_INTENT = f"inv_{_TAIL}01", f"int_{_TAIL}02"
EXAMPLE_LINK, EXAMPLE_ISSUER = f"lnk_{_TAIL}03", f"iss_{_TAIL}04"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,40}$")]
Route = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,63}$")]
Phone = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]
NEWEST = "~"  # above every id
LINK_DAYS_LIMIT = 3650


class PayBody(BaseModel):
    """A wish to pay an invoice; without an amount all that is open, without a service the first."""

    model_config = ConfigDict(extra="forbid")

    phone: Phone = Field(description="The payer, E.164", examples=["+250780000000"])
    amount_minor: int | None = Field(None, gt=0, le=MAX_MINOR, examples=[5000])
    service: Name | None = Field(None, examples=["collection"])
    microservice: Name | None = Field(None, examples=[None])
    route: Route = Field("payment", examples=["payment"])


class IntentBody(BaseModel):
    """A payment of an invoice that is made once; its id is the payment's key and reference.

    `open`: sent, or about to be, and not accepted yet. `posted`: accepted, not ended. Ends:
    `succeeded`, `failed`, `released` (never accepted, and proven so).
    """

    id: str = Field(examples=[EXAMPLE_INTENT])
    invoice_id: str = Field(examples=[EXAMPLE_INVOICE])
    state: Literal["open", "posted", "succeeded", "failed", "released"] = Field(examples=["posted"])
    amount_minor: int = Field(examples=[5000])
    currency: str = Field(examples=["RWF"])
    service: str = Field(examples=["collection"])
    phone_masked: str = Field(examples=["**********000"])
    payment_id: str | None = Field(None, examples=[f"pay_{_TAIL}05"])
    payment_status: str | None = Field(None, examples=["processing"])
    reason_code: str | None = Field(None, examples=[None])
    reason_message: str | None = Field(None, examples=[None])
    tries: int = Field(examples=[1])
    not_after: dt.datetime = Field(examples=[EXAMPLE_TIME])
    created_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    ended_at: dt.datetime | None = Field(None, examples=[None])


class Intents(BaseModel):
    """A page of intents, newest first; `next_cursor` is null at the end."""

    items: list[IntentBody]
    next_cursor: str | None = Field(examples=[None])


class NewLink(BaseModel):
    """A guest link to make; by default it lives as long as the settings say."""

    model_config = ConfigDict(extra="forbid")

    expires_at: AwareDatetime | None = Field(None, examples=[EXAMPLE_TIME])
    purpose: Literal["shared", "mailed"] = Field("shared", examples=["shared"])


class LinkBody(BaseModel):
    """A guest link without its token, of which only a hash is kept."""

    id: str = Field(examples=[EXAMPLE_LINK])
    invoice_id: str = Field(examples=[EXAMPLE_INVOICE])
    purpose: str = Field(examples=["shared"])
    expires_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    revoked_at: dt.datetime | None = Field(None, examples=[None])
    uses: int = Field(examples=[0])
    last_used_at: dt.datetime | None = Field(None, examples=[None])
    created_by: str | None = Field(None, examples=["usr_a"])
    created_at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class MadeLink(LinkBody):
    """A new link with its token, shown this once: `/i/{token}` on the portal."""

    token: str = Field(examples=["uN5vZ0m2qFh8x1c7Jr4kT9bW3yLpE6aD"])


class Links(BaseModel):
    """A page of links, newest first; `next_cursor` is null at the end."""

    items: list[LinkBody]
    next_cursor: str | None = Field(examples=[None])


class MethodBody(BaseModel):
    """A way to pay: a service assigned to the merchant, and what payers call it."""

    model_config = ConfigDict(extra="forbid")

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field(examples=["RWF"])
    service: Name = Field(examples=["collection"])
    microservice: Name | None = Field(None, examples=[None])
    route: Route = Field("payment", examples=["payment"])
    label: Annotated[
        str, StringConstraints(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")
    ] = Field(examples=["Mobile money"])


class Methods(BaseModel):
    """All ways to pay an issuer, the first of a currency is the default."""

    model_config = ConfigDict(extra="forbid")

    methods: list[MethodBody] = Field(max_length=20)


def _field(name: str, code: str, message: str) -> Problem:
    fault = FieldProblem(field=name, code=code, message=message)
    return Problem(422, code, "The request is not valid", errors=[fault])


@asynccontextmanager
async def paying_refusals() -> AsyncIterator[None]:
    """Turn what paying refuses into problems; what is under way is named."""
    try:
        yield
    except UnderWay as error:
        title = "A payment of this invoice is under way; wait for its end"
        more = {"intent_id": error.intent_id}
        raise Problem(409, error.code, title, extra=more) from error
    except WrongAmount as error:
        raise _field("amount_minor", error.code, str(error.args[0])) from error
    except NoMethod as error:
        raise _field("service", error.code, str(error.args[0])) from error
    except PaymentRefused as error:
        faults = [FieldProblem(field=f.field, code=f.code, message=f.message) for f in error.faults]
        title = "The payment was not accepted"
        raise Problem(422, error.code, title, detail=error.message, errors=faults) from error
    except LinkMissing as error:
        raise Problem(404, "not_found", "There is no such link") from error
    except PayingError as error:
        raise Problem(409, error.code, "Nothing of this invoice is open to be paid") from error
    except InvoiceError as error:
        raise Problem(404, "not_found", "There is no such invoice") from error


def intent_body(intent: Intent) -> IntentBody:
    """Return an intent as it is shown."""
    return IntentBody(**{name: getattr(intent, name) for name in IntentBody.model_fields})


def _whose(caller: Caller) -> Tenant:
    """Return whose invoices a caller may pay; raises Problem 403 for a token that names nobody."""
    if caller.operator:
        return Tenant(mode=caller.mode or "")
    if not caller.client_id or caller.mode not in ("live", "test"):
        raise Problem(403, "tenant_missing", "The token must name a client and a mode")
    return Tenant(caller.client_id, caller.mode, caller.customer_id or "")


def _expiry(given: dt.datetime | None, settings: LedgerSettings) -> dt.datetime:
    """Return when a link ends; raises Problem 422 for a time that is past or absurd."""
    now = dt.datetime.now(dt.UTC)
    if given is None:
        return now + dt.timedelta(days=settings.link_days)
    latest = now + dt.timedelta(days=LINK_DAYS_LIMIT)
    if not now < given <= latest:
        raise _field("expires_at", "out_of_range", "must be later than now, within ten years")
    return given.astimezone(dt.UTC)


def _next(rows: list[Any], limit: int) -> str | None:
    return str(rows[limit - 1]["id"]) if len(rows) > limit else None


def add(routes: APIRouter, service: Service, settings: LedgerSettings, till: Till) -> None:
    """Add the routes."""
    _add_payments(routes, service, till)
    _add_links(routes, service, settings)
    _add_methods(routes, service)


def _add_payments(routes: APIRouter, service: Service, till: Till) -> None:
    payer = service.verifier.needs("invoices:pay")
    reader = service.verifier.needs(READ)

    @routes.post("/invoices/{invoice_id}/pay", status_code=202)
    async def pay(invoice_id: Id, body: PayBody, caller: Caller = Depends(payer)) -> IntentBody:
        """Start paying an invoice and lock it until that has ended.

        409 while another payment of it is under way (`intent_id`), or nothing of it is open.
        """
        wish = Wish(**body.model_dump())
        async with paying_refusals():
            intent = await till.pay(invoice_id, wish, _whose(caller), by=caller.actor)
        return intent_body(intent)

    @routes.get("/invoices/{invoice_id}/intents")
    async def intents_of(
        invoice_id: Id, caller: Caller = Depends(reader), cursor: Cursor = "", limit: Limit = 50
    ) -> Intents:
        """The payments of an invoice that were started, newest first."""
        async with seen_by(service, caller) as tx:
            rows = await intents.of_invoice(tx, invoice_id, cursor or NEWEST, limit + 1)
        more = rows[limit - 1].id if len(rows) > limit else None
        return Intents(items=[intent_body(row) for row in rows[:limit]], next_cursor=more)

    @routes.get("/intents/{intent_id}")
    async def one(intent_id: Id, caller: Caller = Depends(reader)) -> IntentBody:
        """One intent, as far as it is known here."""
        async with seen_by(service, caller) as tx:
            found = await intents.find(tx, intent_id) if is_id(intent_id, "int") else None
        if found is None:
            raise Problem(404, "not_found", "There is no such intent")
        return intent_body(found)


def _add_links(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    sharer = service.verifier.needs("invoices:share")
    reader = service.verifier.needs(READ)

    @routes.post("/invoices/{invoice_id}/links", status_code=201)
    async def make(invoice_id: Id, body: NewLink, caller: Caller = Depends(sharer)) -> MadeLink:
        """Make a guest link to an issued invoice; its token is in this answer and nowhere else."""
        view, expires_at = view_of(caller), _expiry(body.expires_at, settings)
        async with paying_refusals(), service.database.transaction() as tx:
            token, row = await links.make(
                tx,
                invoice_id,
                client_id=view.client_id or "",
                mode=view.mode or "",
                purpose=body.purpose,
                expires_at=expires_at,
                by=caller.actor,
            )
        return MadeLink(**dict(row), token=token)

    @routes.get("/invoices/{invoice_id}/links")
    async def links_of(
        invoice_id: Id, caller: Caller = Depends(reader), cursor: Cursor = "", limit: Limit = 50
    ) -> Links:
        """The links of an invoice, newest first, ended ones too."""
        async with seen_by(service, caller) as tx:
            rows = await link_rows.of_invoice(tx, invoice_id, cursor or NEWEST, limit + 1)
        items = [LinkBody(**dict(row)) for row in rows[:limit]]
        return Links(items=items, next_cursor=_next(list(rows), limit))

    @routes.post("/links/{link_id}/revoke")
    async def revoke(link_id: Id, caller: Caller = Depends(sharer)) -> LinkBody:
        """End a link at once and for ever; ending it again changes nothing."""
        view = view_of(caller)
        async with service.database.transaction() as tx:
            row = await link_rows.revoke(tx, link_id, view.client_id or "", view.mode or "")
        if row is None:
            raise Problem(404, "not_found", "There is no such link")
        return LinkBody(**dict(row))


def _add_methods(routes: APIRouter, service: Service) -> None:
    writer = service.verifier.needs(WRITE)
    reader = service.verifier.needs(READ)

    @routes.get("/issuers/{issuer_id}/payment-methods")
    async def methods(issuer_id: Id, caller: Caller = Depends(reader)) -> Methods:
        """The ways payers may choose from, by currency and order."""
        async with seen_by(service, caller) as tx:
            rows = await intents.methods_of(tx, issuer_id)
        return Methods(methods=[MethodBody(**dict(row)) for row in rows[:20]])

    @routes.put("/issuers/{issuer_id}/payment-methods")
    async def keep(issuer_id: Id, body: Methods, caller: Caller = Depends(writer)) -> Methods:
        """Make these the only ways to pay an issuer, in this order; whatever is under way goes on.

        Whether a service takes payments is known when it is asked: a wrong name is refused then.
        """
        wanted = [
            (m.currency, Method(m.service, m.microservice, m.route, m.label)) for m in body.methods
        ]
        if len({(c, m.service, m.route) for c, m in wanted}) < len(wanted):
            raise _field("methods", "repeated", "names a service twice in one currency")
        view = view_of(caller)
        async with service.database.transaction() as tx:
            issuer = await intents.lock_issuer(tx, issuer_id, view.client_id or "", view.mode or "")
            if issuer is None:
                raise Problem(404, "not_found", "There is no such issuer")
            await intents.keep_methods(tx, issuer, wanted)
        return body
