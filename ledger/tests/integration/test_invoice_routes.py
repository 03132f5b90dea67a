"""Invoicing over HTTP: customers in and out, invoices step by step, bad input, whose they are."""

import csv
import io
from typing import Any

import pytest
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner

from .billing_house import READ, WRITE, Shop, news_kept

LINE = {"description": "School books", "quantity": "2.5", "unit_price_minor": 1500,
        "discount_bps": 1000, "tax_rate_bps": 1800}  # fmt: skip


@pytest.fixture
def shop(ledger: Service, portal: TokenSigner) -> Shop:
    """A merchant."""
    return Shop(ledger, portal)


@pytest.fixture
def stranger(ledger: Service, portal: TokenSigner) -> Shop:
    """Another merchant."""
    return Shop(ledger, portal)


@pytest.fixture
def operator(ledger: Service, portal: TokenSigner) -> Shop:
    """The operator."""
    return Shop(ledger, portal, client_id=None)


async def test_invoice_goes_from_draft_to_void_and_each_step_is_shown(shop: Shop) -> None:
    customer = await shop.customer()
    body = {"customer_id": customer, "currency": "RWF", "lines": [LINE], "reference": "PO-4"}
    made = await shop.call("POST", "/invoices", body)
    assert made.status_code == 201, made.text
    draft = made.json()
    assert (draft["total_minor"], draft["tax_minor"], draft["discount_minor"]) == (3983, 608, 375)
    assert draft["lines"][0]["quantity"] == "2.5"
    assert (draft["status"], draft["number"], draft["open_minor"]) == ("draft", None, 0)
    path = f"/invoices/{draft['id']}"
    changed = await shop.call("PUT", path, body | {"version": 1, "lines": [LINE, LINE]})
    assert (changed.json()["total_minor"], changed.json()["version"]) == (7966, 2)
    stale = await shop.call("PUT", path, body | {"version": 1})
    assert (stale.status_code, stale.json()["current_version"]) == (409, 2)
    issued = (await shop.call("POST", f"{path}/issue", {"version": 2})).json()
    assert (issued["status"], issued["open_minor"]) == ("issued", 7966)
    again = await shop.call("POST", f"{path}/issue", {})
    assert (again.status_code, again.json()["status_now"]) == (409, "issued")
    credited = await shop.call(
        "POST", f"{path}/credit-notes", {"amount_minor": 1000, "reason": "one book back"}
    )
    assert credited.status_code == 201
    (note,) = credited.json()["credit_notes"]
    assert (note["total_minor"], note["applied_minor"], note["created_by"]) == (1000, 1000, "usr_a")
    assert credited.json()["open_minor"] == 6966
    refused = await shop.call("POST", f"{path}/void", {"reason": "too late"})
    assert (refused.status_code, refused.json()["code"]) == (409, "step_refused")
    found = (await shop.call("GET", f"/credit-notes/{note['id']}")).json()
    assert found == note
    listed = (await shop.call("GET", "/invoices?status=issued")).json()["items"]
    assert [one["id"] for one in listed] == [draft["id"]]


async def test_drafts_are_deleted_as_they_were_read(shop: Shop) -> None:
    row = await shop.draft()
    assert (await shop.call("DELETE", f"/invoices/{row['id']}?version=2")).status_code == 409
    assert (await shop.call("DELETE", f"/invoices/{row['id']}?version=1")).status_code == 204
    assert (await shop.call("GET", f"/invoices/{row['id']}")).status_code == 404


