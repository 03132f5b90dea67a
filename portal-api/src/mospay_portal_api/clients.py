"""HTTP out of portal-api: reads of the house services with a short-lived service token."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import structlog
from mospay_shared.chassis import telemetry
from mospay_shared.chassis.http_out import open_client
from mospay_shared.chassis.service_tokens import TokenSigner

from mospay_portal_api.domain import Person
from mospay_portal_api.settings import PortalSettings

log = structlog.get_logger()


class Unavailable(Exception):
    """A house service did not answer properly; `service` says which."""

    def __init__(self, service: str, detail: str) -> None:
        super().__init__(f"{service}: {detail}")
        self.service, self.detail = service, detail


class Refused(Exception):
    """A house service answered with a problem of ours to pass on (4xx)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("title")))
        self.status, self.problem = status, problem


class House:
    """The five other services, called on behalf of a person."""

    def __init__(self, settings: PortalSettings) -> None:
        self._settings = settings
        self._signer = TokenSigner("portal-api", settings.signing_key.get_secret_value())
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def open(self) -> None:
        """Open one client a service."""
        urls = {
            "gateway": self._settings.gateway_url,
            "payment-router": self._settings.router_url,
            "ledger": self._settings.ledger_url,
            "notifier": self._settings.notifier_url,
            "reporter": self._settings.reporter_url,
        }
        self._clients = {
            name: open_client(
                url,
                allowed=self._settings.allow_private_networks,
                timeout_seconds=self._settings.read_timeout_seconds,
            )
            for name, url in urls.items()
        }

    async def close(self) -> None:
        """Close them."""
        await asyncio.gather(*(client.aclose() for client in self._clients.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """The services that can be asked."""
        return tuple(self._clients)

    async def call(
        self,
        service: str,
        path: str,
        scope: str,
        person: Person,
        *,
        client_id: str | None = None,
        mode: str | None = None,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Any:
        """Call a service and return its JSON (None for 404).

        A client user's token always names the client: that is what row-level security is set from.
        """
        if person.client_ids is not None and client_id is None:
            raise ValueError("a client user's call must name its client")
        token = self._signer.token(
            service, scope, actor=person.user_id, client_id=client_id, mode=mode
        )
        headers = {"Authorization": f"Bearer {token}"}
        if traceparent := telemetry.current_traceparent():
            headers["traceparent"] = traceparent
        try:
            answer = await self._clients[service].request(
                "GET" if body is None else "POST",
                path,
                params={k: v for k, v in (query or {}).items() if v is not None},
                json=body,
                headers=headers,
            )
        except httpx.HTTPError as error:
            log.warning("house_read_failed", to=service, path=path, reason=repr(error)[:200])
            raise Unavailable(service, "it does not answer right now") from error
        if answer.status_code == 404:
            return None
        if answer.status_code >= 500 or answer.status_code in (401, 403):
            raise Unavailable(service, f"it answered {answer.status_code}")
        if answer.is_error:
            raise Refused(answer.status_code, answer.json())
        return answer.json()
