"""Rows of what is believed: functions that fail, callbacks out of turn, answers that are none."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mospay_dev.crash.house import House
from mospay_dev.load import Load
from mospay_dev.proxy import until

row = pytest.mark.row
ASKING = b"/paymentStatus HTTP"  # an enquiry's request line
POSTING = b"/payment HTTP"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@contextmanager
def response_function(house: House, body: str) -> Iterator[None]:
    """Replace the first merchant's RESPONSE function for a while: an operator's mistake."""
    names = "select distinct response_name from provider_functions where app_id = $1"
    name = house.value("payment-router", names, house.seed.clients[0].app_id)
    find = f"select pg_get_functiondef('fx.\"{name}\"(text, json, int, json)'::regprocedure)"
    original = house.value("payment-router", find)
    house.sql(
        "payment-router",
        f'create or replace function fx."{name}"(unique_id text, data_input json, code integer, '
        "data_output json) returns table (results json) language plpgsql stable as "
        f"$broken$ begin {body} end $broken$",
    )
    try:
        yield
    finally:
        house.sql("payment-router", original)


@row(10, "payment-router", "RESPONSE function raises, loops, returns nonsense")
@pytest.mark.parametrize(
    "body",
    [
        "raise exception 'the template is broken';",
        "perform pg_sleep(30); return next;",
        "results := '\"nonsense\"'::json; return next;",
    ],
    ids=["raises", "loops", "nonsense"],
)
def test_answer_that_no_function_understands_is_unknown_and_asked_about(
    house: House, body: str
) -> None:
    """Row 10: the raw answer is kept, the reason is visible, the enquiry goes on."""
    asking = house.stack.proxy("simulator").trap(ASKING, "hold_before")
    with response_function(house, body):
        payment = house.pay()
        found = house.wait_status(payment, "unknown")
        assert found["reason_code"] == "response_function_failed", found
        asking.wait()
    answer = "select answer from attempts where payment_id = $1"
    assert b"succeeded" in house.value("payment-router", answer, payment)
    house.answer()
    house.audit([payment])
    assert house.transitions(payment) == ["unknown", "succeeded"]
    assert house.effects(payment) == (1, 0)


@row(13, "payment-router", "callback before the HTTP answer")
def test_callback_before_the_answer_ends_the_payment_once(house: House) -> None:
    """Row 13."""
    payment = house.held()
    assert house.callback(payment, "succeeded") == 200
    house.wait_status(payment, "succeeded")
    house.answer()
    house.audit([payment])
    assert house.transitions(payment) == ["succeeded"]


@row(13, "payment-router", "callback before the attempt is visible")
def test_callback_before_the_payment_is_visible_is_kept_and_matched_later(house: House) -> None:
    """Row 13: stored first, tried again until its payment is there."""
    reference = house.reference()
    trap = house.at_commit("payment-router", reference, "hold_before")
    payment = house.pay(reference)
    trap.wait()
    assert house.callback(payment, "succeeded") == 200
    tried = "select 1 from callbacks where tries >= 1 and position($1::bytea in body) > 0"
    until(lambda: house.sql("payment-router", tried, payment.encode()), "it was tried in vain")
    house.stack.proxy("payment-router", "postgres").release()
    house.audit([payment])
    ended = "select state from callbacks where payment_id = $1"
    until(lambda: house.value("payment-router", ended, payment) == "applied", "it was matched")
    assert house.transitions(payment) == ["succeeded"]


@row(13, "payment-router", "callback after the end; without a payment")
def test_callback_after_the_end_moves_nothing_back_and_a_stray_is_listed(house: House) -> None:
    """Row 13: forward only; what never matches is listed as unmatched."""
    stray = f"pay_stray{house.reference()[6:]}"
    assert house.callback(stray, "succeeded") == 200
    payment = house.pay()
    house.wait_status(payment, "succeeded")
    for outcome in ("failed", "pending", "succeeded"):
        assert house.callback(payment, outcome) == 200
    ended = "select count(*) from callbacks where payment_id = $1 and state <> 'new'"
    until(lambda: house.value("payment-router", ended, payment) == 3, "all three were looked at")
    state = "select state from callbacks where position($1::bytea in body) > 0"
    until(
        lambda: house.value("payment-router", state, stray.encode()) == "unmatched",
        "the stray is listed as unmatched",
        40,
    )
    house.audit([payment])
    assert house.transitions(payment) == ["succeeded"]


@row(14, "payment-router", "callback and enquiry at once")
@pytest.mark.parametrize(("amount", "ends"), [("1000", "succeeded"), ("1001", "conflicted")])
def test_callback_and_enquiry_at_once_are_one_change_or_a_conflict(
    house: House, amount: str, ends: str
) -> None:
    """Row 14: one row lock; the second is a no-op, or `conflicted` if they disagree."""
    asking = house.stack.proxy("simulator").trap(ASKING, "hold_after")
    payment = house.pay(phone=house.phone(6))  # pending, then paid; no callback of its own
    asking.wait()  # the enquiry's answer is on its way
    until(
        lambda: house.effects(payment)[0] == 1, "the payer has paid; only then a callback is true"
    )
    assert house.callback(payment, "succeeded", amount=amount) == 200
    house.wait_status(payment, ends)
    house.answer()
    again = "select count(*) from enquiries where payment_id = $1"
    until(lambda: house.value("payment-router", again, payment) >= 1, "the enquiry was heard")
    assert house.transitions(payment) == [ends]
    if ends == "succeeded":
        house.audit([payment])


def posted_on_a_pooled_connection(house: House, act: str) -> str:
    """Have a payment trapped on a connection that the call before it has left; return its id.

    The router leaves idle connections after a second: on a busy machine it takes more than one try.
    """
    proxy = house.stack.proxy("simulator")
    for _ in range(5):
        house.wait_status(house.pay(), "succeeded")
        phone, made = house.phone(), proxy.connections
        proxy.count(POSTING)
        trap = proxy.trap(phone, act)  # type: ignore[arg-type]
        payment = house.pay(phone=phone)
        trap.wait()
        if proxy.connections == made:
            return payment
        house.wait_status(payment)
    raise AssertionError("no call was on a pooled connection")


@pytest.mark.parametrize(
    ("act", "effects"),
    [
        pytest.param(act, effects, marks=row("B5", "payment-router", f"pooled connection {step}"))
        for act, effects, step in (
            ("cut_before", 0, "reset before the request arrives"),
            ("cut_after", 1, "reset after the request arrived"),
        )
    ],
)
def test_rule_05_a_pooled_connection_that_is_reset_is_unknown_and_never_posted_again(
    house: House, act: str, effects: int
) -> None:
    """Row B5, rules 2 and 5: not `never_sent`; one POST, and the provider is asked."""
    before = house.simulator()["repeats"]
    payment = posted_on_a_pooled_connection(house, act)
    house.wait_status(payment)
    assert house.stack.proxy("simulator").counts[POSTING] == 1
    assert house.transitions(payment)[0] == "unknown"
    house.audit([payment], repeats=before)
    assert house.effects(payment) == (effects, 0)


@row("B5", "payment-router", "503 from a proxy in between")
def test_rule_05_a_503_from_in_between_is_unknown_and_never_posted_again(house: House) -> None:
    """Row B5: the provider took it, a proxy answered in its place."""
    proxy, before = house.stack.proxy("simulator"), house.simulator()["repeats"]
    proxy.count(POSTING)
    proxy.spoil(answer=BUSY)
    payment = house.pay()
    house.wait_status(payment, "unknown")
    proxy.release()
    house.audit([payment], repeats=before)
    assert proxy.counts[POSTING] == 1
    assert house.effects(payment) == (1, 0)


@row("B6", "payment-router", "one bad answer of 64")
def test_one_bad_answer_of_64_leaves_63_that_end_and_one_unknown(house: House) -> None:
    """Row B6: NUL and bad UTF-8 in one raw answer of a batch take no other along."""
    proxy, before = house.stack.proxy("simulator"), house.simulator()["requests"]
    proxy.spoil(held=frozenset({"down"}))
    load = Load(house.seed, phones=(*["+250780000000"] * 63, "+250780000010"), service="patient")
    asyncio.run(load.burst(64, in_flight=64))
    until(lambda: house.simulator()["requests"] - before >= 64, "all 64 were sent")
    proxy.release()
    house.audit(load.outcome.accepted)
    ways = [tuple(house.transitions(payment)) for payment in load.outcome.accepted]
    assert ways.count(("succeeded",)) == 63 and ways.count(("unknown", "succeeded")) == 1


@row("B7", "payment-router", "callback lost; forged callback first")
def test_rule_10_lost_callback_is_enquired_and_a_forged_one_shadows_nothing(house: House) -> None:
    """Row B7, rule 10."""
    lost, forged = house.pay(phone=house.phone(6)), house.pay(phone=house.phone(15))
    house.audit([lost, forged])
    states = "select state from callbacks where payment_id = $1 order by received_at"
    found = [r["state"] for r in house.sql("payment-router", states, forged)]
    assert "asked" in found, f"the forgery was not seen for what it is: {found}"
    assert house.transitions(forged) == ["succeeded"]


@row("B1", "payment-router", "committed, unpublished past send_before")
def test_rule_03_what_is_published_after_send_before_expires_with_zero_calls(house: House) -> None:
    """Row B1, rule 3."""
    house.stack.proxy("gateway", "broker").refuse()
    payment = house.pay(service="brief")
    over = "select send_before < now() as over from payments where id = $1"
    until(lambda: house.value("gateway", over, payment), "its time is over", 30)
    proxy = house.stack.proxy("simulator")
    proxy.count(payment)
    house.stack.proxy("gateway", "broker").heal()
    house.wait_status(payment, "expired")
    house.audit([payment])
    assert house.effects(payment) == (0, 0) and proxy.counts[payment.encode()] == 0


@row("B8", "payment-router", "late success after expiry")
def test_success_after_the_provider_said_expired_is_booked_and_told_as_late(house: House) -> None:
    """Row B8: the provider's record says paid in the end, so do all others; never back again."""
    payment = house.held(13)  # declined, yet paid seconds later
    assert house.callback(payment, "failed", reason_code="expired") == 200
    house.wait_status(payment, "expired")
    house.answer()
    found = house.wait_status(payment, "succeeded")
    assert found["late"] is True
    house.audit([payment])
    assert house.transitions(payment) == ["expired", "succeeded"]
    late = "select late from journal_entries where payment_id = $1"
    assert house.value("ledger", late, payment) is True
    until(
        lambda: (
            {"payment.expired", "payment.succeeded"}
            <= {h["type"] for h in house.webhooks(payment) if h["verified"]}
        ),
        "the client was told both",
    )
