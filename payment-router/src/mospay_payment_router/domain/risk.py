"""Risk rules: what is asked of a payment before its first attempt, and what the answers add up to.

Pure: the facts (velocity, history, lists) are gathered elsewhere. All amounts are minor units of
one currency; the sums are exact integers, no statistic here is a float.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from mospay_shared.contracts.payments import RiskReasonV1
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

MINUTE_WINDOW_LIMIT = 60  # minutes; longer windows are counted by the hour
WINDOW_LIMIT_MINUTES = 31 * 24 * 60
REASON_LIMIT = 50  # reasons a decision keeps, as the contract has it
DETAIL_LIMIT = 300  # characters
BIGINT = 2**63 - 1
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Points = Annotated[int, Field(ge=0, le=1_000)]
Amount = Annotated[int, Field(ge=0, le=BIGINT)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class Decision(StrEnum):
    """What becomes of a payment. In the order of severity."""

    ALLOW = "allow"
    HOLD = "hold"
    REFUSE = "refuse"


_SEVERITY = {Decision.ALLOW: 0, Decision.HOLD: 1, Decision.REFUSE: 2}
Forced = Literal["hold", "refuse"]


class _Body(BaseModel):
    """What every rule has: points that add up, or a decision at least as severe as this one."""

    model_config = ConfigDict(extra="forbid")
    points: Points = 0
    decision: Forced | None = None

    @model_validator(mode="after")
    def _does_something(self) -> "_Body":
        if self.points == 0 and self.decision is None:
            raise ValueError("needs points or a decision, else it changes nothing")
        return self


class Velocity(_Body):
    """More than so many payments, or so much money, of one phone, device, address or client.

    The payment that is asked about counts. `max_amount_minor` is of `currency`.
    """

    kind: Literal["velocity"]
    scope: Literal["phone", "device", "ip", "client"]
    window_minutes: int = Field(ge=1, le=WINDOW_LIMIT_MINUTES)
    max_payments: int | None = Field(None, ge=0, le=BIGINT)
    currency: Currency | None = None
    max_amount_minor: Amount | None = None

    @model_validator(mode="after")
    def _has_a_limit(self) -> "Velocity":
        if self.max_payments is None and self.max_amount_minor is None:
            raise ValueError("needs max_payments or max_amount_minor")
        if (self.max_amount_minor is None) != (self.currency is None):
            raise ValueError("max_amount_minor and currency belong together")
        return self


class AmountAbove(_Body):
    """A payment of more than this amount."""

    kind: Literal["amount_above"]
    currency: Currency
    amount_minor: Amount


class AnomalyAmount(_Body):
    """An amount far from the client's or the payer's own, once there are enough to compare with.

    `times_max_percent`: more than this share of the largest so far (300: three times).
    `sigmas`: further above the mean than so many standard deviations. Either suffices.
    """

    kind: Literal["anomaly_amount"]
    against: Literal["client", "payer"]
    least_payments: int = Field(10, ge=2, le=1_000_000)
    times_max_percent: int | None = Field(None, ge=100, le=1_000_000)
    sigmas: int | None = Field(None, ge=1, le=1_000)

    @model_validator(mode="after")
    def _has_a_measure(self) -> "AnomalyAmount":
        if self.times_max_percent is None and self.sigmas is None:
            raise ValueError("needs times_max_percent or sigmas")
        return self


class FirstSeenPayer(_Body):
    """A payer this client has never been paid by, over an amount."""

    kind: Literal["first_seen_payer"]
    currency: Currency
    amount_minor: Amount


RuleBody = Annotated[
    Velocity | AmountAbove | AnomalyAmount | FirstSeenPayer, Field(discriminator="kind")
]
BODIES: TypeAdapter[Velocity | AmountAbove | AnomalyAmount | FirstSeenPayer] = TypeAdapter(RuleBody)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in force. A null client holds for all of them."""

    id: str
    client_id: str | None
    mode: str
    body: Velocity | AmountAbove | AnomalyAmount | FirstSeenPayer


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a list. `subject` is a digest (phone, device), a network or a customer id.

    `until` is a POSIX time, None for ever.
    """

    id: str
    client_id: str | None
    mode: str
    list: str
    kind: str
    subject: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which score a payment is held, and refused."""

    hold_at: int
    refuse_at: int


NO_THRESHOLDS = Thresholds(60, 100)  # where nobody has set any


