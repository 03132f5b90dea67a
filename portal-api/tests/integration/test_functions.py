"""Provider functions in the portal: who may, what the router is told, what the audit log keeps."""

import json
from typing import Any

import pytest
from mospay_dev.services import ROOT
from mospay_portal_api.routes import functions as routes

from .conftest import Browser, Portal
from .house import at

NAME = "shop_mtn_payment"
SOURCE = 'create function "shop_mtn_payment"() …'
PATHS = [
    ("POST", f"/functions/{NAME}/versions", {"source": SOURCE}),
    ("PATCH", f"/functions/{NAME}/versions/2", {"reads_secrets": True}),
    ("POST", f"/functions/{NAME}/versions/2/dry-run", {}),
    ("POST", f"/functions/{NAME}/versions/2/replay", {"limit": 5}),
    ("POST", f"/functions/{NAME}/versions/2/promote", {"note": "as in test"}),
    ("POST", f"/functions/{NAME}/versions/2/tested", {"partner_version": 3}),
    ("POST", f"/functions/{NAME}/versions/2/live", {"live_version": 1}),
    ("POST", f"/functions/{NAME}/roll-back", {}),
    ("PUT", "/function-mappings/shop/mtn/collection/payment/marks",
     {"final_on_2xx": True, "failed_statuses": [422], "version": 1}),
]  # fmt: skip


def version(number: int, state: str) -> dict[str, Any]:
    """A version as the router shows it."""
    return {
        "name": NAME, "version": number, "kind": "call", "state": state, "origin": "person",
        "author": "usr_1", "note": None, "reads_secrets": False, "created_at": at(),
        "passed_at": None, "tested_at": None, "live_at": None, "retired_at": None, "previous": None,
    }  # fmt: skip


async def signed_in(portal: Portal, role: str = "owner") -> Browser:
    """An admin, with the router up and knowing one function."""
    browser = await portal.admin(role)
    await portal.house.up("payment-router")
    marks = {"final_on_2xx": None, "failed_statuses": None, "version": 1}
    before = [version(2, "tested"), version(1, "live")]
    after = [version(2, "live"), version(1, "retired")]
    counts = {"url": 0, "payload": 0, "outcome": 0, "fault": 0}
    portal.house.answers = {
        f"functions/{NAME}/versions": [before, after],
        f"POST functions/{NAME}/versions": {"name": NAME, "version": 2},
        f"functions/{NAME}/versions/2": {
            **version(2, "draft"), "source": SOURCE, "changed_by_hand": False,
        },
        f"PATCH functions/{NAME}/versions/2": {"reads_secrets": True},
        f"functions/{NAME}/versions/2/dry-run": {
            "passed": True, "call": {"url": "http://x", "payload": "[]"}, "finding": None,
            "fault": None, "results": {}, "secrets_replaced": False, "secrets_undetected": False,
            "milliseconds": 1.5,
        },
        f"functions/{NAME}/versions/2/replay": {
            "recordings": 1, "replayed": 1, "complete": True, "same": 1, "differing": counts,
            "rows": [],
        },
        f"functions/{NAME}/versions/2/promote": {"name": "live_mtn_payment", "version": 4},
        f"functions/{NAME}/versions/2/tested": {"any": 1},
        f"functions/{NAME}/versions/2/live": {"live": {NAME: 2}},
        f"functions/{NAME}/roll-back": {"live": {NAME: 1}},
        "mappings/shop/mtn/collection/payment/marks": marks,
        "PUT mappings/shop/mtn/collection/payment/marks": marks | {"final_on_2xx": True,
                                                                   "version": 2},
    }  # fmt: skip
    return browser


async def audited(portal: Portal, subject: str) -> list[Any]:
    """What the audit log keeps of a subject, in order."""
    return await portal.rows(
        "select action, actor, before, after from audit_log where subject = $1 order by at, id",
        subject,
    )


async def test_steps_are_told_to_the_router_and_written_down_with_before_and_after(
    portal: Portal,
) -> None:
    admin = await signed_in(portal)
    me = (await admin.get("/session")).json()["user"]["id"]
    done = await admin.send("POST", f"/functions/{NAME}/versions/2/live", {"live_version": 1})
    assert (done.status_code, done.json()) == (200, {"live": {NAME: 2}})
    assert portal.house.sent == [
        ("POST", f"/internal/v1/functions/{NAME}/versions/2/live", {"live_version": 1})
    ]
    row = (await audited(portal, NAME))[-1]
    assert (row["action"], row["actor"]) == ("function_version_live", me)
    assert row["before"] == {"v2": "tested", "v1": "live"}
    assert row["after"] == {
        "v2": "live", "v1": "retired", "live_version": 1, "live": {NAME: 2},
    }  # fmt: skip


