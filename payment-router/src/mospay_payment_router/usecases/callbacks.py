"""Callbacks: stored first, verified, deduped, matched by reference; a forgery only asks again.

A connector that translates its provider's callbacks (`connector.callbacks: "connector"`) is asked
to verify and read them; the others send the simulator's shape, signed with a secret we hold.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.inbox import Permanent
from mospay_shared.contracts import Event, PaymentCallbackV1
from prometheus_client import Counter

from mospay_payment_router.domain import refunds
from mospay_payment_router.domain.answers import Answer, FunctionResult, judge
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.states import Evidence
from mospay_payment_router.storage import attempts, callbacks, payments
from mospay_payment_router.storage import refunds as storage
from mospay_payment_router.storage.callbacks import Callback
from mospay_payment_router.usecases.believe import Believer, Heard
from mospay_payment_router.usecases.refunds import Refunds

log = structlog.get_logger()
ENDED = Counter("mospay_router_callbacks", "Callbacks by what became of them", ["state"])
BODY_LIMIT_BYTES = 128 * 1024
SIGNATURE_HEADER = "x-signature"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a connector made of a raw callback: `body` in our shape, or the `fault`.

    `again` says that the connector could not be asked properly: another time it may.
    """

    body: dict[str, object] | None = None
    verified: bool = False
    fault: str | None = None
    again: bool = False


def read_reading(answer: Answer) -> Reading:
    """Return what a connector's answer says of a callback; it never raises."""
    if answer.status == 422:
        return Reading(fault="the connector can't read it")
    if answer.status != 200 or answer.body is None:
        said = answer.error or f"HTTP {answer.status}"
        return Reading(fault=f"the connector did not answer: {said}", again=True)
    body = _object(answer.body)
    if body is None:
        return Reading(fault="the connector's answer is no JSON object", again=True)
    return Reading(body=body, verified=body.get("verified") is True)


def translation_request(callback: Callback) -> bytes:
    """Return the JSON a connector gets to verify and read a callback."""
    return orjson.dumps(
        {
            "method": callback.method,
            "headers": callback.headers,
            "body_base64": base64.b64encode(callback.body).decode(),
        }
    )


async def store(tx: Tx, events: Sequence[Event[PaymentCallbackV1]]) -> None:
    """Store callbacks byte for byte; raises Permanent when a body is not what it should be."""
    rows = []
    for one in events:
        try:
            body = base64.b64decode(one.data.body_base64, validate=True)
        except binascii.Error as error:
            raise Permanent("body_base64 is not base64") from error
        if len(body) > BODY_LIMIT_BYTES:
            raise Permanent(f"the callback has {len(body)} bytes, at most {BODY_LIMIT_BYTES}")
        rows.append((one.data, body))
    await callbacks.insert(tx, rows)