class Span(NamedTuple):
    """Buckets of `grain` minutes by their start in minutes of the epoch, both ends included."""

    grain: int
    since: int
    upto: int


@lru_cache(maxsize=10_000)  # a batch is of one minute or two
def span(minute: int, window_minutes: int) -> Span:
    """Return the buckets a window ends in at this minute: never shorter, one bucket longer at most.

    Up to an hour it is counted by the minute, beyond by the hour.
    """
    grain = 1 if window_minutes <= MINUTE_WINDOW_LIMIT else 60
    upto = minute // grain * grain
    return Span(grain, upto - -(-window_minutes // grain) * grain, upto)


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted in a window, the asked payment included: payments, and money by currency.

    Money is left out where no rule asks for it.
    """

    payments: int = 0
    amounts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class History:
    """Amounts paid before, of one currency: how many, their sum, sum of squares and largest."""

    payments: int = 0
    total: int = 0
    squares: int = 0
    largest: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """A payment as risk sees it. Digests are keyed; the phone itself is never kept here.

    `digests` maps phone and device to what their list entries hold.
    """

    payment_id: str
    client_id: str
    mode: str
    amount_minor: int
    currency: str
    digests: Mapping[str, str]
    ip: str | None
    customer_id: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a payment's past. Windows by (scope, minutes); histories by whose.

    A history that is None could not be asked (no phone); an empty one means: never seen.
    """

    windows: Mapping[tuple[str, int], Window] = field(default_factory=dict)
    client: History | None = None
    payer: History | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with its score and the reasons that made it."""

    decision: Decision
    score: int = 0
    reasons: tuple[RiskReasonV1, ...] = ()
    by_default: bool = False
    rules_version: int = 0
    took_ms: float = 0.0

    @property
    def worth_keeping(self) -> bool:
        """Say whether there is anything to explain later: allowed without a point is the rule."""
        return self.decision is not Decision.ALLOW or self.by_default or bool(self.reasons)

    @property
    def worth_telling(self) -> bool:
        """Say whether other services hear of it."""
        return self.decision is not Decision.ALLOW or self.by_default


class Lists:
    """The entries of one client, or those for all clients, found by what they name."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._named: dict[tuple[str, str, str], Entry] = {}
        self._networks: dict[str, list[tuple[Network, Entry]]] = {"block": [], "allow": []}
        for entry in entries:
            if entry.kind == "ip":
                network = ipaddress.ip_network(entry.subject)
                self._networks[entry.list].append((network, entry))
            else:
                self._named[entry.list, entry.kind, entry.subject] = entry

    def __bool__(self) -> bool:
        return bool(self._named) or any(self._networks.values())

    def find(self, name: str, subject: "Subject") -> list[Entry]:
        """Return the entries of the list `block` or `allow` that name this payment."""
        found: list[Entry] = []
        for kind, value in (*subject.digests.items(), ("customer", subject.customer_id)):
            if value is not None and (entry := self._named.get((name, kind, value))):
                found.append(entry)
        if self._networks[name] and (address := address_of(subject.ip)) is not None:
            found += [entry for network, entry in self._networks[name] if address in network]
        return found


class Policy:
    """Everything in force for one client and mode, in the shape in which it is asked."""

    def __init__(
        self, rules: Sequence[Rule], lists: Sequence[Lists], thresholds: Thresholds
    ) -> None:
        self.rules = tuple(sorted(rules, key=lambda r: r.id))
        self.lists = tuple(one for one in lists if one)
        self.thresholds = thresholds
        velocity = [r.body for r in rules if isinstance(r.body, Velocity)]
        self.windows = {
            scope: sorted({body.window_minutes for body in velocity if body.scope == scope})
            for scope in sorted({body.scope for body in velocity})
        }
        self.money = frozenset(b.scope for b in velocity if b.max_amount_minor is not None)
        self.asks_client = any(_against(r, "client") for r in rules)
        self.asks_payer = any(
            _against(r, "payer") or isinstance(r.body, FirstSeenPayer) for r in rules
        )

    @property
    def empty(self) -> bool:
        """Say whether nothing is asked of payments here at all."""
        return not self.rules and not self.lists

    def listed(self, name: str, subject: Subject, now: float) -> list[Entry]:
        """Return the entries in force of the list `block` or `allow` that name this payment."""
        if not self.lists:
            return []
        found = [entry for one in self.lists for entry in one.find(name, subject)]
        return [e for e in found if e.until is None or e.until > now]


def _against(rule: Rule, whose: str) -> bool:
    return isinstance(rule.body, AnomalyAmount) and rule.body.against == whose


@lru_cache(maxsize=10_000)  # the same addresses come again and again
def address_of(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, or None for what is none; a mapped IPv4 is the IPv4 it stands for."""
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def assess(policy: Policy, subject: Subject, facts: Facts, now: float) -> Verdict:
    """Return what is decided about a payment. The same input always gives the same verdict.

    A block entry refuses whatever else holds. An allow entry waives what is only suspicious
    (velocity, anomalies, first payments), never a block entry and never a plain limit of amount.
    """
    blocked = policy.listed("block", subject, now)
    trusted = policy.listed("allow", subject, now)
    reasons = [_reason(e.id, 0, f"{e.kind} is on the block list") for e in blocked]
    decision = Decision.REFUSE if blocked else Decision.ALLOW
    score = 0
    for rule in policy.rules:
        detail = _fires(rule.body, subject, facts)
        if detail is None:
            continue
        if trusted and not isinstance(rule.body, AmountAbove):
            reasons.append(_reason(rule.id, 0, f"waived by the allow list: {detail}"))
            continue
        reasons.append(_reason(rule.id, rule.body.points, detail))
        score += rule.body.points
        if rule.body.decision is not None:
            decision = severest(decision, Decision(rule.body.decision))
    if score >= policy.thresholds.refuse_at:
        decision = severest(decision, Decision.REFUSE)
    elif score >= policy.thresholds.hold_at:
        decision = severest(decision, Decision.HOLD)
    return Verdict(decision, score, tuple(reasons[:REASON_LIMIT]))


def severest(*decisions: Decision) -> Decision:
    """Return the most severe of these."""
    return max(decisions, key=_SEVERITY.__getitem__)


def _reason(rule: str, points: int, detail: str) -> RiskReasonV1:
    return RiskReasonV1(rule=rule[:80], points=points, detail=detail[:DETAIL_LIMIT])


def _fires(body: Any, subject: Subject, facts: Facts) -> str | None:
    """Return why a rule speaks against a payment, or None."""
    if isinstance(body, Velocity):
        return _velocity(body, facts)
    if isinstance(body, AmountAbove):
        over = body.currency == subject.currency and subject.amount_minor > body.amount_minor
        return f"the amount is over {body.amount_minor} {body.currency} (minor)" if over else None
    if isinstance(body, AnomalyAmount):
        return _anomaly(body, subject.amount_minor, facts)
    if body.currency != subject.currency or subject.amount_minor <= body.amount_minor:
        return None
    if facts.payer is None or facts.payer.payments > 0:
        return None
    return f"the first payment of this payer, over {body.amount_minor} {body.currency} (minor)"


def _velocity(body: Velocity, facts: Facts) -> str | None:
    window = facts.windows.get((body.scope, body.window_minutes))
    if window is None:
        return None
    during = f"of this {body.scope} in {body.window_minutes} min"
    if body.max_payments is not None and window.payments > body.max_payments:
        return f"{window.payments} payments {during}, more than {body.max_payments}"
    if body.max_amount_minor is not None and body.currency is not None:
        amount = window.amounts.get(body.currency, 0)
        if amount > body.max_amount_minor:
            limit = f"{body.max_amount_minor} {body.currency} (minor)"
            return f"{amount} {during}, more than {limit}"
    return None


def _anomaly(body: AnomalyAmount, amount: int, facts: Facts) -> str | None:
    history = facts.client if body.against == "client" else facts.payer
    if history is None or history.payments < body.least_payments:
        return None
    whose = f"of {history.payments} payments of this {body.against}"
    times = body.times_max_percent
    if times is not None and amount * 100 > history.largest * times:
        return f"over {times} % of the largest {whose}"
    if body.sigmas is not None and _beyond(amount, history, body.sigmas):
        return f"more than {body.sigmas} standard deviations over the mean {whose}"
    return None


def _beyond(amount: int, history: History, sigmas: int) -> bool:
    """Say whether amount > mean + sigmas x deviation, multiplied out so that it stays exact."""
    n = history.payments
    above = amount * n - history.total
    return above > 0 and above * above > sigmas * sigmas * (n * history.squares - history.total**2)
