"""Payers: a customer with a portal sees and pays its own invoices, and nobody else's."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from ..images import png
from .billing_house import BASE, ISSUER, Shop, news_kept
from .paying_house import PHONE, open_shop
from .paying_house import Shop as Till

SCOPE = "invoices:payer"
METHOD = {"currency": "RWF", "service": "collection", "route": "payment", "label": "Momo"}


@pytest.fixture
async def till(
    ledger_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, portal: TokenSigner
) -> AsyncIterator[Till]:
    """A ledger before a gateway."""
    operator = {"LEDGER_OPERATOR_CLIENT_ID": "cli_operator"}
    async with open_shop(ledger_env, monkeypatch, portal, **operator) as made:
        yield made


@pytest.fixture
async def shop(till: Till) -> Shop:
    """A merchant that takes mobile money."""
    made = Shop(till.ledger, till.portal)
    await takes_money(made)
    return made


async def takes_money(shop: Shop) -> None:
    """Let an issuer's payers use one service."""
    path = f"/issuers/{(await shop.issuer())['id']}/payment-methods"
    assert (await shop.call("PUT", path, {"methods": [METHOD]})).status_code == 200


async def payer(shop: Shop, **changes: Any) -> str:
    """A customer whose portal is on."""
    return await shop.new_customer(portal_enabled=True, email="keza@example.com", **changes)


async def as_payer(
    shop: Shop, customer: str, path: str = "", method: str = "GET", body: Any = None
) -> Any:
    """Call the ledger as portal-api does for a payer."""
    return await shop.call(method, f"/payer{path}", body, scope=SCOPE, payer=customer)


async def test_a_payer_sees_its_invoices_and_never_a_draft(shop: Shop) -> None:
    customer = await payer(shop)
    issued = await shop.issued(5000, customer_id=customer)
    draft = await shop.draft(customer_id=customer)
    page = (await as_payer(shop, customer, "/invoices")).json()
    assert [(one["id"], one["open_minor"]) for one in page["items"]] == [(issued["id"], 5000)]
    assert (await as_payer(shop, customer, "/invoices?state=paid")).json()["items"] == []
    one = (await as_payer(shop, customer, f"/invoices/{issued['id']}")).json()
    assert (one["number"], one["lines"][0]["description"]) == (issued["number"], "Books")
    assert one["methods"] == [{"service": "collection", "label": "Momo"}]
    paper = await as_payer(shop, customer, f"/invoices/{issued['id']}/pdf")
    assert paper.content.startswith(b"%PDF")
    for path in ("", "/pdf", "/status"):
        asked = await as_payer(shop, customer, f"/invoices/{draft['id']}{path}")
        assert asked.status_code == 404


async def test_a_payer_sees_nothing_of_another_customer_of_the_same_client(shop: Shop) -> None:
    mine, other = await payer(shop), await payer(shop)
    theirs = await shop.issued(7000, customer_id=other)
    assert (await as_payer(shop, mine, "/invoices")).json()["items"] == []
    for path in ("", "/status", "/pdf"):
        asked = await as_payer(shop, mine, f"/invoices/{theirs['id']}{path}")
        assert asked.status_code == 404, path
    body = {"phone": PHONE, "service": "collection"}
    paid = await as_payer(shop, mine, f"/invoices/{theirs['id']}/pay", "POST", body)
    assert paid.status_code == 404
    assert (await shop.find(theirs["id"]))["locked_by"] is None
    statement = (await as_payer(shop, mine, "/statement")).json()
    assert statement["totals"] == statement["invoices"] == []
    assert (await as_payer(shop, other, "/statement")).json()["totals"][0]["open_minor"] == 7000