class Callbacks:
    """Matches callbacks. `secrets` are by variable name, `schedule` is seconds between tries."""

    def __init__(
        self,
        database: Database,
        believer: Believer,
        secrets: Mapping[str, str],
        schedule: Sequence[float],
        refunds: Refunds,
    ) -> None:
        self._database, self._believer = database, believer
        self._secrets, self._schedule, self._refunds = secrets, schedule, refunds

    async def claim(self, limit: int) -> list[Callback]:
        """Claim callbacks that are due to be matched."""
        async with self._database.transaction() as tx:
            return await callbacks.claim(tx, limit)

    async def match(self, callback: Callback, reading: Reading | None) -> bool:
        """Bring a callback to an end, or put it off; return whether it asks for an enquiry.

        `reading` is the connector's; None where the callback is in our own shape.
        """
        async with self._database.transaction() as tx:
            if reading is not None and reading.fault is not None:
                await self._put_off(tx, callback, reading.fault, again=reading.again)
                return False
            body = _object(callback.body) if reading is None else reading.body
            return await self._match(tx, callback, body, reading)

    async def _put_off(self, tx: Tx, callback: Callback, reason: str, *, again: bool) -> None:
        if not again or callback.tries > len(self._schedule):
            await self._end(tx, callback, "unmatched", reason, None)
        else:
            await callbacks.later(tx, callback.id, self._schedule[callback.tries - 1])

    async def _match(
        self,
        tx: Tx,
        callback: Callback,
        body: dict[str, object] | None,
        reading: Reading | None,
    ) -> bool:
        reference = body.get("reference") if body is not None else None
        if body is None or not isinstance(reference, str):
            await self._put_off(tx, callback, "no reference in a JSON object", again=False)
            return False
        refund_id = reference if reference.startswith("ref_") else None
        payment_id = await storage.payment_id_of(tx, refund_id) if refund_id else reference
        found = await payments.load(tx, [payment_id] if payment_id else [])
        payment = found.get(payment_id or "")
        if payment is None or payment.provider != callback.microservice:
            await self._put_off(tx, callback, "no payment has its reference", again=True)
            return False
        verified = self._verified(payment, callback) if reading is None else reading.verified
        if not verified:
            await self._ask(tx, payment.id, refund_id)
            await self._end(tx, callback, "asked", "not signed by a known secret", payment.id)
            return True
        await self._apply(tx, callback, payment, refund_id, body)
        return False

    async def _apply(
        self,
        tx: Tx,
        callback: Callback,
        payment: Payment,
        refund_id: str | None,
        body: dict[str, object],
    ) -> None:
        """Believe a verified callback, once for each event of its provider."""
        credential = payment.terms.callback_secret or f"connector:{callback.microservice}"
        key = str(body.get("event_id") or hashlib.sha256(callback.body).hexdigest())[:200]
        row = FunctionResult(orjson.dumps(body).decode(), None, None, None)
        subject = payment
        if refund_id is not None:
            refund = (await storage.lock(tx, [refund_id]))[refund_id]
            subject = refunds.subject(refund, payment)
        finding = judge(200, row, subject)
        if finding.evidence is Evidence.UNDEFINED:  # it says nothing that can be believed
            finding = replace(finding, evidence=Evidence.SILENT)
        if not await callbacks.apply_once(
            tx, callback.id, payment.id, credential, key, finding.evidence
        ):
            await self._end(tx, callback, "repeated", "this event was applied before", payment.id)
            return
        ENDED.labels("applied").inc()
        if finding.evidence is Evidence.PENDING:  # something happened there: look what
            await self._ask(tx, payment.id, refund_id)
        if refund_id is not None:
            await self._refunds.believe_in(tx, refund_id, payment.id, callback.id, finding)
            return
        attempt = await attempts.last_id(tx, payment.id)
        await self._believer.believe(tx, [Heard(payment, attempt, callback.id, finding)])

    async def _ask(self, tx: Tx, payment_id: str, refund_id: str | None) -> None:
        if refund_id is not None:
            await storage.ask_now(tx, refund_id)
        else:
            await callbacks.ask_now(tx, payment_id)

    async def _end(
        self, tx: Tx, callback: Callback, state: str, reason: str, payment_id: str | None
    ) -> None:
        await callbacks.end(tx, callback.id, state, reason, payment_id)
        ENDED.labels(state).inc()
        if state == "unmatched":
            log.warning("callback_unmatched", callback_id=callback.id, reason=reason)

    def _verified(self, payment: Payment, callback: Callback) -> bool:
        """Check the hex HMAC-SHA256 of the raw body with the secret pinned on the payment."""
        secret = self._secrets.get(payment.terms.callback_secret or "")
        given = {k.lower(): v for k, v in callback.headers.items()}.get(SIGNATURE_HEADER, "")
        if not secret or not given:
            return False
        wanted = hmac.new(secret.encode(), callback.body, "sha256").hexdigest()
        return hmac.compare_digest(wanted.encode(), given.lower().encode())


def _object(body: bytes) -> dict[str, object] | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
