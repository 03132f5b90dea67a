"""Where a call comes from, and which rules hold for that address."""

import datetime as dt
import ipaddress
from typing import Any

import pytest
from mospay_gateway.domain.addresses import AddressRules, Proxies, limit_subject

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
OURS = Proxies([ipaddress.ip_network(n) for n in ("10.0.0.0/8", "fd00::/8")])


@pytest.mark.parametrize(("peer", "forwarded", "expected"), [
    ("198.51.100.7", ["203.0.113.1"], "198.51.100.7"),  # not a proxy of ours: not believed
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
    ("10.0.0.1", ["1.1.1.1, 203.0.113.1"], "203.0.113.1"),  # what stands left is invented
    ("10.0.0.1", ["1.1.1.1, 203.0.113.1, 10.9.9.9"], "203.0.113.1"),
    ("10.0.0.1", ["1.1.1.1", "203.0.113.1"], "203.0.113.1"),  # two header lines
    ("10.0.0.1", ["10.0.0.5, 10.0.0.6"], "10.0.0.5"),
    ("10.0.0.1", ["203.0.113.1, unknown"], "10.0.0.1"),
    ("10.0.0.1", [""], "10.0.0.1"),
    ("10.0.0.1", ["203.0.113.1:4711"], "203.0.113.1"),
    ("fd00::1", ["2001:db8::9"], "2001:db8::9"),
    ("fd00::1", ['"[2001:db8::9]:443"'], "2001:db8::9"),
    ("::ffff:10.0.0.1", ["::ffff:203.0.113.1"], "203.0.113.1"),
    ("2001:db8::5", ["203.0.113.1"], "2001:db8::5"),
    ("testclient", ["203.0.113.1"], "testclient"),
    (None, ["203.0.113.1"], None),
])  # fmt: skip
def test_caller_is_the_rightmost_hop_that_is_no_proxy_of_ours(
    peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    assert OURS.caller(peer, forwarded) == expected


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert Proxies([]).caller("127.0.0.1", ["203.0.113.1"]) == "127.0.0.1"


def test_a_very_long_chain_of_hops_ends() -> None:
    assert OURS.caller("10.0.0.1", [", ".join(["10.0.0.2"] * 5_000)]) == "10.0.0.2"


def rules(*bodies: dict[str, Any]) -> AddressRules:
    """Return rules made of bodies."""
    made = AddressRules()
    for number, body in enumerate(bodies, 1):
        made.apply(f"r{number}", {"ip_rule_id": f"r{number}", "version": number, **body})
    return made


def test_deny_rule_covers_its_network_and_no_more() -> None:
    book = rules(
        {"kind": "deny", "cidr": "203.0.113.0/24"}, {"kind": "deny", "cidr": "2001:db8::/32"}
    )
    for address, refused in (
        ("203.0.113.255", True), ("203.0.114.0", False), ("2001:db8:ffff::1", True),
        ("2001:db9::", False), ("::ffff:203.0.113.9", True), (None, False), ("nonsense", False),
    ):  # fmt: skip
        assert book.refuses_everybody(address, NOW) is refused, address


def test_expired_inactive_and_deleted_rules_do_not_hold() -> None:
    deny = {"kind": "deny", "cidr": "203.0.113.9"}
    book = rules(
        {**deny, "expires_at": NOW - dt.timedelta(seconds=1)}, {**deny, "active": False}, deny
    )
    assert book.refuses_everybody("203.0.113.9", NOW)
    book.apply("r3", None)
    assert not book.refuses_everybody("203.0.113.9", NOW)
    book.apply("r1", {"ip_rule_id": "r1", "version": 9, **deny,
                      "expires_at": NOW + dt.timedelta(seconds=1)})  # fmt: skip
    assert book.refuses_everybody("203.0.113.9", NOW)
    assert not book.refuses_everybody("203.0.113.9", NOW + dt.timedelta(seconds=1))


def test_a_client_with_an_allow_rule_in_force_is_heard_from_there_alone() -> None:
    allow = {"kind": "allow", "client_id": "c1"}
    book = rules(
        {**allow, "cidr": "203.0.113.0/24"},
        {**allow, "cidr": "2001:db8::/32"},
        {"kind": "deny", "client_id": "c1", "cidr": "203.0.113.66"},
    )
    assert book.refusal("c1", "203.0.113.5", NOW) is None
    assert book.refusal("c1", "2001:db8::5", NOW) is None
    assert book.refusal("c1", "203.0.113.66", NOW) == "denied"
    assert book.refusal("c1", "198.51.100.1", NOW) == "not_allowed"
    assert book.refusal("c1", None, NOW) == "not_allowed"
    assert book.refusal("c2", "198.51.100.1", NOW) is None, "rules of one client alone"


def test_an_allow_list_whose_rules_have_all_expired_holds_nobody_out() -> None:
    book = rules({"kind": "allow", "client_id": "c1", "cidr": "203.0.113.0/24",
                  "expires_at": NOW - dt.timedelta(days=1)})  # fmt: skip
    assert book.refusal("c1", "198.51.100.1", NOW) is None


def test_a_rule_that_is_no_network_is_said_and_changes_nothing() -> None:
    book = AddressRules()
    with pytest.raises(ValueError, match="does not appear"):
        book.apply("r1", {"ip_rule_id": "r1", "version": 1, "kind": "deny", "cidr": "everywhere"})
    assert not book.refuses_everybody("203.0.113.5", NOW)


def test_an_ipv6_customer_is_counted_as_one() -> None:
    assert limit_subject("2001:db8::1") == limit_subject("2001:db8::ffff") == "2001:db8::/64"
    assert limit_subject("203.0.113.1") != limit_subject("203.0.113.2")
