"""The web UI's files: index never cached and stamped with a nonce, assets for ever."""

import secrets
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from mospay_shared.chassis.problems import Problem
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PLACEHOLDER = "__CSP_NONCE__"
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
BRAND = ":root{--brand:#0B5CD5}@media (prefers-color-scheme:dark){:root{--brand:#7FB0FF}}\n"


def policy(nonce: str) -> str:
    """Return the Content-Security-Policy of a page."""
    return (
        f"default-src 'self'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; object-src 'none'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    )


class SecurityHeaders:
    """Adds the headers every answer of the portal carries."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        hsts = [(b"strict-transport-security", b"max-age=31536000; includeSubDomains")]
        self._headers = _HEADERS + (hsts if https else [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", [])
                names = {name.lower() for name, _ in given}  # a page's own word is the stricter
                more = (header for header in self._headers if header[0] not in names)
                message["headers"] = [*given, *more]
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)


def _file(folder: Path | None, *parts: str) -> Path | None:
    """Return a file below `folder`, or None when there is none there."""
    if folder is None or any("\x00" in part for part in parts):
        return None
    root = folder.resolve()
    path = root.joinpath(*parts).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def _index(folder: Path | None) -> Response:
    index = _file(folder, "index.html")
    if index is None:
        return PlainTextResponse(
            "The web UI is not built here. Build it in portal-api/web (npm ci && npm run "
            "build) and set PORTAL_WEB_DIR to its dist folder.\n",
            503,
            headers={"Cache-Control": "no-store"},
        )
    nonce = secrets.token_urlsafe(16)
    return Response(
        index.read_text().replace(_PLACEHOLDER, nonce),
        media_type="text/html",
        headers={"Cache-Control": "no-cache", "Content-Security-Policy": policy(nonce)},
    )


def router(folder: Path | None) -> APIRouter:
    """Return the routes; without a build they say so. Plain functions: files block."""
    routes = APIRouter(include_in_schema=False)

    @routes.api_route("/bff/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def unknown(path: str) -> Response:
        raise Problem(404, "not_found", "There is no such path")

    @routes.get("/brand.css")
    def brand() -> Response:
        headers = {"Cache-Control": "no-cache"}
        return PlainTextResponse(BRAND, media_type="text/css", headers=headers)

    @routes.get("/")
    def home() -> Response:
        return RedirectResponse("/client/login", 302)

    @routes.get("/assets/{name:path}")
    def asset(name: str) -> Response:
        path = _file(folder, "assets", name)
        if path is None:
            raise Problem(404, "not_found", "There is no such file")
        return FileResponse(path, headers={"Cache-Control": "public, max-age=31536000, immutable"})

    @routes.get("/{path:path}")
    def page(path: str) -> Response:
        if path.partition("/")[0] in ("client", "admin"):
            return _index(folder)
        plain = None if "/" in path or path == "index.html" else _file(folder, path)
        if plain is None:
            raise Problem(404, "not_found", "There is no such page")
        return FileResponse(plain, headers={"Cache-Control": "public, max-age=3600"})

    return routes
