"""Sale events and the dashboard: ingested once, exact money, figures answered by reporter."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from aiohttp import web
from mospay_shared.chassis.service_tokens import Caller, TokenVerifier, public_key
from mospay_shared.contracts import ClientV1

from .conftest import Gateway, Merchant, Tap, eventually, newer, running

PATH = "/api/events/transaction"
SEED = {  # as in the merchants' own guide
    "transaction_id": "txn-789", "customer_id": "cust-456", "event_type": "payment_succeeded",
    "amount": 1000.00, "currency": "XOF", "fee": 30.00, "payment_method": "mobile_money",
    "product_id": "prod-123", "product_name": "Premium Package",
}  # fmt: skip


async def ingest(
    gateway: Gateway, merchant: Merchant, body: Any, path: str = PATH
) -> httpx.Response:
    """POST events; text goes as it is."""
    content = body if isinstance(body, str) else json.dumps(body)
    return await gateway.http.post(path, content=content, headers=merchant.headers)


def event(**changes: Any) -> dict[str, Any]:
    """A valid event; None takes a member away."""
    return {k: v for k, v in (SEED | changes).items() if v is not None}


def named(answer: httpx.Response) -> set[tuple[str, str]]:
    """Return (field, code) of every fault."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return {(fault["field"], fault["code"]) for fault in answer.json()["errors"]}


async def test_event_is_recorded_and_told_once(gateway: Gateway, tap: Tap) -> None:
    merchant = await gateway.merchant()
    first = await ingest(gateway, merchant, SEED)
    assert first.status_code == 202
    made = first.json()
    assert made == {
        "ok": True, "event_id": made["event_id"], "queued": True,
        "message": "Event queued for processing",
    }  # fmt: skip
    again = await ingest(gateway, merchant, SEED)
    assert again.status_code == 200
    assert (again.json()["event_id"], again.json()["queued"]) == (made["event_id"], False)
    told = await tap.about(made["event_id"], "sale.recorded.v1")
    assert told["data"] == {
        "sale_event_id": made["event_id"], "client_id": merchant.client.client_id, "mode": "test",
        "dedupe_key": "transaction:payment_succeeded:txn-789", "transaction_id": "txn-789",
        "kind": "payment_succeeded", "customer_id": "cust-456", "amount_minor": 1000,
        "fee_minor": 30, "currency": "XOF", "payment_method": "mobile_money",
        "product_id": "prod-123", "product_name": "Premium Package",
        "occurred_at": told["data"]["received_at"], "received_at": told["data"]["received_at"],
    }  # fmt: skip
    assert await gateway.count("sale_events", "client_id = $1", merchant.client.client_id) == 1


async def test_dedupe_is_by_event_id_else_by_transaction_and_type(gateway: Gateway) -> None:
    merchant, other = await gateway.merchant(), await gateway.merchant()

    async def queued(of: Merchant, **changes: Any) -> bool:
        return bool((await ingest(gateway, of, event(**changes))).json()["queued"])

    assert await queued(merchant)
    assert not await queued(merchant, amount=5), "the first one stands"
    assert await queued(merchant, event_type="payment_refunded")
    assert not await queued(merchant, event_type="payment.refunded"), "the same in other words"
    assert await queued(merchant, event_id="e1")
    assert not await queued(merchant, event_id="e1", transaction_id="another")
    assert await queued(merchant, event_id="e2")
    assert await queued(other), "another client's"


