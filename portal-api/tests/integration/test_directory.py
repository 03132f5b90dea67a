"""The directory: every change is told, a snapshot is whole, bad input is named."""

import asyncio
import hashlib
import hmac
from typing import Any

import orjson
import pytest
from mospay_portal_api.usecases import snapshot as snapshots
from mospay_shared.contracts import (
    CredentialsPartV1,
    Envelope,
    Event,
    SnapshotPartV1,
    SnapshotRequestedV1,
    outgoing,
)
from mospay_shared.ids import new_id

from .conftest import Browser, Portal

SERVICE = {
    "name": "collection",
    "title": "Collection",
    "currency": "RWF",
    "urls": {"test": "http://127.0.0.1:9"},
    "routes": ["payment"],
}


async def make_service(admin: Browser) -> dict[str, Any]:
    """A service of a microservice of its own."""
    body = SERVICE | {"microservice": "m" + new_id("x")[-20:]}
    answer = await admin.send("POST", "/services", body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def request(credentials: bool = True) -> Event[SnapshotRequestedV1]:
    """A request for a snapshot as the handler gets it."""
    body = SnapshotRequestedV1(
        request_id=new_id("snp"), requested_by="gateway", credentials=credentials
    )
    raw = outgoing("directory.snapshot_requested.v1", body.request_id, body, source="t").body
    return Event(Envelope.model_validate_json(raw), body)


async def snapshot(portal: Portal) -> tuple[list[SnapshotPartV1], list[CredentialsPartV1]]:
    """Ask for a snapshot and return its parts."""
    asked = request()
    async with portal.service.database.transaction() as tx:
        await snapshots.answer(tx, portal.service.relay, asked)
    async with portal.service.database.transaction() as tx:
        rows = await tx.fetch(
            "select type, body from outbox where subject = $1 order by id", asked.data.request_id
        )
    parts: list[SnapshotPartV1] = []
    secrets: list[CredentialsPartV1] = []
    for row in rows:
        data = orjson.loads(row["body"])["data"]
        if row["type"] == "directory.snapshot_part.v1":
            parts.append(SnapshotPartV1.model_validate(data))
        else:
            secrets.append(CredentialsPartV1.model_validate(data))
    return parts, secrets


async def test_every_change_is_told_with_a_rising_version(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, company = await portal.merchant(admin)
    service = await make_service(admin)
    assignment = await admin.send(
        "POST", "/assignments", {"client_id": client, "service_id": service["id"]}
    )
    assert assignment.status_code == 201
    assert await portal.sent(company) == ["directory.company_changed.v1"]
    assert await portal.sent(client) == ["directory.client_changed.v1"]
    assert await portal.sent(service["id"]) == ["directory.service_changed.v1"]
    assert await portal.sent(assignment.json()["id"]) == ["directory.assignment_changed.v1"]


async def test_stale_version_is_refused_and_tells_nobody(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    known = next(c for c in (await admin.get("/clients")).json() if c["id"] == client)
    path = f"/clients/{client}"
    first = await admin.send("PATCH", path, {"active": False, "version": known["version"]})
    assert first.status_code == 200 and first.json()["active"] is False
    second = await admin.send("PATCH", path, {"active": True, "version": known["version"]})
    assert second.status_code == 409 and second.json()["code"] == "stale_version"
    assert len(await portal.sent(client)) == 2


async def test_secrets_are_shown_once_and_only_their_hashes_kept(portal: Portal) -> None:
    import base64

    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    path = f"/clients/{client}/credentials"
    key = (await admin.send("POST", path, {"mode": "test", "kind": "api_key"})).json()
    basic = (await admin.send("POST", path, {"mode": "test", "kind": "api_password"})).json()
    listed = (await admin.get(path)).text
    secret = key["api_key"].split("_")[3]
    assert secret not in listed and basic["password"] not in listed
    async with portal.service.database.transaction() as tx:
        rows = {
            r["kind"]: r
            for r in await tx.fetch("select * from credentials where client_id=$1", client)
        }
        bodies = b"".join(
            r["body"] for r in await tx.fetch("select body from outbox where command")
        )
    assert rows["api_key"]["secret_hash"] == hashlib.sha256(secret.encode()).hexdigest()
    pepper = base64.b64decode(portal.service.settings.credential_pepper.get_secret_value())  # type: ignore[attr-defined]
    hashed = hmac.digest(pepper, basic["password"].encode(), "sha256").hex()
    assert rows["api_password"]["secret_hash"] == hashed
    assert secret.encode() not in bodies and basic["password"].encode() not in bodies


async def test_credentials_travel_as_commands_never_as_events(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    made = await admin.send(
        "POST", f"/clients/{client}/credentials", {"mode": "live", "kind": "api_key"}
    )
    credential = made.json()["credential_id"]
    assert (await admin.send("DELETE", f"/credentials/{credential}")).status_code == 204
    async with portal.service.database.transaction() as tx:
        rows = await tx.fetch("select command from outbox where subject = $1", credential)
    assert [row["command"] for row in rows] == [True, True]
    again = await admin.send("DELETE", f"/credentials/{credential}")
    assert again.status_code == 404


async def test_snapshot_is_whole_with_its_high_water_mark_and_one_last_part(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    made = [(await portal.merchant(admin))[1] for _ in range(3)]
    parts, secrets = await snapshot(portal)
    clients = {c.client_id: c for part in parts for c in part.clients}
    assert set(made) <= set(clients)
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [part.last for part in secrets] == [False] * (len(secrets) - 1) + [True]
    assert all(c.version <= parts[0].high_water for c in clients.values())


async def test_edits_during_a_snapshot_are_newer_than_its_mark(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    known = next(c for c in (await admin.get("/clients")).json() if c["id"] == client)
    change = {"name": "Renamed", "version": known["version"]}
    (parts, _), answer = await asyncio.gather(
        snapshot(portal), admin.send("PATCH", f"/clients/{client}", change)
    )
    seen = {c.client_id: c for part in parts for c in part.clients}[client]
    if seen.name != "Renamed":  # the edit came after: a replica keeps the newer one
        assert answer.json()["version"] > parts[0].high_water


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/companies", {}, "name"),
        ("/companies", {"name": " "}, "name"),
        ("/companies", {"name": "x", "colour": "y"}, "colour"),
        ("/clients", {"company_id": "c", "name": "n", "currency": "XXX"}, "currency"),
        (
            "/clients",
            {"company_id": "c", "name": "n", "currency": "RWF", "time_zone": "Moon"},
            "time_zone",
        ),
        ("/services", {**SERVICE, "microservice": "a b"}, "microservice"),
        ("/services", {**SERVICE, "microservice": "a", "urls": {"test": "ftp://x"}}, "urls.test"),
        ("/services", {**SERVICE, "microservice": "a", "routes": []}, "routes"),
        ("/users", {"audience": "client", "name": "n", "email": "no"}, "email"),
    ],
)
async def test_bad_input_names_the_field(
    portal: Portal, path: str, body: dict[str, Any], field: str
) -> None:
    admin = await portal.admin()
    answer = await admin.send("POST", path, body)
    assert answer.status_code == 422, answer.text
    assert field in {fault["field"] for fault in answer.json()["errors"]}


async def test_viewer_may_look_but_not_change(portal: Portal) -> None:
    viewer = await portal.admin(role="viewer")
    assert (await viewer.get("/clients")).status_code == 200
    assert (await viewer.send("POST", "/companies", {"name": "X"})).status_code == 403


async def test_deleted_client_is_a_tombstone_in_events_and_snapshots(portal: Portal) -> None:
    admin = await portal.admin()
    browser, client, company = await portal.merchant(admin)
    service = await make_service(admin)
    pair = {"client_id": client, "service_id": service["id"]}
    assignment = (await admin.send("POST", "/assignments", pair)).json()["id"]
    body = {"mode": "test", "kind": "api_key"}
    made = (await admin.send("POST", f"/clients/{client}/credentials", body)).json()
    left = await admin.send("DELETE", f"/companies/{company}?version=1")
    assert left.status_code == 409, "a company with clients stays"
    known = next(c for c in (await admin.get("/clients")).json() if c["id"] == client)
    stale = await admin.send("DELETE", f"/clients/{client}?version={known['version'] + 1}")
    assert stale.status_code == 409 and stale.json()["current_version"] == known["version"]
    path = f"/clients/{client}?version={known['version']}"
    assert (await admin.send("DELETE", path)).status_code == 204
    assert (await admin.send("DELETE", path)).status_code == 404
    assert client not in (await admin.get("/clients")).text
    assert (await browser.get("/session")).json()["apps"] == []
    parts, secrets = await snapshot(portal)
    clients = {c.client_id: c for part in parts for c in part.clients}
    pairs = {a.assignment_id: a for part in parts for a in part.assignments}
    keys = {c.credential_id: c for part in secrets for c in part.credentials}
    assert clients[client].deleted and not clients[client].active
    assert pairs[assignment].deleted and keys[made["credential_id"]].revoked
    assert await portal.sent(assignment) == ["directory.assignment_changed.v1"] * 2


async def test_company_without_clients_can_go_and_its_people_with_it(portal: Portal) -> None:
    admin = await portal.admin()
    browser, client, company = await portal.merchant(admin)
    for kind, entity in (("clients", client), ("companies", company)):
        known = next(c for c in (await admin.get(f"/{kind}")).json() if c["id"] == entity)
        path = f"/{kind}/{entity}?version={known['version']}"
        assert (await admin.send("DELETE", path)).status_code == 204
    assert (await browser.get("/session")).status_code == 401
    assert (await portal.sent(company))[-1] == "directory.company_changed.v1"


async def test_what_was_deleted_can_be_made_again_under_its_name(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    service = await make_service(admin)
    pair = {"client_id": client, "service_id": service["id"]}
    first = (await admin.send("POST", "/assignments", pair)).json()
    assert (await admin.send("POST", "/assignments", pair)).status_code == 409
    path = f"/assignments/{first['id']}?version={first['version']}"
    assert (await admin.send("DELETE", path)).status_code == 204
    assert (await admin.send("POST", "/assignments", pair)).status_code == 201
    path = f"/services/{service['id']}?version={service['version']}"
    assert (await admin.send("DELETE", path)).status_code == 204
    again = {**SERVICE, "microservice": service["microservice"]}
    assert (await admin.send("POST", "/services", again)).status_code == 201


async def test_app_id_is_never_free_again(portal: Portal) -> None:
    admin = await portal.admin()
    company = (await admin.send("POST", "/companies", {"name": "S"})).json()["id"]
    wanted = "a" + new_id("x")[-20:]
    body = {"company_id": company, "name": "S", "currency": "RWF", "app_ids": {"live": wanted}}
    made = (await admin.send("POST", "/clients", body)).json()
    path = f"/clients/{made['id']}?version={made['version']}"
    assert (await admin.send("DELETE", path)).status_code == 204
    taken = await admin.send("POST", "/clients", body)
    assert taken.status_code == 409 and wanted in taken.json()["title"]


async def test_snapshot_of_large_services_stays_below_the_limit_of_an_event(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    field = {"code": "f011", "label": "l" * 100, "regex": "a" * 250, "enum": ["b" * 90] * 8}
    fields = [{**field, "code": f"f{11 + n:03}"} for n in range(50)]
    made = []
    for _ in range(12):
        body = {**SERVICE, "microservice": "m" + new_id("x")[-20:], "fields": fields}
        answer = await admin.send("POST", "/services", body)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["id"])
    parts, _ = await snapshot(portal)
    seen = [s.service_id for part in parts for s in part.services]
    assert set(made) <= set(seen) and len(seen) == len(set(seen))
    assert len(parts) > 1 and [part.part for part in parts] == list(range(1, len(parts) + 1))


async def test_edits_and_deletes_during_snapshots_never_win_backwards(portal: Portal) -> None:
    """A replica that applies live events and snapshots by version ends with the newest state."""
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    known = next(c for c in (await admin.get("/clients")).json() if c["id"] == client)

    async def edit() -> None:
        version = known["version"]
        for number in range(5):
            change = {"name": f"n{number}", "version": version}
            version = (await admin.send("PATCH", f"/clients/{client}", change)).json()["version"]
        answer = await admin.send("DELETE", f"/clients/{client}?version={version}")
        assert answer.status_code == 204

    *taken, _ = await asyncio.gather(*(snapshot(portal) for _ in range(4)), edit())
    rows = await portal.rows("select body from outbox where subject = $1", client)
    live = [orjson.loads(row["body"])["data"] for row in rows]
    newest = max(live, key=lambda body: body["version"])
    assert newest["deleted"]
    for parts, _ in taken:
        for seen in (c for part in parts for c in part.clients if c.client_id == client):
            assert seen.version <= parts[0].high_water
            twin = next(body for body in live if body["version"] == seen.version)
            assert (twin["name"], twin["deleted"]) == (seen.name, seen.deleted)
        later = [body for body in live if body["version"] > parts[0].high_water]
        assert (
            later
            or next(c for part in parts for c in part.clients if c.client_id == client).deleted
        )


async def test_two_edits_of_one_version_leave_one_winner(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    known = next(c for c in (await admin.get("/clients")).json() if c["id"] == client)
    changes = [{"name": f"n{n}", "version": known["version"]} for n in range(4)]
    answers = await asyncio.gather(
        *(admin.send("PATCH", f"/clients/{client}", change) for change in changes)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]


async def test_every_change_is_in_the_audit_log_with_before_and_after(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    known = next(c for c in (await admin.get("/clients")).json() if c["id"] == client)
    change = {"active": False, "version": known["version"]}
    answer = await admin.send("PATCH", f"/clients/{client}", change)
    rows = await portal.rows(
        "select * from audit_log where subject = $1 and action = 'client_changed'", client
    )
    assert len(rows) == 1
    row = rows[0]
    assert (row["before"]["active"], row["after"]["active"]) == (True, False)
    assert row["actor"] == (await admin.get("/session")).json()["user"]["id"]
    assert row["request_id"] == answer.headers["x-request-id"] and row["ip"]
