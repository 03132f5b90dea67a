"""Reads of the books: asked of the ledger for this tenant alone, shown as the document says."""

import asyncio
import datetime as dt
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from mospay_gateway.routes.book_examples import BOOKS
from mospay_gateway.usecases.api_log import Call
from mospay_gateway.usecases.limits import WINDOW_SECONDS
from mospay_shared.chassis.service_tokens import Caller, TokenVerifier, public_key
from mospay_shared.ids import new_id

from .conftest import Gateway, Merchant, eventually, ip_rule, newer, running

# Fixed, as they are in the names of tests.
TAIL = "019aa6d4c0de7b3f8a5b0c1d2e3f4a5b"
ENTRY, SETTLEMENT, PAYOUT = f"ent_{TAIL}", f"set_{TAIL}", f"po_{TAIL}"
INVOICE, CUSTOMER, PAYMENT = f"inv_{TAIL}", f"cus_{TAIL}", f"pay_{TAIL}"
PDF, CSV = b"%PDF-1.7\n" + b"x" * 5000, b"a,b\r\n" * 20_000
DAYS = {"from": "2026-01-01", "to": "2026-01-31"}
TENANT = {"client_id": "own", "mode": "test"}  # `own` stands for the caller
# public path and query → operation, the ledger's path and query, scope
READS: list[tuple[str, dict[str, str], str, str, dict[str, str], str]] = [
    ("/v1/balances", {}, "/v1/balances", "/balances", TENANT, "ledger:read"),
    ("/v1/journal-entries", {"kind": "capture", "cursor": ENTRY}, "/v1/journal-entries", "/entries",
     {**TENANT, "kind": "capture", "cursor": ENTRY, "limit": "50"}, "ledger:read"),
    (f"/v1/journal-entries/{ENTRY}", {}, "/v1/journal-entries/{entry_id}", f"/entries/{ENTRY}", {},
     "ledger:read"),
    ("/v1/statements", DAYS, "/v1/statements", "/statements",
     {**TENANT, **DAYS, "currency": "RWF", "limit": "50"}, "ledger:read"),
    ("/v1/settlements", {"from": "2026-01-01"}, "/v1/settlements", "/settlements",
     {**TENANT, "from": "2026-01-01", "limit": "50"}, "ledger:read"),
    (f"/v1/settlements/{SETTLEMENT}", {}, "/v1/settlements/{settlement_id}",
     f"/settlements/{SETTLEMENT}", {}, "ledger:read"),
    (f"/v1/settlements/{SETTLEMENT}/lines", {"limit": "7"},
     "/v1/settlements/{settlement_id}/lines", f"/settlements/{SETTLEMENT}/lines",
     {"limit": "7", "cursor": "0"}, "ledger:read"),
    ("/v1/payouts", {"status": "paid"}, "/v1/payouts", "/payouts",
     {**TENANT, "status": "paid", "limit": "50"}, "ledger:read"),
    (f"/v1/payouts/{PAYOUT}", {}, "/v1/payouts/{payout_id}", f"/payouts/{PAYOUT}", {},
     "ledger:read"),
    ("/v1/reconciliation-exceptions", {"payment_id": PAYMENT}, "/v1/reconciliation-exceptions",
     "/client-exceptions", {"payment_id": PAYMENT, "limit": "50"}, "ledger:read"),
    ("/v1/invoices", {"status": "paid", "customer_id": CUSTOMER}, "/v1/invoices", "/invoices",
     {**TENANT, "status": "paid", "customer_id": CUSTOMER, "limit": "50"}, "invoices:read"),
    ("/v1/invoices", {"direction": "received"}, "/v1/invoices", "/invoices",
     {"recipient_client_id": "own", "mode": "test", "limit": "50"}, "invoices:read"),
    (f"/v1/invoices/{INVOICE}", {}, "/v1/invoices/{invoice_id}", f"/invoices/{INVOICE}", {},
     "invoices:read"),
    ("/v1/customers", {"q": "Amélie", "active": "true"}, "/v1/customers", "/customers",
     {**TENANT, "q": "Amélie", "active": "true", "limit": "50"}, "invoices:read"),
]  # fmt: skip
# public path and query → the ledger's path and query, scope
FILES: list[tuple[str, dict[str, str], str, dict[str, str], str]] = [
    ("/v1/statements", {**DAYS, "format": "csv", "currency": "USD"}, "/statements.csv",
     {**TENANT, **DAYS, "currency": "USD"}, "ledger:read"),
    ("/v1/statements", {**DAYS, "format": "pdf"}, "/statements.pdf",
     {**TENANT, **DAYS, "currency": "RWF"}, "ledger:read"),
    (f"/v1/settlements/{SETTLEMENT}/statement", {}, f"/settlements/{SETTLEMENT}/statement.pdf", {},
     "ledger:read"),
    (f"/v1/settlements/{SETTLEMENT}/statement", {"format": "csv"},
     f"/settlements/{SETTLEMENT}/statement.csv", {}, "ledger:read"),
    (f"/v1/invoices/{INVOICE}.pdf", {}, f"/invoices/{INVOICE}.pdf", {}, "invoices:read"),
]  # fmt: skip
PATHS = sorted({read[0] for read in READS} | {file[0] for file in FILES})


