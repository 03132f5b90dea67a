"""Invoices in the portal: who may, under whose token the ledger is asked, what the audit keeps."""

from typing import Any

import pytest

from .conftest import Portal

PAGE: dict[str, Any] = {"items": [{"id": "inv_a"}], "next_cursor": None}
DRAFT: dict[str, Any] = {
    "customer_id": "cus_a", "currency": "RWF",
    "lines": [{"description": "Books", "quantity": "2.5", "unit_price_minor": 1500}],
}  # fmt: skip


async def audited(portal: Portal, subject: str) -> list[Any]:
    return await portal.rows(
        "select action, actor, after from audit_log where subject = $1 order by at", subject
    )


async def test_client_user_invoices_under_a_token_of_its_own_client_and_mode(
    portal: Portal,
) -> None:
    browser, client, _ = await portal.merchant(await portal.admin())
    await portal.house.up("ledger")
    portal.house.answers |= {
        "GET invoices": [PAGE], "POST invoices": {"id": "inv_a", "status": "draft"},
        "POST invoices/inv_a/issue": {"id": "inv_a", "number": "INV-2026-000001"},
    }  # fmt: skip
    assert (await browser.get("/invoices?mode=test")).json() == PAGE
    made = await browser.send("POST", "/invoices?mode=test", DRAFT)
    assert (made.status_code, made.json()["id"]) == (201, "inv_a")
    issued = await browser.send("POST", "/invoices/inv_a/issue?mode=test", {"version": 1})
    assert issued.json()["number"] == "INV-2026-000001"
    callers = {(c.client_id, c.mode) for _, path, c, _ in portal.house.calls if "invoices" in path}
    assert callers == {(client, "test")}
    ((_, _, sent), (_, path, step)) = portal.house.sent
    assert sent["lines"][0]["quantity"] == "2.5" and "version" not in sent
    assert (path, step) == ("/internal/v1/invoices/inv_a/issue", {"version": 1})
    me = (await browser.get("/session")).json()["user"]["id"]
    kept = [(row["action"], row["actor"]) for row in await audited(portal, "inv_a")]
    assert kept == [("invoice_drafted", me), ("invoice_issued", me)]


async def test_operator_asks_for_all_and_its_token_names_no_client(portal: Portal) -> None:
    admin = await portal.admin()
    _, client, _ = await portal.merchant(admin)
    await portal.house.up("ledger")
    portal.house.answers |= {"issuers": PAGE, "PUT issuers": {"id": "iss_a", "version": 1}}
    assert (await admin.get("/issuers?mode=live")).status_code == 200
    body = {"name": "The operator"}
    assert (await admin.send("PUT", "/issuers?mode=live", body)).status_code == 200
    named = await admin.send("PUT", f"/issuers?mode=live&client_id={client}", body)
    assert named.status_code == 200
    assert all(c.operator for _, path, c, _ in portal.house.calls if "issuers" in path)
    assert [sent["client_id"] for _, _, sent in portal.house.sent] == [None, client]
    assert [sent["mode"] for _, _, sent in portal.house.sent] == ["live", "live"]


async def test_viewer_reads_and_changes_nothing(portal: Portal) -> None:
    admin = await portal.admin()
    _, _, company = await portal.merchant(admin)
    browser = portal.browser()
    await browser.sign_in(await portal.user("client", company, role="viewer"), "client")
    await portal.house.up("ledger")
    portal.house.answers["invoices"] = PAGE
    assert (await browser.get("/invoices?mode=test")).status_code == 200
    changes = [
        ("POST", "/invoices", DRAFT), ("PUT", "/invoices/inv_a", DRAFT | {"version": 1}),
        ("DELETE", "/invoices/inv_a?version=1", None), ("POST", "/invoices/inv_a/issue", {}),
        ("POST", "/invoices/inv_a/void", {"reason": "none"}), ("PUT", "/issuers", {"name": "x"}),
        ("POST", "/customers", {"name": "x"}), ("POST", "/customer-imports", {}),
    ]  # fmt: skip
    for method, path, body in changes:
        joined = path + ("&" if "?" in path else "?") + "mode=test"
        answer = await browser.send(method, joined, body)
        assert (answer.status_code, answer.json()["permission"]) == (403, "invoices:write"), path
    assert portal.house.sent == []


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/invoices/inv_a.pdf", "invoices/inv_a.pdf", "application/pdf"),
        ("/credit-notes/crn_a.pdf", "credit-notes/crn_a.pdf", "application/pdf"),
        ("/ageing.pdf", "ageing.pdf", "application/pdf"),
        ("/ageing.csv", "ageing.csv", "text/csv"),
        ("/invoices.csv", "invoices.csv", "text/csv"),
        ("/customers.csv", "customers.csv", "text/csv"),
    ],
)
async def test_files_are_passed_on_byte_for_byte_under_their_name(
    portal: Portal, path: str, name: str, kind: str
) -> None:
    browser, client, _ = await portal.merchant(await portal.admin())
    await portal.house.up("ledger")
    assert (await browser.get(f"{path}?mode=test")).status_code == 404
    portal.house.answers[name] = content = b"%PDF-1.7 \xff" * 50_000
    answer = await browser.get(f"{path}?mode=test")
    assert answer.status_code == 200, answer.text
    assert answer.content == content
    assert answer.headers["content-type"].startswith(kind)
    assert name.rpartition("/")[2] in answer.headers["content-disposition"]
    assert answer.headers["cache-control"] == "no-store"
    assert portal.house.calls[-1][2].client_id == client
    await portal.house.down("ledger")
    assert (await browser.get(f"{path}?mode=test")).status_code == 503


async def test_customer_list_is_passed_on_as_it_is_and_audited(portal: Portal) -> None:
    browser, client, _ = await portal.merchant(await portal.admin())
    await portal.house.up("ledger")
    told = {"created": 1, "updated": 0, "unchanged": 0}
    portal.house.answers["POST customer-imports"] = told
    answer = await browser.http.post(
        "/bff/v1/customer-imports?mode=test",
        content="client_ref,name\r\nC-1,Amélie\r\n",
        headers={"X-CSRF-Token": browser.csrf},
    )
    assert (answer.status_code, answer.json()) == (200, told)
    assert portal.house.sent[-1][2] == {"list": "client_ref,name\r\nC-1,Amélie\r\n"}
    assert (await audited(portal, client))[-1]["after"] == told
    large = await browser.http.post(
        "/bff/v1/customer-imports?mode=test",
        content=b"a" * 2_000_001,
        headers={"X-CSRF-Token": browser.csrf},
    )
    assert large.status_code == 413
