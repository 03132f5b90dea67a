"""The demo merchant's webhook receiver: what it believes and what it remembers."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from mospay_dev.receiver import app
from standardwebhooks import Webhook

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def merchant(tmp_path: Path) -> AsyncIterator[Client]:
    """A receiver that knows one endpoint's secret."""
    async with TestClient(TestServer(app(tmp_path / "receiver.sqlite"))) as client:
        await client.post("/_secrets", json={"name": "shop", "secret": SECRET})
        yield client


def signed(payment: str, secret: str = SECRET) -> tuple[str, dict[str, str]]:
    """A webhook's body and headers."""
    body = json.dumps({"type": "payment.succeeded", "data": {"payment_id": payment}})
    now = dt.datetime.now(dt.UTC)
    return body, {
        "webhook-id": f"evt_{payment}",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(f"evt_{payment}", now, body),
    }


async def test_signed_webhook_is_believed_and_a_repeat_counts_once(merchant: Client) -> None:
    body, headers = signed("pay_1")
    for _ in range(2):
        assert (await merchant.post("/hooks/shop", data=body, headers=headers)).status == 204
    counts = await merchant.post("/_received/query", json={"payment_ids": ["pay_1", "pay_2"]})
    assert await counts.json() == {"pay_1": 1}


async def test_changed_body_wrong_secret_and_unknown_name_are_refused(merchant: Client) -> None:
    body, headers = signed("pay_3")
    other = signed("pay_3", "whsec_" + "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5")[1]
    for path, data, sent in (
        ("/hooks/shop", body.replace("succeeded", "failed"), headers),
        ("/hooks/shop", body, other),
        ("/hooks/shop", body, {}),
        ("/hooks/nobody", body, headers),
        ("/hooks/shop", "[1", headers),
    ):
        assert (await merchant.post(path, data=data, headers=sent)).status == 401
    counts = await merchant.post("/_received/query", json={"payment_ids": ["pay_3"]})
    assert await counts.json() == {}


async def test_what_came_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "receiver.sqlite"
    body, headers = signed("pay_4")
    async with TestClient(TestServer(app(path))) as client:
        await client.post("/_secrets", json={"name": "shop", "secret": SECRET})
        await client.post("/hooks/shop", data=body, headers=headers)
    async with TestClient(TestServer(app(path))) as client:
        found = await (await client.get("/_received", params={"payment_id": "pay_4"})).json()
        assert [one["verified"] for one in found] == [1]
        again = await client.post("/hooks/shop", data=body, headers=headers)
        assert again.status == 204
        counts = await (await client.get("/_received")).json()
        assert counts == {"received": 2, "verified": 2, "payments": 1}
