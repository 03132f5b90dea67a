"""Address rules: state, audit row and event in one transaction, as all of the directory."""

import datetime as dt
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.ids import new_id

from mospay_portal_api.domain.directory import ip_rule_faults
from mospay_portal_api.domain.errors import Conflict, Fault, Invalid
from mospay_portal_api.domain.people import Author
from mospay_portal_api.storage import directory, ip_rules
from mospay_portal_api.usecases.directory import existing, tell

RULES_LIMIT = 1_000  # of a client, or for everybody: every gateway process looks through them


async def create(tx: Tx, relay: Relay, by: Author, values: dict[str, Any]) -> Any:
    """Make a rule; return its row. Raises Invalid, Conflict."""
    if faults := ip_rule_faults(values, dt.datetime.now(dt.UTC)):
        raise Invalid(faults)
    version = await directory.next_version(tx)
    client_id = values["client_id"]
    if client_id is not None:
        client = await directory.client(tx, client_id)
        if client is None or client["deleted"]:
            raise Invalid([Fault("client_id", "unknown", "there is no such client")])
    if await ip_rules.count(tx, client_id) >= RULES_LIMIT:
        raise Conflict(f"There are {RULES_LIMIT} such rules already; delete some first")
    row = await ip_rules.insert(tx, {**values, "id": new_id("ipr"), "version": version})
    await tell(tx, relay, by, "ip_rule_created", "ip_rule", row)
    return row


async def change(
    tx: Tx, relay: Relay, by: Author, ip_rule_id: str, expected: int, changes: dict[str, Any]
) -> Any:
    """Change expiry, note or activity of a rule; return its row. Its address never changes."""
    version = await directory.next_version(tx)
    before = existing(await ip_rules.find(tx, ip_rule_id), "ip_rule", expected)
    wanted = {key: changes.get(key, before[key]) for key in ("expires_at", "note", "active")}
    row = await ip_rules.update(tx, ip_rule_id, version, **wanted)
    await tell(tx, relay, by, "ip_rule_changed", "ip_rule", row, before)
    return row
