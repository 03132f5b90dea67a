"""What payers and clients paid before: read with a batch, learnt from what was allowed."""

import datetime as dt
import time
from typing import Any

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker
from prometheus_client import Gauge

from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.risk import History
from mospay_payment_router.storage import risk as store
from mospay_payment_router.storage.risk import Sum
from mospay_payment_router.usecases.risk_rules import Digests, Policies

HELD = Gauge("mospay_router_held", "Payments held for review")
HELD_AGE = Gauge("mospay_router_held_oldest_seconds", "Age of the oldest payment held for review")
LEARN_SECONDS = 1.0  # a history is at most this far behind
CLIENT_HISTORY_SECONDS = 60.0  # a client's thirty days are read again after this
REMEMBERED = 10_000  # client histories, and lessons that wait: what is more is forgotten
UPKEEP_SECONDS = 60.0
HISTORY_UPKEEP_ROUNDS = 60  # histories are looked through once in so many rounds of upkeep
Own = tuple[str, str, str]  # client, mode, currency


class Histories:
    """Clients' histories are kept in memory for a minute; lessons are written once a second.

    What waits to be written is lost with the process: a second of history, never a payment.
    """

    def __init__(self, policies: Policies, digests: Digests) -> None:
        self._policies, self._digests = policies, digests
        self._known: dict[Own, tuple[float, History]] = {}
        self._payers: dict[tuple[bytes, str, str, str], Sum] = {}
        self._clients: dict[tuple[str, str, str, dt.date], Sum] = {}

    def payer(
        self, client: str, mode: str, whom: tuple[str | None, str | None], currency: str
    ) -> tuple[bytes, str] | None:
        """Return the key of a payer's history with a client: by phone, else by customer id."""
        phone, customer = whom
        if phone:
            return self._digests.counted(client, mode, "phone", phone), currency
        if customer:
            return self._digests.counted(client, mode, "customer", customer), currency
        return None

    def stale(self, own: Own) -> bool:
        """Say whether a client's history must be read again."""
        return self._known.get(own, (0.0, None))[0] < time.monotonic()

    def remember(self, own: Own, history: History) -> None:
        """Keep what was read of a client."""
        if len(self._known) > REMEMBERED:
            self._known.clear()
        self._known[own] = time.monotonic() + CLIENT_HISTORY_SECONDS, history

    def of_client(self, own: Own) -> History:
        """Return what is known of a client."""
        return self._known[own][1]

    def learn(self, payment: Payment) -> None:
        """Make an allowed (or released) payment part of the histories that are asked about."""
        policy = self._policies.of(payment.client_id, payment.mode)
        client, mode, currency = payment.client_id, payment.mode, payment.currency
        if policy.asks_payer and len(self._payers) < REMEMBERED:
            whom = (payment.fields.get("f005"), payment.details.get("customer_id"))
            payer = self.payer(client, mode, whom, currency)
            if payer is not None:
                key = (*payer, client, mode)
                self._payers.setdefault(key, Sum()).add(payment.amount_minor)
        if policy.asks_client and len(self._clients) < REMEMBERED:
            day = (client, mode, currency, payment.accepted_at.astimezone(dt.UTC).date())
            self._clients.setdefault(day, Sum()).add(payment.amount_minor)

    async def write(self, database: Database) -> None:
        """Write what was learnt since the last time; it waits while that fails."""
        payers, clients = self._payers, self._clients
        if not payers and not clients:
            return
        self._payers, self._clients = {}, {}
        try:
            async with database.transaction() as tx:
                await store.learn(tx, payers, clients)
        except BaseException:
            _merge(self._payers, payers)
            _merge(self._clients, clients)
            raise


def _merge(into: dict[Any, Sum], back: dict[Any, Sum]) -> None:
    for key, old in back.items():
        new = into.setdefault(key, Sum())
        new.payments += old.payments
        new.total += old.total
        new.squares += old.squares
        new.largest = max(new.largest, old.largest)


class Upkeep:
    """The rounds of risk: lessons are written, old counts dropped, gauges kept true."""

    def __init__(
        self, database: Database, history: Histories, counters: store.Counters, payer_days: int
    ) -> None:
        self._database, self._history, self._payer_days = database, history, payer_days
        self._counters = counters
        self._round = 0

    def workers(self) -> list[Worker]:
        """Return both."""
        return [
            Worker("risk_history", self._learn, LEARN_SECONDS),
            Worker("risk_upkeep", self._upkeep, UPKEEP_SECONDS),
        ]

    async def drain(self) -> None:
        """Write the last lessons of this process."""
        await self._learn()

    async def _learn(self) -> int:
        await self._history.write(self._database)
        return 0  # the next turn waits, so that more comes together

    async def _upkeep(self) -> int:
        await self._counters.keep()
        async with self._database.transaction() as tx:
            held, age = await store.held(tx)
            dropped = await store.forget_counts(tx, int(time.time()) // 60)
            if self._round % HISTORY_UPKEEP_ROUNDS == 0:
                await store.forget_histories(tx, self._payer_days)
        self._round += 1
        HELD.set(held)
        HELD_AGE.set(age)
        return dropped
