"""The routes of risk: rules, lists, thresholds, decisions; bad input is named, versions hold."""

from typing import Any

import pytest
from mospay_shared.ids import new_id

from .conftest import Answering, Stage
from .risky import add_rule, settled

RULES, LISTS = "/internal/v1/risk/rules", "/internal/v1/risk/lists"
THRESHOLDS, DECISIONS = "/internal/v1/risk/thresholds", "/internal/v1/risk/decisions"
ABOVE = {"kind": "amount_above", "currency": "RWF", "amount_minor": 5, "points": 10}


async def test_a_rule_is_made_changed_and_deleted_by_the_version_that_was_read(
    stage: Stage,
) -> None:
    token, client = stage.token("risk:write risk:read", actor="usr_7"), new_id("cli")
    body = {"client_id": client, "mode": "test", "rule": ABOVE}
    made = await stage.http.post(RULES, json=body, headers=token)
    assert made.status_code == 201
    rule_id = made.json()["id"]
    path = f"{RULES}/{rule_id}"
    changed = body | {"rule": ABOVE | {"points": 20}, "version": 1, "active": False}
    assert (await stage.http.put(path, json=changed, headers=token)).json()["version"] == 2
    stale = await stage.http.put(path, json=changed, headers=token)
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_version")
    assert stale.json()["current_version"] == 2
    (row,) = (await stage.http.get(f"{RULES}?client_id={client}", headers=token)).json()
    assert (row["rule"]["points"], row["active"], row["updated_by"]) == (20, False, "usr_7")
    gone = await stage.http.delete(f"{path}?version=1", headers=token)
    assert gone.status_code == 409
    assert (await stage.http.delete(f"{path}?version=2", headers=token)).status_code == 204
    for answer in (
        await stage.http.delete(f"{path}?version=3", headers=token),
        await stage.http.put(path, json=changed | {"version": 3}, headers=token),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    again = await stage.http.put(path, json=body, headers=token)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


async def test_a_rule_may_be_kept_under_an_id_of_ones_own(stage: Stage) -> None:
    token, name = stage.token("risk:write"), new_id("own")
    body = {"client_id": new_id("cli"), "mode": "test", "rule": ABOVE}
    answer = await stage.http.put(f"{RULES}/{name}", json=body, headers=token)
    assert answer.json() == {"id": name, "version": 1}


async def test_each_change_raises_the_version_the_router_holds_to(stage: Stage) -> None:
    token = stage.token("risk:write")
    seen = [stage.wiring.policies.version]
    body = {"client_id": new_id("cli"), "mode": "test"}
    for path, what in (
        (RULES, body | {"rule": ABOVE}),
        (LISTS, body | {"list": "block", "kind": "ip", "value": "10.0.0.1", "reason": "why"}),
    ):
        assert (await stage.http.post(path, json=what, headers=token)).status_code == 201
        await settled(stage)
        seen.append(stage.wiring.policies.version)
    assert seen == sorted(set(seen)) and len(seen) == 3


async def test_entries_show_what_may_be_seen_and_are_listed_in_pages(stage: Stage) -> None:
    token, client = stage.token("risk:write risk:read"), new_id("cli")
    body = {"client_id": client, "mode": "test", "list": "block", "reason": "chargeback"}
    for kind, value in (
        ("phone", "+250 780 000 321"),
        ("device", "abcdef"),
        ("ip", "10.0.0.9/8"),
        ("customer", "c-1"),
    ):
        made = await stage.http.post(LISTS, json=body | {"kind": kind, "value": value},
                                     headers=token)  # fmt: skip
        assert made.status_code == 201, made.text
    again = await stage.http.post(
        LISTS, json=body | {"kind": "phone", "value": "250780000321"}, headers=token
    )
    assert again.status_code == 409
    shown: list[str] = []
    before = ""
    for _ in range(2):
        path = f"{LISTS}?client_id={client}&limit=2{before}"
        page = (await stage.http.get(path, headers=token)).json()
        shown += [item["shown"] for item in page["items"]]
        before = f"&before={page['next_before']}"
    assert shown == ["c-1", "10.0.0.0/8", "***def", "*************321"]
    page = (await stage.http.get(f"{LISTS}?client_id={client}{before}", headers=token)).json()
    assert page == {"items": [], "next_before": None}


async def test_an_expired_entry_makes_room_for_its_successor(stage: Stage) -> None:
    token, client = stage.token("risk:write"), new_id("cli")
    body = {
        "client_id": client,
        "mode": "test",
        "list": "block",
        "kind": "customer",
        "value": "c-9",
        "reason": "chargeback",
        "expires_at": "2999-01-01T00:00:00Z",
    }
    assert (await stage.http.post(LISTS, json=body, headers=token)).status_code == 201
    await stage.database.execute(
        "update risk_entries set expires_at = now() where client_id = $1", client
    )
    assert (await stage.http.post(LISTS, json=body, headers=token)).status_code == 201


async def test_thresholds_are_set_by_the_version_that_was_read(stage: Stage) -> None:
    token, client = stage.token("risk:write risk:read"), new_id("cli")
    path = f"{THRESHOLDS}/test?client_id={client}"
    body = {"hold_at": 5, "refuse_at": 5, "version": 0}
    assert (await stage.http.put(path, json=body, headers=token)).json() == {"version": 1}
    stale = await stage.http.put(path, json=body, headers=token)
    assert (stale.status_code, stale.json()["current_version"]) == (409, 1)
    again = await stage.http.put(path, json=body | {"version": 1}, headers=token)
    assert again.json() == {"version": 2}
    rows = (await stage.http.get(THRESHOLDS, headers=token)).json()
    assert [r["client_id"] for r in rows][:2] == [None, None]
    assert [r["hold_at"] for r in rows if r["client_id"] == client] == [5]


VELOCITY = {"kind": "velocity", "scope": "phone", "window_minutes": 1, "max_payments": 1}


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", RULES, {"mode": "test"}, "rule"),
        ("POST", RULES, {"mode": "x", "rule": ABOVE}, "mode"),
        ("POST", RULES, {"mode": "test", "rule": {"kind": "magic"}}, "rule"),
        ("POST", RULES, {"mode": "test", "rule": ABOVE | {"points": -1}}, "points"),
        ("POST", RULES, {"mode": "test", "rule": ABOVE | {"amount_minor": 2**63}}, "amount_minor"),
        ("POST", RULES, {"mode": "test", "rule": ABOVE | {"amount_minor": 1.5}}, "amount_minor"),
        ("POST", RULES, {"mode": "test", "rule": VELOCITY | {"window_minutes": 0}}, "window"),
        ("POST", RULES, {"mode": "test", "rule": VELOCITY}, "rule.velocity"),
        ("POST", RULES, {"mode": "test", "rule": ABOVE, "client_id": "a b"}, "client_id"),
        ("POST", RULES, {"mode": "test", "rule": ABOVE, "version": 2**31}, "version"),
        ("PUT", f"{RULES}/a%20b", {"mode": "test", "rule": ABOVE}, "rule_id"),
        ("DELETE", f"{RULES}/x", None, "version"),
        ("GET", f"{RULES}?mode=x", None, "mode"),
        ("POST", LISTS, {"mode": "test", "list": "block", "kind": "ip", "value": "10.0.0.999",
                         "reason": "why"}, "value"),
        ("POST", LISTS, {"mode": "test", "list": "block", "kind": "phone", "value": "12",
                         "reason": "why"}, "value"),
        ("POST", LISTS, {"mode": "test", "list": "block", "kind": "customer", "value": "a\u0000b",
                         "reason": "why"}, "value"),
        ("POST", LISTS, {"mode": "test", "list": "block", "kind": "customer", "value": "c",
                         "reason": "a\u0000b"}, "reason"),
        ("POST", LISTS, {"mode": "test", "list": "grey", "kind": "customer", "value": "c",
                         "reason": "why"}, "list"),
        ("POST", LISTS, {"mode": "test", "list": "block", "kind": "customer", "value": "c",
                         "reason": "why", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ("POST", LISTS, {"mode": "test", "list": "block", "kind": "customer", "value": "c",
                         "reason": "why", "expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ("GET", f"{LISTS}?limit=0", None, "limit"),
        ("PUT", f"{THRESHOLDS}/test", {"hold_at": 9, "refuse_at": 8}, "refuse_at"),
        ("PUT", f"{THRESHOLDS}/x", {"hold_at": 1, "refuse_at": 8}, "mode"),
        ("GET", f"{DECISIONS}?decision=maybe", None, "decision"),
        ("GET", f"{DECISIONS}?open=perhaps", None, "open"),
        ("GET", f"{DECISIONS}?before=a%00b", None, "before"),
    ],
)  # fmt: skip
async def test_bad_input_is_named(
    stage: Stage, method: str, path: str, body: Any, field: str
) -> None:
    token = stage.token("risk:write risk:read")
    answer = await stage.http.request(method, path, json=body, headers=token)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert any(field in fault["field"] for fault in answer.json()["errors"]), answer.text


async def test_scopes_are_needed_and_only_the_operator_sets_anything(stage: Stage) -> None:
    rule = {"mode": "test", "rule": ABOVE}
    entry = {"mode": "test", "list": "block", "kind": "customer", "value": "c", "reason": "why"}
    for method, path, body, scope in (
        ("GET", RULES, None, "risk:read"),
        ("POST", RULES, rule, "risk:write"),
        ("PUT", f"{RULES}/x", rule, "risk:write"),
        ("DELETE", f"{RULES}/x?version=1", None, "risk:write"),
        ("GET", LISTS, None, "risk:read"),
        ("POST", LISTS, entry, "risk:write"),
        ("DELETE", f"{LISTS}/x", None, "risk:write"),
        ("GET", THRESHOLDS, None, "risk:read"),
        ("PUT", f"{THRESHOLDS}/test", {"hold_at": 1, "refuse_at": 2}, "risk:write"),
        ("GET", DECISIONS, None, "risk:read"),
    ):

        async def asked(headers: Any, method: str = method, path: str = path,
                        body: Any = body) -> int:  # fmt: skip
            answer = await stage.http.request(method, path, json=body, headers=headers)
            return answer.status_code

        assert await asked({}) == 401
        wrong = "risk:write" if scope == "risk:read" else "risk:read"
        assert await asked(stage.token(wrong)) == 403, path
        if path != DECISIONS:
            assert await asked(stage.token(scope, client_id="cli_1", mode="test")) == 403, path


async def test_limits_of_rules_and_entries_are_refused_by_name(
    router_env: dict[str, str], owner_url: str, infrastructure: Any
) -> None:
    from .conftest import staged

    keys = infrastructure.keys
    async with staged(
        router_env, owner_url, keys, risk_rules_limit=1, risk_entries_limit=1
    ) as stage:
        token, client = stage.token("risk:write"), new_id("cli")
        body = {"client_id": client, "mode": "test"}
        answer = await stage.http.post(RULES, json=body | {"rule": ABOVE}, headers=token)
        assert (answer.status_code, answer.json()["code"]) == (409, "too_many")
        for number, wanted in ((1, 201), (2, 409)):
            await stage.database.execute(
                "update risk_entries set deleted_at = now() "
                "where deleted_at is null and client_id is distinct from $1", client,
            )  # fmt: skip
            entry = body | {"list": "block", "kind": "customer", "value": f"c{number}",
                            "reason": "why"}  # fmt: skip
            answer = await stage.http.post(LISTS, json=entry, headers=token)
            assert answer.status_code == wanted, answer.text


async def test_open_decisions_are_those_held_now_in_pages_newest_first(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    rule = {"kind": "amount_above", "currency": "RWF", "amount_minor": 0, "decision": "hold"}
    await add_rule(stage, merchant, rule)
    ids = [await stage.pay(merchant) for _ in range(4)]
    for payment_id in ids:
        await stage.ends(payment_id, "held")
    ended = "update payments set status = 'cancelled', next_action_at = null where id = $1"
    await stage.database.execute(ended, ids[1])
    token = stage.token("risk:read")
    base = f"{DECISIONS}?client_id={merchant.client_id}&decision=hold"
    everything = (await stage.http.get(base, headers=token)).json()
    assert [item["payment_id"] for item in everything["items"]] == ids[::-1]
    assert everything["next_before"] is None
    first = (await stage.http.get(f"{base}&open=true&limit=2", headers=token)).json()
    assert [item["payment_id"] for item in first["items"]] == [ids[3], ids[2]]
    path = f"{base}&open=true&limit=2&before={first['next_before']}"
    second = (await stage.http.get(path, headers=token)).json()
    assert [item["payment_id"] for item in second["items"]] == [ids[0]]
    (item,) = second["items"]
    assert (item["status"], item["version"], item["phone_masked"]) == ("held", 2, "**********000")
    for query in ("decision=refuse", "mode=live", f"payment_id={new_id('pay')}"):
        path = f"{DECISIONS}?client_id={merchant.client_id}&{query}"
        assert (await stage.http.get(path, headers=token)).json()["items"] == []
