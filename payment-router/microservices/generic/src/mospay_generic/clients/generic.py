"""The provider that the description describes."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from mospay_generic.clients.wire import Api
from mospay_generic.domain.description import Description, Operation, Signature
from mospay_generic.domain.generic import dig, fill, fill_all, fill_headers, judge, tell, values_of
from mospay_generic.domain.protocol import (
    Answer,
    CallbackBody,
    MalformedError,
    Order,
    Told,
    UnsendableError,
    text,
    unknown,
)
from mospay_generic.settings import Credentials, Settings
from mospay_generic.storage import Record


def read_description(path: Path) -> Description:
    """Read a description file; raises pydantic's ValidationError naming what is wrong."""
    return Description.model_validate(json.loads(path.read_text()))


class Provider(Api):
    """Any HTTP and JSON API, as the router's protocol wants it: one call a method."""

    def __init__(self, settings: Settings, record: Record) -> None:
        path = settings.description_path
        self._description = None if path is None else read_description(path)
        base_url = settings.base_url or (self._description and self._description.base_url)
        super().__init__(str(base_url or ""), settings.timeout_seconds)
        self._record = record

    async def __aenter__(self) -> Self:
        if self._description is None:
            raise RuntimeError("GENERIC_DESCRIPTION_PATH is not set")
        return await super().__aenter__()

    async def pay(self, order: Order, credentials: Credentials) -> Answer:
        """Make the call described as `payment`."""
        return await self._start(self._described.payment, order, credentials)

    async def refund(self, order: Order, credentials: Credentials) -> Answer:
        """Make the call described as `refund`."""
        if self._described.refund is None:
            raise UnsendableError("this provider's refunds are not described")
        return await self._start(self._described.refund, order, credentials)

    async def enquire(self, order: Order, credentials: Credentials) -> Answer:
        """Make the call described as `enquiry`."""
        return await self._ask(self._described.enquiry, order, credentials)

    async def track(self, order: Order, credentials: Credentials) -> Answer:
        """Make the call described as `refund_enquiry`."""
        if self._described.refund_enquiry is None:
            return unknown(order, "this provider's refund enquiry is not described")
        return await self._ask(self._described.refund_enquiry, order, credentials)

    async def read(self, callback: CallbackBody, credentials: Credentials) -> Told:
        """Verify the described signature over the raw body, and translate."""
        described = self._described.callback
        if described is None:
            raise MalformedError(body_base64="this provider's callbacks are not described")
        raw, body = callback.raw(), callback.read_object()
        reference = text(dig(body, described.answer.reference))
        refund = text(dig(body, described.kind)) in described.refund_kinds
        # Where the provider does not repeat our reference, its own name of the payment is known.
        if reference is None:
            named = text(dig(body, described.answer.provider_reference))
            known = await self._record.find_handle(named)
            reference = known.reference if known is not None else None
        order = Order("refund" if refund else "payment", reference or "")
        order = Order(order.kind, order.reference, known=await self._known(order))
        answer = judge(order, body, described.answer, self._described)
        return Told(
            **answer.model_dump(include=set(Told.model_fields) - {"reference"}),
            verified=_is_signed(described.signature, callback, raw, credentials.webhook_secret),
            kind="refund" if refund else "payment",
            reference=reference,
            event_id=text(dig(body, described.event_id)) or hashlib.sha256(raw).hexdigest(),
        )

    @property
    def _described(self) -> Description:
        assert self._description is not None, "nothing is served without one"
        return self._description

    async def _known(self, order: Order) -> Any:
        return await self._record.find(order.kind, order.reference)

    async def _start(self, wanted: Operation, order: Order, credentials: Credentials) -> Answer:
        return await self._call(wanted, order, credentials, enquiry=False)

    async def _ask(self, wanted: Operation, order: Order, credentials: Credentials) -> Answer:
        return await self._call(wanted, order, credentials, enquiry=True)

    async def _call(
        self, wanted: Operation, order: Order, credentials: Credentials, *, enquiry: bool
    ) -> Answer:
        values = {**values_of(order, self._described), **_account(credentials)}
        parts: dict[str, Any] = {
            "headers": fill_headers(wanted.headers, values),
            "params": fill_all(wanted.query, values) or None,
        }
        if wanted.body is not None:
            parts["json"] = fill_all(wanted.body, values)
        path = fill(wanted.path, values, path=True).removeprefix("/")
        reply = await self.call(wanted.method, path, **parts)
        if reply.never_sent and not enquiry:
            raise UnsendableError(reply.error)
        outcome = wanted.http.get(str(reply.status))
        if outcome == "not_found":
            found = False if enquiry else None
            return unknown(order, "the provider has no such payment", "not_found", found)
        if outcome is not None:
            return tell(order, reply.body, wanted.answer, self._described, outcome)
        if not reply.ok:
            return unknown(order, reply.error)
        return judge(order, reply.body, wanted.answer, self._described)


def _account(credentials: Credentials) -> dict[str, str | None]:
    """Return what templates may name of the account; `basic` is that of HTTP."""
    found: dict[str, str | None] = {}
    for name in Credentials.model_fields:
        value = getattr(credentials, name)
        found[name] = value.get_secret_value() if isinstance(value, SecretStr) else value
    pair = f"{found['username']}:{found['password']}"
    known = found["username"] is not None and found["password"] is not None
    return {**found, "basic": base64.b64encode(pair.encode()).decode() if known else None}


def _is_signed(
    signature: Signature | None, callback: CallbackBody, raw: bytes, secret: SecretStr | None
) -> bool:
    if signature is None or secret is None:
        return False
    given = callback.headers.get(signature.header, "")
    made = hmac.new(secret.get_secret_value().encode(), raw, signature.algorithm)
    wanted = (
        made.hexdigest()
        if signature.encoding == "hex"
        else base64.b64encode(made.digest()).decode()
    )
    return hmac.compare_digest((signature.prefix + wanted).encode(), given.encode())
