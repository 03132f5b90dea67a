"""The other five services as portal-api meets them over HTTP: their shapes, tokens and tenants.

Stands at their addresses; a service that is not `up` has nobody listening. The real ones are met
in tests/e2e.
"""

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service_tokens import Caller, TokenVerifier
from mospay_shared.ids import new_id

SETTLING = ("settlements", "settlement-terms", "payouts", "statements")
BOOKS = ("entries", "reversals", "fee-plans", "balances", "verify")
SERVICES = {
    "gateway": "GATEWAY",
    "payment-router": "ROUTER",
    "ledger": "LEDGER",
    "notifier": "NOTIFIER",
    "reporter": "REPORTER",
}
BILLING = (
    "issuers", "customers", "customer-imports", "invoices", "credit-notes", "ageing",
    "fee-invoices", "links", "payer",
)  # fmt: skip


def at(seconds: float = 0) -> str:
    """An instant as services write it, so many seconds from now."""
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


def payment_row(client_id: str, **changes: Any) -> dict[str, Any]:
    """A succeeded payment as reporter shows it."""
    row: dict[str, Any] = {
        "id": new_id("pay"),
        "client_id": client_id,
        "app_id": "app",
        "mode": "test",
        "service": "collection",
        "route": "payment",
        "status": "succeeded",
        "amount_minor": 1000,
        "currency": "RWF",
        "fee_minor": 20,
        "net_minor": 980,
        "reference": "r-1",
        "provider_reference": "sim_1",
        "customer_id": None,
        "product_name": None,
        "reason_code": None,
        "reason_message": None,
        "late": False,
        "accepted_at": at(-60),
        "updated_at": at(-58),
        "version": 2,
        "metadata": {},
    }
    return row | changes


def hop(service: str, **changes: Any) -> dict[str, Any]:
    """A handled message as every service shows it."""
    values: dict[str, Any] = {
        "id": new_id("hop"),
        "service": service,
        "kind": "message",
        "name": "payment.succeeded.v1",
        "received_at": at(-57),
        "handled_at": at(-57),
        "outcome": "ok",
    }
    return values | changes


