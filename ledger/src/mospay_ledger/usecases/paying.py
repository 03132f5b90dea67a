"""Paying an invoice: lock it with an intent, send the intent with its one key, end it by proof.

A crash anywhere leaves an intent that is due: whoever claims it sends the same key again, or asks
the gateway what the key was used for. Nothing is released by time alone.
"""

import asyncio
import datetime as dt
from collections.abc import Sequence

import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.sealed import SealBroken, Sealer
from mospay_shared.contracts import Event, PaymentEventV1, SealedSecrets
from mospay_shared.ids import is_id, new_id
from prometheus_client import Counter

from mospay_ledger.clients import GatewayClient
from mospay_ledger.domain import paying
from mospay_ledger.domain.invoices import InvoiceMissing
from mospay_ledger.domain.paying import (
    LIVE,
    Absent,
    Accepted,
    Answer,
    Intent,
    Method,
    News,
    NoMethod,
    PaymentRefused,
    Refused,
    Tenant,
    Unclear,
    Wish,
)
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import intents
from mospay_ledger.usecases import invoices

log = structlog.get_logger()
ENDED = Counter("mospay_ledger_intents_ended", "Payments of invoices that ended", ["state", "mode"])
SENT = Counter("mospay_ledger_intents_sent", "Sendings of intents by what came of it", ["answer"])


