"""Changes of the directory: state, audit and the event that tells of it in one transaction."""

from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import (
    AppV1,
    AssignmentV1,
    ClientV1,
    CompanyV1,
    Contract,
    CredentialsPartV1,
    CredentialV1,
    Event,
    Outgoing,
    ServiceV1,
    SnapshotPartV1,
    SnapshotRequestedV1,
    outgoing,
)
from mospay_shared.ids import new_id

from mospay_portal_api.domain import (
    Conflict,
    NewCredential,
    NotFound,
    StaleVersion,
)
from mospay_portal_api.storage import directory as store
from mospay_portal_api.storage import people

PART = 50  # entities of a kind in one part of a snapshot


def _told(kind: str, subject: str, body: Contract, *, command: bool = False) -> Outgoing:
    wire_type = f"directory.{kind}_changed.v1"
    return outgoing(wire_type, subject, body, source="portal-api", command=command)


def company_body(row: Any) -> CompanyV1:
    """Return a company as it travels."""
    return CompanyV1(
        company_id=row["id"], name=row["name"], version=row["version"], deleted=row["deleted"]
    )


def client_body(row: Any) -> ClientV1:
    """Return a client as it travels."""
    return ClientV1(
        client_id=row["id"],
        company_id=row["company_id"],
        name=row["name"],
        apps=[AppV1(**app) for app in row["apps"]],
        currency=row["currency"],
        time_zone=row["time_zone"],
        answer_wait_seconds=row["answer_wait_seconds"],
        active=row["active"],
        version=row["version"],
        deleted=row["deleted"],
    )


def service_body(row: Any) -> ServiceV1:
    """Return a service as it travels."""
    return ServiceV1(
        service_id=row["id"],
        active=row["active"],
        version=row["version"],
        deleted=row["deleted"],
        **row["body"],
    )


def assignment_body(row: Any) -> AssignmentV1:
    """Return an assignment as it travels."""
    return AssignmentV1(
        assignment_id=row["id"],
        client_id=row["client_id"],
        service_id=row["service_id"],
        active=row["active"],
        version=row["version"],
        deleted=row["deleted"],
    )


def credential_body(row: Any) -> CredentialV1:
    """Return a credential as it travels to the gateway: hashes, never the secret."""
    return CredentialV1(
        credential_id=row["id"],
        client_id=row["client_id"],
        app_id=row["app_id"],
        mode=row["mode"],
        kind=row["kind"],
        lookup=row["lookup"],
        secret_hash=row["secret_hash"],
        expires_at=row["expires_at"],
        revoked=row["revoked"],
        version=row["version"],
    )


async def create_company(tx: Tx, relay: Relay, actor: str, name: str) -> str:
    """Make a company; return its id."""
    company_id, version = new_id("com"), await store.next_version(tx)
    await store.insert_company(tx, company_id, name, version)
    body = CompanyV1(company_id=company_id, name=name, version=version)
    await relay.enqueue(tx, [_told("company", company_id, body)])
    await people.audit(tx, "company_created", actor=actor, subject=company_id, after={"name": name})
    return company_id


async def create_client(
    tx: Tx, relay: Relay, actor: str, values: dict[str, Any], apps: dict[str, str]
) -> Any:
    """Make a client with an App ID for each mode; return its row."""
    if not await store.company_exists(tx, values["company_id"]):
        raise NotFound("There is no such company")
    client_id = new_id("cli")
    version = await store.next_version(tx)
    if not await store.insert_client(tx, {**values, "id": client_id, "version": version}, apps):
        raise Conflict("One of these App IDs is taken")
    row = await store.client(tx, client_id)
    body = client_body(row)
    await relay.enqueue(tx, [_told("client", client_id, body)])
    await people.audit(
        tx, "client_created", actor=actor, subject=client_id, after=body.model_dump(mode="json")
    )
    return row


async def change_client(
    tx: Tx,
    relay: Relay,
    actor: str,
    client_id: str,
    expected: int,
    name: str | None,
    active: bool | None,
) -> Any:
    """Rename, activate or deactivate a client; return its row."""
    before = await store.client(tx, client_id)
    if before is None:
        raise NotFound("There is no such client")
    version = await store.next_version(tx)
    if not await store.update_client(tx, client_id, expected, version, name, active):
        raise StaleVersion("The client has changed since you read it; read it again")
    row = await store.client(tx, client_id)
    await relay.enqueue(tx, [_told("client", client_id, client_body(row))])
    await people.audit(
        tx,
        "client_changed",
        actor=actor,
        subject=client_id,
        before=client_body(before).model_dump(mode="json"),
        after=client_body(row).model_dump(mode="json"),
    )
    return row


async def create_service(tx: Tx, relay: Relay, actor: str, body: dict[str, Any]) -> Any:
    """Make a service; return its row."""
    service_id, version = new_id("svc"), await store.next_version(tx)
    made = await store.insert_service(
        tx, service_id, body["microservice"], body["name"], body, version
    )
    if not made:
        raise Conflict("That microservice has a service of this name")
    row = await store.service(tx, service_id)
    await relay.enqueue(tx, [_told("service", service_id, service_body(row))])
    await people.audit(tx, "service_created", actor=actor, subject=service_id, after=body)
    return row


