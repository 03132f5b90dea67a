"""An invoice through all services: issued, opened by its link, paid once, in the books once."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from mospay_dev.demo.invoices import Billing, Guest
from mospay_dev.demo.portal import Portal

from tests.conftest import LiveStack

SECONDS = 60.0


def until(read: Callable[[], Any], wanted: Any) -> None:
    """Wait until `read()` gives what is wanted."""
    end = time.monotonic() + SECONDS
    while (found := read()) != wanted:
        assert time.monotonic() < end, f"still {found!r}, not {wanted!r}"
        time.sleep(0.2)


@pytest.fixture
def billing(live_stack: LiveStack) -> Billing:
    """The demo's first merchant, who invoices."""
    made = Billing(live_stack.stack, live_stack.seed.clients[0].client_id)
    made.open()
    return made


async def test_an_invoice_is_paid_by_its_link(live_stack: LiveStack, billing: Billing) -> None:
    await asyncio.to_thread(_paid_by_link, live_stack, billing)


def _paid_by_link(live: LiveStack, billing: Billing) -> None:
    invoice = billing.invoice(7300)
    guest = Guest(live.portal_url, billing.link(invoice["id"]))
    assert invoice["number"] in guest.page().text
    sent = guest.send(guest.form())
    assert sent.status_code == 303 and sent.headers["location"].endswith("/status")
    until(lambda: "the payment went through" in guest.page("/status").text, True)
    paid = billing.read(invoice["id"])
    assert (paid["status"], paid["open_minor"], paid["locked_by"]) == ("paid", 0, None)
    (intent,) = billing.intents(invoice["id"])
    assert intent["state"] == "succeeded" and paid["payments"][0]["amount_minor"] == 7300
    portal = Portal(live.portal_url)
    portal.sign_in(live.admin_email, live.admin_password, "admin")
    trace: dict[str, Any] = {}

    def entries() -> int:
        trace.update(portal.get(f"/payments/{intent['payment_id']}/trace"))
        return len(trace["entries"])

    until(entries, 1)
    assert "Nothing is left to pay" in guest.page().text
    paper = guest.page("/pdf")
    assert paper.status_code == 200 and paper.content.startswith(b"%PDF-")


async def test_two_pay_now_at_once_are_one_payment(live_stack: LiveStack, billing: Billing) -> None:
    await asyncio.to_thread(_two_at_once, live_stack, billing)


def _two_at_once(live: LiveStack, billing: Billing) -> None:
    invoice = billing.invoice(4100)
    token = billing.link(invoice["id"])
    guests = [Guest(live.portal_url, token) for _ in range(2)]
    forms = [guest.form() for guest in guests]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda g, f: g.send(f), guests, forms))
    assert [a.status_code for a in answers] == [303, 303]
    until(lambda: billing.read(invoice["id"])["status"], "paid")
    (intent,) = billing.intents(invoice["id"])
    record = httpx.get(
        f"{live.seed.simulator_url}/_effects", params={"reference": intent["payment_id"]}
    ).json()
    assert len(record["effects"]) == 1 and record["repeats"] == 0


async def test_a_declined_payment_leaves_the_invoice_payable(
    live_stack: LiveStack, billing: Billing
) -> None:
    await asyncio.to_thread(_declined, live_stack, billing)


def _declined(live: LiveStack, billing: Billing) -> None:
    invoice = billing.invoice(2200)
    guest = Guest(live.portal_url, billing.link(invoice["id"]))
    guest.send(guest.form(phone="+250780000001"))
    until(lambda: "did not go through" in guest.page("/status").text, True)
    read = billing.read(invoice["id"])
    assert (read["status"], read["locked_by"]) == ("issued", None)
    guest.send(guest.form())
    until(lambda: billing.read(invoice["id"])["status"], "paid")


async def test_a_number_the_gateway_refuses_is_said_on_the_form(
    live_stack: LiveStack, billing: Billing
) -> None:
    def story() -> None:
        invoice = billing.invoice(50)  # below the service's least amount
        guest = Guest(live_stack.portal_url, billing.link(invoice["id"]))
        answer = guest.send(guest.form())
        assert answer.status_code == 422 and "not accepted" in answer.text
        assert billing.read(invoice["id"])["locked_by"] is None

    await asyncio.to_thread(story)
