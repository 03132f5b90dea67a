"""Messages in: any order, any repetition, any company; facts and rollups end the same."""

import asyncio
import datetime as dt
import json
from typing import Any

import aio_pika
import orjson
import pytest
from mospay_dev.services import ROOT
from mospay_reporter.app import create_service
from mospay_reporter.handlers import PAYMENT_TYPES
from mospay_reporter.settings import ReporterSettings
from mospay_reporter.usecases import recording
from mospay_shared.chassis.broker import EVENTS
from mospay_shared.chassis.inbox import parse
from mospay_shared.chassis.service import Service
from mospay_shared.ids import new_id

from ..samples import call, encoded, entry, later, payment, queue_of, tell, tell_raw, webhook
from .books import SUMS, assert_rollups_are_true, fact, facts, inbox, rollups
from .conftest import until


def only_bucket(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the one bucket there is."""
    (row,) = rows
    return {name: int(row[name]) for name in SUMS if row[name]}


async def test_succeeded_payment_becomes_a_fact_and_is_counted_by_hour_and_day(
    service: Service,
) -> None:
    accepted = payment(version=0)
    done = later(accepted, "succeeded", 2, provider_reference="sim_1", metadata={"shop": "7"})
    await tell(service, [accepted])
    client = accepted.client_id
    assert only_bucket(await rollups(service, client, "hour")) == {"payments": 1, "processing": 1}
    await tell(service, [done, entry(done, 20)])
    stored = await fact(service, client)
    assert stored["status"] == "succeeded" and stored["version"] == 2
    assert (stored["fee_minor"], stored["net_minor"]) == (20, 980)
    assert stored["metadata"] == {"shop": "7"} and stored["provider_reference"] == "sim_1"
    for grain in ("hour", "day"):
        assert only_bucket(await rollups(service, client, grain)) == {
            "payments": 1,
            "succeeded": 1,
            "volume_minor": 1000,
            "fees_minor": 20,
            "net_minor": 980,
        }
    await assert_rollups_are_true(service, client)


async def test_repeated_event_counts_once_under_the_same_and_under_another_id(
    service: Service,
) -> None:
    done = payment(status="succeeded", version=2)
    queue = queue_of(service, done)
    body = encoded(done)
    await tell_raw(service, queue, [body, body])
    await tell_raw(service, queue, [body])
    await tell(service, [done, done])
    figures = only_bucket(await rollups(service, done.client_id, "hour"))
    assert figures == {"payments": 1, "succeeded": 1, "volume_minor": 1000}


async def test_repeated_entry_is_added_once_even_under_another_event_id(service: Service) -> None:
    done = payment(status="succeeded", version=2)
    posted = entry(done, 20)
    await tell(service, [done, posted, posted])
    await tell(service, [posted])
    assert (await fact(service, done.client_id))["fee_minor"] == 20
    await assert_rollups_are_true(service, done.client_id)


async def test_newer_news_before_older_news_stands(service: Service) -> None:
    accepted = payment(version=0)
    await tell(service, [later(accepted, "succeeded", 3)])
    await tell(service, [later(accepted, "unknown", 2)])
    await tell(service, [accepted])
    stored = await fact(service, accepted.client_id)
    assert stored["status"] == "succeeded" and stored["version"] == 3
    await assert_rollups_are_true(service, accepted.client_id)


async def test_late_success_moves_the_count_from_failed_to_succeeded(service: Service) -> None:
    failed = payment(status="failed", version=2)
    await tell(service, [failed])
    assert only_bucket(await rollups(service, failed.client_id, "day"))["failed"] == 1
    await tell(service, [later(failed, "succeeded", 3, late=True)])
    figures = only_bucket(await rollups(service, failed.client_id, "day"))
    assert figures == {"payments": 1, "succeeded": 1, "volume_minor": 1000}
    assert (await fact(service, failed.client_id))["late"] is True


async def test_entry_before_its_payment_shows_nowhere_until_the_payment_comes(
    service: Service,
) -> None:
    done = payment(status="succeeded", version=2)
    await tell(service, [entry(done, 30)])
    assert await rollups(service, done.client_id, "hour") == []
    await tell(service, [done])
    figures = only_bucket(await rollups(service, done.client_id, "hour"))
    assert (figures["fees_minor"], figures["net_minor"]) == (30, 970)
    await assert_rollups_are_true(service, done.client_id)


def test_risk_decisions_are_no_news_of_a_payments_state() -> None:
    assert "payment.risk_assessed.v1" not in PAYMENT_TYPES
    assert {"payment.accepted.v1", "payment.expired.v1"} <= set(PAYMENT_TYPES)


async def test_second_capture_is_neither_fee_nor_income(service: Service) -> None:
    done = payment(status="succeeded", version=2)
    second = entry(done, 0, kind="second_capture")
    await tell(service, [done, second, entry(done, 20)])
    stored = await fact(service, done.client_id)
    assert (stored["fee_minor"], stored["net_minor"]) == (20, 980)
    assert len(stored["entry_ids"]) == 2


async def test_currencies_modes_and_services_are_never_summed_together(service: Service) -> None:
    client = new_id("cli")
    await tell(
        service,
        [
            payment(client_id=client, status="succeeded", version=1),
            payment(client_id=client, status="succeeded", version=1, currency="USD"),
            payment(client_id=client, status="succeeded", version=1, mode="live"),
            payment(client_id=client, status="succeeded", version=1, service_id="svc_2"),
        ],
    )
    rows = await rollups(service, client, "day")
    assert [int(row["volume_minor"]) for row in rows] == [1000] * 4
    await assert_rollups_are_true(service, client)


async def test_unknown_fields_are_ignored(service: Service) -> None:
    done = payment(status="succeeded", version=2)
    event = orjson.loads(encoded(done))
    event["data"]["brand_new"] = {"a": 1}
    event["extension"] = "x"
    await tell_raw(service, queue_of(service, done), [orjson.dumps(event)])
    assert (await fact(service, done.client_id))["status"] == "succeeded"


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": -1},
        {"amount_minor": "ten"},
        {"currency": "rwf"},
        {"accepted_at": "yesterday"},
        {"accepted_at": "2026-11-21T08:00:00"},
        {"version": 2**70},
        {"attempts": 2**70},
        {"client_id": "cli_\0"},
    ],
    ids=str,
)
async def test_malformed_event_is_dead_with_its_reason_and_its_pack_goes_on(
    service: Service, changes: dict[str, Any]
) -> None:
    good, bad = payment(), payment()
    event = orjson.loads(encoded(bad))
    event["data"] |= changes
    await tell_raw(service, queue_of(service, good), [json.dumps(event).encode(), encoded(good)])
    row = await inbox(service, event["id"])
    assert row["state"] == "dead" and row["reason"]
    assert await facts(service, bad.client_id) == []
    assert len(await facts(service, good.client_id)) == 1


async def test_status_from_a_later_version_is_ignored_and_its_pack_goes_on(
    service: Service,
) -> None:
    good, newer = payment(), payment()
    event = orjson.loads(encoded(newer))
    event["data"]["status"] = "paid_twice"
    await tell_raw(service, queue_of(service, good), [orjson.dumps(event), encoded(good)])
    row = await inbox(service, event["id"])
    assert row["state"] == "done" and row["reason"]
    assert await facts(service, newer.client_id) == []
    assert len(await facts(service, good.client_id)) == 1


async def test_event_that_names_another_client_is_dead_and_changes_nothing(
    service: Service,
) -> None:
    mine = payment(status="succeeded", version=2)
    theirs = later(mine, "failed", 3, client_id=new_id("cli"))
    stolen = entry(mine, 20, client_id=new_id("cli"))
    for order in ([mine, theirs], [theirs]):
        queue = queue_of(service, mine)
        bodies = [encoded(body) for body in order]
        await tell_raw(service, queue, bodies)
        row = await inbox(service, orjson.loads(bodies[-1])["id"])
        assert row["state"] == "dead" and "foreign_payment" in row["reason"]
    body = encoded(stolen)
    await tell_raw(service, queue_of(service, stolen), [body])
    assert (await inbox(service, orjson.loads(body)["id"]))["state"] == "dead"
    assert (await fact(service, mine.client_id))["status"] == "succeeded"
    assert await facts(service, theirs.client_id) == []
    await assert_rollups_are_true(service, mine.client_id)


async def test_net_amount_beyond_64_bits_is_dead(service: Service) -> None:
    done = payment(status="succeeded", version=2)
    body = encoded(entry(done, net_minor=2**63))
    await tell_raw(service, queue_of(service, entry(done)), [body])
    assert (await inbox(service, orjson.loads(body)["id"]))["state"] == "dead"


async def test_text_with_nul_is_kept_without_it(service: Service) -> None:
    odd = payment(product_name="Tea\0cup", reference="a\0b", metadata={"k\0": "v\0"})
    await tell(service, [odd])
    stored = await fact(service, odd.client_id)
    assert stored["product_name"] == "Tea\ufffdcup" and stored["reference"] == "a\ufffdb"
    assert stored["metadata"] == {"k\ufffd": "v\ufffd"}


async def test_absurd_amounts_do_not_keep_later_payments_of_the_hour_out(service: Service) -> None:
    client, huge = new_id("cli"), 2**63 - 1
    done = [
        payment(client_id=client, amount_minor=huge, status="succeeded", version=1)
        for _ in range(3)
    ]
    await tell(service, done)
    (row,) = await rollups(service, client, "day")
    assert int(row["volume_minor"]) == 3 * huge
    await assert_rollups_are_true(service, client)


async def test_payment_whose_id_carries_no_time_is_kept(service: Service) -> None:
    odd = payment(payment_id=f"pay_{new_id('x')[-8:]}", status="succeeded", version=1)
    await tell(service, [odd, entry(odd)])
    stored = await fact(service, odd.client_id)
    assert stored["accepted_month"] == "1970-01-01" and stored["fee_minor"] == 20
    await assert_rollups_are_true(service, odd.client_id)


async def test_concurrent_writers_of_the_same_payments_count_each_once(service: Service) -> None:
    client = new_id("cli")
    started = [payment(client_id=client) for _ in range(40)]
    done = [later(p, "succeeded", 2) for p in started]
    await asyncio.gather(
        tell(service, started),
        tell(service, done[::-1]),
        tell(service, [entry(p, 20) for p in done]),
        tell(service, done[10:] + started[:10]),
        tell(service, [entry(p, 0, kind="second_capture") for p in done[::-1]]),
    )
    figures = only_bucket(await rollups(service, client, "day"))
    assert figures == {
        "payments": 40,
        "succeeded": 40,
        "volume_minor": 40_000,
        "fees_minor": 800,
        "net_minor": 39_200,
    }
    await assert_rollups_are_true(service, client)


@pytest.mark.parametrize(
    ("first", "second"), [(("unknown", 2), ("succeeded", 3)), (("succeeded", 3), ("unknown", 2))]
)
async def test_second_writer_waits_and_then_counts_from_what_the_first_left(
    service: Service, first: tuple[str, int], second: tuple[str, int]
) -> None:
    start = payment()
    await tell(service, [start, entry(start, 20)])

    async def blocked() -> bool:
        async with service.database.transaction() as tx:
            waiting = await tx.value(
                "select count(*) from pg_stat_activity "
                "where wait_event_type = 'Lock' and datname = current_database()"
            )
        return bool(waiting)

    async with service.database.transaction() as tx:
        queue = queue_of(service, start)
        (received,) = parse(b"[" + encoded(later(start, *first)) + b"]", queue)
        assert received.event is not None
        await recording.record_payments(tx, [received.event])
        others = asyncio.gather(
            tell(service, [later(start, *second)]), tell(service, [entry(start, 5)])
        )
        await until(blocked)
    await others
    stored = await fact(service, start.client_id)
    assert stored["status"] == "succeeded" and stored["fee_minor"] == 25
    await assert_rollups_are_true(service, start.client_id)


async def test_api_calls_are_stored_once_and_counted_by_hour(service: Service) -> None:
    client, at = new_id("cli"), dt.datetime(2026, 11, 21, 8, 59, 59, tzinfo=dt.UTC)
    calls = [
        call(client_id=client, called_at=at, status=202, latency_ms=10),
        call(client_id=client, called_at=at, status=422, latency_ms=5, request_body="a\0b"),
        call(client_id=client, called_at=at, status=500, latency_ms=1e308),
        call(client_id=client, called_at=at, status=500, latency_ms=1e308),
        call(client_id=None, mode=None, called_at=at, status=401),
    ]
    bodies = [encoded(body) for body in calls]
    queue = queue_of(service, calls[0])
    await tell_raw(service, queue, bodies)
    await tell_raw(service, queue, bodies)
    async with service.database.transaction() as tx:
        row = await tx.row("select * from api_calls_hourly where client_id = $1", client)
        stored = await tx.value("select count(*) from api_calls where client_id = $1", client)
    assert row is not None
    assert (row["calls"], row["refused"], row["failed"]) == (4, 1, 2) and stored == 4
    assert row["bucket_at"] == at.replace(minute=0, second=0)


async def test_webhook_attempts_are_stored_once(service: Service) -> None:
    attempt = webhook()
    await tell(service, [attempt, attempt])
    async with service.database.transaction() as tx:
        rows = await tx.fetch(
            "select * from webhook_attempts where client_id = $1", attempt.client_id
        )
    assert [row["delivered"] for row in rows] == [True]


async def test_messages_over_the_broker_are_stored_and_their_lag_is_measured(
    settings: ReporterSettings,
) -> None:
    done = payment(status="succeeded", version=2)
    called = call(client_id=done.client_id)
    service = create_service(settings)
    async with service.app.router.lifespan_context(service.app):
        connection = await aio_pika.connect(settings.broker_url.get_secret_value())
        async with connection, connection.channel() as channel:
            exchange = await channel.get_exchange(EVENTS)
            for key, body in (
                ("ledger.entry_posted.v1", encoded(entry(done, 20))),
                ("payment.succeeded.v1", encoded(done)),
                ("payment.succeeded.v1", b"not json"),
                ("api.called.v1", encoded(called)),
                ("webhook.delivered.v1", encoded(webhook(client_id=done.client_id))),
            ):
                pack = body if body == b"not json" else b"[" + body + b"]"
                await exchange.publish(aio_pika.Message(pack), key)

        async def stored() -> bool:
            rows = await facts(service, done.client_id)
            async with service.database.transaction() as tx:
                counts = await tx.row(
                    """select (select count(*) from api_calls where client_id = $1),
                              (select count(*) from webhook_attempts where client_id = $1),
                              (select count(*) from inbox where state = 'dead'
                               and type = 'unreadable')""",
                    done.client_id,
                )
            return bool(rows and rows[0]["fee_minor"] and rows[0]["status"] and all(counts or []))

        await until(stored)
        from prometheus_client import REGISTRY

        for queue in ("reporter.payments", "reporter.ledger", "reporter.api"):
            assert REGISTRY.get_sample_value("mospay_reporter_lag_seconds_count", {"queue": queue})


SAMPLES = sorted((ROOT / "shared/contract_samples").glob("*/*.json"))


async def test_golden_sample_of_every_type_it_listens_to_is_taken(service: Service) -> None:
    handled = {kind for s in service.subscriptions for kind in s.handlers}
    taken = set()
    for path in SAMPLES:
        event = orjson.loads(path.read_bytes())
        for queue in service.subscriptions:
            if event["type"] in queue.handlers:
                event["id"] = new_id("evt")  # samples share their ids
                await tell_raw(service, queue, [orjson.dumps(event)])
                assert (await inbox(service, event["id"]))["state"] == "done", path
                taken.add(event["type"])
    assert taken == handled
