"""Reconciliation in the portal: who may, what the ledger is told, what the audit log keeps."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from .conftest import Portal
from .house import at

IMPORT: dict[str, Any] = {
    "id": "imp_1", "microservice": "mtnmomorwa", "mode": "live", "file_name": "n.csv",
    "size_bytes": 9, "bytes_done": 0, "mapping_version": None, "preset": "mtnmomo",
    "state": "parsing", "covers_from": None, "covers_until": None, "lines_good": 0,
    "lines_bad": 0, "lines_skipped": 0, "lines_accepted": 0, "lines_repeated": 0, "fault": None,
    "uploaded_by": "usr_a", "decided_by": None, "created_at": at(), "finished_at": None,
}  # fmt: skip
EXCEPTION: dict[str, Any] = {
    "id": "exc_1", "kind": "missing_here", "microservice": "mtnmomorwa", "mode": "live",
    "currency": "RWF", "stated_minor": 5, "expected_currency": None, "expected_minor": 0,
    "delta_minor": 5, "import_id": "imp_1", "line_no": 2, "entry_id": None, "reference": "r",
    "payment_id": None, "occurred_at": at(), "state": "proposed", "assignee": None,
    "due_at": at(), "overdue": False, "wait_until": None, "resolution": "suspense_in",
    "proposed_by": "usr_a", "approved_by": None, "opened_at": at(), "resolved_at": None,
    "version": 2, "actions": [],
}  # fmt: skip
QUERY = "?microservice=mtnmomorwa&mode=live&file_name=n.csv"


async def file() -> AsyncIterator[bytes]:
    """A file larger than what any other route takes, in pieces."""
    for _ in range(40):
        yield b"1,2,3\n" * 3000


async def test_a_file_is_passed_on_in_pieces_in_the_name_of_a_person_and_written_down(
    portal: Portal,
) -> None:
    admin = await portal.admin()
    me = (await admin.get("/session")).json()["user"]["id"]
    await portal.house.up("ledger")
    portal.house.answers["POST reconciliation/imports"] = IMPORT | {"repeated": False}
    answer = await admin.http.post(
        "/bff/v1/reconciliation/imports" + QUERY,
        content=file(),
        headers={"X-CSRF-Token": admin.csrf, "Content-Type": "text/csv"},
    )
    assert (answer.status_code, answer.json()["id"]) == (202, "imp_1"), answer.text
    assert portal.house.uploads == [b"1,2,3\n" * 120_000]
    _, path, caller, query = portal.house.calls[-1]
    assert (path, caller.actor, caller.operator) == (
        "/internal/v1/reconciliation/imports",
        me,
        True,
    )
    assert caller.scopes == {"ledger:write"}
    assert query == {"microservice": "mtnmomorwa", "mode": "live", "file_name": "n.csv"}
    (kept,) = await portal.rows(
        "select action, actor from audit_log where subject = 'imp_1' and action like 'statement%'"
    )
    assert (kept["action"], kept["actor"]) == ("statement_uploaded", me)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("assignment", {"assignee": "usr_1"}),
        ("assignment", {"assignee": None}),
        ("notes", {"note": "asked them"}),
        ("wait", {"note": "monday", "until": "2026-12-01T00:00:00Z"}),
        ("resolution", {"resolution": "suspense_in", "note": "proven"}),
        ("approval", {"note": "seen"}),
        ("rejection", {"note": "ask first"}),
    ],
)
async def test_what_a_person_does_with_an_exception_reaches_the_ledger_and_the_audit_log(
    portal: Portal, path: str, body: dict[str, Any]
) -> None:
    admin = await portal.admin()
    await portal.house.up("ledger")
    portal.house.answers[f"POST reconciliation/exceptions/exc_1/{path}"] = EXCEPTION
    answer = await admin.send("POST", f"/reconciliation/exceptions/exc_1/{path}", body)
    assert answer.status_code == 200, answer.text
    method, _, sent = portal.house.sent[-1]
    assert (method, sent) == ("POST", body)
    kept = await portal.rows(
        "select after from audit_log where action = $1 order by at desc limit 1",
        f"exception_{path}",
    )
    assert kept[0]["after"] == body


async def test_reads_show_what_the_ledger_says_and_what_is_not_there_is_404(
    portal: Portal,
) -> None:
    viewer = await portal.admin(role="viewer")
    await portal.house.up("ledger")
    page = {"items": [EXCEPTION], "next_cursor": None}
    portal.house.answers["reconciliation/exceptions"] = page
    portal.house.answers["reconciliation/imports/imp_1"] = IMPORT
    found = await viewer.get("/reconciliation/exceptions?state=open&overdue=true&kind=missing_here")
    assert [item["id"] for item in found.json()["items"]] == ["exc_1"]
    asked = portal.house.calls[-1][3]
    assert asked == {"state": "open", "kind": "missing_here", "overdue": "true", "limit": "50"}
    assert (await viewer.get("/reconciliation/imports/imp_1")).json()["state"] == "parsing"
    assert (await viewer.get("/reconciliation/imports/imp_2")).status_code == 404


async def test_viewers_change_nothing_and_merchants_see_nothing(portal: Portal) -> None:
    admin, viewer = await portal.admin(), await portal.admin(role="viewer")
    merchant, _, _ = await portal.merchant(admin)
    await portal.house.up("ledger")
    note = {"note": "hello"}
    for browser in (viewer, merchant):
        for path in ("/reconciliation/exceptions/exc_1/notes", "/reconciliation/imports" + QUERY):
            assert (await browser.send("POST", path, note)).status_code == 403
    for path in ("exceptions", "imports", "mappings", "presets",
                 "report?microservice=m&mode=test"):  # fmt: skip
        assert (await merchant.get(f"/reconciliation/{path}")).status_code == 403
    assert portal.house.calls == []


async def test_bad_input_names_the_field(portal: Portal) -> None:
    admin = await portal.admin()
    await portal.house.up("ledger")
    for path, body, field in (
        ("/reconciliation/exceptions/exc_1/notes", {"note": "a\x00bc"}, "note"),
        ("/reconciliation/exceptions/exc_1/resolution", {"note": "abc", "resolution": "x"},
         "resolution"),
        ("/reconciliation/imports/imp_1/decision", {"decision": "maybe"}, "decision"),
        ("/reconciliation/run", {"microservice": "a b", "mode": "test"}, "microservice"),
        ("/reconciliation/imports?microservice=m&mode=all&file_name=f", None, "mode"),
    ):  # fmt: skip
        answer = await admin.send("POST", path, body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"] == field
