"""Payers: an account follows its customer, an invitation becomes a mail whose link opens it."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mospay_dev.crash.house import House
from mospay_dev.demo.payers import PASSWORD, Payer, Reception
from mospay_dev.proxy import Trap, until

from tests.crash.mailbox import Mailbox, link_in

row = pytest.mark.row
KEPT = "select attempts, state from payer_mails where body->>'customer_id' = $1"


@pytest.fixture
def reception(house: House) -> Reception:
    """The first merchant, whose customers have the portal."""
    return Reception(house.stack, house.seed.clients[0])


@pytest.fixture
def mailbox(house: House) -> Iterator[Mailbox]:
    """Where notifier hands its mails over while a test lasts."""
    made, before = Mailbox(), dict(house.stack.extra["notifier"])
    try:
        house.stack.extra["notifier"] = before | made.environment()
        house.crash("notifier")
        yield made
    finally:
        house.stack.extra["notifier"] = before
        house.kill("notifier")  # healing starts it, without a mail server
        made.close()


def address() -> str:
    """Return an address that nothing else contains."""
    return f"payer-{secrets.token_hex(8)}@payers.example"


def step_of(house: House, process: str, marker: str, step: str) -> Trap:
    """Trap a consumer's commit or its acknowledgement of a message that names `marker`."""
    at = house.at_ack if step == "ack" else house.at_commit
    return at(process, marker, "hold_before")


def told_and_killed(house: House, email: str, step: str, tell: Callable[[], Any]) -> Any:
    """Have the ledger tell of a customer, and portal-api killed in a step of taking it."""
    trap = step_of(house, "portal-api", email, step)
    told = tell()
    trap.wait()
    house.crash("portal-api")
    return told


def follows(house: House, customer: dict[str, Any]) -> None:
    """Wait until portal-api has a customer as the ledger has it; each event was taken once."""
    version = "select version from payer_accounts where customer_id = $1"

    def there() -> bool:
        return bool(house.value("portal-api", version, customer["id"]) == customer["version"])

    until(there, "the account is as new as its customer")
    (account,) = house.sql(
        "portal-api", "select * from payer_accounts where customer_id = $1", customer["id"]
    )
    shared = ("email", "name", "active", "portal_enabled")
    assert {name: account[name] for name in shared} == {name: customer[name] for name in shared}
    taken = "select count(*) from inbox where subject = $1 and queue = 'portal-api.customers'"
    assert house.value("portal-api", taken, customer["id"]) == customer["version"]


def logins(house: House, customer_id: str) -> list[bool]:
    """Return whether each login of a customer is let in."""
    rows = house.sql("portal-api", "select active from users where customer_id = $1", customer_id)
    return [row["active"] for row in rows]


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("commit", marks=row(15, "portal-api", "customers, before its commit")),
        pytest.param(
            "ack", marks=row(15, "portal-api", "customers, after its commit, before the ack")
        ),
    ],
)
def test_portal_killed_while_it_takes_a_customer_has_one_login_in_the_right_state(
    house: House, reception: Reception, step: str
) -> None:
    """Row 15: made, switched off, switched on, each of them taken again after a kill."""
    ledger, email = reception.billing, address()
    body = {"name": "Keza Uwase", "email": email, "portal_enabled": True}
    customer = told_and_killed(house, email, step, lambda: ledger.have("POST", "/customers", body))
    follows(house, customer)
    assert logins(house, customer["id"]) == []
    reception.invite(customer["id"])
    payer = Payer(house.stack.url("portal-api"))
    payer.enter(reception.link(customer["id"]))
    for on in (False, True):
        change = body | {"portal_enabled": on, "version": customer["version"]}
        path = f"/customers/{customer['id']}"
        customer = told_and_killed(
            house, email, step, lambda p=path, c=change: ledger.have("PUT", p, c)
        )
        follows(house, customer)
        assert logins(house, customer["id"]) == [on]
        assert payer.page("/portal/invoices").status_code == 303, "its session has ended"
    signed_in = payer.send("/portal/login", email=email, password=PASSWORD)
    assert signed_in.headers["location"] == "/portal/invoices", signed_in.text
    assert payer.page("/portal/invoices").status_code == 200


def mailed(house: House, mailbox: Mailbox, customer: dict[str, Any]) -> tuple[int, int]:
    """Wait until a customer's mail is out; its newest link opens. Return tries and mails.

    There is one row of it, whatever was killed.
    """
    ended = f"{KEPT} and state = 'sent'"
    until(lambda: house.sql("notifier", ended, customer["id"]), "the mail is sent")
    (kept,) = house.sql("notifier", KEPT, customer["id"])
    mails = mailbox.to(customer["email"])
    Payer(house.stack.url("portal-api")).enter(link_in(mails[-1]))
    assert logins(house, customer["id"]) == [True]
    return kept["attempts"], len(mails)


