"""Rows of two processes: leases that run out, owners that wake up, replicas under load."""

import pytest
from mospay_dev.crash.house import House
from mospay_dev.load import Load
from mospay_dev.proxy import until

from tests.crash.conftest import run_while

row = pytest.mark.row
OWNER = "select owner from attempts where payment_id = $1"
POSTING = b"/payment HTTP"


def owner_of(house: House, payment: str) -> str:
    """Return the name of the router process that owns a payment's attempt."""
    owner = str(house.value("payment-router", OWNER, payment))
    names = [n for n, p in house.stack.processes.items() if f":{p.pid}:" in owner]
    assert len(names) == 1, (owner, names)
    return names[0]


@row(12, "payment-router", "lease ran out, the first owner is alive with a late answer")
def test_late_answer_of_a_former_owner_is_evidence_and_nothing_more(house: House) -> None:
    """Row 12: only the current owner's update of the attempt counts (fencing)."""
    house.replicate("payment-router")
    before = house.simulator()["repeats"]
    payment = house.held()
    first = owner_of(house, payment)
    house.pause(first)
    house.wait_status(payment, "succeeded")  # by the other one: lease over, provider asked
    assert house.transitions(payment) == ["unknown", "succeeded"]
    fence = "select fence from attempts where payment_id = $1"
    assert house.value("payment-router", fence, payment) > 1
    house.answer()
    house.resume(first)
    heard = "select 1 from attempts where payment_id = $1 and answered_at is not null"
    until(lambda: house.sql("payment-router", heard, payment), "the late answer was stored")
    house.audit([payment], repeats=before)
    assert house.transitions(payment) == ["unknown", "succeeded"]
    assert house.effects(payment) == (1, 0)


@row("B4", "payment-router", "claimed, SIGSTOP past the lease, not found, SIGCONT")
def test_rule_01_a_paused_owner_that_wakes_sends_nothing(house: House) -> None:
    """Row B4, rule 1: the lease is looked at on a monotonic clock right before the first byte."""
    house.replicate("payment-router")
    proxy, reference, phone = house.stack.proxy("simulator"), house.reference(), house.phone()
    proxy.count(POSTING)
    traps = {
        name: house.at_commit(name, reference, "hold_after")
        for name in ("payment-router", "payment-router@2")
    }
    payment = house.pay(reference, phone=phone)
    first = until(
        lambda: next((n for n, t in traps.items() if t.caught.is_set()), None), "one claims it"
    )
    assert first is not None
    for name in traps:
        house.stack.proxy(name, "postgres").traps.clear()
    house.pause(first)  # committed, its answer on the way: claimed and not sent
    house.stack.proxy(first, "postgres").release()
    ended = house.wait_status(payment)
    assert ended["status"] == "failed" and ended["reason_code"] == "never_sent", ended
    house.kill(next(name for name in traps if name != first))
    house.resume(first)
    other = house.pay()
    house.wait_status(other, "succeeded")  # the one that woke did this, and had met its claim
    house.start("payment-router")
    house.audit([payment, other])
    assert house.effects(payment) == (0, 0) and proxy.counts[POSTING] == 1


@row("B3", "payment-router", "committed ready, killed before the claim")
def test_ready_attempt_of_a_killed_router_is_sent_once_by_another(house: House) -> None:
    """Row B3: `ready` is provably unsent, so any replica may send it."""
    before = house.simulator()["repeats"]
    house.stack.extra["payment-router"]["ROUTER_IN_FLIGHT"] = "1"
    house.crash("payment-router")
    del house.stack.extra["payment-router"]["ROUTER_IN_FLIGHT"]
    busy = house.held(service="patient")  # takes the only slot
    payment = house.pay()
    state = "select state from attempts where payment_id = $1"
    until(lambda: house.value("payment-router", state, payment) == "ready", "it waits for a slot")
    assert house.effects(payment) == (0, 0)
    house.kill("payment-router")
    house.stack.proxy("simulator").heal()
    house.replicate("payment-router")
    house.wait_status(payment, "succeeded", seconds=20)
    house.start("payment-router")
    house.audit([busy, payment], repeats=before)


@row(12, "gateway, payment-router", "two of each, one of each killed under load")
def test_one_of_two_gateways_and_routers_killed_under_load_is_not_noticed(house: House) -> None:
    """Row 12 and the promise: the other of each goes on."""
    second = house.replicate("gateway")
    house.replicate("payment-router")
    before = house.simulator()["repeats"]
    gateways = (house.seed.gateway_url, house.stack.url(second))
    load = Load(house.seed, phones=("+250780000000", "+250780000003"), gateways=gateways)
    run_while(load.steady(40, 8), lambda: house.kill("gateway", "payment-router"), after=2)
    assert not load.outcome.refused and len(set(load.outcome.accepted)) == 320
    house.start("gateway")  # the audit asks there; the second router ends what the first left
    house.audit(load.outcome.accepted, repeats=before)
