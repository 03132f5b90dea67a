"""Time in: news that never came, secrets past their time, records that are dropped."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from mospay_gateway.workers import LOST, REANNOUNCED, UNSEEN
from mospay_shared.chassis.service_tokens import TokenVerifier, public_key

from .conftest import Gateway, Merchant, Tap, eventually, running

# What these tests ask of the router must not depend on how busy the machine is: the gateway's own
# 300 ms are as long as one request of a loaded test process, and its next look is 30 s away.
PATIENT = {"GATEWAY_ROUTER_TIMEOUT_SECONDS": "5", "GATEWAY_NEWS_CHECK_SECONDS": "1"}


class Router:
    """A real HTTP server that answers as payment-router does."""

    def __init__(self, signing_key: str) -> None:
        self._verifier = TokenVerifier("payment-router", [f"gateway={public_key(signing_key)}"])
        self.answers: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.status = 404  # for what it does not know
        self.open = asyncio.Event()
        self.open.set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        """GET /internal/v1/payments/{id} and /internal/v1/refunds/{id}."""
        caller = self._verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
        assert "payments:read" in caller.scopes and caller.client_id and caller.mode == "test"
        payment_id = request.match_info["id"]
        await self.open.wait()
        self.asked.append(payment_id)
        found = self.answers.get(payment_id)
        return web.json_response(found, status=200 if found else self.status)

    def says(self, payment: dict[str, Any], merchant: Merchant, **changes: Any) -> None:
        """Set what it knows of a payment."""
        self.answers[payment["id"]] = {
            "id": payment["id"], "client_id": merchant.client.client_id, "mode": "test",
            "status": "succeeded", "version": 4, "provider_reference": "sim_9",
            "reason_code": None, "reason_message": None, "late": False,
            "updated_at": dt.datetime.now(dt.UTC).isoformat(), "attempts": [],
        } | changes  # fmt: skip


@pytest.fixture
async def router(gateway_env: dict[str, str]) -> AsyncIterator[Router]:
    """A router on a free port."""
    made = Router(gateway_env["GATEWAY_SIGNING_KEY"])
    app = web.Application()
    for kind in ("payments", "refunds"):
        app.router.add_get(f"/internal/v1/{kind}/{{id}}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_router_that_takes_too_long_is_not_waited_for(
    gateway: Gateway, gateway_env: dict[str, str], router: Router
) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    router.says(made, merchant)
    router.open.clear()
    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url) as (_, http):
        async with asyncio.timeout(5):
            shown = await http.get(f"/v1/payments/{made['id']}", headers=merchant.headers)
    router.open.set()
    assert shown.status_code == 200 and shown.json()["status"] == "processing"


async def due_for_news(gateway: Gateway, payment_id: str, seconds: int, window: int = 900) -> None:
    """Make a payment that long accepted and due to be asked about."""
    await gateway.sql.execute(
        "update payments set accepted_at = now() - make_interval(secs => $2),"
        " send_before = now() - make_interval(secs => $2 - $3), check_at = now() where id = $1",
        payment_id, seconds, window,
    )  # fmt: skip


async def test_payment_the_router_does_not_know_is_announced_again_as_it_was(
    gateway: Gateway, gateway_env: dict[str, str], router: Router, tap: Tap
) -> None:
    """Rule 14: a lost command, or a restored router database, is repaired from our row."""
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant, fields={"f008": "hush"})).json()
    fresh = (await gateway.pay(merchant)).json()
    first = await tap.about(made["id"], "payments.process.v1")
    path = f"/v1/payments/{made['id']}/cancel"
    await gateway.http.post(path, headers=merchant.headers)
    cancel = await tap.about(made["id"], "payments.cancel.v1")
    await due_for_news(gateway, made["id"], 100)
    await due_for_news(gateway, fresh["id"], 40)

    async def commands() -> list[dict[str, Any]]:
        await tap.about(made["id"], "payments.process.v1")
        sent = [e for e in tap.of(made["id"]) if e["type"] == "payments.process.v1"]
        return sent if len(sent) > 1 else []

    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **PATIENT):
        sent = await eventually(commands)
        again = await eventually(lambda: cancels(tap, made["id"]))
        await eventually(lambda: asked_twice(router, made["id"]))
        await eventually(lambda: asked_twice(router, fresh["id"]))
    assert REANNOUNCED._value.get() >= 1
    once = "id = $1 and announcements = 1 and announce_at > now() + interval '50 s'"
    assert await gateway.count("payments", once, made["id"]) == 1, "the next one is far away"
    same = {**sent[1]["data"], "accepted_at": "", "send_before": ""}
    assert same == {**first["data"], "accepted_at": "", "send_before": ""}
    assert same["secrets"] is not None and sent[1]["id"] != first["id"]
    assert again["data"]["requested_at"] == cancel["data"]["requested_at"]
    assert [e["type"] for e in tap.of(fresh["id"])].count("payments.process.v1") == 1


async def cancels(tap: Tap, payment_id: str) -> dict[str, Any] | None:
    """Return the second cancel command of a payment."""
    await tap.about(payment_id, "payments.cancel.v1")
    sent = [e for e in tap.of(payment_id) if e["type"] == "payments.cancel.v1"]
    return sent[1] if len(sent) > 1 else None


async def asked_twice(router: Router, payment_id: str) -> bool:
    """Say whether the router has been asked about a payment at least twice."""
    return router.asked.count(payment_id) >= 2


async def test_announcements_end_with_the_one_after_send_before(
    gateway: Gateway, gateway_env: dict[str, str], router: Router
) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    state = "select announcements, announce_at::text, secrets from payments where id = $1"

    async def announced(times: int) -> Any:
        row = await gateway.sql.fetchrow(state, made["id"])
        return row if row and row["announcements"] == times else None

    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **PATIENT):
        await due_for_news(gateway, made["id"], 100)
        row = await eventually(lambda: announced(1))
        assert row["announce_at"] != "infinity"
        await gateway.sql.execute(
            "update payments set announce_at = now() where id = $1", made["id"]
        )
        await due_for_news(gateway, made["id"], 2000)
        row = await eventually(lambda: announced(2))
        assert row["announce_at"] == "infinity", "a person is told by the gauge, nothing is sent"
        await eventually(lambda: lost_is_counted())
        before = router.asked.count(made["id"])
        await eventually(lambda: asked_more(router, made["id"], before))
    assert await announced(2)


async def lost_is_counted() -> bool:
    """Say whether the gauge shows a payment that is lost."""
    return bool(LOST._value.get() >= 1)


async def asked_more(router: Router, payment_id: str, before: int) -> bool:
    """Say whether the router has been asked about a payment again."""
    return router.asked.count(payment_id) > before


async def test_router_that_cannot_be_asked_is_told_nothing_again(
    gateway: Gateway, gateway_env: dict[str, str], router: Router
) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    router.status = 503
    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **PATIENT):
        await due_for_news(gateway, made["id"], 100)
        await eventually(lambda: asked_twice(router, made["id"]))
    assert await gateway.count("payments", "id = $1 and announcements = 0", made["id"]) == 1


async def test_open_payment_is_read_through_to_the_router(
    gateway: Gateway, gateway_env: dict[str, str], router: Router
) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    path = f"/v1/payments/{made['id']}"
    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **PATIENT) as (_, http):
        shown = (await http.get(path, headers=merchant.headers)).json()
        assert (shown["status"], shown["version"]) == ("processing", 0), "404: the local row"
        router.says(made, merchant)
        shown = (await http.get(path, headers=merchant.headers)).json()
        assert (shown["status"], shown["provider_reference"]) == ("succeeded", "sim_9")
        router.says(made, await gateway.merchant())
        shown = (await http.get(path, headers=merchant.headers)).json()
        assert shown["status"] == "processing", "news of another tenant's payment"
        router.answers[made["id"]] = {"nonsense": True}
        assert (await http.get(path, headers=merchant.headers)).status_code == 200


async def test_news_that_got_lost_are_asked_for(
    gateway: Gateway, gateway_env: dict[str, str], router: Router
) -> None:
    """Crash row: the gateway's own event was dead-lettered; the sweeper repairs."""
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    router.says(made, merchant)
    await gateway.sql.execute(
        "update payments set accepted_at = accepted_at - interval '1 h', check_at = now()"
        " where id = $1", made["id"],
    )  # fmt: skip

    async def repaired() -> bool:
        row = await gateway.sql.fetchrow("select * from payments where id = $1", made["id"])
        return bool(row and row["status"] == "succeeded" and row["version"] == 4)

    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url, **PATIENT):
        await eventually(repaired)
    assert made["id"] in router.asked


