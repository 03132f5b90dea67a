"""Reads composed from the house: a service that is away leaves a named gap where that can be.

A client user's payment is looked up under tokens of their own clients alone; only what was found
that way is asked about further.
"""

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.operations import Hop, inbox_hops
from mospay_shared.ids import is_id
from pydantic import ValidationError

from mospay_portal_api.clients import House, Refused, Unavailable
from mospay_portal_api.domain.errors import Fault, Invalid, NotFound
from mospay_portal_api.domain.explain import explain
from mospay_portal_api.domain.people import Asker, Person, asker
from mospay_portal_api.domain.trace import for_client, missing_steps, redacted
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.storage import directory, stream
from mospay_portal_api.storage.view import seen_by

_OWN_LANE = "portal-api"
_ROUTED = (
    "status", "version", "provider_reference", "reason_code", "reason_message", "late",
    "updated_at",
)  # fmt: skip
WINDOWS = {
    "24h": (dt.timedelta(hours=24), "hour"),
    "7d": (dt.timedelta(days=7), "day"),
    "30d": (dt.timedelta(days=30), "day"),
}


@dataclass(frozen=True)
class Found:
    """A payment this person may see: its row, who may be asked about it, who was away."""

    row: dict[str, Any]
    asker: Asker
    away: dict[str, str]


