"""What each side says of the month, side by side: apps, provider, journal, settlements, papers."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from mospay_dev.demo.portal import Portal
from mospay_dev.month.desk import pages
from mospay_dev.month.shop import Shop

Say = Callable[[str], None]


@dataclass
class Agreement:
    """Figures by what they count and who says them, minor units; `faults` where they differ."""

    rows: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def hold(self, what: str, **said: int) -> None:
        """Note what each side says; all must say the same."""
        self.rows.append((what, said))
        if len(set(said.values())) != 1:
            self.faults.append(f"{what}: {said}")

    def check(self, fact: bool, what: str) -> None:
        """Note a fact that must be true."""
        if not fact:
            self.faults.append(what)

    def show(self, out: Console) -> None:
        """Print the table."""
        table = Table("what", "minor units", "said alike by", title="The month, side by side")
        for what, said in self.rows:
            alike = len(set(said.values())) == 1
            shown = f"{next(iter(said.values())):,}" if alike else "[red]DIFFERS[/red]"
            names = ", ".join(said) if alike else ", ".join(f"{k} {v:,}" for k, v in said.items())
            table.add_row(what, shown, names)
        out.print(table)


def accounts(portal: Portal) -> dict[str, int]:
    """Every account of test mode and its balance, minor units; a balanced trial balance."""
    books = portal.get("/trial-balance", mode="test")
    assert books["balanced"], books
    return {
        account["account"]: account["balance_minor"]
        for block in books["currencies"]
        for account in block["accounts"]
    }


def settled(portal: Portal, client_id: str) -> dict[str, int]:
    """Sums over a client's settlements, and of the lines they consist of."""
    batches = pages(portal, "/settlements", mode="test", client_id=client_id)
    names = ("gross_minor", "fee_minor", "refund_minor", "adjustment_minor", "net_minor")
    sums = {name: sum(batch[name] for batch in batches) for name in names}
    of_lines = dict.fromkeys(names, 0)
    for batch in batches:
        for line in pages(portal, f"/settlements/{batch['id']}/lines"):
            for name in names:
                of_lines[name] += line[name]
    assert sums == of_lines, (sums, of_lines)
    return sums | {"batches": len(batches)}


def statement(portal: Portal, client_id: str, first: str, last: str) -> dict[str, int]:
    """A client's statement of account: sums of its lines by kind, and its last balance.

    `refunds` is what was given back, `refunds_available` the part of it that had been settled
    before: that part comes out of what is available, so no settlement has a line for it.
    """
    file = portal.file(
        "/statements", mode="test", client_id=client_id, currency="RWF", format="csv",
        **{"from": first, "to": last},
    )  # fmt: skip
    found = {"refunds": 0, "refunds_available": 0}
    for row in csv.DictReader(io.StringIO(file.decode().lstrip("\ufeff"))):
        change = sum(int(row[name] or 0) for name in ("pending", "available", "held", "debt"))
        if row["kind"] == "closing_balance":
            found["closing"] = int(row["balance"])
        elif row["kind"] != "opening_balance":
            found[row["kind"]] = found.get(row["kind"], 0) + change
            if row["kind"].startswith("refund"):
                found["refunds"] -= change
                found["refunds_available"] -= int(row["available"] or 0)
    return found


def reported(shop: Shop, first: str, last: str) -> dict[str, int]:
    """The reporter's sums over its days."""
    days = shop.figures(first, last)
    return {
        "successful": sum(day["successful"] for day in days),
        "revenue": int(sum(Decimal(str(day["revenue"])) for day in days)),
        "net_revenue": int(sum(Decimal(str(day["net_revenue"])) for day in days)),
    }


def fee_invoices(portal: Portal, month: str) -> dict[str, Any]:
    """The operator's invoices of a month's fees, by client."""
    found = pages(portal, "/fee-invoices", mode="test", month=month)
    return {row["client_id"]: row for row in found}
