"""The first merchant's invoices: one paid online, one in part, one that nobody pays."""

import datetime as dt
from typing import Any

from mospay_dev.demo.invoices import Guest
from mospay_dev.demo.portal import Portal
from mospay_dev.month.shop import CURRENCY, until

MODE = "?mode=test"
PAID, PARTLY, OVERDUE = "paid", "part_paid", "overdue"
AMOUNTS = {PAID: 7300, PARTLY: 10_000, OVERDUE: 5500}
PART_MINOR = 4000


class Billing:
    """Invoices of a merchant, as its owner works with them at the portal."""

    def __init__(self, portal_url: str) -> None:
        self._portal_url = portal_url
        self.invoices: dict[str, str] = {}  # how it shall end → id
        self._links: dict[str, str] = {}
        self.collected: dict[str, int] = {}  # payment id → minor units

    def issue(self, owner: Portal, today: dt.date) -> None:
        """Become an issuer and issue the three invoices; one is due in two days."""
        issuer = owner.change(
            "PUT",
            "/issuers" + MODE,
            {"name": "Akaliza Shops", "time_zone": "Africa/Kigali", "colour": "#0b6b3a"},
        )
        method = {"currency": CURRENCY, "service": "collection", "label": "Mobile money"}
        path = f"/issuers/{issuer['id']}/payment-methods{MODE}"
        owner.change("PUT", path, {"methods": [method]})
        for ends, amount_minor in AMOUNTS.items():
            due = today + dt.timedelta(days=2 if ends == OVERDUE else 60)
            customer = owner.post("/customers" + MODE, {"name": f"Customer of {ends}"})
            draft = owner.post(
                "/invoices" + MODE,
                {
                    "customer_id": customer["id"],
                    "currency": CURRENCY,
                    "lines": [{"description": "Tea, 1 kg", "unit_price_minor": amount_minor}],
                    "allow_partial": ends == PARTLY,
                    "due_on": due.isoformat(),
                },
            )
            issued = owner.post(f"/invoices/{draft['id']}/issue{MODE}", {})
            self.invoices[ends] = issued["id"]
            link = owner.post(f"/invoices/{issued['id']}/links{MODE}", {})
            self._links[ends] = link["url"].rpartition("/")[2]

    def pay(self, owner: Portal) -> None:
        """Have two customers pay by their links: all of one invoice, a part of the other."""
        for ends, part in ((PAID, {}), (PARTLY, {"amount": str(PART_MINOR)})):
            guest = Guest(self._portal_url, self._links[ends])
            guest.send(guest.form(**part))
            self.reaches(owner, ends)
            (intent,) = owner.get(f"/invoices/{self.invoices[ends]}/intents", mode="test")["items"]
            self.collected[intent["payment_id"]] = intent["amount_minor"]

    def reaches(self, owner: Portal, ends: str) -> dict[str, Any]:
        """Wait until an invoice is what it shall be, and return it."""
        path = f"/invoices/{self.invoices[ends]}"
        found: dict[str, Any] = until(
            lambda: owner.get(path, mode="test"),
            lambda invoice: invoice["status"] == ends,
            f"the invoice that shall be {ends}",
        )
        return found
