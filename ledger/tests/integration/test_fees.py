"""Fee plans over HTTP: versions by date, nothing back-dated, what one would have cost."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from mospay_ledger.usecases import posting
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from .conftest import balances, event, refund, succeeded

TIERS = [
    {"from_minor": 0, "basis_points": 300, "fixed_minor": 0},
    {"from_minor": 5000, "basis_points": 100, "fixed_minor": 25},
]


@pytest.fixture
async def http(ledger: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The ledger's HTTP side."""
    transport = httpx.ASGITransport(app=ledger.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://ledger/internal/v1"
    ) as client:
        yield client


def bearer(portal: TokenSigner, scope: str = "ledger:read", **claims: str) -> dict[str, str]:
    """Headers of a call."""
    return {"authorization": f"Bearer {portal.token('ledger', scope, **claims)}"}


async def planned(http: httpx.AsyncClient, portal: TokenSigner, **terms: Any) -> Any:
    """Put a plan in force, as the person `usr_a`."""
    body = {"mode": "test", "currency": "RWF"} | terms
    writes = bearer(portal, "ledger:write", actor="usr_a")
    answer = await http.post("/fee-plans", json=body, headers=writes)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def post(ledger: Service, *bodies: Any) -> list[Any]:
    """Book news."""
    async with ledger.database.transaction() as tx:
        return await posting.post_events(tx, ledger.relay, [event(body) for body in bodies])


async def test_plan_with_tiers_min_and_max_prices_and_is_stored_with_the_entry(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    made = await planned(http, portal, client_id=client, tiers=TIERS, min_minor=20, max_minor=100)
    assert (made["version"], made["created_by"]) == (1, "usr_a")
    amounts = {500: (20, 1), 1000: (30, 1), 4999: (100, 1), 5000: (75, 2), 50_000: (100, 2)}
    booked = await post(ledger, *(succeeded(client_id=client, amount_minor=a) for a in amounts))
    assert [(e.fee.minor, e.fee.tier) for e in booked] == list(amounts.values())
    async with ledger.database.transaction() as tx:
        rows = await tx.fetch(
            "select fee_plan_id, fee_plan_version, fee_tier, fee_minor, amount_minor "
            "from journal_entries where client_id = $1",
            client,
        )
    assert {r["amount_minor"]: (r["fee_minor"], r["fee_tier"]) for r in rows} == amounts
    assert {(r["fee_plan_id"], r["fee_plan_version"]) for r in rows} == {(made["id"], 1)}


async def test_new_version_touches_later_payments_alone(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    first = await planned(http, portal, client_id=client, basis_points=100)
    before = succeeded(client_id=client, amount_minor=10_000)
    second = await planned(http, portal, client_id=client, basis_points=300, id=first["id"])
    assert (second["id"], second["version"]) == (first["id"], 2)
    after = succeeded(client_id=client, amount_minor=10_000)
    booked = await post(ledger, after, before)
    assert [(e.fee.plan_version, e.fee.minor) for e in booked] == [(2, 300), (1, 100)]
    listed = (
        await http.get("/fee-plans", params={"client_id": client}, headers=bearer(portal))
    ).json()["items"]
    assert [(p["version"], p["basis_points"]) for p in listed] == [(1, 100), (2, 300)]


async def test_plans_are_listed_page_by_page_and_a_tenant_sees_its_own(
    http: httpx.AsyncClient, portal: TokenSigner
) -> None:
    mine, other = new_id("cli"), new_id("cli")
    for client in (mine, mine, mine, other):
        await planned(http, portal, client_id=client, basis_points=100)
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (
            await http.get(
                "/fee-plans",
                params={"limit": 2, "cursor": cursor},
                headers=bearer(portal, client_id=mine, mode="test"),
            )
        ).json()
        seen += [plan["client_id"] for plan in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [mine] * 3


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"effective_from": "2020-01-01T00:00:00Z"}, "effective_from"),
        ({"effective_from": "2020-01-01T00:00:00"}, "effective_from"),
        ({"effective_until": "2020-01-01T00:00:00Z"}, "effective_until"),
        ({"effective_from": "0001-01-01T00:00:00+14:00"}, "effective_from"),
        ({"effective_until": "9999-12-31T23:00:00-14:00"}, "effective_until"),
        ({"min_minor": 9, "max_minor": 8}, "max_minor"),
        ({"tiers": [{"from_minor": 1, "basis_points": 1}]}, "tiers"),
        ({"tiers": [{"from_minor": 0, "basis_points": -1}]}, "tiers.0.basis_points"),
        ({"currency": None, "fixed_minor": 5}, "fixed_minor"),
        ({"currency": "rwf"}, "currency"),
        ({"mode": "demo"}, "mode"),
        ({"client_id": "a b"}, "client_id"),
        ({"basis_points": 10_001}, "basis_points"),
        ({"fixed_minor": 2**63}, "fixed_minor"),
        ({"fixed_minor": 2**61}, "fixed_minor"),
        ({"fee_on_refund": "half"}, "fee_on_refund"),
    ],
)
async def test_bad_plan_is_a_problem_that_names_the_field(
    http: httpx.AsyncClient, portal: TokenSigner, terms: dict[str, Any], field: str
) -> None:
    body = {"mode": "test", "currency": "RWF"} | terms
    answer = await http.post("/fee-plans", json=body, headers=bearer(portal, "ledger:write"))
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_two_plans_of_one_scope_never_start_at_the_same_instant(
    http: httpx.AsyncClient, portal: TokenSigner
) -> None:
    start = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).isoformat()
    terms = {"client_id": new_id("cli"), "effective_from": start}
    await planned(http, portal, **terms)
    answer = await http.post(
        "/fee-plans", json={"mode": "test", "currency": "RWF"} | terms,
        headers=bearer(portal, "ledger:write"),
    )  # fmt: skip
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "effective_from"


