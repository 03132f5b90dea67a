"""The house that e2e and browser tests look at: started once a run, seeded, with payments in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from mospay_dev.demo.seed import Seed, seed
from mospay_dev.demo.story import Story
from mospay_dev.pytest_plugin import group_of
from mospay_dev.services import ROOT, SERVICES
from mospay_dev.stack import EXTRAS, Stack


@dataclass(frozen=True)
class LiveStack:
    """Addresses, logins and the payments of the demo's story."""

    stack: Stack
    seed: Seed
    payments: dict[str, str]  # scenario → payment id

    @property
    def portal_url(self) -> str:
        """Where the portal is."""
        return self.seed.portal_url

    @property
    def client_email(self) -> str:
        """A client user's login."""
        return self.seed.clients[0].client_email

    @property
    def client_password(self) -> str:
        """Its password."""
        return self.seed.clients[0].client_password

    @property
    def admin_email(self) -> str:
        """The admin's login."""
        return self.seed.admin["email"]

    @property
    def admin_password(self) -> str:
        """Its password."""
        return self.seed.admin["password"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of the house a longer time limit: whichever comes first waits for its start.

    Were that too long once, the fixture's failure would fail all the others.
    """
    for item in items:
        uses = "live_stack" in getattr(item, "fixturenames", ())
        if uses and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))


# One address sends everything, run after run: limits are counted as ever and not reached.
_LIMITS = {"PORTAL_PAYER_TRIES_PER_MINUTE": "1000", "PORTAL_PAYER_MAILS_PER_HOUR": "1000"}
_RUNNING: dict[str, Callable[[], None]] = {}  # groups of tests whose stack runs → how to end it


def end_with_group(nodeid: str, end: Callable[[], None]) -> None:
    """Have a stack ended with its group's last test: a worker goes on with other groups, and six
    services that nobody needs would take a quarter of the machine from them.
    """
    _RUNNING[group_of(nodeid)] = end


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the stack of a group that is over."""
    group = group_of(item.nodeid)
    if group in _RUNNING and (nextitem is None or group_of(nextitem.nodeid) != group):
        _RUNNING.pop(group)()


@pytest.fixture(scope="session")
def live_stack() -> Iterator[LiveStack]:
    """Six real services, the simulator and the receiver; the story's five payments have ended."""
    stack = Stack(ROOT / ".mospay/live", durable=False, say=print, extra={"portal-api": _LIMITS})
    end_with_group("tests/e2e", stack.stop)
    try:
        stack.prepare()
        stack.start((*SERVICES, *EXTRAS))
        made = seed(stack)
        story = Story(made)
        story.run()
        assert not story.faults, story.faults
        yield LiveStack(stack, made, {p["scenario"]: p["id"] for p in story.payments})
    finally:
        stack.stop()