async def test_draft_marks_and_replay_are_written_down(portal: Portal) -> None:
    admin = await signed_in(portal)
    for method, path, body in (PATHS[0], PATHS[3], PATHS[8]):
        answer = await admin.send(method, path, body)
        assert answer.status_code in (200, 201), answer.text
    draft, replay = (await audited(portal, NAME))[-2:]
    assert draft["action"] == "function_version_drafted"
    assert (draft["after"]["source"], draft["after"]["version"]) == (SOURCE, 2)
    assert (replay["action"], replay["after"]["replayed"]) == ("function_replayed", 1)
    (marks,) = (await audited(portal, "shop/mtn/collection/payment"))[-1:]
    assert marks["before"]["final_on_2xx"] is None and marks["after"]["final_on_2xx"] is True


async def test_every_route_reaches_the_router_under_the_operators_token(portal: Portal) -> None:
    admin = await signed_in(portal)
    for method, path, body in PATHS:
        portal.house.calls.clear()
        portal.house.answers[f"functions/{NAME}/versions"] = [[version(1, "live")]] * 2
        answer = await admin.send(method, path, body)
        assert answer.status_code in (200, 201, 204), (path, answer.text)
        caller = portal.house.calls[-1][2]
        assert caller.operator and caller.actor and caller.issuer == "portal-api"
        written = next(c for _, p, c, _ in portal.house.calls if p.endswith(path.rpartition("/")[2])
                       and "functions:write" in c.scopes)  # fmt: skip
        assert written.scopes == {"functions:write"}


async def test_changes_need_the_permission_and_the_csrf_token(portal: Portal) -> None:
    viewer = await signed_in(portal, "viewer")
    for method, path, body in PATHS:
        answer = await viewer.send(method, path, body)
        assert (answer.status_code, answer.json()["permission"]) == (403, "functions:write"), path
    listed = await viewer.get(f"/functions/{NAME}/versions")
    assert [row["state"] for row in listed.json()] == ["tested", "live"]
    assert (await viewer.get(f"/functions/{NAME}/versions/2")).json()["source"] == SOURCE
    admin = await portal.admin()
    admin.csrf = "wrong"
    for method, path, body in PATHS:
        answer = await admin.send(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed"), path
    assert portal.house.sent == []


async def test_what_the_router_does_not_have_is_not_found_and_not_written_down(
    portal: Portal,
) -> None:
    admin = await signed_in(portal)
    for method, path, body in PATHS:
        moved = path.replace(NAME, "nobody_mtn_payment").replace("/shop/", "/nobody/")
        answer = await admin.send(method, moved, body)
        assert answer.status_code == 404, (path, answer.text)
    assert await audited(portal, "nobody_mtn_payment") == []


@pytest.mark.parametrize(
    ("index", "body", "field"),
    [
        (0, {}, "source"),
        (0, {"source": "a\x00"}, "source"),
        (0, {"source": "x", "nope": 1}, "nope"),
        (2, {"unique_id": "a b"}, "unique_id"),
        (2, {"answer": {"a": ["\x00"]}}, "answer.a.0"),
        (3, {"limit": 201}, "limit"),
        (6, {"live_version": 0}, "live_version"),
        (8, {"final_on_2xx": True, "failed_statuses": [500], "version": 1}, "failed_statuses.0"),
    ],
)
async def test_fault_is_named_by_its_field(
    portal: Portal, index: int, body: dict[str, Any], field: str
) -> None:
    admin = await signed_in(portal)
    method, path, _ = PATHS[index]
    answer = await admin.send(method, path, body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert portal.house.sent == []


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ("FunctionVersion", "VersionView"),
        ("FunctionSource", "VersionSource"),
        ("ProviderFunction", "FunctionView"),
        ("FunctionMapping", "MappingView"),
        ("FunctionMappings", "MappingPage"),
        ("NewFunctionVersion", "NewVersion"),
        ("FunctionReading", "Reading"),
        ("FunctionBeside", "Beside"),
        ("FunctionGoLive", "GoLive"),
        ("FunctionRollBack", "RollBack"),
        ("FunctionPromotion", "Promotion"),
        ("FunctionMarks", "Marks"),
        ("FunctionSample", "DryRun"),
        ("FunctionTrial", "DryRunResult"),
        ("FunctionCallShown", "CallView"),
        ("FunctionFinding", "FindingView"),
        ("FunctionReplayIn", "ReplayIn"),
        ("FunctionReplay", "ReplayResult"),
        ("FunctionDifference", "Difference"),
        ("MadeFunctionVersion", "MadeVersion"),
        ("LiveFunctions", "LiveVersions"),
    ],
)
def test_shapes_are_those_of_the_routers_document(own: str, theirs: str) -> None:
    document = json.loads((ROOT / "payment-router/openapi.json").read_text())
    shape = document["components"]["schemas"][theirs]
    assert set(getattr(routes, own).model_fields) == set(shape["properties"])
