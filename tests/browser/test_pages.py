"""The portals' three pages over the live house: dashboard, payments, one payment's trace."""

import re
import secrets

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, assert_accessible, assert_fits
from tests.conftest import LiveStack

_WAIT_FOR_BOOKS_MS = 20_000


def open_first_success(page: Page) -> None:
    """From the list of payments, open the newest that succeeded."""
    page.goto("/client/transactions?status=succeeded")
    page.locator("[data-row-link]").first.click()
    page.wait_for_url("**/client/transactions/pay_*")
    expect(page.get_by_role("heading", name="Trace", exact=True)).to_be_visible()


@pytest.mark.parametrize("audience", ["client", "admin"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_dashboard_counts_the_payments(open_page: Open, audience: str, dark: bool) -> None:
    page = open_page(audience, f"/{audience}/dashboard", dark=dark)
    today = page.locator("dl > div", has_text="Payments today").locator("dd").first
    expect(today).to_have_text(re.compile(r"^[1-9][\d,]*$"))
    expect(page.get_by_role("heading", name="Recent payments")).to_be_visible()
    expect(page.locator(".recharts-bar").first).to_be_attached()
    assert_accessible(page)
    assert_fits(page)


def test_new_merchant_begins_where_the_payments_are(open_page: Open) -> None:
    page = open_page("client", "/client/dashboard")
    expect(page.get_by_text("Test mode.")).to_be_visible()


def test_chart_can_be_read_as_a_table(open_page: Open) -> None:
    page = open_page("client", "/client/dashboard?range=24h")
    page.get_by_role("button", name="View as table").click()
    table = page.get_by_role("region", name="Payment volume, as a table")
    expect(table.get_by_role("columnheader", name="Succeeded")).to_be_visible()
    assert_accessible(page)


def test_filters_stand_in_the_url_and_narrow_the_list(open_page: Open) -> None:
    page = open_page("client", "/client/transactions")
    rows = page.locator("[data-row-link]")
    expect(rows.first).to_be_visible()
    everything = rows.count()
    page.get_by_role("button", name="Status").first.click()
    page.get_by_label("Failed", exact=True).check()
    page.wait_for_url("**status=failed*")
    page.keyboard.press("Escape")
    expect(page.locator("tbody tr", has_text="Succeeded")).to_have_count(0)
    assert 0 < rows.count() < everything
    assert_accessible(page)
    page.get_by_role("button", name="Clear all").click()
    expect(rows).to_have_count(everything)


def test_sorting_by_amount_orders_the_rows(open_page: Open) -> None:
    page = open_page("client", "/client/transactions")
    page.get_by_role("columnheader", name="Amount").get_by_role("button").click()
    page.wait_for_url("**sort=-amount*")
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Amount")
    expect(page.locator("[data-fetching=true]")).to_have_count(0)
    cells = page.locator("tbody td:last-child").all_inner_texts()
    amounts = [int(re.sub(r"\D", "", cell)) for cell in cells]
    assert amounts == sorted(amounts, reverse=True)


def test_filter_without_a_match_offers_the_way_back(open_page: Open) -> None:
    page = open_page("client", "/client/transactions?q=no-such-reference")
    expect(page.get_by_text("No payment matches these filters")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("button", name="Clear all filters").click()
    expect(page.locator("[data-row-link]").first).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_trace_shows_every_service_and_the_books(open_page: Open, dark: bool) -> None:
    page = open_page("client", "/client/transactions", dark=dark)
    open_first_success(page)
    steps = page.get_by_role("list", name="Steps of this payment")
    for service in ("Gateway", "Payment router", "Provider", "Ledger", "Notifier", "Reporter"):
        step = steps.locator("li strong", has_text=service).first
        expect(step).to_be_visible(timeout=_WAIT_FOR_BOOKS_MS)
    ledger = page.get_by_role("region", name="Ledger")
    # A client sees its own side of the entry; the operator sees all of it.
    expect(ledger.get_by_role("row", name="Client balance, pending")).to_be_visible()
    assert_accessible(page)
    assert_fits(page)


def test_trace_has_three_views_and_a_permalink_for_each_step(open_page: Open) -> None:
    page = open_page("client", "/client/transactions")
    open_first_success(page)
    step = page.get_by_role("list", name="Steps of this payment").locator("li").nth(1)
    anchor = step.get_attribute("id")
    address = page.url
    page.goto(f"{address}#{anchor}")
    page.reload()
    expect(page.locator(f"li[id='{anchor}'][data-chosen=true]")).to_be_in_viewport()
    page.get_by_text("Table", exact=True).click()
    expect(page.get_by_role("columnheader", name="Handled")).to_be_visible()
    assert_accessible(page)
    page.get_by_text("JSON", exact=True).click()
    expect(page.locator("pre", has_text='"explanation"')).to_be_visible()
    assert_accessible(page)


def test_admin_sees_the_same_trace(open_page: Open) -> None:
    page = open_page("admin", "/admin/transactions?status=succeeded")
    page.locator("[data-row-link]").first.click()
    page.wait_for_url("**/admin/transactions/pay_*")
    expect(page.get_by_role("heading", name="Trace", exact=True)).to_be_visible()
    assert_accessible(page)


def test_unknown_payment_and_unknown_page_keep_the_shell(open_page: Open) -> None:
    page = open_page("client", "/client/transactions/pay_019a0000000070008000000000000000")
    expect(page.get_by_role("heading", name="No such payment")).to_be_visible()
    expect(page.get_by_role("navigation", name="Main").first).to_be_visible()
    page.goto("/client/nowhere")
    expect(page.get_by_role("heading", name="This page doesn't exist")).to_be_visible()
    expect(page.get_by_role("navigation", name="Main").first).to_be_visible()
    assert_accessible(page)


def test_page_is_live_and_says_so(open_page: Open) -> None:
    page = open_page("client", "/client/dashboard")
    expect(page.locator("header [role=status]")).to_have_text("Live")


def test_new_payment_is_announced_and_shown_when_asked_for(
    open_page: Open, live_stack: LiveStack
) -> None:
    page = open_page("client", "/client/transactions")
    rows = page.locator("[data-row-link]")
    expect(rows.first).to_be_visible()
    expect(page.locator("header [role=status]")).to_have_text("Live")
    before, reference = rows.count(), f"live-{secrets.token_hex(6)}"
    answer = httpx.post(
        f"{live_stack.seed.gateway_url}/v1/payments",
        json={
            "service": "collection",
            "route": "payment",
            "amount_minor": 1200,
            "currency": "RWF",
            "phone": "+250780000000",
            "reference": reference,
        },
        headers={"X-API-Key": live_stack.seed.clients[0].api_key, "Idempotency-Key": reference},
        timeout=30,
    )
    assert answer.status_code == 202, answer.text
    pill = page.get_by_role("button", name="1 new payment")
    expect(pill).to_be_visible(timeout=_WAIT_FOR_BOOKS_MS)
    assert rows.count() == before, "rows moved under the reader's hand"
    pill.click()
    expect(page.get_by_role("link", name=reference)).to_be_visible()


def test_keys_lead_through_the_portal(open_page: Open) -> None:
    page = open_page("client", "/client/dashboard")
    expect(page.get_by_role("heading", name="Recent payments")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_url("**/client/transactions*")
    expect(page.locator("[data-row-link]").first).to_be_visible()
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet).to_be_visible()
    assert_accessible(page)
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    page.keyboard.press("/")
    expect(page.get_by_label("Search by id, reference or customer")).to_be_focused()
    page.keyboard.press("Control+k")
    expect(page.get_by_label("Search payments or jump to a page")).to_be_visible()
    assert_accessible(page)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_phone_shows_cards_tabs_and_a_sheet_of_filters(open_page: Open, dark: bool) -> None:
    page = open_page("client", "/client/dashboard", phone=True, dark=dark)
    expect(page.get_by_role("heading", name="Recent payments")).to_be_visible()
    assert_fits(page)
    assert_accessible(page)
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Payments").click()
    page.wait_for_url("**/client/transactions*")
    expect(page.get_by_role("list", name="Payments").locator("li").first).to_be_visible()
    assert_fits(page)
    page.get_by_role("button", name="Filters").click()
    sheet = page.get_by_role("dialog", name="Filters")
    expect(sheet.get_by_label("Failed", exact=True)).to_be_visible()
    assert_accessible(page)
    sheet.get_by_role("button", name="Show payments").click()
    expect(sheet).to_be_hidden()
    open_first_success(page)
    assert_fits(page)
    assert_accessible(page)
