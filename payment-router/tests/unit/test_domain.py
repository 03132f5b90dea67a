"""The rules by themselves: state table, outcome table, names, slots."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_payment_router.domain.functions import Key, choose_pair, pair_named, place
from mospay_payment_router.domain.payments import clip, mask_phone
from mospay_payment_router.domain.schedule import JITTER, delay_seconds
from mospay_payment_router.domain.slots import Slots
from mospay_payment_router.domain.states import (
    CONTRADICTIONS,
    TABLE,
    Evidence,
    decide,
    is_final,
)
from mospay_shared.contracts import PaymentStatus

S, E = PaymentStatus, Evidence
# What architecture and failure pages say, written a second time and in another form: for each
# state what each evidence makes of it; evidence that is not named leaves it as it is.
EXITS: dict[PaymentStatus, dict[Evidence, PaymentStatus]] = {
    S.PROCESSING: {
        E.SUCCEEDED: S.SUCCEEDED,
        E.DECLINED: S.FAILED,
        E.UNDEFINED: S.UNKNOWN,
        E.NEVER_SENT: S.FAILED,
        E.NOT_FOUND: S.FAILED,
        E.REFUSED: S.FAILED,
        E.UNSENT_EXPIRED: S.EXPIRED,
        E.MISMATCH: S.CONFLICTED,
        E.PEOPLE_SUCCEEDED: S.SUCCEEDED,
        E.PEOPLE_FAILED: S.FAILED,
        E.HELD_BY_RISK: S.HELD,
        E.CANCELLED: S.CANCELLED,
        E.ACTION: S.REQUIRES_CUSTOMER_ACTION,
        E.EXPIRED: S.EXPIRED,
    },
    S.HELD: {
        E.SUCCEEDED: S.SUCCEEDED,
        E.UNSENT_EXPIRED: S.EXPIRED,
        E.MISMATCH: S.CONFLICTED,
        E.PEOPLE_SUCCEEDED: S.SUCCEEDED,
        E.PEOPLE_FAILED: S.FAILED,
        E.RELEASED: S.PROCESSING,
        E.REFUSED_IN_REVIEW: S.CANCELLED,
        E.CANCELLED: S.CANCELLED,
    },
    S.REQUIRES_CUSTOMER_ACTION: {
        E.SUCCEEDED: S.SUCCEEDED,
        E.DECLINED: S.FAILED,
        E.NEVER_SENT: S.FAILED,
        E.NOT_FOUND: S.FAILED,
        E.MISMATCH: S.CONFLICTED,
        E.PEOPLE_SUCCEEDED: S.SUCCEEDED,
        E.PEOPLE_FAILED: S.FAILED,
        E.EXPIRED: S.EXPIRED,
    },
    S.UNKNOWN: {
        E.SUCCEEDED: S.SUCCEEDED,
        E.DECLINED: S.FAILED,
        E.NEVER_SENT: S.FAILED,
        E.NOT_FOUND: S.FAILED,
        E.MISMATCH: S.CONFLICTED,
        E.PEOPLE_SUCCEEDED: S.SUCCEEDED,
        E.PEOPLE_FAILED: S.FAILED,
        E.EXPIRED: S.EXPIRED,
    },
    S.SUCCEEDED: {},
    S.FAILED: {E.SUCCEEDED: S.SUCCEEDED, E.MISMATCH: S.CONFLICTED},
    S.CANCELLED: {E.SUCCEEDED: S.SUCCEEDED, E.MISMATCH: S.CONFLICTED},
    S.EXPIRED: {E.SUCCEEDED: S.SUCCEEDED, E.MISMATCH: S.CONFLICTED},
    S.CONFLICTED: {E.PEOPLE_SUCCEEDED: S.SUCCEEDED, E.PEOPLE_FAILED: S.FAILED},
}
CELLS = list(itertools.product(S, E))
PROOF_OF_FAILURE = {E.DECLINED, E.NEVER_SENT, E.NOT_FOUND, E.REFUSED, E.PEOPLE_FAILED}
evidences = st.lists(st.sampled_from(list(E)), max_size=12)


@pytest.mark.parametrize(("state", "evidence"), CELLS, ids=lambda value: str(value))
def test_cell_of_the_state_table(state: PaymentStatus, evidence: Evidence) -> None:
    move = decide(state, evidence)
    assert move.status is EXITS[state].get(evidence, state)
    assert move.changed is (move.status is not state)
    assert move.late is (
        is_final(state) and state is not S.SUCCEEDED and move.status is S.SUCCEEDED
    )
    assert move.contradiction is ((state, evidence) in CONTRADICTIONS)


def test_table_has_every_cell() -> None:
    assert set(TABLE) == set(CELLS)


def run(story: list[Evidence]) -> PaymentStatus:
    status = S.PROCESSING
    for evidence in story:
        status = decide(status, evidence).status
    return status


@given(evidences)
def test_success_is_believed_in_any_order_unless_people_or_amounts_say_otherwise(
    story: list[Evidence],
) -> None:
    loud = {E.MISMATCH, E.PEOPLE_FAILED, E.PEOPLE_SUCCEEDED}
    story = [e for e in story if e not in loud]
    proven = E.SUCCEEDED in story
    assert (run(story) is S.SUCCEEDED) is proven


@given(evidences)
def test_no_end_is_ever_guessed(story: list[Evidence]) -> None:
    status = run(story)
    if status is S.FAILED:
        assert PROOF_OF_FAILURE & set(story)
    if status is S.SUCCEEDED:
        assert {E.SUCCEEDED, E.PEOPLE_SUCCEEDED} & set(story)
    if status is S.EXPIRED:
        assert {E.UNSENT_EXPIRED, E.EXPIRED} & set(story)
    if status is S.CANCELLED:
        assert {E.CANCELLED, E.REFUSED_IN_REVIEW} & set(story)


@given(evidences, evidences)
def test_success_has_no_exit(before: list[Evidence], after: list[Evidence]) -> None:
    if run([*before]) is S.SUCCEEDED:
        assert run([*before, *after]) is S.SUCCEEDED


@given(evidences, st.sampled_from([E.PENDING, E.SILENT]))
def test_pending_and_silence_change_nothing(story: list[Evidence], nothing: Evidence) -> None:
    assert run([*story, nothing]) is run(story)


@given(evidences)
def test_the_same_evidence_twice_moves_a_payment_once(story: list[Evidence]) -> None:
    for evidence in E:
        once = decide(run(story), evidence).status
        assert not decide(once, evidence).changed or once is S.CONFLICTED


KEY = Key("akaliza", "mtnmomorwa", "collection", "payment")


def test_default_name_is_the_routes() -> None:
    pair, fault = choose_pair(KEY, set())
    assert fault is None
    assert pair == pair_named("akaliza", "mtnmomorwa", "payment")
    assert pair.names == (
        "akaliza_mtnmomorwa_payment",
        "RESPONSE_akaliza_mtnmomorwa_payment",
        "akaliza_mtnmomorwa_paymentStatus",
        "RESPONSE_akaliza_mtnmomorwa_paymentStatus",
    )


def test_a_function_named_after_the_service_is_used_where_only_it_exists() -> None:
    pair, fault = choose_pair(KEY, {"akaliza_mtnmomorwa_collection"})
    assert fault is None
    assert pair.response == "RESPONSE_akaliza_mtnmomorwa_collection"


def test_two_candidates_are_refused_not_guessed() -> None:
    both = {"akaliza_mtnmomorwa_collection", "akaliza_mtnmomorwa_payment"}
    assert "two candidates" in (choose_pair(KEY, both)[1] or "")


@pytest.mark.parametrize(("route", "fine"), [("r" * 19, True), ("r" * 37, True), ("r" * 38, False)])
def test_name_beyond_63_bytes_is_refused(route: str, fine: bool) -> None:
    pair, fault = choose_pair(Key("app1", "micro", "collection", route), set())
    longest = max(len(name) for name in pair.names)
    assert (fault is None) is (longest <= 63) is fine


@pytest.mark.parametrize("route", ['pay"ment', "pay ment", "péy", "pay;drop", ""])
def test_name_with_other_characters_is_refused(route: str) -> None:
    fault = choose_pair(Key("app1", "micro", "collection", route), set())[1]
    assert (fault is None) is (route == "")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("http://provider.example/x", "provider.example:80"),
        ("https://Provider.example", "provider.example:443"),
        ("http://127.0.0.1:8090/a/b?c", "127.0.0.1:8090"),
        ("http://[::1]:8090/", "[::1]:8090"),
        ("ftp://provider.example/", None),
        ("http://user:pw@provider.example/", None),
        ("http://provider.example:99999/", None),
        ("//provider.example/", None),
        ("file:///etc/passwd", None),
        ("", None),
    ],
)
def test_place_of_a_url(url: str, wanted: str | None) -> None:
    assert place(url) == wanted


def test_slots_keep_caps_and_come_back() -> None:
    slots = Slots(total=3, per_client=2, per_provider=3)
    assert slots.take("a", "p")
    assert slots.take("a", "p")
    assert not slots.take("a", "p")
    assert slots.full_clients() == ["a"]
    assert slots.take("b", "p")
    assert not slots.take("c", "q")
    assert slots.full_providers() == ["p"]
    slots.give_back("a", "p")
    assert slots.free == 1
    assert slots.take("c", "q")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("pq"), st.booleans())))
def test_slots_never_exceed_their_limits(steps: list[tuple[str, str, bool]]) -> None:
    slots, held = Slots(5, 3, 4), list[tuple[str, str]]()
    for client, provider, take in steps:
        if take and slots.take(client, provider):
            held.append((client, provider))
        elif not take and held:
            slots.give_back(*held.pop())
        assert slots.used == len(held) <= 5
        assert all(n <= 3 for n in slots.clients.values())
        assert all(n <= 4 for n in slots.providers.values())


def test_delay_follows_the_schedule_and_its_last_step_repeats() -> None:
    for done, base in ((0, 1.0), (1, 5.0), (2, 60.0), (9, 60.0)):
        for _ in range(50):
            assert base * (1 - JITTER) <= delay_seconds([1, 5, 60], done) <= base * (1 + JITTER)


def test_texts_are_made_safe_and_phones_masked() -> None:
    assert clip("a\x00b\ud800", 10) == "ab?"
    assert clip("", 10) is clip(None, 10) is None
    assert clip("abcdef", 3) == "abc"
    assert mask_phone("+250780000123") == "**********123"
    assert mask_phone(None) is None
