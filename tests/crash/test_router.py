"""Rows of payment-router: whatever is killed where, the provider is asked once for the money."""

import pytest
from mospay_dev.crash.house import House
from mospay_dev.proxy import until

row = pytest.mark.row
ATTEMPTS = "select state, owner, fence, answer, result from attempts where payment_id = $1"


def inserted(house: House, payment: str) -> bool:
    """Whether the router has committed this payment."""
    return bool(house.sql("payment-router", "select 1 from payments where id = $1", payment))


@row(5, "payment-router", "before its commit")
def test_router_killed_before_its_commit_gets_the_command_again(house: House) -> None:
    """Row 5."""
    reference = house.reference()
    trap = house.at_commit("payment-router", reference, "hold_before")
    payment = house.pay(reference)
    trap.wait()
    assert not inserted(house, payment)
    house.crash("payment-router")
    house.audit([payment])
    assert house.effects(payment) == (1, 0)


@row(6, "payment-router", "after its commit, before the ack")
def test_router_killed_before_the_ack_absorbs_the_redelivery(house: House) -> None:
    """Row 6: the row has an owner already."""
    reference = house.reference()
    trap = house.at_ack("payment-router", reference, "hold_before")
    payment = house.pay(reference)
    trap.wait()
    assert inserted(house, payment)
    house.kill("payment-router")
    house.start("payment-router")
    house.audit([payment])
    assert house.effects(payment) == (1, 0)
    assert len(house.sql("payment-router", ATTEMPTS, payment)) == 1
    inbox = "select count(*) from inbox where subject = $1 and type = 'payments.process.v1'"
    assert house.value("payment-router", inbox, payment) == 1


@row(7, "payment-router", "after its commit, before sending")
def test_router_killed_before_sending_asks_and_ends_as_never_sent(house: House) -> None:
    """Row 7: not found counts only when authoritative and after its grace; nothing is resent."""
    phone = house.phone()
    trap = house.at_call("simulator", phone, "hold_before")
    payment = house.pay(phone=phone)
    trap.wait()
    assert inserted(house, payment)
    house.kill("payment-router")
    house.stack.proxy("simulator").heal()
    house.start("payment-router")
    ended = house.wait_status(payment)
    assert ended["status"] == "failed" and ended["reason_code"] == "never_sent", ended
    assert house.transitions(payment) == ["unknown", "failed"]
    assert house.effects(payment) == (0, 0)
    house.audit([payment])


@row(8, "payment-router", "after sending, before the answer")
def test_router_killed_before_the_answer_finds_out_by_enquiry(house: House) -> None:
    """Row 8."""
    payment = house.held()
    house.kill("payment-router")
    house.stack.proxy("simulator").heal()
    house.start("payment-router")
    house.audit([payment])
    assert house.transitions(payment) == ["unknown", "succeeded"]
    assert house.effects(payment) == (1, 0)


@row(9, "payment-router", "answer read, not stored")
def test_router_killed_with_the_answer_in_hand_finds_out_by_enquiry(house: House) -> None:
    """Row 9: as row 8."""
    payment = house.held()
    trap = house.at_commit("payment-router", payment, "hold_before")
    house.answer()
    trap.wait()
    house.crash("payment-router")
    house.audit([payment])
    assert house.transitions(payment) == ["unknown", "succeeded"]
    assert house.effects(payment) == (1, 0)


@row(9, "payment-router", "answer stored, function not run")
def test_rule_09_a_stored_answer_is_judged_again_before_any_enquiry(house: House) -> None:
    """Row 9, rule 9: the pinned function runs over what is stored; the provider is not asked."""
    payment = house.held()
    trap = house.at_commit("payment-router", payment, "hold_after")
    house.answer()
    trap.wait()
    (attempt,) = until(lambda: house.sql("payment-router", ATTEMPTS, payment), "the attempt")
    assert attempt["state"] == "answered" and attempt["answer"], attempt
    house.crash("payment-router")
    house.audit([payment])
    assert house.transitions(payment) == ["succeeded"]
    asked = "select count(*) from enquiries where payment_id = $1"
    assert house.value("payment-router", asked, payment) == 0


@row(11, "payment-router", "outcome committed, event not published")
def test_router_killed_before_publishing_the_outcome_publishes_it_later(house: House) -> None:
    """Row 11."""
    payment = house.held()
    trap = house.at_publish("payment-router", payment, "hold_before")
    house.answer()
    trap.wait()
    status = "select status from payments where id = $1"
    assert house.value("payment-router", status, payment) == "succeeded"
    assert not house.webhooks(payment)
    house.crash("payment-router")
    house.audit([payment])