async def test_stranger_and_payer_see_and_change_nothing(shop: Shop, stranger: Shop) -> None:
    row = await shop.issued()
    note = await shop.call("POST", f"/invoices/{row['id']}/credit-notes",
                           {"amount_minor": 1, "reason": "a cent"})  # fmt: skip
    note_id = note.json()["credit_notes"][0]["id"]
    customer = await shop.customer()
    gone = [
        ("GET", f"/invoices/{row['id']}", None),
        ("GET", f"/invoices/{row['id']}.pdf", None),
        ("GET", f"/credit-notes/{note_id}", None),
        ("GET", f"/credit-notes/{note_id}.pdf", None),
        ("GET", f"/customers/{customer}", None),
        ("PUT", f"/customers/{customer}", {"name": "x", "version": 1}),
        ("POST", f"/invoices/{row['id']}/issue", {}),
        ("POST", f"/invoices/{row['id']}/void", {"reason": "mine"}),
        ("POST", f"/invoices/{row['id']}/use-credit", {}),
        ("POST", f"/invoices/{row['id']}/credit-notes", {"amount_minor": 1, "reason": "mine"}),
        ("PUT", f"/invoices/{row['id']}",
         {"customer_id": customer, "currency": "RWF", "version": 1}),
        ("DELETE", f"/invoices/{row['id']}?version=1", None),
        ("POST", "/invoices", {"customer_id": customer, "currency": "RWF"}),
        ("GET", f"/ageing?mode=test&issuer_id={row['issuer_id']}", None),
        ("GET", f"/ageing.csv?mode=test&issuer_id={row['issuer_id']}", None),
    ]  # fmt: skip
    await stranger.issuer()
    for method, path, body in gone:
        answer = await stranger.call(method, path, body)
        assert answer.status_code == 404, (method, path, answer.text)
    for path in ("/invoices", "/customers"):
        assert (await stranger.call("GET", path)).json()["items"] == []
    assert len((await stranger.call("GET", "/issuers")).json()["items"]) == 1
    assert (await stranger.call("POST", "/invoices/run", {"mode": "test"})).status_code == 403
    own = {"name": "x", "mode": "test", "client_id": shop.client_id}
    assert (await stranger.call("PUT", "/issuers", own)).status_code == 403
    other = await shop.new_customer(name="Ben")
    assert (await shop.call("GET", f"/invoices/{row['id']}", payer=customer)).status_code == 200
    assert (await shop.call("GET", f"/invoices/{row['id']}", payer=other)).status_code == 404
    path = f"/invoices/{row['id']}/void"
    assert (await shop.call("POST", path, {"reason": "mine"}, payer=customer)).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [("GET", "/invoices", "ledger:read"), ("POST", "/invoices", READ),
     ("GET", "/customers", WRITE), ("GET", "/ageing?mode=test", "ledger:read")],
)  # fmt: skip
async def test_routes_need_their_scope(shop: Shop, method: str, path: str, scope: str) -> None:
    assert (await shop.call(method, path, {}, scope=scope)).status_code == 403


ODD: list[tuple[dict[str, Any], str]] = [
    ({"currency": "XXQ"}, "currency"),
    ({"currency": "rwf"}, "currency"),
    ({"due_on": "9999-12-31"}, "due_on"),
    ({"due_on": "0001-01-01"}, "due_on"),
    ({"due_on": "soon"}, "due_on"),
    ({"notes": "a\x00b"}, "notes"),
    ({"reference": "a\x00b"}, "reference"),
    ({"lines": [LINE | {"quantity": "0"}]}, "lines.0.quantity"),
    ({"lines": [LINE | {"quantity": "-1"}]}, "lines.0.quantity"),
    ({"lines": [LINE | {"quantity": "NaN"}]}, "lines.0.quantity"),
    ({"lines": [LINE | {"quantity": "1.0000001"}]}, "lines.0.quantity"),
    ({"lines": [LINE | {"quantity": "1e9999"}]}, "lines.0.quantity"),
    ({"lines": [LINE | {"unit_price_minor": 2**63}]}, "lines.0.unit_price_minor"),
    ({"lines": [LINE | {"unit_price_minor": -1}]}, "lines.0.unit_price_minor"),
    ({"lines": [LINE | {"description": "a\x00b"}]}, "lines.0.description"),
    ({"lines": [LINE | {"discount_minor": 1}]}, "lines.0.discount_minor"),
    ({"lines": [LINE | {"tax_rate_bps": 10_001}]}, "lines.0.tax_rate_bps"),
    ({"lines": [LINE] * 501}, "lines"),
    ({"lines": [LINE | {"quantity": "1000000000", "unit_price_minor": 2**53}]},
     "lines.0.unit_price_minor"),
]  # fmt: skip


