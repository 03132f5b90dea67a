"""Refunds: every cell of their table, and purses that never hold more than was captured."""

import datetime as dt
import itertools
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from mospay_payment_router.domain.answers import Finding
from mospay_payment_router.domain.refunds import (
    Purse,
    Refund,
    after,
    contradicts,
    resolvable,
    settle_purse,
)
from mospay_payment_router.domain.states import Evidence
from mospay_shared.contracts import RefundStatus

E, S = Evidence, RefundStatus

ENDS = {E.DECLINED: S.FAILED, E.EXPIRED: S.FAILED, E.NEVER_SENT: S.FAILED, E.NOT_FOUND: S.FAILED}
EXITS = {
    S.PENDING: {
        **ENDS,
        E.SUCCEEDED: S.SUCCEEDED,
        E.REFUSED: S.FAILED,
        E.UNDEFINED: S.UNKNOWN,
        E.MISMATCH: S.UNKNOWN,
    },
    S.UNKNOWN: {
        **ENDS,
        E.SUCCEEDED: S.SUCCEEDED,
        E.PEOPLE_SUCCEEDED: S.SUCCEEDED,
        E.PEOPLE_FAILED: S.FAILED,
    },
    S.FAILED: {E.SUCCEEDED: S.SUCCEEDED},
    S.SUCCEEDED: {},
}


def refund(amount: int = 100, status: RefundStatus = S.PENDING) -> Refund:
    """A refund of so much."""
    now = dt.datetime.now(dt.UTC)
    return Refund(
        *("ref_1", "pay_1", "cli_1", "test", amount, "RWF", None, now, "att_1", None, None, None),
        status=status,
    )


@pytest.mark.parametrize(("state", "told"), list(itertools.product(S, E)), ids=str)
def test_cell_of_the_refund_table(state: RefundStatus, told: Evidence) -> None:
    now = after(refund(status=state), Finding(told))
    assert now.status is EXITS[state].get(told, state)
    assert now.version == 1 + (now.status is not state)
    assert now.late is (state is S.FAILED and now.status is S.SUCCEEDED)
    assert contradicts(state, told) is (state is S.SUCCEEDED and told in (*ENDS, E.MISMATCH))
    by_people = told in (E.PEOPLE_SUCCEEDED, E.PEOPLE_FAILED)
    assert now.resolved is (by_people and now.status is not state)


@pytest.mark.parametrize("state", S, ids=str)
@pytest.mark.parametrize("seen", [0, 1, 2])
def test_two_people_end_only_what_is_unknown_and_as_they_saw_it(
    state: RefundStatus, seen: int
) -> None:
    assert resolvable(refund(status=state), seen) is (state is S.UNKNOWN and seen == 1)


def test_a_success_proven_after_two_people_said_failed_is_late_and_not_theirs() -> None:
    said = after(refund(status=S.UNKNOWN), Finding(E.PEOPLE_FAILED))
    assert said.resolved and not said.late
    proven = after(said, Finding(E.SUCCEEDED))
    assert (proven.status, proven.late, proven.resolved) == (S.SUCCEEDED, True, False)


@pytest.mark.parametrize("then", [E.SILENT, E.SUCCEEDED, E.PENDING, E.UNDEFINED], ids=str)
def test_what_a_person_must_look_at_after_an_end_is_not_cleared_by_what_comes_later(
    then: Evidence,
) -> None:
    said = after(refund(status=S.UNKNOWN), Finding(E.PEOPLE_SUCCEEDED))
    denied = after(said, Finding(E.DECLINED))
    assert (denied.status, denied.attention) == (S.SUCCEEDED, "contradicted")
    assert after(denied, Finding(then)).attention == "contradicted"


def test_an_end_clears_what_a_person_had_to_look_at() -> None:
    asked = replace(refund(status=S.UNKNOWN), attention="unresolved")
    assert after(asked, Finding(E.PEOPLE_FAILED)).attention is None


CAPTURED = 1000


class Purses(RuleBasedStateMachine):
    """Refunds of one payment, asked for and answered in any order."""

    refunds = Bundle("refunds")

    def __init__(self) -> None:
        super().__init__()
        self.purse = Purse(0, 0, 0)
        self.made: list[Refund] = []
        self.late_minor = 0

    @rule(target=refunds, amount=st.integers(1, 1200))
    def ask(self, amount: int) -> int:
        one = refund(amount)
        if amount <= self.purse.left(CAPTURED):
            self.purse = Purse(
                self.purse.open_minor + amount, self.purse.refunded_minor, self.purse.over_minor
            )
        else:
            one = refund(amount, S.FAILED)
        self.made.append(one)
        return len(self.made) - 1

    @rule(index=refunds, told=st.sampled_from(list(E)))
    def hear(self, index: int, told: Evidence) -> None:
        before = self.made[index]
        now = after(before, Finding(told))
        if now.late and not before.late:
            self.late_minor += now.amount_minor
        self.purse = settle_purse(self.purse, before, now, CAPTURED)
        self.made[index] = now

    @invariant()
    def sums_are_those_of_the_refunds(self) -> None:
        opened = sum(r.amount_minor for r in self.made if not r.final)
        given = sum(r.amount_minor for r in self.made if r.status is S.SUCCEEDED)
        assert (self.purse.open_minor, self.purse.refunded_minor) == (opened, given)

    @invariant()
    def only_late_money_goes_beyond_the_capture(self) -> None:
        purse = self.purse
        assert purse.open_minor + purse.refunded_minor <= CAPTURED + purse.over_minor
        assert purse.over_minor <= self.late_minor
        if not self.late_minor:
            assert purse.over_minor == 0


TestPurses = Purses.TestCase
TestPurses.settings = settings(max_examples=1_000, stateful_step_count=20, deadline=None)
