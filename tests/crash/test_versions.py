"""Rows of time: old and new versions together, redriven letters, restored databases, snapshots."""

import asyncio
import datetime as dt
import json
import threading
from typing import Any

import httpx
import pytest
from mospay_dev.crash.house import House
from mospay_dev.demo.seed import SERVICE
from mospay_dev.infrastructure.databases import clone_database
from mospay_dev.load import Load
from mospay_dev.proxy import until
from mospay_shared.contracts import MESSAGES
from mospay_shared.ids import new_id

from tests.crash.conftest import run_while

row = pytest.mark.row
PROCESS = "payments.process.v1"
SPY = "crash.spy"


def captured(house: House, wire_type: str) -> dict[str, Any]:
    """Return a real event of this type off the wire."""
    exchange = "mospay.commands" if MESSAGES[wire_type].command else "mospay.events"
    house.spy(SPY, [(exchange, wire_type)])
    payment = house.pay()
    house.audit([payment])
    events = [e for _, _, body in house.take(SPY) for e in json.loads(body)]
    house.unspy(SPY)
    (found,) = [e for e in events if e["subject"] == payment]
    event: dict[str, Any] = found
    return event


def as_another(event: dict[str, Any], **changes: Any) -> tuple[str, dict[str, Any]]:
    """Return a copy of a command or event that is about a payment nobody has heard of."""
    payment = new_id("pay")
    data = event["data"] | {"payment_id": payment, "reference": House.reference()} | changes
    if data.get("attempt_id"):
        data["attempt_id"] = new_id("att")
    return payment, event | {"id": new_id("evt"), "subject": payment, "data": data}


def older(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as the first release would have sent it: required members alone."""
    fields = MESSAGES[event["type"]].model.model_fields
    needed = {name for name, field in fields.items() if field.is_required()}
    envelope = {k: event[k] for k in ("specversion", "id", "source", "type", "subject", "time")}
    return envelope | {"data": {k: v for k, v in event["data"].items() if k in needed}}


def newer(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as a later release may send it: with members nobody here knows."""
    data = event["data"] | {"a_later_member": {"nested": [1, 2, 3]}}
    return event | {"data": data, "a_later_attribute": "x"}


@row(20, "all", "N-1 and N+1 commands and events in flight")
def test_commands_and_events_of_the_release_before_and_after_are_handled(
    house: House,
) -> None:
    """Row 20: required members alone, and members nobody knows yet, side by side in one pack."""
    command, succeeded = captured(house, PROCESS), captured(house, "payment.succeeded.v1")
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=10)).isoformat()
    pairs = [as_another(command, send_before=later) for _ in range(2)]
    pack = json.dumps([older(pairs[0][1]), newer(pairs[1][1])]).encode()
    house.publish("mospay.commands", [(PROCESS, pack)])
    for payment, _ in pairs:
        until(lambda p=payment: house.transitions(p) == ["succeeded"], "the router took it")  # type: ignore[misc]
        assert house.effects(payment) == (1, 0)
    ends = [as_another(succeeded) for _ in range(2)]
    pack = json.dumps([older(ends[0][1]), newer(ends[1][1])]).encode()
    house.publish("mospay.events", [("payment.succeeded.v1", pack)])
    done = "select state from inbox where subject = $1 and type = 'payment.succeeded.v1'"
    for _, event in ends:
        for service in ("ledger", "notifier", "reporter", "gateway", "portal-api"):
            until(
                lambda s=service, e=event: house.value(s, done, e["subject"]) == "done",  # type: ignore[misc]
                f"{service} handled it",
            )


@row(20, "gateway, payment-router", "rolling replacement under load")
def test_rolling_replacement_under_load_refuses_and_loses_nothing(house: House) -> None:
    """Row 20: the new process is up before the old one is asked to end (SIGTERM)."""
    second = house.stack.replicate("gateway")
    gateways = (house.seed.gateway_url, house.stack.url(second))
    before = house.simulator()["repeats"]
    load = Load(house.seed, phones=("+250780000000", "+250780000003"), gateways=gateways)

    def replace() -> None:
        for service in ("gateway", "payment-router"):
            house.replicate(service)
            house.stack.stop_one(service)
            house.stack.start((service,))

    run_while(load.steady(30, 12), replace, after=1)
    assert not load.outcome.refused and len(set(load.outcome.accepted)) == 360
    house.audit(load.outcome.accepted, repeats=before)


@row("B11", "payment-router", "dead process redriven after send_before")
def test_dead_command_redriven_too_late_makes_no_call(house: House) -> None:
    """Row B11: whenever it is redriven, nothing starts after `send_before`."""
    command = captured(house, PROCESS)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=8)
    payment, event = as_another(
        command,
        send_before=soon.isoformat(),
        directory_version=10**12,  # not here yet, nor is its service
        service_id=new_id("svc"),
    )
    house.publish("mospay.commands", [(PROCESS, json.dumps([event]).encode())])
    state = "select state from inbox where event_id = $1"
    until(lambda: house.value("payment-router", state, event["id"]) == "retry", "it is set aside")
    house.sql(
        "payment-router",
        "update inbox set state = 'dead', next_at = null where event_id = $1",
        event["id"],
    )
    until(lambda: dt.datetime.now(dt.UTC) > soon, "its time is over")
    assert not house.sql("payment-router", "select 1 from payments where id = $1", payment)
    body = {
        "event_id": event["id"],
        "queue": "payment-router.commands",
        "reason": "the directory is complete again",
    }
    path = "/internal/v1/messages/redrive"
    answer = house.internal("payment-router", path, "messages:redrive", "POST", json=body)
    assert answer.status_code == 202, answer.text
    until(lambda: house.transitions(payment) == ["expired"], "it has expired")
    assert house.effects(payment) == (0, 0)


