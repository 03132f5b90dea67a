"""Rows of broker, databases and Redis: away, full, slow or cut, and back again."""

import asyncio
import time

import httpx
import pytest
from mospay_dev.crash.house import House
from mospay_dev.load import Load
from mospay_dev.proxy import until
from mospay_dev.services import SERVICES

from tests.crash.conftest import run_while

row = pytest.mark.row
MIX = ("+250780000000", "+250780000001", "+250780000005")
WAITING = "select type, attempts from outbox where subject = $1"


@row(17, "broker", "command queue full (reject-publish)")
@row("B2", "gateway", "one pack of several nacked")
def test_rule_15_a_full_command_queue_holds_up_commands_alone(house: House) -> None:
    """Rows 17 and B2, rule 15: the claim's other packs are deleted; it alone is tried again."""
    house.kill("payment-router")
    house.stack.cluster.limit_queue("payment-router.commands", 1)
    try:
        first = [house.pay() for _ in range(3)]  # quorum queues refuse soon after their limit
        blocked = until(lambda: _refused(house), "the broker refuses commands", 20) or ""
        waiting = house.sql("gateway", WAITING, blocked)
        assert [w["type"] for w in waiting] == ["payments.process.v1"], waiting
        heard = "select 1 from payment_facts where payment_id = $1"
        until(lambda: house.sql("reporter", heard, blocked), "its event went out all the same")
    finally:
        house.stack.cluster.limit_queue("payment-router.commands", None)
    house.start("payment-router")
    house.audit([*first, blocked])


def _refused(house: House) -> str | None:
    """Pay once more, and return the payment if its command was refused by the broker."""
    payment = house.pay()
    for _ in range(20):
        rows = house.sql("gateway", WAITING, payment)
        if any(r["attempts"] for r in rows):
            return payment
        if not rows:
            return None
        time.sleep(0.1)
    return None


@row(17, "all", "broker connections cut again and again under load")
def test_connections_cut_under_load_lose_and_double_nothing(house: House) -> None:
    """Row 17: outboxes hold; nothing is acknowledged that is not committed."""
    before = house.simulator()["repeats"]
    load = Load(house.seed, phones=MIX)

    def trouble() -> None:
        for _ in range(8):
            for name in SERVICES:
                house.stack.proxy(name, "broker").cut()
            time.sleep(0.6)

    run_while(load.steady(40, 7), trouble, after=0.5)
    assert not load.outcome.refused
    house.audit(load.outcome.accepted, repeats=before)


@row(17, "all", "broker restarted (kill -9) under load")
def test_broker_killed_under_load_loses_and_doubles_nothing(house: House) -> None:
    """Row 17."""
    before = house.simulator()["repeats"]
    load = Load(house.seed, phones=MIX)
    run_while(load.steady(40, 8), lambda: house.stack.cluster.restart("rabbitmq"), after=2)
    assert not load.outcome.refused
    house.audit(load.outcome.accepted, repeats=before)


@row(17, "all", "broker gone behind proxies that still accept and hang up")
def test_peer_that_accepts_and_hangs_up_ends_no_loop(house: House) -> None:
    """Row 17: what the library raises then once ended a relay for good."""
    proxies = [house.stack.proxy(name, "broker") for name in SERVICES]
    house.stack.cluster.kill("rabbitmq")
    payment = house.pay()
    before = [proxy.connections for proxy in proxies]
    until(
        lambda: all(p.connections > b + 25 for p, b in zip(proxies, before, strict=True)),
        "everybody has met it often",
        60,
    )
    house.stack.cluster.start()
    house.audit([payment, house.pay()])
    for name in SERVICES:
        assert httpx.get(house.stack.url(name) + "/healthz", timeout=10).status_code == 200, name


@row(17, "all", "broker answers nothing (blackhole), then slow and narrow")
def test_broker_that_answers_nothing_and_then_slowly_delays_and_loses_nothing(
    house: House,
) -> None:
    """Row 17: a confirm that will never come must not be waited for for ever."""
    before = house.simulator()["repeats"]
    names = ("gateway", "payment-router", "ledger", "notifier")
    for name in names:
        house.stack.proxy(name, "broker").blackhole()
    load = Load(house.seed)
    asyncio.run(load.burst(20))
    assert len(load.outcome.accepted) == 20
    for name in names:
        house.stack.proxy(name, "broker").heal()
        house.stack.proxy(name, "broker").spoil(latency_seconds=0.2, bytes_per_second=200_000)
    house.audit(load.outcome.accepted, seconds=90, repeats=before)


@row(18, "gateway", "its database away")
def test_gateway_without_its_database_answers_503_with_retry_after(house: House) -> None:
    """Row 18: and what went before goes on everywhere else."""
    earlier = house.held()
    house.stack.proxy("gateway", "postgres").refuse()
    house.answer()
    answer = house.send(house.reference())
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
    until(
        lambda: [h for h in house.webhooks(earlier) if h["type"] == "payment.succeeded"],
        "the others go on",
    )
    house.stack.proxy("gateway", "postgres").heal()
    house.audit([earlier, house.pay()])


