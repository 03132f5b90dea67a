"""Payouts: reserved at creation, decided on by another person, never more than is available."""

import asyncio
from typing import Any

import asyncpg
import pytest
from mospay_shared.ids import new_id

from .settling_desk import Desk, end_of

STEPS = {
    "approve": {}, "reject": {"reason": "wrong account"}, "pay": {"reference": "bank-77"},
    "fail": {"reason": "account closed"}, "return": {"reason": "unknown beneficiary"},
}  # fmt: skip
BANK = "operator:RWF:test:clearing"


async def funded(desk: Desk) -> None:
    """Make 1,470 available."""
    await desk.terms(hold_days=0, destination="Bank of Kigali …4410")
    await desk.post(desk.capture(0))
    assert await desk.settle(end_of(0))


async def ask(desk: Desk, amount: int, key: str = "", **more: Any) -> Any:
    """Ask for a payout as usr_a."""
    body = {"client_id": desk.client_id, "mode": "test", "currency": "RWF", "amount_minor": amount}
    return await desk.call("POST", "/payouts", json=body | more, key=key or new_id("key"))


async def step(desk: Desk, payout: dict[str, Any], name: str, actor: str = "usr_b") -> Any:
    """Take a step on a payout as it was read."""
    body = {"version": payout["version"], **STEPS[name]}
    return await desk.call("POST", f"/payouts/{payout['id']}/{name}", json=body, actor=actor)


async def bank(desk: Desk) -> int:
    """What the operator's bank has paid out so far."""
    rows = await desk.fetch("select balance_minor from accounts where id = $1", BANK)
    return rows[0]["balance_minor"] if rows else 0


@pytest.mark.parametrize(
    ("path", "left", "paid"),
    [
        ("", {"available": -470, "payout": -1000}, 0),
        ("reject", {"available": -1470}, 0),
        ("approve", {"available": -470, "payout": -1000}, 0),
        ("approve fail", {"available": -1470}, 0),
        ("approve pay", {"available": -470}, 1000),
        ("approve pay return", {"available": -1470}, 0),
    ],
)
async def test_each_way_a_payout_goes_moves_the_money_once(
    desk: Desk, path: str, left: dict[str, int], paid: int
) -> None:
    await funded(desk)
    before = await bank(desk)
    payout = (await ask(desk, 1000)).json()
    assert (payout["status"], payout["destination"]) == ("created", "Bank of Kigali …4410")
    for name in path.split():
        answer = await step(desk, payout, name)
        assert answer.status_code == 200, answer.text
        payout = answer.json()
    assert await desk.balances() == left
    assert before - await bank(desk) == paid
    shown = (await desk.call("GET", f"/payouts/{payout['id']}")).json()
    assert [one["version"] for one in shown["steps"]] == list(range(1, payout["version"] + 1))
    assert [one["actor"] for one in shown["steps"]] == ["usr_a", *["usr_b"] * len(path.split())]
    assert await desk.told(payout["id"]) == [f"payout.{one['status']}.v1" for one in shown["steps"]]
    for name in STEPS:  # what is no step from here changes nothing
        answer = await step(desk, payout, name, "usr_c")
        if answer.status_code != 200:
            assert answer.json()["code"] == "no_such_step", answer.text
        else:
            return


async def test_the_person_who_asked_decides_nothing(desk: Desk) -> None:
    await funded(desk)
    payout = (await ask(desk, 1000)).json()
    for name in ("approve", "reject"):
        answer = await step(desk, payout, name, "usr_a")
        assert (answer.status_code, answer.json()["code"]) == (422, "second_person")
    with pytest.raises(asyncpg.CheckViolationError):  # nor does the database let them
        await desk.fetch(
            "update payouts set status = 'approved', version = 2, decided_by = 'usr_a' "
            "where id = $1",
            payout["id"],
        )
    with pytest.raises(asyncpg.PostgresError) as error:
        await desk.fetch(
            "update payouts set status = 'paid', version = 2, decided_by = 'usr_b', "
            "reference = 'r' where id = $1",
            payout["id"],
        )
    assert error.value.sqlstate == "23M07"


async def test_of_two_who_decide_at_once_the_first_does(desk: Desk) -> None:
    await funded(desk)
    payout = (await ask(desk, 1000)).json()
    answers = await asyncio.gather(
        *(step(desk, payout, name, f"usr_{n}") for n, name in enumerate(["approve", "reject"] * 3))
    )
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200, 409, 409, 409, 409, 409]
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"stale_version"}


