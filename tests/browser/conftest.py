"""A browser in front of the live house: signed-in pages, and what every page must hold."""

import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from mospay_dev.services import ROOT
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, sync_playwright

from tests.conftest import LiveStack

_AXE = ROOT / "portal-api/web/node_modules/axe-core/axe.min.js"
_CHROMIUM = (Path("/usr/bin/chromium"), Path("/usr/bin/chromium-browser"))
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
WAIT_MS = 15_000
# A refused sign-in, a missing page, an ended link, a form with a fault: what tests ask for.
_ASKED_FOR = re.compile(r"status of 4(0\d|10|22)\b")


@pytest.fixture(scope="module")
def chromium(live_stack: LiveStack, pytestconfig: pytest.Config) -> Iterator[Browser]:
    """The machine's chromium where there is one, else Playwright's own.

    Not pytest-playwright's session-wide browser: its event loop would run on in the main thread
    and every asyncio test after these would fail. The house is started first for the same reason.
    """
    installed = next((str(path) for path in _CHROMIUM if path.exists()), None)
    # Chromium refuses its sandbox to root, which is who runs the tests in containers.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=installed, args=sandbox, headless=not pytestconfig.getoption("headed")
        )
        yield browser
        browser.close()


def sign_in(page: Page, portal_url: str, audience: str, email: str, password: str) -> None:
    """Sign in by the form and wait for the dashboard."""
    page.goto(f"{portal_url}/{audience}/login")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/{audience}/dashboard*")


Open = Callable[..., Page]


@pytest.fixture(scope="module")
def states(chromium: Browser, live_stack: LiveStack) -> dict[str, StorageState]:
    """One session of each audience, made once: signing in is limited."""
    people = {
        "client": (live_stack.client_email, live_stack.client_password),
        "admin": (live_stack.admin_email, live_stack.admin_password),
    }
    made: dict[str, StorageState] = {}
    for audience, (email, password) in people.items():
        context = chromium.new_context()
        context.set_default_timeout(60_000)  # the first page of a house that has just started
        sign_in(context.new_page(), live_stack.portal_url, audience, email, password)
        made[audience] = context.storage_state()
        context.close()
    return made


@pytest.fixture
def open_page(
    chromium: Browser, live_stack: LiveStack, request: pytest.FixtureRequest
) -> Iterator[Open]:
    """Return `open_page(audience or None, path)`; a fault of the page itself fails the test.

    `state` is a session that is none of the audiences', who sign in when a test needs them.
    """
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def note(kind: str, text: str) -> None:
        if kind == "error" and not _ASKED_FOR.search(text):
            faults.append(text)

    def make(
        audience: str | None,
        path: str,
        *,
        phone: bool = False,
        dark: bool = False,
        state: StorageState | None = None,
    ) -> Page:
        context = chromium.new_context(
            base_url=live_stack.portal_url,
            viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]
            has_touch=phone,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",  # axe must not meet a half-faded dialog
            locale="en-GB",
            timezone_id="Africa/Kigali",
            storage_state=request.getfixturevalue("states")[audience] if audience else state,
        )
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(path=_AXE)
        page = context.new_page()
        page.on("console", lambda message: note(message.type, message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not faults, faults


def assert_accessible(page: Page, *, but: Collection[str] = ()) -> None:
    """Run axe over the page as it stands, `but` for some rules; findings name their elements.

    Text in the very colour of its background axe leaves open, as something hidden on purpose.
    """
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", _RULES
    )
    problems = [
        f"{one['id']}: {one['help']} at {node['target']}"
        for one in found["violations"]
        if one["id"] not in but
        for node in one["nodes"]
    ]
    problems += [
        f"text in the colour of its background at {node['target']}"
        for one in found["incomplete"]
        for node in one["nodes"]
        if any((check["data"] or {}).get("messageKey") == "equalRatio" for check in node["any"])
    ]
    assert not problems, "\n".join(problems)


def assert_fits(page: Page) -> None:
    """Nothing may stick out of the page's width."""
    excess = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert excess <= 0, f"{excess} px wider than the window"
