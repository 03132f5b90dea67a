"""Rate windows as pure arithmetic: what slides, what is told, what is corrected."""

import pytest
from mospay_gateway.domain.limits import (
    Change,
    Held,
    Window,
    Windows,
    allows,
    limit_header,
    policy_header,
    retry_seconds,
)

MINUTE = 1_000


def used(windows: Windows, subject: str, calls: int, minute: int = MINUTE) -> Window:
    """Count some calls of a subject."""
    window = windows.find(subject, minute)
    for _ in range(calls):
        windows.count(window)
    return window


def test_a_limit_allows_exactly_so_many_calls_in_a_minute() -> None:
    windows = Windows("client", 100)
    window = used(windows, "a", 4)
    assert allows(5, window, 0.0)
    windows.count(window)
    assert not allows(5, window, 0.0) and not allows(5, window, 59.9)


def test_the_minute_before_counts_by_the_share_that_still_lies_in_the_window() -> None:
    windows = Windows("client", 100)
    used(windows, "a", 10)
    window = windows.find("a", MINUTE + 1)
    assert (window.current, window.previous) == (0, 10)
    assert not allows(10, window, 0.0) and not allows(10, window, 5.0)
    assert allows(10, window, 6.0), "a tenth of the minute before has left the window"
    assert windows.find("a", MINUTE + 3).previous == 0, "two minutes later nothing is left"


@pytest.mark.parametrize(("current", "previous", "elapsed"), [
    (10, 0, 0.0), (10, 0, 59.5), (25, 3, 30.0), (3, 9, 10.0), (0, 10, 0.0), (9, 100, 1.0),
])  # fmt: skip
def test_who_comes_again_after_retry_seconds_is_let_in_and_not_much_earlier(
    current: int, previous: int, elapsed: float
) -> None:
    window = Window("a")
    window.current, window.previous = current, previous
    assert not allows(10, window, elapsed)
    wait = retry_seconds(10, window, elapsed)

    def at(seconds: float) -> bool:
        later = Window("a")
        later.current, later.previous = current, previous
        when = elapsed + seconds
        if when >= 60:
            later.previous, later.current, when = later.current, 0, when - 60
        if when >= 60:
            later.previous, when = 0, when - 60
        return allows(10, later, when)

    assert at(wait) and (wait == 1 or not at(wait - 1.01))


def test_changes_are_told_once_and_the_total_of_all_holds() -> None:
    windows = Windows("client", 100)
    window = used(windows, "a", 3)
    changes = windows.take_changes(10)
    assert {(c.minute, c.used) for c in changes} == {(MINUTE - 1, 0), (MINUTE, 3)}
    windows.count(window)  # while they are told
    for change in changes:
        Windows.correct(change, 40 if change.minute == MINUTE else 7)
    assert (window.current, window.previous) == (41, 7)
    assert [(c.minute, c.used) for c in windows.take_changes(10)] == [(MINUTE, 1)]
    assert windows.take_changes(10) == []


def test_counts_that_could_not_be_told_are_told_later_and_old_ones_let_go() -> None:
    windows = Windows("client", 100)
    window = used(windows, "a", 3)
    changes = windows.take_changes(10)
    windows.put_back(changes)
    windows.count(window)
    assert [(c.minute, c.used) for c in windows.take_changes(10)] == [(MINUTE, 4)]
    windows.put_back([Change(window, MINUTE - 5, 9)])
    assert windows.take_changes(10) == []


def test_a_total_smaller_than_our_own_count_does_not_free_anybody() -> None:
    windows = Windows("client", 100)
    window = used(windows, "a", 8)
    change = windows.take_changes(10)[-1]
    Windows.correct(change, 1)  # Redis came back empty
    assert window.current == 8


def test_untold_calls_of_the_minute_before_are_told_for_that_minute() -> None:
    windows = Windows("client", 100)
    used(windows, "a", 2)
    used(windows, "a", 1, MINUTE + 1)
    told = {(c.minute, c.used) for c in windows.take_changes(10) if c.used}
    assert told == {(MINUTE, 2), (MINUTE + 1, 1)}


def test_memory_is_bounded_and_old_windows_are_forgotten() -> None:
    windows = Windows("ip", 10)
    for number in range(50):
        used(windows, f"10.0.0.{number}", 1)
    assert len(windows) == 10
    windows.take_changes(1000)
    assert windows.forget(MINUTE + 1) == 0, "the minute before still counts"
    assert windows.forget(MINUTE + 2) == 10 and len(windows) == 0


def test_headers_say_policy_rest_and_reset() -> None:
    windows = Windows("client", 10)
    held = [Held("client", 100, used(windows, "a", 3)), Held("key", 2, used(windows, "k", 5))]
    assert policy_header((("client", 100), ("key", 2))) == b'"client";q=100;w=60, "key";q=2;w=60'
    assert limit_header(held, 45.5) == b'"client";r=97;t=15, "key";r=0;t=15'
