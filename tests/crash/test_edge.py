"""Revocation with the broker away, limits with Redis away: real processes, real outages."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from mospay_dev.crash.house import House
from mospay_dev.load import Load

row = pytest.mark.row


class Person:
    """The admin of the seed at the portal."""

    def __init__(self, house: House) -> None:
        self._http = httpx.Client(base_url=house.seed.portal_url + "/bff/v1", timeout=15)
        body = {**house.seed.admin, "audience": "admin"}
        session = self._http.post("/session", json=body).raise_for_status().json()
        self._http.headers["X-CSRF-Token"] = session["csrf_token"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call the portal; the answer's JSON, or None when it has none."""
        answer = self._http.request(method, path, json=body).raise_for_status()
        return answer.json() if answer.content else None


def profile(house: House, key: str) -> int:
    """Return the status of an authenticated call with a key."""
    url = house.seed.gateway_url + "/api/v1/client/profile"
    return httpx.get(url, headers={"X-API-Key": key}).status_code


def seconds_until(fact: Any, limit: float = 10) -> float:
    """Return how long a fact takes to hold."""
    started = time.monotonic()
    while not fact():
        assert time.monotonic() - started < limit, "it did not come to be in time"
        time.sleep(0.02)
    return time.monotonic() - started


@row("B15", "gateway, portal-api", "key revoked while the broker is down")
def test_rule_21_key_revoked_while_the_broker_is_down_is_refused_within_a_second(
    house: House,
) -> None:
    """Row B15, rule 21: pushed by HTTP, unconfirmed until every gateway acknowledged."""
    person, client = Person(house), house.seed.clients[0].client_id
    path = f"/clients/{client}/credentials"

    def confirmed(credential: str) -> bool:
        rows = person.ask("GET", path)
        return bool(next(row["confirmed"] for row in rows if row["id"] == credential))

    house.stack.cluster.kill("rabbitmq")
    made = person.ask("POST", path, {"mode": "test", "kind": "api_key"})
    key, credential = made["api_key"], made["credential_id"]
    seconds_until(lambda: profile(house, key) == 200)
    person.ask("DELETE", f"/credentials/{credential}")
    assert seconds_until(lambda: profile(house, key) == 401) < 1
    seconds_until(lambda: confirmed(credential))
    house.heal()
    assert profile(house, key) == 401, "the message that comes late changes nothing"


@row(19, "gateway", "limits fall back to local")
def test_payments_and_limits_go_on_while_redis_is_away(house: House) -> None:
    """Row 19: limits fall back to local; nothing else changes."""
    house.stack.cluster.kill("redis")
    load = Load(house.seed)
    asyncio.run(load.burst(60))
    assert len(load.outcome.accepted) == 60
    metrics = house.seed.gateway_url + "/metrics"
    gauge = "mospay_gateway_limits_local"
    seconds_until(lambda: f"{gauge} 1.0" in httpx.get(metrics).text)
    house.heal()
    seconds_until(lambda: f"{gauge} 0.0" in httpx.get(metrics).text)
    house.audit(load.outcome.accepted)
