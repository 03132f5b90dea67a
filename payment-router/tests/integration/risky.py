"""What the tests of risk share: rules and lists set through the API, decisions read back."""

from typing import Any

import orjson

from .conftest import Merchant, Stage, until

VELOCITY = {"kind": "velocity", "scope": "phone", "window_minutes": 10, "points": 60}


async def settled(stage: Stage) -> None:
    """Wait until the router holds to what was set last."""
    policies = stage.wiring.policies

    async def loaded() -> bool:
        stored = await stage.database.fetchval("select version from risk_version")
        return bool(policies.version == stored)

    policies.worker.wake()
    await until(loaded)


async def add_rule(stage: Stage, merchant: Merchant, rule: dict[str, Any], **other: Any) -> str:
    """Set a rule for one client in test mode; return its id."""
    body = {"client_id": merchant.client_id, "mode": "test", "rule": rule} | other
    answer = await stage.http.post(
        "/internal/v1/risk/rules", json=body, headers=stage.token("risk:write", actor="usr_1")
    )
    assert answer.status_code == 201, answer.text
    await settled(stage)
    made: str = answer.json()["id"]
    return made


async def add_entry(stage: Stage, merchant: Merchant, name: str, **other: Any) -> str:
    """Put something on a list for one client in test mode; return the entry's id."""
    body = {"client_id": merchant.client_id, "mode": "test", "list": name, "reason": "a test"}
    answer = await stage.http.post(
        "/internal/v1/risk/lists", json=body | other, headers=stage.token("risk:write")
    )
    assert answer.status_code == 201, answer.text
    await settled(stage)
    made: str = answer.json()["id"]
    return made


async def decision(stage: Stage, payment_id: str) -> Any:
    """Return the stored decision about a payment, None when none was kept."""
    row = await stage.database.fetchrow(
        "select * from risk_decisions where payment_id = $1", payment_id
    )
    return None if row is None else {**dict(row), "reasons": orjson.loads(row["reasons"])}


async def told_risk(stage: Stage, payment_id: str) -> dict[str, Any]:
    """Wait for `payment.risk_assessed.v1` of a payment and return its body."""

    async def arrived() -> Any:
        events = stage.events.get(payment_id, [])
        return next((e for e in events if e["type"] == "payment.risk_assessed.v1"), None)

    body: dict[str, Any] = (await until(arrived))["data"]
    return body
