"""What the gateway reads for a client: its own alone, a page at a time, whatever else is there."""

import csv
import datetime as dt
import io
from typing import Any

import pytest
from mospay_shared.ids import new_id

from .billing_house import READ, Shop
from .conftest import refund
from .reconciling_desk import T0, book, line, run, take
from .settling_desk import DAY, Desk, end_of
from .test_payouts import ask

TODAY = dt.datetime.now(dt.UTC).date()
PERIOD = f"currency=RWF&from={TODAY - DAY}&to={TODAY + DAY}"


def own(desk: Desk, mode: str = "test") -> dict[str, str]:
    """The tenant of a desk's own calls."""
    return {"client_id": desk.client_id, "mode": mode}


async def get(desk: Desk, path: str, **tenant: str) -> Any:
    """What a call for a tenant answers (of its own, unless another is named)."""
    answer = await desk.call("GET", path, actor=None, **(tenant or own(desk)))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def paged(desk: Desk, path: str) -> list[Any]:
    """All items of a list, two a page."""
    items: list[Any] = []
    cursor = ""
    while True:
        page = await get(desk, f"{path}&limit=2" + (f"&cursor={cursor}" if cursor else ""))
        assert len(page["items"]) <= 2
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = page["next_cursor"]


async def test_pages_of_entries_have_each_once_newest_first(desk: Desk) -> None:
    captures = [desk.capture(0, 1000 + n) for n in range(5)]
    made = await desk.post(*captures)  # of one transaction, so of one time
    made += await desk.post(refund(captures[0], 300, "succeeded"))
    stranger = Desk(desk.service, desk.signer)
    await stranger.post(stranger.capture(0))
    await desk.post(desk.capture(0, mode="live"))
    items = await paged(desk, "/entries?")
    assert sorted(one["entry_id"] for one in items) == sorted(entry.id for entry in made)
    places = [(one["posted_at"], one["entry_id"]) for one in items]
    assert places == sorted(places, reverse=True)
    assert {side["account"].split(":")[1] for one in items for side in one["postings"]} == {
        desk.client_id
    }, "the sides of others are theirs"
    payment = captures[0].payment_id
    found = await paged(desk, f"/entries?payment_id={payment}")
    assert [one["kind"] for one in found] == ["refund", "capture"]
    assert [one["kind"] for one in await paged(desk, "/entries?kind=refund")] == ["refund"]
    assert await paged(desk, "/entries?currency=USD") == []
    newest = items[0]["posted_at"]
    assert [o["entry_id"] for o in await paged(desk, f"/entries?from={newest}")] == [
        items[0]["entry_id"]
    ]
    assert len(await paged(desk, f"/entries?to={newest}")) == 5


async def test_an_entry_without_a_side_of_the_clients_ends_no_page_early(desk: Desk) -> None:
    paid = desk.capture(0)
    await desk.post(paid)
    await desk.post(refund(paid, 1500, "succeeded"))
    for times in (2, 3, 4):  # more than was taken: nothing of it is the client's
        given = {"over_refund": True, "refunded_minor": times * 1500}
        await desk.post(refund(paid, 1500, "succeeded", **given))
    await desk.post(desk.capture(0))
    shown = {one["entry_id"] for one in await paged(desk, "/entries?")}
    rows = await desk.fetch(
        "select distinct entry_id from postings where client_id = $1", desk.client_id
    )
    assert shown == {row["entry_id"] for row in rows}
    assert len(shown) == 3


@pytest.mark.parametrize("path", ["/entries?", f"/statements?{PERIOD}&"])
async def test_a_cursor_of_another_client_or_mode_is_none(desk: Desk, path: str) -> None:
    stranger = Desk(desk.service, desk.signer)
    (foreign,) = await stranger.post(stranger.capture(0))
    (live,) = await desk.post(desk.capture(0, mode="live"))
    path = path.replace("?", f"?client_id={desk.client_id}&mode=test&")
    for cursor in (foreign.id, live.id, new_id("ent"), "x"):
        answer = await desk.call("GET", f"{path}cursor={cursor}", **own(desk))
        assert answer.status_code == 422
        (fault,) = answer.json()["errors"]
        assert fault["field"] == "cursor", "the same words, whoever it belongs to"


