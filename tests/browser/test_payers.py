"""The payers' pages: the mailed link, their invoices, paying one, statement, details, the door."""

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pytest
from mospay_dev.demo.payers import PASSWORD, Reception
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.conftest import PHONE, WIDE, Open, assert_accessible, assert_fits
from tests.conftest import LiveStack

PAYS, DECLINED, HANGS = "+250780000000", "+250780000001", "+250780000004"
_WAIT_FOR_PAYMENT_MS = 30_000


@dataclass(frozen=True)
class Known:
    """A customer with a login, its browser's session, and an invoice that stays open."""

    customer: dict[str, Any]
    email: str
    state: StorageState
    invoice: dict[str, Any]

    @property
    def page(self) -> str:
        """Where the invoice is."""
        return f"/portal/invoices/{self.invoice['id']}"


def address() -> str:
    """Return an address that nobody else has, whatever ran before on this stack."""
    return f"keza.{secrets.token_hex(6)}@payers.example"


@pytest.fixture(scope="module")
def reception(live_stack: LiveStack) -> Reception:
    """The demo's first merchant, whose customers have the portal."""
    return Reception(live_stack.stack, live_stack.seed.clients[0])


@pytest.fixture(scope="module")
def known(chromium: Browser, live_stack: LiveStack, reception: Reception) -> Known:
    """A payer with one open invoice, shared by tests that change nothing of it."""
    return _known(chromium, live_stack, reception)


@pytest.fixture
def newcomer(chromium: Browser, live_stack: LiveStack, reception: Reception) -> Known:
    """A payer of a test's own."""
    return _known(chromium, live_stack, reception)


def _known(chromium: Browser, live: LiveStack, reception: Reception) -> Known:
    email = address()
    customer = reception.invited("Keza Uwase", email)
    invoice = reception.invoice(customer["id"])
    context = chromium.new_context(base_url=live.portal_url, locale="en-GB")
    page = context.new_page()
    page.goto(reception.link(customer["id"]))
    set_password(page, PASSWORD)
    page.wait_for_url("**/portal/invoices")
    made = Known(customer, email, context.storage_state(), invoice)
    context.close()
    return made


def set_password(page: Page, password: str) -> None:
    """Fill in the page that a mailed link opens."""
    page.get_by_label("New password", exact=True).fill(password)
    page.get_by_role("button", name="Set password and sign in").click()


def sign_in(page: Page, email: str, password: str) -> None:
    """Fill in the page at the door."""
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def pay(page: Page, phone: str) -> None:
    """Fill in an invoice's form."""
    page.get_by_label("Your phone number").fill(phone)
    page.get_by_role("button", name="Pay RWF").click()


def assert_looks_right(
    page: Page, again: Callable[[], object] = lambda: None, *, but: Collection[str] = ()
) -> None:
    """Accessible, and no wider than the window: on a desk and a phone, light and dark."""
    for size in (WIDE, PHONE):
        for scheme in ("light", "dark"):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            again()
            assert_accessible(page, but=but)
            assert_fits(page)


def test_mailed_link_sets_a_password_and_leads_to_the_invoices(
    open_page: Open, reception: Reception
) -> None:
    email = address()
    customer = reception.invited("Keza Uwase", email)
    invoice = reception.invoice(customer["id"])
    link = reception.link(customer["id"])
    page = open_page(None, link)
    expect(page.get_by_role("heading", name="Welcome: choose a password")).to_be_visible()
    expect(page.get_by_text(email)).to_be_visible()
    assert_looks_right(page)
    set_password(page, "too short")
    expect(page.get_by_role("alert")).to_have_text("Choose a password of at least 12 characters.")
    assert_looks_right(page)
    set_password(page, PASSWORD)
    page.wait_for_url("**/portal/invoices")
    expect(page.get_by_role("link", name=invoice["number"])).to_be_visible()
    page.goto(link)
    expect(page.get_by_role("heading", name="This link has ended")).to_be_visible()
    assert_looks_right(page)


def test_payer_sees_their_own_invoices_and_nobody_elses(
    open_page: Open, known: Known, reception: Reception
) -> None:
    other = reception.invoice(reception.customer("Another", email=address())["id"])
    page = open_page(None, "/portal/invoices", state=known.state)
    numbers = page.locator("ul.rows .what")
    expect(numbers).to_have_count(1)
    expect(numbers).to_contain_text(known.invoice["number"])
    expect(page.get_by_text(other["number"])).to_have_count(0)
    page.goto(f"/portal/invoices/{other['id']}")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    assert_looks_right(page)


def test_invoice_is_opened_paid_on_its_page_and_seen_paid(
    open_page: Open, newcomer: Known, reception: Reception
) -> None:
    page = open_page(None, "/portal/invoices", state=newcomer.state)
    page.get_by_role("link", name=newcomer.invoice["number"]).click()
    page.wait_for_url(f"**{newcomer.page}")
    expect(page.get_by_role("row", name="Tea, 1 kg")).to_be_visible()
    pay(page, "12")
    expect(page.get_by_role("alert")).to_contain_text("with its country code")
    assert_looks_right(page)
    pay(page, PAYS)
    page.wait_for_url("**/status")
    thanks = page.get_by_role("heading", name="Thank you, the payment went through")
    expect(thanks).to_be_visible(timeout=_WAIT_FOR_PAYMENT_MS)
    assert_looks_right(page)
    page.get_by_role("link", name="Back to the invoice").click()
    expect(page.get_by_text("Nothing is left to pay.")).to_be_visible()
    expect(page.get_by_role("button", name="Pay RWF")).to_have_count(0)
    assert_looks_right(page)
    page.get_by_role("link", name="Invoices", exact=True).click()
    page.get_by_role("link", name="Paid", exact=True).click()
    expect(page.get_by_role("link", name=newcomer.invoice["number"])).to_contain_text("Paid")
    assert reception.billing.read(newcomer.invoice["id"])["status"] == "paid"


