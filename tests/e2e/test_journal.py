"""The finance desk through the real services: a plan's price, an entry taken back by two people."""

import pytest
from mospay_dev.demo.portal import Portal
from mospay_dev.infrastructure.processes import StartFailed

from tests.conftest import LiveStack

from .test_refunds import Merchant, until
from .test_settlements import two_admins


def test_an_entry_is_taken_back_by_two_sessions_and_the_books_show_before_and_after(
    live_stack: LiveStack,
) -> None:
    merchant, client = Merchant(live_stack, 0), live_stack.seed.clients[0].client_id
    first, second = two_admins(live_stack)
    paid = merchant.pay(1200, "+250780000109")
    assert paid["status"] == "succeeded", paid
    about = {"mode": "test", "payment_id": paid["id"]}
    until(lambda: len(first.get("/journal-entries", **about)["items"]), 1)
    (capture,) = first.get("/journal-entries", **about, client_id=client)["items"]
    assert (capture["kind"], capture["amount_minor"]) == ("capture", 1200)
    assert sum(side["amount_minor"] for side in capture["postings"]) == 0

    path = f"/journal-entries/{capture['entry_id']}"
    made = first.post(f"{path}/reversals", {"kind": "reversal", "reason": "wrong merchant"})
    decision = f"/reversals/{made['id']}/approve"
    with pytest.raises(StartFailed, match="second_person"):
        first.post(decision, {})
    assert len(first.get("/journal-entries", **about)["items"]) == 1
    done = second.post(decision, {})
    assert (done["state"], done["proposed_by"] == done["decided_by"]) == ("approved", False)
    assert first.get(path)["reversed_by"] == done["reversal_entry_id"]
    with pytest.raises(StartFailed, match="not_now"):
        second.post(decision, {})

    taken_back = first.get(f"/journal-entries/{done['reversal_entry_id']}")
    for entry in (capture, taken_back):
        query = {"mode": "test", "client_id": client, "as_of": entry["posted_at"]}
        held = {
            one["account"]: one["balance_minor"]
            for one in first.get("/balances", **query)["balances"]
        }
        sides = [side for side in entry["postings"] if side["account"] in held]
        assert sides
        assert all(held[side["account"]] == side["balance_minor"] for side in sides)
        then = first.get("/trial-balance", mode="test", as_of=entry["posted_at"])
        assert (then["balanced"], then["entries"]) == (True, None)
    assert first.get("/journal/verify")["whole"] is True


def test_a_client_user_sees_its_own_entries_without_the_operators_sides_and_people(
    live_stack: LiveStack,
) -> None:
    browser = Portal(live_stack.portal_url)
    browser.sign_in(live_stack.client_email, live_stack.client_password, "client")
    client = live_stack.seed.clients[0].client_id
    until(lambda: browser.get("/journal-entries", mode="test", limit=1)["items"] != [], True)
    page = browser.get("/journal-entries", mode="test", limit=200)
    assert {one["client_id"] for one in page["items"]} == {client}
    accounts = {side["account"] for one in page["items"] for side in one["postings"]}
    assert all(account.startswith(f"client:{client}:") for account in accounts)
    assert not [one for one in page["items"] if "approved by" in (one["reason"] or "")]
    other = live_stack.seed.clients[1].client_id
    for path in ("/journal-entries", "/balances"):
        with pytest.raises(StartFailed, match="404"):
            browser.get(path, mode="test", client_id=other)
    with pytest.raises(StartFailed, match="ledger:read"):
        browser.get("/trial-balance", mode="test")


def test_a_fee_plan_is_priced_and_put_in_force_at_the_portal(live_stack: LiveStack) -> None:
    first, _ = two_admins(live_stack)
    client = live_stack.seed.clients[0].client_id
    # in a currency nobody pays in: what others of this house pay stays as it is
    terms = {"mode": "test", "client_id": client, "currency": "KWD", "basis_points": 150}
    priced = first.post("/fee-plans/simulate", terms | {"currency": None})
    assert all(one["payments"] > 0 for one in priced["currencies"])
    made = first.post("/fee-plans", terms)
    again = first.post("/fee-plans", terms | {"id": made["id"], "basis_points": 140})
    assert (again["id"], again["version"]) == (made["id"], made["version"] + 1)
    listed = first.get("/fee-plans", mode="test", client_id=client, limit=200)["items"]
    assert {(made["id"], 1), (made["id"], 2)} <= {(one["id"], one["version"]) for one in listed}
    with pytest.raises(StartFailed, match="effective_from"):
        first.post("/fee-plans", terms | {"effective_from": "2020-01-01T00:00:00Z"})
