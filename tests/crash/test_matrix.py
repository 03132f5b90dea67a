"""The first rows of the crash matrix against real processes: kill, then audit all sides."""

import asyncio
import time

import httpx
from mospay_dev.load import Load

from .conftest import House, run_while

SLOW = "+250780000003"  # the simulator pays, then answers after two seconds


def test_router_killed_between_attempt_commit_and_answer_pays_once(house: House) -> None:
    """Rows 7 and 8: the lease expires, the provider is asked, nothing is sent again."""
    before = house.simulator()
    load = Load(house.seed, phones=(SLOW,))
    asyncio.run(load.burst(20, in_flight=20))
    until = time.monotonic() + 15
    while house.simulator()["requests"] - before["requests"] < 20:
        assert time.monotonic() < until, "the router did not call the provider"
        time.sleep(0.02)
    house.stack.kill("payment-router")
    house.stack.start(("payment-router",))
    audit = house.audit(load.outcome.accepted)
    assert audit.repeats == before["repeats"], "a payment was sent a second time"


def test_gateway_killed_after_commit_before_publish_still_delivers(house: House) -> None:
    """Row 3: with the broker away nothing can be published; the relay does it after restart."""
    house.stack.cluster.kill("rabbitmq")
    load = Load(house.seed)
    asyncio.run(load.burst(50))
    assert len(load.outcome.accepted) == 50
    house.stack.kill("gateway")
    house.heal()
    house.audit(load.outcome.accepted)


def test_gateway_killed_under_load_makes_one_payment_a_key(house: House) -> None:
    """Rows 1 and 2: a client repeats its key until it is answered; it gets one payment."""
    load = Load(house.seed)

    def trouble() -> None:
        for _ in range(2):
            house.stack.kill("gateway")
            house.stack.start(("gateway",))
            time.sleep(1)

    run_while(load.steady(100, 8), trouble, after=1)
    assert not load.outcome.refused
    assert len(set(load.outcome.accepted)) == 800
    house.audit(load.outcome.accepted)


def test_broker_restarted_under_load_loses_and_doubles_nothing(house: House) -> None:
    """Row 17: outboxes hold; nothing is acknowledged that is not committed."""
    before = house.simulator()
    load = Load(house.seed)
    run_while(load.steady(100, 12), lambda: house.stack.cluster.restart("rabbitmq"), after=3)
    assert not load.outcome.refused
    audit = house.audit(load.outcome.accepted)
    assert audit.repeats == before["repeats"]


def test_ledger_killed_mid_batch_books_each_payment_once(house: House) -> None:
    """Row 15: the whole transaction or nothing; the redelivery is absorbed."""
    load = Load(house.seed)

    def trouble() -> None:
        for _ in range(3):
            house.stack.kill("ledger")
            time.sleep(0.3)
            house.stack.start(("ledger",))
            time.sleep(0.5)

    run_while(load.steady(150, 8), trouble, after=1)
    audit = house.audit(load.outcome.accepted)
    assert audit.entries == len(load.outcome.accepted)


def test_notifier_and_reporter_killed_under_load_tell_every_outcome(house: House) -> None:
    """Rows 15 and 16: deliveries are made again under the same webhook id."""
    load = Load(house.seed)

    def trouble() -> None:
        for name in ("notifier", "reporter", "notifier"):
            house.stack.kill(name)
            house.stack.start((name,))

    run_while(load.steady(100, 8), trouble, after=1)
    house.audit(load.outcome.accepted)


def test_router_killed_repeatedly_under_load_pays_each_once(house: House) -> None:
    """Rows 5 to 9, wherever the kill happens to fall."""
    before = house.simulator()
    load = Load(house.seed)

    def trouble() -> None:
        for _ in range(3):
            house.stack.kill("payment-router")
            house.stack.start(("payment-router",))
            time.sleep(0.7)

    run_while(load.steady(100, 10), trouble, after=1)
    audit = house.audit(load.outcome.accepted, seconds=150)
    assert audit.repeats == before["repeats"], "a payment was sent a second time"


def test_database_killed_under_load_pauses_and_loses_nothing(house: House) -> None:
    """Row 18: 503 with Retry-After meanwhile, then everything goes on."""
    load = Load(house.seed)
    run_while(load.steady(60, 10), lambda: house.stack.cluster.restart("postgres"), after=2)
    house.audit(load.outcome.accepted, seconds=150)


def test_redis_gone_changes_nothing(house: House) -> None:
    """Row 19: only what may vanish lives there."""
    house.stack.cluster.kill("redis")
    load = Load(house.seed)
    asyncio.run(load.burst(100))
    assert len(load.outcome.accepted) == 100
    house.audit(load.outcome.accepted)


def test_broker_stopped_200_payments_are_accepted_and_all_end_after_its_return(
    house: House,
) -> None:
    """G12: the gateway accepts while the broker is away."""
    house.stack.cluster.stop_one("rabbitmq")
    load = Load(house.seed)
    asyncio.run(load.burst(200))
    assert len(load.outcome.accepted) == 200
    seen = [
        httpx.get(
            f"{house.seed.gateway_url}/v1/payments/{load.outcome.accepted[0]}",
            headers={"X-API-Key": client.api_key},
        ).json()
        for client in house.seed.clients
    ]
    assert "processing" in {one.get("status") for one in seen}, seen
    house.heal()
    house.audit(load.outcome.accepted)
