"""Changes of the directory: state, audit row and the event that tells of it in one transaction.

Each verb takes its version first and so holds the counter: what it reads, no other change touches.
"""

from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.ids import new_id

from mospay_portal_api.domain.credentials import NewCredential
from mospay_portal_api.domain.directory import assignment_limit_faults, service_faults
from mospay_portal_api.domain.errors import Conflict, Fault, Invalid, NotFound, StaleVersion
from mospay_portal_api.domain.people import Author
from mospay_portal_api.storage import audit, ip_rules, people
from mospay_portal_api.storage import directory as store
from mospay_portal_api.usecases.bodies import BODIES, changed

_TABLES = {"company": "companies", "client": "clients", "service": "services",
           "assignment": "assignments", "ip_rule": "ip_rules"}  # fmt: skip

_WORDS = {"ip_rule": "address rule"}


async def tell(
    tx: Tx, relay: Relay, by: Author, action: str, kind: str, row: Any, before: Any = None
) -> None:
    """Write the audit row and the event of a change; the hash of a credential in the event only."""
    shown = [
        None if one is None else BODIES[kind](one).model_dump(mode="json", exclude={"secret_hash"})
        for one in (before, row)
    ]
    await audit.write(tx, by, action, row["id"], before=shown[0], after=shown[1])
    await relay.enqueue(tx, [changed(kind, row)])


def existing(row: Any, kind: str, expected: int | None = None) -> Any:
    """Return a row that is there and, where a version was read, still has it."""
    if row is None or row["deleted"]:
        raise NotFound(f"There is no such {_WORDS.get(kind, kind)}")
    if expected is not None and row["version"] != expected:
        raise StaleVersion(_WORDS.get(kind, kind), row["version"])
    return row


async def create_company(tx: Tx, relay: Relay, by: Author, name: str) -> Any:
    """Make a company; return its row."""
    version = await store.next_version(tx)
    row = await store.insert_company(tx, new_id("com"), name, version)
    await tell(tx, relay, by, "company_created", "company", row)
    return row


async def create_client(
    tx: Tx, relay: Relay, by: Author, values: dict[str, Any], apps: dict[str, str]
) -> Any:
    """Make a client with an App ID for each mode; return its row."""
    version = await store.next_version(tx)
    if await store.company(tx, values["company_id"]) is None:
        raise Invalid([Fault("company_id", "unknown", "there is no such company")])
    if apps["live"] == apps["test"]:
        raise Invalid([Fault("app_ids.test", "repeated", "differs from the one for live")])
    client_id = new_id("cli")
    taken = await store.insert_client(tx, {**values, "id": client_id, "version": version}, apps)
    if taken:
        names = " and ".join(apps[mode] for mode in sorted(taken))
        raise Conflict(f"The App ID {names} is taken")
    row = await store.client(tx, client_id)
    await tell(tx, relay, by, "client_created", "client", row)
    return row


async def change_client(
    tx: Tx, relay: Relay, by: Author, client_id: str, expected: int, changes: dict[str, Any]
) -> Any:
    """Change name, activity, answer wait or rate of a client; return its row."""
    version = await store.next_version(tx)
    before = existing(await store.client(tx, client_id), "client", expected)
    keys = ("name", "active", "answer_wait_seconds", "rate_per_minute")
    wanted = {key: changes.get(key, before[key]) for key in keys}
    await store.update_client(tx, client_id, version, **wanted)
    row = await store.client(tx, client_id)
    await tell(tx, relay, by, "client_changed", "client", row, before)
    return row


async def create_service(tx: Tx, relay: Relay, by: Author, body: dict[str, Any]) -> Any:
    """Make a service; return its row."""
    if faults := service_faults(body):
        raise Invalid(faults)
    version = await store.next_version(tx)
    row = await store.insert_service(tx, new_id("svc"), body, version)
    if row is None:
        raise Conflict("That microservice has a service of this name")
    await tell(tx, relay, by, "service_created", "service", row)
    return row


async def change_service(
    tx: Tx, relay: Relay, by: Author, service_id: str, expected: int, changes: dict[str, Any]
) -> Any:
    """Change a service; what is in `changes` replaces what was; return its row."""
    version = await store.next_version(tx)
    before = existing(await store.service(tx, service_id), "service", expected)
    active = changes.get("active", before["active"])
    body = {**before["body"], **{k: v for k, v in changes.items() if k != "active"}}
    if faults := service_faults(body):
        raise Invalid(faults)
    row = await store.update_service(tx, service_id, version, body, active)
    await tell(tx, relay, by, "service_changed", "service", row, before)
    return row


async def assign(tx: Tx, relay: Relay, by: Author, values: dict[str, Any]) -> Any:
    """Let a client use a service, within limits of its own; return the assignment's row."""
    client_id, service_id = values["client_id"], values["service_id"]
    version = await store.next_version(tx)
    client, service = await store.client(tx, client_id), await store.service(tx, service_id)
    faults = [
        Fault(field, "unknown", f"there is no such {field.removesuffix('_id')}")
        for field, row in (("client_id", client), ("service_id", service))
        if row is None or row["deleted"]
    ]
    if faults:
        raise Invalid(faults)
    assert service is not None
    if faults := assignment_limit_faults(values["limits"], service["body"]["limits"]):
        raise Invalid(faults)
    made = {**values, "id": new_id("asg"), "version": version}
    row = await store.insert_assignment(tx, made)
    if row is None:
        raise Conflict("The client has this service already")
    await tell(tx, relay, by, "service_assigned", "assignment", row)
    return row


