"""Rows of refunds and cancels: as payments, killed at every point, given back at most once."""

import secrets
from typing import Any

import httpx
import pytest
from mospay_dev.crash.house import House
from mospay_dev.demo.portal import Portal
from mospay_dev.proxy import until

row = pytest.mark.row
ROUTER = "payment-router"


def ask(house: House, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
    """Call the gateway as the first merchant; a POST has a key of its own."""
    headers = {"X-API-Key": house.seed.clients[0].api_key}
    if method == "POST":
        headers["Idempotency-Key"] = house.reference()
    return httpx.request(
        method, house.seed.gateway_url + path, json=body, headers=headers, timeout=20
    )


def refunded(house: House, payment: str, amount: int) -> str:
    """Ask for a refund and return its id."""
    answer = ask(house, "POST", f"/v1/payments/{payment}/refunds", {"amount_minor": amount})
    assert answer.status_code in (200, 202), answer.text
    refund: str = answer.json()["id"]
    return refund


def ended(house: House, refund: str, seconds: float = 60) -> dict[str, Any]:
    """Wait until a refund has ended and return it."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = ask(house, "GET", f"/v1/refunds/{refund}").json()
        return found if found["status"] in ("succeeded", "failed") else None

    found = until(look, f"{refund} has ended", seconds)
    assert found is not None
    return found


def effects(house: House, refund: str) -> int:
    """How often the provider gave this refund back; never asked twice."""
    url = f"{house.seed.simulator_url}/_effects/refunds"
    found = httpx.get(url, params={"reference": refund}).json()
    assert found["repeats"] == 0, "a refund was sent a second time"
    return len(found["effects"])


def known_before_its_command(house: House, payment: str, amount: int) -> str:
    """Return a refund whose command waits at the gateway's door: `go` lets it out."""
    publishing = frozenset({"up"})
    house.stack.proxy("gateway", "broker").spoil(held=publishing, held_label=b"gateway:publish")
    return refunded(house, payment, amount)


def go(house: House) -> None:
    """Let the gateway publish again."""
    house.stack.proxy("gateway", "broker").release()


@pytest.mark.parametrize(
    ("step", "ends", "given"),
    [
        pytest.param(step, ends, given, marks=row("B9", ROUTER, f"refund, {step}"))
        for step, ends, given in (
            ("before its commit", "succeeded", 1),
            ("after its commit, before the ack", "succeeded", 1),
            ("after its commit, before sending", "failed", 0),
            ("after sending, before the answer", "succeeded", 1),
            ("answer read, not stored", "succeeded", 1),
            ("outcome committed, event not published", "succeeded", 1),
        )
    ],
)
def test_rule_12_router_killed_at_a_refund_gives_it_back_at_most_once(
    house: House, step: str, ends: str, given: int
) -> None:
    """Row B9, rule 12: never resent, asked about; what was never sent frees its reservation."""
    payment = house.pay(amount_minor=5000)
    house.audit([payment])
    refund = known_before_its_command(house, payment, 1200)
    match step:
        case "before its commit":
            trap = house.at_commit(ROUTER, refund, "hold_before")
        case "after its commit, before the ack":
            trap = house.at_ack(ROUTER, refund, "hold_before")
        case "after its commit, before sending":
            trap = house.at_call("simulator", refund, "hold_before")
        case _:
            trap = house.at_call("simulator", refund, "hold_after")
    go(house)
    trap.wait()
    if step == "answer read, not stored":
        trap = house.at_commit(ROUTER, refund, "hold_before")
        house.answer()
        trap.wait()
    elif step == "outcome committed, event not published":
        trap = house.at_publish(ROUTER, refund, "hold_before")
        house.answer()
        trap.wait()
    house.kill(ROUTER)
    house.stack.proxy("simulator").heal()
    house.start(ROUTER)
    found = ended(house, refund)
    if step == "after its commit, before the ack":  # whether its sender had sent it is open
        given = effects(house, refund)
        ends = "succeeded" if given else "failed"
    assert found["status"] == ends, found
    assert effects(house, refund) == given
    rest = refunded(house, payment, 5000 - 1200 * given)
    assert ended(house, rest)["status"] == "succeeded", "the reservation is not what it must be"
    assert effects(house, rest) == 1


@row("B9", ROUTER, "refund answered by a reset, its enquiry refused")
def test_rule_02_an_enquiry_that_cannot_connect_says_nothing_about_the_refund(
    house: House,
) -> None:
    """Row B9, rule 2: no byte of the *enquiry* left; that the refund was never sent is no news."""
    payment = house.pay(amount_minor=5000)
    house.audit([payment])
    refund = known_before_its_command(house, payment, 1200)
    trap = house.at_call("simulator", refund, "cut_after")
    go(house)
    trap.wait()
    until(lambda: effects(house, refund) == 1, "the provider gave it back")
    house.stack.proxy("simulator").refuse()
    asked = "select enquiries from refunds where id = $1"
    until(lambda: house.value(ROUTER, asked, refund) >= 1, "an enquiry was refused")
    house.stack.proxy("simulator").heal()
    assert ended(house, refund)["status"] == "succeeded"


def second_person(house: House, first: Portal) -> Portal:
    """Return another owner's session."""
    email, password = f"{secrets.token_hex(6)}@mospay.example", secrets.token_urlsafe(18)
    body = {"audience": "admin", "name": "Second", "email": email, "role": "owner"}
    first.post("/users", body | {"password": password})
    portal = Portal(house.stack.url("portal-api"))
    portal.sign_in(email, password, "admin")
    return portal


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=row("B9", ROUTER, f"refund resolved by two people, {step}"))
        for step in (
            "before its commit",
            "after its commit, before the ack",
            "outcome committed, event not published",
        )
    ],
)
def test_two_people_end_an_unknown_refund_once_wherever_the_router_is_killed(
    house: House, step: str
) -> None:
    """Row B9: their word, repeated after a kill, moves refund and books once; nothing is sent."""
    payment = house.pay(amount_minor=5000)
    house.audit([payment])
    refund = known_before_its_command(house, payment, 1200)
    trap = house.at_call("simulator", refund, "cut_after")
    go(house)
    trap.wait()
    until(lambda: effects(house, refund) == 1, "the provider gave it back")
    house.stack.proxy("simulator").refuse()  # so nobody but people can know
    first = house.portal()
    second = second_person(house, first)
    until(lambda: first.get(f"/refunds/{refund}")["status"] == "unknown", "it is unknown")
    path, evidence = f"/refunds/{refund}/resolutions", f"statement, {house.reference()}"
    said = {
        "outcome": "succeeded",
        "reason": "The provider's statement shows it",
        "evidence": evidence,
        "version": first.get(f"/refunds/{refund}")["version"],
    }
    proposed = first.post(path, said)["id"]
    match step:
        case "before its commit":
            trap = house.at_commit(ROUTER, evidence, "hold_before")
        case "after its commit, before the ack":
            trap = house.at_ack(ROUTER, evidence, "hold_before")
        case _:
            trap = house.at_publish(ROUTER, refund, "hold_before")
    second.post(f"{path}/{proposed}/approve", {})
    trap.wait()
    house.kill(ROUTER)
    house.start(ROUTER)
    assert ended(house, refund)["status"] == "succeeded"
    told = "select count(*) from refund_transitions where refund_id = $1 and evidence like 'peo%'"
    assert house.value(ROUTER, told, refund) == 1
    booked = "select count(*) from journal_entries where refund_id = $1 and resolved"
    until(lambda: house.value("ledger", booked, refund) == 1, "it is booked, and marked")
    house.stack.proxy("simulator").heal()
    rest = refunded(house, payment, 5000 - 1200)
    assert ended(house, rest)["status"] == "succeeded", "the reservation is not what it must be"
    assert effects(house, refund) == effects(house, rest) == 1
    house.audit([payment])