class Till:
    """Takes payments of invoices: what starts, sends, sweeps and ends intents."""

    def __init__(
        self,
        database: Database,
        relay: Relay,
        gateway: GatewayClient,
        sealer: Sealer,
        settings: LedgerSettings,
    ) -> None:
        self._database, self._relay, self._gateway = database, relay, gateway
        self._sealer, self._operator = sealer, settings.operator_client_id
        self._lease = dt.timedelta(seconds=settings.intent_lease_seconds)
        self._window = dt.timedelta(seconds=settings.intent_seconds)
        self._absence = dt.timedelta(seconds=settings.absence_seconds)
        self._check = dt.timedelta(seconds=settings.intent_check_seconds)
        self._limit = settings.intent_limit

    async def pay(self, invoice_id: str, wish: Wish, whose: Tenant, *, by: str | None) -> Intent:
        """Start paying a tenant's invoice and send it once; return the intent.

        Raises InvoiceMissing, NotPayable, UnderWay, WrongAmount, NoMethod, PaymentRefused.
        """
        intent = await self.start(invoice_id, wish, whose, by=by)
        return await self._recorded(intent, await self._send(intent, wish.phone))

    async def start(self, invoice_id: str, wish: Wish, whose: Tenant, *, by: str | None) -> Intent:
        """Lock an invoice with a new intent, which is due when its lease ends."""
        async with self._database.transaction() as tx:
            invoice = await intents.lock_invoice(tx, invoice_id, whose)
            if invoice is None:
                raise InvoiceMissing("there is no such invoice")
            amount_minor = paying.payable_minor(
                status=invoice["status"],
                locked_by=invoice["locked_by"],
                open_minor=invoice["open_minor"],
                allow_partial=invoice["allow_partial"],
                wish=wish.amount_minor,
            )
            merchant_id = invoice["client_id"] or self._operator
            if not merchant_id:
                raise NoMethod("the operator takes no payments online here")
            intent_id = new_id("int")
            new = intents.NewIntent(
                id=intent_id,
                merchant_id=merchant_id,
                amount_minor=amount_minor,
                method=await _method(tx, invoice["issuer_id"], invoice["currency"], wish),
                sealed=self._sealer.seal({"phone": wish.phone}, intent_id),
                phone_masked=paying.mask(wish.phone),
                link_id=wish.link_id,
                created_by=by,
                lease=self._lease,
                window=self._window,
            )
            intent = await intents.insert(tx, invoice, new)
        log.info("intent_opened", intent_id=intent.id, invoice_id=invoice_id)
        return intent

    async def sweep(self) -> int:
        """Go on with intents that are due: send again, ask, or release; return how many."""
        async with self._database.transaction() as tx:
            due = await intents.claim(tx, self._lease, self._limit)
        results = await asyncio.gather(
            *(self._go_on(intent, sealed) for intent, sealed in due), return_exceptions=True
        )
        for (intent, _), result in zip(due, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, PaymentRefused):
                log.error("intent_not_swept", intent_id=intent.id, exc_info=result)
        return len(due)

    async def on_outcomes(self, tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        """End the intents these events are about; payments without one are not looked at."""
        news = [
            News(
                body.reference,
                body.client_id,
                body.mode,
                body.currency,
                Accepted(
                    body.payment_id,
                    body.status.value,
                    body.version,
                    body.amount_minor,
                    body.occurred_at,
                    body.reason_code,
                    body.reason_words or body.reason_message,
                ),
            )
            for body in (event.data for event in events)
            if is_id(body.reference, "int")
        ]
        if news:
            await self._settle(tx, news)

    async def _send(self, intent: Intent, phone: str) -> Answer:
        answer = await self._gateway.pay(intent, phone)
        SENT.labels(type(answer).__name__.lower()).inc()
        return answer

    async def _go_on(self, intent: Intent, sealed: SealedSecrets | None) -> None:
        now = dt.datetime.now(dt.UTC)
        if intent.state == "open" and sealed is not None and now < intent.not_after:
            try:
                phone = self._sealer.open(sealed, intent.id)["phone"]
            except (SealBroken, KeyError):
                log.error("intent_phone_unreadable", intent_id=intent.id)
                await self._recorded(intent, Unclear("sealed"))
                return
            await self._recorded(intent, await self._send(intent, phone))
            return
        await self._recorded(intent, await self._gateway.look(intent))

    async def _recorded(self, intent: Intent, answer: Answer) -> Intent:
        """Write down what an answer proves; raises PaymentRefused where nothing was accepted."""
        refusal: PaymentRefused | None = None
        async with self._database.transaction() as tx:
            now, _ = (await intents.hold(tx, [intent.id]))[intent.id]
            mine = now.state == "open" and now.tries == intent.tries
            match answer:
                case Accepted() as payment:
                    await intents.posted(
                        tx, intent.id, payment.payment_id, payment.status, self._check
                    )
                    await self._settle(tx, [_asked(intent, payment)])
                    if now.state == "posted":
                        await intents.wait_longer(tx, intent, self._check)
                case Refused() as told if mine:
                    await self._end(tx, now, "failed", reason=(told.code, told.message))
                    refusal = PaymentRefused(told.code, told.message, told.faults)
                case Absent() if mine and self._is_over(intent):
                    await self._end(tx, now, "released", reason=("not_accepted", None))
                case _:
                    if isinstance(answer, Absent) and now.state == "posted":
                        log.error("posted_payment_missing", intent_id=intent.id)
                    wait = self._check if now.state == "posted" else paying.later(intent.tries)
                    await intents.wait_longer(tx, intent, wait)
            found = await intents.find(tx, intent.id)
        assert found is not None, intent.id
        if refusal is not None:
            raise refusal
        return found

    def _is_over(self, intent: Intent) -> bool:
        """Say whether no sending of an intent can be accepted any more, however slow it was."""
        return dt.datetime.now(dt.UTC) > intent.not_after + self._absence

    async def _settle(self, tx: Tx, news: Sequence[News]) -> None:
        """Bring news to the intents they are about, each effect once, in any order."""
        held = await intents.hold(tx, sorted({one.intent_id for one in news}))
        for one in sorted(news, key=lambda n: n.payment.version):
            if one.intent_id not in held:
                continue
            intent, version = held[one.intent_id]
            payment = one.payment
            if not _is_about(intent, one):
                log.warning("foreign_payment_of_intent", payment_id=payment.payment_id)
                continue
            to = paying.outcome(payment.status)
            reason = (payment.reason_code, payment.reason_message)
            if to is None and payment.version > version and intent.state in LIVE:
                await intents.note(
                    tx, intent.id, payment.payment_id, payment.status, payment.version, reason
                )
            if to is None or not paying.moves(intent.state, to):
                continue
            if to == "succeeded":
                await self._paid(tx, intent, payment)
            await self._end(
                tx,
                intent,
                to,
                payment_id=payment.payment_id,
                status=payment.status,
                version=payment.version,
                reason=reason,
            )
            held |= await intents.hold(tx, [intent.id])

    async def _paid(self, tx: Tx, intent: Intent, payment: Accepted) -> None:
        """Bring money to the invoice; what it does not need becomes the customer's credit."""
        if intent.state not in LIVE:
            log.warning("invoice_paid_late", intent_id=intent.id, invoice_id=intent.invoice_id)
        await invoices.apply_payment(
            tx,
            self._relay,
            invoice_id=intent.invoice_id,
            payment_id=payment.payment_id,
            amount_minor=payment.amount_minor,
            at=payment.at,
        )

    async def _end(
        self,
        tx: Tx,
        intent: Intent,
        state: str,
        *,
        payment_id: str | None = None,
        status: str | None = None,
        version: int = -1,
        reason: tuple[str | None, str | None] = (None, None),
    ) -> None:
        await intents.end(
            tx,
            intent,
            state,
            payment_id=payment_id,
            status=status,
            version=version,
            reason=(reason[0], reason[1][:300] if reason[1] else None),
        )
        log.info("intent_ended", intent_id=intent.id, state=state, reason=reason[0])
        tx.after_commit(lambda: ENDED.labels(state, intent.mode).inc())


def _asked(intent: Intent, payment: Accepted) -> News:
    return News(intent.id, intent.merchant_id, intent.mode, intent.currency, payment)


def _is_about(intent: Intent, one: News) -> bool:
    """Say whether a payment is the one an intent asked for: anybody may use any reference."""
    same = (intent.merchant_id, intent.mode, intent.currency)
    return same == (one.merchant_id, one.mode, one.currency) and intent.payment_id in (
        None,
        one.payment.payment_id,
    )


async def _method(tx: Tx, issuer_id: str, currency: str, wish: Wish) -> Method:
    """Return the method a wish names, or the issuer's first; raises NoMethod."""
    if wish.service is not None and not wish.listed:
        return Method(wish.service, wish.microservice, wish.route, wish.service)
    for method in await intents.methods(tx, issuer_id, currency):
        if wish.service in (None, method.service):
            return method
    raise NoMethod(f"there is no such way to pay in {currency}")
