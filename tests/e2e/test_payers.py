"""A payer through all services: made with its customer, let in by a link, pays, switched off."""

import asyncio
import re

import pytest
from mospay_dev.demo.payers import Payer, Reception
from mospay_dev.demo.portal import Portal
from mospay_dev.infrastructure.processes import StartFailed

from tests.conftest import LiveStack
from tests.e2e.test_invoices import until

EMAIL = "keza@payers.example"


async def test_a_payer_is_let_in_pays_and_is_switched_off(live_stack: LiveStack) -> None:
    await asyncio.to_thread(_story, live_stack)


def _story(live: LiveStack) -> None:
    reception = Reception(live.stack, live.seed.clients[0])
    customer = reception.invited("Keza Uwase", EMAIL)
    other = reception.customer("Another")
    stranger = Portal(live.portal_url)
    second = live.seed.clients[1]
    stranger.sign_in(second.client_email, second.client_password, "client")
    with pytest.raises(StartFailed, match="404"):
        stranger.get(f"/customers/{customer['id']}/portal-access", mode="test")
    invoices = [reception.invoice(one["id"]) for one in (customer, other)]
    payer = Payer(live.portal_url)
    payer.enter(reception.link(customer["id"]))
    listed = payer.page("/portal/invoices").text
    assert invoices[0]["number"] in listed and invoices[1]["number"] not in listed
    assert payer.page(f"/portal/invoices/{invoices[1]['id']}").status_code == 404
    path = f"/portal/invoices/{invoices[0]['id']}"
    paid = payer.send(path, f"{path}/pay", phone="+250780000000", service="collection")
    assert paid.status_code == 303, paid.text
    until(lambda: "the payment went through" in payer.page(f"{path}/status").text, True)
    assert reception.billing.read(invoices[0]["id"])["status"] == "paid"
    assert "Nothing is open" in payer.page("/portal/statement").text
    assert payer.page(f"{path}/pdf").content.startswith(b"%PDF-")
    changed = payer.send("/portal/details", "/portal/details", **_details(payer))
    assert changed.headers["location"] == "/portal/details?saved=1", changed.text
    now = reception.read(customer["id"])
    assert (now["phone"], now["email"]) == ("+250780000009", EMAIL)
    reception.switch(customer["id"], on=False)
    until(lambda: payer.page("/portal/invoices").status_code, 303)
    assert reception.access(customer["id"]) == "off"


def _details(payer: Payer) -> dict[str, str]:
    version = re.search(r'name="version" value="(\d+)"', payer.page("/portal/details").text)
    assert version is not None
    return {"name": "Keza Uwase", "phone": "+250 780 000 009", "address": "KN 4 Ave",
            "locale": "fr", "version": version[1]}  # fmt: skip
