"""Two consumers, fee plans, counts: what holds around one posting."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
from mospay_ledger.usecases import posting
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import PaymentEventV1
from mospay_shared.ids import new_id

from .conftest import (
    another_attempt,
    booked,
    entries,
    event,
    running,
    send_raw,
    succeeded,
    until,
    wire,
)
from .test_books import REPLAY


class Crash(Exception):
    """The process dies before its commit."""


async def test_two_attempts_booked_at_the_same_moment_make_one_capture(ledger: Service) -> None:
    async def post(one: PaymentEventV1) -> None:
        async with ledger.database.transaction() as tx:
            await posting.post_events(tx, ledger.relay, [event(one)])

    # The accounts exist already: else opening them would make the second wait, not their lock.
    earlier = succeeded()
    await post(earlier)
    body = succeeded(client_id=earlier.client_id)

    async def second_waits() -> Any:
        async with ledger.database.transaction() as other:
            return await other.value(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' "
                "and datname = current_database()"
            )

    async with ledger.database.transaction() as first:
        await posting.post_events(first, ledger.relay, [event(body)])
        second = asyncio.create_task(post(another_attempt(body)))
        await until(second_waits)
    await second
    kinds = [row["kind"] for row in await entries(ledger, body.payment_id)]
    assert kinds == ["capture", "second_capture"]


async def test_two_consumers_book_each_effect_once(
    ledger: Service, new_ledger: Callable[[], Service]
) -> None:
    clients = [new_id("cli") for _ in range(3)]
    opening = [succeeded(client_id=client) for client in clients]
    async with ledger.database.transaction() as tx:
        await posting.post_events(tx, ledger.relay, [event(body) for body in opening])
    bodies = [succeeded(client_id=clients[n % 3]) for n in range(60)]
    again = [another_attempt(body) for body in bodies[:10]]
    news = [wire(body) for body in (*bodies, *again)]
    subjects = [body.payment_id for body in bodies]
    async with running(new_ledger()):
        # Every event twice, in packs that overlap and run in opposite orders.
        packs = [news[n : n + 7] for n in range(0, len(news), 5)]
        for pack in [*packs, *(list(reversed(pack)) for pack in reversed(packs))]:
            await send_raw(ledger, b"[" + b",".join(pack) + b"]")
        for body in bodies:
            await booked(ledger, body.payment_id, 2 if body in bodies[:10] else 1)

        async def all_seen() -> bool:
            async with ledger.database.transaction() as tx:
                seen = await tx.value(
                    "select count(*) from inbox where subject = any($1)"
                    " and queue = 'ledger.payments'",
                    subjects,
                )
            return bool(seen == len(news))

        await until(all_seen)
    async with ledger.database.transaction() as tx:
        kinds = await tx.fetch(
            "select kind, count(*) as n from journal_entries where client_id = any($1) group by 1",
            clients,
        )
        accounts = await tx.fetch("select id from accounts where client_id = any($1)", clients)
        differs = await tx.value(REPLAY, [row["id"] for row in accounts])
        stumbled = await tx.fetch(
            "select state, reason from inbox where subject = any($1) "
            "and (state <> 'done' or reason is not null)",
            subjects,
        )
    assert {row["kind"]: row["n"] for row in kinds} == {"capture": 63, "second_capture": 10}
    assert differs == 0
    assert stumbled == []  # they wait for each other's locks; neither fails and is tried again


async def plan(
    connection: "asyncpg.Connection[asyncpg.Record]", basis_points: int, fixed: int, **scope: str
) -> None:
    """Put a fee plan in force from this moment."""
    await connection.execute(
        "insert into fee_plans (id, version, mode, client_id, service_id, currency, basis_points, "
        "fixed_minor, effective_from) values ($1, 1, $2, $3, $4, $5, $6, $7, now())",
        new_id("fee"),
        scope.get("mode", "test"),
        scope.get("client_id"),
        scope.get("service_id"),
        scope.get("currency"),
        basis_points,
        fixed,
    )


async def test_rule_18_nearest_fee_plan_in_force_at_acceptance_applies(
    ledger: Service, worker_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    client, service = new_id("cli"), new_id("svc")
    mine: dict[str, Any] = {"client_id": client, "service_id": service, "amount_minor": 10_000}
    before = succeeded(**mine)
    await plan(worker_connection, 500, 0, service_id=service)
    await plan(worker_connection, 300, 0, client_id=client)
    await plan(worker_connection, 100, 7, client_id=client, service_id=service, currency="RWF")
    await plan(worker_connection, 9000, 0, client_id=client, service_id=service, mode="live")
    cases = [
        (before, 200),  # accepted before any of them: the default, whenever it is booked
        (succeeded(**mine), 107),
        (succeeded(**mine | {"currency": "USD"}), 300),
        (succeeded(**mine | {"service_id": "other"}), 300),
        (succeeded(**mine | {"client_id": new_id("cli")}), 500),
        (succeeded(**mine | {"mode": "live", "currency": "USD"}), 9000),
        (succeeded(amount_minor=10_000), 200),
    ]
    async with ledger.database.transaction() as tx:
        booked_entries = await posting.post_events(
            tx, ledger.relay, [event(body) for body, _ in cases]
        )
    assert [entry.fee_minor for entry in booked_entries] == [fee for _, fee in cases]


async def test_fee_of_the_whole_amount_leaves_two_sides(
    ledger: Service, worker_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    client = new_id("cli")
    await plan(worker_connection, 10_000, 0, client_id=client)
    async with ledger.database.transaction() as tx:
        (entry,) = await posting.post_events(tx, ledger.relay, [event(succeeded(client_id=client))])
    assert (entry.fee_minor, len(entry.postings)) == (1500, 2)


async def test_books_are_counted_after_the_commit_alone(ledger: Service) -> None:
    def posted() -> float:
        return posting.POSTED.labels("capture", "test")._value.get()

    before = posted()
    try:
        async with ledger.database.transaction() as tx:
            await posting.post_events(tx, ledger.relay, [event(succeeded())])
            raise Crash
    except Crash:
        pass
    assert posted() == before
    async with ledger.database.transaction() as tx:
        await posting.post_events(tx, ledger.relay, [event(succeeded())])
    assert posted() == before + 1
