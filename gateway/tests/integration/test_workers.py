"""Time in: news that never came, secrets past their time, records that are dropped."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from mospay_gateway.workers import UNSEEN
from mospay_shared.chassis.service_tokens import TokenVerifier, public_key

from .conftest import Gateway, Merchant, eventually, running


class Router:
    """A real HTTP server that answers as payment-router does."""

    def __init__(self, signing_key: str) -> None:
        self._verifier = TokenVerifier("payment-router", [f"gateway={public_key(signing_key)}"])
        self.answers: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        """GET /internal/v1/payments/{id}."""
        caller = self._verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
        assert "payments:read" in caller.scopes and caller.client_id and caller.mode == "test"
        payment_id = request.match_info["id"]
        self.asked.append(payment_id)
        found = self.answers.get(payment_id)
        return web.json_response(found, status=200 if found else 404)

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
    app.router.add_get("/internal/v1/payments/{id}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_open_payment_is_read_through_to_the_router(
    gateway: Gateway, gateway_env: dict[str, str], router: Router
) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    path = f"/v1/payments/{made['id']}"
    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url) as (_, http):
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

    async with running(gateway_env, GATEWAY_ROUTER_URL=router.url):
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


async def test_request_role_sees_one_tenant_and_nothing_without_one(gateway: Gateway) -> None:
    one, other = await gateway.merchant(), await gateway.merchant()
    for merchant in (one, other):
        await gateway.pay(merchant)
    connection = await asyncpg.connect(gateway.env["GATEWAY_DATABASE_URL"])
    tables = ("payments", "payment_references", "idempotency_keys")
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
