"""The directory: every change is told, a snapshot is whole, bad input is named."""

import asyncio
import hashlib
import hmac
from typing import Any

import orjson
import pytest
from mospay_portal_api.usecases import directory
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
        await directory.answer_snapshot(tx, portal.service.relay, asked)
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
        ("/services", {**SERVICE, "microservice": "a", "urls": {"test": "ftp://x"}}, "urls"),
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
