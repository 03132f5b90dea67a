"""The audit of random runs: the provider's record against gateway, router, ledger, webhooks."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from mospay_dev.crash.house import House
from mospay_dev.crash.mix import Sent

CHUNK = 500
REFUND_ENDS = {"succeeded", "failed"}


def inquire(house: House, sent: Sent, *, seconds: float) -> dict[str, Any]:
    """Wait until everything has ended, compare all sides, and return figures and `faults`."""
    payments = sorted(set(sent.payments.values()))
    faults: list[str] = []
    figures: dict[str, Any] = {"accepted": len(payments), "refused": dict(sent.refused)}
    if sent.refused:
        faults.append(f"clients were refused: {dict(sent.refused)}")
    if len(payments) != len(sent.payments):
        faults.append("two keys have one payment")
    found = asyncio.run(house.auditor().run(payments, seconds=seconds))
    figures |= found.summary() | {
        "effects": found.effects,
        "entries": found.entries,
        "webhooks_verified": found.webhooks,
    }
    faults += found.faults
    if found.ended != len(payments):
        faults.append(f"{len(payments) - found.ended} payments have not ended")
    counts = house.simulator()
    figures["sent_again"] = counts["repeats"] + counts.get("refund_repeats", 0)
    if figures["sent_again"]:
        faults.append(f"{figures['sent_again']} calls were made a second time")
    faults += _sides(house, payments)
    if sent.refunds:
        refunds, wrong = asyncio.run(_refunds(house, sent, seconds))
        booked = _booked_refunds(house, list(sent.refund_of), refunds["effects"])
        figures["refunds"] = refunds | {"booked": booked}
        faults += wrong
        if booked != refunds["effects"]:
            faults.append(f"{refunds['effects']} refunds were made, {booked} were booked")
    figures["cancel_wishes"] = len(sent.cancels)
    figures["dead_letters"] = {
        name: house.value(name, "select count(*) from inbox where state = 'dead'")
        for name in house.services
    }
    figures["faults"] = faults
    return figures


def _states(house: House, service: str, statement: str, payments: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for start in range(0, len(payments), CHUNK):
        rows = house.sql(service, statement, list(payments[start : start + CHUNK]))
        found |= {row["id"]: row["state"] for row in rows}
    return found


def _sides(house: House, payments: Sequence[str]) -> list[str]:
    """Compare the tables of every side; each gets a while to catch up."""
    status = "select id, status as state from payments where id = any($1)"
    fact = "select payment_id as id, status as state from payment_facts where payment_id = any($1)"
    until = time.monotonic() + 60
    while True:
        router = _states(house, "payment-router", status, payments)
        differing = {
            "gateway": _differing(router, _states(house, "gateway", status, payments)),
            "reporter": _differing(router, _states(house, "reporter", fact, payments)),
        }
        if not any(differing.values()) or time.monotonic() > until:
            break
        time.sleep(1)
    faults = [
        f"{name} differs from the router about {len(ids)} payments, such as {ids[:3]}"
        for name, ids in differing.items()
        if ids
    ]
    missing = set(payments) - set(router)
    if missing:
        faults.append(f"the router lacks {len(missing)} accepted payments: {sorted(missing)[:3]}")
    twice = """select payment_id as id, count(*) as state from journal_entries
        where payment_id = any($1) and kind = 'second_capture' group by 1"""
    if doubled := _states(house, "ledger", twice, payments):
        faults.append(f"{len(doubled)} payments were captured twice")
    for name in house.services:
        # an event that nobody listens to waits for a listener a while, and then goes
        unsent = (
            "select count(*) from outbox where command or reason is null or reason !~ 'NO_ROUTE'"
        )
        if waiting := house.value(name, unsent):
            faults.append(f"{waiting} events of {name} were never published")
    return faults


def _booked_refunds(house: House, refunds: Sequence[str], wanted: int) -> int:
    """Return how many of these refunds the journal has, once it has those that were made."""
    statement = "select count(*) from journal_entries where kind = 'refund' and refund_id = any($1)"
    until = time.monotonic() + 60
    while True:
        booked = int(house.value("ledger", statement, refunds))
        if booked == wanted or time.monotonic() > until:
            return booked
        time.sleep(1)


def _differing(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return sorted(k for k in first if second.get(k) != first[k])


async def _refunds(house: House, sent: Sent, seconds: float) -> tuple[dict[str, Any], list[str]]:
    """Wait until refunds have ended; compare each with the provider's effects."""
    states: dict[str, str] = {}
    until = time.monotonic() + seconds
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        while True:
            for refund, payment in sent.refund_of.items():
                if states.get(refund) in REFUND_ENDS:
                    continue
                key = house.seed.clients[sent.owner[payment]].api_key
                url = f"{house.seed.gateway_url}/v1/refunds/{refund}"
                async with session.get(url, headers={"X-API-Key": key}) as answer:
                    states[refund] = str((await answer.json()).get("status", answer.status))
            if set(states.values()) <= REFUND_ENDS or time.monotonic() > until:
                break
            await asyncio.sleep(1)
        effects: dict[str, int] = {}
        url, ids = f"{house.seed.simulator_url}/_effects/refunds/query", sorted(states)
        for start in range(0, len(ids), CHUNK):
            body = {"references": ids[start : start + CHUNK]}
            async with session.post(url, json=body) as answer:
                effects |= await answer.json()
    faults = []
    open_ones = sorted(r for r, state in states.items() if state not in REFUND_ENDS)
    if open_ones:
        faults.append(f"{len(open_ones)} refunds have not ended: {open_ones[:3]}")
    guessed = sorted(
        r
        for r in ids
        if states[r] in REFUND_ENDS and int(states[r] == "succeeded") != effects.get(r, 0)
    )
    if guessed:
        faults.append(f"{len(guessed)} refunds differ from the provider's record: {guessed[:3]}")
    figures = {state: list(states.values()).count(state) for state in sorted(set(states.values()))}
    return figures | {"effects": sum(effects.values())}, faults
