"""Accounts by what they are for. Debits are positive, credits negative."""

from dataclasses import dataclass, field
from functools import lru_cache

# What a client has with us. All but `receivable` (the client's debt) are credits or zero.
CLIENT_KINDS = ("available", "payout", "pending", "receivable", "refund_due", "reserve")
OWN_KINDS = ("clearing", "fees", "provider_fees", "refunds", "suspense", "write_offs")
ACCOUNT_KINDS = (*CLIENT_KINDS, *OWN_KINDS)


@dataclass(frozen=True, slots=True)
class Account:
    """An account; its id says it all: `client:cli_…:RWF:test:pending`."""

    kind: str
    owner: str  # `client:{id}`, `provider:{microservice}` or `operator`
    client_id: str | None
    currency: str
    mode: str
    # Made once: a posting asks for it, and for the hash, about ten times.
    id: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        made = f"{self.owner}:{self.currency}:{self.mode}:{self.kind}"
        object.__setattr__(self, "id", made)

    def __hash__(self) -> int:
        return hash(self.id)

    @classmethod
    def parse(cls, account_id: str) -> "Account":
        """Return the account of an id that `Account.id` made."""
        owner, currency, mode, kind = account_id.rsplit(":", 3)
        client_id = owner.removeprefix("client:") if kind in CLIENT_KINDS else None
        return cls(kind, owner, client_id, currency, mode)


@dataclass(frozen=True, slots=True)
class ClientBooks:
    """The accounts of one client in one currency and mode; whoever posts holds `pending`'s lock."""

    client_id: str
    currency: str
    mode: str

    def account(self, kind: str) -> Account:
        """Return one of this client's accounts."""
        return _of_client(self.client_id, self.currency, self.mode, kind)


# Accounts are values, and a batch names the same few again and again.
_KEPT = 4096


@lru_cache(_KEPT)
def _of_client(client_id: str, currency: str, mode: str, kind: str) -> Account:
    return Account(kind, f"client:{client_id}", client_id, currency, mode)


@lru_cache(_KEPT)
def clearing(microservice: str, currency: str, mode: str) -> Account:
    """Return where the provider owes us what it has collected."""
    return Account("clearing", f"provider:{microservice}", None, currency, mode)


@lru_cache(_KEPT)
def fees(currency: str, mode: str) -> Account:
    """Return the operator's income from fees."""
    return Account("fees", "operator", None, currency, mode)


@lru_cache(_KEPT)
def refunds(currency: str, mode: str) -> Account:
    """Return the fees the operator gave back, kept apart so that income stays gross."""
    return Account("refunds", "operator", None, currency, mode)


def suspense(currency: str, mode: str) -> Account:
    """Return proven money that fits nowhere and waits for a person."""
    return Account("suspense", "operator", None, currency, mode)


def paid_out(currency: str, mode: str) -> Account:
    """Return what the operator's own bank has paid out to clients and sent back: a clearing."""
    return Account("clearing", "operator", None, currency, mode)


def provider_fees(currency: str, mode: str) -> Account:
    """Return what providers charge the operator: its expense."""
    return Account("provider_fees", "operator", None, currency, mode)


def write_offs(currency: str, mode: str) -> Account:
    """Return differences with providers that nobody pursues, losses and gains."""
    return Account("write_offs", "operator", None, currency, mode)
