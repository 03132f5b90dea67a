"""A payment is settled and paid out through the real services, by two people at the portal."""

import datetime as dt
import secrets

import pytest
from mospay_dev.demo.portal import Portal
from mospay_dev.infrastructure.processes import StartFailed

from tests.conftest import LiveStack

from .test_refunds import Merchant, until


def two_admins(live_stack: LiveStack) -> tuple[Portal, Portal]:
    """Sessions of two of the operator's people."""
    first, second = Portal(live_stack.portal_url), Portal(live_stack.portal_url)
    first.sign_in(live_stack.admin_email, live_stack.admin_password, "admin")
    email, password = f"{secrets.token_hex(6)}@mospay.example", secrets.token_urlsafe(18)
    first.post(
        "/users",
        {"audience": "admin", "name": "Second", "email": email, "role": "owner",
         "password": password},
    )  # fmt: skip
    second.sign_in(email, password, "admin")
    return first, second


def test_a_captured_payment_is_settled_and_paid_out_by_two_people(live_stack: LiveStack) -> None:
    merchant = Merchant(live_stack, 0)
    first, second = two_admins(live_stack)
    client = live_stack.seed.clients[0].client_id
    paid = merchant.pay(3000, "+250780000107")
    assert paid["status"] == "succeeded", paid

    def booked() -> bool:
        try:
            return first.get(f"/payments/{paid['id']}/trace")["entries"] != []
        except StartFailed:  # not listed yet
            return False

    until(booked, True)
    before = first.get("/settlements", mode="test", client_id=client, limit=200)["items"]
    # past a day's hold in any time zone, and past the days that an earlier run settled
    as_of = dt.datetime.now(dt.UTC) + dt.timedelta(days=4 + len(before))
    run = {"mode": "test", "client_id": client, "as_of": as_of.isoformat()}
    done = first.post("/settlements/run", run)
    assert (done["failed"], len(done["settlements"])) == ([], 1)
    (settlement_id,) = done["settlements"]
    assert first.post("/settlements/run", run)["settlements"] == []
    lines = first.get(f"/settlements/{settlement_id}/lines", limit=200)["items"]
    (line,) = [line for line in lines if line["payment_id"] == paid["id"]]
    assert (line["kind"], line["gross_minor"]) == ("capture", 3000)
    listed = first.get("/settlements", mode="test", client_id=client)["items"]
    assert settlement_id in [one["id"] for one in listed]
    assert first.file(f"/settlements/{settlement_id}/statement").startswith(b"%PDF")
    today = dt.datetime.now(dt.UTC).date()
    period = {"from": today.isoformat(), "to": (today + dt.timedelta(days=1)).isoformat()}
    account = {"mode": "test", "client_id": client, "currency": "RWF", "format": "csv", **period}
    assert settlement_id.encode() in first.file("/statements", **account)
    wanted = {"client_id": client, "mode": "test", "currency": "RWF", "amount_minor": 2000,
              "destination": "Bank of Kigali …4410"}  # fmt: skip
    payout = first.post("/payouts", wanted, key="e2e-payout")
    assert first.post("/payouts", wanted, key="e2e-payout")["id"] == payout["id"]
    path = f"/payouts/{payout['id']}"
    with pytest.raises(Exception, match="second_person"):
        first.post(f"{path}/approve", {"version": 1})
    assert second.post(f"{path}/approve", {"version": 1})["status"] == "approved"
    paid_out = second.post(f"{path}/pay", {"version": 2, "reference": "bank-77"})
    assert paid_out["status"] == "paid"
    assert [one["status"] for one in first.get(path)["steps"]] == ["created", "approved", "paid"]
    assert first.get("/trial-balance", mode="test")["balanced"] is True
