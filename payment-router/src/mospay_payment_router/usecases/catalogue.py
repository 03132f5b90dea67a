"""What a command is taken under: service, connector and provider functions, at hand in memory."""

import asyncio
from collections.abc import Mapping as Mappings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.workers import Worker
from mospay_shared.contracts import ProcessPaymentV1
from prometheus_client import Gauge

from mospay_payment_router.domain.answers import Finding, refused
from mospay_payment_router.domain.errors import NotYetKnown
from mospay_payment_router.domain.functions import (
    Key,
    choose_pair,
    pair_named,
    place,
    refund_names,
)
from mospay_payment_router.domain.payments import Terms
from mospay_payment_router.domain.versions import KINDS, names_of
from mospay_payment_router.storage import functions
from mospay_payment_router.storage.functions import Mapping
from mospay_payment_router.usecases.assigned import Assigned, Owner
from mospay_payment_router.usecases.known import KnownFunctions

log = structlog.get_logger()
REFUSED = Gauge("mospay_router_functions_refused", "Routes whose functions can't be named")
LOOK_SECONDS = 0.02  # between two looks while a command waits for the directory
WAITED_SECONDS = 5.0  # one wait for a missing thing holds for so long
RELOAD_SECONDS = 2.0  # functions that a person makes are found within this
ADDED_AT_ONCE = 100  # assignments whose functions are made in one transaction
REFUSALS_KEPT = 10_000
WAYS = ("live", "test", "via live", "via test")  # how a payment comes to its terms


