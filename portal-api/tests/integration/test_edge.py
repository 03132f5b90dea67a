"""The edge in the directory: address rules, rates, a client's own limits, confirmation."""

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from mospay_shared.ids import new_id

from .conftest import Browser, Portal
from .test_directory import SERVICE, make_service, snapshot

LIMITS = {"min_minor": 100, "max_minor": 5_000, "daily_minor": 50_000, "daily_phone_minor": 9_000}


async def eventually(fact: Callable[[], Awaitable[Any]], seconds: float = 15) -> Any:
    """Wait until a fact holds and return it."""
    until = time.monotonic() + seconds
    while not (found := await fact()):
        assert time.monotonic() < until, "it did not come to be in time"
        await asyncio.sleep(0.02)
    return found


async def told(portal: Portal, subject: str) -> list[dict[str, Any]]:
    """Return the bodies of what was told about a subject, in order."""
    rows = await portal.rows("select body from outbox where subject = $1 order by id", subject)
    return [orjson.loads(row["body"])["data"] for row in rows]


def faults(answer: Any) -> list[tuple[str, str]]:
    """Return field and code of each fault of a refusal."""
    assert answer.status_code == 422, answer.text
    return [(fault["field"], fault["code"]) for fault in answer.json()["errors"]]


async def client_of(admin: Browser, client_id: str) -> dict[str, Any]:
    """Return a client as the list shows it."""
    clients = (await admin.get("/clients")).json()
    return next(dict(c) for c in clients if c["id"] == client_id)


