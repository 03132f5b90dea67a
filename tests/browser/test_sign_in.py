"""Signing in: both portals, wrong passwords, leaving, somebody else's portal."""

from playwright.sync_api import expect

from tests.browser.conftest import Open, assert_accessible, assert_fits, sign_in
from tests.conftest import LiveStack


def test_client_signs_in_and_lands_on_the_dashboard(open_page: Open, live_stack: LiveStack) -> None:
    page = open_page(None, "/client/login")
    expect(page.get_by_role("heading", name="Sign in to your account")).to_be_visible()
    assert_accessible(page)
    email, password = live_stack.client_email, live_stack.client_password
    sign_in(page, live_stack.portal_url, "client", email, password)
    expect(page.get_by_role("heading", name="Home", exact=True)).to_be_visible()


def test_admin_signs_in_to_the_operator_console(open_page: Open, live_stack: LiveStack) -> None:
    page = open_page(None, "/admin/login")
    expect(page.get_by_role("heading", name="Operator console")).to_be_visible()
    assert_accessible(page)
    email, password = live_stack.admin_email, live_stack.admin_password
    sign_in(page, live_stack.portal_url, "admin", email, password)
    expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()


def test_unknown_address_and_wrong_password_read_the_same(open_page: Open) -> None:
    page = open_page(None, "/client/login")
    page.get_by_label("Email").fill("nobody@nowhere.example")
    page.get_by_label("Password", exact=True).fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Wrong email or password")
    assert_accessible(page)


def test_a_page_asked_for_without_a_session_opens_after_signing_in(
    open_page: Open, live_stack: LiveStack
) -> None:
    page = open_page(None, "/client/transactions?status=failed")
    page.wait_for_url("**/client/login?next=*")
    page.get_by_label("Email").fill(live_stack.client_email)
    page.get_by_label("Password", exact=True).fill(live_stack.client_password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/client/transactions?status=failed*")


def test_signing_out_ends_the_session(open_page: Open, live_stack: LiveStack) -> None:
    page = open_page(None, "/client/login")
    email, password = live_stack.client_email, live_stack.client_password
    sign_in(page, live_stack.portal_url, "client", email, password)
    page.get_by_role("button", name="Account").click()
    page.get_by_role("menuitem", name="Sign out", exact=True).click()
    page.wait_for_url("**/client/login*")
    page.goto("/client/dashboard")
    page.wait_for_url("**/client/login?next=*")


def test_a_client_is_told_that_the_console_is_not_theirs(open_page: Open) -> None:
    page = open_page("client", "/admin/dashboard")
    expect(page.get_by_role("heading", level=1)).to_contain_text("no access")
    assert_accessible(page)


def test_sign_in_fits_a_phone(open_page: Open) -> None:
    page = open_page(None, "/client/login", phone=True, dark=True)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert_fits(page)
    assert_accessible(page)
