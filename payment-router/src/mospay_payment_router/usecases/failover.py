"""Routing and failover: who takes a payment, and who may try where nothing left for the first."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import orjson
import structlog
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.sealed import SealBroken, Sealer
from mospay_shared.contracts import PaymentStatus, ProcessPaymentV1
from mospay_shared.ids import new_id
from prometheus_client import Counter

from mospay_payment_router.domain.answers import Call, Finding, read_call
from mospay_payment_router.domain.breaker import Breakers
from mospay_payment_router.domain.payments import Payment, Terms, function_input
from mospay_payment_router.domain.routing import Asked, choose, fits
from mospay_payment_router.domain.states import Evidence
from mospay_payment_router.storage import attempts, payments
from mospay_payment_router.storage.dispatcher import FunctionCall, Functions
from mospay_payment_router.usecases.catalogue import Catalogue
from mospay_payment_router.usecases.providers import Providers
from mospay_payment_router.usecases.secrets import open_secrets, seal_payload

log = structlog.get_logger()
FAILED_OVER = Counter("mospay_router_failovers", "Attempts made where nothing left before", ["to"])


class Router:
    """Chooses services by the rules in force; a breaker that is open is passed by."""

    def __init__(self, catalogue: Catalogue, providers: Providers, breakers: Breakers) -> None:
        self._catalogue, self._providers, self._breakers = catalogue, providers, breakers

    def terms(self, command: ProcessPaymentV1) -> Terms | Finding:
        """Return the terms a payment gets; raises NotYetKnown."""
        own = self._catalogue.terms(command)
        if not self._providers.rules or isinstance(own, Finding):
            return own
        asked = Asked(
            command.payment_id,
            command.client_id,
            command.mode,
            command.service_id,
            command.amount_minor,
            command.currency,
            command.phone,
        )
        rule = next((r for r in self._providers.rules if fits(r, asked)), None)
        if rule is None:
            return own
        order = choose(rule, asked, lambda s: self._share(s, command.mode))
        usable = [
            (service_id, terms)
            for service_id in order
            if isinstance(terms := self._via(command, service_id), Terms)
        ]
        if not usable:
            return own
        closed = [u for u in usable if self._state(u[1], command.mode) != "open"]
        chosen = (closed or usable)[0]
        rest = tuple(service_id for service_id, _ in usable if service_id != chosen[0])
        return replace(chosen[1], fallbacks=rest)

    def _via(self, command: ProcessPaymentV1, service_id: str) -> Terms | Finding:
        return self._catalogue.terms_via(
            command.app_id, command.route, command.mode, command.currency, service_id
        )

    def _state(self, terms: Terms, mode: str) -> str:
        return self._breakers.state(f"{mode}/{terms.provider}")

    def _share(self, service_id: str, mode: str) -> float:
        connector = self._catalogue.connector_of(service_id)
        return self._breakers.success_share(f"{mode}/{connector}")


class Failover:
    """Makes the next attempt where the last one is proven never sent, and only there."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        functions: Functions,
        sealer: Sealer,
        ready: Callable[[], None],
    ) -> None:
        self._database, self._catalogue = database, catalogue
        self._functions, self._sealer, self._ready = functions, sealer, ready

    async def next(self, payment: Payment, attempt_id: str, finding: Finding) -> bool:
        """Make a successor of an attempt; False when there is none to make.

        The reference stays the payment's id. Nothing is made after `send_before`, or when somebody
        else has moved the payment on.
        """
        if finding.evidence is not Evidence.NEVER_SENT or not payment.terms.fallbacks:
            return False
        if payment.send_before <= dt.datetime.now(dt.UTC):
            return False
        for index, service_id in enumerate(payment.terms.fallbacks):
            terms = self._catalogue.terms_via(
                payment.app_id, payment.route, payment.mode, payment.currency, service_id
            )
            if isinstance(terms, Finding):
                continue
            rest = payment.terms.fallbacks[index + 1 :]
            after = routed(payment, replace(terms, fallbacks=rest))
            call = await self._call(after)
            if isinstance(call, Call):
                return await self._succeed(payment, after, attempt_id, finding, call)
        return False

    async def _call(self, payment: Payment) -> Call | Finding:
        try:
            secrets = open_secrets(self._sealer, payment)
        except SealBroken as error:
            return Finding(Evidence.REFUSED, None, "secrets_unreadable", str(error))
        data = orjson.dumps(function_input(payment, secrets)).decode()
        (row,) = await self._functions.run([FunctionCall(payment.id, payment.terms.call, data)])
        return read_call(row, payment)

    async def _succeed(
        self, before: Payment, after: Payment, attempt_id: str, finding: Finding, call: Call
    ) -> bool:
        payload, sealed = call.payload, False
        if after.terms.needs_secrets and after.secrets is not None:
            payload, sealed = seal_payload(self._sealer, call.payload, after.id), True
        async with self._database.transaction() as tx:
            now = (await payments.load(tx, [before.id])).get(before.id)
            if now is None or now.version != before.version:
                return False
            if now.status is not PaymentStatus.PROCESSING:
                return False
            made = await attempts.succeed(
                tx, after, attempt_id, new_id("att"), finding, call.url, (payload, sealed)
            )
        if made:
            FAILED_OVER.labels(after.provider).inc()
            log.warning("payment_failed_over", payment_id=before.id, to=after.provider)
            self._ready()
        return made


def routed(payment: Payment, terms: Terms) -> Payment:
    """Return a payment under other terms: its functions see the chosen connector's names."""
    names = {"f000": terms.provider, "f001": terms.service} if terms.provider else {}
    return replace(payment, terms=terms, fields=payment.fields | names)