class Reader:
    """Asks portal-api's own tables and the house for one person at a time."""

    def __init__(self, database: Database, house: House, settings: PortalSettings) -> None:
        self._database, self._house, self._settings = database, house, settings

    async def about(self, person: Person, client_id: str | None) -> dict[str, Any] | None:
        """Return the client a read is about, None for all of an operator's.

        Raises NotFound for a client that is unknown or somebody else's, Invalid where a user of
        several clients has to name one: a service token speaks for one client.
        """
        if client_id is None and not person.operator:
            own = sorted(person.client_ids or ())
            if len(own) != 1:
                raise Invalid([Fault("client_id", "required", "choose one of your clients")])
            client_id = own[0]
        if client_id is None:
            return None
        async with seen_by(self._database, person) as tx:
            row = await directory.client(tx, client_id)
        if row is None or not person.sees(client_id):
            raise NotFound("There is no such client")
        return dict(row)

    async def named(self, person: Person, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add the clients' names to payment rows."""
        ids = sorted({str(row["client_id"]) for row in rows})
        async with seen_by(self._database, person) as tx:
            names = await directory.client_names(tx, ids) if ids else {}
        return [{**r, "client_name": names.get(r["client_id"], r["client_id"])} for r in rows]

    async def payments(
        self, person: Person, mode: str, client_id: str | None, query: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return a page of payments; the reporter checks the filters."""
        about = await self.about(person, client_id)
        only = about["id"] if about else None
        page = await self._house.get(
            "reporter",
            "/internal/v1/payments",
            "payments:read",
            asker(person, only, mode),
            {**query, "mode": mode, "client_id": only},
        )
        return {**page, "items": await self.named(person, page["items"])}

    async def find(self, person: Person, payment_id: str) -> Found:
        """Return a payment this person may see, whoever of the house knows it.

        Reporter's row, or while it is away or behind the event we heard ourselves, whichever is
        newer. Raises NotFound, or Unavailable where only the reporter could tell.
        """
        if not is_id(payment_id, "pay"):
            raise NotFound("There is no such payment")
        wanted = [None] if person.operator else sorted(person.client_ids or ())
        path = f"/internal/v1/payments/{payment_id}"
        answers = await asyncio.gather(
            *(
                self._try(self._house.find("reporter", path, "payments:read", asker(person, one)))
                for one in wanted
            )
        )
        away = {e.service: e.detail for _, e in answers if e is not None}
        row = next((r for r, _ in answers if r and person.sees(r["client_id"])), None)
        async with seen_by(self._database, person) as tx:
            heard = await stream.latest_event(tx, payment_id)
        if heard is not None and person.sees(heard["client_id"]):
            row = _newer(row, _row_of(heard))
        if row is None:
            if away:
                raise Unavailable("reporter", away["reporter"])
            raise NotFound("There is no such payment")
        named = (await self.named(person, [row]))[0]
        return Found(named, asker(person, row["client_id"], row["mode"]), away)

    async def payment(self, person: Person, payment_id: str) -> dict[str, Any]:
        """Return one payment with its attempts; the router's word on its state is the last."""
        found = await self.find(person, payment_id)
        routed, _ = await self._try(self._routed(found))
        return {
            "metadata": {},
            **_believe(found.row, routed),
            "attempts": (routed or {}).get("attempts", []),
        }

    async def trace(self, person: Person, payment_id: str) -> dict[str, Any]:
        """Return what every service did for a payment, in order, in this person's measure."""
        found = await self.find(person, payment_id)
        names = self._house.names
        entries_path = f"/internal/v1/payments/{payment_id}/entries"
        *traced, routed, entries, deliveries = await asyncio.gather(
            *(self._try(self._hops(name, found)) for name in names),
            self._try(self._routed(found)),
            self._try(self._items("ledger", entries_path, "ledger:read", found, "entries")),
            self._try(
                self._items(
                    "notifier", "/internal/v1/deliveries", "deliveries:read", found, "deliveries"
                )
            ),
        )
        away = dict(found.away)
        for _, error in (*traced, routed, entries, deliveries):
            if error is not None:
                away.setdefault(error.service, error.detail)
        hops = [hop for answer, _ in traced for hop in answer or []]
        if person.operator:
            hops += await self._own_hops(payment_id)
        row = _believe(found.row, routed[0])
        return self._composed(
            person, row, hops, routed[0], entries[0] or [], deliveries[0] or [], away
        )

    def _composed(
        self,
        person: Person,
        row: dict[str, Any],
        hops: list[Hop],
        routed: Any,
        entries: list[Any],
        deliveries: list[Any],
        away: Mapping[str, str],
    ) -> dict[str, Any]:
        now = dt.datetime.now(dt.UTC)
        ordered = sorted(hops, key=_when)
        attempts = (routed or {}).get("attempts") or []
        waits = [hop.next_at for hop in ordered if hop.kind == "provider_call" and hop.next_at]
        explanation = explain(
            row["status"],
            row.get("reason_code"),
            row.get("reason_message"),
            late=bool(row.get("late")),
            attempt=attempts[-1] if attempts else None,
            next_at=min(waits, default=None),
            now=now,
        )
        instants = {key: _instant(row[key]) for key in ("accepted_at", "updated_at")}
        missing = missing_steps(
            {**row, **instants},
            ordered,
            booked=bool(entries),
            unavailable=away,
            now=now,
            expected_seconds=self._settings.expected_seconds,
        )
        return {
            "payment": row,
            "explanation": asdict(explanation),
            "as_of": now,
            "hops": [_shown(person, hop) for hop in ordered],
            "entries": entries,
            "deliveries": deliveries,
            "missing": missing,
            "unavailable": [{"service": s, "detail": d} for s, d in sorted(away.items())],
        }

    async def dashboard(
        self, person: Person, mode: str, window: str, client_id: str | None, currency: str | None
    ) -> dict[str, Any]:
        """Return the figures of a window with the latest payments."""
        about = await self.about(person, client_id)
        only, zone = (about["id"], about["time_zone"]) if about else (None, "UTC")
        speaker = asker(person, only, mode)
        span, granularity = WINDOWS[window]
        now = dt.datetime.now(dt.UTC)
        period = {
            "mode": mode, "client_id": only, "currency": currency, "time_zone": zone,
            "granularity": granularity, "from": (now - span).isoformat(), "to": now.isoformat(),
        }  # fmt: skip
        overview, page = await asyncio.gather(
            self._house.get("reporter", "/internal/v1/overview", "reports:read", speaker, period),
            self._house.get(
                "reporter",
                "/internal/v1/payments",
                "payments:read",
                speaker,
                {"mode": mode, "client_id": only, "limit": 10},
            ),
        )
        async with seen_by(self._database, person) as tx:
            services, clients = await directory.active_counts(tx, only)
        return {
            "as_of": overview["as_of"],
            "mode": mode,
            "range": window,
            "granularity": granularity,
            "time_zone": zone,
            "currency": overview["currency"],
            "currencies": overview["currencies"],
            "kpis": _kpis(overview) | {"active_services": services, "active_clients": clients},
            "volume": overview["series"],
            "recent": await self.named(person, page["items"]),
        }

    async def _try(self, asked: Any) -> tuple[Any, Unavailable | None]:
        """Await a call; return its answer, or who was away."""
        try:
            return await asked, None
        except Unavailable as error:
            return None, error
        except Refused as error:
            return None, Unavailable(error.service, f"it answered {error.status}")

    async def _routed(self, found: Found) -> Any:
        path = f"/internal/v1/payments/{found.row['id']}"
        return await self._house.find("payment-router", path, "payments:read", found.asker)

    async def _items(
        self, service: str, path: str, scope: str, found: Found, key: str
    ) -> list[dict[str, Any]]:
        query = {"payment_id": found.row["id"]} if key == "deliveries" else None
        answer = await self._house.find(service, path, scope, found.asker, query)
        return list((answer or {}).get(key, []))

    async def _hops(self, service: str, found: Found) -> list[Hop]:
        path = f"/internal/v1/traces/{found.row['id']}"
        answer = await self._house.get(service, path, "trace:read", found.asker)
        try:
            return [Hop.model_validate(hop) for hop in answer["hops"]]
        except (ValidationError, KeyError, TypeError) as error:
            raise Unavailable(service, "its answer can't be read") from error

    async def _own_hops(self, payment_id: str) -> list[Hop]:
        async with self._database.transaction() as tx:
            return await inbox_hops(tx, _OWN_LANE, payment_id, self._settings.inbox_attempts)


def _when(hop: Hop) -> tuple[bool, float]:
    """Sort by when a hop was taken up; one that has no time yet comes last."""
    at = hop.received_at or hop.published_at
    return at is None, at.timestamp() if at else 0.0


def _shown(person: Person, hop: Hop) -> dict[str, Any]:
    values = hop.model_dump()
    if person.operator:
        return {**values, "data": redacted(hop.data)}
    detail, data = for_client(hop.kind, hop.outcome, hop.detail, hop.data)
    return {**values, "detail": detail, "data": data}


def _instant(value: Any) -> dt.datetime:
    return value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))


