"""What tests of settlements share: a ledger without its workers, and days that lie ahead.

Terms are never back-dated, so the days that are settled are days to come.
"""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import httpx
from mospay_ledger.domain import Entry, MoneyEvent
from mospay_ledger.domain.settling import Terms
from mospay_ledger.storage import settlements as storage
from mospay_ledger.usecases import posting, settling
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentEventV1
from mospay_shared.ids import new_id

from .conftest import event, succeeded

DAY = dt.timedelta(days=1)
FIRST = dt.datetime.now(dt.UTC).date() + 10 * DAY  # the first day anything happens


def noon(day: int, hour: int = 12) -> dt.datetime:
    """An hour of day number `day` (from 0), UTC."""
    return dt.datetime.combine(FIRST + day * DAY, dt.time(hour), tzinfo=dt.UTC)


def end_of(day: int) -> dt.datetime:
    """The end of day number `day`, UTC."""
    return dt.datetime.combine(FIRST + (day + 1) * DAY, dt.time(0), tzinfo=dt.UTC)


@dataclass
class Desk:
    """A ledger whose clock is the test's."""

    service: Service
    signer: TokenSigner
    client_id: str = field(default_factory=lambda: new_id("cli"))
    rules: settling.Rules = field(default_factory=lambda: settling.Rules(1000, dt.timedelta(0)))

    @property
    def key(self) -> tuple[str, str, str]:
        """This desk's client in test mode."""
        return self.client_id, "RWF", "test"

    def capture(self, day: int, amount: int = 1500, **changes: Any) -> PaymentEventV1:
        """A payment of this client that succeeded at noon of a day."""
        return succeeded(
            client_id=self.client_id, amount_minor=amount,
            **({"occurred_at": noon(day)} | changes),
        )  # fmt: skip

    async def post(self, *bodies: MoneyEvent) -> list[Entry]:
        """Book news in one transaction."""
        async with self.service.database.transaction() as tx:
            return await posting.post_events(tx, self.service.relay, [event(b) for b in bodies])

    async def terms(self, **changes: Any) -> None:
        """Put terms of this client in force."""
        values: dict[str, Any] = {"id": new_id("trm"), "mode": "test", "client_id": self.client_id,
                  "currency": "RWF", "hold_days": 0}  # fmt: skip
        async with self.service.database.transaction() as tx:
            await settling.add_terms(tx, Terms(**(values | changes)), None, "usr_a")

    async def lives_in(self, zone: str, name: str = "Shop") -> None:
        """Let the directory know this client."""
        body = {"client_id": self.client_id, "name": name, "time_zone": zone}
        async with self.service.database.transaction() as tx:
            await tx.run(
                "insert into directory_entity (kind, entity_id, version, deleted, body) "
                "values ('client', $1, 1, false, $2)",
                self.client_id,
                body,
            )

    async def settle(self, at: dt.datetime, rules: settling.Rules | None = None) -> str | None:
        """Settle this client as of an instant; the settlement's id, or None."""
        async with self.service.database.transaction() as tx:
            await storage.enrol(tx, 10, self.client_id)
        async with self.service.database.transaction() as tx:
            looked = await settling.settle_by_hand(
                tx, self.service.relay, self.key, at, rules or self.rules, "usr_a"
            )
        return looked.settlement_id if looked else None

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        """Rows as the service's own role sees them."""
        async with self.service.database.transaction() as tx:
            return await tx.fetch(sql, *values)

    async def settlement(self, settlement_id: str | None) -> Any:
        """A settlement's row."""
        (row,) = await self.fetch("select * from settlements where id = $1", settlement_id)
        return row

    async def lines(self, settlement_id: str | None) -> list[Any]:
        """A settlement's lines."""
        return await self.fetch(
            "select * from settlement_lines where settlement_id = $1 order by number",
            settlement_id,
        )

    async def balances(self) -> dict[str, int]:
        """What this client has, by kind of account, without the empty ones."""
        rows = await self.fetch(
            "select kind, balance_minor from accounts where client_id = $1 and currency = 'RWF' "
            "and mode = 'test' and balance_minor <> 0",
            self.client_id,
        )
        return {row["kind"]: row["balance_minor"] for row in rows}

    async def told(self, subject: str | None) -> list[str]:
        """The types of events written about something."""
        rows = await self.fetch("select type from outbox where subject = $1 order by id", subject)
        return [row["type"] for row in rows]

    async def call(
        self, method: str, path: str, *, json: Any = None, actor: str | None = "usr_a",
        scope: str = "ledger:read ledger:write payouts:create payouts:decide",
        key: str | None = None, **tenant: str,
    ) -> httpx.Response:  # fmt: skip
        """Call as portal-api would: for the operator, or for the tenant named."""
        token = self.signer.token("ledger", scope, actor=actor, **tenant)
        headers = {"authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
        transport = httpx.ASGITransport(app=self.service.app, raise_app_exceptions=False)
        base = "http://ledger/internal/v1"
        async with httpx.AsyncClient(transport=transport, base_url=base) as http:
            return await http.request(method, path, json=json, headers=headers)
