"""Statements: a month of days agrees with the books to the unit, as rows, as CSV and on paper."""

import asyncio
import csv
import datetime as dt
import io
from typing import Any

import pypdfium2
import pytest
from mospay_ledger import papers
from mospay_shared.contracts import PaymentEventV1
from mospay_shared.ids import new_id

from .conftest import refund
from .settling_desk import DAY, FIRST, Desk, end_of
from .test_payouts import ask, step

ARABIC, HEBREW, ACCENTED = "متجر كيغالي", "חנות קיגאלי", "Société Générale d'Électricité Ñandú Łódź"


def text_of(pdf: bytes) -> list[str]:
    """The text of a PDF, a page each."""
    document = pypdfium2.PdfDocument(pdf)
    return [page.get_textpage().get_text_bounded() for page in document]


def table(content: bytes) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(io.StringIO(content.decode())))


async def test_a_month_of_days_agrees_on_settlements_statement_and_books(desk: Desk) -> None:
    await desk.terms(hold_days=2, reserve_bps=500, reserve_days=10, destination="bank")
    captured: list[PaymentEventV1] = []
    made: list[str] = []
    for day in range(31):
        bodies = [desk.capture(day, 1000 + 37 * n + day) for n in range(3)]
        captured += bodies
        await desk.post(*bodies)
        if day % 5 == 4:
            await desk.post(refund(captured[day - 4], 300, "succeeded"))
        run = {"mode": "test", "client_id": desk.client_id, "as_of": end_of(day).isoformat()}
        done = (await desk.call("POST", "/settlements/run", json=run)).json()
        assert done["failed"] == []
        made += done["settlements"]
    payout = (await ask(desk, 20_000)).json()
    payout = (await step(desk, payout, "approve")).json()
    await step(desk, payout, "pay")
    assert len(made) == 29  # the first two days had nothing older than the hold
    rows = [await desk.settlement(one) for one in made]
    assert [row["local_day"] for row in rows] == [FIRST + n * DAY for n in range(2, 31)]
    assert sum(row["gross_minor"] for row in rows) == sum(
        body.amount_minor for body in captured[: 29 * 3]
    )
    have = await desk.balances()
    released = [row for row in rows if row["reserve_released_at"] is not None]
    assert released
    kept = sum(row["reserve_minor"] for row in rows) - sum(r["reserve_minor"] for r in released)
    assert -have["reserve"] == kept
    refunded = 6 * 300  # of what was available already, so no line of a settlement
    settled = sum(row["net_minor"] for row in rows)
    assert -have["available"] == settled - kept - refunded - 20_000
    # the account's statement: postings are of today, whatever days were settled
    today = dt.datetime.now(dt.UTC).date()
    query = f"client_id={desk.client_id}&mode=test&currency=RWF&from={today - DAY}&to={today + DAY}"
    found = await desk.call("GET", f"/statements.csv?{query}")
    first, *lines, last = table(found.content)
    assert (first["kind"], last["kind"]) == ("opening_balance", "closing_balance")
    assert {first[name] for name in ("pending", "available", "balance")} == {"0"}
    assert int(last["pending"]) == -have["pending"]
    assert int(last["available"]) == -have["available"]
    assert int(last["held"]) == -have["reserve"]
    assert int(last["balance"]) == -sum(have.values()) == int(lines[-1]["balance"])
    for name in ("pending", "available", "held", "debt"):
        assert sum(int(line[name]) for line in lines) == int(last[name])
    (fees,) = await desk.fetch(
        "select sum(fee_minor) as minor from journal_entries where client_id = $1", desk.client_id
    )
    gross = sum(body.amount_minor for body in captured)
    assert int(last["balance"]) == gross - fees["minor"] - refunded - 20_000


