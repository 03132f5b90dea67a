"""Rules of facts, periods and pages."""

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_reporter.domain.facts import (
    EPOCH,
    ForeignPayment,
    Known,
    Unstorable,
    bookings,
    identity,
    month_of,
    newest,
    newness,
    news,
)
from mospay_reporter.domain.pages import SORTS, decode_cursor, encode_cursor, order
from mospay_reporter.domain.periods import DAY, HOUR, QueryError, buckets, months, pieces
from mospay_shared.ids import new_id

from ..samples import entry, later, payment

UTC = dt.UTC
BASE = dt.datetime(2024, 1, 1, tzinfo=UTC)
instants = st.integers(0, 4 * 365 * 86_400 * 10**6).map(
    lambda n: BASE + dt.timedelta(microseconds=n)
)


def at(text: str) -> dt.datetime:
    """An instant from ISO 8601."""
    return dt.datetime.fromisoformat(text).astimezone(UTC)


@given(st.data())
def test_newest_is_the_same_for_every_order(data: st.DataObject) -> None:
    first = payment(version=0)
    history = [
        later(first, status, version, occurred_at=first.accepted_at + dt.timedelta(seconds=second))
        for status, version, second in data.draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["unknown", "failed", "succeeded"]),
                    st.integers(0, 3),
                    st.integers(0, 3),
                ),
                max_size=6,
            )
        )
    ]
    events = [first, *history]
    (expected,) = newest(sorted(events, key=newness))
    (found,) = newest(data.draw(st.permutations(events)))
    assert found == expected


def test_newest_comes_in_lock_order() -> None:
    events = [payment() for _ in range(20)]
    keys = [(month_of(e.payment_id), e.payment_id) for e in newest(events[::-1])]
    assert keys == sorted(keys)


def test_time_without_zone_and_numbers_beyond_64_bits_are_unstorable() -> None:
    naive = payment().model_copy(update={"occurred_at": dt.datetime(2026, 1, 1)})  # noqa: DTZ001
    # the contract refuses such a version by now; what is stored is checked on its own
    versioned = payment().model_copy(update={"version": 2**63})
    for event in (naive, versioned, payment(attempts=2**63)):
        with pytest.raises(Unstorable):
            newest([event])
    with pytest.raises(Unstorable):
        bookings([entry(payment(), net_minor=-(2**63) - 1)])


def test_stale_news_is_no_news_and_foreign_news_is_refused() -> None:
    event = later(payment(), "succeeded", 3)
    stale = later(event, "unknown", 2)
    known = {event.payment_id: Known(identity(event), newness(event), frozenset())}
    assert news([stale], known) == [] and news([event], known) == []
    assert news([later(event, "failed", 4)], known)
    with pytest.raises(ForeignPayment):
        news([later(event, "failed", 4, currency="USD")], known)


def test_known_entries_are_left_out_and_others_summed_once() -> None:
    done = payment()
    one, two = entry(done, 10), entry(done, 15)
    known = {done.payment_id: Known(identity(done), None, frozenset({one.entry_id}))}
    (booking,) = bookings([one, two, two], known)
    assert (booking.fee_minor, booking.entry_ids) == (15, (two.entry_id,))
    assert bookings([one], known) == []


@pytest.mark.parametrize(
    "text", ["", "pay_1", "pay_" + "f" * 32, "pay_ffffffffffff7fffbfffffffffffffff"]
)
def test_month_of_an_id_without_a_usable_time_is_the_epoch(text: str) -> None:
    assert month_of(text) == EPOCH


def test_month_of_an_id_is_when_it_was_made() -> None:
    assert month_of(new_id("pay")) == dt.datetime.now(UTC).date().replace(day=1)


