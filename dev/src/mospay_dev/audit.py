"""The audit after every crash and bench: accepted = ended, one effect, one set of books, told.

It compares the simulator's own record of effects with gateway, ledger and the merchants' webhooks.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from mospay_shared.chassis.service_tokens import TokenSigner

from mospay_dev.demo.seed import Seed
from mospay_dev.stack import Stack

STALLED_SECONDS = 60.0  # without one more payment that has ended: then nothing more is waited for
FINAL = {"succeeded", "failed", "cancelled", "expired", "conflicted"}
CHUNK = 500
# Kinds of entries by which money comes in; those of refunds are beside them.
CAPTURES = ("capture", "second_capture")


@dataclass
class Audit:
    """What was found; `faults` is empty when the promise held."""

    accepted: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    doubled: int = 0
    lost: int = 0
    guessed: int = 0
    repeats: int = 0
    entries: int = 0
    webhooks: int = 0
    balanced: bool = False
    faults: list[str] = field(default_factory=list)

    @property
    def ended(self) -> int:
        """How many accepted payments reached an end state."""
        return sum(count for status, count in self.statuses.items() if status in FINAL)

    def summary(self) -> dict[str, Any]:
        """Return the figures benches and reports print."""
        return {
            "accepted": self.accepted,
            "ended": self.ended,
            "doubled": self.doubled,
            "lost": self.lost,
            "guessed": self.guessed,
            "balanced": self.balanced,
            "statuses": dict(self.statuses),
        }


class Auditor:
    """Reads every side of a stack over its HTTP interfaces."""

    def __init__(self, stack: Stack, seed: Seed) -> None:
        self._stack, self._seed = stack, seed
        self._signer = TokenSigner("portal-api", stack.cluster.keys["portal_signing"])

    def _token(self, audience: str, scope: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._signer.token(audience, scope, actor='audit')}"}

    async def run(
        self, payments: Sequence[str], *, seconds: float = 90, webhooks: bool = True
    ) -> Audit:
        """Wait until every payment has ended and was booked and told, then compare all sides.

        `seconds` is the patience at least; while payments go on ending, a slow machine gets more.
        """
        audit = Audit(accepted=len(payments))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            until = time.monotonic() + seconds
            stalled = min(seconds, STALLED_SECONDS)
            statuses = await self._until_ended(session, payments, until, stalled)
            until = max(until, time.monotonic() + stalled)
            audit.statuses = Counter(statuses.values())
            effects = await self._effects(session, payments)
            succeeded = [p for p, status in statuses.items() if status == "succeeded"]
            entries = await self._until_booked(session, succeeded, until)
            told: dict[str, int] = {}
            if webhooks:
                ended = [p for p, status in statuses.items() if status in FINAL]
                told = await self._until_told(session, ended, until)
            audit.balanced = await self._balanced(session)
            audit.repeats = await self._repeats(session)
        self._compare(audit, statuses, effects, entries)
        if webhooks:
            audit.webhooks = len(told)
            missing = audit.ended - len(told)
            if missing:
                audit.faults.append(f"{missing} ended payments have no verified webhook")
        return audit

    def _compare(
        self,
        audit: Audit,
        statuses: dict[str, str],
        effects: dict[str, int],
        entries: dict[str, int],
    ) -> None:
        audit.effects = sum(effects.values())
        audit.entries = sum(entries.values())
        audit.doubled = sum(1 for count in effects.values() if count > 1)
        audit.lost = audit.accepted - audit.ended - audit.statuses.get("unknown", 0)
        for payment, status in statuses.items():
            count = effects.get(payment, 0)
            if status == "succeeded" and count != 1:
                audit.guessed += 1
            if status in ("failed", "cancelled", "expired") and count:
                audit.guessed += 1
            if status == "succeeded" and entries.get(payment, 0) != 1:
                audit.faults.append(f"{payment} has {entries.get(payment, 0)} journal entries")
        for name in ("doubled", "lost", "guessed"):
            if getattr(audit, name):
                audit.faults.append(f"{getattr(audit, name)} payments {name}")
        if not audit.balanced:
            audit.faults.append("the books do not balance")

    async def _until_ended(
        self, session: aiohttp.ClientSession, payments: Sequence[str], until: float, stalled: float
    ) -> dict[str, str]:
        statuses = dict.fromkeys(payments, "missing")
        fewest = len(payments)
        while True:
            open_ones = [p for p, status in statuses.items() if status not in FINAL]
            if len(open_ones) < fewest:
                fewest, until = len(open_ones), max(until, time.monotonic() + stalled)
            for start in range(0, len(open_ones), 64):
                part = open_ones[start : start + 64]
                found = await asyncio.gather(*(self._status(session, p) for p in part))
                statuses |= dict(zip(part, found, strict=True))
            if all(s in FINAL for s in statuses.values()) or time.monotonic() > until:
                return statuses
            await asyncio.sleep(0.5)

    async def _status(self, session: aiohttp.ClientSession, payment: str) -> str:
        for client in self._seed.clients:
            url = f"{self._seed.gateway_url}/v1/payments/{payment}"
            try:
                async with session.get(url, headers={"X-API-Key": client.api_key}) as answer:
                    if answer.status == 200:
                        status: str = (await answer.json())["status"]
                        return status
            except (aiohttp.ClientError, TimeoutError, OSError):
                return "unreachable"
        return "missing"

    async def _effects(
        self, session: aiohttp.ClientSession, payments: Sequence[str]
    ) -> dict[str, int]:
        found: dict[str, int] = {}
        for start in range(0, len(payments), CHUNK):
            body = {"references": list(payments[start : start + CHUNK])}
            async with session.post(
                f"{self._seed.simulator_url}/_effects/query", json=body
            ) as answer:
                found |= {k: int(v) for k, v in (await answer.json()).items()}
        return found

    async def _repeats(self, session: aiohttp.ClientSession) -> int:
        async with session.get(f"{self._seed.simulator_url}/_effects/summary") as answer:
            return int((await answer.json())["repeats"])

    async def _until_booked(
        self, session: aiohttp.ClientSession, payments: Sequence[str], until: float
    ) -> dict[str, int]:
        entries = dict.fromkeys(payments, 0)
        while True:
            missing = [p for p, count in entries.items() if not count]
            for start in range(0, len(missing), 64):
                part = missing[start : start + 64]
                found = await asyncio.gather(*(self._entries(session, p) for p in part))
                entries |= dict(zip(part, found, strict=True))
            if all(entries.values()) or time.monotonic() > until:
                return entries
            await asyncio.sleep(0.5)

    async def _entries(self, session: aiohttp.ClientSession, payment: str) -> int:
        url = f"{self._stack.url('ledger')}/internal/v1/payments/{payment}/entries"
        async with session.get(url, headers=self._token("ledger", "ledger:read")) as answer:
            if answer.status != 200:
                return 0
            found = (await answer.json()).get("entries", [])
            return sum(1 for entry in found if entry["kind"] in CAPTURES)

    async def _until_told(
        self, session: aiohttp.ClientSession, payments: Sequence[str], until: float
    ) -> dict[str, int]:
        told: dict[str, int] = {}
        while True:
            missing = [p for p in payments if p not in told]
            for start in range(0, len(missing), CHUNK):
                body = {"payment_ids": missing[start : start + CHUNK]}
                async with session.post(
                    f"{self._seed.webhook_receiver_url}/_received/query", json=body
                ) as answer:
                    told |= await answer.json()
            if len(told) == len(payments) or time.monotonic() > until:
                return told
            await asyncio.sleep(0.5)

    async def balanced_now(self) -> bool:
        """Say whether the books balance as they are now."""
        async with aiohttp.ClientSession() as session:
            return await self._balanced(session)

    async def _balanced(self, session: aiohttp.ClientSession) -> bool:
        url = f"{self._stack.url('ledger')}/internal/v1/trial-balance?mode=test"
        async with session.get(url, headers=self._token("ledger", "ledger:read")) as answer:
            return bool((await answer.json())["balanced"])
