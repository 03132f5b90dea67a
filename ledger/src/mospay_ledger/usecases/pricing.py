"""Fee plans: a new version, and what one would have cost over the last days."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.money import MoneyError, format_minor

from mospay_ledger.domain import FeePlan, TooManyAmounts
from mospay_ledger.storage import plans


@dataclass(slots=True)
class TierShare:
    """What fell into one tier; `tier` is None where the plan has none."""

    tier: int | None
    payments: int = 0
    amount_minor: int = 0
    fee_minor: int = 0


@dataclass(slots=True)
class Simulation:
    """One currency of a simulation; `charged_minor` is what was really taken."""

    currency: str
    payments: int = 0
    amount_minor: int = 0
    charged_minor: int = 0
    fee_minor: int = 0
    tiers: dict[int | None, TierShare] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The result in a sentence."""
        would, was = (self._amount(minor) for minor in (self.fee_minor, self.charged_minor))
        return f"would have cost {would} instead of {was} over {self.payments} payments"

    def _amount(self, minor: int) -> str:
        try:
            return f"{format_minor(minor, self.currency)} {self.currency}"
        except MoneyError:  # booked under a code the exponent table lacks
            return f"{minor} minor units of {self.currency}"


async def add_plan(
    tx: Tx, plan: FeePlan, effective_from: dt.datetime | None, created_by: str | None
) -> asyncpg.Record:
    """Put a version of a plan in force; raises FeePlanInvalid."""
    plan.check()
    return await plans.add_plan(tx, plan, effective_from, created_by)


async def simulate(
    tx: Tx, plan: FeePlan, *, since: dt.datetime, until: dt.datetime, amounts_limit: int
) -> list[Simulation]:
    """Price the captures of a window under a plan, by currency.

    Scope is the plan's own (client, service, currency, mode). Raises FeePlanInvalid and
    TooManyAmounts (more than `amounts_limit` distinct amounts).
    """
    plan.check()
    rows = await plans.sample(
        tx,
        since=since,
        until=until,
        mode=plan.mode,
        client_id=plan.client_id,
        service_id=plan.service_id,
        currency=plan.currency,
        limit=amounts_limit + 1,
    )
    if len(rows) > amounts_limit:
        raise TooManyAmounts(f"more than {amounts_limit} distinct amounts: name a client")
    return _priced(plan, rows)


def _priced(plan: FeePlan, rows: Sequence[asyncpg.Record]) -> list[Simulation]:
    found: dict[str, Simulation] = {}
    for row in rows:
        amount, count = row["amount_minor"], row["payments"]
        fee, tier = plan.fee(amount) * count, plan.tier_of(amount)
        one = found.setdefault(row["currency"], Simulation(row["currency"]))
        part = one.tiers.setdefault(tier, TierShare(tier))
        for total in (one, part):
            total.payments += count
            total.amount_minor += amount * count
            total.fee_minor += fee
        one.charged_minor += int(row["fee_minor"])
    return list(found.values())
