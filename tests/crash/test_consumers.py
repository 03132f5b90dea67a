"""Rows of those who listen: the whole of a transaction or nothing, and each event once."""

import pytest
from mospay_dev.crash.house import House
from mospay_dev.proxy import until

row = pytest.mark.row
LISTENERS = ("ledger", "reporter", "notifier", "gateway")


def killed_at(house: House, payment: str, step: str) -> None:
    """Trap all four listeners at a step of the payment's end, kill them there, start them again."""
    traps = {
        name: house.at_ack(name, payment, "hold_before")
        if step == "ack"
        else house.at_commit(name, payment, "hold_before")
        for name in LISTENERS
    }
    house.answer()
    for trap in traps.values():
        trap.wait()
    house.kill(*LISTENERS)
    house.start(*LISTENERS)


def taken_once(house: House, payment: str) -> None:
    """Assert that each listener's tables have the payment's end exactly once."""
    house.audit([payment])
    facts = "select count(*) from payment_facts where payment_id = $1 and status = 'succeeded'"
    until(lambda: house.value("reporter", facts, payment) == 1, "reporter has one fact")
    entries = "select count(*) from journal_entries where payment_id = $1"
    assert house.value("ledger", entries, payment) == 1
    ends = "payment_id = $1 and event_type = 'payment.succeeded'"
    deliveries = f"select count(*) from deliveries where {ends}"
    assert house.value("notifier", deliveries, payment) == 1
    status = "select status from payments where id = $1"
    until(lambda: house.value("gateway", status, payment) == "succeeded", "gateway has the news")


@row(15, "ledger", "before its commit")
@row(15, "reporter", "before its commit")
@row(15, "notifier", "before its commit")
@row(15, "gateway", "consumer, before its commit")
def test_listeners_killed_before_their_commit_take_the_event_again(house: House) -> None:
    """Row 15: nothing of the transaction is there, the event comes again."""
    payment = house.held()
    killed_at(house, payment, "commit")
    taken_once(house, payment)


@row(15, "ledger", "after its commit, before the ack")
@row(15, "reporter", "after its commit, before the ack")
@row(15, "notifier", "after its commit, before the ack")
@row(15, "gateway", "consumer, after its commit, before the ack")
def test_listeners_killed_before_the_ack_absorb_the_redelivery(house: House) -> None:
    """Row 15: all of the transaction is there, the inbox knows the event."""
    payment = house.held()
    killed_at(house, payment, "ack")
    taken_once(house, payment)


@pytest.mark.parametrize(
    ("act", "received"),
    [
        pytest.param(act, received, marks=row(16, "notifier", step))
        for act, received, step in (
            ("hold_before", 1, "attempt stored, before the POST"),
            ("hold_after", 2, "after the POST, before its result is stored"),
        )
    ],
)
def test_notifier_killed_around_the_post_delivers_again_under_the_same_id(
    house: House, act: str, received: int
) -> None:
    """Row 16."""
    payment = house.held()
    trap = house.at_call("receiver", payment, act)  # type: ignore[arg-type]
    house.answer()
    trap.wait()
    if received == 2:
        until(lambda: len(house.webhooks(payment)) == 1, "the merchant has it")
    house.kill("notifier")
    house.stack.proxy("receiver").heal()
    house.start("notifier")
    house.audit([payment])
    delivered = "select 1 from deliveries where payment_id = $1 and state = 'delivered'"
    until(lambda: house.sql("notifier", delivered, payment), "the delivery has ended")
    hooks = [h for h in house.webhooks(payment) if h["type"] == "payment.succeeded"]
    assert len(hooks) == received and all(h["verified"] for h in hooks), hooks
    assert len({h["webhook_id"] for h in hooks}) == 1, "a repeated delivery has another id"


@row("B10", "gateway, ledger, reporter", "event v3 before v2 before v1, then all again")
def test_events_in_reverse_order_and_again_have_each_effect_once(house: House) -> None:
    """Row B10: the newest state wins, money applies once, whatever the order."""
    asking = house.stack.proxy("simulator").trap(b"/paymentStatus HTTP", "hold_before")
    house.stack.proxy("simulator").spoil(answer=b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
    payment = house.pay()
    house.wait_status(payment, "unknown")
    asking.wait()
    house.kill("gateway", "ledger", "reporter")
    house.answer()
    until(lambda: house.transitions(payment) == ["unknown", "succeeded"], "it ended")
    relayed = "select 1 from outbox where subject = $1"
    until(lambda: not house.sql("payment-router", relayed, payment), "the events are out")
    queues = {
        name: [body for _, _, body in house.take(name)]
        for name in ("gateway.payments", "ledger.payments", "reporter.payments")
    }
    assert all(any(payment.encode() in body for body in packs) for packs in queues.values())
    for name, packs in queues.items():
        house.transfer(name, [*reversed(packs), *packs, *reversed(packs)])
    house.start("gateway", "ledger", "reporter")
    taken_once(house, payment)
    assert house.read(payment)["status"] == "succeeded"


@row("B10", "ledger", "the same money event under fresh ids")
def test_rule_16_money_event_under_a_fresh_id_is_booked_once(house: House) -> None:
    """Rule 16: the effect key of a capture is its attempt, beside the inbox's dedupe by event."""
    house.spy("crash.spy", [("mospay.events", "payment.succeeded.v1")])
    payment = house.pay()
    house.audit([payment])
    packs = [body for _, _, body in house.take("crash.spy") if payment.encode() in body]
    house.unspy("crash.spy")
    assert packs
    house.transfer("ledger.payments", [house.renamed(body) for body in packs * 3])
    seen = "select count(*) from inbox where subject = $1 and queue = 'ledger.payments'"
    until(lambda: house.value("ledger", seen, payment) == 4, "the ledger looked at all of them")
    taken_once(house, payment)