@pytest.mark.parametrize(("odd", "field"), ODD, ids=lambda value: str(value)[:40])
async def test_bad_draft_is_a_problem_that_names_the_field(
    shop: Shop, odd: dict[str, Any], field: str
) -> None:
    body = {"customer_id": await shop.customer(), "currency": "RWF", "lines": [LINE]}
    answer = await shop.call("POST", "/invoices", body | odd)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_bad_parameters_are_problems_and_never_an_error_of_ours(shop: Shop) -> None:
    await shop.issuer()
    for path in (
        "/ageing?mode=test&as_of=9999-12-31", "/ageing?mode=test&as_of=0001-01-01",
        "/ageing?mode=both", "/invoices?limit=0", "/invoices?limit=201", "/invoices?status=lost",
        "/customers?q=%00", "/invoices?cursor=%00", "/invoices/inv_%00",
        "/fee-invoices?month=9999-12-31", "/fee-invoices?cursor=%00",
    ):  # fmt: skip
        answer = await shop.call("GET", path)
        assert answer.status_code == 422, (path, answer.text)
        assert answer.json()["errors"], path
    for path in ("/fee-invoices?cursor=a@b@c@99999999", "/invoices?cursor=zzz", "/customers?q=%25"):
        assert (await shop.call("GET", path)).status_code == 200, path
    zone = {"name": "x", "mode": "test", "time_zone": "Mars/Olympus", "version": 1}
    answer = await shop.call("PUT", "/issuers", zone)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "time_zone")
    same = {"name": "x", "mode": "test", "invoice_prefix": "A", "credit_prefix": "A", "version": 1}
    answer = await shop.call("PUT", "/issuers", same)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "credit_prefix")


async def test_issuer_is_made_once_and_changed_as_it_was_read(shop: Shop, operator: Shop) -> None:
    body = {"name": "Kigali Books", "mode": "test", "time_zone": "Africa/Kigali"}
    made = (await shop.call("PUT", "/issuers", body)).json()
    assert (made["kind"], made["client_id"], made["version"]) == ("client", shop.client_id, 1)
    twice = await shop.call("PUT", "/issuers", body)
    assert (twice.status_code, twice.json()["current_version"]) == (409, 1)
    changed = await shop.call("PUT", "/issuers", body | {"name": "New name", "version": 1})
    assert (changed.json()["name"], changed.json()["version"]) == ("New name", 2)
    seen = await operator.call("GET", f"/issuers?client_id={shop.client_id}")
    assert [one["id"] for one in seen.json()["items"]] == [made["id"]]


async def test_prefix_of_one_kind_of_paper_never_numbers_the_other(shop: Shop) -> None:
    row = await shop.issued()
    back = {"amount_minor": 1, "reason": "a franc"}
    await shop.call("POST", f"/invoices/{row['id']}/credit-notes", back)
    body = {"name": "x", "mode": "test", "version": 1}
    for field, prefix in (("invoice_prefix", "CRN"), ("credit_prefix", "INV")):
        other = {"invoice_prefix": "A", "credit_prefix": "B"} | {field: prefix}
        answer = await shop.call("PUT", "/issuers", body | other)
        assert answer.status_code == 422
        assert answer.json()["errors"][0] | {"message": ""} == {
            "field": field, "code": "taken", "message": "",
        }  # fmt: skip
    renamed = {"invoice_prefix": "A", "credit_prefix": "B"}
    assert (await shop.call("PUT", "/issuers", body | renamed)).status_code == 200
    assert (await shop.issued())["number"].startswith("A-")


async def test_customer_is_made_changed_found_and_given_up(shop: Shop) -> None:
    await shop.issuer()
    body = {"client_ref": "C-1", "name": "Amélie Uwase", "phone": "+250788123456"}
    async with news_kept(shop.ledger) as news:
        made = (await shop.call("POST", "/customers", body)).json()
        taken = await shop.call("POST", "/customers", body)
        path = f"/customers/{made['id']}"
        off = await shop.call("PUT", path, body | {"active": False, "version": 1})
        on = await shop.call("PUT", path, body | {"version": 2})
    assert (taken.status_code, taken.json()["code"]) == (409, "reference_taken")
    assert (off.json()["active"], on.json()["active"]) == (False, True)
    assert [kind for kind, data in news if data.get("customer_id") == made["id"]] == [
        "customer.created.v1", "customer.deactivated.v1", "customer.updated.v1",
    ]  # fmt: skip
    for words in ("amélie", "788123", "C-1"):
        found = await shop.call("GET", "/customers", params={"q": words})
        assert [one["id"] for one in found.json()["items"]] == [made["id"]], words
    assert (await shop.call("GET", "/customers?q=nobody")).json()["items"] == []
    stale = await shop.call("PUT", path, body | {"version": 1})
    assert (stale.status_code, stale.json()["current_version"]) == (409, 3)


async def test_inactive_customer_is_not_invoiced(shop: Shop) -> None:
    row = await shop.draft()
    await shop.call("PUT", f"/customers/{await shop.customer()}",
                    {"name": "x", "active": False, "version": 1})  # fmt: skip
    answer = await shop.call("POST", f"/invoices/{row['id']}/issue", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "step_refused")