async def change_assignment(
    tx: Tx, relay: Relay, by: Author, assignment_id: str, expected: int, changes: dict[str, Any]
) -> Any:
    """Switch an assignment on or off, change its limits or answer wait; return its row.

    Raises Invalid for a limit that is wider than the service's.
    """
    version = await store.next_version(tx)
    before = existing(await store.assignment(tx, assignment_id), "assignment", expected)
    wanted = {
        key: changes.get(key, before[key]) for key in ("active", "limits", "answer_wait_seconds")
    }
    if "limits" in changes:
        service = await store.service(tx, before["service_id"])
        assert service is not None
        if faults := assignment_limit_faults(wanted["limits"], service["body"]["limits"]):
            raise Invalid(faults)
    row = await store.update_assignment(tx, assignment_id, version, **wanted)
    only_switched = set(changes) <= {"active"}
    action = "assignment_switched" if only_switched else "assignment_changed"
    await tell(tx, relay, by, action, "assignment", row, before)
    return row


_READ = {
    "company": store.company,
    "client": store.client,
    "service": store.service,
    "assignment": store.assignment,
    "ip_rule": ip_rules.find,
}


async def delete(
    tx: Tx, relay: Relay, by: Author, kind: str, entity_id: str, expected: int
) -> None:
    """Turn an entity into a tombstone that every replica hears of, with what hangs on it.

    A client takes its assignments and address rules along and revokes its credentials, a service
    its assignments; a company must have no clients any more and loses its users' logins. Payments
    stay.
    """
    version = await store.next_version(tx)
    before = existing(await _READ[kind](tx, entity_id), kind, expected)
    if kind == "company":
        if left := await store.clients_of(tx, entity_id):
            raise Conflict(f"The company still has {left} clients; delete them first")
        await people.close_company(tx, entity_id)
    if kind in ("client", "service"):
        for row in await store.assignments_of(tx, f"{kind}_id", entity_id):
            await _bury(tx, relay, by, "assignment", row, await store.next_version(tx))
    if kind == "client":
        for credential_id in await store.valid_credentials(tx, entity_id):
            await revoke_credential(tx, relay, by, credential_id)
        for row in await ip_rules.rules(tx, entity_id):
            await _bury(tx, relay, by, "ip_rule", row, await store.next_version(tx))
    await _bury(tx, relay, by, kind, before, version)


async def _bury(tx: Tx, relay: Relay, by: Author, kind: str, row: Any, version: int) -> None:
    await store.bury(tx, _TABLES[kind], row["id"], version)
    gone = {**dict(row), "deleted": True, "version": version}
    if kind != "company":
        gone["active"] = False
    await tell(tx, relay, by, f"{kind}_deleted", kind, gone, row)


async def add_credential(
    tx: Tx, relay: Relay, by: Author, client_id: str, app_id: str, mode: str, kind: str,
    made: NewCredential, rate_per_minute: int | None = None,
) -> str:  # fmt: skip
    """Keep a generated credential and send its hash to the gateway; return its id."""
    version = await store.next_version(tx)
    if await store.app_id(tx, client_id, mode) != app_id:
        raise NotFound("The client has no App ID in that mode")
    values = {
        "id": new_id("crd"),
        "client_id": client_id,
        "app_id": app_id,
        "mode": mode,
        "kind": kind,
        "lookup": made.lookup,
        "secret_hash": made.secret_hash,
        "rate_per_minute": rate_per_minute,
        "version": version,
    }
    row = await store.insert_credential(tx, values)
    await tell(tx, relay, by, "credential_created", "credential", row)
    return str(values["id"])


async def revoke_credential(tx: Tx, relay: Relay, by: Author, credential_id: str) -> None:
    """Revoke a credential; the gateway refuses it within a second of hearing of it."""
    version = await store.next_version(tx)
    row = await store.revoke_credential(tx, credential_id, version)
    if row is None:
        raise NotFound("There is no such credential, or it is revoked already")
    await tell(tx, relay, by, "credential_revoked", "credential", row)


async def change_credential(
    tx: Tx, relay: Relay, by: Author, credential_id: str, expected: int, rate_per_minute: int | None
) -> Any:
    """Change the rate of a credential that holds; return what may be seen of it."""
    version = await store.next_version(tx)
    before = await store.credential(tx, credential_id)
    if before is None or before["revoked"]:
        raise NotFound("There is no such credential, or it is revoked")
    if before["version"] != expected:
        raise StaleVersion("credential", before["version"])
    row = await store.update_credential(tx, credential_id, version, rate_per_minute)
    await tell(tx, relay, by, "credential_changed", "credential", row, before)
    return await store.credential_shown(tx, credential_id)
