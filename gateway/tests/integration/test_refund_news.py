"""Refunds whose news is missing: the router is asked, and told again of what it does not know."""

import datetime as dt
from typing import Any

from mospay_gateway.workers import LOST_REFUNDS, REANNOUNCED_REFUNDS

from .conftest import Gateway, Merchant, Tap, eventually, running
from .test_refunds import money_of, paid, refund, row_of, version_is
from .test_workers import PATIENT, Router, asked_more, asked_twice, router

__all__ = ["router"]  # a fixture


async def made(gateway: Gateway, merchant: Merchant, seconds: int) -> dict[str, Any]:
    """A refund of 400 that was asked for so long ago and is due to be asked about."""
    answer = await refund(gateway, merchant, await paid(gateway, merchant), amount_minor=400)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    await aged(gateway, found, seconds)
    return found


async def aged(gateway: Gateway, one: dict[str, Any], seconds: int) -> None:
    """Let a refund be that old and its next steps be due."""
    await gateway.sql.execute(
        "update refunds set requested_at = now() - make_interval(secs => $2), check_at = now(),"
        " announce_at = least(announce_at, now()) where id = $1",
        one["id"], seconds,
    )  # fmt: skip


def says(router: Router, merchant: Merchant, one: dict[str, Any], **changes: Any) -> None:
    """Set what the router knows of a refund."""
    now = dt.datetime.now(dt.UTC).isoformat()
    router.answers[one["id"]] = {
        **{name: one[name] for name in ("id", "payment_id", "amount_minor", "currency", "reason")},
        "client_id": merchant.client.client_id, "mode": "test", "status": "succeeded",
        "version": 3, "late": False, "over_refund": False, "resolved": True,
        "provider_reference": "sim_r9", "reason_code": None, "reason_message": None,
        "attention": None, "attempt_state": "ended", "enquiries": 4, "requested_at": now,
        "updated_at": now,
    } | changes  # fmt: skip


async def commands(tap: Tap, one: dict[str, Any]) -> list[dict[str, Any]]:
    """The commands that told the router of a refund so far."""
    await tap.drain()
    return [
        e
        for e in tap.of(one["payment_id"])
        if e["type"] == "payments.refund.v1" and e["data"]["refund_id"] == one["id"]
    ]


async def test_refund_the_router_does_not_know_is_announced_again_as_it_was(
    gateway: Gateway, gateway_env: dict[str, str], router: Router, tap: Tap
) -> None:
    merchant = await gateway.merchant()
    old, fresh = await made(gateway, merchant, 100), await made(gateway, merchant, 40)

    async def twice() -> list[dict[str, Any]]:
        sent = await commands(tap, old)
        return sent if len(sent) > 1 else []

    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **PATIENT):
        sent = await eventually(twice)
        await eventually(lambda: asked_twice(router, old["id"]))
        await eventually(lambda: asked_twice(router, fresh["id"]))
    assert REANNOUNCED_REFUNDS._value.get() >= 1
    once = "id = $1 and announcements = 1 and announce_at > now() + interval '50 s'"
    assert await gateway.count("refunds", once, old["id"]) == 1, "the next one is far away"
    first, second = ({**e["data"], "requested_at": ""} for e in sent)
    assert first == second and sent[0]["id"] != sent[1]["id"]
    assert sent[0]["correlation_id"] == sent[1]["correlation_id"]
    assert len(await commands(tap, fresh)) == 1


async def test_announcements_of_a_refund_end_and_a_person_is_told(
    gateway: Gateway, gateway_env: dict[str, str], router: Router, tap: Tap
) -> None:
    merchant = await gateway.merchant()
    old = await made(gateway, merchant, 3600 + 60)
    patient = PATIENT | {"GATEWAY_REFUND_ANNOUNCE_HOURS": "1"}

    async def given_up() -> int:
        lost = "id = $1 and announcements = 1 and announce_at = 'infinity'"
        return await gateway.count("refunds", lost, old["id"])

    async def counted() -> bool:
        return bool(LOST_REFUNDS._value.get() >= 1)

    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **patient):
        await eventually(given_up)
        await eventually(counted)
        before = router.asked.count(old["id"])
        await eventually(lambda: asked_more(router, old["id"], before))
    assert len(await commands(tap, old)) == 2


async def test_news_of_a_refund_that_got_lost_are_asked_for(
    gateway: Gateway, gateway_env: dict[str, str], router: Router
) -> None:
    merchant = await gateway.merchant()
    old = await made(gateway, merchant, 3600)
    says(router, merchant, old)
    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **PATIENT):
        row = await version_is(gateway, old["id"], 3)
    assert (row["status"], row["provider_reference"]) == ("succeeded", "sim_r9")
    assert await money_of(gateway, merchant, old["payment_id"]) == (400, 0)


async def test_an_answer_that_is_unusable_or_anothers_changes_nothing(
    gateway: Gateway, gateway_env: dict[str, str], router: Router, tap: Tap
) -> None:
    merchant = await gateway.merchant()
    away, foreign, odd = [await made(gateway, merchant, 100) for _ in range(3)]
    router.status = 503  # for the first
    says(router, await gateway.merchant(), foreign)
    says(router, merchant, odd, status="reversed")
    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **PATIENT):
        for one in (away, foreign, odd):
            await aged(gateway, one, 100)
            await eventually(lambda one=one: asked_twice(router, one["id"]))
    for one in (away, foreign, odd):
        row = await row_of(gateway, one["id"])
        assert (row["status"], row["version"], row["announcements"]) == ("pending", 0, 0)
        assert len(await commands(tap, one)) == 1


async def test_ended_refunds_are_asked_about_no_more(
    gateway: Gateway, gateway_env: dict[str, str], router: Router
) -> None:
    merchant = await gateway.merchant()
    over, going_on = await made(gateway, merchant, 100), await made(gateway, merchant, 100)
    await gateway.sql.execute("update refunds set status = 'failed' where id = $1", over["id"])
    says(router, merchant, going_on, status="unknown", version=2)
    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **PATIENT):
        await version_is(gateway, going_on["id"], 2)
        await eventually(lambda: asked_twice(router, going_on["id"]))
    assert over["id"] not in router.asked