async def test_pages_of_customers_and_invoices_have_each_once(shop: Shop) -> None:
    made = [await shop.new_customer(name=f"n{n}") for n in range(5)]
    rows = [(await shop.draft(customer_id=one))["id"] for one in made]
    for path, wanted in (("/customers", made), ("/invoices", rows)):
        found: list[str] = []
        cursor = ""
        while True:
            page = (await shop.call("GET", f"{path}?limit=2&cursor={cursor}")).json()
            found += [one["id"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = page["next_cursor"]
        assert found == wanted[::-1]


def as_list(*rows: tuple[str, ...]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("client_ref", "name", "email", "active"))
    writer.writerows(rows)
    return out.getvalue().encode()


async def bring_in(shop: Shop, content: bytes) -> Any:
    answer = await shop.call("POST", "/customer-imports", content=content)
    return answer.status_code, answer.json()


async def test_list_is_brought_in_by_reference_and_a_repeat_changes_nothing(shop: Shop) -> None:
    await shop.issuer()
    rows = [(f"C-{n}", f"Customer {n}", "", "") for n in range(5)]
    async with news_kept(shop.ledger) as news:
        assert await bring_in(shop, as_list(*rows)) == (
            200, {"created": 5, "updated": 0, "unchanged": 0})  # fmt: skip
        assert await bring_in(shop, as_list(*rows)) == (
            200, {"created": 0, "updated": 0, "unchanged": 5})  # fmt: skip
        rows[0] = ("C-0", "Renamed", "a@example.org", "")
        rows[1] = ("C-1", "Customer 1", "", "false")
        assert await bring_in(shop, as_list(*rows)) == (
            200, {"created": 0, "updated": 2, "unchanged": 3})  # fmt: skip
    kinds = [kind for kind, _ in news]
    assert kinds.count("customer.created.v1") == 5 and len(kinds) == 7
    assert sorted(kinds[5:]) == ["customer.deactivated.v1", "customer.updated.v1"]
    exported = await shop.call("GET", "/customers.csv")
    assert exported.headers["content-type"].startswith("text/csv")
    assert await bring_in(shop, exported.content) == (
        200, {"created": 0, "updated": 0, "unchanged": 5})  # fmt: skip


async def test_list_with_a_fault_brings_in_nothing_and_tells_each(shop: Shop) -> None:
    await shop.issuer()
    status, told = await bring_in(
        shop, as_list(("C-1", "Good", "", ""), ("C 2", "", "x", "maybe"), ("C-1", "B", "", ""))
    )
    assert status == 422
    assert [(one["field"], one["code"]) for one in told["errors"]] == [
        ("line 3, client_ref", "invalid"), ("line 3, name", "required"),
        ("line 3, email", "invalid"), ("line 3, active", "invalid"),
        ("line 4, client_ref", "repeated"),
    ]  # fmt: skip
    assert (await shop.call("GET", "/customers")).json()["items"] == []
    assert (await bring_in(shop, b"client_ref,name\r\nC-1,a" + b"a" * 2_000_001))[0] == 413


async def test_invoices_as_csv_run_no_formula(shop: Shop) -> None:
    row = await shop.issued(customer_id=await shop.new_customer(name="=cmd()"))
    answer = await shop.call("GET", "/invoices.csv")
    (found,) = csv.DictReader(io.StringIO(answer.text))
    assert (found["number"], found["customer_name"]) == (row["number"], "'=cmd()")
    assert (found["total_minor"], found["open_minor"]) == ("1000", "1000")


async def test_operator_invoices_its_own_customers(operator: Shop, shop: Shop) -> None:
    await operator.issuer()
    made = await operator.call("POST", "/customers", {"name": "A town", "mode": "test"})
    assert made.status_code == 201, made.text
    assert made.json()["client_id"] is None
    body = {"customer_id": made.json()["id"], "currency": "RWF", "lines": [LINE]}
    draft = (await operator.call("POST", "/invoices", body)).json()
    issued = await operator.call("POST", f"/invoices/{draft['id']}/issue", {})
    assert issued.json()["status"] == "issued"
    assert (await shop.call("GET", f"/invoices/{draft['id']}")).status_code == 404
    nothing = await operator.call("POST", "/customers", {"name": "x"})
    assert (nothing.status_code, nothing.json()["errors"][0]["field"]) == (422, "issuer_id")
