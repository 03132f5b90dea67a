"""The last days of a month and its end, lived through the real services on moved clocks."""

import pytest
from mospay_dev.month.story import Month
from mospay_dev.services import ROOT


@pytest.mark.timeout(600)
def test_every_side_says_the_same_of_a_month_to_the_unit() -> None:
    month = Month(ROOT / ".mospay/month", print, days=4)
    assert month.run(), month.agreement.faults
    said = [what for what, _ in month.agreement.rows]
    assert {"exception duplicate", "invoice overdue: paid", "akaliza: net"} <= set(said)