def link_of(house: House, customer: dict[str, Any]) -> str:
    """Return the id of a customer's link, which is that of the command to mail it."""
    found = "select id from payer_links where customer_id = $1"
    return str(house.value("portal-api", found, customer["id"]))


def unpublished(house: House, link_id: str) -> bool:
    """Whether the command to mail a link waits in the outbox."""
    return bool(house.sql("portal-api", "select 1 from outbox where subject = $1", link_id))


@row(3, "portal-api", "invitation committed, before publishing its mail")
def test_invitation_committed_before_a_kill_is_mailed_after_the_restart(
    house: House, reception: Reception, mailbox: Mailbox
) -> None:
    """Row 3: the command waits in the outbox, not in a process."""
    customer = reception.customer("Keza Uwase", email=address())
    trap = house.at_publish("portal-api", customer["email"], "hold_before")
    reception.invite(customer["id"])
    trap.wait()
    house.kill("portal-api", "notifier")
    assert unpublished(house, link_of(house, customer)) and not mailbox.to(customer["email"])
    house.start("portal-api")
    house.start("notifier")  # once there is somebody to make the link
    assert mailed(house, mailbox, customer) == (1, 1)


@row(4, "portal-api", "mail published, before the confirm")
def test_invitation_published_twice_is_mailed_once(
    house: House, reception: Reception, mailbox: Mailbox
) -> None:
    """Row 4: the confirm never comes, so the relay publishes again after its restart."""
    customer = reception.customer("Keza Uwase", email=address())
    trap = house.at_publish("portal-api", customer["email"], "hold_after")
    reception.invite(customer["id"])
    trap.wait()
    until(lambda: mailbox.to(customer["email"]), "the first pack became a mail")
    link_id, arriving = link_of(house, customer), house.stack.proxy("notifier", "broker")
    arriving.count(link_id)
    house.crash("portal-api")
    until(lambda: arriving.counts[link_id.encode()], "it came a second time")
    after = reception.invited("Another", address())
    until(lambda: mailbox.to(after["email"]), "notifier has taken what was before this")
    assert not unpublished(house, link_id)
    assert mailed(house, mailbox, customer) == (1, 1)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("commit", marks=row(15, "notifier", "payers' mails, before its commit")),
        pytest.param(
            "ack", marks=row(15, "notifier", "payers' mails, after its commit, before the ack")
        ),
    ],
)
def test_notifier_killed_while_it_takes_a_mail_keeps_it_once(
    house: House, reception: Reception, mailbox: Mailbox, step: str
) -> None:
    """Row 15: the command comes again. Once committed, its mail may be on its way."""
    customer = reception.customer("Keza Uwase", email=address())
    trap = step_of(house, "notifier", customer["email"], step)
    reception.invite(customer["id"])
    trap.wait()
    house.crash("notifier")
    tries, came = mailed(house, mailbox, customer)
    assert 1 <= came <= tries <= (1 if step == "commit" else 2)


@pytest.mark.parametrize(
    ("act", "received"),
    [
        pytest.param(act, received, marks=row(16, "notifier", step))
        for act, received, step in (
            ("hold_before", 1, "payer's mail, before the mail server has it"),
            ("hold_after", 2, "payer's mail, after the mail server took it"),
        )
    ],
)
def test_notifier_killed_around_the_handover_of_a_mail_sends_it_again_with_a_link_that_works(
    house: House, reception: Reception, mailbox: Mailbox, act: Any, received: int
) -> None:
    """Row 16: the same Message-ID; the newest link opens, an earlier one has ended (ADR 0014)."""
    customer = reception.customer("Keza Uwase", email=address())
    trap = mailbox.at_handover(customer["email"], act)
    reception.invite(customer["id"])
    trap.wait()
    if received == 2:
        until(lambda: mailbox.to(customer["email"]), "the mail server has it")
    house.kill("notifier")
    mailbox.heal()
    assert len(mailbox.to(customer["email"])) == received - 1
    house.start("notifier")
    assert mailed(house, mailbox, customer) == (2, received)
    mails = mailbox.to(customer["email"])
    assert len({mail["Message-ID"] for mail in mails}) == 1
    payer = Payer(house.stack.url("portal-api"))
    assert all(payer.page(link_in(former)).status_code == 410 for former in mails[:-1])
