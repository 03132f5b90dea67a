"""What the router knows about providers: credentials, routing rules, breakers; kept in memory."""

import asyncio
import base64
import datetime as dt
from collections.abc import Mapping

import orjson
import structlog
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.following import read_to
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.workers import Worker
from mospay_shared.contracts import ProviderHealthV1, SealedSecrets, outgoing
from prometheus_client import Gauge

from mospay_payment_router.domain.breaker import Breakers, Change
from mospay_payment_router.domain.payments import SOURCE, Payment
from mospay_payment_router.domain.routing import Rule, order_rules, read_rule
from mospay_payment_router.storage import providers

log = structlog.get_logger()
RELOAD_SECONDS = 2.0  # what a person changes holds within this
TRY_SECONDS = 0.5  # how often open breakers are looked at
OPEN = Gauge("mospay_router_breakers_open", "Connectors that are left alone for now")
Key = tuple[str, str, str]


class Providers:
    """Sealed credentials by (client, mode, connector) and routing rules in the order they hold."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database, self._sealer = database, sealer
        self._sealed: dict[Key, SealedSecrets] = {}
        self._horizon = 0  # transactions before this one have been read
        self._mark: tuple[object, ...] = ()
        self.rules: list[Rule] = []
        self.worker = Worker("providers", self._turn, RELOAD_SECONDS)

    async def open(self) -> None:
        """Load what there is."""
        await self._turn()

    async def _turn(self) -> int:
        async with self._database.transaction() as tx:
            rows = await providers.credentials_since(tx, self._horizon)
            mark = await providers.rules_mark(tx)
            found = await providers.rules(tx) if mark != self._mark else None
        self._horizon = read_to(rows, self._horizon)
        for row in rows:
            key = (row["client_id"], row["mode"], row["microservice"])
            self._sealed.pop(key, None)
            if not row["deleted"]:
                self._sealed[key] = SealedSecrets(**row["sealed"])
        if found is not None:
            active = [read_rule(dict(row)) for row in found if row["active"]]
            self.rules, self._mark = order_rules(active), mark
        return 0

    def headers(self, payment: Payment) -> dict[str, str]:
        """Return the header that carries the client's own credentials to the connector, if any.

        They are opened for the call alone; raises SealBroken when they can't be.
        """
        key = (payment.client_id, payment.mode, payment.provider)
        sealed = self._sealed.get(key)
        if sealed is None:
            return {}
        opened = self._sealer.open(sealed, credential_name(key))
        return {"X-Provider-Credentials": base64.b64encode(orjson.dumps(opened)).decode()}

    async def put(self, key: Key, parts: Mapping[str, str], by: str) -> int:
        """Seal and store a client's credentials with a connector; return their version."""
        sealed = self._sealer.seal(dict(parts), credential_name(key))
        async with self._database.transaction() as tx:
            version = await providers.put_credential(
                tx, key, sealed.model_dump(), sorted(parts), by
            )
            tx.after_commit(self.worker.wake)
        return version


def credential_name(key: Key) -> str:
    """Return what a credential's seal is bound to."""
    return "/".join(("credential", *key))


class Health:
    """Tells of breakers: half-opens them in time, writes their changes down, publishes them."""

    def __init__(self, database: Database, relay: Relay, breakers: Breakers) -> None:
        self._database, self._relay, self._breakers = database, relay, breakers
        self._open: set[str] = set()
        self.worker = Worker("provider_health", self._turn, TRY_SECONDS)

    async def _turn(self) -> int:
        self._breakers.try_again(asyncio.get_running_loop().time())
        changes = list(self._breakers.changes)
        if not changes:
            return 0
        now = dt.datetime.now(dt.UTC)
        async with self._database.transaction() as tx:
            for change in changes:
                await providers.save_health(tx, change, now)
            await self._relay.enqueue(
                tx, [outgoing(*_told(c, now), source=SOURCE) for c in changes]
            )
        for change in changes:
            self._breakers.changes.popleft()
            (self._open.discard if change.state == "closed" else self._open.add)(change.lane)
            log.warning("provider_health", lane=change.lane, state=change.state, why=change.reason)
        OPEN.set(len(self._open))
        return len(changes)


def _told(change: Change, at: dt.datetime) -> tuple[str, str, ProviderHealthV1]:
    mode, _, microservice = change.lane.partition("/")
    body = ProviderHealthV1(
        microservice=microservice,
        mode=mode,
        state=change.state,
        previous_state=change.previous,
        reason=change.reason,
        failures=change.failures,
        calls=change.calls,
        changed_at=at,
    )
    return "provider.health_changed.v1", f"{mode}/{microservice}", body
