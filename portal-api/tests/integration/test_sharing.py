"""Sharing invoices in the portal: the link is in one answer, the audit log keeps who, never it."""

from typing import Any

from .conftest import Portal

LINK: dict[str, Any] = {
    "id": "lnk_a", "invoice_id": "inv_a", "purpose": "shared", "uses": 0,
    "token": "uN5vZ0m2qFh8x1c7Jr4kT9bW3yLpE6aD", "expires_at": "2027-01-20T00:00:00Z",
    "created_at": "2026-11-21T00:00:00Z",
}  # fmt: skip
METHODS = {"methods": [{"currency": "RWF", "service": "collection", "label": "Mobile money"}]}


async def test_a_link_is_shown_once_and_the_audit_log_keeps_who_made_it(portal: Portal) -> None:
    browser, client, _ = await portal.merchant(await portal.admin())
    await portal.house.up("ledger")
    portal.house.answers |= {
        "POST invoices/inv_a/links": LINK, "POST links/lnk_a/revoke": {"id": "lnk_a"},
        "GET invoices/inv_a/links": [{"items": [], "next_cursor": None}],
    }  # fmt: skip
    made = await browser.send("POST", "/invoices/inv_a/links?mode=test", {})
    assert made.status_code == 201, made.text
    assert made.json()["url"].endswith("/i/" + LINK["token"]) and "token" not in made.json()
    assert (await browser.get("/invoices/inv_a/links?mode=test")).status_code == 200
    ended = await browser.send("POST", "/links/lnk_a/revoke?mode=test")
    assert ended.status_code == 200
    asked = [c for _, path, c, _ in portal.house.calls if "links" in path]
    assert {(c.client_id, c.mode) for c in asked} == {(client, "test")}
    assert {frozenset(c.scopes) for c in asked} == {
        frozenset({"invoices:share"}), frozenset({"invoices:read"})
    }  # fmt: skip
    rows = await portal.rows(
        "select action, a::text as text from audit_log a where subject in ('inv_a', 'lnk_a') "
        "order by at"
    )
    assert [r["action"] for r in rows][-2:] == ["invoice_shared", "invoice_link_revoked"]
    assert not any(LINK["token"] in row["text"] for row in rows)


async def test_viewers_read_methods_and_change_none(portal: Portal) -> None:
    viewer = await portal.admin(role="viewer")
    await portal.house.up("ledger")
    path = "issuers/iss_a/payment-methods"
    portal.house.answers |= {f"GET {path}": [METHODS], f"PUT {path}": METHODS}
    assert (await viewer.get(f"/{path}?mode=test")).json() == METHODS
    assert (await viewer.send("PUT", f"/{path}?mode=test", METHODS)).status_code == 403
    assert (await viewer.send("POST", "/invoices/inv_a/links?mode=test", {})).status_code == 403
    owner = await portal.admin()
    assert (await owner.send("PUT", f"/{path}?mode=test", METHODS)).json() == METHODS
    wrong = {"methods": [{"currency": "rwf", "service": "a b", "label": ""}]}
    answer = await owner.send("PUT", f"/{path}?mode=test", wrong)
    fields = {fault["field"] for fault in answer.json()["errors"]}
    assert answer.status_code == 422 and fields >= {"methods.0.currency", "methods.0.label"}