@row("B9", "gateway", "refund accepted, killed before publishing")
def test_gateway_killed_before_publishing_a_refund_publishes_it_later(house: House) -> None:
    """Row B9."""
    payment = house.pay(amount_minor=5000)
    house.audit([payment])
    refund = known_before_its_command(house, payment, 1200)
    house.crash("gateway")
    assert ended(house, refund)["status"] == "succeeded" and effects(house, refund) == 1


@row("B9", ROUTER, "refund failed, then late: more than was paid")
def test_refund_that_succeeds_after_it_failed_is_booked_and_shown_as_over_refund(
    house: House,
) -> None:
    """Row B9: proven money counts in any state; the over-refund is marked for people."""
    payment = house.pay(amount_minor=5000)
    house.audit([payment])
    late = refunded(house, payment, 1013)  # declined, yet given back seconds later
    assert ended(house, late)["status"] == "failed"
    whole = refunded(house, payment, 5000)
    assert ended(house, whole)["status"] == "succeeded"
    clock = f"{house.seed.simulator_url}/_clock"
    httpx.post(clock, json={"advance_seconds": 60}).raise_for_status()
    over = until(
        lambda: (
            (f := ask(house, "GET", f"/v1/refunds/{late}").json())["status"] == "succeeded" and f
        ),
        "the late success is known",
    )
    assert over["late"] is True and over["over_refund"] is True
    assert effects(house, late) == effects(house, whole) == 1


