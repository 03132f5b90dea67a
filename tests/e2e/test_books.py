"""A merchant's app reads its own books through the gateway, and finds nothing of anybody else's."""

import datetime as dt
from typing import Any

import httpx
import pytest
from mospay_dev.demo.invoices import Billing
from mospay_dev.demo.portal import Portal
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from tests.conftest import LiveStack

from .test_refunds import Merchant, until

HEADER = "provider_reference,reference,kind,amount,currency,fee,occurred_at"
LISTS = ("journal-entries", "settlements", "payouts", "reconciliation-exceptions", "invoices",
         "customers")  # fmt: skip


class Reader:
    """A client app that reads, whatever the answer."""

    def __init__(self, live: LiveStack, client: int, api_key: str = "") -> None:
        headers = {"X-API-Key": api_key or live.seed.clients[client].api_key}
        self._http = httpx.Client(base_url=live.seed.gateway_url, headers=headers, timeout=60)

    def ask(self, path: str, **query: Any) -> httpx.Response:
        """GET below /v1."""
        return self._http.get(f"/v1/{path}", params=query)

    def get(self, path: str, **query: Any) -> Any:
        """GET below /v1 and insist on success."""
        answer = self.ask(path, **query)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def all(self, path: str, **query: Any) -> list[Any]:
        """Every item of a list, three a page."""
        items: list[Any] = []
        page: dict[str, Any] = {"next_cursor": None}
        while True:
            more = {"cursor": page["next_cursor"]} if page["next_cursor"] is not None else {}
            page = self.get(path, limit=3, **query, **more)
            items += page["items"]
            if page["next_cursor"] is None:
                return items


def operator(live: LiveStack) -> Portal:
    """The admin at the portal."""
    portal = Portal(live.portal_url)
    portal.sign_in(live.admin_email, live.admin_password, "admin")
    return portal


def statement_line(live: LiveStack, paid: dict[str, Any], amount_minor: int) -> None:
    """Have the provider's statement say another amount of a payment."""
    keys = live.stack.cluster.keys
    signer = TokenSigner("portal-api", keys["portal_signing"])
    token = signer.token("ledger", "ledger:read ledger:write", actor="usr_demo")
    line = (
        f"{paid['provider_reference']},,payment,{amount_minor},RWF,0,"
        f"{dt.datetime.now(dt.UTC).isoformat()}"
    )
    answer = httpx.post(
        f"{live.stack.url('ledger')}/internal/v1/reconciliation/imports",
        params={"microservice": paid["microservice"], "mode": "test", "preset": "simulator",
                "file_name": f"{new_id('file')}.csv"},
        content=f"{HEADER}\n{line}\n".encode(),
        headers={"Authorization": f"Bearer {token}"},
    )  # fmt: skip
    assert answer.status_code == 202, answer.text


@pytest.fixture(scope="module")
def story(live_stack: LiveStack) -> dict[str, str]:
    """A payment of the first merchant that was booked, settled, paid out, and disagreed about."""
    client = live_stack.seed.clients[0].client_id
    paid = Merchant(live_stack, 0).pay(3000, "+250780000000")
    assert paid["status"] == "succeeded", paid
    reader, portal = Reader(live_stack, 0), operator(live_stack)
    until(lambda: len(reader.all("journal-entries", payment_id=paid["id"])), 1)
    before = len(reader.all("settlements"))
    # past a day's hold in any time zone, and past the days that an earlier run settled
    as_of = dt.datetime.now(dt.UTC) + dt.timedelta(days=4 + before)
    run = {"mode": "test", "client_id": client, "as_of": as_of.isoformat()}
    (settlement,) = portal.post("/settlements/run", run)["settlements"]
    payout = portal.post(
        "/payouts",
        {"client_id": client, "mode": "test", "currency": "RWF", "amount_minor": 1000,
         "destination": "Bank of Kigali …4410"},
        key=new_id("key"),
    )  # fmt: skip
    billing = Billing(live_stack.stack, client)
    billing.open()
    invoice = billing.invoice(5000)
    statement_line(live_stack, paid, 2900)
    until(lambda: len(reader.all("reconciliation-exceptions", payment_id=paid["id"])), 1)
    (entry,) = reader.all("journal-entries", payment_id=paid["id"])
    return {"payment": paid["id"], "entry": entry["id"], "settlement": settlement,
            "payout": payout["id"], "invoice": invoice["id"],
            "customer": invoice["customer_id"]}  # fmt: skip


