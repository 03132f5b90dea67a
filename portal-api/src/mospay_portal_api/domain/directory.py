"""What the directory accepts beyond the shape of each field, with problems naming each field."""

import datetime as dt
import ipaddress
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import orjson

from mospay_portal_api.domain.errors import Fault

WIDEST_DENY = {4: 8, 6: 16}  # prefix lengths: a slip must not refuse the whole world
SERVICE_LIMIT_BYTES = 64 * 1024  # a service travels in one event of at most 256 KiB


def service_faults(body: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with a service as a whole (limits, addresses, routes, fields)."""
    faults = [*_limit_faults(body["limits"]), *_url_faults(body["urls"])]
    routes = body["routes"]
    faults += [
        Fault(f"routes.{n}", "repeated", f"{route} is there already")
        for n, route in enumerate(routes)
        if route in routes[:n]
    ]
    codes = [field["code"] for field in body["fields"]]
    for n, field in enumerate(body["fields"]):
        if field["code"] in codes[:n]:
            faults.append(Fault(f"fields.{n}.code", "repeated", f"{field['code']} is there twice"))
        faults += _field_faults(n, field)
    if len(orjson.dumps(body)) > SERVICE_LIMIT_BYTES:
        faults.append(
            Fault("body", "too_large", f"a service has at most {SERVICE_LIMIT_BYTES} bytes")
        )
    return faults


_LIMITS = ("min_minor", "max_minor", "daily_phone_minor", "daily_minor")  # each fits the next


def _limit_faults(limits: Mapping[str, Any]) -> list[Fault]:
    """Return which limits are larger than the next one that is set."""
    given = [(name, limits[name]) for name in _LIMITS if limits.get(name) is not None]
    return [
        Fault(f"limits.{name}", "out_of_order", f"is larger than limits.{larger}")
        for (name, value), (larger, bound) in pairwise(given)
        if value > bound
    ]


def assignment_limit_faults(limits: Mapping[str, Any], service: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with a client's own limits: never wider than the service's."""
    faults = []
    for name in _LIMITS:
        own, bound = limits.get(name), service.get(name)
        if own is None or bound is None:
            continue
        if name == "min_minor" and own < bound:
            words = f"is less than the service's, which is {bound}: it may only be stricter"
            faults.append(Fault(f"limits.{name}", "wider_than_service", words))
        if name != "min_minor" and own > bound:
            words = f"is more than the service's, which is {bound}: it may only be stricter"
            faults.append(Fault(f"limits.{name}", "wider_than_service", words))
    held = {n: service.get(n) if limits.get(n) is None else limits[n] for n in _LIMITS}
    least = held["min_minor"]
    for name in () if faults or least is None else _LIMITS[1:]:
        bound = held[name]
        if bound is not None and bound < least:
            field = name if limits.get(name) is not None else "min_minor"
            words = f"leaves no amount between {least} and {bound}"
            faults.append(Fault(f"limits.{field}", "out_of_order", words))
    return faults


def ip_rule_faults(rule: Mapping[str, Any], now: dt.datetime) -> list[Fault]:
    """Return what is wrong with an address rule as a whole."""
    faults = []
    if rule["kind"] == "allow" and rule["client_id"] is None:
        words = "is required: an allow rule says where one client is heard from"
        faults.append(Fault("client_id", "required", words))
    if rule["expires_at"] is not None and rule["expires_at"] <= now:
        faults.append(Fault("expires_at", "past", "is in the past"))
    try:
        network = ipaddress.ip_network(rule["cidr"])
    except ValueError:
        words = "is no IPv4 or IPv6 address or network such as 203.0.113.0/24"
        faults.append(Fault("cidr", "invalid_network", words))
        return faults
    widest = WIDEST_DENY[network.version]
    if rule["kind"] == "deny" and network.prefixlen < widest:
        words = f"is too wide to be refused: /{widest} at most"
        faults.append(Fault("cidr", "too_wide", words))
    return faults


def _url_faults(urls: Mapping[str, str]) -> list[Fault]:
    faults = []
    for mode, url in urls.items():
        field = f"urls.{mode}" if mode in ("live", "test") else "urls"
        if field == "urls":
            faults.append(Fault(field, "unknown_mode", "has the keys live and test alone"))
        elif problem := _url_problem(url):
            faults.append(Fault(field, "invalid_url", problem))
    return faults


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or len(url) > 500 or re.search(r"\s", url):
        return "must be an absolute http(s) address of at most 500 characters"
    if parts.username or parts.password:
        return "must not carry a user name or a password"
    if parts.query or parts.fragment:
        return "must have neither a query nor a fragment: paths are added to it"
    return None


def _field_faults(n: int, field: Mapping[str, Any]) -> list[Fault]:
    faults = []
    low, high = field.get("min_length"), field.get("max_length")
    if low is not None and high is not None and low > high:
        words = "is larger than max_length"
        faults.append(Fault(f"fields.{n}.min_length", "out_of_order", words))
    if field.get("regex") is not None:
        try:
            re.compile(field["regex"])
        except re.error as error:
            faults.append(Fault(f"fields.{n}.regex", "invalid_regex", f"does not compile: {error}"))
    if field.get("enum") is not None and not field["enum"]:
        faults.append(Fault(f"fields.{n}.enum", "empty", "names no value: leave it out instead"))
    return faults
