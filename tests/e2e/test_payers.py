"""A payer through all services: made with its customer, let in by a link, pays, switched off."""

import asyncio
import re
import time
from typing import Any
from urllib.parse import urlencode

import asyncpg
import httpx
import pytest
from mospay_dev.demo.invoices import Billing
from mospay_dev.demo.portal import Portal
from mospay_dev.infrastructure.processes import StartFailed
from mospay_shared.chassis.service_tokens import TokenSigner

from tests.conftest import LiveStack
from tests.e2e.test_invoices import until

PASSWORD = "a fine long password"
EMAIL = "keza@payers.example"


class Browser:
    """A payer's browser without scripts."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=15)

    def page(self, path: str) -> httpx.Response:
        """GET a page."""
        return self.http.get(path)

    def send(self, path: str, action: str = "", **fields: str) -> httpx.Response:
        """Open a page and send its form."""
        found = re.findall(r'name="form_token" value="([^"]+)"', self.page(path).text)
        assert found, f"{path} has no form"
        return self.http.post(action or path, data={"form_token": found[-1], **fields})


@pytest.fixture
def billing(live_stack: LiveStack) -> Billing:
    """The demo's first merchant, who invoices."""
    made = Billing(live_stack.stack, live_stack.seed.clients[0].client_id)
    made.open()
    return made


def mailed_link(live: LiveStack, customer_id: str) -> str:
    """Return the path of a customer's newest link, as notifier gets it for its mail."""

    async def newest() -> str:
        server = live.stack.cluster.postgres_url.rpartition("/")[0]
        name = live.stack.environment("portal-api")["PORTAL_DATABASE_URL"].rpartition("/")[2]
        connection = await asyncpg.connect(f"{server}/{name}")
        try:
            found = await connection.fetchval(
                "select id from payer_links where customer_id = $1 order by created_at desc",
                customer_id,
            )
        finally:
            await connection.close()
        return str(found)

    link_id = asyncio.run(newest())
    signer = TokenSigner("notifier", live.stack.cluster.keys["notifier_signing"])
    answer = httpx.post(
        f"{live.portal_url}/internal/v1/payer-links/{link_id}/token",
        headers={"Authorization": f"Bearer {signer.token('portal-api', 'payers:link')}"},
    )
    assert answer.status_code == 201, answer.text
    path: str = answer.json()["path"]
    return path


async def test_a_payer_is_let_in_pays_and_is_switched_off(
    live_stack: LiveStack, billing: Billing
) -> None:
    await asyncio.to_thread(_story, live_stack, billing)


def _story(live: LiveStack, billing: Billing) -> None:
    owner = Portal(live.portal_url)
    owner.sign_in(live.client_email, live.client_password, "client")
    mine = {"mode": "test", "client_id": billing.client_id}
    query = "?" + urlencode(mine)
    customer = owner.post(
        f"/customers{query}", {"name": "Keza Uwase", "email": EMAIL, "portal_enabled": True}
    )
    other = owner.post(f"/customers{query}", {"name": "Another", "portal_enabled": True})
    access = f"/customers/{customer['id']}/portal-access"
    until(lambda: owner.get(access, **mine)["state"], "ready")
    stranger = Portal(live.portal_url)
    second = live.seed.clients[1]
    stranger.sign_in(second.client_email, second.client_password, "client")
    with pytest.raises(StartFailed, match="404"):
        stranger.get(access, mode="test")
    invited = owner.post(f"/customers/{customer['id']}/portal-invites{query}", {})
    assert invited["state"] == "invited"
    invoices = [_issued(billing, one["id"], 6400) for one in (customer, other)]
    browser = Browser(live.portal_url)
    entered = browser.send(mailed_link(live, customer["id"]), password=PASSWORD)
    assert entered.headers["location"] == "/portal/invoices", entered.text
    listed = browser.page("/portal/invoices").text
    assert invoices[0]["number"] in listed and invoices[1]["number"] not in listed
    assert browser.page(f"/portal/invoices/{invoices[1]['id']}").status_code == 404
    path = f"/portal/invoices/{invoices[0]['id']}"
    paid = browser.send(path, f"{path}/pay", phone="+250780000000", service="collection")
    assert paid.status_code == 303, paid.text
    until(lambda: "the payment went through" in browser.page(f"{path}/status").text, True)
    assert billing.read(invoices[0]["id"])["status"] == "paid"
    assert "Nothing is open" in browser.page("/portal/statement").text
    assert browser.page(f"{path}/pdf").content.startswith(b"%PDF-")
    changed = browser.send("/portal/details", "/portal/details", **_details(browser))
    assert changed.headers["location"] == "/portal/details?saved=1", changed.text
    now = owner.get(f"/customers/{customer['id']}", **mine)
    assert (now["phone"], now["email"]) == ("+250780000009", EMAIL)
    off = {"name": now["name"], "email": EMAIL, "portal_enabled": False, "version": now["version"]}
    owner.change("PUT", f"/customers/{customer['id']}{query}", off)
    end = time.monotonic() + 60
    while browser.page("/portal/invoices").status_code != 303:
        assert time.monotonic() < end, "the session goes on"
        time.sleep(0.2)
    assert owner.get(access, **mine)["state"] == "off"


def _issued(billing: Billing, customer_id: str, amount_minor: int) -> Any:
    line = {"description": "Tea, 1 kg", "unit_price_minor": amount_minor}
    body = {"customer_id": customer_id, "currency": "RWF", "lines": [line]}
    draft = billing.have("POST", "/invoices", body)
    return billing.have("POST", f"/invoices/{draft['id']}/issue", {})


def _details(browser: Browser) -> dict[str, str]:
    version = re.search(r'name="version" value="(\d+)"', browser.page("/portal/details").text)
    assert version is not None
    return {"name": "Keza Uwase", "phone": "+250 780 000 009", "address": "KN 4 Ave",
            "locale": "fr", "version": version[1]}  # fmt: skip