@row("B8", "gateway, payment-router", "cancel of what the router has not seen yet")
def test_rule_12_cancel_before_the_payment_is_seen_leaves_a_tombstone(house: House) -> None:
    """Row B8, rule 12: `process` comes after the cancel and respects it; nothing is sent."""
    house.kill(ROUTER)
    payment = house.pay()
    packs: list[bytes] = []

    def off_its_queue() -> bool:
        packs.extend(body for _, _, body in house.take("payment-router.commands"))
        return any(payment.encode() in body for body in packs)

    until(off_its_queue, "the command was taken off its queue")
    assert ask(house, "POST", f"/v1/payments/{payment}/cancel").status_code in (200, 202)
    house.start(ROUTER)
    seen = "select 1 from inbox where subject = $1 and type = 'payments.cancel.v1'"
    until(lambda: house.sql(ROUTER, seen, payment), "the router has the wish")
    house.transfer("payment-router.commands", packs)
    assert house.wait_status(payment)["status"] == "cancelled"
    assert house.effects(payment) == (0, 0)
    house.audit([payment])


@row("B8", ROUTER, "cancel while it is being sent is a request, not an outcome")
def test_cancel_while_sending_changes_nothing_that_the_provider_did(house: House) -> None:
    """Row B8, rule 12."""
    payment = house.held()
    assert ask(house, "POST", f"/v1/payments/{payment}/cancel").status_code in (200, 202)
    seen = "select 1 from inbox where subject = $1 and type = 'payments.cancel.v1'"
    until(lambda: house.sql(ROUTER, seen, payment), "the router has the wish")
    house.answer()
    house.audit([payment])
    assert house.wait_status(payment)["status"] == "succeeded"


@row("B8", "gateway, payment-router", "late success after a cancel")
def test_success_after_a_cancel_is_booked_and_told_as_late(house: House) -> None:
    """Row B8: cancelled while it waited unsent; the provider proves later that it was paid."""
    house.stack.extra[ROUTER]["ROUTER_IN_FLIGHT"] = "1"
    house.crash(ROUTER)
    del house.stack.extra[ROUTER]["ROUTER_IN_FLIGHT"]
    busy = house.held(service="patient")  # takes the only slot
    payment = house.pay()
    state = "select state from attempts where payment_id = $1"
    until(lambda: house.value(ROUTER, state, payment) == "ready", "it waits for a slot")
    assert ask(house, "POST", f"/v1/payments/{payment}/cancel").status_code in (200, 202)
    house.wait_status(payment, "cancelled")
    assert house.callback(payment, "succeeded") == 200
    assert house.wait_status(payment, "succeeded")["late"] is True
    late = "select late from journal_entries where payment_id = $1"
    until(lambda: house.value("ledger", late, payment) is True, "it is booked")
    until(
        lambda: (
            {"payment.cancelled", "payment.succeeded"}
            <= {h["type"] for h in house.webhooks(payment) if h["verified"]}
        ),
        "the client was told both",
    )
    house.answer()
    house.audit([busy])
    assert house.effects(payment) == (0, 0)  # our callback was the proof, nothing was sent
    house.crash(ROUTER)
