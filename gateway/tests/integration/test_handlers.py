"""The router's news: valid, repeated, out of order, unknown field, malformed, another's."""

import json
from typing import Any

from mospay_shared.contracts import PaymentStatus

from .conftest import Gateway, eventually, news, wire


async def row_of(gateway: Gateway, payment_id: str) -> Any:
    """Return a payment's row."""
    return await gateway.sql.fetchrow("select * from payments where id = $1", payment_id)


async def version_is(gateway: Gateway, payment_id: str, version: int) -> Any:
    """Wait until a payment has that version; return its row."""

    async def there() -> Any:
        row = await row_of(gateway, payment_id)
        return row if row["version"] == version else None

    return await eventually(there)


async def handled(gateway: Gateway, body: bytes) -> Any:
    """Wait until an event is in the inbox; return its row."""
    event_id = json.loads(body)["id"]
    return await eventually(
        lambda: gateway.sql.fetchrow("select * from inbox where event_id = $1", event_id)
    )


async def test_news_set_status_and_end_the_payment(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    body = news(made, merchant, status=PaymentStatus.FAILED, reason_code="declined", version=3)
    await gateway.publish(*wire(body))
    row = await version_is(gateway, made["id"], 3)
    assert row["status"] == "failed" and row["reason_code"] == "declined" and row["settled_at"]
    shown = await gateway.http.get(f"/v1/payments/{made['id']}", headers=merchant.headers)
    assert shown.json()["status"] == "failed" and shown.json()["version"] == 3


async def test_repeated_event_changes_nothing(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    name, body = wire(news(made, merchant))
    await gateway.publish(name, body, body)
    before = await version_is(gateway, made["id"], 2)
    await gateway.publish(name, body)
    last = (await gateway.pay(merchant)).json()
    await gateway.publish(*wire(news(last, merchant)))
    await version_is(gateway, last["id"], 2)  # queues are in order: the repeat has been handled
    assert dict(await row_of(gateway, made["id"])) == dict(before)


async def test_older_news_never_undo_newer_ones(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    await gateway.publish(*wire(news(made, merchant, version=5)))
    name, old = wire(news(made, merchant, status=PaymentStatus.UNKNOWN, version=4))
    await gateway.publish(name, old)
    assert (await handled(gateway, old))["state"] == "done"
    row = await row_of(gateway, made["id"])
    assert (row["status"], row["version"]) == ("succeeded", 5)


async def test_late_success_follows_a_failure(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    await gateway.publish(*wire(news(made, merchant, status=PaymentStatus.FAILED)))
    await gateway.publish(*wire(news(made, merchant, version=3, late=True)))
    row = await version_is(gateway, made["id"], 3)
    assert row["status"] == "succeeded" and row["late"]


async def test_unknown_field_is_ignored(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    name, body = wire(news(made, merchant))
    event = json.loads(body)
    event["data"]["from_the_future"] = {"a": 1}
    await gateway.publish(name, json.dumps(event).encode())
    assert (await version_is(gateway, made["id"], 2))["status"] == "succeeded"


async def test_malformed_message_is_dead_with_its_reason_and_the_consumer_lives(
    gateway: Gateway,
) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    name, body = wire(news(made, merchant))
    event = json.loads(body)
    event["data"]["version"] = "many"
    broken = json.dumps(event).encode()
    await gateway.publish(name, broken)
    dead = await handled(gateway, broken)
    assert dead["state"] == "dead" and "version" in dead["reason"]
    await gateway.publish(*wire(news(made, merchant, version=3)))
    await version_is(gateway, made["id"], 3)


async def test_news_of_another_tenant_or_mode_touch_nothing(gateway: Gateway) -> None:
    merchant, other = await gateway.merchant(), await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    for foreign in (news(made, other), news(made, merchant, mode="live")):
        name, body = wire(foreign)
        await gateway.publish(name, body)
        assert (await handled(gateway, body))["state"] == "done"
    row = await row_of(gateway, made["id"])
    assert (row["status"], row["version"]) == ("processing", 0)


async def test_secrets_are_erased_at_the_end_state(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant, fields={"f008": "hush"})).json()
    assert (await row_of(gateway, made["id"]))["secrets"] is not None
    await gateway.publish(*wire(news(made, merchant, status=PaymentStatus.UNKNOWN, version=2)))
    assert (await version_is(gateway, made["id"], 2))["secrets"] is not None
    await gateway.publish(*wire(news(made, merchant, version=3)))
    assert (await version_is(gateway, made["id"], 3))["secrets"] is None