def test_declined_payment_says_so_and_can_be_tried_again(open_page: Open, newcomer: Known) -> None:
    page = open_page(None, newcomer.page, state=newcomer.state)
    pay(page, DECLINED)
    failed = page.get_by_role("heading", name="The payment did not go through")
    expect(failed).to_be_visible(timeout=_WAIT_FOR_PAYMENT_MS)
    assert_looks_right(page)
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("status")).to_contain_text("Nothing was taken")
    expect(page.get_by_role("button", name="Pay RWF")).to_be_visible()
    assert_looks_right(page)


def test_payment_under_way_is_shown_and_cannot_be_started_twice(
    open_page: Open, newcomer: Known
) -> None:
    page = open_page(None, newcomer.page, state=newcomer.state)
    pay(page, HANGS)
    page.wait_for_url("**/status")
    expect(page.get_by_role("link", name="Update now")).to_be_visible()
    # It updates itself without a script; nothing is filled in here, and it says so. Each look is
    # taken in the seconds before it does.
    assert_looks_right(page, page.reload, but=["meta-refresh"])
    page.goto(newcomer.page)
    expect(page.get_by_role("heading", name="A payment is being processed")).to_be_visible()
    expect(page.get_by_role("button", name="Pay RWF")).to_have_count(0)
    assert_looks_right(page)


def test_statement_says_what_is_open_and_what_is_not(
    open_page: Open, known: Known, reception: Reception
) -> None:
    page = open_page(None, "/portal/statement", state=known.state)
    expect(page.locator(".amount")).to_have_text("RWF 6,400")
    expect(page.get_by_role("link", name=known.invoice["number"])).to_be_visible()
    assert_looks_right(page)
    paper = page.request.get("/portal/statement.pdf")
    assert paper.ok and paper.body().startswith(b"%PDF-")


def test_payer_without_invoices_is_told_so(open_page: Open, reception: Reception) -> None:
    customer = reception.invited("Keza Uwase", address())
    page = open_page(None, reception.link(customer["id"]))
    set_password(page, PASSWORD)
    expect(page.get_by_role("heading", name="No invoices yet")).to_be_visible()
    assert_looks_right(page)
    page.get_by_role("link", name="Statement").click()
    expect(page.get_by_role("heading", name="Nothing is open")).to_be_visible()
    assert_looks_right(page)


def test_details_are_changed_and_the_pages_speak_the_chosen_language(
    open_page: Open, newcomer: Known, reception: Reception
) -> None:
    page = open_page(None, "/portal/details", state=newcomer.state)
    assert_looks_right(page)
    page.get_by_label("Phone").fill("12")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("with its country code")
    assert_looks_right(page)
    page.get_by_label("Phone").fill("+250 780 000 009")
    page.get_by_label("Language").select_option("fr")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/portal/details?saved=1")
    expect(page.locator("html")).to_have_attribute("lang", "fr")
    expect(page.get_by_role("status")).to_be_visible()
    assert_looks_right(page)
    assert reception.read(newcomer.customer["id"])["phone"] == "+250780000009"


def test_payer_signs_out_and_in_again(open_page: Open, newcomer: Known) -> None:
    page = open_page(None, "/portal/invoices", state=newcomer.state)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/portal/login?out=1")
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    assert_looks_right(page)
    page.goto("/portal/invoices")
    page.wait_for_url("**/portal/login")
    sign_in(page, newcomer.email, PASSWORD)
    page.wait_for_url("**/portal/invoices")
    expect(page.get_by_role("link", name=newcomer.invoice["number"])).to_be_visible()


def test_unknown_address_and_wrong_password_read_the_same(open_page: Open, known: Known) -> None:
    page, said = open_page(None, "/portal/login"), []
    for email in (known.email, address()):
        sign_in(page, email, "not the password")
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_label("E-mail address")).to_have_value(email)
        said.append(page.locator("main").inner_text())
    assert said[0] == said[1] and "The e-mail address or the password is wrong." in said[0]
    assert_looks_right(page)


def test_forgotten_password_is_answered_alike_and_set_by_the_mailed_link(
    open_page: Open, newcomer: Known, reception: Reception
) -> None:
    page, said = open_page(None, "/portal/login"), []
    page.get_by_role("link", name="Forgot your password?").click()
    assert_looks_right(page)
    for email in (newcomer.email, address()):
        page.goto("/portal/forgot")
        page.get_by_label("E-mail address").fill(email)
        page.get_by_role("button", name="Send the link").click()
        expect(page.get_by_role("heading", name="Look into your mails")).to_be_visible()
        said.append(page.locator("main").inner_text())
    assert said[0] == said[1]
    assert_looks_right(page)
    page.goto(reception.link(newcomer.customer["id"]))
    expect(page.get_by_role("heading", name="Choose a new password")).to_be_visible()
    assert_looks_right(page)
    set_password(page, "another fine password")
    page.wait_for_url("**/portal/invoices")


@pytest.mark.parametrize(
    "path", ["/portal/invoices", "/portal/invoices?state=overdue", "the invoice"]
)
def test_page_is_accessible_and_fits_a_phone(open_page: Open, known: Known, path: str) -> None:
    page = open_page(None, known.page if path == "the invoice" else path, state=known.state)
    expect(page.get_by_role("navigation", name="Your pages")).to_be_visible()
    assert_looks_right(page)
