"""Sales: a merchant's own events beside our payments, and the arithmetic of the dashboard."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from mospay_shared.contracts import SaleEventV1
from mospay_shared.money import MoneyError, exponent, format_minor

from mospay_reporter.domain.facts import Unstorable, storable

PAYMENT_PREFIX = "pay_"
TWO_PLACES = Decimal("0.01")

Key = tuple[str, str, str]  # client, mode, name


@dataclass(frozen=True, slots=True)
class Place:
    """A sale to look at again; `payment_id` where a payment of ours has that name."""

    client_id: str
    mode: str
    name: str
    payment_id: str | None = None

    @property
    def key(self) -> Key:
        """Where the sale is kept."""
        return self.client_id, self.mode, self.name


def checked(events: Iterable[SaleEventV1]) -> list[SaleEventV1]:
    """Return the events in the order of their key, each key once; raises Unstorable."""
    found: dict[Key, SaleEventV1] = {}
    for event in events:
        if event.occurred_at.tzinfo is None or event.received_at.tzinfo is None:
            raise Unstorable("occurred_at and received_at need a time zone")
        found.setdefault((event.client_id, event.mode, storable(event.dedupe_key)), event)
    return [found[key] for key in sorted(found)]


def named_payments(events: Sequence[SaleEventV1]) -> list[str]:
    """Return the transaction ids that may be ids of payments of ours."""
    ids = {storable(event.transaction_id) for event in events}
    return sorted(one for one in ids if one.startswith(PAYMENT_PREFIX))


def decimals(currency: str) -> int:
    """Return the decimals of a currency; one that the table lacks has two, as most have."""
    try:
        return exponent(currency)
    except MoneyError:
        return 2


def exact(amount_minor: int, currency: str) -> str:
    """Return an amount as an exact JSON number, such as `1000` RWF or `10.50` USD."""
    try:
        return format_minor(amount_minor, currency)
    except MoneyError:
        return str(Decimal(amount_minor).scaleb(-2))


def average(amount_minor: int, count: int, currency: str) -> str:
    """Return amount / count in units of the currency, with two decimals or the currency's three."""
    step = Decimal(1).scaleb(-max(2, decimals(currency)))
    if count == 0:
        return str(Decimal(0).quantize(step))
    whole = Decimal(amount_minor).scaleb(-decimals(currency)) / count
    return str(whole.quantize(step, ROUND_HALF_EVEN))


def growth(now: int, before: int) -> str | None:
    """Return the change in per cent with two decimals; None where there was nothing before."""
    if before == 0:
        return None
    change = Decimal(now - before) * 100 / Decimal(abs(before))
    return str(change.quantize(TWO_PLACES, ROUND_HALF_EVEN))


def ratio(amount: Decimal, count: int) -> str:
    """Return amount / count with two decimals; 0.00 where there is nothing."""
    return str((amount / count if count else Decimal(0)).quantize(TWO_PLACES, ROUND_HALF_EVEN))
