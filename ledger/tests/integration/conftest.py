"""The ledger in this process, over a real database and broker, and what its tests send it."""

import asyncio
import datetime as dt
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import asyncpg
import pytest
from mospay_dev.infrastructure.cluster import Cluster
from mospay_ledger.app import create_service
from mospay_ledger.domain import MoneyEvent
from mospay_ledger.settings import LedgerSettings
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import (
    Envelope,
    Event,
    PaymentEventV1,
    PaymentStatus,
    RefundEventV1,
    outgoing,
)
from mospay_shared.ids import new_id

if TYPE_CHECKING:
    from .settling_desk import Desk

WAIT_SECONDS = 15.0


@pytest.fixture(scope="session")
def ledger_env(service_env: Callable[..., dict[str, str]]) -> dict[str, str]:
    """The complete environment, its database migrated."""
    return service_env("ledger")


@pytest.fixture
def new_ledger(
    ledger_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Service]:
    """Make a ledger that has not started."""
    for name, value in ledger_env.items():
        monkeypatch.setitem(os.environ, name, value)
    return lambda: create_service(LedgerSettings())


@pytest.fixture
async def ledger(new_ledger: Callable[[], Service]) -> AsyncIterator[Service]:
    """A running ledger."""
    async with running(new_ledger()) as service:
        yield service


@pytest.fixture
async def quiet(new_ledger: Callable[[], Service]) -> AsyncIterator[Service]:
    """A ledger whose pools are open; nothing runs but what a test runs."""
    service = new_ledger()
    await service.database.open()
    yield service
    await service.database.close()


@pytest.fixture
def provider() -> str:
    """A microservice of this test's own."""
    return "sim-" + new_id("m")


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[Service]:
    """Start a ledger, wait until it is ready for messages, and stop it in the end."""

    async def ready() -> bool:
        return (await service.readiness())[0]

    async with service.app.router.lifespan_context(service.app):
        await until(ready)
        yield service


@pytest.fixture
async def worker_connection(
    ledger_env: dict[str, str],
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Direct SQL as the role the service itself uses."""
    connection = await asyncpg.connect(ledger_env["LEDGER_WORKER_DATABASE_URL"])
    yield connection
    await connection.close()


@pytest.fixture
async def superuser(
    infrastructure: Cluster, ledger_env: dict[str, str]
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Direct SQL in the ledger's database as someone no privilege stops."""
    server = infrastructure.postgres_url.rpartition("/")[0]
    database = ledger_env["LEDGER_DATABASE_URL"].rpartition("/")[2]
    connection = await asyncpg.connect(f"{server}/{database}")
    yield connection
    await connection.close()


@pytest.fixture
def portal(infrastructure: Cluster) -> TokenSigner:
    """Whoever the ledger trusts to read."""
    return TokenSigner("portal-api", infrastructure.keys["portal_signing"])


def succeeded(**changes: Any) -> PaymentEventV1:
    """A succeeded payment of a client of its own."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "payment_id": new_id("pay"),
        "client_id": new_id("cli"),
        "mode": "test",
        "app_id": "app",
        "service_id": "svc",
        "microservice": "simulator",
        "service": "collection",
        "route": "payment",
        "amount_minor": 1500,
        "currency": "RWF",
        "status": PaymentStatus.SUCCEEDED,
        "version": 2,
        "reference": "r",
        "attempt_id": new_id("att"),
        "accepted_at": now,
        "occurred_at": now,
    }
    return PaymentEventV1(**(values | changes))


def another_attempt(body: PaymentEventV1) -> PaymentEventV1:
    """The same payment, taken again by another attempt."""
    return body.model_copy(update={"attempt_id": new_id("att"), "version": body.version + 2})


def refund(of: PaymentEventV1, amount_minor: int, status: str, **changes: Any) -> RefundEventV1:
    """News of a refund of a payment; a new refund unless `refund_id` is among the changes."""
    same = {
        name: getattr(of, name)
        for name in (
            "payment_id", "client_id", "mode", "app_id", "service_id", "microservice", "service",
            "currency",
        )
    }  # fmt: skip
    values: dict[str, Any] = {
        "refund_id": new_id("ref"),
        "amount_minor": amount_minor,
        "payment_amount_minor": of.amount_minor,
        "refunded_minor": amount_minor if status == "succeeded" else 0,
        "status": status,
        "version": 1,
        "payment_accepted_at": of.accepted_at,
        "requested_at": of.occurred_at,
        "occurred_at": of.occurred_at,
    }
    return RefundEventV1(**(same | values | changes))


def wire(body: MoneyEvent) -> bytes:
    """A new event as it travels."""
    kind = "refund" if isinstance(body, RefundEventV1) else "payment"
    wire_type = "payment.succeeded.v1" if kind == "payment" else f"refund.{body.status.value}.v1"
    return outgoing(wire_type, body.payment_id, body, source="t").body


def event(body: MoneyEvent) -> Event[MoneyEvent]:
    """A new event as a use case takes it."""
    return Event(Envelope.model_validate_json(wire(body)), body)


async def send_raw(ledger: Service, *messages: bytes) -> None:
    """Publish messages as they are."""
    connection = await aio_pika.connect(ledger.broker.url)
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange("mospay.events")
        for message in messages:
            await exchange.publish(aio_pika.Message(message), "payment.succeeded.v1")


async def send(ledger: Service, *events: bytes) -> None:
    """Publish events, each in a message of its own."""
    await send_raw(ledger, *(b"[" + one + b"]" for one in events))


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until a condition holds and return what it returned."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
    return found


async def entries(ledger: Service, payment_id: str) -> list[Any]:
    """A payment's entries."""
    async with ledger.database.transaction() as tx:
        return await tx.fetch(
            "select * from journal_entries where payment_id = $1 order by posted_at", payment_id
        )


async def booked(ledger: Service, payment_id: str, count: int = 1) -> list[Any]:
    """Wait until a payment has entries."""

    async def enough() -> list[Any]:
        found = await entries(ledger, payment_id)
        return found if len(found) >= count else []

    found: list[Any] = await until(enough)
    return found


async def inbox_row(ledger: Service, subject: str, state: str) -> Any:
    """Wait until a message about `subject` is in this state and return its inbox row."""

    async def there() -> Any:
        async with ledger.database.transaction() as tx:
            return await tx.row(
                "select state, reason, attempts from inbox where subject = $1 and state = $2"
                " and queue = 'ledger.payments'",
                subject,
                state,
            )

    return await until(there)


async def balances(ledger: Service, client_id: str, currency: str = "RWF") -> dict[str, int]:
    """What a client has in test mode, by kind of account, without the empty ones."""
    async with ledger.database.transaction() as tx:
        rows = await tx.fetch(
            "select kind, balance_minor from accounts where client_id = $1 and currency = $2 "
            "and mode = 'test' and balance_minor <> 0",
            client_id,
            currency,
        )
    return {row["kind"]: row["balance_minor"] for row in rows}


@pytest.fixture
def desk(quiet: Service, portal: TokenSigner) -> "Desk":
    """A ledger without its workers, for a client of its own: its clock is the test's."""
    from .settling_desk import Desk  # it takes what this module makes

    return Desk(quiet, portal)