@pytest.mark.parametrize(
    ("currency", "amount", "minor"),
    [
        ("RWF", "1000.00", 1000),
        ("USD", "0.1", 10),
        ("USD", "1e2", 10_000),
        ("KWD", "1.005", 1005),
        ("USD", "90071992547409.93", 9_007_199_254_740_993),
        ("USD", '"10.50"', 1050),
        ("USD", "0", 0),
    ],
)
async def test_money_is_read_exactly(
    gateway: Gateway, tap: Tap, currency: str, amount: str, minor: int
) -> None:
    merchant = await gateway.merchant()
    body = json.dumps(event(currency=currency, amount="@", fee=None)).replace('"@"', amount)
    made = await ingest(gateway, merchant, body)
    assert made.status_code == 202, made.text
    told = await tap.about(made.json()["event_id"], "sale.recorded.v1")
    assert told["data"]["amount_minor"] == minor and told["data"]["fee_minor"] is None


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"transaction_id": None}, ("transaction_id", "required")),
        ({"transaction_id": 5}, ("transaction_id", "string_type")),
        ({"transaction_id": "a\x00"}, ("transaction_id", "string_pattern_mismatch")),
        ({"event_type": "payment_lost"}, ("event_type", "unknown_event_type")),
        ({"currency": "XXX"}, ("currency", "unknown_currency")),
        ({"currency": "xof"}, ("currency", "string_pattern_mismatch")),
        ({"amount": 10.5}, ("amount", "too_precise")),
        ({"amount": -1}, ("amount", "invalid_amount")),
        ({"amount": "ten"}, ("amount", "invalid_amount")),
        ({"amount": True}, ("amount", "invalid_amount")),
        ({"amount": 10**30}, ("amount", "amount_out_of_range")),
        ({"fee": []}, ("fee", "invalid_amount")),
        ({"occurred_at": "2026-01-01T00:00:00"}, ("occurred_at", "timezone_aware")),
        ({"occurred_at": "1999-01-01T00:00:00Z"}, ("occurred_at", "out_of_range")),
        ({"occurred_at": "2999-01-01T00:00:00Z"}, ("occurred_at", "out_of_range")),
        ({"colour": "red"}, ("colour", "extra_forbidden")),
        ({"payment_method": "x" * 81}, ("payment_method", "string_too_long")),
    ],
)
async def test_fault_of_an_event_is_named(
    gateway: Gateway, changes: dict[str, Any], fault: tuple[str, str]
) -> None:
    merchant = await gateway.merchant()
    answer = await ingest(gateway, merchant, event(**changes))
    assert answer.status_code == 422 and named(answer) == {fault}
    assert await gateway.count("sale_events", "client_id = $1", merchant.client.client_id) == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400), ("[1", 400), ('{"amount": NaN}', 400), ("[" * 100_000, 400),
        ('{"amount": 1e999999999}', 422), ('{"amount": %s}' % ("9" * 5000), 400),
        ('{"transaction_id": "\\ud800", "event_type": "payment_failed"}', 422), ("[]", 422),
        ('{"\\ud800": 1}', 422),
        ("null", 422), ('{"amount": 1E-999999999999999999999}', 400),
    ],
)  # fmt: skip
async def test_unreadable_event_is_a_problem(gateway: Gateway, body: str, status: int) -> None:
    merchant = await gateway.merchant()
    answer = await ingest(gateway, merchant, body)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] in ("invalid_json", "invalid_request")


async def test_batch_counts_new_ones_and_duplicates(gateway: Gateway, tap: Tap) -> None:
    merchant = await gateway.merchant()
    await ingest(gateway, merchant, event(transaction_id="known"))
    rows = [event(transaction_id=f"txn-{n}") for n in range(997)]
    rows += [event(transaction_id="known"), rows[0], event(transaction_id="last")]
    answer = await ingest(gateway, merchant, rows, f"{PATH}/batch")
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"ok": True, "total": 1000, "ingested": 998, "duplicates": 2}
    again = await ingest(gateway, merchant, rows, f"{PATH}/batch")
    assert again.json() == {"ok": True, "total": 1000, "ingested": 0, "duplicates": 1000}
    sold = await gateway.sql.fetchval(
        "select id from sale_events where client_id = $1 order by id desc limit 1",
        merchant.client.client_id,
    )
    assert (await tap.about(sold, "sale.recorded.v1"))["data"]["transaction_id"] == "last"


