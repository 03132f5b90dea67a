"""Random faults: a plan follows from its seed alone; a short run of a fixed one holds."""

import pytest
from mospay_dev.crash.house import House
from mospay_dev.crash.plan import WEIGHTS, make_plan, plan_json
from mospay_dev.crash.runner import run_faults

from tests.crash.matrix import FOLDER


def test_same_seed_makes_the_same_plan_and_another_seed_another() -> None:
    assert plan_json(make_plan(7, 600)) == plan_json(make_plan(7, 600))
    assert plan_json(make_plan(7, 600)) != plan_json(make_plan(8, 600))


def test_plans_are_in_order_leave_time_to_heal_and_know_every_kind_of_fault() -> None:
    plan = make_plan(1, 3600)
    times = [fault.at_second for fault in plan]
    assert times == sorted(times) and times[0] >= 2 and times[-1] <= 3595
    assert {fault.kind for fault in plan} == set(WEIGHTS)


@pytest.mark.timeout(600)
def test_thirty_seconds_of_a_fixed_seed_hold_the_promise(house: House) -> None:
    report = run_faults(house, seed=20, seconds=30, rate=30, folder=FOLDER, say=print)
    assert not report["audit"]["faults"], report["audit"]
    assert report["audit"]["accepted"] > 500
