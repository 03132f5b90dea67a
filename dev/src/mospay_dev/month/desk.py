"""The operator's finance desk: settles each day, pays out, holds the provider's statement."""

import secrets
from typing import Any

from mospay_dev.demo.portal import Portal
from mospay_dev.month.shop import until

TERMS = {
    "mode": "test", "hold_days": 1, "reserve_bps": 500, "reserve_days": 7, "destination": "bank 1",
}  # fmt: skip
RESOLUTIONS = {
    "missing_here": "suspense_in",
    "missing_there": "write_off",
    "amount_differs": "confirm_fee",
    "currency_differs": "suspense_in",
    "duplicate": "duplicate_dismiss",
    "provider_fee": "confirm_fee",
}


def pages(portal: Portal, path: str, **query: Any) -> list[dict[str, Any]]:
    """Read a list to its end."""
    found: list[dict[str, Any]] = []
    while True:
        page = portal.get(path, limit=200, **query)
        found += page["items"]
        query["cursor"] = page["next_cursor"]
        if query["cursor"] is None:
            return found


def settle(first: Portal) -> int:
    """Settle what is ripe by today's calendar; return how many batches there were."""
    done, cursor = 0, None
    while True:
        run = first.post("/settlements/run", {"mode": "test", "cursor": cursor})
        assert run["failed"] == [], run
        done += len(run["settlements"])
        cursor = run["next_cursor"]
        if cursor is None:
            return done


def pay_out(first: Portal, second: Portal, client_id: str, amount_minor: int, *, back: bool) -> int:
    """Pay a merchant by maker and checker; `back`: its bank sends it back. Return what stays."""
    wanted = {"client_id": client_id, "mode": "test", "currency": "RWF",
              "amount_minor": amount_minor, "destination": "Bank of Kigali …4410"}  # fmt: skip
    payout = first.post("/payouts", wanted, key=secrets.token_hex(12))
    path = f"/payouts/{payout['id']}"
    second.post(f"{path}/approve", {"version": 1})
    second.post(f"{path}/pay", {"version": 2, "reference": "bank-77"})
    if back:
        second.post(f"{path}/return", {"version": 3, "reason": "the account is closed"})
    return 0 if back else amount_minor


def reconcile(first: Portal, second: Portal, content: str) -> dict[str, dict[str, Any]]:
    """Import a statement, and let two people resolve what it differs in; exceptions by kind."""
    made = first.upload(
        "/reconciliation/imports", content.encode(), "text/csv",
        microservice="simulator", mode="test", file_name="month.csv", preset="simulator",
    )  # fmt: skip
    path = f"/reconciliation/imports/{made['id']}"
    until(lambda: first.get(path)["state"], lambda s: s in ("finished", "failed"), "the import")
    first.post("/reconciliation/run", {"microservice": "simulator", "mode": "test"})

    def opened() -> list[dict[str, Any]]:
        return pages(first, "/reconciliation/exceptions", mode="test")

    until(opened, lambda found: {e["kind"] for e in found} >= set(RESOLUTIONS), "exceptions")
    found = opened()
    assert len(found) == len(RESOLUTIONS), [(e["kind"], e["reference"]) for e in found]
    for one in found:
        path, note = f"/reconciliation/exceptions/{one['id']}", "seen in the provider's portal"
        body = {"resolution": RESOLUTIONS[one["kind"]], "note": note}
        shown = first.post(f"{path}/resolution", body)
        if shown["state"] != "resolved":
            shown = second.post(f"{path}/approval", {"note": "agreed"})
        assert shown["state"] == "resolved", shown
    return {one["kind"]: one for one in found}
