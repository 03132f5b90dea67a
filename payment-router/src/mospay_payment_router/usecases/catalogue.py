"""What a command is taken under: service, connector and provider functions, at hand in memory."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.workers import Worker
from mospay_shared.contracts import ProcessPaymentV1
from prometheus_client import Gauge

from mospay_payment_router.domain.answers import Finding, refused
from mospay_payment_router.domain.errors import NotYetKnown
from mospay_payment_router.domain.functions import ENQUIRY, Key, choose_pair, place
from mospay_payment_router.domain.payments import Terms
from mospay_payment_router.storage import functions

log = structlog.get_logger()
REFUSED = Gauge("mospay_router_functions_refused", "Routes whose functions can't be named")
LOOK_SECONDS = 0.02  # between two looks while a command waits for the directory
WAITED_SECONDS = 5.0  # one wait for a missing thing holds for so long
RELOAD_SECONDS = 2.0  # functions that a person makes are found within this


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
        self._mappings: dict[Key, functions.Mapping] = {}
        self._secrets: dict[str, bool] = {}
        self._terms: dict[tuple[Key, str, str], Terms | Finding] = {}
        self._waited: dict[str, float] = {}
        self.worker = Worker("provider_functions", self._turn, RELOAD_SECONDS)
        replica.listen(self._changed)

    def _changed(self, _: str, __: str, ___: dict[str, Any] | None) -> None:
        self._terms.clear()
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
        cached = self._terms.get((key, command.service_id, command.mode))
        if cached is not None:
            return cached
        found = self._find(key, command)
        self._terms[key, command.service_id, command.mode] = found
        return found

    def _find(self, key: Key, command: ProcessPaymentV1) -> Terms | Finding:
        behind = not self._replica.complete or self._replica.version < command.directory_version
        service = self._replica.get("service", command.service_id)
        if service is None:
            if behind:
                raise NotYetKnown(command.service_id)
            return refused("service_unknown", "the service is not in the directory")
        mapping = self._mappings.get(key)
        if mapping is None:
            if behind or self._will_be_mapped(command):
                raise NotYetKnown(f"functions of {key}")
            return refused("service_not_assigned", "no provider functions serve this route")
        if mapping.refused is not None:
            return refused("functions_refused", mapping.refused)
        base_url = service["urls"].get(command.mode)
        if base_url is None:
            return refused("mode_not_offered", f"the service has no URL in {command.mode} mode")
        return self._terms_of(mapping, service, base_url)

    def _will_be_mapped(self, command: ProcessPaymentV1) -> bool:
        client = self._replica.get("client", command.client_id)
        service = self._replica.get("service", command.service_id)
        return (
            client is not None
            and service is not None
            and command.route in service["routes"]
            and any(app["app_id"] == command.app_id for app in client["apps"])
            and any(
                a["client_id"] == command.client_id and a["service_id"] == command.service_id
                for a in self._replica.all("assignment")
            )
        )

    def _terms_of(
        self, mapping: functions.Mapping, service: dict[str, Any], base_url: str
    ) -> Terms:
        connector, pair = service.get("connector") or {}, mapping.pair
        registered = place(base_url)
        return Terms(
            call=pair.call,
            response=pair.response,
            enquiry=pair.enquiry,
            enquiry_response=pair.enquiry_response,
            function_version=mapping.version,
            needs_secrets=any(self._secrets.get(name, False) for name in pair.names),
            base_url=base_url,
            places=(*((registered,) if registered else ()), *self._allowed),
            timeout_seconds=float(service["provider_timeout_seconds"]),
            authoritative_enquiry=connector.get("authoritative_enquiry") is True,
            grace_seconds=_number(connector.get("enquiry_grace_seconds"), self._grace),
            final_on_2xx=connector.get("final_on_2xx") is True,
            amount_optional=connector.get("amount_optional") is True,
            failed_statuses=tuple(
                s for s in connector.get("failed_statuses") or () if isinstance(s, int)
            ),
            callback_secret=connector.get("callback_secret_env"),
        )

    async def _turn(self) -> int:
        missing = [w for w in self._wanted() if w[0] not in self._mappings]
        if missing:
            async with self._database.transaction() as tx:
                await self._add(tx, missing)
        await self.open()  # in a transaction of its own: memory knows only what is committed
        REFUSED.set(sum(1 for m in self._mappings.values() if m.refused))
        return 0

    async def _load(self, tx: Tx) -> None:
        secrets = await functions.existing_functions(tx)
        mappings = {m.key: m for m in await functions.mappings(tx)}
        if (mappings, secrets) != (self._mappings, self._secrets):
            self._mappings, self._secrets = mappings, secrets
            self._terms.clear()

    def _wanted(self) -> list[tuple[Key, tuple[str, str, str]]]:
        """Return every key an active assignment needs, with its client, mode and service."""
        wanted = []
        for assignment in self._replica.all("assignment"):
            client = self._replica.get("client", assignment["client_id"])
            service = self._replica.get("service", assignment["service_id"])
            if not assignment["active"] or client is None or service is None:
                continue
            owner = (client["client_id"], service["service_id"])
            for app in client["apps"]:
                if app["mode"] not in service["urls"]:
                    continue
                for route in service["routes"]:
                    key = Key(app["app_id"], service["microservice"], service["name"], route)
                    if not route.endswith(ENQUIRY):
                        wanted.append((key, (owner[0], app["mode"], owner[1])))
        return wanted

    async def _add(self, tx: Tx, missing: list[tuple[Key, tuple[str, str, str]]]) -> None:
        foreign = await functions.foreign_functions(tx)
        for key, owner in missing:
            pair, fault = choose_pair(key, foreign)
            if fault is None:
                made = await functions.make_pair(tx, pair.call, pair.response)
                made += await functions.make_pair(tx, pair.enquiry, pair.enquiry_response)
                await functions.add_versions(tx, pair.names, made)
                log.info("provider_functions_mapped", function=pair.call, made=len(made))
            else:
                log.error("provider_functions_refused", key=str(key), reason=fault)
            await functions.add_mapping(tx, key, pair, owner, fault)


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and value >= 0 else default
