"""Reads: no tenant sees another, a service that is away leaves a named gap, the stream replays."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from mospay_portal_api.usecases import live
from mospay_shared.contracts import Envelope, Event, PaymentEventV1, PaymentStatus, outgoing
from mospay_shared.ids import new_id

from .conftest import Browser, Portal

ADMIN_ONLY = ["/companies", "/clients", "/services", "/assignments", "/trial-balance?mode=test"]


async def test_client_user_reaches_no_admin_route(portal: Portal) -> None:
    admin = await portal.admin()
    browser, client, _ = await portal.merchant(admin)
    for path in [*ADMIN_ONLY, f"/clients/{client}/credentials", f"/clients/{client}/endpoints"]:
        assert (await browser.get(path)).status_code == 403, path


async def test_client_user_can_not_name_another_client(portal: Portal) -> None:
    admin = await portal.admin()
    browser, own, _ = await portal.merchant(admin)
    _, foreign, _ = await portal.merchant(admin)
    for path in (
        f"/payments?mode=test&client_id={foreign}",
        f"/dashboard?mode=test&client_id={foreign}",
    ):
        assert (await browser.get(path)).status_code == 404, path
    apps = (await browser.get("/session")).json()["apps"]
    assert {app["client_id"] for app in apps} == {own}


@pytest.mark.parametrize(
    "path",
    [
        "/payments?mode=test",
        "/dashboard?mode=test",
        "/payments/pay_x",
        "/payments/pay_x/trace",
        "/stream",
    ],
)
async def test_nobody_reads_without_a_session(portal: Portal, path: str) -> None:
    assert (await portal.browser().get(path)).status_code == 401


async def test_service_that_is_away_is_named_and_retryable(portal: Portal) -> None:
    admin = await portal.admin()  # nothing listens at the reporter's address in this test
    answer = await admin.get("/payments?mode=test")
    assert answer.status_code == 503
    assert "reporter" in answer.json()["title"] and answer.headers["retry-after"]


def news(client_id: str) -> Event[PaymentEventV1]:
    """A payment event as the handler gets it."""
    now = dt.datetime.now(dt.UTC)
    body = PaymentEventV1(
        payment_id=new_id("pay"),
        client_id=client_id,
        mode="test",
        app_id="a",
        service_id="s",
        microservice="m",
        service="collection",
        route="payment",
        amount_minor=5,
        currency="RWF",
        status=PaymentStatus.SUCCEEDED,
        version=2,
        reference="r",
        accepted_at=now,
        occurred_at=now,
    )
    raw = outgoing("payment.succeeded.v1", body.payment_id, body, source="t").body
    return Event(Envelope.model_validate_json(raw), body)


async def keep(portal: Portal, *events: Event[PaymentEventV1]) -> int:
    """Write live rows; return the newest id."""
    async with portal.service.database.transaction() as tx:
        await live.keep_news(tx, events)
        return int(await tx.value("select max(id) from stream_rows"))


async def read_stream(portal: Portal, browser: Browser, last: int | None, events: int) -> str:
    """Read a stream over a real ASGI call until so many events came, then hang up."""
    got, done = bytearray(), asyncio.Event()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        got.extend(message.get("body", b""))
        if got.count(b"event: ") >= events:
            done.set()

    cookie = "; ".join(f"{k}={v}" for k, v in browser.http.cookies.items())
    headers = [(b"cookie", cookie.encode())]
    if last is not None:
        headers.append((b"last-event-id", str(last).encode()))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": "/bff/v1/stream", "raw_path": b"/bff/v1/stream",
        "query_string": b"topics=payment", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("portal", 80),
    }  # fmt: skip
    async with asyncio.timeout(15):
        await portal.service.app(scope, receive, send)
    return got.decode()


async def test_stream_replays_what_was_missed_to_its_own_tenant_alone(portal: Portal) -> None:
    admin = await portal.admin()
    browser, own, _ = await portal.merchant(admin)
    start = await keep(portal, news(own))
    mine, foreign = news(own), news(new_id("cli"))
    await keep(portal, foreign, mine)
    text = await read_stream(portal, browser, start, 1)
    assert mine.data.payment_id in text and foreign.data.payment_id not in text


async def test_gap_too_old_is_a_reset(portal: Portal) -> None:
    admin = await portal.admin()
    newest = await keep(portal, news("cli_x"))
    text = await read_stream(portal, admin, newest + 1000, 1)
    assert "event: reset" in text


async def test_new_row_reaches_an_open_stream(portal: Portal) -> None:
    admin = await portal.admin()
    reading = asyncio.create_task(read_stream(portal, admin, None, 1))
    event = news("cli_live")
    for _ in range(100):
        if reading.done():
            break
        await asyncio.sleep(0.1)
        event = news("cli_live")
        await keep(portal, event)
    assert "cli_live" in await reading
