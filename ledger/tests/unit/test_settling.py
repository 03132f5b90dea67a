"""Settlement rules without I/O: where days end, whose terms hold, what waits, a payout's life."""

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_ledger.domain.settling import (
    STEPS,
    NoSuchStep,
    SamePerson,
    Terms,
    TermsInvalid,
    Totals,
    check_step,
    choose_terms,
    day_end,
    last_ended_day,
    reserve_of,
    worth_settling,
)
from mospay_ledger.routes.files import amount, cell, rows_of
from mospay_shared.contracts import PayoutStatus

ZONES = (
    "UTC", "Africa/Kigali", "Europe/Berlin", "America/New_York", "Asia/Kathmandu",
    "Pacific/Kiritimati", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe",
    "Africa/Casablanca", "America/St_Johns",
)  # fmt: skip
zones = st.sampled_from([ZoneInfo(name) for name in ZONES])
days = st.dates(dt.date(2001, 1, 1), dt.date(2090, 1, 1))
times = st.builds(dt.time, st.integers(0, 23), st.sampled_from((0, 30)))


def terms(**changes: object) -> Terms:
    """Terms of a day's hold."""
    return Terms(**({"id": "t", "mode": "test", "client_id": None, "currency": None,
                     "hold_days": 1} | changes))  # type: ignore[arg-type]  # fmt: skip


@given(days, zones, times)
def test_days_follow_each_other_without_gap_or_overlap(
    day: dt.date, zone: ZoneInfo, cut_off: dt.time
) -> None:
    end, after = (day_end(day + dt.timedelta(days=n), zone, cut_off) for n in (0, 1))
    assert dt.timedelta(hours=22) <= after - end <= dt.timedelta(hours=26)
    assert last_ended_day(end, zone, cut_off) == day
    assert last_ended_day(after - dt.timedelta(microseconds=1), zone, cut_off) == day
    assert last_ended_day(after, zone, cut_off) == day + dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("zone", "day", "cut_off", "ends"),
    [
        ("Africa/Kigali", "2026-11-20", "00:00", "2026-11-20T22:00"),
        ("Africa/Kigali", "2026-11-20", "18:00", "2026-11-20T16:00"),
        # the clocks skip 02:00 to 03:00: 02:30 is what it would have been
        ("Europe/Berlin", "2026-03-29", "02:30", "2026-03-29T01:30"),
        # they show 02:30 twice: the first
        ("Europe/Berlin", "2026-10-25", "02:30", "2026-10-25T00:30"),
        ("Europe/Berlin", "2026-03-29", "00:00", "2026-03-29T22:00"),
        ("Pacific/Kiritimati", "2026-01-01", "00:00", "2026-01-01T10:00"),
    ],
)
def test_a_day_ends_by_the_clients_clock(zone: str, day: str, cut_off: str, ends: str) -> None:
    found = day_end(dt.date.fromisoformat(day), ZoneInfo(zone), dt.time.fromisoformat(cut_off))
    assert found == dt.datetime.fromisoformat(ends).replace(tzinfo=dt.UTC)


def test_the_nearest_terms_hold_and_of_one_scope_the_newest() -> None:
    now = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
    default = terms(id="default")
    currency = terms(id="currency", currency="RWF", effective_from=now)
    client = terms(id="client", client_id="c")
    newer = terms(id="newer", client_id="c", effective_from=now)
    exact = terms(id="exact", client_id="c", currency="RWF")
    for found, wanted in (
        ([default], "default"),
        ([default, currency], "currency"),
        ([default, currency, client], "client"),
        ([newer, currency, client], "newer"),
        ([exact, newer, currency, client], "exact"),
    ):
        assert choose_terms(found, "c", "RWF").id == wanted
    assert choose_terms([exact, default], "other", "RWF").id == "default"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("minimum_minor", {"minimum_minor": 5}),
        ("reserve_days", {"reserve_bps": 5}),
        ("reserve_days", {"reserve_days": 5}),
        ("cut_off", {"cut_off": dt.time(1, 2, 3)}),
    ],
)
def test_terms_that_contradict_themselves_name_the_member(
    field: str, changes: dict[str, object]
) -> None:
    with pytest.raises(TermsInvalid) as refused:
        terms(**changes).check()
    assert refused.value.field == field


def test_a_batch_waits_where_it_is_paused_below_its_minimum_or_nothing() -> None:
    batch = Totals(3, 3000, 60, -500, 0)
    assert batch.net_minor == 2440
    assert worth_settling(batch, terms())
    assert worth_settling(batch, terms(minimum_minor=2440))
    assert not worth_settling(batch, terms(minimum_minor=2441))
    assert not worth_settling(batch, terms(paused=True))
    assert not worth_settling(Totals(2, 500, 0, -500, 0), terms())
    assert not worth_settling(Totals(2, 500, 0, -900, 0), terms())


@given(st.integers(1, 2**62), st.integers(0, 10_000))
def test_reserve_is_the_rounded_share_and_never_more_than_the_batch(net: int, points: int) -> None:
    kept = reserve_of(net, terms(reserve_bps=points, reserve_days=1))
    assert 0 <= kept <= net
    assert abs(kept * 10_000 - net * points) <= 5_000


def test_every_step_from_every_state_is_taken_or_refused_as_written() -> None:
    allowed = {
        ("created", "approve"): "approved",
        ("created", "reject"): "rejected",
        ("approved", "pay"): "paid",
        ("approved", "fail"): "failed",
        ("paid", "return"): "returned",
    }
    for status, name in itertools.product(PayoutStatus, STEPS):
        wanted = allowed.get((status.value, name))
        if wanted is None:
            with pytest.raises(NoSuchStep):
                check_step(name, status.value, "usr_a", "usr_b")
        else:
            assert check_step(name, status.value, "usr_a", "usr_b").after == wanted


def test_who_asked_does_not_decide() -> None:
    for name in ("approve", "reject"):
        with pytest.raises(SamePerson):
            check_step(name, "created", "usr_a", "usr_a")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"), ("@sum(a1)", "'@sum(a1)"), ("-2+3", "'-2+3"), ("\t=1", "'\t=1"),
        ("-12.50", "-12.50"), (None, ""), (7, "7"), ("pay_1", "pay_1"), ("＝1", "'＝1"),
    ],
)  # fmt: skip
def test_a_text_that_would_be_a_formula_is_quoted_and_a_number_is_not(
    value: object, shown: str
) -> None:
    assert cell(value) == shown


def test_amounts_are_exact_in_currencies_of_0_2_and_3_decimals() -> None:
    assert [amount(-1234, code) for code in ("RWF", "USD", "KWD", "XXX")] == [
        "-1234", "-12.34", "-1.234", "-1234",
    ]  # fmt: skip
    assert rows_of([("a,b", 'c"d', "e\nf")]) == b'"a,b","c""d","e\nf"\r\n'