async def change_service(
    tx: Tx, relay: Relay, actor: str, service_id: str, expected: int, changes: dict[str, Any]
) -> Any:
    """Change a service; what is in `changes` replaces what was; return its row."""
    before = await store.service(tx, service_id)
    if before is None:
        raise NotFound("There is no such service")
    active = changes.pop("active", None)
    body = {**before["body"], **changes}
    version = await store.next_version(tx)
    kept = before["active"] if active is None else active
    if not await store.update_service(tx, service_id, expected, version, body, kept):
        raise StaleVersion("The service has changed since you read it; read it again")
    row = await store.service(tx, service_id)
    await relay.enqueue(tx, [_told("service", service_id, service_body(row))])
    await people.audit(
        tx,
        "service_changed",
        actor=actor,
        subject=service_id,
        before={**before["body"], "active": before["active"]},
        after={**body, "active": kept},
    )
    return row


async def assign(tx: Tx, relay: Relay, actor: str, client_id: str, service_id: str) -> str:
    """Let a client use a service; return the assignment's id."""
    if await store.client(tx, client_id) is None:
        raise NotFound("There is no such client")
    if await store.service(tx, service_id) is None:
        raise NotFound("There is no such service")
    assignment_id, version = new_id("asg"), await store.next_version(tx)
    if not await store.insert_assignment(tx, assignment_id, client_id, service_id, version):
        raise Conflict("The client has this service already")
    body = AssignmentV1(
        assignment_id=assignment_id,
        client_id=client_id,
        service_id=service_id,
        active=True,
        version=version,
    )
    await relay.enqueue(tx, [_told("assignment", assignment_id, body)])
    await people.audit(
        tx,
        "service_assigned",
        actor=actor,
        subject=client_id,
        after={"service_id": service_id, "assignment_id": assignment_id},
    )
    return assignment_id


async def switch_assignment(
    tx: Tx, relay: Relay, actor: str, assignment_id: str, expected: int, active: bool
) -> Any:
    """Switch an assignment on or off; return its row."""
    version = await store.next_version(tx)
    row = await store.update_assignment(tx, assignment_id, expected, version, active)
    if row is None:
        raise StaleVersion("There is no such assignment, or it has changed since you read it")
    await relay.enqueue(tx, [_told("assignment", assignment_id, assignment_body(row))])
    await people.audit(
        tx, "assignment_switched", actor=actor, subject=assignment_id, after={"active": active}
    )
    return row


async def add_credential(
    tx: Tx, relay: Relay, actor: str, client_id: str, mode: str, kind: str, made: NewCredential
) -> tuple[str, str]:
    """Keep a generated credential and send its hash to the gateway; return id and App ID."""
    app_id = await store.app_id(tx, client_id, mode)
    if app_id is None:
        raise NotFound("The client has no App ID in that mode")
    credential_id, version = new_id("crd"), await store.next_version(tx)
    values = {
        "id": credential_id,
        "client_id": client_id,
        "app_id": app_id,
        "mode": mode,
        "kind": kind,
        "lookup": made.lookup,
        "secret_hash": made.secret_hash,
        "version": version,
    }
    await store.insert_credential(tx, values)
    body = credential_body({**values, "expires_at": None, "revoked": False})
    await relay.enqueue(tx, [_told("credential", credential_id, body, command=True)])
    await people.audit(
        tx,
        "credential_created",
        actor=actor,
        subject=client_id,
        after={"credential_id": credential_id, "kind": kind, "mode": mode},
    )
    return credential_id, app_id


async def revoke_credential(tx: Tx, relay: Relay, actor: str, credential_id: str) -> None:
    """Revoke a credential; the gateway refuses it within a second of hearing of it."""
    version = await store.next_version(tx)
    row = await store.revoke_credential(tx, credential_id, version)
    if row is None:
        raise NotFound("There is no such credential, or it is revoked already")
    body = credential_body(row)
    await relay.enqueue(tx, [_told("credential", credential_id, body, command=True)])
    await people.audit(tx, "credential_revoked", actor=actor, subject=credential_id)


async def answer_snapshot(tx: Tx, relay: Relay, event: Event[SnapshotRequestedV1]) -> int:
    """Publish the whole directory in parts, tombstones included; return the number of parts.

    The counter is held meanwhile, so the snapshot is of one instant: its high-water mark.
    """
    request, high_water = event.data, await store.current_version(tx)
    lists: dict[str, list[Any]] = {
        "companies": [company_body(row) for row in await store.companies(tx)],
        "clients": [client_body(row) for row in await store.clients(tx)],
        "services": [service_body(row) for row in await store.services(tx)],
        "assignments": [assignment_body(row) for row in await store.assignments(tx)],
    }
    count = max(1, *((len(rows) + PART - 1) // PART for rows in lists.values()))
    parts = [
        outgoing(
            "directory.snapshot_part.v1",
            request.request_id,
            SnapshotPartV1(
                request_id=request.request_id,
                requested_by=request.requested_by,
                part=number + 1,
                last=number == count - 1,
                high_water=high_water,
                **{k: rows[number * PART : (number + 1) * PART] for k, rows in lists.items()},
            ),
            source="portal-api",
            causation_id=event.id,
        )
        for number in range(count)
    ]
    if request.credentials:
        parts += await _credential_parts(tx, event)
    await relay.enqueue(tx, parts)
    return count


async def _credential_parts(tx: Tx, event: Event[SnapshotRequestedV1]) -> list[Outgoing]:
    bodies = [credential_body(row) for row in await store.credentials(tx)]
    starts = range(0, max(1, len(bodies)), PART)
    return [
        outgoing(
            "directory.credentials_part.v1",
            event.data.request_id,
            CredentialsPartV1(
                request_id=event.data.request_id,
                part=number + 1,
                last=start == starts[-1],
                credentials=bodies[start : start + PART],
            ),
            source="portal-api",
            causation_id=event.id,
            command=True,
        )
        for number, start in enumerate(starts)
    ]
