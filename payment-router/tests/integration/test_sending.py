"""Sending: at most once, with a lease and a slot, never after `send_before`, only where allowed."""

import asyncio
import datetime as dt
import time
from collections import Counter
from typing import Any

from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.processes import free_port
from mospay_shared.contracts import outgoing
from mospay_shared.ids import new_id

from .conftest import Answering, Stage, held_until, staged, success, until


async def settled(stage: Stage, ids: list[str], status: str, seconds: float = 20) -> None:
    """Wait until all of these payments have a status."""

    async def reached() -> bool:
        count: int = await stage.database.fetchval(
            "select count(*) from payments where id = any($1) and status = $2", ids, status
        )
        return count == len(ids)

    await until(reached, seconds)


async def test_repeated_command_calls_the_provider_once(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    command = stage.command(merchant)
    message = outgoing("payments.process.v1", command.payment_id, command, source="gateway")
    await stage.publish(message, message, message)  # redelivered
    for _ in range(3):  # and sent again under new event ids
        await stage.process(command)
    await stage.ends(command.payment_id, "succeeded")
    marker = await stage.pay(merchant)
    await stage.ends(marker, "succeeded")
    assert provider.seen(command.payment_id) == 1
    assert len(await stage.told(command.payment_id, 1)) == 1


async def test_expired_send_before_makes_no_call(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    payment_id = await stage.pay(merchant, send_before=past)
    row = await stage.ends(payment_id, "expired")
    assert (row["version"], row["reason_code"]) == (2, "send_before_passed")
    (told,) = await stage.told(payment_id, 1)
    assert told["type"] == "payment.expired.v1"
    assert provider.seen(payment_id) == 0


async def test_expired_command_of_an_unknown_client_ends_as_well(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    payment_id = await stage.pay(merchant, send_before=past, service_id=new_id("srv"))
    await stage.ends(payment_id, "expired")


async def test_refused_connection_is_never_sent_and_safe_to_retry(stage: Stage) -> None:
    merchant = await stage.merchant(f"http://127.0.0.1:{free_port(set())}")
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "failed")
    assert row["reason_code"] == "never_sent"
    assert (await stage.attempt(payment_id))["result"] == "never_sent"


async def test_dropped_connection_is_one_post_and_unknown(stage: Stage) -> None:
    """A server that reads the request and hangs up: anything may have happened there."""
    posts: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        posts.append(await reader.read(65_536))
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        merchant = await stage.merchant(f"http://127.0.0.1:{port}")
        payment_id = await stage.pay(merchant)
        await stage.ends(payment_id, "unknown")

        async def asked() -> bool:
            return any(b"paymentStatus" in post.split(b"\r\n")[0] for post in posts)

        await until(asked)
        first_lines = [post.split(b"\r\n")[0] for post in posts]
        assert first_lines.count(b"POST /collection/payment HTTP/1.1") == 1


async def test_rule_07_host_that_is_not_registered_gets_no_call(
    router_env: dict[str, str], owner_url: str, infrastructure: Cluster, provider: Answering
) -> None:
    async with staged(router_env, owner_url, infrastructure.keys, allowed_hosts=[]) as stage:
        merchant = await stage.merchant("http://registered.example")
        name = f"{merchant.app_id}_{merchant.microservice}_payment"
        await stage.database.execute(
            f'create or replace function fx."{name}"(unique_id text, data_input json) '
            "returns table (results json) language plpgsql as $$ begin results := "
            f"""json_build_object('action', 'SERVICE', 'serviceurl', '{provider.url}/x',
                'servicepayload', '[]'::json); return next; end $$"""
        )
        payment_id = await stage.pay(merchant)
        row = await stage.ends(payment_id, "failed")
        assert row["reason_code"] == "host_not_registered"
        assert not provider.requests


async def test_private_address_is_refused_at_connect_time(
    router_env: dict[str, str], owner_url: str, infrastructure: Cluster, provider: Answering
) -> None:
    async with staged(
        router_env, owner_url, infrastructure.keys, allow_private_networks=[]
    ) as stage:
        for url in (provider.url, provider.url.replace("127.0.0.1", "localhost")):
            merchant = await stage.merchant(url)
            row = await stage.ends(await stage.pay(merchant), "failed")
            assert row["reason_code"] == "never_sent"
        assert not provider.requests


async def test_redirect_is_not_followed(stage: Stage, provider: Answering) -> None:
    provider.plays["payment"] = [lambda _: (307, {"location": "x"})]
    provider.plays["enquiry"] = [success]
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    assert provider.seen(payment_id) == 1
    assert provider.seen(payment_id, enquiries=True) == 1


async def test_attempts_beyond_the_slots_wait_ready_and_all_are_sent_once(
    router_env: dict[str, str], owner_url: str, infrastructure: Cluster, provider: Answering
) -> None:
    at_once: Counter[str] = Counter()

    async def counted(reference: str) -> Any:
        at_once["now"] += 1
        at_once["most"] = max(at_once["most"], at_once["now"])
        await asyncio.sleep(0.02)
        at_once["now"] -= 1
        return success(reference)

    provider.plays["payment"] = [counted]
    async with staged(router_env, owner_url, infrastructure.keys, in_flight=3) as stage:
        merchant = await stage.merchant(provider.url, timeout=5)
        ids = [await stage.pay(merchant) for _ in range(40)]
        await settled(stage, ids, "succeeded")
        assert all(provider.seen(payment_id) == 1 for payment_id in ids)
        assert at_once["most"] <= 3


async def test_one_clients_flood_leaves_room_for_another(
    router_env: dict[str, str], owner_url: str, infrastructure: Cluster, provider: Answering
) -> None:
    release = asyncio.Event()

    async with staged(
        router_env, owner_url, infrastructure.keys, in_flight=6, in_flight_per_client=4
    ) as stage:
        flood = await stage.merchant(provider.url, timeout=20)
        other = await stage.merchant(provider.url, timeout=20)
        provider.plays["payment"] = [held_until(release)]
        flooded = [await stage.pay(flood) for _ in range(30)]

        async def four_are_held() -> bool:
            return len(provider.requests) == 4

        await until(four_are_held)
        provider.plays["payment"] = [success]
        await stage.ends(await stage.pay(other), "succeeded", 5)
        release.set()
        await settled(stage, flooded, "succeeded")


async def test_ready_attempt_left_behind_is_sent_by_any_replica_once(
    stage: Stage, provider: Answering
) -> None:
    """Committed `ready`, then killed before the claim."""
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    await stage.database.execute(
        "update payments set status = 'processing', next_action_at = now() + interval '1 h' "
        "where id = $1",
        payment_id,
    )
    await stage.database.execute(
        "update attempts set state = 'ready', next_action_at = now(), owner = null, "
        "lease_until = null, answer = null, http_status = null where payment_id = $1",
        payment_id,
    )
    await stage.ends(payment_id, "succeeded")
    assert provider.seen(payment_id) == 2


async def test_ready_attempt_past_send_before_expires_unsent(
    router_env: dict[str, str], owner_url: str, infrastructure: Cluster, provider: Answering
) -> None:
    release = asyncio.Event()
    provider.plays["payment"] = [held_until(release)]
    async with staged(router_env, owner_url, infrastructure.keys, in_flight=1) as stage:
        merchant = await stage.merchant(provider.url, timeout=20)
        first = await stage.pay(merchant)

        async def under_way() -> bool:
            return provider.seen(first) == 1

        await until(under_way)
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.5)
        second = await stage.pay(merchant, send_before=soon)
        await stage.ends(second, "expired")
        release.set()
        await stage.ends(first, "succeeded")
        assert provider.seen(second) == 0


async def test_expired_lease_leads_to_an_enquiry_only(stage: Stage, provider: Answering) -> None:
    """The owner died after its claim: whatever it did, nobody sends again."""
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    provider.requests.clear()
    await stage.database.execute(
        "update payments set status = 'processing', version = 1, "
        "next_action_at = now() + interval '1 h' where id = $1",
        payment_id,
    )
    await stage.database.execute(
        "delete from payment_transitions where payment_id = $1", payment_id
    )
    await stage.database.execute(
        "update attempts set state = 'sending', owner = 'gone', lease_until = now(), "
        "next_action_at = now(), answer = null, http_status = null where payment_id = $1",
        payment_id,
    )
    row = await stage.ends(payment_id, "succeeded")
    assert row["version"] == 3
    evidence = await stage.database.fetch(
        "select evidence from payment_transitions where payment_id = $1 order by version",
        payment_id,
    )
    assert [r["evidence"] for r in evidence] == ["undefined", "succeeded"]
    assert provider.seen(payment_id) == 0
    assert provider.seen(payment_id, enquiries=True) == 1


async def test_paused_owner_that_wakes_after_its_lease_does_not_send(
    stage: Stage, provider: Answering
) -> None:
    """The process stands still between claim and send, as under SIGSTOP."""
    merchant = await stage.merchant(provider.url)
    handlers = stage.service.subscriptions[1].handlers
    original = handlers["payments.process.v1"]

    async def pausing(tx: Any, events: Any) -> None:
        await original(tx, events)
        tx.after_commit(lambda: time.sleep(0.8))  # longer than the lease's spare time

    handlers["payments.process.v1"] = pausing
    try:
        payment_id = await stage.pay(merchant)
        await stage.ends(payment_id, "succeeded")
    finally:
        handlers["payments.process.v1"] = original
    assert (await stage.attempt(payment_id))["fence"] == 2
    assert provider.seen(payment_id) == 1


async def test_attempt_that_was_not_sent_in_time_waits_before_it_is_claimed_again(
    stage: Stage, provider: Answering
) -> None:
    """Else a process too busy to send within its leases claims the same ones for ever."""
    merchant = await stage.merchant(provider.url)
    handlers = stage.service.subscriptions[1].handlers
    original = handlers["payments.process.v1"]

    async def pausing(tx: Any, events: Any) -> None:
        await original(tx, events)
        tx.after_commit(lambda: time.sleep(0.8))  # longer than the lease's spare time

    handlers["payments.process.v1"] = pausing
    try:
        payment_id = await stage.pay(merchant)

        async def waits() -> bool:
            found: bool = await stage.database.fetchval(
                "select exists (select 1 from attempts where payment_id = $1 and state = 'ready' "
                "and next_action_at > clock_timestamp() + interval '0.2 s')",
                payment_id,
            )
            return found

        await until(waits)
        assert provider.seen(payment_id) == 0
        await stage.ends(payment_id, "succeeded")
    finally:
        handlers["payments.process.v1"] = original
    assert provider.seen(payment_id) == 1


async def test_drain_waits_for_calls_under_way(
    router_env: dict[str, str], owner_url: str, infrastructure: Cluster, provider: Answering
) -> None:
    async def slow(reference: str) -> Any:
        await asyncio.sleep(0.5)
        return success(reference)

    provider.plays["payment"] = [slow]
    async with staged(router_env, owner_url, infrastructure.keys) as stage:
        merchant = await stage.merchant(provider.url, timeout=5)
        payment_id = await stage.pay(merchant)

        async def under_way() -> bool:
            return provider.seen(payment_id) == 1

        await until(under_way)
    async with staged(router_env, owner_url, infrastructure.keys, roles=["http"]) as later:
        row = await later.payment(payment_id)
        assert row is not None
        assert row["status"] == "succeeded"
