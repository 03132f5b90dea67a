"""A signed-in session at the portal, over its public HTTP API."""

import json
import subprocess
import sys
import time
from typing import Any

import httpx

from mospay_dev.infrastructure.processes import StartFailed
from mospay_dev.stack import Stack


class Portal:
    """Calls `/bff/v1/…` as a browser would: cookie and CSRF token."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=15)
        self._csrf = ""

    def sign_in(self, email: str, password: str, audience: str) -> dict[str, Any]:
        """Open a session and return it; httpx.HTTPStatusError when refused."""
        body = {"email": email, "password": password, "audience": audience}
        answer = self._http.post("/bff/v1/session", json=body)
        answer.raise_for_status()
        session: dict[str, Any] = answer.json()
        self._csrf = session["csrf_token"]
        return session

    def get(self, path: str, **query: Any) -> Any:
        """GET a path and return its JSON; a 503 is asked again a few times, as a person would."""
        for _ in range(5):
            answer = self._http.get("/bff/v1" + path, params=query)
            if answer.status_code != 503:
                break
            time.sleep(1)
        if answer.is_error:
            raise StartFailed(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def file(self, path: str, **query: Any) -> bytes:
        """GET a file."""
        answer = self._http.get("/bff/v1" + path, params=query, timeout=60)
        if answer.is_error:
            raise StartFailed(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        return answer.content

    def upload(self, path: str, content: bytes, media_type: str, **query: Any) -> Any:
        """POST a file as the body; return the answer's JSON."""
        headers = {"X-CSRF-Token": self._csrf, "Content-Type": media_type}
        answer = self._http.post(
            "/bff/v1" + path, params=query, content=content, headers=headers, timeout=60
        )
        if answer.is_error:
            raise StartFailed(f"POST {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def post(self, path: str, body: dict[str, Any], *, key: str | None = None) -> Any:
        """POST a body, under an idempotency key if one is given; return the answer's JSON."""
        return self.change("POST", path, body, key=key)

    def change(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str | None = None
    ) -> Any:
        """Send a change and return the answer's JSON, None when it has none."""
        headers = {"X-CSRF-Token": self._csrf} | ({"Idempotency-Key": key} if key else {})
        answer = self._http.request(method, "/bff/v1" + path, json=body, headers=headers)
        if answer.is_error:
            raise StartFailed(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None


def make_admin(stack: Stack, email: str) -> str:
    """Make an admin on the command line, as a new installation does; return the password."""
    command = [sys.executable, "-m", "mospay_portal_api", "create-admin", "--email", email]
    done = subprocess.run(
        command, env=stack.environment("portal-api"), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StartFailed(f"could not make the first admin: {done.stdout}{done.stderr}")
    created: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return created["password"]