async def test_batch_with_a_fault_records_nothing_and_names_the_row(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    rows = [event(transaction_id="a"), event(amount="x", currency="QQQ"), 7, event(event_type=None)]
    answer = await ingest(gateway, merchant, rows, f"{PATH}/batch")
    assert answer.status_code == 422
    assert named(answer) == {
        ("1.currency", "unknown_currency"), ("2.body", "not_an_object"),
        ("3.event_type", "required"),
    }  # fmt: skip
    for wrong in ({}, [], [SEED] * 1001):
        answer = await ingest(gateway, merchant, wrong, f"{PATH}/batch")
        assert answer.status_code == 422 and named(answer) <= {
            ("body", "not_a_list"), ("body", "wrong_count"),
        }  # fmt: skip
    assert await gateway.count("sale_events", "client_id = $1", merchant.client.client_id) == 0


async def test_same_events_at_once_at_two_gateways_are_told_once(
    gateway: Gateway, gateway_env: dict[str, str], tap: Tap
) -> None:
    merchant = await gateway.merchant()
    rows = [event(transaction_id=f"txn-{n}") for n in range(40)]
    async with running(gateway_env) as (_, second):
        answers = await asyncio.gather(
            *(
                http.post(f"{PATH}/batch", json=sent, headers=merchant.headers)
                for http, sent in ((gateway.http, rows), (second, rows[::-1])) * 4
            )
        )
    assert sum(a.json()["ingested"] for a in answers) == 40
    ids = await gateway.sql.fetch(
        "select id from sale_events where client_id = $1", merchant.client.client_id
    )
    for row in ids:
        await tap.about(row["id"], "sale.recorded.v1")
    assert len(ids) == 40 and all(len(tap.of(row["id"])) == 1 for row in ids)


async def test_event_that_cannot_be_told_is_not_recorded(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    owner = await asyncpg.connect(gateway.env["GATEWAY_MIGRATION_DATABASE_URL"])
    try:
        await owner.execute(
            "alter table outbox add constraint no_sale check (type <> 'sale.recorded.v1') not valid"
        )
        assert (await ingest(gateway, merchant, SEED)).status_code == 500
    finally:
        await owner.execute("alter table outbox drop constraint if exists no_sale")
        await owner.close()
    assert (await ingest(gateway, merchant, SEED)).json()["queued"] is True


async def test_old_dedupe_rows_are_dropped(gateway: Gateway, gateway_env: dict[str, str]) -> None:
    merchant = await gateway.merchant()
    await ingest(gateway, merchant, event(transaction_id="old"))
    await gateway.sql.execute(
        "update sale_events set received_at = received_at - interval '500 days'"
        " where client_id = $1", merchant.client.client_id,
    )  # fmt: skip
    await ingest(gateway, merchant, event(transaction_id="new"))

    async def one_left() -> bool:
        where = "client_id = $1"
        return await gateway.count("sale_events", where, merchant.client.client_id) == 1

    async with running(gateway_env):
        await eventually(one_left)


# -- the dashboard


class Reporter:
    """A real HTTP server that answers as reporter does."""

    def __init__(self, signing_key: str) -> None:
        self._verifier = TokenVerifier("reporter", [f"gateway={public_key(signing_key)}"])
        self.asked: list[tuple[str, dict[str, str], Caller]] = []
        self.status, self.text, self.url = 200, '{"currency":"RWF","revenue":0.10}', ""

    async def answer(self, request: web.Request) -> web.Response:
        """GET /internal/v1/dashboard/{name}."""
        caller = self._verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
        self.asked.append((request.match_info["name"], dict(request.query), caller))
        return web.Response(status=self.status, text=self.text, content_type="application/json")


@pytest.fixture
async def reporter(gateway_env: dict[str, str]) -> AsyncIterator[Reporter]:
    """A reporter on a free port."""
    made = Reporter(gateway_env["GATEWAY_SIGNING_KEY"])
    app = web.Application()
    app.router.add_get("/internal/v1/dashboard/{name}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_figures_are_asked_of_reporter_for_this_tenant_alone(
    gateway: Gateway, gateway_env: dict[str, str], reporter: Reporter
) -> None:
    merchant = await gateway.merchant()
    calls = {
        "overview": ({}, {}),
        "analytics": (
            {"start_date": "2026-01-01", "end_date": "2026-01-31", "currency": "USD"},
            {"start_date": "2026-01-01", "end_date": "2026-01-31", "granularity": "daily",
             "currency": "USD"},
        ),
        "payment-methods": ({}, {"days": "30"}),
        "top-products": ({"limit": "3"}, {"days": "30", "limit": "3"}),
        "customers": ({}, {"limit": "50"}),
    }  # fmt: skip
    async with running(gateway_env, GATEWAY_REPORTER_URL=reporter.url) as (_, http):
        for name, (query, wanted) in calls.items():
            answer = await http.get(
                f"/api/dashboard/{name}", params=query, headers=merchant.headers
            )
            assert answer.status_code == 200 and answer.text == reporter.text, "byte for byte"
            asked, given, caller = reporter.asked[-1]
            assert asked == name
            assert given == {"currency": "RWF", "time_zone": "Africa/Kigali", **wanted}
            assert (caller.client_id, caller.mode) == (merchant.client.client_id, "test")
            assert caller.scopes == {"dashboard:read"}, "a leaked token opens nothing else"


async def test_reporter_away_is_503(
    gateway: Gateway, gateway_env: dict[str, str], reporter: Reporter
) -> None:
    merchant = await gateway.merchant()
    path = "/api/dashboard/overview"
    down = await gateway.http.get(path, headers=merchant.headers)
    async with running(gateway_env, GATEWAY_REPORTER_URL=reporter.url) as (_, http):
        reporter.status = 404
        missing = await http.get(path, headers=merchant.headers)
        reporter.status = 500
        broken = await http.get(path, headers=merchant.headers)
    for answer in (down, missing, broken):
        assert answer.status_code == 503 and answer.json()["code"] == "reporter_unavailable"
        assert answer.headers["retry-after"] == "5"
    accepted = await gateway.pay(merchant)
    assert accepted.status_code == 202, "payments go on without figures"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("analytics", "start_date"),
        ("analytics?start_date=x&end_date=2026-01-01", "start_date"),
        ("analytics?start_date=1767225600&end_date=2026-01-01", "start_date"),
        ("analytics?start_date=2026-01-02&end_date=2026-01-01", "end_date"),
        ("analytics?start_date=2024-01-01&end_date=2026-01-01", "end_date"),
        ("analytics?start_date=2026-01-01&end_date=2026-03-01&granularity=hourly", "end_date"),
        ("analytics?start_date=0001-01-01&end_date=0001-01-02", "start_date"),
        ("analytics?start_date=9999-12-31&end_date=9999-12-31", "start_date"),
        ("payment-methods?days=0", "days"),
        ("top-products?limit=1000", "limit"),
        ("customers?currency=euro", "currency"),
        ("overview?client_id=cli_other", "client_id"),
    ],
)
async def test_faulty_question_is_refused_here(gateway: Gateway, path: str, field: str) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.http.get(f"/api/dashboard/{path}", headers=merchant.headers)
    assert answer.status_code == 422
    assert field in {fault["field"] for fault in answer.json()["errors"]}


@pytest.mark.parametrize("path", ["events/transaction", "events/transaction/batch"])
async def test_nobody_reports_without_a_credential(gateway: Gateway, path: str) -> None:
    answer = await gateway.http.post(f"/api/{path}", json=SEED)
    assert answer.status_code == 401
    for name in ("overview", "analytics?start_date=2026-01-01&end_date=2026-01-01"):
        assert (await gateway.http.get(f"/api/dashboard/{name}")).status_code == 401


async def test_event_without_a_currency_is_in_the_clients_own(gateway: Gateway, tap: Tap) -> None:
    merchant = await gateway.merchant()
    client: ClientV1 = newer(merchant.client, currency="USD")
    await gateway.tell(client)
    made = await ingest(gateway, merchant, event(currency=None, amount=1.25, fee=None))
    told = await tap.about(made.json()["event_id"], "sale.recorded.v1")
    assert (told["data"]["currency"], told["data"]["amount_minor"]) == ("USD", 125)