class Catalogue:
    """Terms by command. `grace_seconds` is the default of `connector.enquiry_grace_seconds`."""

    def __init__(
        self,
        database: Database,
        replica: DirectoryReplica,
        allowed_hosts: Sequence[str],
        grace_seconds: float,
        wait_seconds: float,
    ) -> None:
        self._database, self._replica = database, replica
        self._allowed = tuple(host.lower() for host in allowed_hosts)
        self._grace, self._wait = grace_seconds, wait_seconds
        self.functions, self._assigned = KnownFunctions(), Assigned(replica)
        # Terms by service, so that its change costs that service's payments alone a look.
        self._terms: dict[str, dict[tuple[Key, str], Terms]] = {}
        self._refusals: dict[tuple[str, Key, str], Finding] = {}
        self._waited: dict[str, float] = {}
        self._translators: dict[str, str] | None = None
        self.worker = Worker("provider_functions", self._turn, RELOAD_SECONDS)
        replica.listen(self._changed)

    def _changed(self, kind: str, entity_id: str, body: dict[str, Any] | None) -> None:
        self._refusals.clear()
        self._assigned.note(kind, entity_id, body)
        if kind == "service":
            self._terms.pop(entity_id, None)
            self._translators = None
        self.worker.wake()

    async def open(self) -> None:
        """Load the mapping table and what there is in schema fx."""
        async with self._database.transaction() as tx:
            await self._load(tx)

    def known(self, command: ProcessPaymentV1) -> bool:
        """Say whether this replica can decide on a command."""
        try:
            self.terms(command)
        except NotYetKnown:
            return False
        return True

    def translator(self, microservice: str) -> str | None:
        """Return the URL of the connector that reads its provider's callbacks, or None."""
        if self._translators is None:
            self._translators = {
                service["microservice"]: str(next(iter(service["urls"].values())))
                for service in self._replica.all("service")
                if (service.get("connector") or {}).get("callbacks") == "connector"
                and service["urls"]
            }
        return self._translators.get(microservice)

    async def wait_for(self, commands: Sequence[ProcessPaymentV1]) -> None:
        """Wait, bounded, until what the commands were accepted under has arrived here.

        Raises NotYetKnown: the messages are tried again. A thing is waited for once in a while
        only, so that one missing entity does not delay every batch.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wait
        while missing := [c for c in commands if not self.known(c)]:
            what = f"{missing[0].service_id}:{missing[0].client_id}"
            patient = self._waited.get(what, 0.0) < loop.time()
            if not patient or loop.time() >= until:
                self._waited = {k: t for k, t in self._waited.items() if t > loop.time()}
                self._waited[what] = loop.time() + WAITED_SECONDS
                raise NotYetKnown(f"the directory here has nothing yet for {what}")
            self.worker.wake()
            await asyncio.sleep(LOOK_SECONDS)

    def terms(self, command: ProcessPaymentV1) -> Terms | Finding:
        """Return the terms of a command, or why it is refused; raises NotYetKnown."""
        key = Key(command.app_id, command.microservice, command.service, command.route)
        return self._cached(command.service_id, key, command.mode) or self._keep(
            command.service_id, key, command.mode, self._find(key, command)
        )

    def _cached(self, service_id: str, key: Key, how: str) -> Terms | Finding | None:
        of_service = self._terms.get(service_id)
        found = None if of_service is None else of_service.get((key, how))
        return found or self._refusals.get((service_id, key, how))

    def _keep(self, service_id: str, key: Key, how: str, found: Terms | Finding) -> Terms | Finding:
        if isinstance(found, Terms):
            self._terms.setdefault(service_id, {})[key, how] = found
        else:
            if len(self._refusals) >= REFUSALS_KEPT:
                self._refusals.clear()
            self._refusals[service_id, key, how] = found
        return found

    def _find(self, key: Key, command: ProcessPaymentV1) -> Terms | Finding:
        behind = not self._replica.complete or self._replica.version < command.directory_version
        service = self._replica.get("service", command.service_id)
        if service is None:
            if behind:
                raise NotYetKnown(command.service_id)
            return refused("service_unknown", "the service is not in the directory")
        mapping = self.functions.mappings.get(key)
        if mapping is None:
            if behind or self._will_be_mapped(command):
                raise NotYetKnown(f"functions of {key}")
            return refused("service_not_assigned", "no provider functions serve this route")
        if mapping.refused is not None:
            return refused("functions_refused", mapping.refused)
        base_url = service["urls"].get(command.mode)
        if base_url is None:
            return refused("mode_not_offered", f"the service has no URL in {command.mode} mode")
        return self._terms_of(mapping, service, base_url, command.mode)

    def terms_via(
        self, app_id: str, route: str, mode: str, currency: str, service_id: str
    ) -> Terms | Finding:
        """Return the terms of a payment that goes by another service than it names."""
        service = self._replica.get("service", service_id)
        if service is None or not service["active"] or service["currency"] != currency:
            return refused("service_unknown", "no such active service in this currency")
        key = Key(app_id, service["microservice"], service["name"], route)
        how = f"via {mode}"
        return self._cached(service_id, key, how) or self._keep(
            service_id, key, how, self._terms_via(key, mode, service)
        )

    def _terms_via(self, key: Key, mode: str, service: dict[str, Any]) -> Terms | Finding:
        mapping, base_url = self.functions.mappings.get(key), service["urls"].get(mode)
        if mapping is None or mapping.refused is not None or base_url is None:
            return refused("service_not_assigned", "no provider functions serve this route")
        found = self._terms_of(mapping, service, base_url, mode)
        if isinstance(found, Finding):
            return found
        return replace(found, provider=key.microservice, service=key.service)

    def connector_of(self, service_id: str) -> str | None:
        """Return the connector of a service."""
        service = self._replica.get("service", service_id)
        return None if service is None else str(service["microservice"])

    def _will_be_mapped(self, command: ProcessPaymentV1) -> bool:
        client = self._replica.get("client", command.client_id)
        service = self._replica.get("service", command.service_id)
        return (
            client is not None
            and service is not None
            and command.route in service["routes"]
            and any(app["app_id"] == command.app_id for app in client["apps"])
            and self._assigned.assigned(command.client_id, command.service_id)
        )

    def _terms_of(
        self, mapping: Mapping, service: dict[str, Any], base_url: str, mode: str
    ) -> Terms | Finding:
        connector, pair, known = service.get("connector") or {}, mapping.pair, self.functions
        if connector.get("simulator") is True and mode != "test":
            return refused("simulator_in_live_mode", "a simulator is for test mode only")
        registered = place(base_url)
        refund = refund_names(pair.call)
        if not all(known.exists(name) for name in refund):
            refund = ("", "", "", "")  # this service can't refund
        statuses = mapping.failed_statuses
        if statuses is None:
            statuses = tuple(
                s for s in connector.get("failed_statuses") or () if isinstance(s, int)
            )
        final = mapping.final_on_2xx
        return Terms(
            call=known.body(pair.call),
            response=known.body(pair.response),
            enquiry=known.body(pair.enquiry),
            enquiry_response=known.body(pair.enquiry_response),
            function_version=known.version(pair.call),
            needs_secrets=any(known.reads_secrets(name) for name in pair.names),
            base_url=base_url,
            places=(*((registered,) if registered else ()), *self._allowed),
            timeout_seconds=float(service["provider_timeout_seconds"]),
            authoritative_enquiry=connector.get("authoritative_enquiry") is True,
            grace_seconds=_number(connector.get("enquiry_grace_seconds"), self._grace),
            final_on_2xx=connector.get("final_on_2xx") is True if final is None else final,
            amount_optional=connector.get("amount_optional") is True,
            failed_statuses=statuses,
            callback_secret=connector.get("callback_secret_env"),
            exponent=_exponent(connector, service["currency"]),
            refund=known.body(refund[0]),
            refund_response=known.body(refund[1]),
            refund_enquiry=known.body(refund[2]),
            refund_enquiry_response=known.body(refund[3]),
        )

    def trial_terms(self, mapping: Mapping) -> Terms | Finding:
        """Return the terms a payment by this mapping would get now, whoever asks."""
        service = self._replica.get("service", mapping.service_id)
        if service is None or mapping.mode not in service["urls"]:
            return refused("service_unknown", "the service has no URL in this mode any more")
        return self._terms_of(mapping, service, service["urls"][mapping.mode], mapping.mode)

    def currency_of(self, service_id: str) -> str | None:
        """Return the currency of a service, None for one that is not in the directory."""
        service = self._replica.get("service", service_id)
        return None if service is None else str(service["currency"])

    async def _turn(self) -> int:
        changed = [self._assigned.changed.pop() for _ in range(self._at_once())]
        missing = {
            key: owner
            for one in changed
            for key, owner in self._assigned.wanted(one)
            if key not in self.functions.mappings
        }
        try:
            if missing:
                async with self._database.transaction() as tx:
                    await self._add(tx, missing)
            await self.open()  # in a transaction of its own: memory knows only what is committed
        except BaseException:
            self._assigned.changed.update(changed)
            raise
        return len(changed) if self._assigned.changed else 0

    def _at_once(self) -> int:
        return min(len(self._assigned.changed), ADDED_AT_ONCE)

    async def _load(self, tx: Tx) -> None:
        news = await self.functions.read(tx)
        touched = self.functions.apply(news)  # nothing is awaited from here on
        if not touched:
            return
        self._refusals.clear()
        for terms in self._terms.values():
            for key in touched:
                for how in WAYS:
                    terms.pop((key, how), None)
        REFUSED.set(self.functions.refused)

    async def _add(self, tx: Tx, missing: Mappings[Key, Owner]) -> None:
        candidates = [
            pair_named(key.app_id, key.microservice, word).call
            for key in missing
            for word in (key.route, key.service)
        ]
        foreign = await functions.foreign_functions(tx, candidates)
        for key, owner in missing.items():
            pair, fault = choose_pair(key, foreign)
            if fault is None:
                made = await functions.make_pair(tx, pair.call, pair.response)
                made += await functions.make_pair(tx, pair.enquiry, pair.enquiry_response)
                kinds = dict(zip(KINDS, pair.names, strict=False))
                if pair.call in made:  # another system's functions bring their own for refunds
                    refunds = await functions.make_refund_pair(tx, pair.call)
                    kinds |= {k: n for k, n in names_of(pair).items() if n in refunds}
                    made += refunds
                await functions.add_versions(tx, kinds, made, owner[:2])
                log.info("provider_functions_mapped", function=pair.call, made=len(made))
            else:
                log.error("provider_functions_refused", key=str(key), reason=fault)
            await functions.add_mapping(tx, key, pair, owner, fault)


def _exponent(connector: dict[str, Any], currency: str) -> int | None:
    """Return how many decimals the connector takes of a currency, None for all it has."""
    found = (connector.get("exponents") or {}).get(currency)
    return found if isinstance(found, int) and 0 <= found <= 4 else None


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and value >= 0 else default
