"""The document against a real gateway process: every operation, every check Schemathesis has.

`MOSPAY_SCHEMATHESIS_EXAMPLES` sets the examples an operation (15 by default; before a release:
`MOSPAY_SCHEMATHESIS_EXAMPLES=1500` makes about 50,000 calls).
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from mospay_gateway.routes.documents import KNOWN
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import FieldDefinitionV1
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection

from .conftest import Gateway, Merchant, running, send_snapshot

EXAMPLES = int(os.environ.get("MOSPAY_SCHEMATHESIS_EXAMPLES", "15"))
# What a valid document can't say: which services there are, what is left of a limit, which payment
# may be refunded. Such refusals are named faults (422), not successes.
_REFUSALS = ["2xx", "401", "403", "404", "409", "422", "503"]
CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"positive_data_acceptance": {"expected-statuses": _REFUSALS}}}
)
schema = schemathesis.openapi.from_path(
    Path(__file__).resolve().parents[2] / "openapi.json", config=CONFIG
)


@dataclass(frozen=True)
class Live:
    """A gateway process, a merchant it knows, and the environment it runs in."""

    url: str
    merchant: Merchant
    env: dict[str, str]
    calls: dict[str, int]  # by operation, those of Schemathesis

    def headers(self, path: str) -> dict[str, str]:
        """Return what lets a caller in at a path."""
        if path.startswith("/internal/v1/payments"):
            ledger = TokenSigner("ledger", self.env["LEDGER_SIGNING_KEY"])
            tenant = {"client_id": self.merchant.client.client_id, "mode": "test"}
            scopes = "payments:create payments:read"
            return {"Authorization": f"Bearer {ledger.token('gateway', scopes, **tenant)}"}
        if path.startswith("/internal/"):
            signer = TokenSigner("portal-api", self.env["PORTAL_SIGNING_KEY"])
            scopes = "trace:read messages:read messages:redrive credentials:write"
            return {"Authorization": f"Bearer {signer.token('gateway', scopes)}"}
        if path == "/api/v1/auth/token":
            basic = httpx.BasicAuth(self.merchant.username, self.merchant.password)
            return {"Authorization": basic._auth_header, "App-ID": self.merchant.app_id}
        return {**self.merchant.headers, "Prefer": "wait=0"}


async def _merchant(env: dict[str, str]) -> Merchant:
    """Let the gateway's database know a merchant."""
    sql = await asyncpg.connect(env["GATEWAY_WORKER_DATABASE_URL"])
    try:
        async with running(env) as (service, http):
            known = "select exists (select 1 from directory_snapshot where parts_done)"
            if not await sql.fetchval(known):
                await send_snapshot(service, sql)
            colour = FieldDefinitionV1(code="f011", label="Colour", required=False)
            return await Gateway(service, http, sql, env).merchant(fields=[colour])
    finally:
        await sql.close()


# The ledger's paths, where they are not ours with another beginning.
_BOOKS = {"entries": "journal-entries", "client-exceptions": "reconciliation-exceptions"}


def example_of(path: str) -> tuple[str, Any]:
    """Return media type and example of what the document says of a path of reporter or ledger."""
    parts = path.partition("?")[0].removeprefix("/internal/v1/").split("/")
    if parts[0] == "dashboard":
        return "application/json", KNOWN[f"GET /api/dashboard/{parts[1]}"].success[200]
    for ending, media in (("csv", "text/csv"), ("pdf", "application/pdf")):
        if parts[-1].endswith("." + ending):
            return media, ending
    parts[0] = _BOOKS.get(parts[0], parts[0])
    one = next((name for name in KNOWN if re.fullmatch(_pattern(name), "/".join(parts))), None)
    assert one is not None, path
    return "application/json", KNOWN[one].success[200]


def _pattern(operation: str) -> str:
    return re.sub(r"\\{[a-z_]+\\}", "[^/.]+", re.escape(operation.removeprefix("GET /v1/")))


class House(BaseHTTPRequestHandler):
    """Answers as reporter and ledger do: with the document's own examples."""

    def do_GET(self) -> None:
        """GET /internal/v1/…."""
        media, example = example_of(self.path)
        body = json.dumps(example).encode()
        self.send_response(200)
        self.send_header("content-type", media)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def house_url() -> Iterator[str]:
    """Reporter and ledger on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), House)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def live(
    gateway_env: dict[str, str], infrastructure: Any, house_url: str, request: pytest.FixtureRequest
) -> Iterator[Live]:
    """A gateway process; in the end it is told how many calls it has answered."""
    env = {
        **gateway_env,
        "GATEWAY_REPORTER_URL": house_url,
        "GATEWAY_LEDGER_URL": house_url,
        "PORTAL_SIGNING_KEY": infrastructure.keys["portal_signing"],
        "LEDGER_SIGNING_KEY": infrastructure.keys["ledger_signing"],
        **{
            f"GATEWAY_{name}_RATE_PER_MINUTE": "10000000"
            for name in ("CLIENT", "ADDRESS", "CALLBACK", "TOKEN")
        },
    }
    merchant = asyncio.run(_merchant(gateway_env))
    url = f"http://127.0.0.1:{gateway_env['GATEWAY_HTTP_PORT']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "mospay_gateway"], env=os.environ | env, stdout=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 90
        while True:
            try:
                if httpx.get(f"{url}/v1/payments", headers=merchant.headers).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None and time.monotonic() < until, "it did not start"
            time.sleep(0.05)
        made = Live(url, merchant, env, {})
        yield made
        told = f"{sum(made.calls.values()):,} calls of {len(made.calls)} operations"
        plugins = request.config.pluginmanager
        if reporter := plugins.getplugin("terminalreporter"):
            with plugins.getplugin("capturemanager").global_and_fixture_disabled():
                reporter.write_line(told)
        assert process.poll() is None, "it has stopped by itself"
    finally:
        process.terminate()
        process.wait(30)


def vanishes(case: schemathesis.Case) -> bool:
    """Say whether a value of the query is one that no URL holds: what should be faulty is not sent.

    (Faulty headers are covered by ours.)
    """
    return any(value in (None, [], {}) for value in (case.query or {}).values())


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_gateway_does_what_its_document_says(case: schemathesis.Case, live: Live) -> None:
    path = case.operation.path
    # the chassis' own pages ignore query parameters they don't know
    unfit = path.startswith("/internal/") or vanishes(case)
    left_out = [negative_data_rejection] if unfit else []
    live.calls[case.operation.label] = live.calls.get(case.operation.label, 0) + 1
    case.call_and_validate(base_url=live.url, headers=live.headers(path), excluded_checks=left_out)
