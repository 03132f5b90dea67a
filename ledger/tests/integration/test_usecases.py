"""Books stay true under any sequence, repeat, order and rollback, and between two consumers."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from mospay_ledger import usecases
from mospay_ledger.domain import effect_key
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

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


class Crash(Exception):
    """The process dies before its commit."""


def two_percent(amount_minor: int) -> int:
    """The default plan, told another way than the ledger does."""
    return round(amount_minor * 2 / 100) if amount_minor < 10**9 else amount_minor * 2 // 100


def machine(run: Run[Any], ledger: Service) -> type[RuleBasedStateMachine]:
    """A machine that books through `ledger` and keeps its own simple model of what must be true."""

    class Books(RuleBasedStateMachine):
        payments = Bundle("payments")

        def __init__(self) -> None:
            super().__init__()
            self.clients = [new_id("cli"), new_id("cli")]
            self.waiting: list[PaymentEventV1] = []
            self.effects: set[str] = set()
            self.captured: set[str] = set()
            self.balances: Counter[str] = Counter()  # of this machine's clients
            self.versions: Counter[str] = Counter()

        @rule(
            target=payments,
            client=st.integers(0, 1),
            currency=st.sampled_from(["RWF", "USD", "KWD"]),
            mode=st.sampled_from(["live", "test"]),
            amount=st.integers(1, 10**6).map(lambda n: n * 50),
            late=st.booleans(),
        )
        def succeed(
            self, client: int, currency: str, mode: str, amount: int, late: bool
        ) -> PaymentEventV1:
            body = succeeded(
                client_id=self.clients[client],
                currency=currency,
                mode=mode,
                amount_minor=amount,
                late=late,
            )
            self.waiting.append(body)
            return body

        @rule(body=payments, version=st.integers(0, 9))
        def tell_again(self, body: PaymentEventV1, version: int) -> None:
            self.waiting.append(body.model_copy(update={"version": version}))

        @rule(target=payments, body=payments)
        def take_again(self, body: PaymentEventV1) -> PaymentEventV1:
            again = another_attempt(body)
            self.waiting.append(again)
            return again

        @rule(data=st.data(), crash=st.booleans())
        def deliver(self, data: st.DataObject, crash: bool) -> None:
            batch = data.draw(st.permutations(self.waiting))
            batch = batch[: data.draw(st.integers(0, len(batch)))]
            if not batch:
                return
            run(post(batch, crash))
            if crash:
                return
            for body in batch:
                self.waiting.remove(body)
                self.expect(body)

        def expect(self, body: PaymentEventV1) -> None:
            if effect_key(body) in self.effects:
                return
            self.effects.add(effect_key(body))
            books = f"client:{body.client_id}:{body.currency}:{body.mode}"
            if body.payment_id in self.captured:
                account, owed = f"{books}:refund_due", body.amount_minor
            else:
                account = f"{books}:pending"
                owed = body.amount_minor - two_percent(body.amount_minor)
            self.captured.add(body.payment_id)
            self.balances[account] -= owed
            self.versions[account] += 1

        @invariant()
        def books_are_true(self) -> None:
            found = run(look(self.clients))
            opened = {key: value for key, value in found["accounts"].items() if value[1]}
            assert opened == {
                key: (self.balances[key], self.versions[key]) for key in self.balances
            }
            assert found["effects"] == self.effects
            assert found["sums"] <= {0}
            assert found["replay_differs"] == 0

    async def post(batch: list[PaymentEventV1], crash: bool) -> None:
        try:
            async with ledger.database.transaction() as tx:
                await usecases.post_captures(tx, ledger.relay, [event(body) for body in batch])
                if crash:
                    raise Crash
        except Crash:
            pass

    async def look(clients: list[str]) -> dict[str, Any]:
        async with ledger.database.transaction() as tx:
            accounts = await tx.fetch(
                "select id, balance_minor, version from accounts where client_id = any($1)", clients
            )
            effects = await tx.fetch(
                "select effect_key from journal_entries where client_id = any($1)", clients
            )
            sums = await tx.fetch(
                "select sum(p.amount_minor) as total from postings p "
                "join journal_entries e on e.id = p.entry_id where e.client_id = any($1) "
                "group by p.currency, p.mode",
                clients,
            )
            differs = await tx.value(_REPLAY_DIFFERS, clients)
        return {
            "accounts": {row["id"]: (row["balance_minor"], row["version"]) for row in accounts},
            "effects": {row["effect_key"] for row in effects},
            "sums": {row["total"] for row in sums},
            "replay_differs": differs,
        }

    return Books


# Postings played again from nothing give each running balance, version and stored balance.
_REPLAY_DIFFERS = """
with replay as (
    select account_id, account_version, balance_minor,
        sum(amount_minor) over w as played, row_number() over w as place
    from postings where client_id = any($1)
    window w as (partition by account_id order by account_version))
select (select count(*) from replay where played <> balance_minor or place <> account_version)
    + (select count(*) from accounts a where a.client_id = any($1) and a.balance_minor <>
        coalesce((select sum(amount_minor) from postings p where p.account_id = a.id), 0))"""


def test_any_sequence_repeat_order_and_crash_leaves_true_books(
    new_ledger: Callable[[], Service],
) -> None:
    with asyncio.Runner() as runner:
        ledger = new_ledger()
        runner.run(ledger.database.open())
        try:
            run_state_machine_as_test(
                machine(runner.run, ledger),
                settings=settings(max_examples=25, stateful_step_count=20, deadline=None),
            )
        finally:
            runner.run(ledger.database.close())


async def test_two_attempts_booked_at_the_same_moment_make_one_capture(ledger: Service) -> None:
    async def post(one: PaymentEventV1) -> None:
        async with ledger.database.transaction() as tx:
            await usecases.post_captures(tx, ledger.relay, [event(one)])

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
        await usecases.post_captures(first, ledger.relay, [event(body)])
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
        await usecases.post_captures(tx, ledger.relay, [event(body) for body in opening])
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
                    "select count(*) from inbox where subject = any($1)", subjects
                )
            return bool(seen == len(news))

        await until(all_seen)
    async with ledger.database.transaction() as tx:
        kinds = await tx.fetch(
            "select kind, count(*) as n from journal_entries where client_id = any($1) group by 1",
            clients,
        )
        differs = await tx.value(_REPLAY_DIFFERS, clients)
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


async def test_nearest_fee_plan_in_force_at_acceptance_applies(
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
        booked_entries = await usecases.post_captures(
            tx, ledger.relay, [event(body) for body, _ in cases]
        )
    assert [entry.fee_minor for entry in booked_entries] == [fee for _, fee in cases]


async def test_fee_of_the_whole_amount_leaves_two_sides(
    ledger: Service, worker_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    client = new_id("cli")
    await plan(worker_connection, 10_000, 0, client_id=client)
    async with ledger.database.transaction() as tx:
        (entry,) = await usecases.post_captures(
            tx, ledger.relay, [event(succeeded(client_id=client))]
        )
    assert (entry.net_minor, len(entry.postings)) == (0, 2)


async def test_books_are_counted_after_the_commit_alone(ledger: Service) -> None:
    def posted() -> float:
        return usecases.POSTED.labels("capture", "test")._value.get()

    before = posted()
    try:
        async with ledger.database.transaction() as tx:
            await usecases.post_captures(tx, ledger.relay, [event(succeeded())])
            raise Crash
    except Crash:
        pass
    assert posted() == before
    async with ledger.database.transaction() as tx:
        await usecases.post_captures(tx, ledger.relay, [event(succeeded())])
    assert posted() == before + 1