async def test_row_level_security_alone_keeps_customers_apart(shop: Shop) -> None:
    mine, other = await payer(shop), await payer(shop)
    await shop.issued(7000, customer_id=other)
    tables = ("customers", "invoices", "invoice_lines")
    for customer, seen in ((mine, [1, 0, 0]), (other, [1, 1, 1])):
        async with shop.ledger.database.request(
            client_id=shop.client_id or "", mode="test", customer_id=customer
        ) as tx:
            found = [await tx.value(f"select count(*) from {table}") for table in tables]
        assert found == seen


async def test_a_payer_pays_through_the_same_intent_as_guests(shop: Shop, till: Till) -> None:
    customer = await payer(shop)
    row = await shop.issued(5000, customer_id=customer)
    body = {"phone": PHONE, "service": "collection"}
    path = f"/invoices/{row['id']}"
    started = await as_payer(shop, customer, f"{path}/pay", "POST", body)
    assert started.status_code == 202, started.text
    assert started.json()["locked"] and started.json()["payment"]["state"] == "posted"
    again = await as_payer(shop, customer, f"{path}/pay", "POST", body)
    assert (again.status_code, again.json()["code"]) == (409, "payment_under_way")
    (sent,) = till.gateway.bodies
    assert (sent["amount_minor"], sent["customer_id"]) == (5000, customer)
    status = (await as_payer(shop, customer, f"{path}/status")).json()
    assert status["payment"]["payment_status"] == "processing"


async def test_the_operators_own_customers_are_payers_too(shop: Shop) -> None:
    operator = Shop(shop.ledger, shop.portal, client_id=None)
    issuer = await operator.issuer(name="The operator")
    await takes_money(operator)
    mine, other = await payer(operator), await payer(operator)
    row = await operator.issued(900, customer_id=mine)

    async def ask(customer: str, path: str, method: str = "GET", body: Any = None) -> Any:
        claims = {"customer_id": customer, "mode": "test"}
        transport = httpx.ASGITransport(app=shop.ledger.app)
        headers = operator.headers(SCOPE, **claims)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
            return await http.request(method, BASE + path, json=body, headers=headers)

    me = (await ask(mine, "/payer")).json()
    assert me["issuer"]["name"] == issuer["name"]
    seen = (await ask(mine, f"/payer/invoices/{row['id']}")).json()
    assert seen["methods"] == [{"service": "collection", "label": "Momo"}]
    assert (await ask(other, f"/payer/invoices/{row['id']}")).status_code == 404
    body = {"phone": PHONE, "service": "collection"}
    path = f"/payer/invoices/{row['id']}/pay"
    assert (await ask(other, path, "POST", body)).status_code == 404
    assert (await ask(mine, path, "POST", body)).status_code == 202


async def test_a_payer_changes_how_it_is_reached_and_nothing_else(shop: Shop) -> None:
    customer = await payer(shop, tax_id="T-9", client_ref="C-9")
    me = (await as_payer(shop, customer)).json()
    assert (me["issuer"]["name"], me["tax_id"]) == (ISSUER["name"], "T-9")
    wanted = {"name": "Keza U.", "email": "k@example.com", "phone": PHONE, "locale": "fr",
              "address": "KN 1", "version": me["version"]}  # fmt: skip
    async with news_kept(shop.ledger) as news:
        changed = await as_payer(shop, customer, "", "PUT", wanted)
    assert changed.json() | wanted == changed.json() | {"version": me["version"]} | {
        k: v for k, v in wanted.items() if k != "version"
    }
    assert changed.json()["version"] == me["version"] + 1
    ((kind, told),) = news
    assert kind == "customer.updated.v1" and told["email"] == "k@example.com"
    (row,) = await shop.fetch("select * from customers where id = $1", customer)
    assert (row["tax_id"], row["client_ref"], row["portal_enabled"]) == ("T-9", "C-9", True)
    stale = await as_payer(shop, customer, "", "PUT", wanted)
    assert (stale.status_code, stale.json()["current_version"]) == (409, me["version"] + 1)
    for field in ("tax_id", "active", "portal_enabled", "client_ref"):
        refused = await as_payer(shop, customer, "", "PUT", wanted | {field: "x"})
        assert refused.status_code == 422 and field in refused.text


