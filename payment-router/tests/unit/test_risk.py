"""Risk rules, pure: each rule, the lists, the thresholds, and what must hold whatever the input."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_payment_router.domain.risk import (
    BODIES,
    Decision,
    Entry,
    Facts,
    History,
    Lists,
    Policy,
    Rule,
    Subject,
    Thresholds,
    Window,
    assess,
    severest,
    span,
)
from mospay_payment_router.usecases.risk_rules import Digests, plain
from pydantic import ValidationError

SUBJECT = Subject(
    payment_id="pay_1",
    client_id="cli_1",
    mode="live",
    amount_minor=1_000,
    currency="RWF",
    digests={"phone": "p1", "device": "d1"},
    ip="10.1.2.3",
    customer_id="c1",
)
THRESHOLDS = Thresholds(hold_at=60, refuse_at=100)


def rule(kind: str, rule_id: str = "rsk_1", **body: Any) -> Rule:
    """A rule of a kind; 60 points unless told."""
    values = {"points": 60} | body
    return Rule(rule_id, None, "live", BODIES.validate_python({"kind": kind, **values}))


def entry(name: str, kind: str, subject: str, **other: Any) -> Entry:
    """An entry of a list."""
    return Entry(f"rle_{name}_{kind}", None, "live", name, kind, subject, **other)


def decided(*rules: Rule, facts: Facts | None = None, entries: tuple[Entry, ...] = ()) -> Any:
    """Return the verdict on the one payment of these tests."""
    policy = Policy(rules, [Lists(entries)], THRESHOLDS)
    return assess(policy, SUBJECT, facts or Facts(), now=1_000.0)


def velocity(payments: int = 0, **amounts: int) -> Facts:
    """What was counted of the phone in ten minutes."""
    return Facts(windows={("phone", 10): Window(payments, amounts)})


PHONE = {"scope": "phone", "window_minutes": 10}


def test_velocity_fires_above_its_count_and_not_at_it() -> None:
    limited = rule("velocity", **PHONE, max_payments=3)
    assert decided(limited, facts=velocity(3)).decision is Decision.ALLOW
    over = decided(limited, facts=velocity(4))
    assert (over.decision, over.score) == (Decision.HOLD, 60)
    assert over.reasons[0].detail == "4 payments of this phone in 10 min, more than 3"


def test_velocity_fires_above_its_amount_of_its_currency_alone() -> None:
    limited = rule("velocity", **PHONE, max_amount_minor=5_000, currency="RWF")
    assert decided(limited, facts=velocity(2, RWF=5_000)).score == 0
    assert decided(limited, facts=velocity(2, RWF=5_001)).score == 60
    assert decided(limited, facts=velocity(2, UGX=9_999_999)).score == 0


def test_velocity_of_what_the_payment_does_not_have_is_silent() -> None:
    limited = rule("velocity", scope="device", window_minutes=10, max_payments=0)
    assert decided(limited, facts=velocity(99)).score == 0


def test_amount_above_speaks_of_its_currency_alone() -> None:
    assert decided(rule("amount_above", currency="RWF", amount_minor=999)).score == 60
    assert decided(rule("amount_above", currency="RWF", amount_minor=1_000)).score == 0
    assert decided(rule("amount_above", currency="UGX", amount_minor=1)).score == 0


def history(*amounts: int) -> History:
    """What was paid before."""
    return History(len(amounts), sum(amounts), sum(a * a for a in amounts), max(amounts, default=0))


@pytest.mark.parametrize("whose", ["client", "payer"])
def test_anomaly_compares_with_the_largest_so_far(whose: str) -> None:
    odd = rule("anomaly_amount", against=whose, least_payments=3, times_max_percent=300)
    for amounts, fires in (
        ((300, 1, 1), True),
        ((334, 1, 1), False),
        ((300, 1), False),
        ((), False),
    ):
        verdict = decided(odd, facts=Facts(**{whose: history(*amounts)}))
        assert (verdict.score == 60) is fires, amounts
    assert decided(odd).score == 0


def test_anomaly_compares_with_mean_and_deviation() -> None:
    odd = rule("anomaly_amount", against="client", least_payments=2, sigmas=3)
    # mean 500, deviation 100: the limit is 800; then deviation 167: the limit is 1001
    assert decided(odd, facts=Facts(client=history(400, 600))).score == 60
    assert decided(odd, facts=Facts(client=history(333, 667))).score == 0
    # all the same: anything above is odd, the same is not
    assert decided(odd, facts=Facts(client=history(1_000, 1_000))).score == 0
    assert decided(odd, facts=Facts(client=history(999, 999))).score == 60


def test_first_seen_payer_fires_over_its_amount_alone() -> None:
    new = rule("first_seen_payer", currency="RWF", amount_minor=999)
    assert decided(new, facts=Facts(payer=History())).score == 60
    assert decided(new, facts=Facts(payer=history(5))).score == 0
    assert decided(new, facts=Facts()).score == 0  # no phone, no customer: nobody to know
    larger = rule("first_seen_payer", currency="RWF", amount_minor=1_000)
    assert decided(larger, facts=Facts(payer=History())).score == 0


def test_points_add_up_to_hold_and_to_refuse() -> None:
    rules = [rule("amount_above", f"r{n}", currency="RWF", amount_minor=n, points=30)
             for n in range(4)]  # fmt: skip
    decisions = [decided(*rules[:n]).decision for n in range(5)]
    assert decisions == ["allow", "allow", "hold", "hold", "refuse"]


def test_a_rule_decides_by_itself_where_it_says_so() -> None:
    above = {"currency": "RWF", "amount_minor": 1, "points": 0}
    assert decided(rule("amount_above", decision="hold", **above)).decision is Decision.HOLD
    both = (rule("amount_above", "a", decision="refuse", **above),
            rule("amount_above", "b", decision="hold", **above))  # fmt: skip
    assert decided(*both).decision is Decision.REFUSE


@pytest.mark.parametrize(
    ("kind", "subject"),
    [("phone", "p1"), ("device", "d1"), ("customer", "c1"), ("ip", "10.1.2.3/32"),
     ("ip", "10.0.0.0/8")],
)  # fmt: skip
def test_block_list_refuses_whatever_it_names(kind: str, subject: str) -> None:
    verdict = decided(entries=(entry("block", kind, subject),))
    assert verdict.decision is Decision.REFUSE
    assert verdict.reasons[0].rule == f"rle_block_{kind}"
    trusted = (entry("block", kind, subject), entry("allow", "phone", "p1"))
    assert decided(entries=trusted).decision is Decision.REFUSE


def test_lists_name_nobody_else() -> None:
    others = (
        entry("block", "phone", "p2"),
        entry("block", "device", "p1"),  # a phone's digest on the list of devices
        entry("block", "ip", "10.2.0.0/16"),
        entry("block", "ip", "::/0"),
        entry("block", "customer", "c2"),
    )
    assert decided(entries=others).decision is Decision.ALLOW


def test_an_entry_ends_when_it_expires() -> None:
    assert decided(entries=(entry("block", "phone", "p1", until=999.0),)).decision == "allow"
    assert decided(entries=(entry("block", "phone", "p1", until=1_001.0),)).decision == "refuse"


def test_a_mapped_address_is_the_address_it_stands_for() -> None:
    policy = Policy([], [Lists([entry("block", "ip", "10.0.0.0/8")])], THRESHOLDS)
    mapped = replace(SUBJECT, ip="::ffff:10.1.2.3")
    assert assess(policy, mapped, Facts(), 0).decision is Decision.REFUSE
    for text in (None, "", "not an address", "10.1.2.3:80"):
        assert assess(policy, replace(SUBJECT, ip=text), Facts(), 0).decision is Decision.ALLOW


def test_allow_list_waives_suspicion_and_says_so_but_no_limit_of_amount() -> None:
    limited = rule("velocity", "v", **PHONE, max_payments=3, decision="refuse")
    trusted = (entry("allow", "phone", "p1"),)
    verdict = decided(limited, facts=velocity(9), entries=trusted)
    assert (verdict.decision, verdict.score) == (Decision.ALLOW, 0)
    assert "waived" in verdict.reasons[0].detail
    above = rule("amount_above", "a", currency="RWF", amount_minor=1)
    assert decided(limited, above, facts=velocity(9), entries=trusted).decision is Decision.HOLD


def test_a_window_is_never_shorter_than_asked_and_one_bucket_longer_at_most() -> None:
    for minutes in (1, 10, 60, 61, 1440, 31 * 1440):
        for minute in (29_000_000, 29_000_059, 29_000_061):
            found = span(minute, minutes)
            covered = minute - found.since
            assert minutes <= covered + 1 and covered < minutes + 2 * found.grain
            assert found.grain == (1 if minutes <= 60 else 60)
            assert found.upto <= minute < found.upto + found.grain


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "velocity", "scope": "phone", "window_minutes": 1, "points": 1}, "max_payments"),
        ({"kind": "velocity", **PHONE, "max_amount_minor": 1, "points": 1}, "currency"),
        ({"kind": "velocity", **PHONE, "max_payments": 1}, "points"),
        ({"kind": "velocity", **PHONE, "max_payments": 1, "points": -1}, "points"),
        ({"kind": "velocity", **PHONE, "max_payments": 1, "points": 1, "x": 1}, "x"),
        ({"kind": "anomaly_amount", "against": "payer", "points": 1}, "sigmas"),
        ({"kind": "amount_above", "currency": "rwf", "amount_minor": 1, "points": 1}, "currency"),
        ({"kind": "amount_above", "currency": "RWF", "amount_minor": 2**63, "points": 1}, "amount"),
        ({"kind": "magic"}, "kind"),
    ],
)
def test_a_rule_that_means_nothing_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        BODIES.validate_python(body)


def test_digests_tell_apart_what_differs_and_need_the_key() -> None:
    ours, theirs = Digests(b"a" * 32), Digests(b"b" * 32)
    assert plain("phone", "+250 780-000 000") == plain("phone", "00250780000000") == "250780000000"
    assert ours.listed("phone", "+250780000000") == ours.listed("phone", "250 780 000 000")
    assert ours.listed("phone", "+250780000000") != theirs.listed("phone", "+250780000000")
    assert ours.listed("phone", "123456") != ours.listed("device", "123456")
    assert "250780000000" not in ours.listed("phone", "+250780000000")
    seen = {
        ours.counted(client, mode, kind, "123")
        for client in "ab" for mode in "cd" for kind in ("phone", "device", "ip", "customer")
    }  # fmt: skip
    assert len(seen) == 16 and all(len(key) == 16 for key in seen)


# What must hold whatever people set and whatever was counted.
POINTS = st.integers(0, 200)
COUNTS = st.integers(0, 50)
RULES = st.lists(
    st.one_of(
        st.builds(
            lambda p, m, d: {"kind": "velocity", **PHONE, "max_payments": m, "points": p or 1,
                             "decision": d},
            POINTS, COUNTS, st.sampled_from([None, "hold", "refuse"]),
        ),
        st.builds(
            lambda p, a: {"kind": "amount_above", "currency": "RWF", "amount_minor": a,
                          "points": p or 1},
            POINTS, st.integers(0, 2_000),
        ),
        st.builds(
            lambda p, t, w: {"kind": "anomaly_amount", "against": w, "least_payments": 2,
                             "times_max_percent": t, "sigmas": 3, "points": p or 1},
            POINTS, st.integers(100, 500), st.sampled_from(["client", "payer"]),
        ),
        st.builds(
            lambda p, a: {"kind": "first_seen_payer", "currency": "RWF", "amount_minor": a,
                          "points": p or 1},
            POINTS, st.integers(0, 2_000),
        ),
    ),
    max_size=8,
).map(lambda bodies: [Rule(f"r{n}", None, "live", BODIES.validate_python(b))
                      for n, b in enumerate(bodies)])  # fmt: skip
FACTS = st.builds(
    lambda n, amounts: Facts(
        windows={("phone", 10): Window(n)},
        client=history(*amounts),
        payer=history(*amounts[1:]),
    ),
    COUNTS,
    st.lists(st.integers(0, 10_000), max_size=6),
)
ENTRIES = st.lists(
    st.builds(
        lambda name, subject: entry(name, "phone", subject),
        st.sampled_from(["block", "allow"]), st.sampled_from(["p1", "p2"]),
    ),
    max_size=4,
)  # fmt: skip


def weigh(rules: list[Rule], facts: Facts, entries: list[Entry] | None = None) -> Any:
    """Return the verdict on SUBJECT."""
    return assess(Policy(rules, [Lists(entries or [])], THRESHOLDS), SUBJECT, facts, 0.0)


@given(RULES, FACTS, ENTRIES)
def test_the_same_input_always_gives_the_same_verdict(
    rules: list[Rule], facts: Facts, entries: list[Entry]
) -> None:
    first = weigh(rules, facts, entries)
    assert first == weigh(list(reversed(rules)), facts, list(reversed(entries)))
    assert first.score == sum(reason.points for reason in first.reasons)


@given(RULES, FACTS, st.integers(1, 20))
def test_more_payments_never_lower_the_score(rules: list[Rule], facts: Facts, more: int) -> None:
    fewer = facts.windows["phone", 10].payments
    worse = replace(facts, windows={("phone", 10): Window(fewer + more)})
    before, after = weigh(rules, facts), weigh(rules, worse)
    assert after.score >= before.score
    assert severest(before.decision, after.decision) == after.decision


@given(RULES, RULES, FACTS)
def test_more_rules_never_lower_the_score(
    rules: list[Rule], others: list[Rule], facts: Facts
) -> None:
    renamed = [Rule(f"other_{r.id}", None, "live", r.body) for r in others]
    before, after = weigh(rules, facts), weigh([*rules, *renamed], facts)
    assert after.score >= before.score
    assert severest(before.decision, after.decision) == after.decision


@given(RULES, FACTS, ENTRIES)
def test_a_block_entry_refuses_whatever_else_holds(
    rules: list[Rule], facts: Facts, entries: list[Entry]
) -> None:
    blocked = [*entries, entry("block", "phone", "p1")]
    assert weigh(rules, facts, blocked).decision is Decision.REFUSE


@given(RULES, FACTS)
def test_an_allow_entry_wins_over_every_suspicion(rules: list[Rule], facts: Facts) -> None:
    suspicions = [r for r in rules if r.body.kind != "amount_above"]
    verdict = weigh(suspicions, facts, [entry("allow", "phone", "p1")])
    assert (verdict.decision, verdict.score) == (Decision.ALLOW, 0)