async def test_simulation_tells_what_the_last_days_would_have_cost(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    bodies = [succeeded(client_id=client, amount_minor=a) for a in (1000, 1000, 10_000)]
    bodies.append(succeeded(client_id=client, amount_minor=700, currency="USD"))
    bodies.append(succeeded(client_id=client, amount_minor=9999, service_id="svc_other"))
    await post(ledger, *bodies, succeeded(amount_minor=5555))
    answer = await http.post(
        "/fee-plans/simulate",
        json={"mode": "test", "client_id": client, "service_id": "svc", "basis_points": 100},
        headers=bearer(portal),
    )
    francs, dollars = answer.json()["currencies"]
    assert francs == {
        "currency": "RWF", "payments": 3, "amount_minor": 12_000, "charged_minor": 240,
        "would_have_cost_minor": 120, "difference_minor": -120,
        "tiers": [{"tier": None, "payments": 3, "amount_minor": 12_000, "fee_minor": 120}],
    }  # fmt: skip
    assert (dollars["charged_minor"], dollars["would_have_cost_minor"]) == (14, 7)
    assert answer.json()["text"] == [
        "would have cost 120 RWF instead of 240 RWF over 3 payments",
        "would have cost 0.07 USD instead of 0.14 USD over 1 payments",
    ]


async def test_simulation_shows_tiers_and_a_tenant_only_its_own_payments(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    await post(ledger, *(succeeded(client_id=client, amount_minor=a) for a in (1000, 6000)))
    body = {"mode": "test", "currency": "RWF", "tiers": TIERS}
    own = bearer(portal, client_id=client, mode="test")
    (found,) = (await http.post("/fee-plans/simulate", json=body, headers=own)).json()["currencies"]
    assert [(t["tier"], t["payments"], t["fee_minor"]) for t in found["tiers"]] == [
        (1, 1, 30),
        (2, 1, 85),
    ]
    other = bearer(portal, client_id=new_id("cli"), mode="test")
    body["client_id"] = client
    assert (await http.post("/fee-plans/simulate", json=body, headers=other)).json()[
        "currencies"
    ] == []


async def test_fee_is_given_back_with_the_refund_where_the_plan_says_so(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    await planned(http, portal, client_id=client, basis_points=200, fee_on_refund="return")
    paid = succeeded(client_id=client)
    await post(ledger, paid)
    (half,) = await post(ledger, refund(paid, 750, "succeeded"))
    (rest,) = await post(ledger, refund(paid, 750, "succeeded"))
    assert [half.fee_returned_minor, rest.fee_returned_minor] == [15, 15]
    assert await balances(ledger, client) == {}