@pytest.mark.parametrize("change", [{"portal_enabled": False}, {"active": False}])
async def test_a_customer_whose_portal_is_off_is_refused_by_the_ledger_too(
    shop: Shop, change: dict[str, bool]
) -> None:
    customer = await payer(shop)
    body = {"name": "x", "portal_enabled": True, "version": 1} | change
    assert (await shop.call("PUT", f"/customers/{customer}", body)).status_code == 200
    for path in ("", "/invoices", "/statement", "/statement.pdf", "/logo"):
        asked = await as_payer(shop, customer, path)
        assert (asked.status_code, asked.json()["code"]) == (403, "portal_off"), path


async def test_only_a_token_of_the_portal_that_names_a_customer_is_let_in(
    shop: Shop, till: Till
) -> None:
    customer = await payer(shop)
    nobody = await shop.call("GET", "/payer", scope=SCOPE)
    assert (nobody.status_code, nobody.json()["code"]) == (403, "not_allowed")
    reader = await shop.call("GET", "/payer", payer=customer)
    assert reader.status_code == 403
    assert (await as_payer(shop, new_id("cus"))).status_code == 403
    stranger = Shop(shop.ledger, shop.portal)
    assert (await as_payer(stranger, customer)).status_code == 403


async def test_statement_logo_and_bad_input(shop: Shop) -> None:
    customer = await payer(shop)
    await shop.issued(5000, customer_id=customer)
    paper = await as_payer(shop, customer, "/statement.pdf")
    assert paper.content.startswith(b"%PDF")
    (ages,) = (await as_payer(shop, customer, "/statement")).json()["totals"]
    assert (ages["current"], ages["open_minor"]) == (5000, 5000)
    assert (await as_payer(shop, customer, "/logo")).status_code == 404
    image = png(64, 16)
    path = f"/issuers/{(await shop.issuer())['id']}/logo"
    assert (await shop.call("PUT", path, content=image)).status_code == 200
    assert (await as_payer(shop, customer, "/logo")).content == image
    assert (await as_payer(shop, customer)).json()["issuer"]["logo"]["width"] == 64
    assert (await as_payer(shop, customer, "/invoices?state=draft")).status_code == 422
    assert (await as_payer(shop, customer, "/invoices/%00")).status_code in (404, 422)


async def test_portal_is_off_unless_said_and_a_list_without_it_leaves_it(shop: Shop) -> None:
    made = (await shop.call("POST", "/customers", {"name": "x", "client_ref": "C-1"})).json()
    assert made["portal_enabled"] is False
    path = f"/customers/{made['id']}"
    on = await shop.call(
        "PUT", path, {"name": "x", "client_ref": "C-1", "portal_enabled": True, "version": 1}
    )
    assert on.json()["portal_enabled"] is True
    kept = await shop.call("PUT", path, {"name": "y", "client_ref": "C-1", "version": 2})
    assert kept.json()["portal_enabled"] is True
    async with news_kept(shop.ledger) as news:
        for content in (
            b"client_ref,name\nC-1,z\nC-2,new\n",
            b"client_ref,name,portal_enabled\nC-1,z,\nC-2,new,true\n",
            b"client_ref,name,portal_enabled\nC-1,z,no\nC-2,new,yes\n",
        ):
            answer = await shop.call("POST", "/customer-imports", content=content)
            assert answer.status_code == 200, answer.text
    assert [(told["client_ref"], told["portal_enabled"]) for _, told in news] == [
        ("C-1", True), ("C-2", False), ("C-2", True), ("C-1", False),
    ]  # fmt: skip
    wrong = await shop.call(
        "POST", "/customer-imports", content=b"client_ref,name,portal_enabled\nC-1,z,maybe\n"
    )
    assert wrong.json()["errors"][0]["field"] == "line 2, portal_enabled"
