"""Callbacks: stored first, verified, deduped, matched by reference; a forgery only asks again."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson
import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.inbox import Permanent
from mospay_shared.contracts import Event, PaymentCallbackV1
from prometheus_client import Counter

from mospay_payment_router.domain.answers import FunctionResult, judge
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.states import Evidence
from mospay_payment_router.storage import attempts, callbacks, payments
from mospay_payment_router.storage.callbacks import Callback
from mospay_payment_router.usecases.believe import Believer, Heard

log = structlog.get_logger()
ENDED = Counter("mospay_router_callbacks", "Callbacks by what became of them", ["state"])
BODY_LIMIT_BYTES = 128 * 1024
SIGNATURE_HEADER = "x-signature"


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
    ) -> None:
        self._database, self._believer = database, believer
        self._secrets, self._schedule = secrets, schedule

    async def match(self, limit: int) -> tuple[int, bool]:
        """Bring due callbacks to an end; return how many, and whether any asks for an enquiry."""
        async with self._database.transaction() as tx:
            due = await callbacks.claim(tx, limit)
        asked = False
        for callback in due:
            async with self._database.transaction() as tx:
                asked |= await self._match(tx, callback)
        return len(due), asked

    async def _match(self, tx: Tx, callback: Callback) -> bool:
        body = _object(callback.body)
        reference = body.get("reference") if body is not None else None
        if body is None or not isinstance(reference, str):
            await self._end(tx, callback, "unmatched", "no reference in a JSON object", None)
            return False
        payment = (await payments.load(tx, [reference])).get(reference)
        if payment is None or payment.microservice != callback.microservice:
            if callback.tries > len(self._schedule):
                await self._end(tx, callback, "unmatched", "no payment has its reference", None)
            else:
                seconds = self._schedule[callback.tries - 1]
                await callbacks.later(tx, callback.id, seconds)
            return False
        if not self._verified(payment, callback):
            await callbacks.ask_now(tx, payment.id)
            await self._end(tx, callback, "asked", "not signed by a known secret", payment.id)
            return True
        await self._apply(tx, callback, payment, body)
        return False

    async def _apply(
        self, tx: Tx, callback: Callback, payment: Payment, body: dict[str, object]
    ) -> None:
        """Believe a verified callback, once for each event of its provider."""
        credential = payment.terms.callback_secret or ""
        key = str(body.get("event_id") or hashlib.sha256(callback.body).hexdigest())[:200]
        row = FunctionResult(callback.body.decode(), None, None, None)
        finding = judge(200, row, payment)
        if finding.evidence is Evidence.UNDEFINED:  # it says nothing that can be believed
            finding = replace(finding, evidence=Evidence.SILENT)
        if not await callbacks.apply_once(
            tx, callback.id, payment.id, credential, key, finding.evidence
        ):
            await self._end(tx, callback, "repeated", "this event was applied before", payment.id)
            return
        ENDED.labels("applied").inc()
        attempt = await attempts.last_id(tx, payment.id)
        await self._believer.believe(tx, [Heard(payment, attempt, callback.id, finding)])

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
