"""A provider function changed by a person in the portal, under real payments, and taken back."""

import secrets
import time
from typing import Any

import pytest
from mospay_dev.demo.portal import Portal
from mospay_dev.infrastructure.processes import StartFailed

from tests.conftest import LiveStack

from .test_path import pay


def _traced(portal: Portal, payment_id: str, version: int) -> bool:
    """Say whether a payment's trace shows that version of its function; no, until it is listed."""
    try:
        trace = portal.get(f"/payments/{payment_id}/trace")
    except StartFailed as error:
        if "no such payment" in str(error):
            return False
        raise
    return any((h["data"] or {}).get("function_version") == version for h in trace["hops"])


def _serves(live: LiveStack, portal: Portal, version: int) -> None:
    """Pay until a payment is served by a version; a router hears of it within two seconds."""
    until = time.monotonic() + 20
    while True:
        answer = pay(live, secrets.token_hex(12))
        assert answer.json()["status"] == "succeeded", answer.text
        if _traced(portal, answer.json()["id"], version):
            return
        assert time.monotonic() < until, "the version serves no payment"


def test_posted_version_is_tried_goes_live_serves_a_payment_and_is_taken_back(
    live_stack: LiveStack,
) -> None:
    portal = Portal(live_stack.portal_url)
    portal.sign_in(live_stack.admin_email, live_stack.admin_password, "admin")
    app_id = live_stack.seed.clients[0].app_id
    assert pay(live_stack, secrets.token_hex(12)).json()["status"] == "succeeded"
    (mapping,) = portal.get("/functions", q=f"{app_id}_simulator_payment")["items"]
    names = {f["kind"]: f["name"] for f in mapping["functions"]}
    name, response = names["call"], names["response"]
    (first,) = (f["live_version"] for f in mapping["functions"] if f["kind"] == "call")
    source = portal.get(f"/functions/{name}/versions/{first}")["source"]
    with pytest.raises(StartFailed, match="not_one_function"):
        portal.post(f"/functions/{name}/versions", {"source": source + "; drop table payments"})
    version = portal.post(f"/functions/{name}/versions", {"source": source, "note": "e2e"})[
        "version"
    ]
    path = f"/functions/{name}/versions/{version}"
    with pytest.raises(StartFailed, match="not_tested"):
        portal.post(f"{path}/live", {})
    tried = portal.post(f"{path}/dry-run", {"fields": {"f004": "700"}})
    assert tried["passed"] and '"700"' in tried["call"]["payload"]
    answer: dict[str, Any] = {"outcome": "pending"}
    heard = portal.post(f"/functions/{response}/versions/1/dry-run", {"answer": answer})
    assert heard["finding"]["result"] == "pending"
    replay = portal.post(f"{path}/replay", {"limit": 5})
    assert replay["complete"] and replay["same"] == replay["recordings"] > 0
    portal.post(f"{path}/tested", {})
    assert portal.post(f"{path}/live", {"live_version": first}) == {"live": {name: version}}
    _serves(live_stack, portal, version)
    assert portal.post(f"/functions/{name}/roll-back", {}) == {"live": {name: first}}
    _serves(live_stack, portal, first)