class Ledger:
    """A real HTTP server that answers as the ledger does, and more than may be told on."""

    def __init__(self, signing_key: str) -> None:
        self._verifier = TokenVerifier("ledger", [f"gateway={public_key(signing_key)}"])
        self.asked: list[tuple[str, dict[str, str], Caller]] = []
        self.status, self.body, self.url = 200, b"{}", ""
        self.headers: dict[str, str] = {}
        self.hold: asyncio.Event | None = None  # answers wait for it
        self.cut = False  # files break off

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """GET /internal/v1/…."""
        caller = self._verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
        path = request.path.removeprefix("/internal/v1")
        self.asked.append((path, dict(request.query), caller))
        if self.hold is not None:
            await self.hold.wait()
        kind = path.rpartition(".")[2]
        if self.status == 200 and kind in ("csv", "pdf"):
            return await self._file(request, kind)
        return web.Response(
            status=self.status, body=self.body, headers=self.headers,
            content_type="application/json",
        )  # fmt: skip

    async def _file(self, request: web.Request, kind: str) -> web.StreamResponse:
        media = {"csv": "text/csv; charset=utf-8", "pdf": "application/pdf"}[kind]
        names = {"Content-Type": media, "Content-Disposition": f'attachment; filename="a.{kind}"'}
        answer = web.StreamResponse(headers=names)
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(CSV if kind == "csv" else PDF)
        if self.cut:
            assert request.transport is not None
            request.transport.abort()
        else:
            await answer.write_eof()
        return answer


