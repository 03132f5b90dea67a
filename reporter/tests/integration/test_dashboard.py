"""The merchant's dashboard over HTTP: exact figures, the shapes of the events API, one tenant."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from mospay_reporter.storage import dashboard as figures
from mospay_reporter.storage.dashboard import Merchant
from mospay_reporter.usecases import dashboard
from mospay_reporter.usecases.dashboard import View
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import AppV1, ClientV1, Event
from mospay_shared.contracts.envelope import Envelope
from mospay_shared.ids import new_id

from ..samples import entry, now, payment, refund, sale, tell
from .conftest import Get

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
PATHS = ("overview", "analytics", "payment-methods", "top-products", "customers")
KIGALI = ZoneInfo("Africa/Kigali")


class Merchants:
    """Asks for dashboards as the gateway does."""

    def __init__(self, get: Get) -> None:
        self._get = get

    async def ask(self, client: str, path: str, mode: str = "test", **params: Any) -> Any:
        answer = await self._get(
            f"/dashboard/{path}",
            params=params,
            scope="dashboard:read",
            client_id=client,
            mode=mode,
            by="gateway",
        )
        assert answer.status_code == 200, answer.text
        # as a client reads money exactly
        return json.loads(answer.content, parse_float=Decimal)


@pytest.fixture
def merchants(get: Get) -> Merchants:
    return Merchants(get)


def days(first: dt.date, last: dt.date) -> dict[str, str]:
    return {"start_date": first.isoformat(), "end_date": last.isoformat()}


async def know(service: Service, client: str, currency: str, zone: str) -> None:
    """What the directory says of a client."""
    body = ClientV1(
        client_id=client,
        company_id="com_1",
        name="Shop",
        apps=[AppV1(app_id="shop_test", mode="test")],
        currency=currency,
        time_zone=zone,
        active=True,
        version=1,
    )
    queue = next(s for s in service.subscriptions if s.queue.name == "reporter.directory")
    handler = queue.handlers["directory.client_changed.v1"]
    envelope = Envelope(
        id=new_id("evt"),
        source="test",
        type="directory.client_changed.v1",
        subject=client,
        time=now(),
        dataschema="mospay:directory.client_changed.v1",
        data=body.model_dump(mode="json"),
    )
    async with service.database.transaction() as tx:
        await handler(tx, [Event(envelope, body)])


async def test_overview_counts_payments_and_sale_events_together(
    service: Service, merchants: Merchants
) -> None:
    client, moment = new_id("cli"), now()
    paid = payment(client_id=client, status="succeeded", version=2, customer_id="c1")
    named = sale(client_id=client, transaction_id=paid.reference, payment_method="card")
    other = sale(client_id=client, customer_id="c2", fee_minor=50, amount_minor=2500)
    failed = payment(client_id=client, status="failed", version=2)
    given_back = refund(paid, amount_minor=300, status="succeeded")
    await tell(service, [paid, entry(paid, 20), named, other, failed, given_back])
    told = await merchants.ask(client, "overview")
    assert told["currency"] == "RWF"
    if moment.date() == now().date():  # else the day began in the middle of this test
        assert told["today"] == {
            "transactions": 3,
            "successful_transactions": 2,
            "revenue": 3500,
            "fees": 70,
            "net_revenue": 3130,
            "avg_transaction": Decimal("1750.00"),
            "transaction_growth": None,
            "revenue_growth": None,
        }
        assert told["month"] == {"transactions": 3, "revenue": 3500, "customers": 2}


async def test_growth_compares_with_the_same_hours_of_the_day_before(service: Service) -> None:
    client, zone = new_id("cli"), ZoneInfo("UTC")
    at = dt.datetime(2026, 3, 10, 12, 30, 30, tzinfo=dt.UTC)
    seen = View(Merchant(client, "test", "RWF"), zone)

    def sold(moment: dt.datetime, amount: int) -> Any:
        return sale(client_id=client, occurred_at=moment, amount_minor=amount)

    await tell(
        service,
        [
            sold(at - HOUR, 300),
            sold(at - dt.timedelta(seconds=10), 300),
            sold(at - DAY - HOUR, 400),
            sold(at - DAY - dt.timedelta(seconds=1), 100),
            sold(at - DAY + dt.timedelta(seconds=1), 9000),  # later than the same hours
            sold(at - 2 * DAY, 9000),
        ],
    )
    async with service.database.request(client_id=client, mode="test") as tx:
        read = await dashboard.overview(tx, seen, at)
    assert (read.today.revenue_minor, read.yesterday.revenue_minor) == (600, 500)
    assert (read.today.transactions, read.yesterday.transactions) == (2, 2)
    assert read.month.revenue_minor == 600 + 9500 + 9000


async def test_days_begin_where_the_directory_says_the_client_lives(
    service: Service, merchants: Merchants
) -> None:
    client = new_id("cli")
    await know(service, client, "USD", "Africa/Kigali")
    late = dt.datetime(2026, 3, 9, 22, 30, tzinfo=dt.UTC)  # the 10th, half past midnight, in Kigali
    await tell(
        service,
        [
            sale(client_id=client, occurred_at=late, currency="USD", amount_minor=1050),
            sale(client_id=client, occurred_at=late - HOUR, currency="USD", amount_minor=7),
            *(sale(client_id=client, occurred_at=late) for _ in range(3)),  # RWF
        ],
    )
    told = await merchants.ask(
        client, "analytics", **days(dt.date(2026, 3, 9), dt.date(2026, 3, 10))
    )
    assert (told["currency"], told["granularity"]) == ("USD", "daily")
    assert [(row["date"], row["revenue"]) for row in told["data"]] == [
        ("2026-03-09", Decimal("0.07")),
        ("2026-03-10", Decimal("10.50")),
    ]
    francs = await merchants.ask(
        client,
        "analytics",
        currency="RWF",
        time_zone="UTC",
        **days(dt.date(2026, 3, 9), dt.date(2026, 3, 9)),
    )
    assert [(row["transactions"], row["revenue"]) for row in francs["data"]] == [(3, 4500)]


async def test_analytics_fills_every_day_and_hour_and_finds_new_customers(
    service: Service, merchants: Merchants
) -> None:
    client = new_id("cli")
    at = dt.datetime(2026, 3, 8, 10, 20, tzinfo=dt.UTC)
    await tell(
        service,
        [
            sale(client_id=client, occurred_at=at - 3 * DAY, customer_id="old"),
            sale(client_id=client, occurred_at=at, customer_id="old"),
            sale(client_id=client, occurred_at=at, customer_id="new", fee_minor=100),
            sale(client_id=client, occurred_at=at + HOUR, customer_id="new"),
            sale(client_id=client, occurred_at=at, customer_id="no", kind="payment_failed"),
        ],
    )
    told = await merchants.ask(
        client, "analytics", **days(dt.date(2026, 3, 7), dt.date(2026, 3, 9))
    )
    empty = {
        "transactions": 0,
        "successful": 0,
        "failed": 0,
        "revenue": 0,
        "net_revenue": 0,
        "customers": 0,
        "new_customers": 0,
    }
    assert told["data"] == [
        {"date": "2026-03-07", **empty},
        {
            "date": "2026-03-08",
            "transactions": 4,
            "successful": 3,
            "failed": 1,
            "revenue": 4500,
            "net_revenue": 4400,
            "customers": 2,
            "new_customers": 1,
        },
        {"date": "2026-03-09", **empty},
    ]
    hourly = await merchants.ask(
        client,
        "analytics",
        granularity="hourly",
        **days(dt.date(2026, 3, 8), dt.date(2026, 3, 8)),
    )
    assert len(hourly["data"]) == 24
    assert {row["date"]: row["successful"] for row in hourly["data"] if row["successful"]} == {
        "2026-03-08T10:00:00+00:00": 2,
        "2026-03-08T11:00:00+00:00": 1,
    }


async def test_methods_and_products_are_ranked_by_revenue(
    service: Service, merchants: Merchants
) -> None:
    client = new_id("cli")

    def sold(method: str, product: str, amount: int, **changes: Any) -> Any:
        return sale(
            client_id=client,
            payment_method=method,
            product_id=product,
            product_name=f"The {product}",
            amount_minor=amount,
            **changes,
        )

    await tell(
        service,
        [
            sold("momo", "tea", 100),
            sold("momo", "tea", 150),
            sold("card", "pot", 900),
            sold("card", "cup", 5, kind="payment_failed"),
            sold("cash", "jar", 7000, occurred_at=now() - 40 * DAY),
            payment(client_id=client, status="succeeded", version=2, service="collection"),
        ],
    )
    told = await merchants.ask(client, "payment-methods")
    assert told == {
        "currency": "RWF",
        "period_days": 30,
        "payment_methods": [
            {"method": "collection", "count": 1, "amount": 1000},
            {"method": "card", "count": 1, "amount": 900},
            {"method": "momo", "count": 2, "amount": 250},
        ],
    }
    assert len((await merchants.ask(client, "payment-methods", days=90))["payment_methods"]) == 4
    told = await merchants.ask(client, "top-products", limit=1)
    assert told == {
        "currency": "RWF",
        "period_days": 30,
        "products": [
            {"product_id": "pot", "product_name": "The pot", "transactions": 1, "amount": 900}
        ],
    }


async def test_customers_are_summed_up_and_ranked_by_what_they_spent(
    service: Service, merchants: Merchants
) -> None:
    client = new_id("cli")
    at = dt.datetime(2026, 3, 8, 10, tzinfo=dt.UTC)
    await tell(
        service,
        [
            sale(client_id=client, customer_id="a", amount_minor=100, occurred_at=at),
            sale(client_id=client, customer_id="a", amount_minor=150, occurred_at=at - DAY),
            sale(client_id=client, customer_id="b", amount_minor=1000, occurred_at=at),
            sale(client_id=client, customer_id="c", kind="payment_failed", occurred_at=at),
            sale(client_id=client, occurred_at=at),
        ],
    )
    told = await merchants.ask(client, "customers", limit=2)
    assert told["summary"] == {
        "total_customers": 2,
        "avg_transactions": "1.50",
        "avg_spend": "625.00",
    }
    assert told["top_customers"] == [
        {
            "customer_id": "b",
            "transactions": 1,
            "total_spent": 1000,
            "first_transaction": "2026-03-08T10:00:00+00:00",
            "last_transaction": "2026-03-08T10:00:00+00:00",
        },
        {
            "customer_id": "a",
            "transactions": 2,
            "total_spent": 250,
            "first_transaction": "2026-03-07T10:00:00+00:00",
            "last_transaction": "2026-03-08T10:00:00+00:00",
        },
    ]


async def test_huge_sums_keep_every_digit(service: Service, merchants: Merchants) -> None:
    client, huge = new_id("cli"), 2**63 - 1
    await tell(
        service,
        [sale(client_id=client, currency="KWD", amount_minor=huge, customer_id="a") for _ in "ab"],
    )
    told = await merchants.ask(client, "customers")
    assert told["top_customers"][0]["total_spent"] == Decimal(2 * huge).scaleb(-3)


@pytest.mark.parametrize("path", PATHS)
async def test_merchant_sees_its_own_sales_and_mode_alone(
    service: Service, merchants: Merchants, path: str
) -> None:
    theirs, mine = new_id("cli"), new_id("cli")
    sold = {"payment_method": "card", "product_id": "p", "customer_id": "c"}
    await tell(
        service,
        [sale(client_id=theirs, **sold), sale(client_id=mine, mode="live", **sold)],
    )
    today = now().date()
    asked = days(today - DAY, today) if path == "analytics" else {}
    told = await merchants.ask(mine, path, currency="RWF", client_id=theirs, **asked)
    text = json.dumps(told, default=str)
    assert "1500" not in text and "card" not in text


@pytest.mark.parametrize("path", PATHS)
async def test_dashboard_needs_its_scope_and_a_tenant(get: Get, path: str) -> None:
    today = now().date()
    asked = days(today, today) if path == "analytics" else {}
    token = {"client_id": new_id("cli"), "mode": "test"}
    answer = await get(f"/dashboard/{path}", params=asked, scope="reports:read", **token)
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    answer = await get(f"/dashboard/{path}", params=asked, scope="dashboard:read")
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_tenant")


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("analytics", {}, "start_date"),
        ("analytics", {"start_date": "soon", "end_date": "2026-03-01"}, "start_date"),
        ("analytics", {"start_date": "2026-03-02", "end_date": "2026-03-01"}, "end_date"),
        ("analytics", {"start_date": "2024-03-02", "end_date": "2026-03-01"}, "start_date"),
        ("analytics", {"start_date": "0001-01-01", "end_date": "2026-03-01"}, "start_date"),
        ("analytics", {"start_date": "2026-03-01", "end_date": "9999-12-31"}, "end_date"),
        ("overview", {"currency": "rwf"}, "currency"),
        ("overview", {"time_zone": "Kigali"}, "time_zone"),
        ("payment-methods", {"days": "0"}, "days"),
        ("top-products", {"limit": "201"}, "limit"),
        ("customers", {"limit": "many"}, "limit"),
    ],
)
async def test_bad_query_names_its_field(
    get: Get, path: str, params: dict[str, str], field: str
) -> None:
    answer = await get(
        f"/dashboard/{path}",
        params=params,
        scope="dashboard:read",
        client_id=new_id("cli"),
        mode="test",
    )
    assert answer.status_code == 422
    assert field in {error["field"].split(".")[-1] for error in answer.json()["errors"]}


async def test_client_that_never_sold_anything_has_an_empty_dashboard(
    merchants: Merchants,
) -> None:
    told = await merchants.ask(new_id("cli"), "overview")
    assert told["currency"] == "XXX"
    assert told["month"] == {"transactions": 0, "revenue": 0, "customers": 0}
    assert told["today"]["avg_transaction"] == 0


async def test_refunds_are_shown_with_the_payment_and_in_its_trace(
    service: Service, get: Get
) -> None:
    paid = payment(status="succeeded", version=2, retry_of="pay_before")
    given_back = refund(paid, amount_minor=300, status="succeeded", version=2, reason="broken")
    await tell(service, [paid, given_back])
    token = {"client_id": paid.client_id, "mode": "test"}
    shown = (await get(f"/payments/{paid.payment_id}", **token)).json()
    assert (shown["refunded_minor"], shown["refunds_open_minor"]) == (300, 0)
    assert shown["retry_of"] == "pay_before"
    assert [(r["id"], r["status"], r["reason"]) for r in shown["refunds"]] == [
        (given_back.refund_id, "succeeded", "broken")
    ]
    trace = (await get(f"/traces/{paid.payment_id}")).json()
    states = [hop for hop in trace["hops"] if hop["kind"] == "state"]
    assert [(hop["id"], hop["name"], hop["outcome"]) for hop in states] == [
        (given_back.refund_id, "refund.succeeded", "ok")
    ]
    query = {"mode": "test", "from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}
    overview = (await get("/overview", params=query, **token)).json()
    assert overview["totals"]["refunded_minor"] == 0


async def test_figures_read_rollups_and_indexes_not_every_sale(service: Service) -> None:
    client, other = new_id("cli"), new_id("cli")
    async with service.database.transaction() as tx:
        await tx.run(
            """insert into sales (client_id, mode, name, outcome, currency, occurred_at,
                   amount_minor, customer_id)
               select $1, 'test', 'n' || n, 'succeeded', 'RWF',
                   timestamptz '2026-01-01 00:00Z' + n * interval '5 s', 100, 'c' || n % 50
               from generate_series(1, 100000) n""",
            other,
        )
        await tx.run("analyze sales")
    merchant = Merchant(client, "test", "RWF")
    until = dt.datetime(2026, 1, 6, tzinfo=dt.UTC)
    async with service.database.request(client_id=client, mode="test") as tx:
        plan = await tx.fetch(
            "explain " + figures._CUSTOMERS,
            [0],
            [until - 6 * DAY],
            [until],
            merchant.client_id,
            merchant.mode,
            merchant.currency,
        )
    assert "Seq Scan on sales" not in "\n".join(row[0] for row in plan)
    async with service.database.transaction() as tx:
        await tx.run("delete from sales where client_id = $1", other)
