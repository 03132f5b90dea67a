"""Routing rules: which service of a client takes a payment, and who may try where nothing left.

The first active rule that fits decides: the client's own before everybody's, then by priority
(smaller first). A payment no rule fits goes to the service it names.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

TARGET_LIMIT = 10


class Target(BaseModel):
    """A service a rule may choose; `weight` is its share among the targets of the rule."""

    model_config = ConfigDict(extra="forbid")
    service_id: str = Field(min_length=1, max_length=80)
    weight: int = Field(1, ge=0, le=1_000_000)


class RuleBody(BaseModel):
    """What a rule asks of a payment, and what it chooses.

    Amounts are minor units of `currency`, both ends included. `strategy`: `order` takes the targets
    as they stand, `weight` draws by weight, `success_rate` takes the one answered best of late.
    With `failover`, the next target is tried where an attempt is proven never sent.
    """

    model_config = ConfigDict(extra="forbid")
    currency: str | None = Field(None, pattern=r"^[A-Z]{3}$")
    amount_from_minor: int | None = Field(None, ge=0)
    amount_to_minor: int | None = Field(None, ge=0)
    phone_prefixes: list[str] = Field(default_factory=list, max_length=50)
    strategy: str = Field("order", pattern=r"^(order|weight|success_rate)$")
    targets: list[Target] = Field(min_length=1, max_length=TARGET_LIMIT)
    failover: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in force. Null client or service: holds for all of them."""

    id: str
    client_id: str | None
    mode: str
    service_id: str | None
    priority: int
    body: RuleBody


@dataclass(frozen=True, slots=True)
class Asked:
    """What a rule is asked about. `phone` is E.164 or None."""

    payment_id: str
    client_id: str
    mode: str
    service_id: str
    amount_minor: int
    currency: str
    phone: str | None


def order_rules(rules: Sequence[Rule]) -> list[Rule]:
    """Return rules in the order in which they are asked."""
    return sorted(rules, key=lambda r: (r.client_id is None, r.priority, r.id))


def fits(rule: Rule, asked: Asked) -> bool:
    """Say whether a rule speaks about a payment."""
    body = rule.body
    low, high = body.amount_from_minor, body.amount_to_minor
    return (
        rule.mode == asked.mode
        and rule.client_id in (None, asked.client_id)
        and rule.service_id in (None, asked.service_id)
        and body.currency in (None, asked.currency)
        and (low is None or asked.amount_minor >= low)
        and (high is None or asked.amount_minor <= high)
        and (
            not body.phone_prefixes or (asked.phone or "\0").startswith(tuple(body.phone_prefixes))
        )
    )


def choose(rule: Rule, asked: Asked, share: Callable[[str], float]) -> list[str]:
    """Return service ids in the order they are tried; `share(service_id)` is 0 to 1.

    The same payment always gets the same order, so that a redelivered command changes nothing.
    """
    targets = rule.body.targets
    ids = [t.service_id for t in targets]
    match rule.body.strategy:
        case "weight":
            first = _drawn([(t.service_id, t.weight) for t in targets], asked.payment_id)
            ids = [first, *(i for i in ids if i != first)]
        case "success_rate":
            ids = sorted(ids, key=lambda i: -share(i))  # stable: ties stay in their order
    return ids if rule.body.failover else ids[:1]


def _drawn(weighted: list[tuple[str, int]], payment_id: str) -> str:
    total = sum(weight for _, weight in weighted)
    if total == 0:
        return weighted[0][0]
    digest = hashlib.sha256(payment_id.encode()).digest()
    point = int.from_bytes(digest[:8], "big") % total
    for service_id, weight in weighted:
        if point < weight:
            return service_id
        point -= weight
    raise AssertionError("the point is below the total")


def read_rule(row: dict[str, Any]) -> Rule:
    """Return the rule a stored row holds."""
    return Rule(
        row["id"],
        row["client_id"],
        row["mode"],
        row["service_id"],
        row["priority"],
        RuleBody.model_validate(row["rule"]),
    )