def ones(story: dict[str, str]) -> list[str]:
    """The paths of single things and files."""
    settlement = f"settlements/{story['settlement']}"
    return [
        f"journal-entries/{story['entry']}", settlement, f"{settlement}/lines",
        f"{settlement}/statement?format=csv", f"{settlement}/statement",
        f"payouts/{story['payout']}", f"invoices/{story['invoice']}",
        f"invoices/{story['invoice']}.pdf",
    ]  # fmt: skip


def test_a_merchants_app_reads_its_books_through_the_gateway(
    live_stack: LiveStack, story: dict[str, str]
) -> None:
    reader = Reader(live_stack, 0)
    entry = reader.get(f"journal-entries/{story['entry']}")
    assert (entry["kind"], entry["amount_minor"], entry["payment_id"]) == (
        "capture", 3000, story["payment"],
    )  # fmt: skip
    lines = reader.all(f"settlements/{story['settlement']}/lines")
    settled = reader.get(f"settlements/{story['settlement']}")
    assert story["payment"] in {line["payment_id"] for line in lines}
    assert sum(line["net_minor"] for line in lines) == settled["net_minor"]
    for name, thing in (("settlements", "settlement"), ("payouts", "payout"),
                        ("invoices", "invoice"), ("customers", "customer")):  # fmt: skip
        assert story[thing] in {one["id"] for one in reader.all(name)}, name
    payout = reader.get(f"payouts/{story['payout']}")
    assert [step["status"] for step in payout["steps"]] == ["created"]
    assert "created_by" not in payout and "actor" not in payout["steps"][0]
    invoice = reader.get(f"invoices/{story['invoice']}")
    assert (invoice["open_minor"], invoice["lines"][0]["total_minor"]) == (5000, 5000)
    (found,) = reader.all("reconciliation-exceptions", payment_id=story["payment"])
    assert (found["kind"], found["stated_minor"], found["expected_minor"]) == (
        "amount_differs", 2900, 3000,
    )  # fmt: skip


def test_statement_balances_and_files_agree(live_stack: LiveStack, story: dict[str, str]) -> None:
    reader = Reader(live_stack, 0)
    today = dt.datetime.now(dt.UTC).date()
    days = {"from": today - dt.timedelta(days=1), "to": today + dt.timedelta(days=1)}
    first = reader.get("statements", **days)
    items = reader.all("statements", **days)
    assert items[-1]["balance_minor"] == first["closing"]["balance_minor"]
    assert (
        first["opening"]["balance_minor"] + sum(i["change_minor"] for i in items)
        == (first["closing"]["balance_minor"])
    )
    (now,) = [one for one in reader.get("balances")["items"] if one["currency"] == "RWF"]
    assert {name: now[name] for name in first["closing"]} == first["closing"]
    table = reader.ask("statements", format="csv", **days)
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == len(items) + 3  # header, opening, closing
    for path in (
        f"settlements/{story['settlement']}/statement",
        f"invoices/{story['invoice']}.pdf",
    ):
        paper = reader.ask(path)
        assert paper.content.startswith(b"%PDF"), path
        assert paper.headers["content-type"] == "application/pdf"
    assert reader.ask("statements", format="pdf", **days).content.startswith(b"%PDF")


def test_another_client_and_another_mode_find_nothing_of_it(
    live_stack: LiveStack, story: dict[str, str]
) -> None:
    owner = live_stack.seed.clients[0]
    live_key = operator(live_stack).post(
        f"/clients/{owner.client_id}/credentials", {"mode": "live", "kind": "api_key"}
    )["api_key"]
    stranger, in_live = Reader(live_stack, 1), Reader(live_stack, 0, live_key)
    until(lambda: in_live.ask("balances").status_code, 200)  # the gateway knows the key
    for reader in (stranger, in_live):
        for path in ones(story):
            answer = reader.ask(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
            assert owner.client_id not in answer.text
        for name in LISTS:
            text = reader.ask(name, limit=200).text
            assert not [key for key, value in story.items() if value in text], name
        assert reader.all("journal-entries", payment_id=story["payment"]) == []
        assert reader.all("reconciliation-exceptions", payment_id=story["payment"]) == []
        cursor = reader.ask("journal-entries", cursor=story["entry"])
        assert (cursor.status_code, cursor.json()["errors"][0]["field"]) == (422, "cursor")
    assert in_live.get("balances")["items"] == []
