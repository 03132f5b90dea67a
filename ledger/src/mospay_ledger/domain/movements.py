"""Movements that are decided elsewhere: settlements, reserves, payouts (docs/ledger.md)."""

import datetime as dt
from dataclasses import dataclass

from mospay_ledger.domain.accounts import Account, ClientBooks, paid_out

_PAID_OUT = "paid_out"
_CLIENT = "client"
# From where to where; what is given back to a client pays its debt first, then is available.
_MOVES = {
    "settlement": ("pending", "available"),
    "reserve_kept": ("available", "reserve"),
    "reserve_released": ("reserve", _CLIENT),
    "payout": ("available", "payout"),
    "payout_paid": ("payout", _PAID_OUT),
    "payout_returned": ("payout", _CLIENT),
    "payout_bounced": (_PAID_OUT, _CLIENT),
}


@dataclass(frozen=True, slots=True)
class Movement:
    """A settlement or payout, decided elsewhere; `id` and `kind` make it happen once."""

    id: str
    kind: str  # a key of _MOVES
    client_id: str
    mode: str
    currency: str
    amount_minor: int
    occurred_at: dt.datetime
    reason: str | None = None

    @property
    def effect_key(self) -> str:
        """The natural key of the movement."""
        return f"{self.id}:{self.kind}"

    @property
    def source(self) -> Account:
        """The account it takes from."""
        return self._account(_MOVES[self.kind][0])

    @property
    def target(self) -> Account | None:
        """The account it gives to; None: the client, whose debt comes first."""
        kind = _MOVES[self.kind][1]
        return None if kind == _CLIENT else self._account(kind)

    @property
    def shared_accounts(self) -> list[Account]:
        """The accounts it moves that clients share; they must be locked from the start."""
        sides = (self.source, self.target)
        return [side for side in sides if side is not None and side.client_id is None]

    def _account(self, kind: str) -> Account:
        if kind == _PAID_OUT:
            return paid_out(self.currency, self.mode)
        return ClientBooks(self.client_id, self.currency, self.mode).account(kind)
