"""Fee plans: percentage, fixed part, minimum, maximum, tiers by amount; rounded half to even."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from mospay_shared.contracts import PaymentEventV1

from mospay_ledger.domain.errors import AMOUNT_LIMIT_MINOR, FeePlanInvalid

BASIS = 10_000  # basis points of the whole
TIER_LIMIT = 20  # tiers a plan; more is a price list, not a plan


def share(amount: int, part: int, whole: int) -> int:
    """Return amount × part / whole, rounded half to even (IEEE 754, ISO 80000-1 rule A)."""
    result, rest = divmod(amount * part, whole)
    if rest * 2 > whole or (rest * 2 == whole and result % 2):
        result += 1
    return result


@dataclass(frozen=True, slots=True)
class Tier:
    """Applies to the whole amount from `from_minor` up to the next tier."""

    from_minor: int
    basis_points: int
    fixed_minor: int = 0


@dataclass(frozen=True, slots=True)
class Fee:
    """What a plan asks for one amount; `tier` counts from 1, None where the plan has none."""

    minor: int
    plan_id: str
    plan_version: int
    tier: int | None


@dataclass(frozen=True, slots=True)
class FeePlan:
    """A version of a plan; it is never changed. None in a scope field means "any"."""

    id: str
    version: int
    basis_points: int
    fixed_minor: int = 0
    min_minor: int | None = None
    max_minor: int | None = None
    tiers: tuple[Tier, ...] = ()
    fee_on_refund: str = "keep"  # keep | return (in the refund's proportion)
    mode: str = "live"
    client_id: str | None = None
    service_id: str | None = None
    currency: str | None = None
    effective_from: dt.datetime = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    effective_until: dt.datetime | None = None

    def tier_of(self, amount_minor: int) -> int | None:
        """Return which tier an amount falls into, counted from 1."""
        return sum(tier.from_minor <= amount_minor for tier in self.tiers) or None

    def fee(self, amount_minor: int) -> int:
        """Return the fee, rounded half to even, within min and max, never above the amount."""
        points, fixed = self.basis_points, self.fixed_minor
        tier = self.tier_of(amount_minor)
        if tier is not None:
            points, fixed = self.tiers[tier - 1].basis_points, self.tiers[tier - 1].fixed_minor
        fee = share(amount_minor, points, BASIS) + fixed
        if self.max_minor is not None:
            fee = min(fee, self.max_minor)
        return min(amount_minor, max(fee, self.min_minor or 0))

    def result(self, amount_minor: int) -> Fee:
        """Return the fee with what an entry stores of how it came about."""
        return Fee(self.fee(amount_minor), self.id, self.version, self.tier_of(amount_minor))

    def check(self) -> None:
        """Raise FeePlanInvalid where the plan contradicts itself."""
        amounts = [
            ("fixed_minor", self.fixed_minor or None),
            ("min_minor", self.min_minor),
            ("max_minor", self.max_minor),
            ("tiers", len(self.tiers) or None),
        ]
        for name, value in amounts:
            if value is not None and self.currency is None:
                raise FeePlanInvalid(name, "an amount needs the plan to name a currency")
            if value is not None and not 0 <= value <= AMOUNT_LIMIT_MINOR:
                raise FeePlanInvalid(name, f"must be between 0 and {AMOUNT_LIMIT_MINOR}")
        if not 0 <= self.basis_points <= BASIS:
            raise FeePlanInvalid("basis_points", f"must be between 0 and {BASIS}")
        if self.max_minor is not None and (self.min_minor or 0) > self.max_minor:
            raise FeePlanInvalid("max_minor", "must not be below min_minor")
        if self.effective_until is not None and self.effective_until <= self.effective_from:
            raise FeePlanInvalid("effective_until", "must be after effective_from")
        self._check_tiers()

    def _check_tiers(self) -> None:
        if len(self.tiers) > TIER_LIMIT:
            raise FeePlanInvalid("tiers", f"at most {TIER_LIMIT} tiers")
        if self.tiers and self.tiers[0].from_minor != 0:
            raise FeePlanInvalid("tiers", "the first tier must start from 0")
        starts = [tier.from_minor for tier in self.tiers]
        if starts != sorted(set(starts)):
            raise FeePlanInvalid("tiers", "tiers must rise by from_minor")
        for tier in self.tiers:
            if not 0 <= tier.basis_points <= BASIS:
                raise FeePlanInvalid("tiers", f"basis_points must be between 0 and {BASIS}")
            if not 0 <= tier.fixed_minor <= AMOUNT_LIMIT_MINOR:
                raise FeePlanInvalid("tiers", "fixed_minor must not be negative or absurd")


Scope = tuple[str, str | None, str | None, str | None]


@dataclass(slots=True)
class FeePlans:
    """The plans that may apply to a batch, by scope."""

    _by_scope: dict[Scope, list[FeePlan]] = field(default_factory=dict)

    @classmethod
    def of(cls, plans: Iterable[FeePlan]) -> "FeePlans":
        """Sort plans into their scopes, the newest first."""
        found = cls()
        for plan in sorted(plans, key=lambda p: p.effective_from, reverse=True):
            scope = (plan.mode, plan.client_id, plan.service_id, plan.currency)
            found._by_scope.setdefault(scope, []).append(plan)
        return found

    def choose(self, payment: PaymentEventV1) -> FeePlan | None:
        """Return the nearest plan in force when the payment was accepted, or None.

        Client and service before client, before service, before the default; the payment's
        currency before any; of one scope the newest.
        """
        at = payment.accepted_at
        for client in (payment.client_id, None):
            for service in (payment.service_id, None):
                for currency in (payment.currency, None):
                    for plan in self._by_scope.get((payment.mode, client, service, currency), ()):
                        if plan.effective_from <= at and (
                            plan.effective_until is None or at < plan.effective_until
                        ):
                            return plan
        return None