@dataclass
class House:
    """What the five services know, and what they were asked by whom."""

    urls: dict[str, str]
    trusted: list[str]
    payments: dict[str, dict[str, Any]] = field(default_factory=dict)
    routed: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: dict[str, list[Any]] = field(default_factory=dict)
    deliveries: dict[str, list[Any]] = field(default_factory=dict)
    hops: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    calls: list[tuple[str, str, Caller, dict[str, str]]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    risk: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sent: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    # of router (functions, refunds) and ledger (settlements, books), by path
    answers: dict[str, Any] = field(default_factory=dict)
    uploads: list[bytes] = field(default_factory=list)  # files, as they came
    pushed: list[dict[str, Any]] = field(default_factory=list)  # told to the gateway by a worker
    pushers: list[Caller] = field(default_factory=list)
    guests: dict[str, dict[str, Any]] = field(default_factory=dict)  # invoices by a link's digest
    refusals: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # of the next pays
    _runners: dict[str, web.AppRunner] = field(default_factory=dict)

    async def up(self, *services: str) -> None:
        """Begin to listen for these services."""
        for service in services:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._handler(service))
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", urlsplit(self.urls[service]).port or 0).start()
            self._runners[service] = runner

    async def down(self, *services: str) -> None:
        """Stop listening for these services."""
        for service in services:
            await self._runners.pop(service).cleanup()

    async def close(self) -> None:
        """Stop all."""
        await self.down(*list(self._runners))

    def know(self, row: dict[str, Any]) -> str:
        """Let the whole house know a payment that went well; return its id."""
        payment_id = str(row["id"])
        self.payments[payment_id] = row
        self.routed[payment_id] = {
            **{key: row[key] for key in ("id", "client_id", "mode", "status", "version", "late")},
            **{key: row[key] for key in ("provider_reference", "reason_code", "reason_message")},
            "updated_at": row["updated_at"],
            "attempts": [],
        }
        news = f"payment.{row['status']}.v1"
        for service in ("gateway", "ledger", "notifier", "reporter"):
            self.hops[service, payment_id] = [hop(service, name=news)]
        self.hops["payment-router", payment_id] = [
            hop("payment-router", name="payments.process.v1", received_at=at(-59))
        ]
        self.entries[payment_id] = [
            {
                "entry_id": new_id("ent"),
                "kind": "capture",
                "posted_at": at(-57),
                "currency": "RWF",
                "postings": [
                    {"account": "a", "amount_minor": 1000},
                    {"account": "b", "amount_minor": -1000},
                ],
            }
        ]
        return payment_id

    def _handler(self, service: str) -> Any:
        verifier = TokenVerifier(service, self.trusted)

        async def handle(request: web.Request) -> web.Response:
            if service in self.broken:
                return web.Response(status=502, text="<html>bad gateway</html>")
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            try:
                caller = verifier.verify(token)
            except Problem as problem:
                return web.json_response({"code": problem.code}, status=401)
            body: Any = {}
            if request.content_type == "text/csv":
                self.uploads.append(await request.read())
                body = {"list": self.uploads[-1].decode(errors="replace")}
            elif request.can_read_body and request.content_type == "application/octet-stream":
                self.uploads.append(await request.read())
            elif request.can_read_body:
                body = await request.json()
            if request.path.endswith("/changed"):  # a worker's, beside what a test does
                self.pushers.append(caller)
                self.pushed += body[request.path.split("/")[-2]]
                return web.json_response({"acknowledged": 1})
            self.calls.append((service, request.path, caller, dict(request.query)))
            with suppress(KeyError):
                named = request.path.split("/")[3].partition(".")[0]
                file = request.path.endswith((".pdf", ".csv")) and named not in SETTLING
                if service == "ledger" and file:
                    return self._file(request)
                made = self._answer(service, request, caller, body)
                if isinstance(made, bytes) and request.path.endswith("/logo"):
                    return self._logo(request, made)
                if isinstance(made, bytes):
                    disposed = {"Content-Disposition": 'attachment; filename="a.csv"'}
                    return web.Response(body=made, content_type="text/csv", headers=disposed)
                return made if isinstance(made, web.Response) else web.json_response(made)
            return web.json_response({"code": "not_found", "title": "No"}, status=404)

        return handle

    def _visible(self, caller: Caller, payment_id: str) -> dict[str, Any]:
        row = self.payments[payment_id]
        if not caller.operator and row["client_id"] != caller.client_id:
            raise KeyError(payment_id)
        return row

    def _answer(
        self, service: str, request: web.Request, caller: Caller, body: dict[str, Any]
    ) -> Any:
        path = request.path.removeprefix("/internal/v1/")
        name, _, rest = path.partition("/")
        if name == "traces":
            return {"service": service, "hops": self.hops.get((service, rest), [])}
        if service == "payment-router" and name == "risk":
            return self._risk(request, rest, body)
        if service == "payment-router" and name in ("functions", "mappings", "refunds"):
            return self._functions(request, path, body)
        if service == "payment-router" and name == "payments":
            return {**self.routed[rest], "id": self._visible(caller, rest)["id"]}
        if service == "ledger" and name == "guest":
            return self._guest(request, caller, rest, body)
        kept = (*BILLING, *BOOKS, *SETTLING, "reconciliation")
        if service == "ledger" and name.partition(".")[0] in kept:
            return self._functions(request, path, body)
        if service == "ledger":
            return self._ledger(name, rest)
        if service == "notifier":
            return self._notifier(request, name, body)
        if path == "payments":
            return self._page(caller, request.query)
        if path == "overview":
            return self._overview()
        return self._visible(caller, rest)

    def _risk(self, request: web.Request, rest: str, body: dict[str, Any]) -> Any:
        """Rules, lists and thresholds as rows; what was sent is kept in `sent`."""
        kind, _, named = rest.partition("/")
        rows = self.risk.setdefault(kind, [])
        if request.method == "GET":
            paged = {"items": rows, "next_before": None}
            return paged if kind in ("lists", "decisions") else rows
        self.sent.append((request.method, request.path_qs, body))
        if request.method == "DELETE":
            return {}
        return {"id": named or "rsk_made", "version": body.get("version", 0) + 1}

    def _functions(self, request: web.Request, path: str, body: dict[str, Any]) -> Any:
        """What a test has put down for a path, by method where both are asked; KeyError: 404."""
        if request.method != "GET":
            self.sent.append((request.method, request.path_qs, body))
        if (request.method == "PUT" or path.endswith("/pay")) and self.refusals:
            status, problem = self.refusals.pop(0)
            return web.json_response(problem, status=status)
        answer = self.answers.get(f"{request.method} {path}", self.answers.get(path))
        if answer is None:
            raise KeyError(path)
        return answer.pop(0) if isinstance(answer, list) and request.method == "GET" else answer

    def _guest(self, request: web.Request, caller: Caller, rest: str, body: dict[str, Any]) -> Any:
        """What a test has put down for a link's digest (`guests`); KeyError: 404."""
        digest, _, what = rest.partition("/")
        invoice = self.guests[digest]
        if caller.issuer != "portal-api" or "invoices:guest" not in caller.scopes:
            return web.json_response({"code": "missing_scope"}, status=403)
        if what == "logo":
            return self.answers[f"guest/{digest}/logo"]
        if what == "pdf":
            return web.Response(body=b"%PDF-1.7", content_type="application/pdf")
        if what == "pay":
            self.sent.append((request.method, request.path, body))
            if self.refusals:
                status, problem = self.refusals.pop(0)
                return web.json_response(problem, status=status)
        return invoice

    def _file(self, request: web.Request) -> web.Response:
        """A file a test has put down for a path, as the ledger answers with one."""
        name = request.path.rpartition("/")[2]
        content: bytes = self.answers[request.path.removeprefix("/internal/v1/")]
        kind = "application/pdf" if name.endswith(".pdf") else "text/csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=content, content_type=kind, headers=headers)

    def _logo(self, request: web.Request, content: bytes) -> web.Response:
        """A logo a test has put down, under an ETag."""
        headers = {"ETag": '"d1"', "Content-Disposition": 'inline; filename="logo.png"'}
        if request.headers.get("If-None-Match") == '"d1"':
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type="image/png", headers=headers)

    def _ledger(self, name: str, rest: str) -> Any:
        if name == "trial-balance":
            return {"balanced": True, "as_of": at(), "currencies": [], "entries": 0}
        return {"entries": self.entries.get(rest.removesuffix("/entries"), [])}

    def _notifier(self, request: web.Request, name: str, body: dict[str, Any]) -> Any:
        if name == "endpoints" and request.method == "POST":
            return {"endpoint_id": new_id("ep"), "secret": "whsec_x"}
        if name == "endpoints":
            return []
        return {"deliveries": self.deliveries.get(request.query["payment_id"], [])}

    def _page(self, caller: Caller, query: Any) -> Any:
        only = query.get("client_id") if caller.operator else caller.client_id
        rows = [r for r in self.payments.values() if only in (None, r["client_id"])]
        summary = {
            "count": len(rows),
            "count_is_exact": True,
            "succeeded": len(rows),
            "volume_minor": sum(r["amount_minor"] for r in rows),
            "currency": "RWF",
        }
        return {"items": rows, "next_cursor": None, "summary": summary}

    def _overview(self) -> Any:
        counts = dict.fromkeys(
            ("payments", "succeeded", "failed", "unknown", "processing", "volume_minor",
             "fees_minor", "net_minor"), 0)  # fmt: skip
        return {
            "as_of": at(),
            "currency": "RWF",
            "currencies": ["RWF"],
            "totals": counts | {"payments": 4, "succeeded": 3, "failed": 1, "volume_minor": 300},
            "previous": {"payments": 2, "succeeded": 2, "volume_minor": 0},
            "today": {"payments": 4, "api_calls": 9},
            "series": [],
        }