async def test_rule_is_made_changed_and_deleted_with_versions_events_and_audit(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    body = {"client_id": client, "kind": "allow", "cidr": "203.0.113.0/24", "note": "office"}
    made = await admin.send("POST", "/ip-rules", body)
    assert made.status_code == 201, made.text
    rule = made.json()
    assert [r["id"] for r in (await admin.get(f"/ip-rules?client_id={client}")).json()] == [
        rule["id"]
    ]
    path = f"/ip-rules/{rule['id']}"
    off = await admin.send("PATCH", path, {"active": False, "version": rule["version"]})
    assert off.json()["active"] is False and off.json()["note"] == "office"
    stale = await admin.send("PATCH", path, {"active": True, "version": rule["version"]})
    assert stale.status_code == 409 and stale.json()["current_version"] == off.json()["version"]
    cleared = await admin.send("PATCH", path, {"note": None, "version": off.json()["version"]})
    assert cleared.json()["note"] is None and cleared.json()["active"] is False
    gone = await admin.send("DELETE", f"{path}?version={cleared.json()['version']}")
    assert gone.status_code == 204
    assert (await admin.get(f"/ip-rules?client_id={client}")).json() == []
    assert await portal.sent(rule["id"]) == ["directory.ip_rule_changed.v1"] * 4
    events = await told(portal, rule["id"])
    assert [e["version"] for e in events] == sorted(e["version"] for e in events)
    assert [e["deleted"] for e in events] == [False, False, False, True]
    actions = await portal.rows(
        "select action, before, after from audit_log where subject = $1 order by id", rule["id"]
    )
    assert [row["action"] for row in actions] == [
        "ip_rule_created", "ip_rule_changed", "ip_rule_changed", "ip_rule_deleted",
    ]  # fmt: skip
    assert actions[1]["before"]["active"] is True and actions[1]["after"]["active"] is False


@pytest.mark.parametrize(("changes", "fault"), [
    ({"cidr": "everywhere"}, ("cidr", "invalid_network")),
    ({"cidr": "203.0.113.5/24"}, ("cidr", "invalid_network")),
    ({"cidr": "2001:db8::/129"}, ("cidr", "invalid_network")),
    ({"cidr": "0.0.0.0/0"}, ("cidr", "too_wide")),
    ({"cidr": "::/0"}, ("cidr", "too_wide")),
    ({"kind": "allow"}, ("client_id", "required")),
    ({"client_id": "cli_nobody"}, ("client_id", "unknown")),
    ({"expires_at": "2020-01-01T00:00:00Z"}, ("expires_at", "past")),
    ({"expires_at": "2030-01-01T00:00:00"}, ("expires_at", "timezone_aware")),
    ({"note": "x" * 201}, ("note", "string_too_long")),
    ({"who": 1}, ("who", "extra_forbidden")),
    ({"cidr": "1.2.3.4\x00"}, ("cidr", "invalid_text")),
])  # fmt: skip
async def test_rule_that_can_not_be_is_refused_naming_the_field(
    portal: Portal, changes: dict[str, Any], fault: tuple[str, str]
) -> None:
    admin = await portal.admin()
    answer = await admin.send("POST", "/ip-rules", {"kind": "deny", "cidr": "1.2.3.4"} | changes)
    assert fault in faults(answer)


async def test_only_admins_who_may_write_the_directory_change_rules(portal: Portal) -> None:
    owner, viewer = await portal.admin(), await portal.admin(role="viewer")
    merchant, client, _ = await portal.merchant(owner)
    body = {"kind": "deny", "cidr": "2001:db8::/64", "client_id": client}
    made = (await owner.send("POST", "/ip-rules", body)).json()
    for browser, status in ((viewer, 200), (merchant, 403)):
        assert (await browser.get("/ip-rules")).status_code == status
        path = f"/ip-rules/{made['id']}"
        for method, where, sent in (
            ("POST", "/ip-rules", body),
            ("PATCH", path, {"version": made["version"]}),
            ("DELETE", f"{path}?version={made['version']}", None),
        ):
            assert (await browser.send(method, where, sent)).status_code == 403
    assert (await portal.browser().get("/ip-rules")).status_code == 401


async def test_request_role_sees_the_rules_of_its_company_alone(portal: Portal) -> None:
    admin = await portal.admin()
    _, mine, company = await portal.merchant(admin)
    _, other, _ = await portal.merchant(admin)
    ids = {}
    for client in (mine, other, None):
        body = {"kind": "deny", "cidr": "2001:db8::/64", "client_id": client}
        ids[client] = (await admin.send("POST", "/ip-rules", body)).json()["id"]
    async with portal.service.database.request() as tx:
        assert await tx.fetch("select id from ip_rules") == []
        await tx.run("select set_config('mospay.company_id', $1, true)", company)
        seen = [row["id"] for row in await tx.fetch("select id from ip_rules")]
    assert seen == [ids[mine]]


async def test_snapshot_holds_rules_tombstones_rates_and_limits(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    service = await make_service(admin)
    body = {"kind": "deny", "cidr": "203.0.113.7", "client_id": client}
    kept, gone = [(await admin.send("POST", "/ip-rules", body)).json() for _ in range(2)]
    await admin.send("DELETE", f"/ip-rules/{gone['id']}?version={gone['version']}")
    await admin.send(
        "POST",
        "/assignments",
        {"client_id": client, "service_id": service["id"], "limits": {"max_minor": 7},
         "answer_wait_seconds": 9},
    )  # fmt: skip
    known = await client_of(admin, client)
    change = {"rate_per_minute": 77, "version": known["version"]}
    assert (await admin.send("PATCH", f"/clients/{client}", change)).status_code == 200
    parts, _ = await snapshot(portal)
    rules = {rule.ip_rule_id: rule for part in parts for rule in part.ip_rules}
    assert rules[kept["id"]].deleted is False and rules[kept["id"]].cidr == "203.0.113.7"
    assert rules[gone["id"]].deleted is True
    found = next(c for part in parts for c in part.clients if c.client_id == client)
    assert found.rate_per_minute == 77
    held = next(a for part in parts for a in part.assignments if a.client_id == client)
    assert (held.limits.max_minor, held.answer_wait_seconds) == (7, 9)


async def test_deleting_a_client_takes_its_rules_along(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    body = {"kind": "allow", "cidr": "203.0.113.7", "client_id": client}
    rule = (await admin.send("POST", "/ip-rules", body)).json()["id"]
    version = (await client_of(admin, client))["version"]
    assert (await admin.send("DELETE", f"/clients/{client}?version={version}")).status_code == 204
    assert [e["deleted"] for e in await told(portal, rule)] == [False, True]
    again = await admin.send("POST", "/ip-rules", body)
    assert faults(again) == [("client_id", "unknown")]


async def test_rates_of_client_service_and_credential_are_set_told_and_taken_away(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    service = await make_service(admin)
    made = await admin.send(
        "POST",
        f"/clients/{client}/credentials",
        {"mode": "test", "kind": "api_key", "rate_per_minute": 9},
    )
    credential = made.json()["credential_id"]
    shown = (await admin.get(f"/clients/{client}/credentials")).json()[0]
    assert shown["rate_per_minute"] == 9
    for path, entity_id, version in (
        (f"/clients/{client}", client, (await client_of(admin, client))["version"]),
        (f"/services/{service['id']}", service["id"], service["version"]),
        (f"/credentials/{credential}", credential, shown["version"]),
    ):
        first = await admin.send("PATCH", path, {"rate_per_minute": 60, "version": version})
        assert first.status_code == 200 and first.json()["rate_per_minute"] == 60, first.text
        body = {"rate_per_minute": None, "version": first.json()["version"]}
        second = await admin.send("PATCH", path, body)
        assert second.json()["rate_per_minute"] is None
        rates = [event["rate_per_minute"] for event in await told(portal, entity_id)]
        assert rates[-2:] == [60, None]
        for wrong in (0, -1, 10_000_001, "many"):
            bad = await admin.send("PATCH", path, {"rate_per_minute": wrong, "version": 1})
            assert faults(bad)[0][0] == "rate_per_minute"
    renamed = await admin.send(
        "PATCH", f"/clients/{client}",
        {"name": "New", "version": (await client_of(admin, client))["version"]},
    )  # fmt: skip
    assert renamed.json()["name"] == "New" and renamed.json()["active"] is True
    audit = await portal.rows(
        "select after from audit_log where subject = $1 and action = 'credential_changed'",
        credential,
    )
    assert len(audit) == 2 and "secret_hash" not in audit[0]["after"]


async def limited(portal: Portal, admin: Browser) -> tuple[str, dict[str, Any]]:
    """A client and a service with every limit."""
    _, client, _ = await portal.merchant(admin)
    body = SERVICE | {"microservice": "m" + new_id("x")[-20:], "limits": LIMITS}
    made = await admin.send("POST", "/services", body)
    assert made.status_code == 201, made.text
    return client, made.json()


@pytest.mark.parametrize(("limits", "wrong"), [
    ({"max_minor": 5_001}, [("limits.max_minor", "wider_than_service")]),
    ({"min_minor": 99}, [("limits.min_minor", "wider_than_service")]),
    ({"daily_minor": 50_001, "daily_phone_minor": 9_001},
     [("limits.daily_phone_minor", "wider_than_service"),
      ("limits.daily_minor", "wider_than_service")]),
    ({"min_minor": 300, "max_minor": 200}, [("limits.max_minor", "out_of_order")]),
    ({"max_minor": 50}, [("limits.max_minor", "out_of_order")]),
    ({"min_minor": 6_000}, [("limits.min_minor", "out_of_order")]),
    ({"max_minor": -1}, [("limits.max_minor", "greater_than_equal")]),
])  # fmt: skip
async def test_a_clients_own_limits_are_stricter_or_refused_by_name(
    portal: Portal, limits: dict[str, int], wrong: list[tuple[str, str]]
) -> None:
    admin = await portal.admin()
    client, service = await limited(portal, admin)
    pair = {"client_id": client, "service_id": service["id"]}
    assert faults(await admin.send("POST", "/assignments", {**pair, "limits": limits})) == wrong
    made = (await admin.send("POST", "/assignments", pair)).json()
    change = {"limits": limits, "version": made["version"]}
    assert faults(await admin.send("PATCH", f"/assignments/{made['id']}", change)) == wrong
    assert len(await told(portal, made["id"])) == 1


async def test_stricter_limits_and_answer_wait_hold_and_switching_keeps_them(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    client, service = await limited(portal, admin)
    own = {"min_minor": 200, "max_minor": 5_000, "daily_minor": 10_000}
    body = {"client_id": client, "service_id": service["id"], "limits": own}
    made = (await admin.send("POST", "/assignments", {**body, "answer_wait_seconds": 60})).json()
    path = f"/assignments/{made['id']}"
    off = await admin.send("PATCH", path, {"active": False, "version": made["version"]})
    shown = off.json()
    assert shown["active"] is False and shown["limits"] == {**own, "daily_phone_minor": None}
    assert shown["answer_wait_seconds"] == 60
    change = {"limits": {}, "answer_wait_seconds": None, "version": shown["version"]}
    shown = (await admin.send("PATCH", path, change)).json()
    assert shown["limits"] == dict.fromkeys(LIMITS) and shown["answer_wait_seconds"] is None
    assert shown["active"] is False
    for wait in (0, 121):
        bad = await admin.send(
            "PATCH", path, {"answer_wait_seconds": wait, "version": shown["version"]}
        )
        assert faults(bad)[0][0] == "answer_wait_seconds"
    actions = await portal.rows(
        "select action from audit_log where subject = $1 order by id", made["id"]
    )
    assert [row["action"] for row in actions] == [
        "service_assigned", "assignment_switched", "assignment_changed",
    ]  # fmt: skip


async def test_limits_of_a_service_fit_each_other_the_phones_among_them(portal: Portal) -> None:
    admin = await portal.admin()
    service = await make_service(admin)
    for limits, wrong in (
        ({"daily_phone_minor": 10, "daily_minor": 9}, "limits.daily_phone_minor"),
        ({"max_minor": 11, "daily_phone_minor": 10}, "limits.max_minor"),
        ({"min_minor": 11, "daily_minor": 10}, "limits.min_minor"),
    ):
        change = {"limits": limits, "version": service["version"]}
        answer = await admin.send("PATCH", f"/services/{service['id']}", change)
        assert faults(answer) == [(wrong, "out_of_order")]
    change = {"limits": LIMITS, "version": service["version"]}
    answer = await admin.send("PATCH", f"/services/{service['id']}", change)
    assert answer.json()["limits"]["daily_phone_minor"] == 9_000


async def confirmed(admin: Browser, client: str, credential: str) -> bool:
    """Say whether the list shows a credential as confirmed."""
    rows = (await admin.get(f"/clients/{client}/credentials")).json()
    return bool(next(row for row in rows if row["id"] == credential)["confirmed"])


async def test_revocation_is_pushed_until_the_gateway_acknowledges_and_shown_till_then(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    made = await admin.send(
        "POST", f"/clients/{client}/credentials", {"mode": "test", "kind": "api_key"}
    )
    credential = made.json()["credential_id"]
    assert not await confirmed(admin, client, credential), "the gateway is away"
    portal.house.broken.add("gateway")
    await portal.house.up("gateway")
    assert (await admin.send("DELETE", f"/credentials/{credential}")).status_code == 204
    await asyncio.sleep(0)
    assert not await confirmed(admin, client, credential)
    portal.house.broken.discard("gateway")
    await eventually(lambda: confirmed(admin, client, credential))
    pushed = [b for b in portal.house.pushed if b.get("credential_id") == credential]
    assert pushed[-1]["revoked"] is True and "secret" not in pushed[-1]
    caller = portal.house.pushers[-1]
    assert caller.operator and caller.issuer == "portal-api"
    assert caller.scopes == {"credentials:write"}


async def test_deactivated_client_reaches_the_gateway_within_a_second(portal: Portal) -> None:
    admin = await portal.admin()
    await portal.house.up("gateway")
    _, client, _ = await portal.merchant(admin)

    async def known() -> bool:
        return bool((await client_of(admin, client))["confirmed"])

    await eventually(known)
    version = (await client_of(admin, client))["version"]
    started = time.monotonic()
    answer = await admin.send("PATCH", f"/clients/{client}", {"active": False, "version": version})
    assert answer.json()["confirmed"] is False

    async def pushed() -> bool:
        mine = [b for b in portal.house.pushed if b.get("client_id") == client and "apps" in b]
        return bool(mine) and mine[-1]["active"] is False

    await eventually(pushed)
    assert time.monotonic() - started < 1
    await eventually(known)
    created = dt.datetime.fromisoformat((await client_of(admin, client))["created_at"])
    assert created.tzinfo is not None