@row(18, "payment-router", "its database away")
def test_router_without_its_database_pauses_and_acks_nothing(house: House) -> None:
    """Row 18: accepted meanwhile, ended afterwards, none sent twice."""
    before = house.simulator()["repeats"]
    house.stack.proxy("payment-router", "postgres").refuse()
    payments = [house.pay() for _ in range(5)]
    assert {house.read(p)["status"] for p in payments} == {"processing"}
    house.stack.proxy("payment-router", "postgres").heal()
    house.audit(payments, repeats=before)


@pytest.mark.parametrize(
    "service",
    [
        pytest.param(name, marks=row(18, name, "its database away"))
        for name in ("ledger", "notifier", "reporter", "portal-api")
    ],
)
def test_service_without_its_database_pauses_alone(house: House, service: str) -> None:
    """Row 18: payments end meanwhile; it catches up."""
    house.stack.proxy(service, "postgres").refuse()
    payment = house.pay()
    house.wait_status(payment, "succeeded")
    health = httpx.get(house.stack.url(service) + "/healthz", timeout=10).status_code
    assert health == 503
    house.stack.proxy(service, "postgres").heal()
    house.audit([payment])
    if service == "reporter":
        fact = "select 1 from payment_facts where payment_id = $1 and status = 'succeeded'"
        until(lambda: house.sql("reporter", fact, payment), "the reporter caught up")


@row(18, "ledger", "its database away for longer than the broker would wait")
def test_rule_24_a_consumer_without_a_database_gives_its_messages_back(house: House) -> None:
    """Row 18, rule 24: held for long, they would look like a consumer that hangs."""
    house.stack.extra["ledger"] = {"LEDGER_CONSUMER_AWAY_SECONDS": "2"}
    house.crash("ledger")
    del house.stack.extra["ledger"]
    house.stack.proxy("ledger", "postgres").refuse()
    payment = house.pay()
    ready = house.stack.url("ledger") + "/readyz"
    until(
        lambda: "ledger.payments" in httpx.get(ready, timeout=10).json()["detached"],
        "it lets go of its queue",
    )
    until(lambda: house.waiting("ledger.payments") >= 1, "the message is at the broker again")
    house.stack.proxy("ledger", "postgres").heal()
    house.audit([payment])
    house.crash("ledger")


@row(18, "all", "database server killed (kill -9) under load")
def test_database_killed_under_load_pauses_and_loses_nothing(house: House) -> None:
    """Row 18: 503 with Retry-After meanwhile, then everything goes on."""
    before = house.simulator()["repeats"]
    load = Load(house.seed, phones=MIX)
    run_while(load.steady(40, 8), lambda: house.stack.cluster.restart("postgres"), after=2)
    assert not load.outcome.refused
    house.audit(load.outcome.accepted, seconds=150, repeats=before)


@row(19, "redis", "killed under load, then a black hole")
def test_redis_gone_changes_nothing(house: House) -> None:
    """Row 19: only what may vanish lives there."""
    load = Load(house.seed)
    run_while(load.steady(40, 4), lambda: house.stack.cluster.kill("redis"), after=1)
    assert not load.outcome.refused and len(load.outcome.accepted) == 160
    house.stack.cluster.start()
    for name in SERVICES:
        house.stack.proxy(name, "redis").blackhole()
    again = Load(house.seed)
    asyncio.run(again.burst(20))
    assert len(again.outcome.accepted) == 20
    house.audit([*load.outcome.accepted, *again.outcome.accepted])


@row(18, "portal-api", "stopped under load")
def test_payments_go_on_without_portal_api(house: House) -> None:
    """G12: the other services answer from their replicas."""
    load = Load(house.seed)
    run_while(load.steady(40, 4), lambda: house.stack.stop_one("portal-api"), after=1)
    assert not load.outcome.refused and len(load.outcome.accepted) == 160
    house.audit(load.outcome.accepted)


@row(17, "gateway", "broker stopped: 200 payments accepted meanwhile")
def test_broker_stopped_200_payments_are_accepted_and_all_end_after_its_return(
    house: House,
) -> None:
    """G12: the gateway accepts while the broker is away."""
    house.stack.cluster.stop_one("rabbitmq")
    load = Load(house.seed)
    asyncio.run(load.burst(200))
    assert len(load.outcome.accepted) == 200
    statuses = "select distinct status from payments where id = any($1)"
    found = house.sql("gateway", statuses, load.outcome.accepted)
    assert [f["status"] for f in found] == ["processing"]
    house.heal()
    house.audit(load.outcome.accepted)