async def test_the_operator_may_name_whose_entries_it_wants(desk: Desk) -> None:
    (made,) = await desk.post(desk.capture(0))
    answer = await desk.call("GET", f"/entries?client_id={desk.client_id}")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "mode")
    answer = await desk.call("GET", f"/entries?client_id={desk.client_id}&mode=test")
    assert [one["entry_id"] for one in answer.json()["items"]] == [made.id]
    assert len(answer.json()["items"][0]["postings"]) == 3


async def test_pages_of_a_statement_are_its_csv_to_the_unit(desk: Desk) -> None:
    await desk.terms(hold_days=0, reserve_bps=500, reserve_days=10, destination="bank")
    captures = [desk.capture(0, 1000 + n) for n in range(5)]
    await desk.post(*captures)
    await desk.settle(end_of(0))
    await desk.post(refund(captures[1], 400, "pending"))
    await ask(desk, 700)
    query = f"client_id={desk.client_id}&mode=test&{PERIOD}"
    content = (await desk.call("GET", f"/statements.csv?{query}", **own(desk))).content
    first, *lines, last = csv.DictReader(io.StringIO(content.decode()))
    items = await paged(desk, f"/statements?{query}")
    assert [one["entry_id"] for one in items] == [row["entry_id"] for row in lines]
    for name in ("pending", "available", "held", "debt", "balance"):
        assert [one[f"{name}_minor"] for one in items] == [int(row[name]) for row in lines], name
    assert [one["reference"] for one in items] == [row["reference"] for row in lines]
    whole = await get(desk, f"/statements?{query}&limit=200")
    for balances, row in ((whole["opening"], first), (whole["closing"], last)):
        for name in ("pending", "available", "held", "debt", "balance"):
            assert balances[f"{name}_minor"] == int(row[name]), name
    assert whole["closing"]["held_minor"] > 0
    (now,) = (await get(desk, f"/balances?client_id={desk.client_id}"))["holdings"]
    assert {name: now[name] for name in whole["closing"]} == whole["closing"]
    later = PERIOD.replace(f"from={TODAY - DAY}", f"from={TODAY + DAY}")
    begun = await get(desk, f"/statements?client_id={desk.client_id}&mode=test&{later}")
    assert (begun["opening"], begun["items"]) == (whole["closing"], [])
    path = f"/statements?client_id={desk.client_id}&mode=test&{later}&cursor="
    early = await desk.call("GET", path + items[0]["entry_id"], **own(desk))
    assert early.status_code == 422, "a cursor of another period"


async def test_what_a_client_has_is_told_by_currency_as_of_any_instant(desk: Desk) -> None:
    before = dt.datetime.now(dt.UTC)
    paid = desk.capture(0)
    await desk.post(paid, desk.capture(0, 1999, currency="USD"))
    await desk.post(refund(paid, 1500, "pending"))  # 1,470 are there: a debt of 30
    path = f"/balances?client_id={desk.client_id}&mode=test"
    rwf, usd = (await get(desk, path))["holdings"]
    assert (rwf["currency"], rwf["held_minor"], rwf["debt_minor"], rwf["balance_minor"]) == (
        "RWF", 1500, -30, 1470,
    )  # fmt: skip
    assert (usd["currency"], usd["pending_minor"], usd["refund_due_minor"]) == ("USD", 1959, 0)
    then = (await get(desk, f"{path}&at={before.isoformat().replace('+', '%2B')}"))["holdings"]
    assert {one["balance_minor"] for one in then} <= {0}


