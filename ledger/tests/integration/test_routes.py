"""Reads over HTTP: what the operator sees, what a tenant sees, what nobody sees."""

import datetime as dt
from collections.abc import AsyncIterator

import httpx
import pytest
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentEventV1
from mospay_shared.ids import new_id

from .conftest import another_attempt, booked, send, succeeded, wire

READS = [
    "/trial-balance?mode=test",
    "/accounts",
    "/accounts/x",
    "/accounts/x/entries",
    "/balances?client_id=x",
    "/payments/pay_x/entries",
    "/entries",
    "/entries/ent_x",
    "/reversals",
    "/fee-plans",
    "/verify",
]
WRITES = [
    ("/entries/ent_x/reversals", {"kind": "reversal", "reason": "r"}),
    ("/reversals/rev_x/approve", {}),
    ("/reversals/rev_x/reject", {}),
    ("/fee-plans", {"mode": "test", "basis_points": 100}),
]


@pytest.fixture
async def http(ledger: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The ledger's HTTP side."""
    transport = httpx.ASGITransport(app=ledger.app, raise_app_exceptions=False)
    base = "http://ledger/internal/v1"
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        yield client


@pytest.fixture
async def paid(ledger: Service) -> PaymentEventV1:
    """A booked payment."""
    body = succeeded()
    await send(ledger, wire(body))
    await booked(ledger, body.payment_id)
    return body


def operator(portal: TokenSigner, scope: str = "ledger:read") -> dict[str, str]:
    """Headers of a call for the operator."""
    return {"authorization": f"Bearer {portal.token('ledger', scope)}"}


def tenant(portal: TokenSigner, client_id: str, mode: str = "test") -> dict[str, str]:
    """Headers of a call for one client."""
    token = portal.token("ledger", "ledger:read", client_id=client_id, mode=mode)
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", READS)
async def test_reads_need_a_trusted_token_with_the_scope(
    http: httpx.AsyncClient, portal: TokenSigner, path: str
) -> None:
    assert (await http.get(path)).status_code == 401
    elsewhere = {"authorization": f"Bearer {portal.token('reporter', 'ledger:read')}"}
    assert (await http.get(path, headers=elsewhere)).status_code == 401
    assert (await http.get(path, headers=operator(portal, "trace:read"))).status_code == 403


async def test_entries_of_a_payment_show_every_side_to_the_operator(
    http: httpx.AsyncClient, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    answer = await http.get(f"/payments/{paid.payment_id}/entries", headers=operator(portal))
    (entry,) = answer.json()["entries"]
    assert (entry["kind"], entry["currency"], entry["fee_minor"]) == ("capture", "RWF", 30)
    assert [(side["account"], side["amount_minor"]) for side in entry["postings"]] == [
        ("provider:simulator:RWF:test:clearing", 1500),
        ("operator:RWF:test:fees", -30),
        (f"client:{paid.client_id}:RWF:test:pending", -1470),
    ]
    for side in entry["postings"]:
        assert side["balance_minor"] == side["previous_minor"] + side["amount_minor"]
    assert (entry["fee_plan_id"], entry["fee_plan_version"]) == ("default_test", 1)


async def test_tenant_sees_its_own_sides_and_no_other_tenant(
    http: httpx.AsyncClient, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    path = f"/payments/{paid.payment_id}/entries"
    own = (await http.get(path, headers=tenant(portal, paid.client_id))).json()["entries"]
    assert [side["amount_minor"] for side in own[0]["postings"]] == [-1470]
    for headers in (
        tenant(portal, new_id("cli")),
        tenant(portal, paid.client_id, "live"),
        tenant(portal, ""),
    ):
        assert (await http.get(path, headers=headers)).json() == {"entries": []}
        asked = f"client_id={paid.client_id}"
        balances = await http.get(f"/balances?{asked}", headers=headers)
        assert (balances.json()["balances"], balances.json()["holdings"]) == ([], [])
        accounts = await http.get(f"/accounts?{asked}", headers=headers)
        assert accounts.json() == {"items": [], "next_cursor": None}
    assert (
        await http.get("/trial-balance?mode=test", headers=tenant(portal, paid.client_id))
    ).status_code == 403


async def test_balances_of_a_client(
    http: httpx.AsyncClient, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    path = f"/balances?client_id={paid.client_id}&mode=test"
    for headers in (operator(portal), tenant(portal, paid.client_id)):
        (balance,) = (await http.get(path, headers=headers)).json()["balances"]
        assert (balance["kind"], balance["balance_minor"], balance["version"]) == (
            "pending", -1470, 1,
        )  # fmt: skip


async def test_trial_balance_is_balanced_and_made_of_postings(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    async def trial() -> dict[str, object]:
        answer = await http.get("/trial-balance?mode=test", headers=operator(portal))
        found: dict[str, object] = answer.json()
        return found

    before = await trial()
    assert before["balanced"] is True
    for currency in before["currencies"]:  # type: ignore[attr-defined]
        assert currency["debit_minor"] == currency["credit_minor"]
        if currency["account_count"] == len(currency["accounts"]):
            assert sum(account["balance_minor"] for account in currency["accounts"]) == 0
    (francs,) = (c for c in before["currencies"] if c["currency"] == "RWF")  # type: ignore[attr-defined]
    assert francs["debit_minor"] >= 1500
    more = succeeded(amount_minor=1000)
    await send(ledger, wire(more))
    await booked(ledger, more.payment_id)
    after = await trial()
    assert after["entries"] == before["entries"] + 1  # type: ignore[operator]


async def test_balance_that_left_its_postings_unbalances_the_trial(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    account = f"client:{paid.client_id}:RWF:test:pending"
    move = "update accounts set balance_minor = balance_minor + $2 where id = $1"
    try:
        async with ledger.database.transaction() as tx:
            await tx.run(move, account, 1)
        trial = await http.get("/trial-balance?mode=test", headers=operator(portal))
    finally:
        async with ledger.database.transaction() as tx:
            await tx.run(move, account, -1)
    assert trial.json()["balanced"] is False


async def test_accounts_are_listed_page_by_page_and_filtered(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    bodies = [succeeded(client_id=client, currency=c) for c in ("RWF", "USD", "KWD")]
    again = another_attempt(bodies[0])
    await send(ledger, *map(wire, (*bodies, again)))
    for body in bodies:
        await booked(ledger, body.payment_id)
    await booked(ledger, again.payment_id, 2)
    seen, cursor = [], ""
    while cursor is not None:
        answer = await http.get(
            "/accounts",
            params={"client_id": client, "limit": 1, "cursor": cursor},
            headers=operator(portal),
        )
        page = answer.json()
        seen += [item["account"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == sorted(
        [f"client:{client}:{c}:test:pending" for c in ("RWF", "USD", "KWD")]
        + [f"client:{client}:RWF:test:refund_due"]
    )
    filtered = await http.get(
        f"/accounts?client_id={client}&kind=pending&currency=USD&mode=test",
        headers=operator(portal),
    )
    assert [item["currency"] for item in filtered.json()["items"]] == ["USD"]


async def test_postings_are_hops_of_the_trace(
    http: httpx.AsyncClient, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    answer = await http.get(f"/traces/{paid.payment_id}", headers=operator(portal, "trace:read"))
    hops = answer.json()["hops"]
    (received,) = [hop for hop in hops if hop["queue"] == "ledger.payments"]
    (posting,) = [hop for hop in hops if hop["kind"] == "posting"]
    assert (received["name"], received["outcome"]) == ("payment.succeeded.v1", "ok")
    assert posting["data"]["fee_minor"] == 30
    assert len(posting["data"]["postings"]) == 3


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/trial-balance", "mode"),
        ("/trial-balance?mode=demo", "mode"),
        ("/balances", "client_id"),
        ("/balances?client_id=%00", "client_id"),
        ("/balances?client_id=x&mode=demo", "mode"),
        ("/accounts?limit=0", "limit"),
        ("/accounts?limit=201", "limit"),
        ("/accounts?cursor=%00", "cursor"),
        ("/accounts?currency=rwf", "currency"),
        ("/accounts?kind=cash", "kind"),
        ("/accounts?at=yesterday", "at"),
        ("/accounts?at=2026-01-01T00:00:00", "at"),
        ("/accounts?at=0001-01-01T00:00:00%2B14:00", "at"),
        ("/balances?client_id=x&at=soon", "at"),
        ("/trial-balance?mode=test&at=soon", "at"),
        ("/accounts/%00", "account_id"),
        ("/accounts/x/entries?cursor=0", "cursor"),
        ("/accounts/x/entries?cursor=9223372036854775808", "cursor"),
        ("/entries/%00", "entry_id"),
        ("/entries?cursor=%00", "cursor"),
        ("/entries", "mode"),
        ("/entries?mode=test&cursor=ent_none", "cursor"),
        ("/entries?kind=cash", "kind"),
        ("/entries?mode=demo", "mode"),
        ("/entries?currency=rwf", "currency"),
        ("/entries?payment_id=%00", "payment_id"),
        ("/entries?from=yesterday", "from"),
        ("/entries?mode=test&from=0001-01-01T00:00:00%2B14:00", "from"),
        ("/entries?to=2026-01-01T00:00:00", "to"),
        ("/entries?limit=201", "limit"),
        ("/reversals?state=done", "state"),
        ("/reversals?cursor=%00", "cursor"),
        ("/fee-plans?cursor=%00", "cursor"),
        ("/verify?from=0", "from"),
        ("/verify?from=9223372036854775807", "from"),
        ("/payments/%00/entries", "payment_id"),
        (f"/payments/{'x' * 81}/entries", "payment_id"),
    ],
)
async def test_bad_input_is_a_problem_that_names_the_field(
    http: httpx.AsyncClient, portal: TokenSigner, path: str, field: str
) -> None:
    answer = await http.get(path, headers=operator(portal))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(("path", "body"), WRITES)
async def test_writes_need_their_scope_and_the_operator(
    http: httpx.AsyncClient, portal: TokenSigner, path: str, body: dict[str, object]
) -> None:
    assert (await http.post(path, json=body)).status_code == 401
    assert (await http.post(path, json=body, headers=operator(portal))).status_code == 403
    token = portal.token("ledger", "ledger:write", client_id="cli_x", mode="test")
    theirs = {"authorization": f"Bearer {token}"}
    answer = await http.post(path, json=body, headers=theirs)
    assert (answer.status_code, answer.json()["code"]) == (403, "operators_only")


async def test_verify_is_for_the_operator(http: httpx.AsyncClient, portal: TokenSigner) -> None:
    answer = await http.get("/verify", headers=tenant(portal, "cli_x"))
    assert answer.status_code == 403
    found = (await http.get("/verify", headers=operator(portal))).json()
    assert (found["whole"], found["fault"], found["first_block"]) == (True, None, 1)


async def test_entry_shows_balances_before_and_after(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    again = succeeded(client_id=paid.client_id)
    await send(ledger, wire(again))
    (row,) = await booked(ledger, again.payment_id)
    path = f"/entries/{row['id']}"
    entry = (await http.get(path, headers=tenant(portal, paid.client_id))).json()
    (side,) = entry["postings"]
    assert (side["previous_minor"], side["amount_minor"], side["balance_minor"]) == (
        -1470, -1470, -2940,
    )  # fmt: skip
    assert (side["account_version"], entry["reversed_by"]) == (2, None)
    for headers in (tenant(portal, new_id("cli")), tenant(portal, paid.client_id, "live")):
        assert (await http.get(path, headers=headers)).status_code == 404


async def test_statement_of_an_account_is_listed_page_by_page(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    bodies = [succeeded(client_id=client) for _ in range(5)]
    await send(ledger, *map(wire, bodies))
    for body in bodies:
        await booked(ledger, body.payment_id)
    path = f"/accounts/client:{client}:RWF:test:pending/entries"
    lines: list[dict[str, object]] = []
    params: dict[str, int] = {"limit": 2}
    while True:
        page = (await http.get(path, params=params, headers=tenant(portal, client))).json()
        lines += page["items"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert [line["version"] for line in lines] == [5, 4, 3, 2, 1]
    assert {line["payment_id"] for line in lines} == {body.payment_id for body in bodies}
    assert lines[0]["balance_minor"] == -5 * 1470
    for headers in (tenant(portal, new_id("cli")), tenant(portal, client, "live")):
        assert (await http.get(path, headers=headers)).json()["items"] == []


async def test_balances_are_those_of_any_instant(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    times = []
    for _ in range(3):
        body = succeeded(client_id=client)
        await send(ledger, wire(body))
        (row,) = await booked(ledger, body.payment_id)
        times.append(row["posted_at"])
    headers, pending = operator(portal), f"client:{client}:RWF:test:pending"

    async def held(at: str) -> list[int]:
        params = {"client_id": client, "at": at}
        one = (await http.get(f"/accounts/{pending}", params={"at": at}, headers=headers)).json()
        many = (await http.get("/balances", params=params, headers=headers)).json()["balances"]
        listed = (await http.get("/accounts", params=params, headers=headers)).json()["items"]
        assert one == many[0] == listed[0]
        return [one["balance_minor"], one["version"]]

    micro = dt.timedelta(microseconds=1)
    for number, time in enumerate(times):
        assert await held(time.isoformat()) == [-1470 * (number + 1), number + 1]
        assert await held((time - micro).isoformat()) == [-1470 * number, number]


async def test_trial_balance_of_an_instant_is_balanced_and_leaves_out_what_came_later(
    http: httpx.AsyncClient, ledger: Service, portal: TokenSigner
) -> None:
    first, later = (succeeded(currency="UGX", microservice=new_id("ms")) for _ in range(2))
    await send(ledger, wire(first))
    (row,) = await booked(ledger, first.payment_id)
    await send(ledger, wire(later))
    (last,) = await booked(ledger, later.payment_id)
    assert row["posted_at"] < last["posted_at"]
    for time, amount in ((row["posted_at"], 1500), (last["posted_at"], 3000)):
        trial = (
            await http.get(
                "/trial-balance",
                params={"mode": "test", "at": time.isoformat()},
                headers=operator(portal),
            )
        ).json()
        (shillings,) = (c for c in trial["currencies"] if c["currency"] == "UGX")
        assert trial["balanced"]
        assert shillings["debit_minor"] == shillings["credit_minor"] == amount
        assert trial["entries"] is None
