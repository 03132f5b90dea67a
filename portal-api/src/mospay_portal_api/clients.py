"""HTTP out of portal-api: calls of the house services with a short-lived service token.

Errors: HouseError > Unavailable (no proper answer), Refused (a problem to pass on).
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import structlog
from mospay_shared.chassis import telemetry
from mospay_shared.chassis.http_out import open_client
from mospay_shared.chassis.service_tokens import TokenSigner

from mospay_portal_api.domain.errors import NotFound
from mospay_portal_api.domain.people import Asker
from mospay_portal_api.settings import PortalSettings

log = structlog.get_logger()
# The house's addresses come from our own settings, never from a person, and are private ones.
_ANYWHERE = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
FILE_SECONDS = 60.0  # between two pieces of a file
_PASSED_ON = (400, 409, 410, 413, 422)
_FILES = ("application/pdf", "text/csv", "image/png", "image/jpeg")


class HouseError(Exception):
    """Base of what a call of a house service raises."""


class Unavailable(HouseError):
    """A house service did not answer properly; `service` says which, `detail` how."""

    def __init__(self, service: str, detail: str) -> None:
        super().__init__(f"{service}: {detail}")
        self.service, self.detail = service, detail


class Refused(HouseError):
    """A house service answered with a problem of the request to pass on."""

    def __init__(self, service: str, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{service}: {problem.get('title')}")
        self.service, self.status, self.problem = service, status, problem


@dataclass(frozen=True, slots=True)
class File:
    """A file on its way through: its bytes as they come, what it is, what it is called.

    `unchanged`: whoever asks has it already, so there are no bytes.
    """

    content: AsyncIterator[bytes]
    media_type: str
    disposition: str
    etag: str | None = None
    unchanged: bool = False


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
                url, allowed=_ANYWHERE, timeout_seconds=self._settings.read_timeout_seconds
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

    async def find(
        self,
        service: str,
        path: str,
        scope: str,
        asker: Asker,
        query: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Any:
        """GET an object or a list, or None when the service has none (404); raises HouseError."""
        return await self._call(
            "GET", service, path, scope, asker, query=query, timeout_seconds=timeout_seconds
        )

    async def get(
        self,
        service: str,
        path: str,
        scope: str,
        asker: Asker,
        query: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Any:
        """GET an object or a list that is always there; raises HouseError.

        `timeout_seconds` is for what takes longer than most reads.
        """
        found = await self.find(service, path, scope, asker, query, timeout_seconds=timeout_seconds)
        if found is None:
            raise Unavailable(service, f"it has no {path}")
        return found

    async def post(
        self, service: str, path: str, scope: str, asker: Asker, body: Mapping[str, Any]
    ) -> Any:
        """POST a body and return the answer; raises HouseError. Never sent twice."""
        made = await self._call("POST", service, path, scope, asker, body=body)
        if made is None:
            raise Unavailable(service, f"it has no {path}")
        return made

    async def send(
        self,
        method: str,
        service: str,
        path: str,
        scope: str,
        asker: Asker,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a change and return the answer, {} where it has no body. Never sent twice.

        `timeout_seconds` is for what takes longer than a read. Raises NotFound for what is not
        there, HouseError otherwise.
        """
        done = await self._call(
            method, service, path, scope, asker, body=body, timeout_seconds=timeout_seconds,
            more=headers,
        )  # fmt: skip
        if done is None:
            raise NotFound("There is no such thing")
        return done

    async def file(
        self,
        service: str,
        path: str,
        scope: str,
        asker: Asker,
        query: Mapping[str, Any],
        *,
        timeout_seconds: float = FILE_SECONDS,
        etag: str | None = None,
    ) -> File:
        """GET a PDF, a CSV list or an image, passed on as it comes; raises NotFound, HouseError.

        `etag` is the one that is there already (`If-None-Match`).
        """
        client = self._clients[service]
        given = {"If-None-Match": etag} if etag else {}
        request = client.build_request(
            "GET",
            path,
            params={k: v for k, v in query.items() if v is not None} or None,
            headers=self._headers(service, scope, asker) | given,
            timeout=timeout_seconds,
        )
        try:
            answer = await client.send(request, stream=True)
        except (httpx.HTTPError, OSError) as error:
            log.warning("house_call_failed", to=service, path=path, reason=repr(error)[:200])
            raise Unavailable(service, "it does not answer right now") from error
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        disposition = answer.headers.get("content-disposition", "attachment")
        unchanged, its = etag is not None and answer.status_code == 304, answer.headers.get("etag")
        if unchanged:
            await answer.aclose()
        if unchanged or (answer.status_code == 200 and media_type in _FILES):
            return File(_through(answer), media_type, disposition, its, unchanged)
        try:
            content = orjson.loads(await answer.aread())
        except (httpx.HTTPError, ValueError, OSError):
            content = None
        finally:
            await answer.aclose()
        if self._judged(service, path, answer, content) is None:
            raise NotFound("There is no such thing")
        raise Unavailable(service, "it answered with no file")

    async def upload(
        self,
        service: str,
        path: str,
        scope: str,
        asker: Asker,
        query: Mapping[str, Any],
        content: bytes | AsyncIterator[bytes],
        *,
        timeout_seconds: float,
        method: str = "POST",
        media_type: str = "text/csv",
    ) -> Any:
        """Pass a file on, as it comes, and return the answer; never sent twice, never kept.

        Raises NotFound for what is not there, HouseError otherwise.
        """
        done = await self._call(
            method, service, path, scope, asker, query=query, content=content,
            timeout_seconds=timeout_seconds, more={"content-type": media_type},
        )  # fmt: skip
        if done is None:
            raise NotFound("There is no such thing")
        return done

    def _headers(self, service: str, scope: str, asker: Asker) -> dict[str, str]:
        token = self._signer.token(
            service, scope, actor=asker.actor, client_id=asker.client_id,
            customer_id=asker.customer_id, mode=asker.mode,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {token}"}
        if traceparent := telemetry.current_traceparent():
            headers["traceparent"] = traceparent
        return headers

    async def _call(
        self,
        method: str,
        service: str,
        path: str,
        scope: str,
        asker: Asker,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        timeout_seconds: float | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Any:
        headers = {**self._headers(service, scope, asker), **(more or {})}
        # None, as an empty mapping takes the query off the path
        params = {k: v for k, v in (query or {}).items() if v is not None} or None
        try:
            answer = await self._clients[service].request(
                method, path, params=params, json=body, content=content, headers=headers,
                timeout=timeout_seconds or self._settings.read_timeout_seconds,
            )  # fmt: skip
            told = answer.json() if answer.content else None
        except (httpx.HTTPError, ValueError, OSError) as error:
            log.warning("house_call_failed", to=service, path=path, reason=repr(error)[:200])
            raise Unavailable(service, "it does not answer right now") from error
        return self._judged(service, path, answer, told)

    def _judged(self, service: str, path: str, answer: httpx.Response, told: Any) -> Any:
        """Return what an answer says, None for 404; raises Refused, Unavailable."""
        if answer.status_code == 404:
            return None
        if answer.status_code in _PASSED_ON and isinstance(told, dict):
            raise Refused(service, answer.status_code, told)
        if answer.status_code == 204:
            return {}
        if answer.is_error or not isinstance(told, (dict, list)):
            log.warning("house_call_failed", to=service, path=path, status=answer.status_code)
            raise Unavailable(service, f"it answered {answer.status_code}")
        return told


async def _through(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_bytes():
            yield chunk
    finally:
        await answer.aclose()