async def aged(gateway: Gateway, table: str, column: str, where: str, value: str) -> None:
    """Make rows two days (and more) old."""
    await gateway.sql.execute(
        f"update {table} set {column} = {column} - interval '40 days' where {where} = $1", value
    )


async def test_old_secrets_keys_and_callbacks_are_dropped_and_references_stay(
    gateway: Gateway, gateway_env: dict[str, str]
) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant, reference="r", fields={"f008": "hush"})).json()
    fresh = (await gateway.pay(merchant, fields={"f008": "hush"})).json()
    callback = (await gateway.http.post("/v1/callbacks/x", content=b"x")).json()["callback_id"]
    await aged(gateway, "payments", "accepted_at", "id", made["id"])
    await aged(gateway, "idempotency_keys", "created_at", "payment_id", made["id"])
    await aged(gateway, "callbacks", "received_at", "id", callback)

    async def gone() -> bool:
        secrets = "id = $1 and secrets is not null"
        return not (
            await gateway.count("payments", secrets, made["id"])
            or await gateway.count("idempotency_keys", "payment_id = $1", made["id"])
            or await gateway.count("callbacks", "id = $1", callback)
        )

    async with running(gateway_env):
        await eventually(gone)
    assert await gateway.count("payments", "id = $1 and secrets is not null", fresh["id"]) == 1
    assert await gateway.count("idempotency_keys", "payment_id = $1", fresh["id"]) == 1
    assert await gateway.count("payment_references", "payment_id = $1", made["id"]) == 1


