"""A month: payments, refunds, late successes, settlements, payouts, invoices, a statement."""

import calendar
import datetime as dt
import json
import subprocess
import sys
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from rich.console import Console

from mospay_dev.month import desk, provider, sides
from mospay_dev.month.billing import AMOUNTS, OVERDUE, PAID, PART_MINOR, PARTLY, Billing
from mospay_dev.month.house import House, Say, morning_of
from mospay_dev.month.shop import Shop, until

PHONE = "+25078000"  # the last four digits choose what the simulator plays
FEE_PERCENT = 2  # the plan that test mode is delivered with
HOLD_DAYS = 2  # after the month its last day is settled
CLOSING_DAYS = 11  # and then, what was reserved is released
out = Console(highlight=False, width=120)
Orders = list[tuple[int, str, str | None]]


class Month:
    """Runs a month's last `days` days (all of it by default) and compares every side."""

    def __init__(self, folder: Path, say: Say, *, days: int | None = None) -> None:
        self._say, self._house = say, House(folder, say)
        today = dt.datetime.now(dt.UTC).date()
        self._month = (today.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
        whole = calendar.monthrange(self._month.year, self._month.month)[1]
        count = min(days or whole, whole)
        start = self._month + dt.timedelta(days=whole - count)
        self._days = [start + dt.timedelta(days=n) for n in range(count)]
        self._after = self._days[-1] + dt.timedelta(days=1)
        self._last = self._after + dt.timedelta(days=CLOSING_DAYS)
        self._paid_out: dict[str, int] = {}
        self._batches = 0
        self.agreement = sides.Agreement()

    def run(self) -> bool:
        """Do it all; return whether all sides agree."""
        house = self._house
        try:
            house.open(morning_of(self._days[0]))
            self._shops = [Shop(house.seed.gateway_url, one) for one in house.seed.clients]
            self._billing = Billing(house.seed.portal_url)
            before = sides.accounts(house.operator())
            self._set_up()
            for number, day in enumerate(self._days):
                self._day(number, day)
            self._month_end()
            exceptions = self._close()
            after = sides.accounts(house.operator())
            self._compare(after, exceptions)
            self._show(before, after)
        finally:
            house.close()
        return not self.agreement.faults

    def _set_up(self) -> None:
        first = self._house.operator()
        first.post("/settlement-terms", desk.TERMS)
        issuer = {"name": "MosPay", "time_zone": "Africa/Kigali", "invoice_prefix": "FEE"}
        first.change("PUT", "/issuers?mode=test", issuer)

    def _day(self, number: int, day: dt.date) -> None:
        self._house.go_to(morning_of(day))
        first = self._house.operator()
        for shop in self._shops:
            for sold in shop.sold:  # what a day left open has to end on the next one
                sold.awaited = sold.awaited or "succeeded"
        for place, shop in enumerate(self._shops):
            returned = [s for s in shop.sold[-12:] if s.phone.startswith(PHONE + "01")][-1:]
            shop.sell(orders(number, place, special=number == len(self._days) // 3))
            for sold in returned:
                shop.refund(sold, sold.amount_minor * 2 // 5)
        owner = self._house.merchant(self._shops[0].merchant)
        if number == 0:
            self._billing.issue(owner, day)
        if number == 1:
            self._billing.pay(owner)
        for shop in self._shops:
            shop.end_the_day()
        self._batches += desk.settle(first)
        if number % 10 == 9:
            self._pay_out(first, number)
        sold_so_far = sum(len(shop.sold) for shop in self._shops)
        self._say(f"{day}: {sold_so_far} payments, {self._batches} settlements so far")

    def _pay_out(self, first: Any, number: int) -> None:
        """Pay half of what is available out; the second merchant's first payout comes back."""
        second, held = self._house.second(), sides.accounts(first)
        for place, shop in enumerate(self._shops):
            client_id = shop.merchant.client_id
            half = -held[f"client:{client_id}:RWF:test:available"] // 2
            back = place == 1 and number == 9
            stays = desk.pay_out(first, second, client_id, half, back=back)
            self._paid_out[client_id] = self._paid_out.get(client_id, 0) + stays

    def _month_end(self) -> None:
        """Have the month's fees invoiced by the ledger's own worker, once it is over."""
        self._say(f"{self._after}: the month is over; its fees are invoiced")
        self._house.go_to(morning_of(self._after))
        first, month = self._house.operator(), self._month.isoformat()
        clients = {shop.merchant.client_id for shop in self._shops}
        until(lambda: set(sides.fee_invoices(first, month)), lambda c: c == clients, "fee invoices")
        self._house.go_to(morning_of(self._after + dt.timedelta(days=HOLD_DAYS)))
        desk.settle(self._house.operator())

    def _close(self) -> dict[str, dict[str, Any]]:
        """Bring in the provider's statement, and settle the rest; return the exceptions by kind."""
        self._say(f"{self._last}: the provider's statement; what was held is settled")
        self._house.go_to(morning_of(self._last))
        first, second = self._house.operator(), self._house.second()
        desk.settle(first)
        self._record = provider.record(self._house.stack.folder / "simulator.sqlite")
        content, self._planted, self._owed = provider.statement(self._record)
        return desk.reconcile(first, second, content)

    def _compare(self, after: dict[str, int], exceptions: dict[str, dict[str, Any]]) -> None:
        first = self._house.operator()
        fees = [self._merchant(shop, after, first) for shop in self._shops]
        hold, record = self.agreement.hold, self._record
        hold(
            "fees of the month, both merchants",
            operators_account=-after["operator:RWF:test:fees"],
            merchants=sum(fees),
        )
        found = {kind: one["delta_minor"] for kind, one in exceptions.items()}
        for kind, planted in self._planted.items():
            if kind == "currency_differs":  # two currencies have no one difference
                planted = found[kind] = exceptions[kind]["expected_minor"] * -1
            sign = -1 if kind == "provider_fee" else 1
            hold(f"exception {kind}", planted=planted, ledger=found[kind] * sign)
        owes = after["provider:simulator:RWF:test:clearing"]
        hold("what the provider owes, as it says", statement=self._owed, clearing=owes)
        taken = sum(line.amount_minor for line in record)
        captured = sum(shop.captured() - shop.refunded_of() for shop in self._shops)
        captured += sum(self._billing.collected.values())
        hold("at the provider, net of refunds", provider=taken, merchants=captured)
        owner = self._house.merchant(self._shops[0].merchant)
        for ends, paid in ((PAID, AMOUNTS[PAID]), (PARTLY, PART_MINOR), (OVERDUE, 0)):
            invoice = self._billing.reaches(owner, ends)
            hold(f"invoice {ends}: paid", invoice=invoice["paid_minor"], customers=paid)
        command = [sys.executable, "-m", "mospay_ledger", "verify"]
        done = subprocess.run(
            command, env=self._house.stack.environment("ledger"), capture_output=True, check=False
        )
        self.agreement.check(done.returncode == 0, f"the hash chain: {done.stdout.decode()[-300:]}")

    def _merchant(self, shop: Shop, after: dict[str, int], first: Any) -> int:
        """Compare what is said of one merchant; return its fees."""
        client_id, name = shop.merchant.client_id, shop.merchant.app_id.partition("_")[0]
        mine = self._billing.collected if shop is self._shops[0] else {}
        captured = shop.captured() + sum(mine.values())
        amounts = [s.amount_minor for s in shop.sold if s.status == "succeeded"] + [*mine.values()]
        fees = sum(fee_of(amount) for amount in amounts)
        refunded = shop.refunded_of()
        batches = sides.settled(first, client_id)
        days = self._days[0].isoformat(), self._last.isoformat()
        booked = sides.statement(first, client_id, *days)
        figures = sides.reported(shop, *days)
        invoice = sides.fee_invoices(first, self._month.isoformat())[client_id]
        paid_out = self._paid_out.get(client_id, 0)
        hold = self.agreement.hold
        hold(
            f"{name}: captured", app=captured, settlements=batches["gross_minor"],
            reporter=figures["revenue"], statement=booked["capture"] + fees,
        )  # fmt: skip
        hold(f"{name}: payments that succeeded", app=len(amounts), reporter=figures["successful"])
        earlier = booked["refunds_available"]  # of money that had been settled before
        hold(
            f"{name}: refunded", app=refunded, statement=booked["refunds"],
            settlements=earlier - batches["refund_minor"],
        )  # fmt: skip
        hold(
            f"{name}: fees", plan=fees, settlements=batches["fee_minor"],
            fee_invoice=invoice["invoiced_minor"],
            reporter=figures["revenue"] - figures["net_revenue"] - refunded,
        )  # fmt: skip
        hold(
            f"{name}: net", app=captured - fees - refunded,
            settlements=batches["net_minor"] - earlier, reporter=figures["net_revenue"],
            statement=booked["closing"] + paid_out,
            available=paid_out - after[f"client:{client_id}:RWF:test:available"],
        )  # fmt: skip
        for kind in ("pending", "reserve", "payout"):
            left = after.get(f"client:{client_id}:RWF:test:{kind}", 0)
            self.agreement.check(left == 0, f"{name}: {left} are still {kind}")
        return fees

    def _show(self, before: dict[str, int], after: dict[str, int]) -> None:
        out.rule("The books before and after")
        for account in sorted({*before, *after}):
            was, now = before.get(account, 0), after.get(account, 0)
            out.print(f"   {account:76} {was:>10,} {now:>14,}")
        self.agreement.show(out)
        for fault in self.agreement.faults:
            out.print(f"[red]✗[/red] {fault}", markup=True)

    def report(self) -> dict[str, Any]:
        """Return the figures for a file."""
        return {
            "days": len(self._days),
            "rows": [{"what": what, **said} for what, said in self.agreement.rows],
            "faults": self.agreement.faults,
        }


def orders(number: int, place: int, *, special: bool) -> Orders:
    """Return what a merchant sells on a day: amount, phone, the end it must come to that day."""
    base = 1000 + 100 * number + 37 * place
    code = "01" if number % 4 == 2 else "07" if number % 6 == 3 else "00"
    wanted: Orders = [
        (base, PHONE + "0000", "succeeded"),
        (base + 251, PHONE + "0000", "succeeded"),
        (base, PHONE + "0001", "failed"),
        (base + 517, PHONE + "0005", "succeeded"),  # pending, then a callback
        (3000 + 100 * number, PHONE + "01" + code, "succeeded"),  # refunded the day after
    ]
    if number % 5 == 1:
        wanted.append((base + 33, PHONE + "0004", "succeeded"))  # unknown, then found out
    if special:
        wanted.append((base + 77, PHONE + "0013", "succeeded"))  # declined, and yet paid
        wanted.append((base + 99, PHONE + "0021", None))  # expires over night, and yet is paid
    return wanted


def fee_of(amount_minor: int) -> int:
    """Return the fee of a payment, minor units, reckoned apart from the ledger's own code."""
    exact = Decimal(amount_minor) * FEE_PERCENT / 100
    return int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))


def run_month(folder: Path, say: Say, *, days: int | None, json_file: Path | None) -> bool:
    """Run a month and print what each side says; return whether they agree."""
    month = Month(folder, say, days=days)
    agreed = month.run()
    if json_file is not None:
        json_file.write_text(json.dumps(month.report(), indent=2) + "\n")
    say("all sides agree to the unit" if agreed else "the sides do NOT agree")
    return agreed