async def test_a_settlement_is_read_a_page_at_a_time_and_as_csv(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    await desk.post(*(desk.capture(0, 1000 + n) for n in range(5)))
    made = await desk.settle(end_of(0))
    own = {"client_id": desk.client_id, "mode": "test"}
    one = (await desk.call("GET", f"/settlements/{made}", **own)).json()
    assert (one["line_count"], one["net_minor"]) == (5, 5010 - 100)
    numbers: list[int] = []
    cursor: int | None = 0
    while cursor is not None:
        path = f"/settlements/{made}/lines?limit=2&cursor={cursor}"
        page = (await desk.call("GET", path, **own)).json()
        numbers += [line["number"] for line in page["items"]]
        cursor = page["next_cursor"]
    assert numbers == [1, 2, 3, 4, 5]
    answer = await desk.call("GET", f"/settlements/{made}/statement.csv", **own)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = table(answer.content)
    assert sum(int(row["net"]) for row in rows) == one["net_minor"]
    listed = (await desk.call("GET", f"/settlements?from={FIRST}&to={FIRST}", **own)).json()
    assert [row["id"] for row in listed["items"]] == [made]
    assert (await desk.call("GET", f"/settlements?to={FIRST - DAY}", **own)).json()["items"] == []
    foreign = {"client_id": new_id("cli"), "mode": "test"}
    for tail in ("", "/lines", "/statement.csv", "/statement.pdf"):
        answer = await desk.call("GET", f"/settlements/{made}{tail}", **foreign)
        assert (answer.status_code, answer.json()["code"]) == (404, "settlement_missing"), tail
    query = f"client_id={desk.client_id}&mode=test&currency=RWF&from={FIRST}&to={FIRST}"
    for kind in ("csv", "pdf"):
        assert (await desk.call("GET", f"/statements.{kind}?{query}", **foreign)).status_code == 404


@pytest.mark.parametrize("name", [ARABIC, HEBREW, ACCENTED, "#strong[x] $a_1$ *b* \\ @ref <l>"])
async def test_a_settlement_on_paper_shows_the_name_as_it_is(desk: Desk, name: str) -> None:
    await desk.terms(hold_days=0)
    await desk.lives_in("Africa/Kigali", name)
    await desk.post(desk.capture(0))
    made = await desk.settle(end_of(0))
    answer = await desk.call("GET", f"/settlements/{made}/statement.pdf")
    assert answer.headers["content-type"] == "application/pdf"
    (page,) = text_of(answer.content)
    if name in (ARABIC, HEBREW):  # right to left: extractors differ in the order, not in what
        assert set(name.replace(" ", "")) <= set(page)
    else:
        assert name in " ".join(page.split())
    assert "1,470" in page


async def test_a_long_list_goes_over_pages_with_its_header_and_their_numbers(desk: Desk) -> None:
    await desk.terms(hold_days=0)
    await desk.lives_in("UTC")
    for _ in range(2):
        await desk.post(*(desk.capture(0, 1000 + n) for n in range(60)))
    made = await desk.settle(end_of(0))
    pages = text_of((await desk.call("GET", f"/settlements/{made}/statement.pdf")).content)
    assert len(pages) > 2
    for number, page in enumerate(pages, 1):
        assert f"Page {number} of {len(pages)}" in page
        assert "Reference" in page
    today = dt.datetime.now(dt.UTC).date()
    query = f"client_id={desk.client_id}&mode=test&currency=RWF&from={today}&to={today + DAY}"
    pages = text_of((await desk.call("GET", f"/statements.pdf?{query}")).content)
    assert "Opening balance" in pages[0]
    assert "Closing balance" in "".join(pages)


async def test_papers_are_the_same_bytes_bounded_and_refuse_what_they_cannot_show() -> None:
    data = {
        "issuer": {"name": "MosPay", "lines": ["1 Street"], "colour": "nonsense"},
        "client": {"name": "Shop", "id": "cli_1"}, "since": "2026-01-01", "until": "2026-01-31",
        "mode": "test", "currency": "RWF", "time_zone": "UTC", "opening": ["0"] * 5,
        "closing": ["0"] * 5, "lines": [],
    }  # fmt: skip
    one, two = await asyncio.gather(*(papers.render("statement", data) for _ in range(2)))
    assert one == two
    for template in ("nothing", "../brand", "Statement", ""):
        with pytest.raises(papers.PaperFailed):
            await papers.render(template, data)
    with pytest.raises(papers.PaperFailed):
        await papers.render("statement", {"issuer": {"name": "x"}})
    with pytest.raises(papers.PaperTooLarge):
        await papers.render("statement", {**data, "x": "y" * papers.BYTES_LIMIT})
    many = await asyncio.gather(
        *(papers.render("statement", data) for _ in range(papers.WAITING_LIMIT + 3)),
        return_exceptions=True,
    )
    assert sum(isinstance(made, papers.PapersBusy) for made in many) == 3
    assert await papers.render("statement", data) == one  # the queue is free again


@pytest.mark.parametrize(
    ("field", "query"),
    [
        ("to", "from=2026-02-01&to=2026-01-01"), ("to", "from=2024-01-01&to=2026-01-01"),
        ("from", "from=0001-01-01&to=2026-01-01"), ("to", "from=2026-01-01&to=9999-12-31"),
        ("from", "from=x&to=2026-01-01"), ("currency", "from=2026-01-01&to=2026-01-02&currency=r"),
    ],
)  # fmt: skip
async def test_bad_periods_name_the_field(desk: Desk, field: str, query: str) -> None:
    both = "" if "currency" in query else "&currency=RWF"
    path = f"/statements.csv?client_id=cli_x&mode=test&{query}{both}"
    answer = await desk.call("GET", path)
    assert answer.status_code == 422, answer.text
    assert field in answer.json()["errors"][0]["field"]


@pytest.mark.parametrize(
    ("path", "field", "body"),
    [
        ("/settlements/run", "as_of", {"mode": "live", "as_of": "2026-01-01T00:00:00Z"}),
        ("/settlements/run", "as_of", {"mode": "test", "as_of": "9999-12-31T23:59:59-14:00"}),
        ("/settlements/run", "as_of", {"mode": "test", "as_of": "2000-01-01T00:00:00Z"}),
        ("/settlements/run", "as_of", {"mode": "test", "as_of": "2026-01-01T00:00:00"}),
        ("/settlements/run", "client_id", {"mode": "test", "client_id": "a\x00"}),
        ("/settlement-terms", "hold_days", {"mode": "test", "hold_days": -1}),
        ("/settlement-terms", "hold_days", {"mode": "test"}),
        ("/settlement-terms", "minimum_minor",
         {"mode": "test", "hold_days": 1, "minimum_minor": 5}),
        ("/settlement-terms", "minimum_minor",
         {"mode": "test", "hold_days": 1, "currency": "RWF", "minimum_minor": 2**63}),
        ("/settlement-terms", "reserve_days", {"mode": "test", "hold_days": 1, "reserve_bps": 5}),
        ("/settlement-terms", "cut_off", {"mode": "test", "hold_days": 1, "cut_off": "24:00"}),
        ("/settlement-terms", "destination",
         {"mode": "test", "hold_days": 1, "destination": "a\x00"}),
        ("/settlement-terms", "effective_from",
         {"mode": "test", "hold_days": 1, "effective_from": "2020-01-01T00:00:00Z"}),
        ("/settlement-terms", "effective_from",
         {"mode": "test", "hold_days": 1, "effective_from": "9999-12-31T23:59:59Z"}),
    ],
)  # fmt: skip
async def test_bad_terms_and_runs_name_the_field(
    desk: Desk, path: str, field: str, body: dict[str, Any]
) -> None:
    answer = await desk.call("POST", path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_terms_are_listed_to_their_client_and_written_by_the_operator(desk: Desk) -> None:
    body = {"mode": "test", "client_id": desk.client_id, "hold_days": 3, "cut_off": "18:30"}
    own = {"client_id": desk.client_id, "mode": "test"}
    refused = await desk.call("POST", "/settlement-terms", json=body, **own)
    assert (refused.status_code, refused.json()["code"]) == (403, "operators_only")
    made = await desk.call("POST", "/settlement-terms", json=body)
    assert (made.status_code, made.json()["cut_off"]) == (201, "18:30")
    assert made.json()["created_by"] == "usr_a"
    listed = (await desk.call("GET", "/settlement-terms", **own)).json()
    assert [one["id"] for one in listed["items"]] == [made.json()["id"]]
    run = await desk.call("POST", "/settlements/run", json={"mode": "test"}, **own)
    assert run.status_code == 403
