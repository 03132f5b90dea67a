"""Rows of the gateway: what a client was told, or not told, is kept whatever is killed."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from mospay_dev.crash.house import House
from mospay_dev.proxy import until

row = pytest.mark.row


@contextmanager
def sending(house: House, reference: str) -> Iterator[list[httpx.Response]]:
    """Send a payment in the background; yields the answers it got."""
    answers: list[httpx.Response] = []

    def send() -> None:
        with contextlib.suppress(httpx.HTTPError):
            answers.append(house.send(reference))

    thread = threading.Thread(target=send)
    thread.start()
    yield answers
    thread.join(45)
    assert not thread.is_alive()


@row(1, "gateway", "before its commit")
def test_gateway_killed_before_its_commit_answers_nothing_and_the_key_makes_one(
    house: House,
) -> None:
    """Row 1."""
    reference = house.reference()
    trap = house.at_acceptance(reference, "hold_before")
    with sending(house, reference) as answers:
        trap.wait()
        house.kill("gateway")
    assert not answers, "it answered for what it had not committed"
    assert not house.sql("gateway", "select 1 from payments where reference = $1", reference)
    house.start("gateway")
    payment = house.pay(reference)
    again = house.send(reference)
    assert again.json()["id"] == payment and again.headers["Idempotent-Replayed"] == "true"
    house.audit([payment])


@row(2, "gateway", "after its commit, before the answer")
def test_gateway_killed_before_its_answer_replays_it_for_the_key(house: House) -> None:
    """Row 2."""
    reference = house.reference()
    trap = house.at_acceptance(reference, "hold_after")
    with sending(house, reference) as answers:
        trap.wait()
        find = "select id from payments where reference = $1"
        stored = until(lambda: house.value("gateway", find, reference), "the commit is through")
        house.kill("gateway")
    assert not answers
    house.start("gateway")
    again = house.send(reference)
    assert again.status_code in (200, 202) and again.json()["id"] == stored
    assert again.headers["Idempotent-Replayed"] == "true"
    house.audit([stored])


@row(3, "gateway", "after its commit, before publishing")
def test_gateway_killed_before_publishing_publishes_after_its_restart(house: House) -> None:
    """Row 3: and what the router has not seen for more than 5 s is a metric."""
    house.stack.proxy("gateway", "broker").refuse()
    payment = house.pay()
    unseen = "mospay_gateway_unseen_payments"
    until(lambda: house.metric("gateway", unseen) >= 1, "the metric shows it", 30)
    assert not house.sql("payment-router", "select 1 from payments where id = $1", payment)
    house.kill("gateway")
    house.start("gateway")
    house.audit([payment])


@row(4, "gateway", "after publishing, before the confirm")
def test_pack_published_twice_is_taken_once(house: House) -> None:
    """Row 4: the confirm never comes, so the relay publishes again after its restart."""
    reference = house.reference()
    before = house.simulator()["repeats"]
    house.stack.proxy("payment-router", "broker").count(reference)
    trap = house.at_publish("gateway", reference, "hold_after")
    payment = house.pay(reference)
    trap.wait()
    taken = "select 1 from payments where id = $1"
    until(lambda: house.sql("payment-router", taken, payment), "the router took the first pack")
    house.crash("gateway")
    house.audit([payment], repeats=before)
    delivered = house.stack.proxy("payment-router", "broker").counts[reference.encode()]
    assert delivered >= 2, "the pack was not published a second time, so nothing is proven"
    count = "select count(*) from attempts where payment_id = $1"
    assert house.value("payment-router", count, payment) == 1


@row(4, "gateway", "confirmed, before the outbox commit")
def test_outbox_not_committed_after_the_confirm_publishes_again(house: House) -> None:
    """Row 4: the claim had read the row's body (`down`), its commit comes after the confirm."""
    reference = house.reference()
    before = house.simulator()["repeats"]
    house.stack.proxy("payment-router", "broker").count(reference)
    trap = house.at_commit("gateway", reference, "hold_before", seen="down")
    payment = house.pay(reference)
    trap.wait()
    taken = "select 1 from payments where id = $1"
    until(lambda: house.sql("payment-router", taken, payment), "the router took the first pack")
    house.crash("gateway")
    house.audit([payment], repeats=before)
    delivered = house.stack.proxy("payment-router", "broker").counts[reference.encode()]
    assert delivered >= 2, "the pack was not published a second time, so nothing is proven"


@row("B13", "gateway", "SIGTERM with waiters")
def test_waiters_get_202_at_sigterm_and_the_same_reference_replays(house: House) -> None:
    """Row B13."""
    reference, phone = house.reference(), house.phone()
    trap = house.at_call("simulator", phone, "hold_before")
    answers: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(house.send(reference, wait=60, phone=phone))
    )
    thread.start()
    trap.wait()
    house.stack.stop_one("gateway")
    thread.join(30)
    assert [a.status_code for a in answers] == [202], "the waiter was not told before the end"
    payment = answers[0].json()["id"]
    house.answer()
    house.start("gateway")
    again = house.send(reference, key="another key for " + reference, phone=phone)
    assert again.status_code in (200, 202) and again.json()["id"] == payment
    house.audit([payment])


@row("B12", "gateway", "its own event dead-lettered")
def test_rule_17_event_lost_for_the_gateway_get_is_right_and_the_sweeper_repairs(
    house: House,
) -> None:
    """Row B12, rule 17: the broker sets the event aside; the payment's news comes another way."""
    payment = house.held()
    house.kill("gateway")
    house.answer()
    queue = "select 1 from payments where id = $1 and status = 'succeeded'"
    until(lambda: house.sql("payment-router", queue, payment), "the payment ended")
    marker = payment.encode()
    seen: list[bytes] = []

    def lost() -> bool:
        seen.extend(body for _, _, body in house.take("gateway.payments"))
        return any(marker in body for body in seen)

    until(lost, "the gateway's event is off its queue")
    house.start("gateway")
    assert house.read(payment)["status"] == "succeeded", "GET does not read through"
    status = "select status from payments where id = $1"
    until(lambda: house.value("gateway", status, payment) == "succeeded", "the row is repaired")
    house.audit([payment])