async def test_payouts_asked_for_at_once_never_overdraw(desk: Desk) -> None:
    await funded(desk)
    answers = await asyncio.gather(*(ask(desk, 400) for _ in range(8)))
    made = [answer for answer in answers if answer.status_code == 201]
    assert len(made) == 3
    assert {a.json()["code"] for a in answers if a.status_code != 201} == {"not_enough"}
    assert await desk.balances() == {"available": -270, "payout": -1200}
    rows = await desk.fetch("select 1 from payouts where client_id = $1", desk.client_id)
    assert len(rows) == 3


async def test_the_same_key_is_the_same_payout(desk: Desk) -> None:
    await funded(desk)
    answers = await asyncio.gather(*(ask(desk, 400, "k") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    again = await ask(desk, 400, "k")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    for other in (await ask(desk, 401, "k"), await ask(desk, 400, "k", destination="elsewhere")):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await desk.balances() == {"available": -1070, "payout": -400}


async def test_a_client_asks_for_its_own_and_is_not_told_who_decides(desk: Desk) -> None:
    await funded(desk)
    own = {"client_id": desk.client_id, "mode": "test"}
    body = {**own, "currency": "RWF", "amount_minor": 5}
    foreign = await desk.call(
        "POST", "/payouts", json=body, key="k", client_id=new_id("cli"), mode="test"
    )
    assert (foreign.status_code, foreign.json()["errors"][0]["field"]) == (422, "client_id")
    live = await desk.call(
        "POST", "/payouts", json=body, key="k", client_id=desk.client_id, mode="live"
    )
    assert (live.status_code, live.json()["errors"][0]["field"]) == (422, "mode")
    made = await desk.call("POST", "/payouts", json=body, key="k", **own)
    payout = made.json()
    assert made.status_code == 201
    decided = await desk.call(
        "POST", f"/payouts/{payout['id']}/approve", json={"version": 1}, actor="usr_b", **own
    )
    assert (decided.status_code, decided.json()["code"]) == (403, "operators_only")
    await step(desk, payout, "approve", "usr_secret")
    path = f"/payouts/{payout['id']}"
    shown = (await desk.call("GET", path, **own)).json()
    assert (shown["decided_by"], [s["actor"] for s in shown["steps"]]) == (
        "operator", ["usr_a", "operator"],
    )  # fmt: skip
    listed = (await desk.call("GET", "/payouts?status=approved", **own)).json()
    assert [one["id"] for one in listed["items"]] == [payout["id"]]
    other = {"client_id": new_id("cli"), "mode": "test"}
    assert (await desk.call("GET", path, **other)).status_code == 404
    assert (await desk.call("GET", "/payouts", **other)).json()["items"] == []
    assert (await desk.call("GET", path, client_id=desk.client_id, mode="live")).status_code == 404


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("amount_minor", {"amount_minor": 0}), ("amount_minor", {"amount_minor": -5}),
        ("amount_minor", {"amount_minor": 2**63}), ("currency", {"currency": "rwf"}),
        ("client_id", {"client_id": "a\x00b"}), ("destination", {"destination": "a\x00b"}),
        ("mode", {"mode": "prod"}), ("destination", {}),
    ],
)  # fmt: skip
async def test_bad_payouts_name_the_field(desk: Desk, field: str, changes: dict[str, Any]) -> None:
    answer = await ask(desk, 5, **changes)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_steps_need_their_reason_their_version_and_a_person(desk: Desk) -> None:
    await funded(desk)
    payout = (await ask(desk, 5)).json()
    path = f"/payouts/{payout['id']}"
    answer = await desk.call("POST", f"{path}/reject", json={"version": 1}, actor="usr_b")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "reason")
    answer = await desk.call("POST", f"{path}/approve", json={"version": 9}, actor="usr_b")
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_version")
    answer = await desk.call("POST", f"{path}/approve", json={"version": 1}, actor=None)
    assert (answer.status_code, answer.json()["code"]) == (403, "actor_required")
    answer = await desk.call("POST", "/payouts/po_x/approve", json={"version": 1})
    assert (answer.status_code, answer.json()["code"]) == (404, "payout_missing")
    answer = await desk.call("POST", f"{path}/approve", json={"version": 1}, scope="ledger:read")
    assert answer.status_code == 403
    answer = await desk.call("POST", "/payouts", json={})
    assert answer.status_code == 422