@row("B14", "payment-router", "database restored to an earlier state")
def test_rule_14_a_restored_router_database_sends_nothing_again(house: House) -> None:
    """Row B14, rule 14: a new epoch; what is older is asked about, told again, never resent."""
    url, name = house.stack.cluster.postgres_url, "mospay_router"
    house.kill("payment-router")
    asyncio.run(clone_database(url, name, f"{name}_backup"))
    house.start("payment-router")
    before = house.simulator()["repeats"]
    paid = [house.pay() for _ in range(5)]
    house.audit(paid)
    under_way = house.held(service="patient")  # sent; the database that knows it is lost
    house.kill("payment-router")
    house.stack.proxy("simulator").heal()
    asyncio.run(clone_database(url, f"{name}_backup", name))
    house.start("payment-router")
    house.wait_status(under_way, "succeeded", seconds=90)
    fresh = house.pay()
    house.audit([*paid, under_way, fresh], repeats=before)
    assert house.effects(under_way) == (1, 0)


@row("B17", "gateway, portal-api", "snapshot during an edit and a delete")
def test_snapshot_during_edits_and_a_delete_keeps_the_newest_and_resurrects_nothing(
    house: House,
) -> None:
    """Row B17: 503 until the snapshot is whole; then the newest version of everything."""
    portal = house.portal()
    client = house.seed.clients[0]
    doomed = portal.post(
        f"/clients/{client.client_id}/credentials", {"mode": "test", "kind": "api_key"}
    )
    services = portal.get("/services")
    items = services["items"] if isinstance(services, dict) else services
    service = next(s for s in items if s["name"] == "patient")
    key = {"X-API-Key": doomed["api_key"]}
    profile = house.seed.gateway_url + "/api/v1/client/profile"
    until(lambda: httpx.get(profile, headers=key).status_code == 200, "the key is good")
    house.kill("gateway")
    for table in ("directory_entity", "directory_snapshot"):
        house.sql("gateway", f"truncate {table}")
    house.stack.proxy("gateway", "broker").refuse()
    house.stack.start_process("gateway")

    def answer() -> int:
        try:
            return httpx.get(profile, headers=key, timeout=5).status_code
        except httpx.HTTPError:
            return 0

    until(lambda: answer() == 503, "without a snapshot it answers 503, never 401")
    stop = threading.Event()
    versions: list[int] = [service["version"]]

    def edit() -> None:
        while not stop.is_set() and len(versions) < 30:
            changed = portal.change(
                "PATCH",
                f"/services/{service['id']}",
                {"title": f"t{len(versions)}", "version": versions[-1]},
            )
            versions.append(changed["version"])

    editor = threading.Thread(target=edit)
    editor.start()
    house.stack.proxy("gateway", "broker").heal()
    portal.change("DELETE", f"/credentials/{doomed['credential_id']}")
    editor.join(60)
    stop.set()
    house.stack.wait_ready("gateway")
    held = "select version from directory_entity where kind = 'service' and entity_id = $1"
    until(lambda: house.value("gateway", held, service["id"]) == versions[-1], "the newest won")
    until(lambda: answer() == 401, "the deleted key stays deleted")
    house.audit([house.pay()])


@row("B17", "payment-router", "a client it has not heard of yet")
def test_rule_23_a_command_waits_for_the_directory_it_was_accepted_under(house: House) -> None:
    """Rule 23: the router waits, bounded, instead of refusing what it has not heard of."""
    portal, client = house.portal(), house.seed.clients[0]
    name = f"late{house.reference()[6:14]}"
    trap = house.at_commit("payment-router", name, "hold_before")  # its replica stands still
    body = SERVICE | {"name": name, "urls": {"test": house.stack.reach("simulator")}}
    service = portal.post("/services", body)
    portal.post("/assignments", {"client_id": client.client_id, "service_id": service["id"]})
    trap.wait()
    payments = "select 1 from directory_entity where entity_id = $1"
    assert not house.sql("payment-router", payments, service["id"])
    url = f"{house.seed.gateway_url}/api/v1/client/services"
    login = {"auth": (client.username, client.password), "headers": {"App-ID": client.app_id}}
    until(lambda: name in httpx.get(url, **login).text, "the gateway knows it")  # type: ignore[arg-type]
    payment = house.pay(service=name)
    state = "select state from inbox where subject = $1 and type = 'payments.process.v1'"
    until(lambda: house.value("payment-router", state, payment) == "retry", "it was set aside")
    assert house.effects(payment) == (0, 0) and house.read(payment)["status"] == "processing"
    house.stack.proxy("payment-router", "postgres").release()
    house.audit([payment])
