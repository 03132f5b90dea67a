"""HTTP in: figures equal the rows behind them, pages cover every row once, tenants stay apart."""

import datetime as dt
import itertools
from collections import Counter
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mospay_reporter.domain.pages import SORTS
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import PaymentEventV1
from mospay_shared.ids import new_id

from ..samples import call, entry, later, now, payment, tell
from .conftest import Get

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
STATUSES = ("succeeded", "failed", "unknown", "processing", "held", "expired")


def crowd(client: str, size: int, **changes: Any) -> list[PaymentEventV1]:
    """Payments that differ in everything one can sort or filter by, with many ties."""
    base = now() - 2 * HOUR
    return [
        payment(
            client_id=client,
            accepted_at=base + dt.timedelta(minutes=n // 5),
            amount_minor=100 * (n % 7),
            status=STATUSES[n % len(STATUSES)],
            service=("collection", "cards", "airtime")[n % 3],
            reference=f"order-{n:04d}",
            customer_id=f"cust_{n % 4}" if n % 2 else None,
            version=1,
            **changes,
        )
        for n in range(size)
    ]


async def walk(get: Get, params: dict[str, Any], **token: Any) -> list[dict[str, Any]]:
    """Read every page of a list."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = {**params, "cursor": cursor} if cursor else params
        answer = await get("/payments", params=page, **token)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        items += body["items"]
        cursor = body["next_cursor"]
        if cursor is None:
            return items


@pytest.mark.parametrize("sort", SORTS)
async def test_pages_cover_every_payment_once_in_order(
    service: Service, get: Get, sort: str
) -> None:
    client = new_id("cli")
    await tell(service, crowd(client, 43))
    items = await walk(
        get, {"mode": "test", "client_id": client, "sort": sort, "limit": 5}, client_id=client
    )
    assert len(items) == len({item["id"] for item in items}) == 43
    field = {"amount": "amount_minor"}.get(sort.removeprefix("-"), sort.removeprefix("-"))
    keys = [(item[field], item["id"]) for item in items]
    if field in ("status", "service"):
        keys = [(item[field], item["accepted_at"], item["id"]) for item in items]
    assert keys == sorted(keys, reverse=sort.startswith("-"))


async def test_payment_that_arrives_between_two_pages_moves_none_of_them(
    service: Service, get: Get
) -> None:
    client = new_id("cli")
    await tell(service, crowd(client, 10))
    params = {"mode": "test", "client_id": client, "limit": 4}
    first = (await get("/payments", params=params)).json()
    await tell(service, [payment(client_id=client)])
    second = (await get("/payments", params=params | {"cursor": first["next_cursor"]})).json()
    ids = [item["id"] for item in first["items"] + second["items"]]
    assert len(set(ids)) == 8


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"status": "failed"}, lambda e: e.status == "failed"),
        ({"status": "failed,unknown"}, lambda e: e.status in ("failed", "unknown")),
        ({"service": "cards,airtime"}, lambda e: e.service in ("cards", "airtime")),
        ({"min_minor": 200, "max_minor": 400}, lambda e: 200 <= e.amount_minor <= 400),
        ({"q": "order-0007"}, lambda e: e.reference == "order-0007"),
        ({"q": "order-001"}, lambda e: e.reference.startswith("order-001")),
        ({"q": "cust_1"}, lambda e: e.customer_id == "cust_1"),
        ({"q": "rder-0007"}, lambda e: False),
        ({"q": "order-%"}, lambda e: False),
        ({"currency": "USD"}, lambda e: False),
        ({"mode": "live"}, lambda e: False),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else "rows",
)
async def test_filters_hold_exactly_what_they_say(
    service: Service, get: Get, params: dict[str, Any], wanted: Any
) -> None:
    client = new_id("cli")
    events = crowd(client, 43)
    await tell(service, events)
    asked = {"mode": "test", "client_id": client} | params
    items = await walk(get, asked | {"limit": 7})
    expected = {e.payment_id: e for e in events if wanted(e)}
    assert {item["id"] for item in items} == set(expected)
    summary = (await get("/payments", params=asked)).json()["summary"]
    paid = [e for e in expected.values() if e.status == "succeeded"]
    assert summary == {
        "count": len(expected),
        "count_is_exact": True,
        "succeeded": len(paid),
        "volume_minor": sum(e.amount_minor for e in paid),
        "currency": "RWF" if expected else None,
    }


async def test_period_includes_its_beginning_and_excludes_its_end(
    service: Service, get: Get
) -> None:
    client, start = new_id("cli"), now().replace(microsecond=0)
    events = [payment(client_id=client, accepted_at=start + HOUR * n) for n in range(3)]
    await tell(service, events)
    params = {
        "mode": "test",
        "client_id": client,
        "from": start.isoformat(),
        "to": (start + 2 * HOUR).isoformat(),
    }
    items = (await get("/payments", params=params)).json()["items"]
    assert {i["id"] for i in items} == {e.payment_id for e in events[:2]}


async def test_payment_is_found_by_id_with_its_metadata_and_books(
    service: Service, get: Get
) -> None:
    done = payment(status="succeeded", version=2, metadata={"shop": "7"})
    await tell(service, [done, entry(done, 20)])
    body = (await get(f"/payments/{done.payment_id}")).json()
    assert body["metadata"] == {"shop": "7"}
    assert (body["fee_minor"], body["net_minor"]) == (20, 980)
    by_text = await get("/payments", params={"mode": "test", "q": done.payment_id})
    row = by_text.json()["items"][0]
    assert row == {k: v for k, v in body.items() if k not in ("metadata", "refunds")}


async def test_books_without_a_payment_are_shown_by_no_route(service: Service, get: Get) -> None:
    done = payment()
    await tell(service, [entry(done)])
    assert (await get(f"/payments/{done.payment_id}")).status_code == 404
    body = (await get("/payments", params={"mode": "test", "client_id": done.client_id})).json()
    assert body["items"] == [] and body["summary"]["count"] == 0


async def test_summary_of_several_currencies_has_no_sum(service: Service, get: Get) -> None:
    client = new_id("cli")
    await tell(
        service,
        [
            payment(client_id=client, status="succeeded", currency=c, version=1)
            for c in ("RWF", "USD")
        ],
    )
    summary = (await get("/payments", params={"mode": "test", "client_id": client})).json()[
        "summary"
    ]
    assert (summary["currency"], summary["volume_minor"], summary["count"]) == (None, 0, 2)


async def test_large_set_is_summed_exactly_by_rollups_and_else_estimated(
    service: Service, get: Get
) -> None:
    client, size = new_id("cli"), 10_060
    events = crowd(client, size)
    for start in range(0, size, 1000):
        await tell(service, events[start : start + 1000])
    base = {"mode": "test", "client_id": client, "limit": 1}
    since = events[0].accepted_at + dt.timedelta(seconds=1)  # leaves the first five out
    for params, wanted in (
        ({}, events),
        ({"status": "succeeded,failed,unknown,processing,held,expired", "service": "cards,airtime,"
          "collection", "currency": "RWF", "from": since.isoformat()}, events[5:]),
    ):  # fmt: skip
        summary = (await get("/payments", params=base | params)).json()["summary"]
        paid = [e for e in wanted if e.status == "succeeded"]
        assert summary == {
            "count": len(wanted),
            "count_is_exact": True,
            "succeeded": len(paid),
            "volume_minor": sum(e.amount_minor for e in paid),
            "currency": "RWF",
        }
    settings = service.settings
    assert settings.migration_database_url is not None
    owner = await asyncpg.connect(settings.migration_database_url.get_secret_value())
    await owner.execute("analyze payment_facts")  # what autovacuum does in its own time
    await owner.close()
    wanted = [e for e in events if e.amount_minor >= 100]
    estimated = (await get("/payments", params=base | {"min_minor": 100})).json()["summary"]
    assert estimated["count_is_exact"] is (len(wanted) <= 10_000)
    everything = (await get("/payments", params=base | {"min_minor": 0})).json()["summary"]
    assert everything["count_is_exact"] is False and everything["currency"] == "RWF"
    assert everything["count"] == pytest.approx(size, rel=0.2)
    assert everything["volume_minor"] == pytest.approx(sum(e.amount_minor for e in paid), rel=0.3)


async def test_overview_equals_the_rows_behind_it_for_any_edges(service: Service, get: Get) -> None:
    client = new_id("cli")
    events = crowd(client, 60)
    await tell(service, events)
    await tell(service, [entry(e, 3) for e in events if e.status == "succeeded"])
    first, last = events[7].accepted_at, events[50].accepted_at
    for zone, granularity in itertools.product(
        ("UTC", "Africa/Kigali", "Asia/Kolkata"), ("hour", "day")
    ):
        params = {
            "mode": "test",
            "from": first.isoformat(),
            "to": last.isoformat(),
            "granularity": granularity,
            "client_id": client,
            "time_zone": zone,
        }
        body = (await get("/overview", params=params, client_id=client, mode="test")).json()
        inside = [e for e in events if first <= e.accepted_at < last]
        paid = [e for e in inside if e.status == "succeeded"]
        counts = Counter(e.status.value for e in inside)
        totals = body["totals"]
        assert {k: v for k, v in totals.items() if k in STATUSES} == dict(counts)
        assert totals["payments"] == len(inside)
        assert totals["volume_minor"] == sum(e.amount_minor for e in paid)
        assert totals["fees_minor"] == 3 * len(paid)
        assert totals["net_minor"] == totals["volume_minor"] - totals["fees_minor"]
        assert (body["currency"], body["currencies"]) == ("RWF", ["RWF"])
        for name in ("payments", "succeeded", "failed", "unknown", "volume_minor"):
            assert sum(point[name] for point in body["series"]) == totals[name]


async def test_series_has_a_point_for_every_hour_without_payments(
    service: Service, get: Get
) -> None:
    client = new_id("cli")
    await tell(service, [payment(client_id=client, accepted_at=now() - 5 * HOUR)])
    end = now().replace(minute=0, second=0, microsecond=0) + HOUR
    params = {"mode": "test", "from": (end - DAY).isoformat(), "to": end.isoformat()}
    body = (await get("/overview", params=params | {"client_id": client})).json()
    assert len(body["series"]) == 24
    assert sorted(point["payments"] for point in body["series"]) == [0] * 23 + [1]


async def test_previous_period_is_the_one_just_before(service: Service, get: Get) -> None:
    client, end = new_id("cli"), now()
    told = [(1, "succeeded"), (26, "succeeded"), (27, "failed"), (60, "succeeded")]
    await tell(
        service,
        [
            payment(client_id=client, accepted_at=end - h * HOUR, status=status)
            for h, status in told
        ],
    )
    params = {"mode": "test", "from": (end - DAY).isoformat(), "to": end.isoformat()}
    body = (await get("/overview", params=params | {"client_id": client})).json()
    assert body["totals"]["payments"] == 1
    assert body["previous"] == {"payments": 2, "succeeded": 1, "volume_minor": 1000}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_today_begins_at_midnight_of_the_time_zone(
    service: Service, get: Get, zone: str
) -> None:
    from zoneinfo import ZoneInfo

    from mospay_reporter.domain.periods import local_midnight

    client = new_id("cli")
    midnight = local_midnight(now(), ZoneInfo(zone))
    before, after = midnight - dt.timedelta(seconds=1), midnight
    await tell(service, [payment(client_id=client, accepted_at=t) for t in (before, after, after)])
    await tell(service, [call(client_id=client, called_at=t) for t in (before, after)])
    end = now()
    params = {
        "mode": "test",
        "client_id": client,
        "from": (end - DAY).isoformat(),
        "to": end.isoformat(),
        "time_zone": zone,
    }
    body = (await get("/overview", params=params)).json()
    assert body["today"] == {"payments": 2, "api_calls": 1}


async def test_overview_is_of_the_busiest_currency_unless_one_is_chosen(
    service: Service, get: Get
) -> None:
    client = new_id("cli")
    told = ["USD", "RWF", "USD"]
    await tell(service, [payment(client_id=client, currency=c, status="succeeded") for c in told])
    end = now() + HOUR
    params = {
        "mode": "test",
        "client_id": client,
        "from": (end - DAY).isoformat(),
        "to": end.isoformat(),
    }
    body = (await get("/overview", params=params)).json()
    assert (body["currency"], body["totals"]["payments"]) == ("USD", 2)
    assert body["currencies"] == ["RWF", "USD"]
    body = (await get("/overview", params=params | {"currency": "RWF"})).json()
    assert (body["currency"], body["totals"]["payments"]) == ("RWF", 1)


async def test_overview_of_nothing_is_all_zeros(get: Get) -> None:
    end = now()
    params = {
        "mode": "live",
        "client_id": new_id("cli"),
        "from": (end - DAY).isoformat(),
        "to": end.isoformat(),
    }
    body = (await get("/overview", params=params)).json()
    assert body["currency"] is None and body["currencies"] == []
    assert set(body["totals"].values()) == {0}


async def test_a_tenant_sees_its_own_rows_in_its_own_mode_alone(service: Service, get: Get) -> None:
    mine, theirs = (later(payment(), "succeeded", 2) for _ in range(2))
    live = payment(client_id=mine.client_id, mode="live", status="succeeded")
    await tell(service, [mine, theirs, live])
    token = {"client_id": mine.client_id, "mode": "test"}
    end = now() + HOUR
    period = {"from": (end - DAY).isoformat(), "to": end.isoformat()}
    for params in ({"mode": "test"}, {"mode": "test", "client_id": mine.client_id}):
        items = await walk(get, params, **token)
        assert [item["id"] for item in items] == [mine.payment_id]
        body = (await get("/overview", params=params | period, **token)).json()
        assert body["totals"]["payments"] == 1
    for params in ({"mode": "test", "client_id": theirs.client_id}, {"mode": "live"}):
        answer = (await get("/payments", params=params, **token)).json()
        assert answer["items"] == [] and answer["summary"]["count"] == 0
        body = (await get("/overview", params=params | period, **token)).json()
        assert body["totals"]["payments"] == body["today"]["payments"] == 0
    assert (await get(f"/payments/{mine.payment_id}", **token)).status_code == 200
    for foreign in (theirs, live):
        answer = await get(f"/payments/{foreign.payment_id}", **token)
        assert answer.status_code == 404 and answer.json()["code"] == "not_found"


@pytest.mark.parametrize("path", ["/payments?mode=test", "/payments/pay_1", "/overview?mode=test"])
async def test_token_without_the_scope_is_refused(get: Get, path: str) -> None:
    assert (await get(path, scope="messages:read")).status_code == 403


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("/payments", {}, "mode"),
        ("/payments", {"mode": "both"}, "mode"),
        ("/payments", {"mode": "test", "status": "paid,failed"}, "status.0"),
        ("/payments", {"mode": "test", "sort": "reference"}, "sort"),
        ("/payments", {"mode": "test", "limit": 201}, "limit"),
        ("/payments", {"mode": "test", "limit": 0}, "limit"),
        ("/payments", {"mode": "test", "cursor": "nonsense"}, "cursor"),
        ("/payments", {"mode": "test", "min_minor": -1}, "min_minor"),
        ("/payments", {"mode": "test", "max_minor": 2**63}, "max_minor"),
        ("/payments", {"mode": "test", "min_minor": 2, "max_minor": 1}, "max_minor"),
        ("/payments", {"mode": "test", "q": "a\0b"}, "q"),
        ("/payments", {"mode": "test", "from": "2026-11-21"}, "from"),
        ("/payments", {"mode": "test", "to": "9999-12-31T23:59:59Z"}, "to"),
        ("/payments", {"mode": "test", "to": "0001-01-01T00:00:00+14:00"}, "to"),
        ("/overview", {"mode": "test"}, "from"),
        ("/overview", {"mode": "test", "granularity": "minute"}, "granularity"),
        ("/overview", {"mode": "test", "time_zone": "Mars/Olympus"}, "time_zone"),
        ("/overview", {"mode": "test", "time_zone": "../../etc/passwd"}, "time_zone"),
        ("/overview", {"mode": "test", "time_zone": "Africa"}, "time_zone"),
        ("/overview", {"mode": "test", "currency": "rwf"}, "currency"),
    ],
    ids=str,
)
async def test_bad_parameter_is_named(
    get: Get, path: str, params: dict[str, Any], field: str
) -> None:
    answer = await get(path, params=params)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in {fault["field"] for fault in answer.json()["errors"]}


async def test_period_too_long_or_empty_is_refused(get: Get) -> None:
    end = now()
    for since, until, field in ((end, end - HOUR, "to"), (end - 40 * DAY, end, "from")):
        params = {"mode": "test", "from": since.isoformat(), "to": until.isoformat()}
        answer = await get("/overview", params=params)
        assert answer.status_code == 422
        assert [fault["field"] for fault in answer.json()["errors"]] == [field]


ODD = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["test", "live", "-amount", "succeeded", "2026-11-21T00:00:00Z", "RWF", "1"]),
    st.integers(-(2**70), 2**70).map(str),
    st.datetimes().map(lambda d: d.isoformat() + "Z"),
)
NAMES = st.sampled_from(
    ["mode", "client_id", "currency", "status", "service", "from", "to", "min_minor", "max_minor",
     "q", "sort", "limit", "cursor", "granularity", "time_zone"]
)  # fmt: skip


@given(st.dictionaries(NAMES, ODD), st.sampled_from(["/payments", "/overview"]))
@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_query_makes_a_500(get: Get, params: dict[str, str], path: str) -> None:
    answer = await get(path, params={"mode": "test"} | params)
    assert answer.status_code in (200, 422), answer.text


@given(st.text(min_size=1, max_size=100).filter(lambda t: not set(t) & set("/?#\\.")))
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_payment_id_makes_a_500(get: Get, text: str) -> None:
    from urllib.parse import quote

    answer = await get(f"/payments/{quote(text, safe='')}")
    assert answer.status_code == 404
