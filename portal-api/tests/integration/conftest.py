"""Portal-api in this process, over a real database and broker, with people to sign in."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from mospay_portal_api.app import create_service
from mospay_portal_api.domain.people import Author
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.usecases import people
from mospay_shared.chassis.service import Service
from mospay_shared.ids import new_id
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from .house import SERVICES, House

PASSWORD = "correct horse battery"


@dataclass
class Browser:
    """A cookie jar with the CSRF token of its session."""

    http: httpx.AsyncClient
    csrf: str = ""

    async def sign_in(self, email: str, audience: str, password: str = PASSWORD) -> httpx.Response:
        """Sign in and keep the session."""
        body = {"email": email, "password": password, "audience": audience}
        answer = await self.http.post("/bff/v1/session", json=body)
        if answer.status_code == 200:
            self.csrf = answer.json()["csrf_token"]
        return answer

    async def get(self, path: str) -> httpx.Response:
        """GET below /bff/v1."""
        return await self.http.get("/bff/v1" + path)

    async def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Change something, with the CSRF token."""
        return await self.http.request(
            method, "/bff/v1" + path, json=body, headers={"X-CSRF-Token": self.csrf}
        )


@dataclass
class Portal:
    """The running portal-api."""

    service: Service
    house: House

    def browser(self) -> Browser:
        """A fresh browser."""
        transport = httpx.ASGITransport(app=self.service.app, raise_app_exceptions=False)
        return Browser(httpx.AsyncClient(transport=transport, base_url="http://portal"))

    async def user(self, audience: str, company_id: str | None = None, role: str = "owner") -> str:
        """Make a user and return the e-mail address."""
        email = f"{new_id('usr')}@people.example"
        hashed = await people.hash_password(PASSWORD)
        async with self.service.database.transaction() as tx:
            await people.create_user(
                tx,
                audience=audience,
                company_id=company_id,
                name="Somebody",
                email=email,
                role=role,
                password_hash=hashed,
                by=Author(None),
            )
        return email

    async def admin(self, role: str = "owner") -> Browser:
        """A browser with an admin signed in."""
        browser = self.browser()
        await browser.sign_in(await self.user("admin", role=role), "admin")
        return browser

    async def merchant(self, admin: Browser) -> tuple[Browser, str, str]:
        """A company with a client and a signed-in user: browser, client id, company id."""
        company = (await admin.send("POST", "/companies", {"name": "Shop"})).json()["id"]
        body = {"company_id": company, "name": "Shop", "currency": "RWF"}
        client = (await admin.send("POST", "/clients", body)).json()["id"]
        browser = self.browser()  # signs in after the client is there
        await browser.sign_in(await self.user("client", company), "client")
        return browser, client, company

    async def rows(self, sql: str, *values: Any) -> list[Any]:
        """Rows of a statement as the worker role."""
        async with self.service.database.transaction() as tx:
            return await tx.fetch(sql, *values)

    async def sent(self, subject: str) -> list[str]:
        """The types of events written for a subject, published or not."""
        async with self.service.database.transaction() as tx:
            rows = await tx.fetch("select type from outbox where subject = $1", subject)
        return [row["type"] for row in rows]


@pytest.fixture(autouse=True, scope="session")
def cheap_hashes() -> None:
    """Argon2id as everywhere, with small parameters: these tests sign in some hundred times."""
    quick = Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1)
    people.HASHES = PasswordHash((quick, BcryptHasher()))


@pytest.fixture(scope="session")
def portal_env(service_env: Callable[..., dict[str, str]], tmp_path_factory: Any) -> dict[str, str]:
    """The environment; the relay stays off so that tests can read the outbox."""
    web: Path = tmp_path_factory.mktemp("web")
    (web / "assets").mkdir()
    (web / "assets/a.js").write_text("1")
    (web / "index.html").write_text('<meta name="csp-nonce" content="__CSP_NONCE__">')
    return service_env(
        "portal-api",
        PORTAL_ROLES="http,consume,work",
        PORTAL_WEB_DIR=str(web),
        PORTAL_STREAM_CHECK_SECONDS="0.3",
    )


@pytest.fixture
async def portal(
    portal_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Portal]:
    """A running portal-api."""
    for name, value in portal_env.items():
        monkeypatch.setitem(os.environ, name, value)
    service = create_service(PortalSettings())
    urls = {name: portal_env[f"PORTAL_{stem}_URL"] for name, stem in SERVICES.items()}
    house = House(urls, portal_env["PORTAL_TRUSTED_KEYS"].split(","))
    async with service.app.router.lifespan_context(service.app):
        for _ in range(200):
            if (await service.readiness())[0]:
                break
            await asyncio.sleep(0.05)
        yield Portal(service, house)
        await house.close()
