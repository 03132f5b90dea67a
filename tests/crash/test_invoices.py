"""An invoice locked by its intent, and the ledger or the gateway killed around the POST."""

import contextlib
import threading

import httpx
import pytest
from mospay_dev.crash.house import House
from mospay_dev.demo.invoices import Billing
from mospay_dev.proxy import until

row = pytest.mark.row
PAY = {"phone": "+250780000000", "service": "collection"}


def billing_of(house: House) -> Billing:
    """The first merchant, who invoices."""
    made = Billing(house.stack, house.seed.clients[0].client_id)
    made.open()
    return made


def press_pay(billing: Billing, invoice_id: str) -> threading.Thread:
    """Press Pay in the background: whoever asks may never be answered."""

    def press() -> None:
        with contextlib.suppress(httpx.HTTPError):
            billing.ask("POST", f"/invoices/{invoice_id}/pay", PAY)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def paid_once(house: House, billing: Billing, invoice_id: str) -> None:
    """Wait until an invoice is paid, by one payment on every side."""

    def there() -> bool:
        return bool(billing.read(invoice_id)["status"] == "paid")

    until(there, "the invoice is paid", 60)
    (intent,) = billing.intents(invoice_id)
    assert intent["state"] == "succeeded" and billing.read(invoice_id)["locked_by"] is None
    same = "select count(*) from payments where reference = $1"
    assert house.value("gateway", same, intent["id"]) == 1
    house.audit([intent["payment_id"]])


@row("B16", "ledger", "invoice locked, crash before the POST")
def test_rule_25_the_ledger_killed_between_lock_and_post_posts_the_same_key_once(
    house: House,
) -> None:
    """Row B16, rule 25: the same key is posted again, one payment."""
    billing = billing_of(house)
    invoice = billing.invoice(5000)["id"]
    trap = house.at_commit("ledger", invoice, "hold_after")
    thread = press_pay(billing, invoice)
    trap.wait()
    asked = "select id from payment_intents where invoice_id = $1 and state = 'open'"
    intent = until(lambda: house.value("ledger", asked, invoice), "the lock is committed")
    house.kill("ledger")
    thread.join(30)
    assert house.value("ledger", "select locked_by from invoices where id = $1", invoice) == intent
    assert not house.value("gateway", "select 1 from payments where reference = $1", intent)
    house.start("ledger")
    assert billing.ask("POST", f"/invoices/{invoice}/pay", PAY).status_code == 409
    paid_once(house, billing, invoice)
    assert billing.intents(invoice)[0]["id"] == intent


@row("B16", "gateway", "intent accepted, crash before the answer")
def test_the_gateway_killed_before_its_answer_to_the_ledger_has_one_payment(house: House) -> None:
    """Row B16: the answer is lost, the key is sent again and finds its payment."""
    billing = billing_of(house)
    invoice = billing.invoice(5000)["id"]
    trap = house.at_acceptance(invoice, "hold_after")
    thread = press_pay(billing, invoice)
    trap.wait()
    house.kill("gateway")
    thread.join(30)
    house.start("gateway")
    paid_once(house, billing, invoice)
