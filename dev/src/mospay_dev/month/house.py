"""The house whose calendar is turned: a stack of its own, made afresh, with movable clocks."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

from mospay_dev.demo.portal import Portal
from mospay_dev.demo.seed import Merchant, Seed, seed
from mospay_dev.services import SERVICES
from mospay_dev.stack import EXTRAS, Stack

ZONE = ZoneInfo("Africa/Kigali")  # the merchants' and the operator's
SECOND_PERSON = "second@mospay.example"
# Waits that keep a day short; what they time is the same with the services' own values.
FAST: dict[str, dict[str, str]] = {
    "payment-router": {
        "ROUTER_ENQUIRY_SECONDS": "0.5,1,1,2,2,5",
        "ROUTER_NOT_FOUND_GRACE_SECONDS": "2",
    },
    "ledger": {"LEDGER_OVERDUE_SECONDS": "2", "LEDGER_FEE_SECONDS": "10"},
    "simulator": {"SIMULATOR_HANG_SECONDS": "10"},
}
Say = Callable[[str], None]


class House:
    """The running stack, its people's sessions at the portal, and what day it is there."""

    def __init__(self, folder: Path, say: Say) -> None:
        Stack(folder, say=say).stop()
        Stack(folder).cluster.purge()  # sums are exact only of a house without a past
        self.stack = Stack(folder, durable=False, say=say, extra=FAST, movable_clocks=True)
        self.seed: Seed
        self._passwords: dict[str, str] = {}

    def open(self, morning: dt.datetime) -> None:
        """Start everything at an instant, seed two merchants and two people of the operator."""
        self._ahead = morning
        names = ("postgres", *SERVICES, *EXTRAS)
        self.stack.clocks.set(_seconds_to(morning), *names)
        self.stack.prepare()
        self.stack.start((*SERVICES, *EXTRAS))
        self.seed = seed(self.stack)
        self._passwords[self.seed.admin["email"]] = self.seed.admin["password"]
        for client in self.seed.clients:
            self._passwords[client.client_email] = client.client_password
        self._passwords[SECOND_PERSON] = "a second pair of eyes"
        self.operator().post(
            "/users",
            {
                "audience": "admin",
                "name": "Second",
                "email": SECOND_PERSON,
                "role": "owner",
                "password": self._passwords[SECOND_PERSON],
            },
        )

    def close(self) -> None:
        """Stop everything."""
        self.stack.stop()

    def go_to(self, morning: dt.datetime) -> None:
        """Move every clock to an instant, while everything runs."""
        self.stack.clocks.set(_seconds_to(morning))

    def operator(self) -> Portal:
        """Sign the first person of the operator in (sessions end over night)."""
        return self._signed_in(self.seed.admin["email"], "admin")

    def second(self) -> Portal:
        """Sign the second person of the operator in."""
        return self._signed_in(SECOND_PERSON, "admin")

    def merchant(self, client: Merchant) -> Portal:
        """Sign a merchant's owner in."""
        return self._signed_in(client.client_email, "client")

    def _signed_in(self, email: str, audience: str) -> Portal:
        portal = Portal(self.seed.portal_url)
        portal.sign_in(email, self._passwords[email], audience)
        return portal


def morning_of(day: dt.date, hour: int = 6) -> dt.datetime:
    """Return an instant of a local day."""
    return dt.datetime(day.year, day.month, day.day, hour, tzinfo=ZONE)


def _seconds_to(instant: dt.datetime) -> int:
    return round((instant - dt.datetime.now(dt.UTC)).total_seconds())
