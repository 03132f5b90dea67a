"""The gate: every call is looked at by address, then by who calls; refusals are noted."""

import datetime as dt
from typing import Any

import structlog
from mospay_shared.contracts import ServiceV1

from mospay_gateway.domain.addresses import AddressRules
from mospay_gateway.domain.catalogue import Catalogue, ClientApp
from mospay_gateway.domain.errors import (
    AddressRefused,
    GatewayError,
    NotAllowed,
    NotAuthenticated,
    TooMany,
)
from mospay_gateway.domain.limits import Held
from mospay_gateway.usecases.identity import Identity, offered_credential
from mospay_gateway.usecases.limits import Limiter
from mospay_gateway.usecases.security import Refusal, SecurityLog

log = structlog.get_logger()
_REFUSED = "Calls from this address are refused"


class Gate:
    """Lets calls in, or raises why not; nothing here waits for anything."""

    def __init__(
        self,
        identity: Identity,
        catalogue: Catalogue,
        rules: AddressRules,
        limiter: Limiter,
        security: SecurityLog,
    ) -> None:
        self._identity, self._catalogue, self._rules = identity, catalogue, rules
        self._limiter, self._security = limiter, security

    def on_change(self, kind: str, entity_id: str, body: dict[str, Any] | None) -> None:
        """Take over a change of the directory; a rule nobody can read is told, not obeyed."""
        if kind != "ip_rule":
            return
        try:
            self._rules.apply(entity_id, body)
        except ValueError as error:
            log.error("address_rule_unreadable", ip_rule_id=entity_id, reason=str(error)[:200])

    def arrive(self, address: str | None, path: str) -> None:
        """Look at a call of which only the address is known; raises AddressRefused, TooMany."""
        if self._rules:
            now = dt.datetime.now(dt.UTC)
            if self._rules.refuses_everybody(address, now):
                self._security.note(Refusal("address_refused", "denied", address), path, now)
                raise AddressRefused(_REFUSED)
        try:
            self._limiter.address(address, path)
        except TooMany as error:
            refusal = Refusal("rate_limited", _limit(error), address)
            self._security.note(refusal, path, dt.datetime.now(dt.UTC))
            raise

    def authenticate(
        self,
        *,
        api_key: str | None,
        authorization: str | None,
        app_id: str | None,
        address: str | None,
        path: str,
    ) -> ClientApp:
        """Return who calls; raises NotAuthenticated, NotAllowed."""
        try:
            return self._identity.authenticate(
                api_key=api_key, authorization=authorization, app_id=app_id
            )
        except (NotAuthenticated, NotAllowed) as error:
            self._note_failure(error, api_key, authorization, address, path)
            raise

    def authenticate_password(
        self, authorization: str, app_id: str, address: str | None, path: str
    ) -> ClientApp:
        """Return who Basic credentials speak for; raises NotAuthenticated, NotAllowed."""
        try:
            return self._identity.by_basic(authorization.partition(" ")[2], app_id)
        except (NotAuthenticated, NotAllowed) as error:
            self._note_failure(error, None, authorization, address, path)
            raise

    def admit(self, caller: ClientApp, held: list[Held], address: str | None, path: str) -> None:
        """Let in who is known now, and add the limits that were looked at to `held`.

        Raises AddressRefused, TooMany.
        """
        if self._rules:
            reason = self._rules.refusal(caller.client_id, address, dt.datetime.now(dt.UTC))
            if reason is not None:
                self._note(caller, "address_refused", reason, address, path)
                raise AddressRefused(_REFUSED)
        try:
            self._limiter.caller(caller, held)
        except TooMany as error:
            self._note(caller, "rate_limited", _limit(error), address, path)
            raise

    def admit_house(self, caller: ClientApp, held: list[Held], path: str) -> None:
        """Count a call the house itself makes for a client: no address, the same limits.

        Raises TooMany.
        """
        try:
            self._limiter.caller(caller, held)
        except TooMany as error:
            self._note(caller, "rate_limited", _limit(error), None, path)
            raise

    def use(
        self,
        caller: ClientApp,
        service: ServiceV1,
        held: list[Held],
        address: str | None,
        path: str,
    ) -> None:
        """Count a payment of a service and add its limit, if it has one. Raises TooMany."""
        try:
            self._limiter.service(service, caller.mode, held)
        except TooMany as error:
            self._note(caller, "rate_limited", _limit(error), address, path)
            raise

    def _note(
        self, caller: ClientApp, kind: str, reason: str, address: str | None, path: str
    ) -> None:
        refusal = Refusal(kind, reason, address, caller.lookup, caller.client_id, caller.mode)
        self._security.note(refusal, path, dt.datetime.now(dt.UTC))

    def _note_failure(
        self,
        error: GatewayError,
        api_key: str | None,
        authorization: str | None,
        address: str | None,
        path: str,
    ) -> None:
        """Note a failed authentication; a call without any credential has tried nothing."""
        if not api_key and not authorization:
            return
        offered = offered_credential(api_key, authorization)
        owner = self._catalogue.owner(*offered) if offered is not None else None
        lookup = offered[1] if offered is not None and owner is not None else None
        client_id, mode = owner or (None, None)
        refusal = Refusal("authentication_failed", error.code, address, lookup, client_id, mode)
        self._security.note(refusal, path, dt.datetime.now(dt.UTC))


def _limit(error: TooMany) -> str:
    return f"{error.policy} limit of {error.limit} a minute"
