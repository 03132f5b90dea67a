"""Answers composed from what several services say; one that is away leaves a named gap."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from mospay_portal_api.domain import Person, explain, missing_hops

_SERVICES_OF_LANES = ("gateway", "payment-router", "ledger", "notifier", "reporter")


def with_names(rows: list[dict[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Add the client's name to payment rows."""
    return [{**row, "client_name": names.get(row["client_id"], row["client_id"])} for row in rows]


def compose_trace(
    payment: dict[str, Any],
    hops: list[dict[str, Any]],
    entries: list[dict[str, Any]],
    deliveries: list[dict[str, Any]],
    unavailable: list[dict[str, str]],
    expected_seconds: float,
) -> dict[str, Any]:
    """Put the pieces of a payment's trace together, hops in the order they happened."""
    now = dt.datetime.now(dt.UTC)
    away = [one["service"] for one in unavailable]
    ordered = sorted(hops, key=lambda hop: hop.get("received_at") or hop.get("published_at") or "~")
    return {
        "payment": payment,
        "explanation": explain(
            payment["status"],
            payment.get("reason_code"),
            payment.get("reason_message"),
            bool(payment.get("late")),
        ),
        "as_of": now,
        "hops": ordered,
        "entries": entries,
        "deliveries": deliveries,
        "missing": missing_hops(payment, ordered, away, now, expected_seconds),
        "unavailable": unavailable,
    }


def trace_for(person: Person, trace: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only the operator may see: raw reasons of house messages and their data."""
    if person.client_ids is None:
        return trace
    hops = [
        {**hop, "data": None, "detail": hop["detail"] if hop["kind"] == "delivery" else None}
        for hop in trace["hops"]
        if hop["service"] in _SERVICES_OF_LANES
    ]
    return {**trace, "hops": hops}


def growth(now: int, before: int) -> float | None:
    """Return the ratio of change, or None when there is nothing to compare with."""
    return round((now - before) / before, 4) if before else None


def dashboard(
    overview: dict[str, Any],
    recent: list[dict[str, Any]],
    *,
    mode: str,
    window: str,
    granularity: str,
    time_zone: str,
    active_services: int,
    active_clients: int,
) -> dict[str, Any]:
    """Return the dashboard from the reporter's overview and the latest payments."""
    totals, previous = overview["totals"], overview["previous"]
    ended = totals["succeeded"] + totals["failed"]
    return {
        "as_of": overview["as_of"],
        "mode": mode,
        "range": window,
        "granularity": granularity,
        "time_zone": time_zone,
        "currency": overview["currency"],
        "currencies": overview["currencies"],
        "kpis": {
            "payments_today": overview["today"]["payments"],
            "payments": totals["payments"],
            "succeeded": totals["succeeded"],
            "failed": totals["failed"],
            "unknown": totals["unknown"],
            "processing": totals["processing"],
            "success_rate": round(totals["succeeded"] / ended, 4) if ended else None,
            "volume_minor": totals["volume_minor"],
            "fees_minor": totals["fees_minor"],
            "net_minor": totals["net_minor"],
            "active_services": active_services,
            "active_clients": active_clients,
            "api_calls_today": overview["today"]["api_calls"],
            "payments_growth": growth(totals["payments"], previous["payments"]),
            "volume_growth": growth(totals["volume_minor"], previous["volume_minor"]),
        },
        "volume": overview["series"],
        "recent": recent,
    }
