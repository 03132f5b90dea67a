"""The live stream: its own tenant's news in order, nothing lost between replay and live."""

import asyncio
import datetime as dt
from typing import Any

from mospay_portal_api.usecases import live
from mospay_shared.contracts import Envelope, Event, PaymentEventV1, PaymentStatus, outgoing
from mospay_shared.ids import new_id

from .conftest import Browser, Portal
from .streaming import Stream


def news(client_id: str, **changes: Any) -> Event[PaymentEventV1]:
    """A payment event as the handler gets it."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "payment_id": new_id("pay"),
        "client_id": client_id,
        "mode": "test",
        "app_id": "a",
        "service_id": "s",
        "microservice": "m",
        "service": "collection",
        "route": "payment",
        "amount_minor": 5,
        "currency": "RWF",
        "status": PaymentStatus.SUCCEEDED,
        "version": 2,
        "reference": "r",
        "accepted_at": now,
        "occurred_at": now,
    }
    body = PaymentEventV1(**(values | changes))
    raw = outgoing("payment.succeeded.v1", body.payment_id, body, source="t").body
    return Event(Envelope.model_validate_json(raw), body)


async def keep(portal: Portal, *events: Event[PaymentEventV1]) -> int:
    """Write live rows; return the newest id."""
    async with portal.service.database.transaction() as tx:
        await live.keep_news(tx, events)
        return int(await tx.value("select max(id) from stream_rows"))


def stream(portal: Portal, browser: Browser, **more: Any) -> Stream:
    """A stream of a signed-in browser."""
    return Stream(portal.service, dict(browser.http.cookies), **more)


async def test_new_row_reaches_an_open_stream_with_what_a_page_needs(portal: Portal) -> None:
    admin = await portal.admin()
    event = news("cli_live")
    async with stream(portal, admin) as opened:
        await keep(portal, event)
        await opened.until(lambda: opened.payments)
        told = opened.events[0]
    assert told["data"]["payment"]["id"] == event.data.payment_id
    assert set(told["data"]["payment"]) == {
        "id", "client_id", "mode", "status", "amount_minor", "currency", "service", "version",
        "updated_at",
    }  # fmt: skip


async def test_each_event_names_the_one_sent_before(portal: Portal) -> None:
    admin = await portal.admin()
    browser, own, _ = await portal.merchant(admin)
    async with stream(portal, browser) as opened:
        for _ in range(3):
            await keep(portal, news(own), news(new_id("cli")))
        await opened.until(lambda: len(opened.payments) == 3)
        chain = [(e["data"]["prev_id"], e["data"]["stream_id"]) for e in opened.events]
    assert chain[0][0] == opened.begins
    assert [before for before, _ in chain[1:]] == [now for _, now in chain[:-1]]


async def test_replay_is_what_was_missed_of_its_own_tenant_alone(portal: Portal) -> None:
    admin = await portal.admin()
    browser, own, _ = await portal.merchant(admin)
    start = await keep(portal, news(own))
    mine, foreign, later = news(own), news(new_id("cli")), news(own)
    await keep(portal, foreign, mine)
    async with stream(portal, browser, last=str(start)) as opened:
        await opened.until(lambda: opened.payments)
        await keep(portal, later)
        await opened.until(lambda: len(opened.payments) == 2)
    assert opened.payments == [mine.data.payment_id, later.data.payment_id]
    assert opened.events[0]["data"]["prev_id"] == start


async def test_nothing_is_lost_or_doubled_while_streams_open_and_rows_arrive(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    browser, own, _ = await portal.merchant(admin)
    start = await keep(portal, news(own))
    made: list[str] = []

    async def write() -> None:
        for _ in range(30):
            event = news(own)
            made.append(event.data.payment_id)
            await keep(portal, event)

    writing = asyncio.create_task(write())
    for _ in range(6):
        async with stream(portal, browser, last=str(start)) as opened:
            seen = len(made)
            await opened.until(lambda seen=seen, opened=opened: len(opened.payments) >= seen)
        assert opened.payments == made[: len(opened.payments)]
    async with stream(portal, browser, last=str(start)) as opened:
        await writing
        await opened.until(lambda: len(opened.payments) == 30)
    assert opened.payments == made


async def test_topic_of_one_payment_tells_of_no_other(portal: Portal) -> None:
    admin = await portal.admin()
    wanted, other = news("cli_x"), news("cli_x")
    async with stream(portal, admin, topics=f"payment:{wanted.data.payment_id}") as opened:
        await keep(portal, other, wanted)
        await opened.until(lambda: opened.payments)
    assert opened.payments == [wanted.data.payment_id]


async def test_id_from_the_future_or_from_nowhere_is_a_reset(portal: Portal) -> None:
    admin = await portal.admin()
    newest = await keep(portal, news("cli_x"))
    for last in (str(newest + 1000), "9" * 30, "nonsense", "-1"):
        async with stream(portal, admin, last=last) as opened:
            await opened.until(lambda opened=opened: opened.events)
        assert [e["event"] for e in opened.events] == ["reset"], last
        assert opened.events[0]["id"] >= newest


async def test_id_before_what_was_pruned_is_a_reset_and_the_newest_one_is_not(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    first = await keep(portal, news("cli_x"))
    last = await keep(portal, news("cli_x"))
    await portal.rows("update stream_rows set at = at - interval '1 day' returning id")
    settings: Any = portal.service.settings
    while await live.prune(portal.service.database, settings):
        pass
    async with stream(portal, admin, last=str(first)) as opened:
        await opened.until(lambda: opened.events)
    assert opened.events[0]["event"] == "reset"
    async with stream(portal, admin, last=str(last)) as opened:
        event = news("cli_x")
        await keep(portal, event)
        await opened.until(lambda: opened.events)
    assert opened.payments == [event.data.payment_id]


async def test_rule_19_gap_longer_than_the_replay_is_a_reset(portal: Portal) -> None:
    admin = await portal.admin()
    start = await keep(portal, news("cli_x"))
    await keep(portal, *(news("cli_x") for _ in range(live.REPLAY_LIMIT + 1)))
    async with stream(portal, admin, last=str(start)) as opened:
        await opened.until(lambda: opened.events)
    assert [e["event"] for e in opened.events] == ["reset"]


def test_reader_that_falls_behind_is_told_to_read_again() -> None:
    subscriber = live.Subscriber(live.Wish(None, frozenset({"payment"})))
    for number in range(1, live.QUEUE_LIMIT + 2):
        row = {"id": number, "client_id": "c", "topic": "payment", "payload": {"id": "p"}}
        subscriber.offer(row)
    assert subscriber.waiting.get_nowait() == live.News(number, number, None)
    assert subscriber.waiting.empty()


async def test_log_out_everywhere_ends_open_streams(portal: Portal) -> None:
    admin = await portal.admin()
    async with stream(portal, admin) as opened:
        assert (await admin.send("POST", "/session/revoke-all")).status_code == 204
        await opened.ended()


async def test_stop_of_the_service_ends_open_streams(portal: Portal) -> None:
    admin = await portal.admin()
    async with stream(portal, admin) as opened:
        portal.service.stopping.set()
        await opened.ended(5)


async def test_unknown_topic_is_named(portal: Portal) -> None:
    admin = await portal.admin()
    answer = await admin.get("/stream?topics=payment,everything")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "topics"
