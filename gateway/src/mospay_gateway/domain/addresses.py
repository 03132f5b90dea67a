"""Addresses: where a call really comes from, and the rules that refuse or allow it."""

import datetime as dt
import ipaddress
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mospay_shared.contracts import IpRuleV1

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HOPS_LIMIT = 20  # proxies looked back through; nobody has that many


@lru_cache(maxsize=8192)
def parse_address(text: str) -> Address | None:
    """Return an address, an IPv4 one also where it came as IPv6 (`::ffff:1.2.3.4`); None for none.

    Takes the forms of X-Forwarded-For: `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]:80`.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=8192)
def limit_subject(text: str) -> str:
    """Return whom an address's calls are counted for: one IPv6 customer has a whole /64."""
    address = parse_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return text


class Proxies:
    """The proxies of ours in front; what they say of a caller is believed, nobody else is."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)
        self._known: dict[str, bool] = {}

    def _is_ours(self, text: str) -> bool:
        known = self._known.get(text)
        if known is None:
            address = parse_address(text)
            known = address is not None and any(
                address in net for net in self._trusted if net.version == address.version
            )
            if len(self._known) >= 8192:  # a flood of addresses must not fill the memory
                self._known.clear()
            self._known[text] = known
        return known

    def caller(self, peer: str | None, forwarded: Sequence[str]) -> str | None:
        """Return the address of who calls: the rightmost hop that is not a proxy of ours.

        `peer` is who is connected to us, `forwarded` the values of X-Forwarded-For in their order.
        What stands left of that hop, or of one that is no address, may be anybody's invention.
        """
        if peer is None:
            return None
        if not self._trusted or not forwarded or not self._is_ours(peer):
            address = parse_address(peer)
            return peer if address is None else str(address)
        found = peer
        for hop in ",".join(forwarded).rsplit(",", HOPS_LIMIT)[::-1][:HOPS_LIMIT]:
            address = parse_address(hop[:80])
            if address is None:
                break
            found = str(address)
            if not self._is_ours(found):
                break
        return found


@dataclass(frozen=True, slots=True)
class _Rule:
    rule: IpRuleV1
    network: Network


class _Book:
    """Networks by prefix length: a look-up masks once for each length that occurs."""

    def __init__(self) -> None:
        self._networks: dict[tuple[int, int], dict[int, dict[str, _Rule]]] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def put(self, one: _Rule) -> None:
        length, first = _place(one.network)
        self._networks.setdefault(length, {}).setdefault(first, {})[one.rule.ip_rule_id] = one

    def drop(self, one: _Rule) -> None:
        length, first = _place(one.network)
        rules = self._networks[length][first]
        del rules[one.rule.ip_rule_id]
        if not rules:
            del self._networks[length][first]
        if not self._networks[length]:
            del self._networks[length]

    def match(self, address: Address, now: dt.datetime) -> bool:
        """Say whether a rule in force covers an address."""
        value, bits = int(address), address.max_prefixlen
        for (version, prefix), networks in self._networks.items():
            if version != address.version:
                continue
            rules = networks.get(value >> (bits - prefix))
            if rules and any(_in_force(one.rule, now) for one in rules.values()):
                return True
        return False

    def any_in_force(self, now: dt.datetime) -> bool:
        return any(
            _in_force(one.rule, now)
            for networks in self._networks.values()
            for rules in networks.values()
            for one in rules.values()
        )


def _place(network: Network) -> tuple[tuple[int, int], int]:
    shift = network.max_prefixlen - network.prefixlen
    return (network.version, network.prefixlen), int(network.network_address) >> shift


def _in_force(rule: IpRuleV1, now: dt.datetime) -> bool:
    return rule.active and (rule.expires_at is None or rule.expires_at > now)


class AddressRules:
    """The address rules as the directory has them; fed change by change with `apply`."""

    def __init__(self) -> None:
        self._rules: dict[str, _Rule] = {}
        self._denied = _Book()
        self._denied_of: dict[str, _Book] = defaultdict(_Book)
        self._allowed_of: dict[str, _Book] = defaultdict(_Book)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def apply(self, entity_id: str, body: dict[str, Any] | None) -> None:
        """Take over a change; None is a deletion. Raises ValueError for what is no network."""
        old = self._rules.pop(entity_id, None)
        if old is not None and (book := self._book(old.rule)) is not None:
            book.drop(old)
        if body is None:
            return
        rule = IpRuleV1.model_validate(body)
        one = _Rule(rule, _network(rule.cidr))
        if (book := self._book(rule)) is not None:
            self._rules[entity_id] = one
            book.put(one)

    def _book(self, rule: IpRuleV1) -> _Book | None:
        """Return where a rule belongs; an allow rule of nobody in particular means nothing."""
        if rule.kind == "deny":
            return self._denied if rule.client_id is None else self._denied_of[rule.client_id]
        return None if rule.client_id is None else self._allowed_of[rule.client_id]

    def refuses_everybody(self, address: str | None, now: dt.datetime) -> bool:
        """Say whether a deny rule for everybody covers an address."""
        if not self._denied or address is None:
            return False
        parsed = parse_address(address)
        return parsed is not None and self._denied.match(parsed, now)

    def refusal(self, client_id: str, address: str | None, now: dt.datetime) -> str | None:
        """Return why a client is not heard from an address: `denied`, `not_allowed`, or None.

        A client with an allow rule in force is heard from the addresses of such rules alone.
        """
        denied, allowed = self._denied_of.get(client_id), self._allowed_of.get(client_id)
        if not denied and not allowed:
            return None
        parsed = None if address is None else parse_address(address)
        if denied and parsed is not None and denied.match(parsed, now):
            return "denied"
        if not allowed or not allowed.any_in_force(now):
            return None
        return None if parsed is not None and allowed.match(parsed, now) else "not_allowed"


def _network(cidr: str) -> Network:
    """Return the network of a rule, an IPv4 one also where it was written as IPv6."""
    network = ipaddress.ip_network(cidr, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((int(mapped), network.prefixlen - 96))
    return network