def _newer(row: dict[str, Any] | None, heard: dict[str, Any]) -> dict[str, Any]:
    """Return the row whose news is newer; what only the reporter knows (fees) stays."""
    if row is None:
        return heard
    if row["version"] >= heard["version"]:
        return row
    return {**row, **{key: heard[key] for key in _ROUTED}}


def _believe(row: dict[str, Any], routed: Any) -> dict[str, Any]:
    """Return a row with the router's newer word on its state, if it has one."""
    if not routed or routed["version"] <= row["version"]:
        return row
    return {**row, **{key: routed[key] for key in _ROUTED}}


def _row_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payment row that a `payment.*` body tells of."""
    copied = (
        "client_id", "app_id", "mode", "service", "route", "status", "amount_minor", "currency",
        "reference", "provider_reference", "customer_id", "product_name", "reason_code",
        "reason_message", "late", "accepted_at", "version", "metadata",
    )  # fmt: skip
    return {
        "id": event["payment_id"],
        "fee_minor": None,
        "net_minor": None,
        "updated_at": event["occurred_at"],
        **{key: event[key] for key in copied},
    }


def growth(now: int, before: int) -> float | None:
    """Return the ratio of change, or None when there is nothing to compare with."""
    return round((now - before) / before, 4) if before else None


def _kpis(overview: Mapping[str, Any]) -> dict[str, Any]:
    totals, previous, today = overview["totals"], overview["previous"], overview["today"]
    ended = totals["succeeded"] + totals["failed"]
    kept = (
        "payments", "succeeded", "failed", "unknown", "processing", "volume_minor", "fees_minor",
        "net_minor",
    )  # fmt: skip
    return {
        **{key: totals[key] for key in kept},
        "payments_today": today["payments"],
        "api_calls_today": today["api_calls"],
        "success_rate": round(totals["succeeded"] / ended, 4) if ended else None,
        "payments_growth": growth(totals["payments"], previous["payments"]),
        "volume_growth": growth(totals["volume_minor"], previous["volume_minor"]),
    }
