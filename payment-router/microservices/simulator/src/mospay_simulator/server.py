"""The HTTP server: uvicorn, with a protocol that lets a scenario reset its connection."""

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mospay_simulator.routes import CUT_EXTENSION
from mospay_simulator.settings import Settings

KEEP_ALIVE_SECONDS = 75  # longer than any caller keeps an idle connection


class ResettableProtocol(HttpToolsProtocol):
    """Offers each request a function that drops its connection; ASGI itself has none."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CUT_EXTENSION: {"reset": self.transport.abort}}


def serve(app: FastAPI, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; connections that scenarios hold open are dropped then."""
    uvicorn.run(
        app,
        host=settings.http_host,
        port=settings.http_port,
        http=ResettableProtocol,
        loop="uvloop",
        ws="none",
        log_level=settings.log_level,
        access_log=False,
        limit_concurrency=settings.concurrency_limit,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