async def test_payment_nobody_has_seen_is_counted(
    gateway: Gateway, gateway_env: dict[str, str]
) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    await aged(gateway, "payments", "accepted_at", "id", made["id"])

    async def counted() -> bool:
        return bool(UNSEEN._value.get() >= 1)

    async with running(gateway_env):
        await eventually(counted)
    page = await gateway.http.get("/metrics")
    assert "mospay_gateway_unseen_payments" in page.text


_ROWS = (
    "insert into payment_fields values ($1, 'test', 'f011', 'x', $2)",
    "insert into refunds (id, payment_id, client_id, mode, amount_minor, currency, status,"
    " requested_at) values ('ref_' || $2, $2, $1, 'test', 1, 'RWF', 'pending', now())",
    "insert into sale_events values ($1, 'test', $2::text::bytea, $2, now())",
    "insert into limit_counters values ($1, 'test', $2, current_date, '', 1)",
)


async def test_request_role_sees_one_tenant_and_nothing_without_one(gateway: Gateway) -> None:
    one, other = await gateway.merchant(), await gateway.merchant()
    for merchant in (one, other):
        payment = (await gateway.pay(merchant)).json()
        for statement in _ROWS:
            await gateway.sql.execute(statement, merchant.client.client_id, payment["id"])
    connection = await asyncpg.connect(gateway.env["GATEWAY_DATABASE_URL"])
    tables = ("payments", "payment_references", "idempotency_keys", "payment_fields", "refunds",
              "sale_events", "limit_counters")  # fmt: skip
    try:
        for client, mode, seen in (("", "", 0), (one.client.client_id, "live", 0),
                                   (one.client.client_id, "test", 1)):  # fmt: skip
            async with connection.transaction():
                await connection.execute(
                    "select set_config('mospay.client_id', $1, true),"
                    " set_config('mospay.mode', $2, true)", client, mode,
                )  # fmt: skip
                for table in tables:
                    assert await connection.fetchval(f"select count(*) from {table}") == seen
        for forbidden in ("update payments set status = 'failed'", "select * from callbacks",
                          "delete from idempotency_keys", "select * from outbox"):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
    finally:
        await connection.close()
