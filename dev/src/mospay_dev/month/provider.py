"""The provider's statement: from the simulator's own record, with one mistake of each kind."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

HEADER = "provider_reference,reference,kind,amount,currency,fee,occurred_at"
FEE_MINOR = 5  # the provider charges for each of the first payments, so the statement has fees
STRANGER = "sim-nobody-here-knows"
_EFFECTS = """
select p.provider_reference, e.reference, 'payment' as kind, e.amount, e.at
from effects e join payments p using (reference)
union all
select r.provider_reference, e.refund_id, 'refund', '-' || e.amount, e.at
from refund_effects e join refunds r using (refund_id)
order by 5"""


@dataclass(frozen=True)
class Line:
    """A line of the statement; the amount in minor units, money to us positive."""

    provider_reference: str
    reference: str
    kind: str
    amount_minor: int
    at: str
    currency: str = "RWF"
    fee_minor: int = 0

    def text(self) -> str:
        """The line of the file."""
        values = (
            self.provider_reference, self.reference, self.kind, self.amount_minor,
            self.currency, self.fee_minor, self.at,
        )  # fmt: skip
        return ",".join(str(value) for value in values)


def record(path: Path) -> list[Line]:
    """Read what the provider did, oldest first."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        rows = database.execute(_EFFECTS).fetchall()
    return [Line(row[0], row[1], row[2], int(row[3]), row[4]) for row in rows]


def statement(lines: list[Line]) -> tuple[str, dict[str, int], int]:
    """Return a statement that is wrong in every way once, by how much, and what it comes to.

    One payment is left out, one has another amount, one another currency, one is told twice, one
    is of nobody here, and five are charged for. Minor units; the sum is that of RWF, net of what is
    charged, each line counted once.
    """
    payments = [line for line in lines if line.kind == "payment"]
    gone, other, abroad, twice = payments[3], payments[5], payments[7], payments[9]
    changed = {
        other.reference: Line(*_start(other), other.amount_minor - 100, other.at),
        abroad.reference: Line(*_start(abroad), abroad.amount_minor, abroad.at, "USD"),
    }
    charged = {line.reference for line in payments[10:15]}
    told = []
    for line in lines:
        if line.reference == gone.reference:
            continue
        fee = FEE_MINOR if line.reference in charged else 0
        shown = changed.get(line.reference, line)
        told.append(Line(*_start(shown), shown.amount_minor, shown.at, shown.currency, fee))
    told.append(twice)
    told.append(Line(STRANGER, "", "payment", 4321, lines[-1].at))
    faults = {
        "missing_there": -gone.amount_minor,
        "amount_differs": -100,
        "currency_differs": -abroad.amount_minor,
        "duplicate": twice.amount_minor,
        "missing_here": 4321,
        "provider_fee": FEE_MINOR * len(charged),
    }
    ours = sum(line.amount_minor - line.fee_minor for line in told if line.currency == "RWF")
    ours -= twice.amount_minor
    return "\n".join([HEADER, *(line.text() for line in told), ""]), faults, ours


def _start(line: Line) -> tuple[str, str, str]:
    return line.provider_reference, line.reference, line.kind