@given(st.lists(st.tuples(instants, instants), max_size=4), st.booleans())
def test_pieces_cover_each_span_exactly_with_whole_days_and_hours(
    spans: list[tuple[dt.datetime, dt.datetime]], days: bool
) -> None:
    found = pieces(spans, days=days)
    for index, (since, until) in enumerate(spans):
        parts = [p for p in found if p.span == index]
        if until <= since:
            assert parts == []
            continue
        assert parts[0].since == since and parts[-1].until == until
        assert all(a.until == b.since for a, b in pairwise(parts))
        for part in parts:
            step = {"day": DAY, "hour": HOUR, "row": None}[part.grain]
            midnight = part.since.replace(hour=0, minute=0, second=0, microsecond=0)
            if step is not None:
                assert (part.since - midnight) % step == (part.until - midnight) % step
                assert (part.since - midnight) % step == dt.timedelta(0)
            else:
                assert part.until - part.since < HOUR * 2
        assert days or not any(p.grain == "day" for p in parts)


zones = st.sampled_from(
    ["UTC", "Africa/Kigali", "Asia/Kolkata", "Europe/Berlin", "Pacific/Apia", "America/Havana"]
)


@given(instants, st.integers(1, 40 * 24 * 60), zones, st.sampled_from(["hour", "day"]))
def test_buckets_cover_the_period_without_gap_or_overlap(
    since: dt.datetime, minutes: int, zone: str, granularity: str
) -> None:
    until = since + min(dt.timedelta(minutes=minutes), dt.timedelta(days=30))
    found = buckets(since, until, granularity, ZoneInfo(zone))
    assert found[0].since == since and found[-1].until == until
    assert all(a.until == b.since == b.at for a, b in pairwise(found))
    assert all(bucket.since < bucket.until for bucket in found)
    if granularity == "day":
        local = [b.at.astimezone(ZoneInfo(zone)).date() for b in found]
        assert len(set(local)) == len(local)


def test_days_begin_at_local_midnight() -> None:
    found = buckets(
        at("2026-11-20T10:00:00+00:00"),
        at("2026-11-21T10:00:00+00:00"),
        "day",
        ZoneInfo("Asia/Kolkata"),
    )
    assert [b.at for b in found] == [
        at("2026-11-20T00:00:00+05:30"),
        at("2026-11-21T00:00:00+05:30"),
    ]


def test_day_of_a_clock_change_has_its_own_length() -> None:
    found = buckets(
        at("2026-03-29T00:00:00+01:00"),
        at("2026-03-31T00:00:00+02:00"),
        "day",
        ZoneInfo("Europe/Berlin"),
    )
    assert [b.until - b.since for b in found] == [HOUR * 23, HOUR * 24]


def test_empty_and_endless_periods_are_refused_by_name() -> None:
    now = dt.datetime.now(UTC)
    for since, until, field in ((now, now, "to"), (now - DAY * 401, now, "from")):
        with pytest.raises(QueryError) as refused:
            buckets(since, until, "day", ZoneInfo("UTC"))
        assert refused.value.field == field


def test_months_include_those_an_id_may_carry_at_the_turn() -> None:
    first, last = months(at("2026-11-01T00:00:00+00:00"), at("2026-11-30T23:59:00+00:00"))
    assert (first, last) == (dt.date(2026, 10, 1), dt.date(2026, 12, 1))


@given(st.sampled_from(SORTS), instants, st.integers(0, 2**63 - 1), st.text("abc_é", min_size=1))
def test_cursor_holds_its_place(sort: str, when: dt.datetime, amount: int, text: str) -> None:
    row = {"accepted_at": when, "amount_minor": amount, "status": text[:40], "service": text[:40]}
    row["payment_id"] = text[:40]
    assert decode_cursor(sort, encode_cursor(sort, row)) == tuple(row[c] for c in order(sort)[0])


@given(
    st.sampled_from(SORTS), st.one_of(st.text(max_size=60), st.from_regex(r"[A-Za-z0-9_-]{4,60}"))
)
def test_invented_cursor_is_refused(sort: str, cursor: str) -> None:
    with pytest.raises(QueryError):
        decode_cursor(sort, cursor)


def test_cursor_of_another_order_is_refused() -> None:
    row = {"accepted_at": dt.datetime.now(UTC), "payment_id": "pay_1"}
    with pytest.raises(QueryError):
        decode_cursor("accepted_at", encode_cursor("-accepted_at", row))