@pytest.fixture
async def ledger(gateway_env: dict[str, str]) -> AsyncIterator[Ledger]:
    """A ledger on a free port."""
    made = Ledger(gateway_env["GATEWAY_SIGNING_KEY"])
    app = web.Application()
    app.router.add_get("/internal/v1/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    if made.hold is not None:
        made.hold.set()
    await runner.cleanup()


@asynccontextmanager
async def asking(
    env: dict[str, str], ledger: Ledger, **overrides: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that asks this ledger."""
    async with running(env, GATEWAY_LEDGER_URL=ledger.url, **overrides) as (_, http):
        yield http


def told_more(value: Any) -> Any:
    """Return an example with members beside its own, as the ledger might come to tell."""
    if isinstance(value, list):
        return [told_more(item) for item in value]
    if not isinstance(value, dict):
        return value
    more = {"client_id": "cli_of_somebody", "decided_by": "usr_secret", "note": "secret"}
    return {name: told_more(item) for name, item in value.items()} | more


def as_asked(query: dict[str, str], merchant: Merchant) -> dict[str, str]:
    """Return a query with the caller's own id in it."""
    return {k: merchant.client.client_id if v == "own" else v for k, v in query.items()}


async def test_each_read_is_asked_for_this_tenant_alone_and_shown_as_documented(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    merchant = await gateway.merchant()
    async with asking(gateway_env, ledger) as http:
        for path, query, operation, wanted_path, wanted, scope in READS:
            shown = BOOKS[f"GET {operation}"].success[200]
            ledger.body = json.dumps(told_more(shown)).encode()
            answer = await http.get(path, params=query, headers=merchant.headers)
            assert answer.status_code == 200, (path, answer.text)
            assert answer.json() == shown, "what the document does not name is not told"
            assert answer.headers["cache-control"] == "private, no-store"
            assert "ratelimit" in answer.headers
            asked, given, caller = ledger.asked[-1]
            assert (asked, given) == (wanted_path, as_asked(wanted, merchant))
            assert (caller.client_id, caller.mode) == (merchant.client.client_id, "test")
            assert caller.scopes == {scope}, "a leaked token opens nothing else"


async def test_files_are_passed_on_byte_for_byte(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    merchant = await gateway.merchant()
    async with asking(gateway_env, ledger) as http:
        for path, query, wanted_path, wanted, scope in FILES:
            answer = await http.get(path, params=query, headers=merchant.headers)
            kind = wanted_path.rpartition(".")[2]
            assert answer.content == (CSV if kind == "csv" else PDF)
            assert answer.headers["content-type"].startswith(
                {"csv": "text/csv", "pdf": "application/pdf"}[kind]
            )
            assert answer.headers["content-disposition"] == f'attachment; filename="a.{kind}"'
            asked, given, caller = ledger.asked[-1]
            assert (asked, given) == (wanted_path, as_asked(wanted, merchant))
            assert (caller.client_id, caller.mode) == (merchant.client.client_id, "test")
            assert caller.scopes == {scope}


async def test_ledgers_own_names_are_read_too(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    merchant = await gateway.merchant()
    async with asking(gateway_env, ledger) as http:
        shown = BOOKS["GET /v1/balances"].success[200]
        ledger.body = json.dumps(
            {"as_of": shown["as_of"], "balances": [], "holdings": shown["items"]}
        ).encode()
        answer = await http.get("/v1/balances", headers=merchant.headers)
        assert answer.json() == shown
        entry = dict(BOOKS["GET /v1/journal-entries/{entry_id}"].success[200])
        ledger.body = json.dumps({**entry, "id": None, "entry_id": entry["id"]}).encode()
        ledger.body = ledger.body.replace(b'"id": null, ', b"")
        answer = await http.get(f"/v1/journal-entries/{ENTRY}", headers=merchant.headers)
        assert answer.json() == entry


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_reads_without_a_credential(gateway: Gateway, path: str) -> None:
    query = DAYS if path == "/v1/statements" else {}
    answer = await gateway.http.get(path, params=query)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


async def test_mode_is_the_credentials_and_cannot_be_asked_for(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    merchant = await gateway.merchant()
    async with asking(gateway_env, ledger) as http:
        for path in PATHS:
            query = DAYS if path == "/v1/statements" else {}
            for name, value in (("mode", "live"), ("client_id", new_id("cli"))):
                answer = await http.get(
                    path, params={**query, name: value}, headers=merchant.headers
                )
                if answer.status_code == 422:
                    assert [f["field"] for f in answer.json()["errors"]] == [name]
                elif ledger.asked:  # a single thing takes no query at all
                    assert ledger.asked[-1][2].mode == "test"
                    assert ledger.asked[-1][2].client_id == merchant.client.client_id


async def test_what_the_ledger_does_not_have_is_404(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    merchant = await gateway.merchant()
    ledger.status, ledger.body = 404, b'{"code":"settlement_missing","title":"of cli_other"}'
    async with asking(gateway_env, ledger) as http:
        for path in PATHS:
            if path.count("/") == 2:
                continue  # a list
            answer = await http.get(path, headers=merchant.headers)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
            assert "cli_other" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/settlements/..", "/v1/settlements/%2e%2e", "/v1/settlements/x",
        f"/v1/settlements/{PAYOUT}", f"/v1/settlements/{SETTLEMENT}%0a",
        f"/v1/settlements/{SETTLEMENT}%3fmode=live", f"/v1/settlements/{SETTLEMENT}%00/lines",
        "/v1/payouts/%2e%2e", "/v1/journal-entries/é", "/v1/invoices/.pdf", "/v1/invoices/%2e.pdf",
        f"/v1/invoices/{INVOICE.upper()}", f"/v1/invoices/{INVOICE}%2f..%2fx.pdf",
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_no_id_never_reaches_the_ledger(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger, path: str
) -> None:
    merchant = await gateway.merchant()
    async with asking(gateway_env, ledger) as http:
        answer = await http.get(path, headers=merchant.headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert ledger.asked == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("balances?at=yesterday", "at"), ("balances?currency=RWF", "currency"),
        ("journal-entries?cursor=x", "cursor"), (f"journal-entries?cursor={PAYMENT}", "cursor"),
        ("journal-entries?limit=201", "limit"), ("journal-entries?limit=0", "limit"),
        ("journal-entries?payment_id=x", "payment_id"), ("journal-entries?kind=A%00", "kind"),
        ("journal-entries?from=1", "from"), ("journal-entries?currency=rwf", "currency"),
        ("statements", "from"), ("statements?from=2026-01-02&to=2026-01-01", "to"),
        ("statements?from=2024-01-01&to=2026-01-01", "to"),
        ("statements?from=0001-01-01&to=2026-01-01", "from"),
        ("statements?from=2026-01-01&to=9999-12-31", "to"),
        ("statements?from=2026-01-01&to=2026-01-02&format=xls", "format"),
        (f"statements?from=2026-01-01&to=2026-01-02&format=csv&cursor={ENTRY}", "cursor"),
        ("statements?from=2026-01-01&to=2026-01-02&cursor=", "cursor"),
        ("statements?from=1767225600&to=2026-01-02", "from"), ("settlements?to=0", "to"),
        ("settlements?from=x", "from"), ("settlements?cursor=set_1", "cursor"),
        (f"settlements/{SETTLEMENT}/lines?cursor=x", "cursor"),
        (f"settlements/{SETTLEMENT}/lines?cursor=-1", "cursor"),
        (f"settlements/{SETTLEMENT}/statement?format=json", "format"),
        ("payouts?status=lost", "status"), ("payouts?cursor=%F0%9F%92%A9", "cursor"),
        ("reconciliation-exceptions?state=proposed", "state"),
        ("reconciliation-exceptions?kind=provider_fee", "kind"),
        ("reconciliation-exceptions?assignee=usr_a", "assignee"),
        ("invoices?direction=both", "direction"), ("invoices?status=lost", "status"),
        ("invoices?number=%00", "number"), ("invoices?customer_id=x", "customer_id"),
        ("customers?q=%00", "q"), ("customers?active=perhaps", "active"),
        ("customers?cursor=cus_%0a", "cursor"),
    ],
    ids=str,
)  # fmt: skip
async def test_faulty_question_is_refused_here(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger, path: str, field: str
) -> None:
    merchant = await gateway.merchant()
    async with asking(gateway_env, ledger) as http:
        answer = await http.get(f"/v1/{path}", headers=merchant.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert field in {fault["field"] for fault in answer.json()["errors"]}
    assert ledger.asked == []


async def test_a_question_the_ledger_refuses_is_a_problem_with_its_fields(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    merchant = await gateway.merchant()
    ledger.status = 422
    fault = {"field": "cursor", "code": "invalid", "message": "is not a cursor of this list"}
    cases = [
        ({"code": "invalid_request", "title": "The ledger's", "errors": [fault]},
         "invalid_request", [fault]),
        ({"code": "statement_too_long", "title": "The ledger refuses", "errors": []},
         "statement_too_long", []),
        ({"code": "paper_too_large", "title": "Refused"}, "paper_too_large", []),
        ({"code": "invalid_text", "title": "NUL"}, "invalid_request", []),
    ]  # fmt: skip
    async with asking(gateway_env, ledger) as http:
        for told, code, errors in cases:
            ledger.body = json.dumps(told).encode()
            for query in (DAYS, {**DAYS, "format": "pdf"}):
                answer = await http.get("/v1/statements", params=query, headers=merchant.headers)
                assert answer.status_code == 422
                assert (answer.json()["code"], answer.json()["errors"]) == (code, errors)


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"{}"), (401, b"{}"), (403, b"{}"), (409, b"{}"), (422, b"[]"), (200, b"not json"),
     (200, b'{"items":[{"id":1}]}'), (302, b"")],
)  # fmt: skip
async def test_a_ledger_that_answers_wrongly_is_503(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger, status: int, body: bytes
) -> None:
    merchant = await gateway.merchant()
    ledger.status, ledger.body = status, body
    async with asking(gateway_env, ledger) as http:
        answer = await http.get("/v1/settlements", headers=merchant.headers)
        path = f"/v1/settlements/{SETTLEMENT}/statement"
        file = await http.get(path, headers=merchant.headers) if status != 200 else answer
    for one in (answer, file):
        assert (one.status_code, one.json()["code"]) == (503, "books_unavailable")
        assert one.headers["retry-after"] == "5"


async def test_ledger_away_is_503_and_payments_go_on(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    for path in PATHS:
        query = DAYS if path == "/v1/statements" else {}
        answer = await gateway.http.get(path, params=query, headers=merchant.headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "books_unavailable"), path
        assert answer.headers["retry-after"] == "5"
    assert (await gateway.pay(merchant)).status_code == 202


async def test_papers_busy_says_when_to_come_again(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    merchant = await gateway.merchant()
    ledger.status, ledger.headers = 503, {"Retry-After": "3"}
    async with asking(gateway_env, ledger) as http:
        answer = await http.get(f"/v1/invoices/{INVOICE}.pdf", headers=merchant.headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


async def test_a_ledger_that_hangs_holds_a_few_calls_and_no_payment(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    one, two = await gateway.merchant(), await gateway.merchant()
    ledger.hold = asyncio.Event()
    limits = {"GATEWAY_LEDGER_CALLS": "3", "GATEWAY_LEDGER_CALLS_OF_CLIENT": "4",
              "GATEWAY_LEDGER_TIMEOUT_SECONDS": "5"}  # fmt: skip
    async with asking(gateway_env, ledger, **limits) as http:

        def ask(merchant: Merchant) -> "asyncio.Task[httpx.Response]":
            return asyncio.create_task(http.get("/v1/payouts", headers=merchant.headers))

        waiting = [ask(one) for _ in range(4)]
        await eventually(lambda: _count(ledger, 3))
        refused = await http.get("/v1/payouts", headers=one.headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_at_once")
        assert refused.headers["retry-after"] == "1"
        queued = ask(two)
        key = {"Idempotency-Key": secrets.token_hex(8)}
        paid = await http.post("/v1/payments", json=one.body(), headers={**one.headers, **key})
        assert paid.status_code == 202, "meanwhile payments are accepted"
        assert len(ledger.asked) == 3, "nobody asks more at once than there are places"
        answers = await asyncio.gather(*waiting, queued)
        assert {(a.status_code, a.json()["code"]) for a in answers} == {(503, "books_unavailable")}
        ledger.hold.set()
        ledger.hold = None
        ledger.body = b'{"items":[],"next_cursor":null}'
        again = await asyncio.gather(*(ask(one) for _ in range(4)), ask(two))
        assert {a.status_code for a in again} == {200}, "every place was given back"


async def _count(ledger: Ledger, wanted: int) -> bool:
    return len(ledger.asked) >= wanted


async def test_a_file_that_breaks_off_is_not_taken_for_whole_and_frees_its_place(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    merchant = await gateway.merchant()
    ledger.cut = True
    limits = {"GATEWAY_LEDGER_FILES": "1", "GATEWAY_LEDGER_FILES_OF_CLIENT": "1"}
    path = f"/v1/settlements/{SETTLEMENT}/statement?format=csv"
    async with asking(gateway_env, ledger, **limits) as http:
        for _ in range(3):
            messages = await _messages(http, path, merchant)
            assert messages[0]["status"] == 200
            assert messages[-1].get("more_body", False), "the end is never told"
        ledger.cut = False
        whole = await http.get(path, headers=merchant.headers)
    assert whole.content == CSV


async def test_a_reader_that_stops_reading_frees_its_place_in_time(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    merchant = await gateway.merchant()
    limits = {"GATEWAY_LEDGER_FILES": "1", "GATEWAY_LEDGER_FILES_OF_CLIENT": "1",
              "GATEWAY_LEDGER_FILE_SECONDS": "0.3"}  # fmt: skip
    path = f"/v1/settlements/{SETTLEMENT}/statement?format=csv"
    never = asyncio.Event()

    async def stuck(_: Any) -> None:
        await never.wait()

    async with asking(gateway_env, ledger, **limits) as http:
        await _messages(http, path, merchant, on_body=stuck)
        whole = await http.get(path, headers=merchant.headers)
    assert whole.content == CSV


async def _messages(
    http: httpx.AsyncClient,
    path: str,
    merchant: Merchant,
    on_body: Callable[[Any], Any] | None = None,
) -> list[dict[str, Any]]:
    """Return what a gateway sends for a call, message by message, as its server would see it."""
    transport = http._transport
    assert isinstance(transport, httpx.ASGITransport)
    sent: list[dict[str, Any]] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # the client stays
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(dict(message))
        if on_body is not None and message["type"] == "http.response.body":
            await on_body(message)

    name, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "headers": [(k.lower().encode(), v.encode()) for k, v in merchant.headers.items()],
        "scheme": "http", "path": name, "raw_path": name.encode(), "query_string": query.encode(),
        "server": ("gateway", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    await transport.app(scope, receive, send)  # type: ignore[arg-type]
    return sent


async def test_rates_addresses_and_inactive_clients_are_refused_as_elsewhere(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger
) -> None:
    ledger.body = b'{"items":[],"next_cursor":null}'
    slow, elsewhere, gone = [await gateway.merchant() for _ in range(3)]
    await gateway.tell(
        newer(slow.key, rate_per_minute=2),
        ip_rule("203.0.113.0/24", "allow", client_id=elsewhere.client.client_id),
        newer(gone.client, active=False),
    )
    async with asking(gateway_env, ledger) as http:
        answers = [await http.get("/v1/payouts", headers=slow.headers) for _ in range(3)]
        assert [a.status_code for a in answers] == [200, 200, 429]
        assert 0 < int(answers[-1].headers["retry-after"]) <= 2 * WINDOW_SECONDS
        refused = await http.get("/v1/payouts", headers=elsewhere.headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "address_refused")
        ended = await http.get("/v1/payouts", headers=gone.headers)
        assert (ended.status_code, ended.json()["code"]) == (403, "client_inactive")
    assert len(ledger.asked) == 2


async def test_api_log_keeps_no_body_about_people_and_no_long_one(
    gateway: Gateway, gateway_env: dict[str, str], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    merchant = await gateway.merchant()
    calls: list[Call] = []
    monkeypatch.setattr(
        "mospay_gateway.usecases.api_log.ApiLog.add", lambda self, call: calls.append(call)
    )
    async with asking(gateway_env, ledger) as http:
        for operation, path in (("/v1/customers", "/v1/customers"), ("/v1/payouts", "/v1/payouts")):
            ledger.body = json.dumps(BOOKS[f"GET {operation}"].success[200]).encode()
            await http.get(path, headers=merchant.headers)
        await http.get("/v1/customers?limit=0", headers=merchant.headers)
        await http.get(f"/v1/statements?format=csv&from={_today()}&to={_today()}",
                       headers=merchant.headers)  # fmt: skip
    people, payouts, refused, file = [call for call in calls if call.path.startswith("/v1/")]
    assert people.response_body == b"" and people.state["client_id"] == merchant.client.client_id
    assert json.loads(payouts.response_body)["items"]
    assert json.loads(refused.response_body)["code"] == "invalid_request"
    assert len(file.response_body) <= 8193


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
