"""What the directory accepts beyond the shape of each field, with problems naming each field."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from mospay_portal_api.domain.errors import Fault

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


def _limit_faults(limits: Mapping[str, Any]) -> list[Fault]:
    low, high, day = (limits.get(f"{name}_minor") for name in ("min", "max", "daily"))
    faults = []
    if low is not None and high is not None and low > high:
        faults.append(Fault("limits.min_minor", "out_of_order", "is larger than limits.max_minor"))
    if high is not None and day is not None and high > day:
        words = "is larger than limits.daily_minor"
        faults.append(Fault("limits.max_minor", "out_of_order", words))
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
