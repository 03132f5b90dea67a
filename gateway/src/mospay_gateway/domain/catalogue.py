"""The directory as requests need it: lookup maps over clients, services, assignments, keys."""

import datetime as dt
import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mospay_shared.contracts import AssignmentV1, ClientV1, CredentialV1, LimitsV1, ServiceV1

from mospay_gateway.domain.daily import stricter
from mospay_gateway.domain.errors import NotAllowed, NotAuthenticated
from mospay_gateway.domain.fields import FieldRules, compile_rules

_WRONG = "The credentials are wrong, expired or revoked"
_DUMMY = "0" * 64  # compared against when nothing is known, so that both take the same time


@dataclass(frozen=True, slots=True)
class ClientApp:
    """Who calls: a client, the App ID and mode its credential speaks for.

    `lookup` is the credential's public part; `key_rate_per_minute` its own limit, if it has one.
    """

    client: ClientV1
    app_id: str
    mode: str
    credential_id: str
    lookup: str | None = None
    key_rate_per_minute: int | None = None

    @property
    def client_id(self) -> str:
        """The tenant."""
        return self.client.client_id


@dataclass(frozen=True, slots=True)
class Offer:
    """A service as one client has it; `directory_version` is the newest of what it rests on.

    `limits` are the stricter ones of service and assignment, `answer_wait_seconds` the
    assignment's where it says one, else the client's.
    """

    service: ServiceV1
    rules: FieldRules
    active: bool
    directory_version: int
    limits: LimitsV1
    answer_wait_seconds: int


