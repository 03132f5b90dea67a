"""Every posting template in any order, repeated, batched and crashed: the books stay true.

The machine keeps a model of its own that knows nothing of templates: what the provider holds, and
what a client is worth to us (over all of its accounts).
"""

import asyncio
import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from mospay_ledger.domain import Movement, NotEnough
from mospay_ledger.usecases import chain, posting
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import PaymentEventV1, RefundEventV1
from mospay_shared.ids import new_id

from .conftest import another_attempt, event, refund, succeeded

Run = Callable[[Coroutine[Any, Any, Any]], Any]
CLIENTS = 2
MOVES = ("settlement", "payout", "payout_returned", "payout_paid", "payout_bounced")
CREDITS = ("pending", "available", "payout", "refund_due", "reserve")
# Postings played again from nothing give each running balance, version and stored balance.
REPLAY = """
with replay as (
    select p.account_id, account_version, p.balance_minor, previous_minor,
        sum(amount_minor) over w as played, row_number() over w as place
    from postings p where account_id = any($1)
    window w as (partition by account_id order by account_version))
select (select count(*) from replay
        where played <> balance_minor or place <> account_version)
    + (select count(*) from accounts a where a.id = any($1) and (a.balance_minor, a.version) <>
        (select coalesce(sum(amount_minor), 0), count(*) from postings p
         where p.account_id = a.id))"""
OFF_BALANCE = """
select count(*) from (
    select p.entry_id from postings p join journal_entries e on e.id = p.entry_id
    where e.client_id = any($1)
    group by p.entry_id having sum(p.amount_minor) <> 0
        or count(distinct (p.currency, p.mode)) <> 1) off"""


class Crash(Exception):
    """The process dies before its commit."""


def fee_of(amount_minor: int) -> int:
    """The default plan, told another way than the ledger does; exact for multiples of 50."""
    return amount_minor * 2 // 100