async def test_a_client_sees_the_exceptions_about_its_own_payments_alone(desk: Desk) -> None:
    provider, ledger = "sim-" + new_id("m"), desk.service
    less, other, gone, named = await book(ledger, provider, 4, client_id=desk.client_id)
    (strange,) = await book(ledger, provider)
    at = (T0 + dt.timedelta(minutes=3)).isoformat()
    lines = [
        line(less, amount=less.amount_minor - 100),
        line(other, currency="USD", amount="15.00"),
        line(strange, amount=1),
        line(reference="unknown", amount=9999, fee=25, at=at),
        line(named, kind="refund", amount=-5, reference="odd", ours=named.payment_id),
        line(named),
    ]
    await take(ledger, provider, lines)
    await run(ledger, provider, T0 + dt.timedelta(days=3))
    items = await paged(desk, "/client-exceptions?")
    assert {(one["kind"], one["payment_id"]) for one in items} == {
        ("amount_differs", less.payment_id), ("currency_differs", other.payment_id),
        ("missing_there", gone.payment_id), ("missing_here", named.payment_id),
    }  # fmt: skip
    assert [one["id"] for one in items] == sorted((o["id"] for o in items), reverse=True)
    (differs,) = await paged(desk, f"/client-exceptions?payment_id={less.payment_id}")
    assert (differs["stated_minor"], differs["expected_minor"]) == (1400, 1500)
    assert not {"import_id", "line_no", "assignee", "note", "resolution", "approved_by"} & set(
        differs
    ), "what the operator does about it is the operator's"
    assert len(await paged(desk, "/client-exceptions?state=open")) == 4
    assert await paged(desk, "/client-exceptions?state=resolved") == []
    assert len(await paged(desk, "/client-exceptions?currency=USD&kind=currency_differs")) == 1
    for tenant in (own(desk, "live"), {"client_id": new_id("cli"), "mode": "test"}):
        assert (await get(desk, "/client-exceptions", **tenant))["items"] == []
    theirs = await get(desk, "/client-exceptions", client_id=strange.client_id, mode="test")
    assert [one["payment_id"] for one in theirs["items"]] == [strange.payment_id]
    nobody = await desk.call("GET", "/client-exceptions")
    assert (nobody.status_code, nobody.json()["code"]) == (403, "clients_only")
    async with ledger.database.request(client_id=desk.client_id, mode="test") as tx:
        rows = await tx.fetch("select client_id from reconciliation_exceptions")
        assert {row["client_id"] for row in rows} == {desk.client_id}, "the second wall"
        assert len(rows) == 4


async def test_a_stranger_finds_nothing_on_any_path(desk: Desk) -> None:
    await desk.terms(hold_days=0, destination="bank")
    paid = desk.capture(0, 20_000)
    (entry,) = await desk.post(paid)
    settled = await desk.settle(end_of(0))
    payout = (await ask(desk, 2000)).json()["id"]
    shop = Shop(desk.service, desk.signer, client_id=desk.client_id)
    invoice = (await shop.issued())["id"]
    lists = [
        f"/entries?client_id={desk.client_id}&mode=test",
        f"/entries?payment_id={paid.payment_id}",
        f"/settlements?client_id={desk.client_id}", f"/payouts?client_id={desk.client_id}",
        f"/invoices?client_id={desk.client_id}", f"/invoices?recipient_client_id={desk.client_id}",
        f"/customers?client_id={desk.client_id}",
        f"/client-exceptions?payment_id={paid.payment_id}",
    ]  # fmt: skip
    ones = [
        f"/entries/{entry.id}", f"/settlements/{settled}", f"/settlements/{settled}/lines",
        f"/settlements/{settled}/statement.csv", f"/settlements/{settled}/statement.pdf",
        f"/payouts/{payout}", f"/invoices/{invoice}", f"/invoices/{invoice}.pdf",
        *(f"/statements{kind}?client_id={desk.client_id}&mode=test&{PERIOD}"
          for kind in ("", ".csv", ".pdf")),
    ]  # fmt: skip
    scope = f"ledger:read {READ}"
    for path in ones[:8]:
        mine = await desk.call("GET", path, scope=scope, **own(desk))
        assert mine.status_code == 200, (path, mine.text)
    for tenant in ({"client_id": new_id("cli"), "mode": "test"}, own(desk, "live")):
        for path in lists:
            answer = await desk.call("GET", path, scope=scope, **tenant)
            assert answer.status_code == 200 and answer.json()["items"] == [], (path, tenant)
        for path in ones:
            answer = await desk.call("GET", path, scope=scope, **tenant)
            assert answer.status_code == 404, (path, tenant)
            assert desk.client_id not in answer.text
        path = f"/balances?client_id={desk.client_id}&mode=test"
        found = await get(desk, path, **tenant)
        assert (found["balances"], found["holdings"]) == ([], [])
