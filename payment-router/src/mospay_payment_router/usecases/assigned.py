"""Which keys active assignments need: looked at again only where the directory has changed."""

from typing import Any

from mospay_shared.chassis.directory import DirectoryReplica

from mospay_payment_router.domain.functions import ENQUIRY, Key

Owner = tuple[str, str, str]  # client, mode, service


class Assigned:
    """Assignments by client and service, and those whose keys may have changed since a look."""

    def __init__(self, replica: DirectoryReplica) -> None:
        self._replica = replica
        self._ends: dict[str, tuple[str, str]] = {}  # assignment → client, service
        self._of: dict[str, set[str]] = {}  # client or service → assignments
        self.changed: set[str] = set()

    def note(self, kind: str, entity_id: str, body: dict[str, Any] | None) -> None:
        """Take note of a change in the directory."""
        if kind != "assignment":
            self.changed |= self._of.get(entity_id, set())
            return
        for end in self._ends.pop(entity_id, ()):
            self._of[end].discard(entity_id)
        if body is not None:
            self._ends[entity_id] = (body["client_id"], body["service_id"])
            for end in self._ends[entity_id]:
                self._of.setdefault(end, set()).add(entity_id)
            self.changed.add(entity_id)

    def assigned(self, client_id: str, service_id: str) -> bool:
        """Say whether a client has a service, active or not."""
        return not self._of.get(client_id, set()).isdisjoint(self._of.get(service_id, set()))

    def wanted(self, assignment_id: str) -> list[tuple[Key, Owner]]:
        """Return the keys an assignment needs while it is active, with whom they belong to."""
        assignment = self._replica.get("assignment", assignment_id)
        if assignment is None or not assignment["active"]:
            return []
        client = self._replica.get("client", assignment["client_id"])
        service = self._replica.get("service", assignment["service_id"])
        if client is None or service is None:
            return []
        return [
            (
                Key(app["app_id"], service["microservice"], service["name"], route),
                (client["client_id"], app["mode"], service["service_id"]),
            )
            for app in client["apps"]
            if app["mode"] in service["urls"]
            for route in service["routes"]
            if not route.endswith(ENQUIRY)
        ]