def machine(run: Run, ledger: Service) -> type[RuleBasedStateMachine]:
    """A machine that books through `ledger` and compares with its own model."""

    class Money(RuleBasedStateMachine):
        payments = Bundle("payments")
        refunds = Bundle("refunds")
        moves = Bundle("moves")
        kept = Bundle("kept")

        def __init__(self) -> None:
            super().__init__()
            self.clients = [new_id("cli") for _ in range(CLIENTS)]
            self.provider = new_id("momo")
            self.waiting: list[PaymentEventV1 | RefundEventV1] = []
            self.seen: set[str] = set()
            self.captured: set[str] = set()
            self.held: Counter[tuple[str, str]] = Counter()  # (currency, mode)
            self.worth: Counter[tuple[str, str, str]] = Counter()  # (client, currency, mode)

        @rule(
            target=payments,
            client=st.integers(0, CLIENTS - 1),
            currency=st.sampled_from(["RWF", "USD", "KWD"]),
            mode=st.sampled_from(["test", "test", "live"]),
            amount=st.integers(1, 40).map(lambda n: n * 50),
            late=st.booleans(),
        )
        def succeed(
            self, client: int, currency: str, mode: str, amount: int, late: bool
        ) -> PaymentEventV1:
            body = succeeded(
                client_id=self.clients[client], currency=currency, mode=mode,
                amount_minor=amount, late=late, microservice=self.provider,
            )  # fmt: skip
            self.waiting.append(body)
            return body

        @rule(target=payments, body=payments)
        def take_again(self, body: PaymentEventV1) -> PaymentEventV1:
            self.waiting.append(again := another_attempt(body))
            return again

        @rule(target=payments, client=st.integers(0, CLIENTS - 1))
        def untold(self, client: int) -> PaymentEventV1:
            """A payment whose refunds are told of before its capture."""
            return succeeded(
                client_id=self.clients[client], amount_minor=1000, microservice=self.provider
            )

        @rule(body=payments, version=st.integers(0, 9))
        def tell_again(self, body: PaymentEventV1, version: int) -> None:
            self.waiting.append(body.model_copy(update={"version": version}))

        @rule(
            target=refunds,
            body=payments,
            share=st.integers(1, 4),
            over=st.sampled_from([False, False, False, True]),
        )
        def refund(self, body: PaymentEventV1, share: int, over: bool) -> RefundEventV1:
            part = max(1, body.amount_minor // share)
            given = body.amount_minor + part // 2 if over else part
            return refund(body, part, "pending", over_refund=over, refunded_minor=given)

        @rule(asked=refunds, status=st.sampled_from(["pending", "unknown", "failed", "succeeded"]))
        def tell_refund(self, asked: RefundEventV1, status: str) -> None:
            self.waiting.append(
                RefundEventV1(**(asked.model_dump() | {"status": status, "late": True}))
            )

        @rule(data=st.data(), count=st.integers(1, 8), crash=st.sampled_from([False, False, True]))
        def post(self, data: st.DataObject, count: int, crash: bool) -> None:
            if not self.waiting:
                return
            order = data.draw(st.permutations(range(len(self.waiting))))[:count]
            batch = [self.waiting[n] for n in order]
            run(_post(ledger, batch, crash))
            if crash:
                return
            self.waiting = [b for n, b in enumerate(self.waiting) if n not in order]
            for body in batch:
                self._model(body)

        def _model(self, body: PaymentEventV1 | RefundEventV1) -> None:
            books = (body.currency, body.mode)
            worth = (body.client_id, *books)
            if isinstance(body, PaymentEventV1):
                if body.attempt_id in self.seen:
                    return
                self.seen.add(body.attempt_id or "")
                self.held[books] += body.amount_minor
                fee = 0 if body.payment_id in self.captured else fee_of(body.amount_minor)
                self.captured.add(body.payment_id)
                self.worth[worth] += body.amount_minor - fee
            elif body.status == "succeeded" and body.refund_id not in self.seen:
                self.seen.add(body.refund_id)
                excess = body.refunded_minor - body.payment_amount_minor if body.over_refund else 0
                self.held[books] -= body.amount_minor
                excess = (min(body.amount_minor, excess) or body.amount_minor) * body.over_refund
                self.worth[worth] -= body.amount_minor - excess

        @rule(
            target=moves,
            body=payments,
            kind=st.sampled_from(MOVES),
            amount=st.integers(1, 2000),
        )
        def move(self, body: PaymentEventV1, kind: str, amount: int) -> Movement:
            return self._make(body, kind, amount)

        def _make(self, body: PaymentEventV1, kind: str, amount: int) -> Movement:
            made = Movement(
                new_id("set"), kind, body.client_id, body.mode, body.currency, amount,
                dt.datetime.now(dt.UTC),
            )  # fmt: skip
            self._moved(made)
            return made

        @rule(made=moves)
        def move_again(self, made: Movement) -> None:
            assert self._moved(made) <= 1

        def _moved(self, made: Movement) -> int:
            """Book a movement; what the bank paid out is no longer with us, nor owed."""
            entries = run(_move(ledger, made))
            sign = {"payout_paid": -1, "payout_bounced": 1}.get(made.kind, 0)
            self.worth[made.client_id, made.currency, made.mode] += (
                sign * made.amount_minor * len(entries)
            )
            return len(entries)

        @rule(target=kept, body=payments, amount=st.integers(1, 500))
        def keep(self, body: PaymentEventV1, amount: int) -> MultipleResults[Movement]:
            made = self._make(body, "reserve_kept", amount)
            held = made.effect_key in run(_effects(ledger, made))
            return multiple(made) if held else multiple()

        @rule(made=consumes(kept))
        def release(self, made: Movement) -> None:
            assert self._moved(dataclasses.replace(made, kind="reserve_released")) == 1

        @rule(body=consumes(payments), keep_fee=st.booleans())
        def reverse(self, body: PaymentEventV1, keep_fee: bool) -> None:
            entry = run(_reverse(ledger, f"{body.attempt_id}:capture", keep_fee))
            if entry is None:
                return
            books = (body.currency, body.mode)
            self.held[books] -= body.amount_minor
            gone = body.amount_minor if keep_fee else body.amount_minor - entry
            self.worth[body.client_id, *books] -= gone

        @invariant()
        def books_are_true(self) -> None:
            accounts, off, differs = run(_look(ledger, self.clients, self.provider))
            assert off == 0
            assert differs == 0
            found: Counter[Any] = Counter()
            spendable: Counter[Any] = Counter()
            debts: Counter[Any] = Counter()
            for row in accounts:
                books = (row["currency"], row["mode"])
                if row["client_id"] is None:
                    found[books] += row["balance_minor"]
                    continue
                key = (row["client_id"], *books)
                found[key] -= row["balance_minor"]
                if row["kind"] in CREDITS:
                    assert row["balance_minor"] <= 0, row
                if row["kind"] in ("pending", "available"):
                    spendable[key] -= row["balance_minor"]
                if row["kind"] == "receivable":
                    assert row["balance_minor"] >= 0
                    debts[key] = row["balance_minor"]
            wanted = {**self.held, **self.worth}
            assert {k: v for k, v in found.items() if v} == {k: v for k, v in wanted.items() if v}
            assert not [key for key, debt in debts.items() if debt and spendable[key]]

        def teardown(self) -> None:
            """In the end everything is told, sealed, and the chain holds."""
            if self.waiting:
                run(_post(ledger, self.waiting, crash=False))
                for body in self.waiting:
                    self._model(body)
                self.waiting = []
                self.books_are_true()

    return Money


async def _post(ledger: Service, batch: list[Any], crash: bool) -> None:
    try:
        async with ledger.database.transaction() as tx:
            await posting.post_events(tx, ledger.relay, [event(body) for body in batch])
            if crash:
                raise Crash
    except Crash:
        pass


async def _move(ledger: Service, made: Movement) -> list[Any]:
    try:
        async with ledger.database.transaction() as tx:
            return await posting.post_movements(tx, [made])
    except NotEnough:
        return []


async def _effects(ledger: Service, made: Movement) -> set[str]:
    async with ledger.database.transaction() as tx:
        rows = await tx.fetch(
            "select effect_key from journal_entries where effect_key = $1", made.effect_key
        )
    return {row["effect_key"] for row in rows}


async def _reverse(ledger: Service, effect_key: str, keep_fee: bool) -> int | None:
    """Take a booked capture back and return the fee it had; None where there is nothing to."""
    async with ledger.database.transaction() as tx:
        row = await tx.row(
            "select id, kind, fee_minor from journal_entries e where effect_key = $1 "
            "and not exists (select from journal_entries r where r.reverses = e.id)",
            effect_key,
        )
        if row is None or (keep_fee and row["kind"] != "capture"):
            return None
        await posting.reverse(
            tx, ledger.relay, row["id"], keep_fee=keep_fee, reason="test", by=("a", "b")
        )
        return int(row["fee_minor"])


async def _look(ledger: Service, clients: list[str], provider: str) -> tuple[Any, int, int]:
    async with ledger.database.transaction() as tx:
        accounts = await tx.fetch(
            "select * from accounts where client_id = any($1) or id like $2",
            clients,
            f"provider:{provider}:%",
        )
        off = await tx.value(OFF_BALANCE, clients)
        differs = await tx.value(REPLAY, [row["id"] for row in accounts])
    return accounts, off, differs


@pytest.mark.timeout(300)
def test_any_order_of_every_template_leaves_true_books_and_a_whole_chain(
    new_ledger: Callable[[], Service],
) -> None:
    with asyncio.Runner() as runner:
        ledger = new_ledger()
        runner.run(ledger.database.open())
        try:
            run_state_machine_as_test(
                machine(runner.run, ledger),
                settings=settings(max_examples=40, stateful_step_count=30, deadline=None),
            )
            runner.run(_chain_holds(ledger))
        finally:
            runner.run(ledger.database.close())


async def _chain_holds(ledger: Service) -> None:
    async with ledger.database.transaction() as tx:
        while await chain.seal(tx, 5000):
            pass
        assert (await chain.verify(tx, 1, 10_000)).fault is None