class Catalogue:
    """What the replica holds, indexed; fed change by change with `apply`."""

    def __init__(self) -> None:
        self._clients: dict[str, ClientV1] = {}
        self._services: dict[str, tuple[ServiceV1, FieldRules]] = {}
        self._assignments: dict[str, AssignmentV1] = {}
        self._credentials: dict[str, CredentialV1] = {}
        self._by_name: dict[str, set[str]] = defaultdict(set)
        self._by_microservice: dict[str, set[str]] = defaultdict(set)
        self._by_pair: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._by_lookup: dict[tuple[str, str], set[str]] = defaultdict(set)
        # What was found, until anything it may rest on changes; nothing found is not kept, so
        # that invented names fill no memory.
        self._found: dict[tuple[str, int, str | None, str | None], Sequence[Offer]] = {}
        self.secret_codes: frozenset[str] = frozenset({"f007", "f008"})
        self.masked_codes: frozenset[str] = frozenset({"f005"})

    def apply(self, kind: str, entity_id: str, body: dict[str, Any] | None) -> None:
        """Take over a change; a body of None is a deletion."""
        self._found.clear()
        match kind:
            case "client":
                self._clients.pop(entity_id, None)
                if body is not None:
                    self._clients[entity_id] = ClientV1.model_validate(body)
            case "service":
                self._apply_service(entity_id, body)
            case "assignment":
                self._apply_assignment(entity_id, body)
            case "credential":
                self._apply_credential(entity_id, body)

    def _apply_service(self, entity_id: str, body: dict[str, Any] | None) -> None:
        old = self._services.pop(entity_id, None)
        if old is not None:
            self._by_name[old[0].name].discard(entity_id)
            self._by_microservice[old[0].microservice].discard(entity_id)
        if body is not None:
            service = ServiceV1.model_validate(body)
            self._services[entity_id] = (service, compile_rules(service))
            self._by_name[service.name].add(entity_id)
            self._by_microservice[service.microservice].add(entity_id)
        definitions = [d for service, _ in self._services.values() for d in service.fields]
        secret = {d.code for d in definitions if d.type == "secret"}
        masked = {d.code for d in definitions if d.mask or d.type == "phone"}
        self.secret_codes = frozenset(secret | {"f007", "f008"})
        self.masked_codes = frozenset(masked | {"f005"})

    def _apply_assignment(self, entity_id: str, body: dict[str, Any] | None) -> None:
        old = self._assignments.pop(entity_id, None)
        if old is not None:
            self._by_pair[old.client_id, old.service_id].discard(entity_id)
        if body is not None:
            assignment = AssignmentV1.model_validate(body)
            self._assignments[entity_id] = assignment
            self._by_pair[assignment.client_id, assignment.service_id].add(entity_id)

    def _apply_credential(self, entity_id: str, body: dict[str, Any] | None) -> None:
        old = self._credentials.pop(entity_id, None)
        if old is not None:
            self._by_lookup[old.kind, old.lookup].discard(entity_id)
        if body is not None:
            credential = CredentialV1.model_validate(body)
            self._credentials[entity_id] = credential
            self._by_lookup[credential.kind, credential.lookup].add(entity_id)

    def by_api_key(self, text: str, now: dt.datetime) -> ClientApp:
        """Return who an API key `mp_<mode>_<prefix>_<secret>` speaks for; NotAuthenticated."""
        parts = text.split("_", 3)
        if len(parts) != 4 or parts[0] != "mp":
            raise NotAuthenticated("An API key looks like mp_live_… or mp_test_…")
        _, mode, prefix, secret = parts
        digest = hashlib.sha256(secret.encode()).hexdigest()
        for credential in self._matching("api_key", prefix, digest, now):
            if credential.mode == mode:
                return self._speaks_for(credential)
        raise NotAuthenticated(_WRONG)

    def by_password(
        self, username: str, password_hash: str, app_id: str | None, now: dt.datetime
    ) -> ClientApp:
        """Return who a user name and the keyed hash of its password speak for.

        `app_id`, when the request names one, must be the credential's. Raises NotAuthenticated.
        """
        for credential in self._matching("api_password", username, password_hash, now):
            if app_id is None or credential.app_id == app_id:
                return self._speaks_for(credential)
        raise NotAuthenticated(_WRONG)

    def by_claims(
        self, client_id: str, app_id: str, mode: str, credential_id: str, now: dt.datetime
    ) -> ClientApp:
        """Return who a verified token speaks for, as the directory stands now."""
        credential = self._credentials.get(credential_id)
        if (
            credential is None
            or not _good(credential, now)
            or (credential.client_id, credential.app_id, credential.mode)
            != (client_id, app_id, mode)
        ):
            raise NotAuthenticated("The credential behind this token is expired or revoked")
        return self._speaks_for(credential)

    def _matching(
        self, kind: str, lookup: str, digest: str, now: dt.datetime
    ) -> Iterator[CredentialV1]:
        ids = self._by_lookup.get((kind, lookup))
        if not ids:
            hmac.compare_digest(digest, _DUMMY)
            return
        for credential in [self._credentials[entity_id] for entity_id in ids]:
            if hmac.compare_digest(digest, credential.secret_hash) and _good(credential, now):
                yield credential

    def _speaks_for(self, credential: CredentialV1) -> ClientApp:
        client = self._clients.get(credential.client_id)
        if client is None or not any(
            app.app_id == credential.app_id and app.mode == credential.mode for app in client.apps
        ):
            raise NotAuthenticated(_WRONG)
        if not client.active:
            raise NotAllowed("This client is not active", "client_inactive")
        return ClientApp(
            client,
            credential.app_id,
            credential.mode,
            credential.credential_id,
            credential.lookup,
            credential.rate_per_minute,
        )

    def app_of(self, client_id: str, mode: str) -> ClientApp | None:
        """Return a client's app of a mode, active or not: for calls the house makes for it."""
        client = self._clients.get(client_id)
        for app in client.apps if client is not None else ():
            if client is not None and app.mode == mode:
                return ClientApp(client, app.app_id, mode, credential_id="")
        return None

    def owner(self, kind: str, lookup: str) -> tuple[str, str] | None:
        """Return client and mode of the credential with a lookup, good or not; None for none."""
        ids = self._by_lookup.get((kind, lookup))
        if not ids:
            return None
        credential = self._credentials[min(ids)]
        return credential.client_id, credential.mode

    def offers(
        self, client: ClientV1, name: str | None = None, microservice: str | None = None
    ) -> Sequence[Offer]:
        """Return the services a client has been assigned, of a name and microservice if given."""
        # The caller may hold a client of before the last change: kept apart by its version.
        key = (client.client_id, client.version, name, microservice)
        found = self._found.get(key) or self._find(client, name, microservice)
        if found:
            self._found[key] = found
        return found

    def _find(
        self, client: ClientV1, name: str | None, microservice: str | None
    ) -> Sequence[Offer]:
        ids = self._services if name is None else self._by_name.get(name, ())
        found = []
        for service_id in ids:
            assignments = self._by_pair.get((client.client_id, service_id))
            service, rules = self._services[service_id]
            if not assignments or (microservice and service.microservice != microservice):
                continue
            held = [self._assignments[entity_id] for entity_id in assignments]
            versions = (client.version, service.version, *(a.version for a in held))
            used = [a for a in held if a.active] or held
            waits = [a.answer_wait_seconds for a in used if a.answer_wait_seconds is not None]
            found.append(
                Offer(
                    service,
                    rules,
                    active=service.active and any(a.active for a in held),
                    directory_version=max(versions),
                    limits=stricter([service.limits, *(a.limits for a in used)]),
                    answer_wait_seconds=min(waits, default=client.answer_wait_seconds),
                )
            )
        return found

    def answer_wait_seconds(
        self, client: ClientV1, name: str | None, microservice: str | None
    ) -> int:
        """Return how long a request for a service is held when it does not say so itself."""
        offers = self.offers(client, name, microservice) if name else []
        return next((o.answer_wait_seconds for o in offers if o.active), client.answer_wait_seconds)

    def only_service_of(self, microservice: str) -> str | None:
        """Return the id of a microservice's service when it has just one."""
        ids = self._by_microservice.get(microservice, set())
        return next(iter(ids)) if len(ids) == 1 else None


def _good(credential: CredentialV1, now: dt.datetime) -> bool:
    return not credential.revoked and (credential.expires_at is None or credential.expires_at > now)
